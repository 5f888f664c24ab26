"""What is timed: one layer of given sizes, and the arrays that go in, alike in every process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Shape = tuple[int, int, int, int]

SHAPES: tuple[Shape, ...] = (
    (32, 30, 8, 64),
    (64, 100, 64, 128),
    (32, 100, 256, 512),
    (1, 100, 8, 64),
    (1, 1, 8, 64),
    (16, 1000, 32, 128),
)
"""(batch, time_steps, features, units)"""

GATES = {"lstm": 4, "gru": 3}
ACTIVATIONS = (
    "linear",
    "sigmoid",
    "hard_sigmoid",
    "relu",
    "softsign",
    "elu",
    "selu",
    "gelu",
    "silu",
    "exponential",
    "softplus",
)
"""All that the engine knows but tanh, which is the plain layer's."""


@dataclass(frozen=True)
class Option:
    """A way to build and call a layer.

    arguments: given to Recurra's layer and to stock Keras's.
    own: given to Recurra's alone.
    mask, state: whether a mask that keeps every step, or an initial state, is passed.
    bidirectional: whether the layer is wrapped.
    cells, modes: where the option exists, or does something.
    small: whether the weights are small, so that activations without bounds do not overflow.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    mask: bool = False
    state: bool = False
    bidirectional: bool = False
    cells: tuple[str, ...] = ("lstm", "gru")
    modes: tuple[str, ...] = ("forward", "train")
    small: bool = False


OPTIONS: dict[str, Option] = {
    "plain": Option(),
    "mask": Option(mask=True),
    "mask, zero_output_for_mask": Option({"zero_output_for_mask": True}, mask=True),
    "dropout": Option({"dropout": 0.2, "seed": 0}, modes=("train",)),
    "recurrent_dropout": Option({"recurrent_dropout": 0.2, "seed": 0}, modes=("train",)),
    "bidirectional": Option(bidirectional=True),
    "reset_after=False": Option({"reset_after": False}, cells=("gru",)),
    "use_bias=False": Option({"use_bias": False}),
    "return_trace": Option(own={"return_trace": True}),
    "go_backwards": Option({"go_backwards": True}),
    "stateful": Option({"stateful": True}),
    "initial_state": Option(state=True),
    "recurrent_activation=hard_sigmoid": Option({"recurrent_activation": "hard_sigmoid"}),
    **{f"activation={a}": Option({"activation": a}, small=True) for a in ACTIVATIONS},
}

PADDINGS = ("right", "left", "holes")


@dataclass(frozen=True)
class Work:
    """One layer's call.

    cell: "lstm" or "gru".
    mode: "forward", or "train": the output, and the gradients with respect to x, every weight and
        the initial state if there is one, for a given gradient of the output.
    option: a name in OPTIONS.
    padding: "none", or where the rows' padding is: "right", "left", "holes" (anywhere).
    """

    cell: str
    batch: int
    time_steps: int
    features: int
    units: int
    mode: str
    option: str = "plain"
    padding: str = "none"

    @property
    def shape(self) -> Shape:
        return self.batch, self.time_steps, self.features, self.units

    def mask(self) -> np.ndarray | None:
        """(batch, time_steps), True = keep; None without padding.

        Rows keep between 1 and all of the steps, evenly spread, so half of them on average; the
        same row keeps as many in each kind of padding.
        """
        if self.padding == "none":
            kept = np.ones((self.batch, self.time_steps), bool)
            return kept if OPTIONS[self.option].mask else None
        rng = np.random.default_rng(1)
        lengths = np.linspace(1, self.time_steps, self.batch).round().astype(int)
        right = np.arange(self.time_steps) < rng.permutation(lengths)[:, None]
        if self.padding == "right":
            return right
        if self.padding == "left":
            return right[:, ::-1].copy()
        return rng.permuted(right, axis=1)

    def arrays(self) -> Arrays:
        """The inputs. The output's gradient is zero at padded steps, as a loss that skips them
        has it."""
        rng = np.random.default_rng(0)
        option = OPTIONS[self.option]
        shrink = 0.1 if option.small else 1.0

        def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
            return (scale * rng.standard_normal(shape)).astype(np.float32)

        columns = GATES[self.cell] * self.units
        two_biases = self.cell == "gru" and option.arguments.get("reset_after", True)
        state = (self.batch, self.units)
        arrays: Arrays = {"x": normal(self.batch, self.time_steps, self.features)}
        for prefix in ("", "backward_")[: 1 + option.bidirectional]:
            arrays |= {
                f"{prefix}kernel": normal(
                    self.features, columns, scale=shrink * self.features**-0.5
                ),
                f"{prefix}recurrent_kernel": normal(
                    self.units, columns, scale=0.7 * shrink * self.units**-0.5
                ),
                f"{prefix}bias": normal(*((2,) if two_biases else ()), columns, scale=0.3 * shrink),
            }
        width = self.units * (1 + option.bidirectional)
        arrays["cotangent"] = normal(self.batch, self.time_steps, width)
        if option.state:
            arrays |= {
                "h0": normal(*state),
                **({"c0": normal(*state)} if self.cell == "lstm" else {}),
            }
        if (mask := self.mask()) is not None:
            arrays["mask"] = mask
            arrays["cotangent"] *= mask[:, :, None]
        return arrays

    def flops(self) -> int:
        """Multiplications and additions of the matrix products, nothing else.

        Forward, 2·B·T·(F + U)·G·U: every step's x·kernel and h·recurrent_kernel. Training has three
        times that: the same sizes once more for the gradients with respect to x and h, and once for
        those with respect to the two kernels.
        """
        products = 2 * self.batch * self.time_steps * (self.features + self.units)
        forward = products * GATES[self.cell] * self.units
        return forward if self.mode == "forward" else 3 * forward


def as_json(work: Work) -> dict[str, Any]:
    """What `Work(**...)` takes."""
    return asdict(work)
