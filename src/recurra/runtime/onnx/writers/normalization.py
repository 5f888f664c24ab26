"""Normalization with statistics that are stored, and with the input's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.merge import unit
from recurra.runtime.onnx.writers.registry import Site, writes


def _affine(
    b: Builder, site: Site, shift: str | None, scale: str | None, offset: str | None
) -> Sequence[Value]:
    """(x - shift) * scale + offset."""
    y = site.x.name
    for kind, operand in (("Sub", shift), ("Mul", scale), ("Add", offset)):
        y = b.op(kind, y, operand) if operand else y
    return [Value(y, site.shapes[0], mask=site.x.mask)]


def _along(b: Builder, value: str, layer: Any) -> str:
    """Statistics with the axes that they have beside the input."""
    shape = layer.scale.shape
    return value if len(shape) < 2 else b.reshape(value, *shape)


@writes("BatchNormalization", "SyncBatchNormalization")
def write_batch_normalization(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """With the moving mean and variance."""
    variance = b.variable(layer, "moving_variance")
    scale = b.op("Reciprocal", b.op("Sqrt", b.op("Add", variance, b.constant(layer.epsilon))))
    if layer.scaled:
        scale = b.op("Mul", scale, b.variable(layer, "gamma"))
    shift = b.variable(layer, "moving_mean")
    offset = _along(b, b.variable(layer, "beta"), layer) if layer.center else None
    return _affine(b, site, _along(b, shift, layer), _along(b, scale, layer), offset)


@writes("Normalization")
def write_normalization(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """With a mean and a variance that were measured or given; or the way back."""
    if layer.mean is not None:
        shift, scale, offset = (
            b.constant(each) for each in (layer.shift, layer.scale, layer.offset)
        )
        return _affine(b, site, shift, scale, offset)
    mean = _along(b, b.variable(layer, "mean"), layer)
    root = b.op("Sqrt", b.variable(layer, "variance"))
    deviation = _along(b, b.op("Max", root, b.constant(1e-7)), layer)
    if layer.invert:
        return _affine(b, site, None, deviation, mean)
    return _affine(b, site, mean, b.op("Reciprocal", deviation), None)


@writes("Rescaling")
def write_rescaling(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """x * scale + offset."""
    return _affine(b, site, None, b.constant(layer.scale), b.constant(layer.offset))


def _scaled(b: Builder, layer: Any, site: Site, y: str, masked: bool = True) -> Sequence[Value]:
    """y with its factors and offsets."""
    names = [variable.name for variable in layer.variables()]
    for kind, value, name in zip(
        ("Mul", "Add"), (layer.gamma, layer.beta), ("gamma", "beta"), strict=True
    ):
        if value is not None:
            stored = b.variable(layer, name if name in names else "scale")
            y = b.op(kind, y, b.reshape(stored, *value.shape) if value.ndim > 1 else stored)
    return [Value(y, site.shapes[0], mask=site.x.mask if masked else None)]


def _divided(b: Builder, y: str, x: str, axes: Sequence[int], epsilon: float) -> str:
    """y divided by the root of the mean square of x (and epsilon)."""
    squares = b.op("ReduceMean", b.op("Mul", x, x), axes=list(axes), keepdims=1)
    return b.op("Div", y, b.op("Sqrt", b.op("Add", squares, b.constant(epsilon))))


def _centered(b: Builder, x: str, axes: Sequence[int]) -> str:
    return b.op("Sub", x, b.op("ReduceMean", x, axes=list(axes), keepdims=1))


@writes("LayerNormalization")
def write_layer_normalization(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """ONNX's operator where it is the features that are normalized, with factors."""
    x = site.x
    if layer.axis == (x.rank - 1,) and layer.gamma is not None and not layer.rms_scaling:
        names = ["gamma"] if layer.beta is None else ["gamma", "beta"]
        stored = [b.variable(layer, name) for name in names]
        y = b.op("LayerNormalization", x.name, *stored, axis=-1, epsilon=layer.epsilon)
        return [Value(y, site.shapes[0], mask=x.mask)]
    centered = _centered(b, x.name, layer.axis)
    kept = x.name if layer.rms_scaling else centered
    return _scaled(b, layer, site, _divided(b, kept, centered, layer.axis, layer.epsilon))


@writes("RMSNormalization")
def write_rms_normalization(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Divided by the root of the mean square; Keras drops masks here."""
    x = site.x.name
    y = _divided(b, x, x, layer.axis, layer.epsilon)
    return _scaled(b, layer, site, y, masked=False)


@writes("GroupNormalization")
def write_group_normalization(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Each group of features over all other axes but the batch."""
    x, place = site.x, layer.axis[0]
    features = x.shape[place]
    assert features is not None
    rest = [x.shape[n] or b.size(x.name, n) for n in range(place + 1, x.rank)]
    groups = [layer.groups, features // layer.groups]
    split = b.reshape(x.name, *(0 for _ in range(place)), *groups, *rest)
    others = [n for n in range(1, x.rank + 1) if n != place]
    centered = _centered(b, split, others)
    y = _divided(b, centered, centered, others, layer.epsilon)
    return _scaled(b, layer, site, b.op("Reshape", y, b.op("Shape", x.name)))


@writes("UnitNormalization")
def write_unit_normalization(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Divided by its length."""
    y = unit(b, site.x.name, 1e-12, layer.axis)
    return [Value(y, site.shapes[0], mask=site.x.mask)]
