"""Lowering layers that multiply by weights or look them up: dense, convolution, embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Layer
from recurra.runtime.layers.convolution import Conv1D, DepthwiseConv1D, SeparableConv1D
from recurra.runtime.layers.core import Embedding, Masking
from recurra.runtime.layers.dense import Dense
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, one_axis, refuse
from recurra.runtime.streaming.pointwise import activate

_CONVOLUTIONS = (Conv1D, DepthwiseConv1D, SeparableConv1D)


def dense(lowering: Lowering, x: Value, kernel: Array, bias: Array | None) -> Value:
    """x · kernel + bias over the last axis."""
    output = lowering.like(x, (*x.features[:-1], kernel.shape[1]))
    lowering.add("dense", input=x.number, output=output.number, kernel=kernel, bias=bias)
    return output


@lowers(Dense)
def lower_dense(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Dense."""
    assert isinstance(layer, Dense)
    (x,) = inputs
    one_axis(layer, x)
    y = dense(lowering, x, layer.kernel, layer.bias)
    return [activate(lowering, layer, y, layer.activation)]


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
    if isinstance(layer, SeparableConv1D):
        y = _convolve(lowering, layer, x, _apart(layer.depthwise_kernel), None)
        y = dense(lowering, y, layer.pointwise_kernel, layer.bias)
    elif isinstance(layer, DepthwiseConv1D):
        y = _convolve(lowering, layer, x, _apart(layer.kernel), layer.bias)
    else:
        kernel = _ungrouped(layer.kernel, features // layer.kernel.shape[1])
        y = _convolve(lowering, layer, x, kernel, layer.bias)
    return [activate(lowering, layer, y, layer.activation)]


def _convolve(
    lowering: Lowering, layer: Layer, x: Value, kernel: Array, bias: Array | None
) -> Value:
    """A convolution with a kernel (steps, features, filters)."""
    if len(kernel) == 1:
        return dense(lowering, x, kernel[0], bias)
    assert isinstance(layer, _CONVOLUTIONS)
    if layer.padding != "causal":
        raise refuse(
            layer,
            f"with padding={layer.padding!r} its outputs depend on time steps that have not come "
            "yet, or fall out of step with its inputs",
            'train it with padding="causal"',
        )
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


def _ungrouped(kernel: Array, groups: int) -> Array:
    """The kernel over all features, zero where a group does not look."""
    if groups == 1:
        return kernel
    steps, inner, filters = kernel.shape
    each = filters // groups
    full = np.zeros((steps, inner * groups, filters), np.float32)
    for group in range(groups):
        columns = slice(group * each, (group + 1) * each)
        full[:, group * inner : (group + 1) * inner, columns] = kernel[:, :, columns]
    return full


def _apart(kernel: Array) -> Array:
    """A depthwise kernel (steps, features, multiplier) as one over all features."""
    steps, features, multiplier = kernel.shape
    full = np.zeros((steps, features, features * multiplier), np.float32)
    for feature in range(features):
        full[:, feature, feature * multiplier : (feature + 1) * multiplier] = kernel[:, feature]
    return full


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
    lowering.add("embedding", input=x.number, output=output.number, table=layer.table)
    if layer.mask_zero and x.timed:
        output = replace(output, mask=lowering.id_mask(x))
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
    return [replace(x, number=number, mask=mask)]
