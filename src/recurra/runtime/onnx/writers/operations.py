"""Functions of keras.ops that a model calls on its tensors; masks end at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layers.activations import FUNCTIONS, PARAMETERS, make
from recurra.runtime.layers.operations import Operation, Slot
from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.activations import write_activation
from recurra.runtime.onnx.writers.registry import Site
from recurra.runtime.onnx.writers.windows import FOREVER

Handler = Callable[[Builder, Operation, Sequence[Any]], tuple[str, str]]
"""(builder, operation, its arguments with values for tensors) -> name and type of the result."""

_BINARY = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Divide": "Div",
    "TrueDivide": "Div",
    "Power": "Pow",
    "Maximum": "Max",
    "Minimum": "Min",
}
_COMPARISONS = {
    "Equal": "Equal",
    "NotEqual": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
}
_LOGICAL = {"LogicalAnd": "And", "LogicalOr": "Or"}
_UNARY = {
    "Negative": "Neg",
    "Absolute": "Abs",
    "Abs": "Abs",
    "Sqrt": "Sqrt",
    "Exp": "Exp",
    "Log": "Log",
    "Sin": "Sin",
    "Cos": "Cos",
    "Sign": "Sign",
    "Floor": "Floor",
    "Ceil": "Ceil",
    "IsNan": "IsNaN",
}
_REDUCTIONS = {"Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd"}
_ACTIVATIONS = {name.replace("_", ""): name for name in FUNCTIONS}


def write_operation(b: Builder, layer: Operation, site: Site) -> Sequence[Value]:
    """One call of a function."""
    given = [_filled(v, site.inputs) for v in (*layer.arguments, *layer.keywords.values())]
    handler = _handler(layer.keras_class)
    if handler is None:
        raise layer.unsupported(
            "this function of keras.ops cannot be written as ONNX operators yet. Use a layer in "
            "its place, or run the model in Recurra's runtime."
        )
    name, dtype = handler(b, layer, given)
    return [Value(name, site.shapes[0], dtype)]


def _handler(name: str) -> Handler | None:
    if name in _BINARY or name in _COMPARISONS or name in _LOGICAL:
        return _pair
    if name in _UNARY:
        return _single
    if name in _REDUCTIONS or name in ("Sum", "Any", "All"):
        return _reduction
    if name.lower() in _ACTIVATIONS:
        return _activation
    return _OTHERS.get(name)


def _filled(value: Any, inputs: Sequence[Value]) -> Any:
    if isinstance(value, Slot):
        return inputs[value.number]
    if isinstance(value, (list, tuple)):
        return [_filled(each, inputs) for each in value]
    return value


def _operands(b: Builder, values: Sequence[Any]) -> tuple[list[str], str]:
    """Names of operands of one type: a number gets the tensors' type."""
    types = {value.dtype for value in values if isinstance(value, Value)}
    numbers = [value for value in values if not isinstance(value, Value)]
    fractions = any(isinstance(number, float) for number in numbers)
    if len(types) == 1 and not (fractions and types != {"float32"}):
        dtype = types.pop()
    else:
        dtype = "float32" if "float32" in types or fractions else "int64"
    return [_as(b, value, dtype) for value in values], dtype


def _as(b: Builder, value: Any, dtype: str) -> str:
    if not isinstance(value, Value):
        return b.constant(np.asarray(value), dtype)
    return value.name if value.dtype == dtype else b.cast(value.name, dtype)


def _pair(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    name = layer.keras_class
    if name in _LOGICAL:
        return b.op(_LOGICAL[name], *(_as(b, each, "bool") for each in given)), "bool"
    operands, dtype = _operands(b, given)
    if name in _BINARY:
        if name in ("Divide", "TrueDivide") and dtype != "float32":
            operands, dtype = [_as(b, each, "float32") for each in given], "float32"
        return b.op(_BINARY[name], *operands), dtype
    made = b.op(_COMPARISONS[name], *operands)
    return (b.op("Not", made) if name == "NotEqual" else made), "bool"


def _single(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    name = layer.keras_class
    return b.op(_UNARY[name], given[0].name), "bool" if name == "IsNan" else given[0].dtype


def _activation(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    name = _ACTIVATIONS[layer.keras_class.lower()]
    known = {key for key, _ in PARAMETERS[name]}
    chosen = {k: v for k, v in layer.config.items() if k in known and v is not None}
    return write_activation(b, make(name, **chosen), _as(b, given[0], "float32")), "float32"


def _axes(layer: Operation, rank: int) -> list[int]:
    axis = layer.config.get("axis")
    listed = range(rank) if axis is None else axis if isinstance(axis, list) else [axis]
    return [each % rank for each in listed]


def _reduction(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    x, name = given[0], layer.keras_class
    axes, keep = _axes(layer, x.rank), int(bool(layer.config.get("keepdims", False)))
    if name in ("Any", "All"):
        numbers = b.cast(_as(b, x, "bool"), "float32")
        kind = "ReduceMax" if name == "Any" else "ReduceMin"
        return b.cast(b.op(kind, numbers, axes=axes, keepdims=keep), "bool"), "bool"
    if name == "Sum":
        return b.op("ReduceSum", x.name, b.ints(*axes), keepdims=keep), x.dtype
    return b.op(_REDUCTIONS[name], x.name, axes=axes, keepdims=keep), x.dtype


def _get_item(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    """Slices first, then single places, then new axes."""
    x, key = given[0], given[1]
    parts = list(key) if isinstance(key, (list, tuple)) else [key]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    whole = [slice(None)] * (x.rank - used)
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = whole
    else:
        parts += whole
    name, axis, places, new, out = x.name, 0, [], [], 0
    for part in parts:
        if part is None:
            new.append(out)
            out += 1
            continue
        if isinstance(part, slice):
            name = _sliced(b, name, axis, part)
            out += 1
        else:
            places.append((axis, int(part)))
        axis += 1
    for axis, index in reversed(places):
        name = b.op("Gather", name, b.constant(index, "int64"), axis=axis)
    return (b.op("Unsqueeze", name, b.ints(*new)) if new else name), x.dtype


def _sliced(b: Builder, name: str, axis: int, part: slice) -> str:
    step = 1 if part.step is None else int(part.step)
    if part == slice(None):
        return name
    start = (0 if step > 0 else FOREVER) if part.start is None else int(part.start)
    stop = (FOREVER if step > 0 else -FOREVER) if part.stop is None else int(part.stop)
    return b.slice(name, axis, start, stop, step)


def _reshape(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    target = layer.config.get("newshape", layer.config.get("shape"))
    sizes = [-1 if n is None else int(n) for n in target or ()]
    return b.reshape(given[0].name, 0, *sizes[1:]), given[0].dtype


def _moved(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    """Transpose, Swapaxes, Moveaxis: where NumPy puts the axes."""
    x, config = given[0], layer.config
    like = np.broadcast_to(np.zeros(()), tuple(range(2, 2 + x.rank)))
    if layer.keras_class == "Transpose":
        turned = np.transpose(like, config.get("axes"))
    elif layer.keras_class == "Swapaxes":
        turned = np.swapaxes(like, config["axis1"], config["axis2"])
    else:
        turned = np.moveaxis(like, config["source"], config["destination"])
    return b.transpose(x.name, *(n - 2 for n in turned.shape)), x.dtype


def _listed(axis: Any) -> list[int]:
    return [int(each) for each in axis] if isinstance(axis, list) else [int(axis)]


def _squeeze(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    return b.op("Squeeze", given[0].name, b.ints(*_listed(layer.config["axis"]))), given[0].dtype


def _expand_dims(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    axes = b.ints(*_listed(layer.config["axis"]))
    return b.op("Unsqueeze", given[0].name, axes), given[0].dtype


def _flip(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    name = given[0].name
    for axis in _axes(layer, given[0].rank):
        name = b.flip(name, axis)
    return name, given[0].dtype


def _concatenate(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    names, dtype = _operands(b, given[0])
    return b.op("Concat", *names, axis=int(layer.config.get("axis", -1))), dtype


def _stack(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    axis = int(layer.config.get("axis", 0)) % (given[0][0].rank + 1)
    names, dtype = _operands(b, given[0])
    each = [b.op("Unsqueeze", name, b.ints(axis)) for name in names]
    return b.op("Concat", *each, axis=axis), dtype


def _matmul(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    names, dtype = _operands(b, given)
    return b.op("MatMul", *names), dtype


def _where(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    names, dtype = _operands(b, given[1:])
    return b.op("Where", _as(b, given[0], "bool"), *names), dtype


def _logical_not(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    return b.op("Not", _as(b, given[0], "bool")), "bool"


def _square(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    return b.op("Mul", given[0].name, given[0].name), given[0].dtype


def _rsqrt(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    return b.op("Reciprocal", b.op("Sqrt", given[0].name)), given[0].dtype


def _alike(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    """ZerosLike, OnesLike."""
    wanted = str(layer.config.get("dtype") or given[0].dtype)
    dtype = wanted if wanted in ("bool", "int32", "int64") else "float32"
    number = b.constant(layer.keras_class == "OnesLike", dtype)
    return b.op("Expand", number, b.op("Shape", given[0].name)), dtype


def _cast(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    wanted = str(layer.config.get("dtype"))
    dtype = wanted if wanted in ("bool", "int32", "int64") else None
    if wanted.startswith(("float", "bfloat")):
        dtype = "float32"
    if dtype is None:
        raise layer.unsupported(f"a cast to {wanted}; float32, int32, int64 and bool can be.")
    return b.cast(given[0].name, dtype), dtype


def _clip(b: Builder, layer: Operation, given: Sequence[Any]) -> tuple[str, str]:
    x = given[0]
    ends = [b.constant(layer.config[key], x.dtype) for key in ("x_min", "x_max")]
    return b.op("Clip", x.name, *ends), x.dtype


_OTHERS: dict[str, Handler] = {
    "GetItem": _get_item,
    "Reshape": _reshape,
    "Transpose": _moved,
    "Swapaxes": _moved,
    "Moveaxis": _moved,
    "Squeeze": _squeeze,
    "ExpandDims": _expand_dims,
    "Flip": _flip,
    "Concatenate": _concatenate,
    "Stack": _stack,
    "Matmul": _matmul,
    "Where": _where,
    "LogicalNot": _logical_not,
    "Square": _square,
    "Rsqrt": _rsqrt,
    "ZerosLike": _alike,
    "OnesLike": _alike,
    "Cast": _cast,
    "Clip": _clip,
}
