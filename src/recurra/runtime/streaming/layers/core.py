"""Lowering embeddings, masks, and layers that do nothing outside of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.build import WithMask
from recurra.runtime.layer import Layer
from recurra.runtime.layers.core import Embedding, Identity, Masking
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, refuse


@lowers(Identity, WithMask)
def lower_identity(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Dropout and its kind, and what gives a nested model's input a mask."""
    return inputs


@lowers(Embedding)
def lower_embedding(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Embedding of indices in time, or of one index for the whole stream."""
    assert isinstance(layer, Embedding)
    (x,) = inputs
    if x.kind not in ("ids", "id_row"):
        raise refuse(
            layer,
            "its indices are computed inside the model, and in a stream they are inputs",
            "feed it from an input",
        )
    output = Value(
        lowering.tensor("steps" if x.timed else "row", layer.table.shape[1]),
        "steps" if x.timed else "row",
        (*x.features, layer.table.shape[1]),
        running=x.running,
    )
    lowering.add(
        "embedding",
        name=layer.where,
        input=x.number,
        output=output.number,
        table=layer.table,
    )
    if layer.mask_zero and x.timed:
        output = output._replace(mask=lowering.id_mask(x))
    return [output]


@lowers(Masking)
def lower_masking(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Masking: steps at which all features have one value."""
    assert isinstance(layer, Masking)
    (x,) = inputs
    if not x.has_time_axis:
        raise refuse(
            layer,
            "its input has no time steps to mask",
            "feed it from an input of shape (batch, time_steps, features)",
        )
    number, mask = lowering.masked(layer, x, layer.mask_value)
    return [x._replace(number=number, mask=mask)]
