"""Lowering merges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Layer
from recurra.runtime.layers.merge import Concatenate, Merge
from recurra.runtime.streaming.joining import (
    concatenate,
    joined,
    joined_mask,
    merge,
    merged,
    same_kind,
    widened,
)
from recurra.runtime.streaming.lowering import Lowering, Value, lowers

_LOOK_AT_MASKS = ("multiply", "maximum", "minimum")


@lowers(Merge)
def lower_merge(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Add, Subtract, Multiply, Average, Maximum, Minimum."""
    function = layer.keras_class.lower()
    if function in _LOOK_AT_MASKS and any(value.mask is not None for value in inputs):
        same_kind(layer, inputs)
        features = np.broadcast_shapes(*(value.features for value in inputs))
        wide = [widened(lowering, layer, value, features) for value in inputs]
        join = _masked_product if function == "multiply" else _masked_extreme
        return [joined(lowering, join(lowering, function, wide), inputs)]
    return [merge(lowering, layer, function, inputs)]


def _masked_product(lowering: Lowering, function: str, inputs: Sequence[Value]) -> Value:
    """Masked numbers count as 1; where all are masked the result is 0."""
    factors = [_where(lowering, value.mask, value, 1.0) for value in inputs]
    output = merged(lowering, function, factors)
    return _where(lowering, joined_mask(lowering, inputs), output, 0.0)


def _masked_extreme(lowering: Lowering, function: str, inputs: Sequence[Value]) -> Value:
    """Masked numbers are left out, one input after the other."""
    output, kept = inputs[0], inputs[0].mask
    for value in inputs[1:]:
        other = _where(lowering, value.mask, value, output)
        before = _where(lowering, kept, output, other)
        output = merged(lowering, function, [before, other])
        both = kept is not None and value.mask is not None
        kept = joined_mask(lowering, [value._replace(mask=kept), value]) if both else None
    return output


def _where(lowering: Lowering, mask: int | None, value: Value, other: Value | float) -> Value:
    """The value at steps that the mask keeps, elsewhere another."""
    if mask is None:
        return value
    output = lowering.like(value)
    source: dict[str, Any] = (
        {"other": other.number} if isinstance(other, Value) else {"value": other}
    )
    lowering.add("where", mask=mask, input=value.number, output=output.number, **source)
    return output


@lowers(Concatenate)
def lower_concatenate(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Concatenate along the features."""
    assert isinstance(layer, Concatenate)
    return [concatenate(lowering, layer, inputs, layer.axis)]
