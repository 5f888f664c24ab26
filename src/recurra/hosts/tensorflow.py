"""The engine as a differentiable TensorFlow operation: gradient wiring and nothing else.

The engine is called by a compiled operation (`tensorflow_op.cpp`), or, where there is no compiler,
on NumPy arrays (`tensorflow_numpy.py`). Both compute the same bits.

What the forward pass saves for the backward pass ("cache") costs more than the pass itself, so it
is saved only where something reads it. Eagerly that is known at the call: a tape watches one of the
arrays. In a graph it is known when it runs: nothing consumes the operation's last output, which is
how prediction and a function that is never differentiated look.

In eager mode the operation is put on the tape by hand, because of what TensorFlow does by itself
for a registered gradient: it makes zeros for every output without a gradient, the cache included,
and keeps them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.ops import control_flow_util

from recurra.engine import cpu
from recurra.engine.config import Config
from recurra.hosts import tensorflow_numpy, tensorflow_op, tensorflow_plan
from recurra.hosts.tensorflow_plan import Plan

SECOND_DERIVATIVE = (
    "Recurra's engine has first derivatives in reverse mode only, and this asks for a derivative "
    "of its gradient (a GradientTape around another one's gradient, a gradient penalty, a Hessian) "
    "or for a forward-mode one (tf.autodiff.ForwardAccumulator). Build the layer with "
    'engine="keras", whose scan TensorFlow differentiates in any way.'
)

Scan = tuple[Config, dict[str, Any]]


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

    Works eagerly, in tf.function, under GradientTape, in tf.while_loop and tf.map_fn. Gradients
    flow to x, kernel, recurrent_kernel, bias, h0 and c0, from every output; mask and dropout
    factors are constants.

    Args:
        config: the cell and its options.
        x: (B, T, F). Its dtype is the results'; float32 and float64 are computed as they are,
            float16 in float32, bfloat16 in float32 but for the operands of matrix products. B and
            T may be unknown in a graph.
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
        ValueError: if a shape does not fit; in a graph, where it is known.
        NotImplementedError: when differentiated in forward mode or twice.

    Example:
        >>> w = {"kernel": tf.ones((2, 3)), "recurrent_kernel": tf.zeros((3, 3))}
        >>> config = Config("simple_rnn", activation="linear")
        >>> scan(config, tf.ones((1, 4, 2)), **w)["last_output"].numpy().tolist()
        [[2.0, 2.0, 2.0]]
    """
    arrays = (x, kernel, recurrent_kernel, bias, h0, c0, mask, dropout_x, dropout_h)
    return _run([_prepare(config, arrays, last_output, sequence, trace)])[0]


def scan_many(scans: Sequence[Scan]) -> list[dict[str, Any]]:
    """Run several scans that do not depend on each other, in parallel: one call of the engine.

    Args:
        scans: for each a configuration and the arguments of `scan` by name, x, kernel and
            recurrent_kernel included.

    Returns:
        For each what `scan` returns.

    Raises:
        As `scan`.

    Example:
        >>> w = {"kernel": tf.ones((2, 3)), "recurrent_kernel": tf.zeros((3, 3))}
        >>> both = [
        ...     (Config("simple_rnn", go_backwards=b), {"x": tf.ones((1, 4, 2)), **w})
        ...     for b in (False, True)
        ... ]
        >>> [result["last_output"].shape for result in scan_many(both)]
        [TensorShape([1, 3]), TensorShape([1, 3])]
    """
    prepared = []
    for config, arguments in scans:
        given = {**arguments}
        wanted = {
            "last_output": given.pop("last_output", True),
            "sequence": given.pop("sequence", False),
            "trace": given.pop("trace", False),
        }
        if unknown := set(given) - set(cpu.FORWARD_INPUTS):
            raise TypeError(f"scan takes no argument {sorted(unknown)[0]!r}.")
        arrays = [given.get(name) for name in cpu.FORWARD_INPUTS]
        prepared.append(_prepare(config, arrays, **wanted))
    if len({one.dtype for one in prepared}) > 1:  # one call computes in one type
        return [_run([one])[0] for one in prepared]
    return _run(prepared)


def platform() -> str:
    """Where TensorFlow places arrays by default: "cpu", "gpu" or "tpu"."""
    for name in ("TPU", "GPU"):
        if tf.config.get_visible_devices(name):
            return name.lower()
    return "cpu"


def equivalent_activations() -> dict[Callable[..., Any], str]:
    """TensorFlow's functions that compute the engine's activations, by function.

    Another name of the same function, e.g. `tf.math.tanh` for `tf.tanh`, is the same key.
    `tf.nn.gelu` is exact unless told otherwise, as the engine's.
    """
    return {
        tf.identity: "linear",
        tf.tanh: "tanh",
        tf.nn.tanh: "tanh",
        tf.sigmoid: "sigmoid",
        tf.nn.sigmoid: "sigmoid",
        tf.nn.relu: "relu",
        tf.nn.softsign: "softsign",
        tf.nn.elu: "elu",
        tf.nn.selu: "selu",
        tf.nn.gelu: "gelu",
        tf.nn.silu: "silu",
        tf.nn.swish: "silu",
        tf.exp: "exponential",
        tf.math.exp: "exponential",
        tf.nn.softplus: "softplus",
        tf.math.softplus: "softplus",
    }


def load_op() -> None:
    """Make Recurra's operations known to TensorFlow, so that a graph with them can be loaded.

    Needed only for a `tf.function` that was traced with the engine and saved as it was traced:
    `model.export` and `tf.saved_model.save(model)` write Keras's scan instead. Importing this
    module, or `recurra.layers` on TensorFlow, does the same where the operations have been compiled
    before; this function compiles them if they have not.

    Raises:
        RuntimeError: if the operations cannot be compiled or loaded, with the reason.

    Example:
        >>> load_op()
        >>> restored = tf.saved_model.load("model")  # doctest: +SKIP
    """
    library, note = tensorflow_op.load()
    if library is None:
        raise RuntimeError(f"Recurra's TensorFlow operations could not be loaded: {note}.")


def engine_note() -> str | None:
    """How TensorFlow calls the engine; compiles the operation if that has not been done yet."""
    library, note = tensorflow_op.load()
    return note if library is not None else f"through tf.numpy_function, because {note}"


_PORTABLE = {
    "keras.src.export": "model.export",
    "tensorflow.python.saved_model": "a SavedModel",
    "tensorflow.lite": "TensorFlow Lite",
    "tf2onnx": "ONNX",
    "tensorflow.python.framework.convert_to_constants": "a frozen graph",
}


def unavailable(x: Any) -> str | None:
    """Why this very call cannot use the engine, and what to change; None if it can.

    Args:
        x: the input, on which device it is and in which graph.

    Example:
        >>> unavailable(tf.ones((1, 4, 2))) is None
        True
    """
    if tf.executing_eagerly():
        device = getattr(x, "device", None) or "CPU"
        if "CPU" not in device:
            return f"x is on {device} and the engine runs on the CPU; move it there"
        return None
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return (
            "XLA compiles this graph and cannot call other code from it; "
            "use jit_compile=False, with which the engine runs"
        )
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        for prefix, format_name in _PORTABLE.items():
            if module.startswith(prefix):
                return (
                    f"the graph is exported to {format_name}, and a graph with Recurra's operation "
                    "could be loaded only where Recurra is; nothing needs to be changed"
                )
        frame = frame.f_back
    return None


# --- One call ---


@dataclass
class _Scan:
    """One scan: its plan, and its arrays converted."""

    plan: Plan
    arrays: list[Any]
    masks: list[Any]
    dtype: Any
    result_dtype: Any
    trace: bool


def _prepare(
    config: Config, given: Sequence[Any], last_output: bool, sequence: bool, trace: bool
) -> _Scan:
    x = given[0] if isinstance(given[0], tf.Tensor) else tf.convert_to_tensor(given[0])
    result_dtype = x.dtype
    dtype = result_dtype if result_dtype.name in cpu.DTYPES else tf.float32
    names, arrays, masks = [], [], []
    for name, array in zip(cpu.FORWARD_INPUTS, (x, *given[1:]), strict=True):
        if array is None:
            continue
        names.append(name)
        if name == "mask":
            masks.append(_converted(array, tf.bool))
        else:
            arrays.append(_converted(array, dtype))
    plan = tensorflow_plan.make(
        config.computing(result_dtype.name),
        tuple(names),
        bool(last_output),
        bool(sequence),
        bool(trace),
    )
    return _Scan(plan, arrays, masks, dtype, result_dtype, trace)


def _converted(array: Any, dtype: Any) -> Any:
    if not isinstance(array, tf.Tensor):  # a variable, for one: tf.cast may return it as it is
        array = tf.convert_to_tensor(array)
    return array if array.dtype is dtype else tf.cast(array, dtype)


def _run(scans: Sequence[_Scan]) -> list[dict[str, Any]]:
    """Run scans that compute in one type."""
    plans = tuple(one.plan for one in scans)
    arrays = [array for one in scans for array in one.arrays]
    masks = [mask for one in scans for mask in one.masks]
    library = tensorflow_op.load()[0]
    if tf.executing_eagerly():
        try:
            outputs = _eager(library, plans, arrays, masks)
        except (tf.errors.InvalidArgumentError, ValueError, IndexError):
            for one in scans:
                _check(one)  # names the array
            raise
    else:
        for one in scans:
            _check(one)
        if library is None:
            outputs = tensorflow_numpy.differentiable(plans, arrays, masks, _refuse)
        else:
            # Its registered gradient applies; whether anything reads the cache is seen when the
            # graph runs.
            outputs = _forward(library, plans, arrays, masks, True)[0]
    rest = iter(outputs)
    return [_results(one, rest) for one in scans]


def _results(scan: _Scan, outputs: Iterator[Any]) -> dict[str, Any]:
    results = {name: next(outputs) for name in scan.plan.outputs}
    if scan.trace:
        results.setdefault("hidden_state", results.get("sequence"))
    if scan.dtype is not scan.result_dtype:
        results = {name: tf.cast(value, scan.result_dtype) for name, value in results.items()}
    return results


def _check(scan: _Scan) -> None:
    """Raise ValueError for the first array that does not fit the others, as far as is known."""
    arrays = dict(zip(scan.plan.arrays, scan.arrays, strict=True))
    if scan.masks:
        arrays["mask"] = scan.masks[0]
    shapes = {
        name: tuple(array.shape) for name, array in arrays.items() if array.shape.rank is not None
    }
    for name, ndim in (("x", 3), ("recurrent_kernel", 2)):
        if len(shapes.get(name, range(ndim))) != ndim:
            raise ValueError(
                f"{name} has shape {shapes[name]}; expected {ndim} dimensions: "
                + {"x": "(batch, time_steps, features)"}.get(name, "(units, gates * units)")
            )
    config = scan.plan.config
    batch, time_steps, features = shapes.get("x", (None, None, None))
    units = shapes.get("recurrent_kernel", (None, None))[0]
    if units is None or features is None:
        return
    expected: dict[str, tuple[int | None, ...]] = {
        "x": (batch, time_steps, features),
        **config.weight_shapes(features, units),
        "h0": (batch, units),
        "c0": (batch, units),
        "mask": (batch, time_steps),
    }
    gates = len(config.spec.gates)
    for name, width in (("dropout_x", features), ("dropout_h", units)):
        if shapes.get(name):
            # One factor array for all gates, or one for each.
            given = shapes[name][0]
            expected[name] = (given if given in (None, gates) else 1, batch, width)
    for name, shape in shapes.items():
        fits = len(shape) == len(expected[name]) and all(
            is_ is None or should is None or is_ == should
            for is_, should in zip(shape, expected[name], strict=True)
        )
        if not fits:
            blame = ""
            if name == "kernel" and shape[:1] not in ((), (None,), (features,)):
                blame = f"x has {features} features and the layer was built for {shape[0]}: "
            raise ValueError(
                f"{blame}{name} has shape {shape}; expected {expected[name]} for a "
                f"{config.spec.layer} with {units} units on x of shape {shapes.get('x')}."
            )


def pullback(
    function: Callable[[list[Any]], Sequence[Any]], *, compiled: bool = False
) -> Callable[[Sequence[Any], Sequence[Any]], tuple[list[Any], list[Any]]]:
    """Reverse-mode differentiation of a function of tensors; see `recurra.hosts`."""

    def pull(tensors: list[Any], cotangents: list[Any]) -> tuple[list[Any], list[Any]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            results = list(function(tensors))
        gradients = tape.gradient(
            results,
            tensors,
            output_gradients=cotangents,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return results, gradients

    call = tf.function(pull) if compiled else pull
    return lambda tensors, cotangents: call(list(tensors), list(cotangents))


# --- Gradients ---


def _refuse(*arguments: Any) -> Any:
    raise NotImplementedError(SECOND_DERIVATIVE)


def _eager(
    library: Any, plans: tuple[Plan, ...], arrays: list[Any], masks: list[Any]
) -> Sequence[Any]:
    """Run now, and put the call on the tapes that watch any of the arrays."""

    def forward(save: bool) -> tuple[Sequence[Any], Any]:
        if library is None:
            return tensorflow_numpy.forward(plans, arrays, masks, save)
        return _forward(library, plans, arrays, masks, save)

    if not record.should_record_backprop(arrays):
        return forward(False)[0]
    with record.stop_recording():
        outputs, cache = forward(True)
    wanted = tuple(record.should_record_backprop([array]) for array in arrays)
    read = [name in plan.kept for plan in plans for name in plan.outputs]
    kept = [output if is_read else None for output, is_read in zip(outputs, read, strict=True)]

    def gradient(*cotangents: Any) -> Sequence[Any]:
        if library is None:
            return tensorflow_numpy.backward(
                plans, arrays, masks, kept, cache, cotangents, wanted, _refuse
            )
        return _backward(library, plans, arrays, masks, kept, cache, cotangents, wanted)

    record.record_operation("RecurraForward", outputs, arrays, gradient)
    return outputs


def _forward(
    library: Any, plans: tuple[Plan, ...], arrays: list[Any], masks: list[Any], save: bool
) -> tuple[Sequence[Any], Any]:
    """The forward operation: all outputs, and the cache (empty unless `save`)."""
    call = tensorflow_plan.forward_call(plans)
    return library.recurra_forward(
        arrays=arrays, masks=masks, problems=call.problems, save=save, K=call.results
    )


def _backward(
    library: Any,
    plans: tuple[Plan, ...],
    arrays: Sequence[Any],
    masks: Sequence[Any],
    outputs: Sequence[Any],
    cache: Any,
    cotangents: Sequence[Any],
    wanted: tuple[bool, ...],
) -> list[Any]:
    """The backward operation: gradients of the arrays, None where they are not wanted.

    Args:
        outputs: those of the forward operation; None where the plan does not keep them.
        cotangents: one for each output, None for zero.
    """
    given = tuple(cotangent is not None for cotangent in cotangents)
    call = tensorflow_plan.backward_call(plans, given, wanted)
    gradients: list[Any] = [None] * len(arrays)
    if call.gradients:
        everything = (*arrays, *outputs, *cotangents)
        found = library.recurra_backward(
            arrays=[everything[i] for i in call.arrays],
            masks=masks,
            cache=cache,
            problems=call.problems,
            K=len(call.gradients),
        )
        for position, gradient in zip(call.gradients, found, strict=True):
            gradients[position] = gradient
    return gradients


@tf.RegisterGradient("RecurraForward")
def _forward_gradient(op: Any, *gradients: Any) -> list[Any]:
    if not op.get_attr("save"):  # eagerly, for nothing but a forward-mode derivative
        _refuse()
    numbers = op.get_attr("problems")
    plans = tuple(
        Plan.decode(tuple(numbers[i : i + tensorflow_plan.NUMBERS]))
        for i in range(0, len(numbers), tensorflow_plan.NUMBERS)
    )
    names = [name for plan in plans for name in plan.arrays]
    arrays, masks = list(op.inputs[: len(names)]), list(op.inputs[len(names) :])
    *outputs, cache = op.outputs
    # Known only if a tape asks; else what is not wanted is not computed when the graph runs.
    unneeded = getattr(op, "skip_input_indices", None) or ()
    wanted = tuple(name in cpu.DIFFERENTIABLE and i not in unneeded for i, name in enumerate(names))
    cotangents = [None if _is_zero(gradient) else gradient for gradient in gradients[:-1]]
    library = tensorflow_op.load()[0]
    found = _backward(library, plans, arrays, masks, outputs, cache, cotangents, wanted)
    return [*found, *(None for _ in masks)]


@tf.RegisterGradient("RecurraBackward")
def _backward_gradient(op: Any, *gradients: Any) -> Any:
    _refuse()


def _is_zero(gradient: Any) -> bool:
    """Whether a tensor in a graph is what TensorFlow puts where an output has no gradient."""
    op = gradient.op
    if op.type == "Fill":
        return _is_zero_constant(op.inputs[1])
    return op.type == "ZerosLike" or _is_zero_constant(gradient)


def _is_zero_constant(tensor: Any) -> bool:
    if tensor.op.type != "Const":
        return False
    value = tf.get_static_value(tensor)
    return value is not None and not value.any()


tensorflow_op.load_built()  # a graph saved with the operations can be loaded from here on
