"""Lowering layers that give values other shapes: possible where time stays where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.layer import Layer
from recurra.runtime.layers.shapes import Flatten, Reshape
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, refuse


@lowers(Flatten)
def lower_flatten(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Flatten of values without time: the same numbers."""
    assert isinstance(layer, Flatten)
    (x,) = inputs
    if x.has_time_axis:
        raise refuse(
            layer,
            "it makes one row of all time steps",
            "use the last output of a recurrent layer (return_sequences=False), or a Dense layer "
            "at every step",
        )
    if layer.channels_first and len(x.features) > 1:
        raise refuse(layer, "it moves the first feature axis (data_format='channels_first')", "")
    return [x._replace(features=(math.prod(x.features),), mask=None)]


@lowers(Reshape)
def lower_reshape(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Reshape of values without time: the same numbers."""
    assert isinstance(layer, Reshape)
    (x,) = inputs
    if x.has_time_axis:
        raise refuse(
            layer,
            "it moves numbers between time and features",
            "reshape the arrays before they enter the model, or use TimeDistributed(Reshape(...))",
        )
    features = layer.output_shapes([(None, *x.features)])[0][1:]
    return [x._replace(features=tuple(size or 0 for size in features), mask=None)]
