"""Lowering functions of keras.ops: those that make masks, and arithmetic.

Keras traces how layers make masks when a functional model is built, so its file has them as
operations on bools: NotEqual and Any for Masking, LogicalOr for merges, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Layer
from recurra.runtime.layers.operations import Operation, Slot
from recurra.runtime.streaming.joining import concatenate, merge
from recurra.runtime.streaming.lowering import (
    KEEP_ALL,
    Lowering,
    Value,
    lowers,
    one_axis,
    refuse,
)

Handler = Callable[[Lowering, Operation, Sequence[Any]], Value | None]
"""(lowering, operation, its positional arguments as values) -> result; None if it cannot."""


@lowers(Operation)
def lower_operation(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """A function of keras.ops, as far as the plan has it."""
    assert isinstance(layer, Operation)

    def filled(value: Any) -> Any:
        if isinstance(value, Slot):
            # Masks end at operations.
            return inputs[value.number].unmasked()
        return [filled(each) for each in value] if isinstance(value, (list, tuple)) else value

    handler = _HANDLERS.get(layer.keras_class)
    given = [filled(each) for each in (*layer.arguments, *layer.keywords.values())]
    result = handler(lowering, layer, given) if handler is not None else None
    if result is None:
        shown = " and ".join(f"({', '.join(map(str, value.features))})" for value in inputs)
        raise refuse(
            layer,
            f"the compiled plan has no such operation on features of shape {shown}",
            "use layers in its place",
        )
    return [result]


def _joined(lowering: Lowering, parts: frozenset[int]) -> int:
    """One mask that is True where any of them is."""
    if KEEP_ALL in parts:
        return KEEP_ALL
    if len(parts) == 1:
        return next(iter(parts))
    return lowering.once("mask_or", inputs=sorted(parts), output="mask")


def _mask(number: int) -> Value:
    return Value(number, "mask", ())


def _wide(features: tuple[int, ...], parts: frozenset[int]) -> Value:
    return Value(KEEP_ALL, "wide", features, parts=parts)


def _not_equal(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    x, value = given
    if not isinstance(x, Value) or not isinstance(value, (int, float)):
        return None
    if x.kind == "ids":
        return _mask(lowering.id_mask(x)) if value == 0 else None
    if x.kind == "steps" and not x.inside:
        return _wide(x.features, frozenset([lowering.masked(op, x, float(value))[1]]))
    return None


def _any(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    (x,) = given
    axis = op.config.get("axis")
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    last = list(axes) in ([-1], [x.rank - 1])
    if x.kind != "wide" or not last or op.config.get("keepdims") or not x.parts:
        return None
    return _mask(_joined(lowering, x.parts))


def _logical_or(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    kinds = {value.kind for value in given if isinstance(value, Value)}
    if len(given) != 2 or len(kinds) != 1:
        return None
    if kinds == {"mask"}:
        return _mask(_joined(lowering, frozenset(value.number for value in given)))
    if kinds == {"wide"}:
        features = np.broadcast_shapes(*(value.features for value in given))
        return _wide(features, given[0].parts | given[1].parts)
    return None


def _expand_dims(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    (x,) = given
    if x.kind != "mask" or op.config.get("axis") not in (-1, 2, [-1], [2]):
        return None
    return _wide((1,), frozenset([x.number]))


def _zeros_like(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    return _constant(op, given[0], frozenset())


def _ones_like(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    return _constant(op, given[0], frozenset([KEEP_ALL]))


def _constant(op: Operation, x: Value, parts: frozenset[int]) -> Value | None:
    if op.config.get("dtype") != "bool" or x.kind not in ("steps", "wide") or x.inside:
        return None
    return _wide(x.features, parts)


def _concatenate(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    values, axis = given[0], op.config.get("axis", -1)
    if not all(isinstance(value, Value) for value in values):
        return None
    if all(value.kind == "wide" for value in values) and axis in (-1, 2):
        features = (sum(value.features[-1] for value in values),)
        return _wide(features, frozenset().union(*(value.parts for value in values)))
    if any(value.kind not in ("steps", "row") for value in values):
        return None
    return concatenate(lowering, op, values, axis)


def _arithmetic(function: str) -> Handler:
    """Of two tensors, or of a tensor and a number."""

    def lower(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
        if len(given) != 2:
            return None
        tensors = [value for value in given if isinstance(value, Value)]
        if any(value.kind not in ("steps", "row") for value in tensors):
            return None
        if len(tensors) == 2:
            return merge(lowering, op, function, tensors)
        (number,) = (value for value in given if not isinstance(value, Value))
        if not isinstance(number, (int, float)):
            return None
        first = isinstance(given[0], Value)
        scale, offset = {
            "add": (1.0, number),
            "subtract": (1.0, -number) if first else (-1.0, number),
            "multiply": (number, 0.0),
        }.get(function, (None, 0.0))
        if scale is None:
            return None
        output = lowering.like(tensors[0])
        ones = np.ones(output.width, np.float32)
        lowering.add(
            "affine",
            input=tensors[0].number,
            output=output.number,
            shift=0 * ones,
            scale=scale * ones,
            offset=offset * ones,
        )
        return output

    return lower


def _get_item(lowering: Lowering, op: Operation, given: Sequence[Any]) -> Value | None:
    """x[:, -1] of steps: the newest; x[..., a:b], x[:, -1, a:b] and x[:, -1:, a]: some features."""
    x, key = given
    whole = slice(None)
    key = [*key]
    if key[:1] == [Ellipsis] and len(key) == 2:
        key = [*[whole] * (x.rank - 1), key[1]]
    if x.kind == "row" and len(key) == 2:
        key.insert(1, whole)
    elif x.kind != "steps":
        return None
    if x.inside or len(key) not in (2, 3) or key[0] != whole:
        return None
    one_axis(op, x)
    _, time, feature = [*key, whole][:3]
    if not isinstance(feature, (int, slice)):
        return None
    chosen = np.arange(x.width)[feature]
    if np.ndim(chosen) == 0 and time == slice(-1, None):
        time, chosen = -1, chosen[None]  # the axis of one step is what remains
    if np.ndim(chosen) == 0 or not len(chosen) or time not in (whole, -1):
        return None
    if time == -1:
        number = lowering.tensor("row", x.width)
        lowering.add("last", input=x.number, output=number)
        x = x._replace(number=number, kind="row", running=True)
    if len(chosen) == x.width and feature == whole:
        return x
    # A product with ones and zeros: exact, as long as all features are finite.
    return lowering.dense(x.unmasked(), np.eye(x.width, dtype=np.float32)[:, chosen], None)


_HANDLERS: Mapping[str, Handler] = {
    "NotEqual": _not_equal,
    "Any": _any,
    "LogicalOr": _logical_or,
    "ExpandDims": _expand_dims,
    "ZerosLike": _zeros_like,
    "OnesLike": _ones_like,
    "Concatenate": _concatenate,
    "GetItem": _get_item,
    "Add": _arithmetic("add"),
    "Subtract": _arithmetic("subtract"),
    "Multiply": _arithmetic("multiply"),
    "Maximum": _arithmetic("maximum"),
    "Minimum": _arithmetic("minimum"),
}
