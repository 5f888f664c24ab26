"""Lowering Dense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.layer import Layer
from recurra.runtime.layers.dense import Dense
from recurra.runtime.streaming.activation import activate
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, one_axis


@lowers(Dense)
def lower_dense(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Dense."""
    assert isinstance(layer, Dense)
    (x,) = inputs
    one_axis(layer, x)
    y = lowering.dense(x, layer.kernel, layer.bias)
    return [activate(lowering, layer, y, layer.activation)]
