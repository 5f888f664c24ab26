"""Three primitives (docs/decisions/0002-jax-primitives.md says why not `jax.custom_vjp`).

    recurra_scan        the forward pass. Its derivative rule runs it again with the slots saved,
                        then applies
    recurra_tangent     the derivative as a linear map of the inputs' tangents. It is never
                        computed, only transposed, into
    recurra_backward    the backward pass, for exactly those gradients that are asked for.

Each takes the arrays of one or several scans, one scan's after the other's, and one parameter:
`parts`, which says for each scan which arrays those are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir

from recurra import _engine
from recurra.engine import cpu
from recurra.engine.config import Config

for _name, _target in _engine.xla_targets().items():
    jax.ffi.register_ffi_target(_name, _target, platform="cpu")


class Part(NamedTuple):
    """One scan's share of a primitive: names of its arrays, in the engine's order.

    config: the cell and its options.
    inputs: names of the arrays given.
    outputs: names of the results.
    tangents: of `recurra_tangent`, names of the tangents given. They follow the inputs of all
        scans.
    """

    config: Config
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tangents: tuple[str, ...] = ()


Parts = tuple[Part, ...]


def named_inputs(parts: Parts, values: Iterable[Any]) -> list[dict[str, Any]]:
    """Values that belong to the inputs, one after the other, by scan and name."""
    rest = iter(values)
    return [{name: next(rest) for name in part.inputs} for part in parts]


def named_outputs(parts: Parts, values: Iterable[Any]) -> list[dict[str, Any]]:
    """Values that belong to the outputs, one after the other, by scan and name."""
    rest = iter(values)
    return [{name: next(rest) for name in part.outputs} for part in parts]


def flat(dicts: Iterable[dict[str, Any]]) -> list[Any]:
    """The inverse of `named_inputs` and `named_outputs`."""
    return [value for named in dicts for value in named.values()]


def _primitive(name: str) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    return primitive


forward_p = _primitive("recurra_scan")
tangent_p = _primitive("recurra_tangent")
backward_p = _primitive("recurra_backward")


# --- Shapes ---


def _varying(aval: Any) -> frozenset[Any]:
    """The axes of a `jax.shard_map` along which an array differs from device to device."""
    kind = getattr(aval, "manual_axis_type", None)  # before JAX 0.10: the attribute vma
    return getattr(aval, "vma", frozenset()) if kind is None else kind.varying


def vary_alike(arrays: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arrays, each varying along all mesh axes along which any of them varies.

    JAX's own operations do the same. The derivative of the cast is what sums the gradient of an
    array that all devices share (the weights) over the devices.
    """
    union = frozenset().union(*(_varying(jax.typeof(array)) for array in flat(arrays)))

    def cast(array: Any) -> Any:
        missing = tuple(sorted(union - _varying(jax.typeof(array)), key=str))
        if missing and hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(array, missing, to="varying")
        if missing:  # before JAX 0.8
            return jax.lax.pvary(array, missing)
        return array

    return [{name: cast(array) for name, array in named.items()} for named in arrays]


def _aval(shape: tuple[int, ...], like: Any) -> Any:
    """The abstract value of a result: dtype and varying mesh axes are the input's."""
    like = jax.typeof(like) if not isinstance(like, jax.core.ShapedArray) else like
    varying = {}
    if _varying(like):
        name = "manual_axis_type" if hasattr(like, "manual_axis_type") else "vma"
        replicated = like.sharding.update(spec=jax.sharding.PartitionSpec(*(None for _ in shape)))
        varying = {"sharding": replicated, name: getattr(like, name)}
    return jax.core.ShapedArray(shape, like.dtype, **varying)


def _sizes(arrays: dict[str, Any]) -> dict[str, int]:
    """Batch, time steps, features and units of one scan, from arrays or their abstract values."""
    (batch, time_steps, features), units = arrays["x"].shape, arrays["recurrent_kernel"].shape[0]
    return {"batch": batch, "time_steps": time_steps, "features": features, "units": units}


def _check(config: Config, arrays: dict[str, Any]) -> None:
    """Raise ValueError for the first array that does not fit the others."""
    for name, ndim in (("x", 3), ("recurrent_kernel", 2)):
        if arrays[name].ndim != ndim:
            raise ValueError(
                f"{name} has shape {arrays[name].shape}; expected {ndim} dimensions: "
                + {"x": "(batch, time_steps, features)"}.get(name, "(units, gates * units)")
            )
    size = _sizes(arrays)
    batch, time_steps, features, units = size.values()
    expected: dict[str, tuple[Any, ...]] = {
        **cpu.gradient_shapes(config, **size),
        "mask": (batch, time_steps),
    }
    for name, width in (("dropout_x", features), ("dropout_h", units)):
        if name in arrays:
            # One factor array for all gates, or one for each.
            gates = len(config.spec.gates)
            count = gates if arrays[name].shape[0] == gates else 1
            expected[name] = (count, batch, width)
    for name, array in arrays.items():
        if tuple(array.shape) != expected[name]:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}; expected {expected[name]} for a "
                f"{config.spec.layer} with {units} units on x of shape {arrays['x'].shape}."
            )


@forward_p.def_abstract_eval
def _forward_abstract(*avals: Any, parts: Parts) -> list[Any]:
    for part, arrays in zip(parts, named_inputs(parts, avals), strict=True):
        _check(part.config, arrays)
    return _output_avals(avals, parts)


@tangent_p.def_abstract_eval
def _tangent_abstract(*avals: Any, parts: Parts) -> list[Any]:
    return _output_avals(avals, parts)


def _output_avals(avals: Sequence[Any], parts: Parts) -> list[Any]:
    results = []
    for part, arrays in zip(parts, named_inputs(parts, avals), strict=True):
        size = _sizes(arrays)
        shape = size["batch"], size["time_steps"], size["units"]
        results += [
            _aval(cpu.output_shape(part.config, name, *shape), arrays["x"]) for name in part.outputs
        ]
    return results


@backward_p.def_abstract_eval
def _backward_abstract(*avals: Any, parts: Parts) -> list[Any]:
    results = []
    for part, arrays in zip(parts, named_inputs(parts, avals), strict=True):
        shapes = cpu.gradient_shapes(part.config, **_sizes(arrays))
        results += [_aval(shapes[name], arrays["x"]) for name in part.outputs]
    return results


# --- Execution ---


def _call_engine(
    target: str,
    parts: Parts,
    numbering_in: Callable[[Config], Sequence[str]],
    numbering_out: Callable[[Config], Sequence[str]],
    avals: Sequence[Any],
    arrays: Sequence[Any],
) -> Sequence[Any]:
    """One XLA custom call; which of the optional arrays are there is told by bit masks."""

    def bits(names: tuple[str, ...], numbering: Sequence[str]) -> int:
        return sum(1 << numbering.index(name) for name in names)

    return jax.ffi.ffi_call(
        target, [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    )(
        *arrays,
        problems=np.array([n for part in parts for n in part.config.numbers], np.int64),
        in_present=np.array([bits(p.inputs, numbering_in(p.config)) for p in parts], np.int64),
        out_present=np.array([bits(p.outputs, numbering_out(p.config)) for p in parts], np.int64),
    )


def _run_forward(*arrays: Any, parts: Parts) -> Sequence[Any]:
    return _call_engine(
        "recurra_forward",
        parts,
        lambda _: cpu.FORWARD_INPUTS,
        cpu.forward_outputs,
        _output_avals(arrays, parts),
        arrays,
    )


def _run_backward(*arrays: Any, parts: Parts) -> Sequence[Any]:
    return _call_engine(
        "recurra_backward",
        parts,
        cpu.backward_inputs,
        lambda _: cpu.DIFFERENTIABLE,
        _backward_abstract(*arrays, parts=parts),
        arrays,
    )


def _eager(primitive: Primitive) -> Callable[..., Any]:
    """What the primitive does on concrete arrays: a compiled call, kept by its parts."""

    @functools.cache
    def compiled(parts: Parts) -> Callable[..., Any]:
        return jax.jit(functools.partial(primitive.bind, parts=parts))

    def call(*arrays: Any, parts: Parts) -> Any:
        return compiled(parts)(*arrays)

    return call


forward_p.def_impl(_eager(forward_p))
backward_p.def_impl(_eager(backward_p))
mlir.register_lowering(
    forward_p, mlir.lower_fun(_run_forward, multiple_results=True), platform="cpu"
)
mlir.register_lowering(
    backward_p, mlir.lower_fun(_run_backward, multiple_results=True), platform="cpu"
)
