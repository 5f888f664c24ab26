"""What one call of the engine computes, apart from its arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from recurra.cells import ACTIVATIONS, CELLS, CellSpec

SQUARE_ROOT = -1
"""As `checkpoint_every`: about the square root of the number of time steps."""


@dataclass(frozen=True)
class Config:
    """A cell and its options: hashable, so hosts can use it as a static argument.

    Options that the cell does not have are set to one fixed value, so that equal computations have
    equal configurations.

    Args:
        cell: a name in `recurra.cells.CELLS`.
        reset_after: GRU only, as in `recurra.cells.gru`.
        activation, recurrent_activation: names in `recurra.cells.ACTIVATIONS`.
        go_backwards: whether time is processed from its end; outputs keep the processing order.
        zero_output_for_mask: whether `sequence` is zero at masked steps.
        checkpoint_every: 0 to save every step for the backward pass; k to save the states before
            steps 0, k, 2k, ... alone, which the backward pass computes the others from, to the same
            bits; SQUARE_ROOT for a k that keeps both memory and recomputed stretches short.
        bfloat16: whether the matrix products multiply numbers rounded to bfloat16, summed up in
            float32.

    Raises:
        ValueError: for a cell or an activation that does not exist, and for a negative
            `checkpoint_every`.

    Example:
        >>> Config("simple_rnn", recurrent_activation="relu") == Config("simple_rnn")
        True
    """

    cell: str
    reset_after: bool = True
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    checkpoint_every: int = 0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(
                f"cell={self.cell!r} is not a cell; expected one of {', '.join(CELLS)}."
            )
        spec = CELLS[self.cell]
        spec.gate_activations(self.activation, self.recurrent_activation)
        if "reset_after" not in spec.options:
            object.__setattr__(self, "reset_after", True)
        if not spec.uses_recurrent_activation:
            object.__setattr__(self, "recurrent_activation", "linear")
        for name in ("reset_after", "go_backwards", "zero_output_for_mask", "bfloat16"):
            object.__setattr__(self, name, bool(getattr(self, name)))
        if self.checkpoint_every < SQUARE_ROOT:
            raise ValueError(
                f"checkpoint_every={self.checkpoint_every} is not a number of steps; expected 0 "
                "(save every step), 1 or more, or SQUARE_ROOT."
            )

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> Config:
        """The configuration that has these `numbers`."""
        cell, reset_after, activation, recurrent_activation, backwards, zero, every, low = numbers
        return cls(
            list(CELLS)[cell],
            reset_after=bool(reset_after),
            activation=ACTIVATIONS[activation],
            recurrent_activation=ACTIVATIONS[recurrent_activation],
            go_backwards=bool(backwards),
            zero_output_for_mask=bool(zero),
            checkpoint_every=every,
            bfloat16=bool(low),
        )

    @property
    def spec(self) -> CellSpec:
        """The cell's definition."""
        return CELLS[self.cell]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays that the forward pass saves, in the engine's order.

        They are (B, T, U) each, with checkpoints (B, self.checkpoints(T), U).
        """
        if self.checkpoint_every:
            return tuple(f"checkpoint_{state.symbol}" for state in self.spec.state_table)
        return self.spec.slots(self.activation, self.recurrent_activation, self.reset_after)

    @property
    def attributes(self) -> dict[str, int]:
        """The configuration as the engine's numbers, by name and in its order."""
        return {
            "cell": list(CELLS).index(self.cell),
            "reset_after": int(self.reset_after),
            "activation": ACTIVATIONS.index(self.activation),
            "recurrent_activation": ACTIVATIONS.index(self.recurrent_activation),
            "go_backwards": int(self.go_backwards),
            "zero_output_for_mask": int(self.zero_output_for_mask),
            "checkpoint_every": self.checkpoint_every,
            "products": int(self.bfloat16),
        }

    @functools.cached_property
    def numbers(self) -> tuple[int, ...]:
        """The values of `attributes`: how one problem is written in a call of the engine."""
        return tuple(self.attributes.values())

    def computing(self, dtype: str) -> Config:
        """The same computation as arrays of a type ask for it.

        Args:
            dtype: the type's name. With "bfloat16" the matrix products multiply bfloat16 numbers;
                with any other the configuration stays as it is.

        Example:
            >>> Config("lstm").computing("bfloat16").bfloat16
            True
        """
        return _in_bfloat16(self) if dtype == "bfloat16" else self

    def saving_every_step(self) -> Config:
        """The same computation without checkpoints: for a trace every step is an output anyway."""
        return replace(self, checkpoint_every=0) if self.checkpoint_every else self

    def checkpoints(self, time_steps: Any) -> Any:
        """How many states a scan of so many steps saves, with `checkpoint_every`.

        Args:
            time_steps: an int, or a symbol that stands for one.

        Example:
            >>> Config("lstm", checkpoint_every=4).checkpoints(10)
            3
        """
        every = self.checkpoint_every
        if every == SQUARE_ROOT:
            every = math.isqrt(time_steps - 1) + 1 if time_steps > 1 else 1
        return (time_steps + every - 1) // every

    def weight_shapes(self, features: int, units: int) -> dict[str, tuple[int, ...]]:
        """Shapes of kernel, recurrent_kernel and bias."""
        return self.spec.weight_shapes(features, units, self.reset_after)


@functools.cache
def _in_bfloat16(config: Config) -> Config:
    return replace(config, bfloat16=True)
