"""The compiled engine, by names: which arrays go in and come out, in which order, and on NumPy.

The order below is the engine's interface, used by the NumPy functions here and by every host.

Forward inputs, optional ones marked by "?": x (B, T, F) | kernel (F, G·U) | recurrent_kernel
(U, G·U) | bias? | h0? (B, U) | c0? (B, U) | mask? (B, T) bool | dropout_x? (1 or G, B, F) |
dropout_h? (1 or G, B, U). Forward outputs: last_output? (B, U) | state_h (B, U) | state_c (B, U,
LSTM only) | sequence? (B, T, U) | the slots (B, T, U), all or none. With checkpoints
(`Config.checkpoint_every`) the slots are states alone, (B, ceil(T / k), U).

One array less is written where two would be equal: without a mask the hidden state at every step
is the output sequence, so the slot "hidden_state" is left out whenever `sequence` stands in for it
(`hidden_state_is_sequence`). The backward pass reads it the same way.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.engine.config import Config

Array = NDArray[Any]

FORWARD_INPUTS = (
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
"""Names of the forward pass's inputs; the index is the engine's number."""

DIFFERENTIABLE = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0")
"""Inputs that the backward pass gives gradients for, in its order of outputs."""

DTYPES = ("float32", "float64")
"""Types the engine computes in."""


@functools.cache
def forward_outputs(config: Config) -> tuple[str, ...]:
    """Names of the forward pass's outputs; the index is the engine's number."""
    return ("last_output", "state_h", "state_c", "sequence", *config.slots)


@functools.cache
def backward_inputs(config: Config) -> tuple[str, ...]:
    """Names of the backward pass's inputs; cotangents are called "d_" and the output's name."""
    cotangents = tuple(f"d_{name}" for name in forward_outputs(config))
    return (*FORWARD_INPUTS, "sequence", *config.slots, *cotangents)


@functools.cache
def residuals(config: Config) -> tuple[str, ...]:
    """Names of the forward pass's arrays that the backward pass reads, as far as they exist.

    The bias is among them where steps are computed anew, `sequence` where it may be the
    hidden state.
    """
    unread = "sequence" if config.checkpoint_every else "bias"
    names = (*FORWARD_INPUTS, "sequence", *config.slots)
    return tuple(name for name in names if name != unread)


def hidden_state_is_sequence(config: Config, *, mask: bool, sequence: bool) -> bool:
    """Whether `sequence` plays the part of the slot "hidden_state".

    Args:
        config: the cell and its options.
        mask: whether a mask is given.
        sequence: whether the sequence is among the outputs.
    """
    return sequence and not mask and not config.checkpoint_every


def present_outputs(
    config: Config, *, mask: bool, last_output: bool, sequence: bool, slots: bool
) -> tuple[str, ...]:
    """Names of the outputs of one forward call, in order.

    Args:
        mask: whether a mask is given.
        last_output, sequence, slots: what is wanted.
    """
    wanted = {*config.spec.state_outputs}
    wanted |= {"last_output"} if last_output else set()
    wanted |= {"sequence"} if sequence else set()
    if slots:
        wanted |= {*config.slots}
        if hidden_state_is_sequence(config, mask=mask, sequence=sequence):
            wanted.remove("hidden_state")
    return tuple(name for name in forward_outputs(config) if name in wanted)


def verify(config: Config, dtype: str, platform: str = "cpu") -> tuple[bool, str]:
    """Whether this engine runs a configuration, and why (not).

    Args:
        config: what is to be computed.
        dtype: name of the arrays' type, e.g. "float32". For float16 and bfloat16 the hosts give
            the engine float32 arrays; bfloat16 numbers are what its matrix products multiply then.
        platform: where the host keeps its arrays, e.g. "cpu", "gpu".

    Returns:
        (True, what runs) or (False, the reason, and what to change).

    Example:
        >>> verify(Config("lstm"), "float32", "gpu")[0]
        False
    """
    if platform != "cpu":
        return False, (
            f"the compiled engine runs on the CPU and the arrays are on {platform!r}; "
            "place them on the CPU to use it"
        )
    if dtype not in (*DTYPES, "float16", "bfloat16"):
        return False, (
            f"the compiled engine computes in float32 and float64, not in {dtype}; "
            "change the layer's dtype"
        )
    try:
        from recurra import _engine
    except ImportError as error:
        return False, f"the compiled engine could not be loaded ({error}); reinstall recurra"
    isa = _engine.isa()
    if dtype == "bfloat16" or config.bfloat16:
        computed = "bfloat16 products, float32 sums"
        if isa != "avx512_bf16":
            computed += " (emulated: the processor has no AVX512_BF16)"
        return True, f"compiled engine on the CPU ({isa}), {computed}"
    computed = "float64" if dtype == "float64" else "float32"
    return True, f"compiled engine on the CPU ({isa}), computing in {computed}"


def forward(
    config: Config,
    *,
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    mask: Array | None = None,
    dropout_x: Array | None = None,
    dropout_h: Array | None = None,
    last_output: bool = True,
    sequence: bool = True,
    slots: bool = False,
) -> dict[str, Array]:
    """Run the engine's forward pass on NumPy arrays.

    Args:
        config: the cell and its options.
        x: (B, T, F), float32 or float64, as all arrays but the mask.
        kernel, recurrent_kernel: (F, G·U), (U, G·U).
        bias: (G·U,), or (2, G·U) for GRU with reset_after=True; None for no bias.
        h0, c0: (B, U), None for zeros.
        mask: (B, T), bool, True = keep; None to keep all.
        dropout_x, dropout_h: (1 or G, B, F), (1 or G, B, U): factors; None for none.
        last_output, sequence, slots: which outputs are computed.

    Returns:
        The outputs by name, new arrays; see this module's description for names and shapes.

    Raises:
        ValueError: from the engine, if a shape or dtype does not fit.

    Example:
        >>> import numpy as np
        >>> w = {"kernel": np.ones((2, 3)), "recurrent_kernel": np.zeros((3, 3))}
        >>> config = Config("simple_rnn", activation="linear")
        >>> forward(config, x=np.ones((1, 4, 2)), **w)["last_output"]
        array([[2., 2., 2.]])
    """
    arrays = (x, kernel, recurrent_kernel, bias, h0, c0, mask, dropout_x, dropout_h)
    given = dict(zip(FORWARD_INPUTS, arrays, strict=True))
    wanted = {"last_output": last_output, "sequence": sequence, "slots": slots}
    return forward_many([(config, {**given, **wanted})])[0]


def forward_many(calls: Sequence[tuple[Config, Mapping[str, Any]]]) -> list[dict[str, Array]]:
    """Run several forward passes in one call of the engine, side by side where that is faster.

    Args:
        calls: for each pass its configuration and the keyword arguments of `forward`.

    Returns:
        What `forward` returns, for each.

    Raises:
        ValueError: from the engine, if a shape or dtype does not fit.
    """
    from recurra import _engine

    results: list[dict[str, Array]] = []
    inputs: list[Array | None] = []
    ordered: list[Array | None] = []
    for config, arguments in calls:
        given = [arguments.get(name) for name in FORWARD_INPUTS]
        inputs += [None if array is None else np.ascontiguousarray(array) for array in given]
        names = present_outputs(
            config,
            mask=arguments.get("mask") is not None,
            last_output=arguments.get("last_output", True),
            sequence=arguments.get("sequence", True),
            slots=arguments.get("slots", False),
        )
        x, recurrent_kernel = arguments["x"], arguments["recurrent_kernel"]
        batch, time_steps, units = x.shape[0], x.shape[1], recurrent_kernel.shape[0]
        outputs = {
            name: np.empty(output_shape(config, name, batch, time_steps, units), x.dtype)
            for name in names
        }
        ordered += [outputs.get(name) for name in forward_outputs(config)]
        results.append(outputs)
    _engine.forward([config.numbers for config, _ in calls], inputs, ordered)
    return results


def backward(
    config: Config,
    inputs: Mapping[str, Array | None],
    saved: Mapping[str, Array],
    cotangents: Mapping[str, Array | None],
    wanted: Collection[str] = DIFFERENTIABLE,
) -> dict[str, Array]:
    """Run the engine's backward pass on NumPy arrays.

    Args:
        config: the cell and its options.
        inputs: the forward pass's arrays by name, as given to `forward`.
        saved: what `forward` returned with slots=True.
        cotangents: by the output's name (last_output, state_h, state_c, sequence, or a name of the
            trace); None or absent means zero.
        wanted: names of inputs to differentiate with respect to. Those that were not given (None)
            are left out, except h0 and c0, whose gradient exists at zeros too.

    Returns:
        Gradients by the input's name, each in its shape, new arrays.

    Raises:
        ValueError: from the engine, if a shape or dtype does not fit.
    """
    return backward_many([(config, inputs, saved, cotangents, wanted)])[0]


def backward_many(
    calls: Sequence[
        tuple[
            Config,
            Mapping[str, Array | None],
            Mapping[str, Array],
            Mapping[str, Array | None],
            Collection[str],
        ]
    ],
) -> list[dict[str, Array]]:
    """Run several backward passes in one call of the engine, side by side where that is faster.

    Args:
        calls: for each pass the arguments of `backward`, in its order.

    Returns:
        What `backward` returns, for each.

    Raises:
        ValueError: from the engine, if a shape or dtype does not fit.
    """
    from recurra import _engine

    results: list[dict[str, Array]] = []
    ordered: list[Array | None] = []
    outputs: list[Array | None] = []
    for config, inputs, saved, cotangents, wanted in calls:
        arrays: dict[str, Array | None] = {**inputs}
        separate = not hidden_state_is_sequence(
            config, mask=inputs.get("mask") is not None, sequence="sequence" in saved
        )
        arrays["sequence"] = None if separate else saved["sequence"]
        arrays |= {name: saved.get(name) for name in config.slots}
        arrays |= {f"d_{name}": array for name, array in cotangents.items()}
        ordered += [
            None if (array := arrays.get(name)) is None else np.ascontiguousarray(array)
            for name in backward_inputs(config)
        ]
        gradients = _empty_gradients(config, inputs, wanted)
        outputs += [gradients.get(name) for name in DIFFERENTIABLE]
        results.append(gradients)
    _engine.backward([call[0].numbers for call in calls], ordered, outputs)
    return results


def _empty_gradients(
    config: Config, inputs: Mapping[str, Array | None], wanted: Collection[str]
) -> dict[str, Array]:
    x, recurrent_kernel = inputs["x"], inputs["recurrent_kernel"]
    assert x is not None
    assert recurrent_kernel is not None
    batch, time_steps, features = x.shape
    shapes = gradient_shapes(config, batch, time_steps, features, recurrent_kernel.shape[0])
    without = {"c0"} - {state.symbol + "0" for state in config.spec.state_table}
    if inputs.get("bias") is None:
        without.add("bias")
    return {
        name: np.empty(shapes[name], x.dtype)
        for name in DIFFERENTIABLE
        if name in wanted and name not in without
    }


def output_shape(
    config: Config, name: str, batch: int, time_steps: Any, units: int
) -> tuple[Any, ...]:
    """Shape of a forward output."""
    if name in ("last_output", "state_h", "state_c"):
        return (batch, units)
    if config.checkpoint_every and name in config.slots:
        return (batch, config.checkpoints(time_steps), units)
    return (batch, time_steps, units)


def gradient_shapes(
    config: Config, batch: int, time_steps: int, features: int, units: int
) -> dict[str, tuple[int, ...]]:
    """Shapes of the differentiable inputs, and so of the backward pass's outputs."""
    return {
        "x": (batch, time_steps, features),
        **config.weight_shapes(features, units),
        "h0": (batch, units),
        "c0": (batch, units),
    }
