"""Lowering normalizations: with fixed numbers, or over the features of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Layer
from recurra.runtime.layers.normalization import (
    Affine,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
)
from recurra.runtime.streaming.activation import last_axis_only
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, one_axis, refuse


@lowers(Affine)
def lower_affine(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """BatchNormalization, Normalization, Rescaling."""
    assert isinstance(layer, Affine)
    (x,) = inputs
    numbers = {
        name: _for_each_feature(layer, getattr(layer, name), x)
        for name in ("shift", "scale", "offset")
    }
    output = lowering.like(x)
    lowering.add("affine", input=x.number, output=output.number, **numbers)
    return [output]


def _for_each_feature(layer: Layer, numbers: Array, x: Value) -> Array:
    """Numbers that broadcast to the layer's input from its last axis, as one for each feature."""
    axes = len(x.features)
    before = numbers.shape[: max(numbers.ndim - axes, 0)]
    if any(size != 1 for size in before):
        raise refuse(layer, "it has numbers of its own for each time step", "train it with axis=-1")
    last = numbers.reshape(numbers.shape[len(before) :])
    return np.broadcast_to(last, x.features).reshape(-1)


@lowers(LayerNormalization)
def lower_layer_normalization(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """LayerNormalization, RMSNormalization, and GroupNormalization of values without time."""
    assert isinstance(layer, LayerNormalization)
    (x,) = inputs
    grouped = isinstance(layer, GroupNormalization)
    if grouped and x.has_time_axis:
        raise refuse(
            layer,
            "it normalizes over all time steps, also those that have not come yet",
            "use LayerNormalization",
        )
    if isinstance(layer, RMSNormalization):
        x = x.unmasked()
    last_axis_only(layer, x, layer.axis)
    features = one_axis(layer, x)
    if layer.rms_scaling:
        raise refuse(
            layer,
            "the compiled plan has no operation for rms_scaling=True",
            "use RMSNormalization",
        )
    output = lowering.like(x)
    lowering.add(
        "layer_norm",
        input=x.number,
        output=output.number,
        scale=None if layer.gamma is None else layer.gamma.reshape(features),
        offset=None if layer.beta is None else layer.beta.reshape(features),
        epsilon=layer.epsilon,
        centered=not isinstance(layer, RMSNormalization),
        groups=layer.groups if isinstance(layer, GroupNormalization) else 1,
    )
    return [output]
