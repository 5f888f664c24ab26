"""Lowering layers that treat every time step alike: activations and merges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Layer
from recurra.runtime.layers.activation_layers import ActivationLayer, PReLU, Softmax
from recurra.runtime.streaming.activation import activate, function, last_axis_only
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, refuse


@lowers(ActivationLayer)
def lower_activation(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Activation, ReLU, LeakyReLU, ELU."""
    assert isinstance(layer, ActivationLayer)
    return [activate(lowering, layer, inputs[0], layer.activation)]


@lowers(Softmax)
def lower_softmax(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Softmax, which unlike Activation("softmax") would use a mask."""
    assert isinstance(layer, Softmax)
    (x,) = inputs
    if x.mask is not None:
        raise refuse(
            layer,
            "its input has a mask, which it would apply to the features",
            'use Activation("softmax"), which leaves masks alone',
        )
    last_axis_only(layer, x, layer.axis)
    return [function(lowering, x, "softmax", [])]


@lowers(PReLU)
def lower_prelu(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """PReLU with slopes that are the same for all steps."""
    assert isinstance(layer, PReLU)
    (x,) = inputs
    slopes = layer.alpha
    if x.has_time_axis:
        if slopes.shape[0] != 1:
            raise refuse(
                layer, "it has a slope for each time step", "train it with shared_axes=[1]"
            )
        slopes = slopes[0]
    slopes = np.ascontiguousarray(np.broadcast_to(slopes, x.features)).reshape(-1)
    return [function(lowering, x, "prelu", slopes)]
