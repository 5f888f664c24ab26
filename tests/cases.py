"""Random inputs for every configuration of a recurrent call: the material of the conformance tests.

`make_case(...)` returns one call's arrays and options by name, as `recurra.reference.forward` takes
them; `make_cotangents(case, ...)` goes with it for the backward pass; `matrix()` lists
configurations that together cover every cell, option, size, activation and mask.

Weights and biases are random everywhere: constant ones hide swapped gates.

Example:
    case = make_case("gru", reset_after=False, mask="holes", units=17)
    result = reference.forward(**case)
    gradients = reference.backward(**case, **make_cotangents(case))
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.cells import ACTIVATIONS, CELLS

Case = dict[str, Any]

VARIANTS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("lstm", {}),
    ("gru", {"reset_after": True}),
    ("gru", {"reset_after": False}),
    ("simple_rnn", {}),
)
"""Every cell with every combination of its options."""

MASKS = ("right", "left", "holes", "all", "row", "none")
"""Shapes of masks: padding at the end, at the start, steps missing anywhere, everything masked, one
row masked throughout among rows with holes, nothing masked although a mask is given."""

ARRAYS = (
    "x",
    "kernel",
    "recurrent_kernel",
    "bias",
    "h0",
    "c0",
    "mask",
    "dropout_x",
    "dropout_h",
)
"""Names of a case's arrays, in the engine's order; those left out of the call are None."""


def make_case(
    cell: str,
    *,
    batch: int = 3,
    time_steps: int = 5,
    features: int = 3,
    units: int = 4,
    use_bias: bool = True,
    initial_state: bool = True,
    mask: str | None = None,
    dropout_x: str | None = None,
    dropout_h: str | None = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    reset_after: bool | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    dtype: Any = np.float64,
    seed: int = 0,
) -> Case:
    """Arguments of one call, with random arrays of `dtype` (the mask is bool).

    Args:
        mask: one of `MASKS`, or None for no mask.
        dropout_x, dropout_h: "shared" (one factor array for all gates), "gates" (one each), or
            None. The factors are 0 and 1 / 0.7, as dropout at rate 0.3 gives them.
        initial_state: whether h0 (and c0, where the cell has one) are given.

    Returns:
        A dict with "cell", every name in `ARRAYS` (None if absent) and the options activation,
        recurrent_activation, reset_after, go_backwards, zero_output_for_mask.
    """
    spec = CELLS[cell]
    rng = np.random.default_rng([seed, zlib.crc32(cell.encode())])
    # Gates without bounds grow from step to step, and exp overflows, unless what they see is small.
    bounded = recurrent_activation in ("tanh", "sigmoid", "hard_sigmoid", "softsign")
    gain = 0.1 if "exponential" in (activation, recurrent_activation) else 1.0 if bounded else 0.4

    def normal(*shape: int, scale: float = 1.0) -> NDArray[Any]:
        return (gain * scale * rng.standard_normal(shape)).astype(dtype)

    def factors(kind: str | None, width: int) -> NDArray[Any] | None:
        if kind is None:
            return None
        count = {"shared": 1, "gates": len(spec.gates)}[kind]
        return (rng.random((count, batch, width)) < 0.7).astype(dtype) / dtype(0.7)

    shapes = spec.weight_shapes(features, units, reset_after)
    states = {state.symbol: normal(batch, units) for state in spec.state_table}
    return {
        "cell": cell,
        "x": normal(batch, time_steps, features),
        # Scaled so that pre-activations stay near 1 at every size: saturated gates hide mistakes.
        "kernel": normal(*shapes["kernel"], scale=features**-0.5),
        "recurrent_kernel": normal(*shapes["recurrent_kernel"], scale=0.7 * units**-0.5),
        "bias": normal(*shapes["bias"], scale=0.5) if use_bias else None,
        "h0": states.get("h") if initial_state else None,
        "c0": states.get("c") if initial_state else None,
        "mask": None if mask is None else make_mask(mask, batch, time_steps, rng),
        "dropout_x": factors(dropout_x, features),
        "dropout_h": factors(dropout_h, units),
        "activation": activation,
        "recurrent_activation": recurrent_activation,
        "reset_after": reset_after,
        "go_backwards": go_backwards,
        "zero_output_for_mask": zero_output_for_mask,
    }


def make_mask(
    kind: str, batch: int, time_steps: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A mask (batch, time_steps) of one of the shapes in `MASKS`, different in every row."""
    steps = np.arange(time_steps)
    lengths = rng.integers(0, time_steps + 1, size=(batch, 1))
    holes = rng.random((batch, time_steps)) < 0.6
    if kind == "row":
        holes[batch // 2] = False
    masks = {
        "right": steps < lengths,
        "left": steps >= time_steps - lengths,
        "holes": holes,
        "row": holes,
        "all": np.zeros((batch, time_steps), bool),
        "none": np.ones((batch, time_steps), bool),
    }
    return masks[kind]


def make_cotangents(
    case: Case, *, outputs: bool = True, trace: bool = True, seed: int = 1
) -> dict[str, Any]:
    """Random cotangents for a case, as `recurra.reference.backward` takes them.

    Args:
        outputs: whether d_last, d_state_h, d_state_c and d_sequence are given.
        trace: whether d_slots is given, for every name in the cell's public trace.
    """
    spec = CELLS[case["cell"]]
    batch, time_steps, _ = case["x"].shape
    units = case["recurrent_kernel"].shape[0]
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[Any]:
        return rng.standard_normal(shape).astype(case["x"].dtype)

    cotangents: dict[str, Any] = {}
    if outputs:
        cotangents["d_last"] = normal(batch, units)
        cotangents |= {f"d_{name}": normal(batch, units) for name in spec.state_outputs}
        cotangents["d_sequence"] = normal(batch, time_steps, units)
    if trace:
        cotangents["d_slots"] = {
            name: normal(batch, time_steps, units) for name in spec.trace_names
        }
    return cotangents


def matrix(random: int = 24, seed: int = 0) -> list[tuple[str, Case]]:
    """Configurations to test: pairs (readable id, keyword arguments of `make_case`).

    For every cell variant: the plain call; each option alone; every mask with and without an
    initial state; every activation in either role; sizes 1, 3, 17 and those around the engine's
    block of 16; then `random` configurations that mix everything, reproducible by `seed`.
    """
    single: list[Case] = [
        {},
        {"use_bias": False},
        {"initial_state": False},
        {"go_backwards": True},
        {"time_steps": 0},
        {"time_steps": 1},
        {"batch": 1, "time_steps": 1, "features": 1, "units": 1},
        {"batch": 1, "time_steps": 9, "features": 17, "units": 17},
        {"batch": 17, "time_steps": 3, "features": 1, "units": 3},
        {"batch": 7, "units": 15, "features": 16},
        {"batch": 5, "units": 16, "features": 33},
        {"batch": 4, "units": 33, "features": 2},
        {"dropout_x": "shared", "dropout_h": "shared"},
        {"dropout_x": "gates"},
        {"dropout_h": "gates"},
        {"dropout_x": "gates", "dropout_h": "gates", "mask": "holes", "units": 17},
    ]
    single += [{"mask": mask} for mask in MASKS]
    single += [{"mask": mask, "initial_state": False, "units": 17} for mask in MASKS]
    single += [{"mask": mask, "zero_output_for_mask": True} for mask in MASKS]
    single += [{"mask": mask, "go_backwards": True} for mask in ("right", "holes")]
    single += [{"activation": name} for name in ACTIVATIONS]
    rng = np.random.default_rng(seed)

    configurations: list[Case] = []
    for cell, options in VARIANTS:
        gated: list[Case] = []
        if CELLS[cell].uses_recurrent_activation:
            gated = [{"recurrent_activation": name} for name in ACTIVATIONS]
            gated += [{"activation": "gelu", "recurrent_activation": "silu", "mask": "holes"}]
        configurations += [{"cell": cell, **options, **choice} for choice in single + gated]
        configurations += [
            {"cell": cell, **options, **_random_configuration(rng)} for _ in range(random)
        ]
    return [(describe(configuration), configuration) for configuration in configurations]


def describe(configuration: Case) -> str:
    """A configuration as a test id, e.g. "gru-reset_after:False-mask:holes"."""
    rest = [f"{name}:{value}" for name, value in configuration.items() if name != "cell"]
    return "-".join([configuration["cell"], *(word for word in rest if not word.endswith("None"))])


def _random_configuration(rng: np.random.Generator) -> Case:
    def choose(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    # Runs are short where an activation without bounds could grow from step to step.
    activation = choose("tanh", "tanh", *ACTIVATIONS)
    recurrent_activation = choose("sigmoid", "sigmoid", "hard_sigmoid", "tanh", "softsign")
    return {
        "batch": choose(1, 2, 3, 5, 17),
        "time_steps": choose(1, 2, 7, 12) if activation in ("tanh", "sigmoid") else choose(1, 2, 4),
        "features": choose(1, 2, 3, 17),
        "units": choose(1, 3, 8, 16, 17, 31),
        "use_bias": choose(True, True, False),
        "initial_state": choose(True, False),
        "mask": choose(None, *MASKS),
        "dropout_x": choose(None, None, "shared", "gates"),
        "dropout_h": choose(None, None, "shared", "gates"),
        "activation": activation,
        "recurrent_activation": recurrent_activation,
        "go_backwards": choose(True, False),
        "zero_output_for_mask": choose(True, False, False),
        "seed": int(rng.integers(1000)),
    }
