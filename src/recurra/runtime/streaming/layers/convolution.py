"""Lowering convolutions over time that look back only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Layer
from recurra.runtime.layers.convolution import Conv1D, DepthwiseConv1D, SeparableConv1D
from recurra.runtime.streaming.activation import activate
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, one_axis, refuse

LARGEST = 2**24
"""The most numbers of a kernel over all features: 64 MB."""

_CONVOLUTIONS = (Conv1D, DepthwiseConv1D, SeparableConv1D)


@lowers(Conv1D, DepthwiseConv1D, SeparableConv1D)
def lower_convolution(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Convolutions over time that look back only."""
    assert isinstance(layer, _CONVOLUTIONS)
    x = inputs[0].unmasked()
    if not x.has_time_axis:
        raise refuse(
            layer,
            "it runs along an axis that is not the stream's time",
            "feed it from an input of shape (batch, time_steps, features)",
        )
    features = one_axis(layer, x)
    if layer.channels_first:
        raise refuse(
            layer,
            "its features come before time (data_format='channels_first')",
            "train it with data_format='channels_last'",
        )
    stride = layer.windows[0].stride
    if stride != 1:
        raise refuse(
            layer,
            f"with strides={stride} it gives fewer time steps than it gets",
            "train it with strides=1",
        )
    if layer.windows[0].size > 1 and layer.padding != "causal":
        raise refuse(
            layer,
            f"with padding={layer.padding!r} its outputs depend on time steps that have not come "
            "yet, or fall out of step with its inputs",
            'train it with padding="causal"',
        )
    if isinstance(layer, SeparableConv1D):
        y = _convolve(lowering, layer, x, _apart(layer, layer.depthwise_kernel), None)
        y = lowering.dense(y, layer.pointwise_kernel, layer.bias)
    elif isinstance(layer, DepthwiseConv1D):
        y = _convolve(lowering, layer, x, _apart(layer, layer.kernel), layer.bias)
    else:
        kernel = _ungrouped(layer, layer.kernel, features // layer.kernel.shape[1])
        y = _convolve(lowering, layer, x, kernel, layer.bias)
    return [activate(lowering, layer, y, layer.activation)]


def _convolve(
    lowering: Lowering, layer: Layer, x: Value, kernel: Array, bias: Array | None
) -> Value:
    """A convolution with a kernel (steps, features, filters)."""
    if len(kernel) == 1:
        return lowering.dense(x, kernel[0], bias)
    assert isinstance(layer, _CONVOLUTIONS)
    output = lowering.like(x, (*x.features[:-1], kernel.shape[2]))
    lowering.add(
        "conv",
        name=lowering.state_name(layer.where),
        input=x.number,
        output=output.number,
        kernel=kernel,
        bias=bias,
        dilation=layer.windows[0].dilation,
    )
    return output


def _ungrouped(layer: Layer, kernel: Array, groups: int) -> Array:
    """The kernel over all features, zero where a group does not look."""
    if groups == 1:
        return kernel
    steps, inner, filters = kernel.shape
    each = filters // groups
    full = _zeros(layer, steps, inner * groups, filters)
    for group in range(groups):
        columns = slice(group * each, (group + 1) * each)
        full[:, group * inner : (group + 1) * inner, columns] = kernel[:, :, columns]
    return full


def _apart(layer: Layer, kernel: Array) -> Array:
    """A depthwise kernel (steps, features, multiplier) as one over all features."""
    steps, features, multiplier = kernel.shape
    full = _zeros(layer, steps, features, features * multiplier)
    for feature in range(features):
        full[:, feature, feature * multiplier : (feature + 1) * multiplier] = kernel[:, feature]
    return full


def _zeros(layer: Layer, *shape: int) -> Array:
    if math.prod(shape) > LARGEST:
        raise refuse(
            layer,
            "a plan's kernels go over all features, and its own would take "
            f"{math.prod(shape)} numbers then",
            "train it with fewer features or filters, or without groups",
        )
    return np.zeros(shape, np.float32)
