"""Several inputs as one: arithmetic, concatenation, products. Masks are joined by "or"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.registry import Site, writes


def joined(b: Builder, masks: Sequence[str | None]) -> str | None:
    """Where any is kept; None unless there are all."""
    known = [mask for mask in masks if mask is not None]
    if len(known) < len(masks):
        return None
    return reduce(lambda one, two: one if one == two else b.op("Or", one, two), known)


def _aligned(b: Builder, site: Site) -> tuple[list[str], list[str | None]]:
    """Inputs of equally many axes, and their masks (batch, time_steps, 1) where they fit."""
    longest = max(value.rank for value in site.inputs)
    names, masks = [], []
    for value in site.inputs:
        missing = longest - value.rank
        name = value.name
        if missing:
            name = b.op("Unsqueeze", name, b.ints(*range(1, 1 + missing)))
        names.append(name)
        kept = value.mask if not missing else None
        masks.append(b.op("Unsqueeze", kept, b.ints(-1)) if kept else None)
    return names, masks


def _value(b: Builder, site: Site, name: str) -> list[Value]:
    mask = joined(b, [value.mask for value in site.inputs])
    return [Value(name, site.shapes[0], mask=mask)]


@writes("Add", "Average")
def write_sum(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The sum or the mean."""
    names, _ = _aligned(b, site)
    total = reduce(lambda one, two: b.op("Add", one, two), names)
    if layer.keras_class == "Average":
        total = b.op("Div", total, b.constant(float(len(names))))
    return _value(b, site, total)


@writes("Subtract")
def write_difference(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The first minus the second."""
    names, _ = _aligned(b, site)
    return _value(b, site, b.op("Sub", *names))


@writes("Multiply")
def write_product(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The product; masked numbers count as 1, and where all are masked the result is 0."""
    names, masks = _aligned(b, site)
    factors = [
        b.op("Where", mask, name, b.constant(1.0)) if mask else name
        for name, mask in zip(names, masks, strict=True)
    ]
    output = reduce(lambda one, two: b.op("Mul", one, two), factors)
    kept = joined(b, masks)
    return _value(b, site, b.op("Where", kept, output, b.constant(0.0)) if kept else output)


@writes("Maximum", "Minimum")
def write_extreme(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The largest or smallest of what the masks keep."""
    kind = "Max" if layer.keras_class == "Maximum" else "Min"
    names, masks = _aligned(b, site)
    output, kept = names[0], masks[0]
    for name, mask in zip(names[1:], masks[1:], strict=True):
        other = b.op("Where", mask, name, output) if mask else name
        output = b.op("Where", kept, output, other) if kept else output
        kept = b.op("Or", kept, mask) if kept and mask else None
        output = b.op(kind, output, other)
    return _value(b, site, output)


@writes("Concatenate")
def write_concatenate(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """One after the other; an input without a mask is kept where others have one."""
    rank = site.x.rank
    axis = layer.axis % rank
    output = b.op("Concat", *(value.name for value in site.inputs), axis=axis)
    masks = [value.mask for value in site.inputs]
    if not any(masks):
        return [Value(output, site.shapes[0])]
    if rank != 3:
        raise layer.unsupported(
            f"it joins inputs of {rank} axes with masks. Export the model without the masks, or "
            "run it in Recurra's runtime."
        )
    full = [mask or _all(b, value) for mask, value in zip(masks, site.inputs, strict=True)]
    mask = b.op("Concat", *full, axis=1) if axis == 1 else joined(b, full)
    return [Value(output, site.shapes[0], mask=mask)]


def _all(b: Builder, value: Value) -> str:
    """A mask that keeps every step."""
    shape = b.slice(b.op("Shape", value.name), 0, 0, 2)
    return b.op("Expand", b.constant(True, "bool"), shape)


@writes("Dot")
def write_dot(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Products summed over one axis of each: a matrix product for every row of the batch."""
    sides, rests = [], []
    for value, axis in zip(site.inputs, layer.axes, strict=True):
        place = axis % value.rank
        others = [n for n in range(1, value.rank) if n != place]
        turned = b.transpose(value.name, 0, *others, place)
        if layer.normalize:
            turned = unit(b, turned, 1e-7)
        places = b.size(turned, -1) if value.shape[place] is None else value.shape[place]
        assert places is not None
        sides.append(b.reshape(turned, 0, -1 if others else 1, places))
        rests.append([value.shape[n] or b.size(value.name, n) for n in others])
    product = b.op("MatMul", sides[0], b.transpose(sides[1], 0, 2, 1))
    rest = [*rests[0], *rests[1]] or [1]
    return [Value(b.reshape(product, b.size(site.x.name, 0), *rest), site.shapes[0])]


def unit(b: Builder, x: str, epsilon: float, axes: Sequence[int] = (-1,)) -> str:
    """x divided by its length along axes, or by epsilon if that is larger."""
    squares = b.op("ReduceSum", b.op("Mul", x, x), b.ints(*axes), keepdims=1)
    factor = b.op("Min", b.op("Reciprocal", b.op("Sqrt", squares)), b.constant(1.0 / epsilon))
    return b.op("Mul", x, factor)
