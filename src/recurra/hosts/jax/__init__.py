"""The engine as a differentiable JAX operation: gradient wiring and nothing else.

    primitives.py    the three primitives, their shapes and how they run
    derivatives.py   which primitive is the derivative of which
    batching.py      what they are under `jax.vmap`

Forward-mode and second derivatives raise `NotImplementedError` with the way out.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recurra.engine import cpu
from recurra.engine.config import Config
from recurra.hosts.jax import batching, derivatives
from recurra.hosts.jax.derivatives import pullback
from recurra.hosts.jax.primitives import Part, forward_p, vary_alike

__all__ = [
    "engine_note",
    "equivalent_activations",
    "platform",
    "pullback",
    "scan",
    "scan_many",
    "unavailable",
]

derivatives.register()
batching.register()


def scan(
    config: Config,
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    *,
    bias: Any = None,
    h0: Any = None,
    c0: Any = None,
    mask: Any = None,
    dropout_x: Any = None,
    dropout_h: Any = None,
    last_output: bool = True,
    sequence: bool = False,
    trace: bool = False,
) -> dict[str, Any]:
    """Run a cell over a sequence on the compiled engine, differentiably.

    Works eagerly and under jit, grad, vmap, lax.scan, jax.checkpoint and shard_map. Gradients flow
    to x, kernel, recurrent_kernel, bias, h0 and c0, from every output; mask and dropout factors
    are constants.

    Args:
        config: the cell and its options.
        x: (B, T, F). Its dtype is the results'; float32 and float64 are computed as they are,
            float16 in float32, bfloat16 in float32 but for the operands of matrix products.
        kernel, recurrent_kernel: (F, G·U), (U, G·U).
        bias: (G·U,), or (2, G·U) for GRU with reset_after=True; None for no bias.
        h0, c0: (B, U); None for zeros.
        mask: (B, T), bool, True = keep; None to keep all.
        dropout_x, dropout_h: (1 or G, B, F), (1 or G, B, U): factors; None for none.
        last_output, sequence, trace: which of the outputs below are wanted.

    Returns:
        By name: "last_output" (B, U), "state_h" (B, U), for LSTM "state_c" (B, U), "sequence"
        (B, T, U) and every name of the cell's trace (B, T, U).

    Raises:
        ValueError: if a shape does not fit.
        NotImplementedError: when differentiated in forward mode or twice.

    Example:
        >>> import jax.numpy as jnp
        >>> w = {"kernel": jnp.ones((2, 3)), "recurrent_kernel": jnp.zeros((3, 3))}
        >>> config = Config("simple_rnn", activation="linear")
        >>> scan(config, jnp.ones((1, 4, 2)), **w)["last_output"].tolist()
        [[2.0, 2.0, 2.0]]
    """
    wanted = _wanted(config, last_output, sequence, trace)
    arrays = (x, kernel, recurrent_kernel, bias, h0, c0, mask, dropout_x, dropout_h)
    return _scan_many((wanted,), (arrays,))[0]


def scan_many(scans: Sequence[tuple[Config, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Run several independent scans in one call of the engine, side by side where that is faster.

    The gradients of all that need one are one call too. Values and gradients are those of `scan`,
    bit for bit.

    Args:
        scans: for each its configuration and the keyword arguments of `scan` (x among them).

    Returns:
        What `scan` returns, for each.

    Raises:
        TypeError: for a keyword argument that `scan` does not have, or if x, kernel or
            recurrent_kernel is missing.
        ValueError, NotImplementedError: as `scan`.

    Example:
        >>> import jax.numpy as jnp
        >>> w = {"kernel": jnp.ones((2, 3)), "recurrent_kernel": jnp.zeros((3, 3))}
        >>> both = [Config("simple_rnn", go_backwards=back) for back in (False, True)]
        >>> results = scan_many([(config, {"x": jnp.ones((1, 4, 2)), **w}) for config in both])
        >>> [r["last_output"].shape for r in results]
        [(1, 3), (1, 3)]
    """
    wanted, arrays = [], []
    for config, arguments in scans:
        if not _REQUIRED <= arguments.keys() <= _ARGUMENTS:
            missing, unknown = _REQUIRED - arguments.keys(), arguments.keys() - _ARGUMENTS
            raise TypeError(
                "the arguments of a scan must be those of `scan`: "
                + ", ".join(
                    [
                        *(f"{n} is missing" for n in sorted(missing)),
                        *(f"{n} is unknown" for n in sorted(unknown)),
                    ]
                )
            )
        outputs = [bool(arguments.get(name, default)) for name, default in _OUTPUTS.items()]
        wanted.append(_wanted(config, *outputs))
        arrays.append(tuple(arguments.get(name) for name in cpu.FORWARD_INPUTS))
    return _scan_many(tuple(wanted), tuple(arrays))


_OUTPUTS = {"last_output": True, "sequence": False, "trace": False}
_REQUIRED = {"x", "kernel", "recurrent_kernel"}
_ARGUMENTS = {*cpu.FORWARD_INPUTS, *_OUTPUTS}


class Wanted(NamedTuple):
    """One scan without its arrays: what is compiled for."""

    config: Config
    last_output: bool
    sequence: bool
    trace: bool


def _wanted(config: Config, last_output: bool, sequence: bool, trace: bool) -> Wanted:
    return Wanted(config.saving_every_step() if trace else config, last_output, sequence, trace)


# Compiled once per configuration and shapes, so that eager calls cost one dispatch; inlined where
# the call is being traced anyway.
@functools.partial(jax.jit, static_argnums=(0,), inline=True)
def _scan_many(
    scans: tuple[Wanted, ...], arrays: tuple[tuple[Any, ...], ...]
) -> list[dict[str, Any]]:
    if not scans:
        return []
    dtypes, given = [], []
    for values in arrays:
        named = dict(zip(cpu.FORWARD_INPUTS, values, strict=True))
        for name in ("mask", "dropout_x", "dropout_h"):
            if named[name] is not None:
                named[name] = jax.lax.stop_gradient(named[name])
        dtypes.append(jnp.result_type(named["x"]))
        computed = dtypes[-1] if dtypes[-1].name in cpu.DTYPES else jnp.dtype("float32")
        given.append(
            {
                name: jnp.asarray(array, bool if name == "mask" else computed)
                for name, array in named.items()
                if array is not None
            }
        )
    given = vary_alike(given)
    configs = [wanted.config.computing(d.name) for wanted, d in zip(scans, dtypes, strict=True)]
    parts = tuple(
        Part(
            config,
            inputs=tuple(named),
            outputs=cpu.present_outputs(
                config,
                mask="mask" in named,
                last_output=wanted.last_output,
                sequence=wanted.sequence,
                slots=wanted.trace,
            ),
        )
        for wanted, config, named in zip(scans, configs, given, strict=True)
    )
    values = iter(forward_p.bind(*(a for named in given for a in named.values()), parts=parts))
    return [
        _public(wanted, {name: next(values) for name in part.outputs}, dtype)
        for wanted, part, dtype in zip(scans, parts, dtypes, strict=True)
    ]


def _public(wanted: Wanted, results: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Of the engine's results those that were asked for, in the input's dtype."""
    spec = wanted.config.spec
    names = ("last_output", *spec.state_outputs, "sequence")
    if wanted.trace:
        results.setdefault("hidden_state", results.get("sequence"))
        names += spec.trace_names
    return {name: results[name].astype(dtype) for name in names if name in results}


def platform() -> str:
    """Where JAX places arrays by default: "cpu", "gpu" or "tpu"."""
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def engine_note() -> str | None:
    """What there is to know about how JAX calls the engine: nothing, it is a custom call of XLA."""
    return None


# Packages that turn a traced function into a file for programs without JAX, by the prefix of their
# modules' names.
_EXPORTERS = {
    "jax.experimental.jax2tf": "a TensorFlow SavedModel",
    "jax2onnx": "ONNX",
}


def unavailable(x: Any) -> str | None:
    """Why a call on x cannot use the engine, and what to change; None if it can.

    That is so while x is traced for a file that programs without Recurra will load: the call would
    be to a function they do not have. `jax.export` is no such case: it is for other JAX programs,
    and JAX itself asks there whether a custom call is meant to be exported.

    Args:
        x: the call's input. Concrete arrays cost nothing to look at.
    """
    if not isinstance(x, jax.core.Tracer) or not any(name in sys.modules for name in _EXPORTERS):
        return None
    # No exporter says that it is at work, but what it traces is called by it.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        for name, target in _EXPORTERS.items():
            if module == name or module.startswith(name + "."):
                return (
                    f"the model is being exported to {target}, which must run where Recurra is "
                    "not installed; nothing to change: the exported file computes the same"
                )
        frame = frame.f_back
    return None


def equivalent_activations() -> dict[Callable[..., Any], str]:
    """JAX's functions that compute the engine's activations, by function.

    `jax.nn.gelu` is not among them: called with one argument it is the tanh approximation.
    """
    return {
        jnp.tanh: "tanh",
        jax.lax.tanh: "tanh",
        jax.nn.sigmoid: "sigmoid",
        jax.lax.logistic: "sigmoid",
        jax.nn.hard_sigmoid: "hard_sigmoid",
        jax.nn.relu: "relu",
        jax.nn.soft_sign: "softsign",
        jax.nn.elu: "elu",
        jax.nn.selu: "selu",
        jax.nn.silu: "silu",
        jnp.exp: "exponential",
        jax.lax.exp: "exponential",
        jax.nn.softplus: "softplus",
    }
