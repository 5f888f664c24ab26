"""Lowering TimeDistributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.layer import Layer
from recurra.runtime.layers.wrappers import TimeDistributed
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, refuse


@lowers(TimeDistributed)
def lower_time_distributed(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """A layer for rows, at every step: for layers that know no time it is the same operation."""
    assert isinstance(layer, TimeDistributed)
    (x,) = inputs
    if not x.has_time_axis:
        raise refuse(
            layer,
            "the axis that it runs along is not the stream's time",
            "feed it from an input of shape (batch, time_steps, features)",
        )
    outputs = lowering.lower(layer.layer, [x._replace(mask=None, inside=True)], {})
    return [output._replace(mask=x.mask, inside=False) for output in outputs]
