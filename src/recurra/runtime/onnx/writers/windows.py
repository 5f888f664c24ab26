"""Convolutions and pooling. ONNX has the features before the steps, so they are moved and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.activations import write_activation
from recurra.runtime.onnx.writers.registry import Site, writes

FOREVER = 2**62
"""As the end of a slice: up to the last."""


def _features_first(b: Builder, layer: Any, x: str) -> str:
    """x (batch, ..., features) as (batch, features, ...)."""
    axes = len(layer.windows)
    return x if layer.channels_first else b.transpose(x, 0, axes + 1, *range(1, axes + 1))


def _features_last(b: Builder, layer: Any, y: str) -> str:
    axes = len(layer.windows)
    return y if layer.channels_first else b.transpose(y, 0, *range(2, axes + 2), 1)


def _padding(layer: Any) -> dict[str, Any]:
    """The attributes that say where windows start; with strides that hangs on the length."""
    if layer.padding == "valid":
        return {}
    if layer.padding == "same" and any(window.stride > 1 for window in layer.windows):
        return {"auto_pad": "SAME_UPPER"}
    missing = [window.span - 1 for window in layer.windows]
    if layer.padding == "causal":
        return {"pads": [*missing, *(0 for _ in missing)]}
    return {"pads": [*(n // 2 for n in missing), *(n - n // 2 for n in missing)]}


def _with_history(b: Builder, layer: Any, x: Value) -> str:
    """The input after the steps that the windows still see from earlier calls."""
    steps = layer.windows[0].span - 1
    history, number = b.state(f"{layer.where}/history", (None, steps, x.shape[2]))
    longer = b.op("Concat", history, x.name, axis=1)
    b.give_state(number, b.slice(longer, 1, -steps, FOREVER))
    return longer


def _convolution(
    b: Builder, layer: Any, x: str, kernel: str, group: int, pads: dict[str, Any]
) -> str:
    return b.op(
        "Conv",
        x,
        kernel,
        group=group,
        strides=[window.stride for window in layer.windows],
        dilations=[window.dilation for window in layer.windows],
        **pads,
    )


def _write(b: Builder, layer: Any, site: Site, variable: str, grouped: bool) -> str:
    """The sums over all windows, features last."""
    x, pads = site.x.name, _padding(layer)
    if b.stateful and layer.windows[0].span > 1:
        x, pads = _with_history(b, layer, site.x), {}
    axes = range(len(layer.windows))
    count = len(axes)
    first = _features_first(b, layer, x)
    if grouped:
        kernel = b.variable(layer, variable, count + 1, count, *axes)
        return _convolution(b, layer, first, kernel, layer.groups, pads)
    # A kernel for each feature: (features, depth_multiplier, ...), as a group of its own.
    kernel = b.variable(layer, variable, count, count + 1, *axes)
    features = site.x.shape[1 if layer.channels_first else -1]
    assert features is not None
    sizes = [window.size for window in layer.windows]
    return _convolution(b, layer, first, b.reshape(kernel, -1, 1, *sizes), features, pads)


def _finish(b: Builder, layer: Any, site: Site, y: str) -> Sequence[Value]:
    """Bias and activation of y (batch, filters, ...)."""
    last = _features_last(b, layer, y)
    if layer.use_bias:
        bias = b.variable(layer, "bias")
        if layer.channels_first:
            bias = b.reshape(bias, -1, *(1 for _ in layer.windows))
        last = b.op("Add", last, bias)
    return [Value(write_activation(b, layer.activation, last), site.shapes[0])]


@writes("Conv1D", "Convolution1D", "Conv2D", "Convolution2D", "Conv3D", "Convolution3D")
def write_convolution(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A kernel for all features, or within groups of them."""
    return _finish(b, layer, site, _write(b, layer, site, "kernel", True))


@writes("DepthwiseConv1D", "DepthwiseConv2D")
def write_depthwise(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A kernel for every feature."""
    name = layer.variables()[0].name
    return _finish(b, layer, site, _write(b, layer, site, name, False))


@writes("SeparableConv1D", "SeparableConvolution1D", "SeparableConv2D", "SeparableConvolution2D")
def write_separable(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A kernel for every feature, then a product over the features."""
    between = _write(b, layer, site, "depthwise_kernel", False)
    count = len(layer.windows)
    kernel = b.variable(layer, "pointwise_kernel", count + 1, count, *range(count))
    return _finish(b, layer, site, b.op("Conv", between, kernel))


def _pool(b: Builder, layer: Any, site: Site, kind: str, **attributes: Any) -> Sequence[Value]:
    pads = {} if layer.padding == "valid" else {"auto_pad": "SAME_UPPER"}
    y = b.op(
        kind,
        _features_first(b, layer, site.x.name),
        kernel_shape=[window.size for window in layer.windows],
        strides=[window.stride for window in layer.windows],
        **pads,
        **attributes,
    )
    return [Value(_features_last(b, layer, y), site.shapes[0])]


@writes("MaxPooling1D", "MaxPool1D", "MaxPooling2D", "MaxPool2D")
def write_max_pooling(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The largest of each window."""
    return _pool(b, layer, site, "MaxPool")


@writes("AveragePooling1D", "AvgPool1D", "AveragePooling2D", "AvgPool2D")
def write_average_pooling(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The mean of each window; padding does not count."""
    return _pool(b, layer, site, "AveragePool", count_include_pad=0)


@writes("GlobalMaxPooling1D", "GlobalMaxPool1D", "GlobalMaxPooling2D", "GlobalMaxPool2D")
def write_global_max(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The largest of all steps, masked or not, as in Keras."""
    y = b.op("ReduceMax", site.x.name, axes=list(layer.over), keepdims=int(layer.keepdims))
    return [Value(y, site.shapes[0])]


@writes("GlobalAveragePooling1D", "GlobalAvgPool1D", "GlobalAveragePooling2D", "GlobalAvgPool2D")
def write_global_average(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The mean of the steps that the mask keeps."""
    x, keep = site.x, int(layer.keepdims)
    if x.mask is None or len(layer.over) > 1:
        y = b.op("ReduceMean", x.name, axes=list(layer.over), keepdims=keep)
        return [Value(y, site.shapes[0])]
    kept = b.op("Unsqueeze", x.mask, b.ints(1 if layer.channels_first else 2))
    over = b.ints(*layer.over)
    numbers = b.op("Where", kept, x.name, b.constant(0.0))
    total = b.op("ReduceSum", numbers, over, keepdims=keep)
    count = b.op("ReduceSum", b.cast(kept, "float32"), over, keepdims=keep)
    return [Value(b.op("Div", total, count), site.shapes[0])]
