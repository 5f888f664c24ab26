"""The engine as a differentiable JAX operation: gradient wiring and nothing else.

Three primitives (docs/decisions/0002-jax-primitives.md says why not `jax.custom_vjp`):

    recurra_scan        the forward pass. Its derivative rule runs it again with the slots saved,
                        then applies
    recurra_tangent     the derivative as a linear map of the inputs' tangents. It is never
                        computed, only transposed, into
    recurra_backward    the backward pass, for exactly those gradients that are asked for.

Forward-mode derivatives would compute `recurra_tangent`, second derivatives would differentiate
`recurra_backward`: both raise `NotImplementedError` with the way out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from recurra import _engine
from recurra.engine import cpu
from recurra.engine.config import Config

for _name, _target in _engine.xla_targets().items():
    jax.ffi.register_ffi_target(_name, _target, platform="cpu")

FORWARD_MODE = (
    "Recurra's engine has reverse-mode derivatives only, and this asks for a forward-mode one "
    "(jax.jvp, jax.jacfwd, jax.linearize, jax.hessian). Use jax.grad, jax.vjp or jax.jacrev, or "
    'build the layer with engine="keras", whose scan JAX differentiates in any way.'
)
SECOND_DERIVATIVE = (
    "Recurra's engine has first derivatives only, and this asks for a derivative of its gradient "
    "(jax.grad of jax.grad, jax.hessian, a gradient penalty). Build the layer with "
    'engine="keras", whose scan JAX differentiates any number of times.'
)


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
        x: (B, T, F). Its dtype is the results'; float32 and float64 are computed as they are, other
            floats in float32.
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
    arrays = (x, kernel, recurrent_kernel, bias, h0, c0, mask, dropout_x, dropout_h)
    return _scan(config, last_output, sequence, trace, arrays)


def platform() -> str:
    """Where JAX places arrays by default: "cpu", "gpu" or "tpu"."""
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def unavailable(x: Any) -> str | None:
    """Why a call on x cannot use the engine, and what to change; None if it can."""
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


# Compiled once per configuration and shapes, so that eager calls cost one dispatch; inlined where
# the call is being traced anyway.
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), inline=True)
def _scan(
    config: Config, last_output: bool, sequence: bool, trace: bool, arrays: Sequence[Any]
) -> dict[str, Any]:
    given = dict(zip(cpu.FORWARD_INPUTS, arrays, strict=True))
    result_dtype = jnp.result_type(given["x"])
    dtype = result_dtype if result_dtype.name in cpu.DTYPES else jnp.dtype("float32")
    for name in ("mask", "dropout_x", "dropout_h"):
        if given[name] is not None:
            given[name] = jax.lax.stop_gradient(given[name])
    present = {
        name: jnp.asarray(array, bool if name == "mask" else dtype)
        for name, array in given.items()
        if array is not None
    }
    present = _vary_alike(present)
    outputs = cpu.present_outputs(
        config,
        mask="mask" in present,
        last_output=last_output,
        sequence=sequence,
        slots=trace,
    )
    values = forward_p.bind(
        *present.values(), config=config, inputs=tuple(present), outputs=outputs
    )
    results = dict(zip(outputs, values, strict=True))
    if trace:
        results.setdefault("hidden_state", results.get("sequence"))
    public = ("last_output", *config.spec.state_outputs, "sequence", *config.spec.trace_names)
    return {
        name: results[name].astype(result_dtype)
        for name in public
        if name in results and (trace or name not in config.spec.trace_names)
    }


def _varying(aval: Any) -> frozenset[Any]:
    """The axes of a `jax.shard_map` along which an array differs from device to device."""
    kind = getattr(aval, "manual_axis_type", None)  # before JAX 0.10: the attribute vma
    return getattr(aval, "vma", frozenset()) if kind is None else kind.varying


def _vary_alike(arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays, each varying along all mesh axes along which any of them varies.

    JAX's own operations do the same. The derivative of the cast is what sums the gradient of an
    array that all devices share (the weights) over the devices.
    """
    axes = {name: _varying(jax.typeof(array)) for name, array in arrays.items()}
    union: frozenset[Any] = frozenset().union(*axes.values())
    cast = dict(arrays)
    for name, array in arrays.items():
        missing = tuple(sorted(union - axes[name], key=str))
        if missing and hasattr(jax.lax, "pcast"):
            cast[name] = jax.lax.pcast(array, missing, to="varying")
        elif missing:  # before JAX 0.8
            cast[name] = jax.lax.pvary(array, missing)
    return cast


def _aval(shape: tuple[int, ...], like: Any) -> Any:
    """The abstract value of a result: dtype and varying mesh axes are the input's."""
    like = jax.typeof(like) if not isinstance(like, jax.core.ShapedArray) else like
    varying = {}
    if _varying(like):
        name = "manual_axis_type" if hasattr(like, "manual_axis_type") else "vma"
        replicated = like.sharding.update(spec=jax.sharding.PartitionSpec(*(None for _ in shape)))
        varying = {"sharding": replicated, name: getattr(like, name)}
    return jax.core.ShapedArray(shape, like.dtype, **varying)


def _primitive(name: str) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    return primitive


# All take arrays, and as static parameters their names:
#   config   the cell and its options
#   inputs   names of the arrays given, in the engine's order
#   outputs  names of the results, in the engine's order
# and `recurra_tangent` two more: see `_forward_jvp`.
forward_p = _primitive("recurra_scan")
tangent_p = _primitive("recurra_tangent")
backward_p = _primitive("recurra_backward")


def _sizes(arrays: dict[str, Any]) -> dict[str, int]:
    """Batch, time steps, features and units of one call, from arrays or their abstract values."""
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
def _forward_abstract(
    *avals: Any, config: Config, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> list[Any]:
    arrays = dict(zip(inputs, avals, strict=True))
    _check(config, arrays)
    return _output_avals(arrays, outputs)


def _output_avals(arrays: dict[str, Any], outputs: tuple[str, ...]) -> list[Any]:
    size = _sizes(arrays)
    return [
        _aval(cpu.output_shape(name, size["batch"], size["time_steps"], size["units"]), arrays["x"])
        for name in outputs
    ]


@tangent_p.def_abstract_eval
def _tangent_abstract(
    *avals: Any,
    config: Config,
    inputs: tuple[str, ...],
    tangents: tuple[str, ...],
    outputs: tuple[str, ...],
) -> list[Any]:
    return _output_avals(dict(zip(inputs, avals, strict=False)), outputs)


@backward_p.def_abstract_eval
def _backward_abstract(
    *avals: Any, config: Config, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> list[Any]:
    arrays = dict(zip(inputs, avals, strict=True))
    shapes = cpu.gradient_shapes(config, **_sizes(arrays))
    return [_aval(shapes[name], arrays["x"]) for name in outputs]


# --- Derivatives ---


def _forward_jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    config: Config,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> tuple[list[Any], list[Any]]:
    saved_outputs = cpu.present_outputs(
        config,
        mask="mask" in inputs,
        last_output="last_output" in outputs,
        sequence="sequence" in outputs,
        slots=True,
    )
    values = forward_p.bind(*primals, config=config, inputs=inputs, outputs=saved_outputs)
    results = dict(zip(saved_outputs, values, strict=True))

    # What the backward pass reads, under the names that it uses.
    residuals = dict(zip(inputs, primals, strict=True)) | results
    if "hidden_state" in results:
        residuals.pop("sequence", None)
    residuals = {name: residuals[name] for name in cpu.backward_inputs(config) if name in residuals}
    moving = {
        name: tangent
        for name, tangent in zip(inputs, tangents, strict=True)
        if name in cpu.DIFFERENTIABLE and not isinstance(tangent, ad.Zero)
    }
    # Slots outside the public trace have no derivative: nothing can be computed from them.
    smooth = tuple(
        name for name in outputs if name not in config.slots or name in config.spec.trace_names
    )
    moved: dict[str, Any] = {}
    if moving:
        directions = tangent_p.bind(
            *residuals.values(),
            *moving.values(),
            config=config,
            inputs=tuple(residuals),
            tangents=tuple(moving),
            outputs=smooth,
        )
        moved = dict(zip(smooth, directions, strict=True))
    return [results[name] for name in outputs], [
        moved[name] if name in moved else ad.Zero(jax.typeof(results[name]).to_tangent_aval())
        for name in outputs
    ]


def _tangent_transpose(
    cotangents: Sequence[Any],
    *arguments: Any,
    config: Config,
    inputs: tuple[str, ...],
    tangents: tuple[str, ...],
    outputs: tuple[str, ...],
) -> list[Any]:
    residuals = dict(zip(inputs, arguments, strict=False))
    directions = dict(zip(tangents, arguments[len(inputs) :], strict=True))
    wanted = [name for name in directions if ad.is_undefined_primal(directions[name])]
    if len(wanted) < len(directions):  # linear in some of the tangents, the others are numbers
        raise NotImplementedError(FORWARD_MODE)
    residuals |= {
        f"d_{name}": cotangent
        for name, cotangent in zip(outputs, cotangents, strict=True)
        if not isinstance(cotangent, ad.Zero)
    }
    given = {name: residuals[name] for name in cpu.backward_inputs(config) if name in residuals}
    ordered = tuple(name for name in cpu.DIFFERENTIABLE if name in wanted)
    gradients = backward_p.bind(
        *given.values(), config=config, inputs=tuple(given), outputs=ordered
    )
    by_name = dict(zip(ordered, gradients, strict=True))
    return [None] * len(inputs) + [by_name[name] for name in tangents]


def _refuse(message: str) -> Callable[..., Any]:
    def rule(*arguments: Any, **parameters: Any) -> Any:
        raise NotImplementedError(message)

    return rule


ad.primitive_jvps[forward_p] = _forward_jvp
ad.primitive_jvps[tangent_p] = _refuse(FORWARD_MODE)
ad.primitive_jvps[backward_p] = _refuse(SECOND_DERIVATIVE)
ad.primitive_transposes[tangent_p] = _tangent_transpose


# --- Batching ---

_BATCH_AXIS = {"x": 0, "h0": 0, "c0": 0, "mask": 0, "dropout_x": 1, "dropout_h": 1}


def _forward_batch(
    arrays: Sequence[Any],
    axes: Sequence[int | None],
    *,
    config: Config,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> tuple[Sequence[Any], Sequence[int]]:
    weights_mapped = any(
        axis is not None and name not in _BATCH_AXIS
        for name, axis in zip(inputs, axes, strict=True)
    )
    if weights_mapped:
        return _batch_by_loop(
            forward_p, arrays, axes, config=config, inputs=inputs, outputs=outputs
        )
    # One call on a larger batch: rows do not depend on each other, bit for bit.
    count = _mapped_size(arrays, axes)
    shape, axis = arrays[0].shape, axes[0]  # x's
    batch = shape[0] if axis is None else (*shape[:axis], *shape[axis + 1 :])[0]
    merged = []
    for name, array, axis in zip(inputs, arrays, axes, strict=True):
        if name in _BATCH_AXIS:
            target = _BATCH_AXIS[name]
            if axis is None:
                mapped = jnp.broadcast_to(
                    jnp.expand_dims(array, target),
                    (*array.shape[:target], count, *array.shape[target:]),
                )
            else:
                mapped = jnp.moveaxis(array, axis, target)
            shape = mapped.shape
            array = mapped.reshape(
                (*shape[:target], shape[target] * shape[target + 1], *shape[target + 2 :])
            )
        merged.append(array)
    results = forward_p.bind(*merged, config=config, inputs=inputs, outputs=outputs)
    split = [result.reshape((count, batch, *result.shape[1:])) for result in results]
    return split, [0] * len(split)


def _batch_by_loop(
    primitive: Primitive, arrays: Sequence[Any], axes: Sequence[int | None], **parameters: Any
) -> tuple[Sequence[Any], Sequence[int]]:
    """One call per element: weights and their gradients differ from element to element."""
    mapped = [
        jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
        if axis is not None
    ]

    def call(slices: list[Any]) -> list[Any]:
        rest = iter(slices)
        full = [
            array if axis is None else next(rest) for array, axis in zip(arrays, axes, strict=True)
        ]
        return primitive.bind(*full, **parameters)

    results = jax.lax.map(call, mapped)
    return results, [0] * len(results)


def _mapped_size(arrays: Sequence[Any], axes: Sequence[int | None]) -> int:
    return next(
        array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None
    )


batching.primitive_batchers[forward_p] = _forward_batch
batching.primitive_batchers[tangent_p] = functools.partial(_batch_by_loop, tangent_p)
batching.primitive_batchers[backward_p] = functools.partial(_batch_by_loop, backward_p)


# --- Execution ---


def _call_engine(
    target: str,
    config: Config,
    numbering_in: Sequence[str],
    inputs: tuple[str, ...],
    numbering_out: Sequence[str],
    outputs: tuple[str, ...],
    result_avals: list[Any],
    arrays: Sequence[Any],
) -> Sequence[Any]:
    """One XLA custom call; which of the optional arrays are there is told by bit masks."""

    def bits(names: tuple[str, ...], numbering: Sequence[str]) -> np.int64:
        return np.int64(sum(1 << numbering.index(name) for name in names))

    return jax.ffi.ffi_call(
        target, [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in result_avals]
    )(
        *arrays,
        problems=np.array(config.numbers, np.int64),
        in_present=np.array([bits(inputs, numbering_in)]),
        out_present=np.array([bits(outputs, numbering_out)]),
    )


def _run_forward(
    *arrays: Any, config: Config, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Sequence[Any]:
    return _call_engine(
        "recurra_forward",
        config,
        cpu.FORWARD_INPUTS,
        inputs,
        cpu.forward_outputs(config),
        outputs,
        _output_avals(dict(zip(inputs, arrays, strict=True)), outputs),
        arrays,
    )


def _run_backward(
    *arrays: Any, config: Config, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Sequence[Any]:
    return _call_engine(
        "recurra_backward",
        config,
        cpu.backward_inputs(config),
        inputs,
        cpu.DIFFERENTIABLE,
        outputs,
        _backward_abstract(*arrays, config=config, inputs=inputs, outputs=outputs),
        arrays,
    )


def _eager(primitive: Primitive) -> Callable[..., Any]:
    """What the primitive does on concrete arrays: a compiled call, kept by parameters."""

    @functools.cache
    def compiled(parameters: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
        return jax.jit(functools.partial(primitive.bind, **dict(parameters)))

    def call(*arrays: Any, **parameters: Any) -> Any:
        return compiled(tuple(parameters.items()))(*arrays)

    return call


forward_p.def_impl(_eager(forward_p))
backward_p.def_impl(_eager(backward_p))
tangent_p.def_impl(_refuse(FORWARD_MODE))
mlir.register_lowering(
    forward_p, mlir.lower_fun(_run_forward, multiple_results=True), platform="cpu"
)
mlir.register_lowering(
    backward_p, mlir.lower_fun(_run_backward, multiple_results=True), platform="cpu"
)
mlir.register_lowering(tangent_p, _refuse(FORWARD_MODE))
