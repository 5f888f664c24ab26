"""What one call of the engine computes, apart from its arrays."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from recurra.cells import ACTIVATIONS, CELLS, CellSpec


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

    Raises:
        ValueError: for a cell or an activation that does not exist.

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
        for name in ("reset_after", "go_backwards", "zero_output_for_mask"):
            object.__setattr__(self, name, bool(getattr(self, name)))

    @property
    def spec(self) -> CellSpec:
        """The cell's definition."""
        return CELLS[self.cell]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the per-step arrays that the forward pass saves, in the engine's order."""
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
        }

    @functools.cached_property
    def numbers(self) -> tuple[int, ...]:
        """The values of `attributes`: how one problem is written in a call of the engine."""
        return tuple(self.attributes.values())

    def weight_shapes(self, features: int, units: int) -> dict[str, tuple[int, ...]]:
        """Shapes of kernel, recurrent_kernel and bias."""
        return self.spec.weight_shapes(features, units, self.reset_after)
