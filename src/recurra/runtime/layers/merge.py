"""Several inputs as one: arithmetic, concatenation, products.

Masks: an output is masked where all inputs are, if all have a mask (Keras joins them by "or").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Mask, Result, Shape, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.results import dropping


class Merge(Layer):
    """Arithmetic of inputs that broadcast; those with fewer axes get more after the batch."""

    most: int | None = None

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        if not shapes or (self.most is not None and len(shapes) != self.most):
            expected = "at least 1" if self.most is None else str(self.most)
            raise self.fail(f"it has {len(shapes)} inputs, but must have {expected}.")
        longest = max(len(shape) for shape in shapes)
        padded = [(s[0], *(1,) * (longest - len(s)), *s[1:]) for s in shapes]
        return [tuple(self._joint(sizes, shapes) for sizes in zip(*padded, strict=True))]

    def _joint(self, sizes: Sequence[int | None], shapes: Sequence[Shape]) -> int | None:
        known = {n for n in sizes if n not in (None, 1)}
        if len(known) > 1:
            listed = ", ".join(read.shown(shape) for shape in shapes)
            raise self.fail(f"its inputs' shapes do not fit each other: {listed}.")
        if None in sizes:
            return None
        return known.pop() if known else 1

    def compute(self, call: Call) -> Result:
        longest = max(x.ndim for x in call.inputs)
        inputs, masks = [], []
        for x, mask in zip(call.inputs, call.masks, strict=True):
            inputs.append(x.reshape(x.shape[0], *(1,) * (longest - x.ndim), *x.shape[1:]))
            masks.append(mask if x.ndim == longest else None)
        try:
            output = self.merge(inputs, masks)
            return Result([output], [joined(call.masks)])
        except ValueError as error:
            listed = ", ".join(str(x.shape) for x in call.inputs)
            raise ValueError(
                f"Layer '{self.where}': its inputs, of shapes {listed}, or their masks do not fit "
                f"each other: {error}"
            ) from None

    def merge(self, inputs: Sequence[Array], masks: Sequence[Mask]) -> Array:
        """The result for inputs of equally many axes."""
        raise NotImplementedError


def joined(masks: Sequence[Mask]) -> Mask:
    """Where any input is kept; None unless all have a mask."""
    found = masks[0]
    for mask in masks:
        if mask is None or found is None:
            return None
        found = found | mask
    return found


def spread(mask: Mask, x: Array) -> Mask:
    """A mask of the leading axes for all numbers of x."""
    return None if mask is None else np.broadcast_to(mask[..., None], x.shape)


@register("Add")
class Add(Merge):
    """The sum."""

    def merge(self, inputs: Sequence[Array], masks: Sequence[Mask]) -> Array:
        output = inputs[0]
        for x in inputs[1:]:
            output = output + x
        return output


@register("Subtract")
class Subtract(Merge):
    """The first minus the second."""

    most = 2

    def merge(self, inputs: Sequence[Array], masks: Sequence[Mask]) -> Array:
        return inputs[0] - inputs[1]


@register("Average")
class Average(Add):
    """The mean."""

    def merge(self, inputs: Sequence[Array], masks: Sequence[Mask]) -> Array:
        return super().merge(inputs, masks) / np.float32(len(inputs))


@register("Multiply")
class Multiply(Merge):
    """The product; masked numbers count as 1, and where all are masked the result is 0."""

    def merge(self, inputs: Sequence[Array], masks: Sequence[Mask]) -> Array:
        output: Array | None = None
        kept: Mask = None
        for x, mask in zip(inputs, masks, strict=True):
            wide = spread(mask, x)
            factor = x if wide is None else np.where(wide, x, np.float32(1))
            output = factor if output is None else output * factor
            if wide is not None:
                kept = wide if kept is None else kept | wide
        assert output is not None
        if kept is None or any(mask is None for mask in masks):
            return output
        return np.where(kept, output, np.float32(0))


class Extreme(Merge):
    """The maximum or minimum of what the masks keep."""

    choose: Callable[[Array, Array], Array]

    def merge(self, inputs: Sequence[Array], masks: Sequence[Mask]) -> Array:
        output, kept = inputs[0], spread(masks[0], inputs[0])
        for x, mask in zip(inputs[1:], masks[1:], strict=True):
            wide = spread(mask, x)
            other = x if wide is None else np.where(wide, x, output)
            output = output if kept is None else np.where(kept, output, other)
            kept = kept | wide if kept is not None and wide is not None else None
            output = type(self).choose(output, other)
        return output


@register("Maximum")
class Maximum(Extreme):
    """The largest."""

    choose = np.maximum


@register("Minimum")
class Minimum(Extreme):
    """The smallest."""

    choose = np.minimum


@register("Concatenate")
class Concatenate(Layer):
    """One input after the other along an axis.

    Attributes:
        axis: as configured; -1 is the last.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.axis = read.integer(config, "axis", where, least=-32, most=31, default=-1)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        if not shapes:
            raise self.fail("it has no inputs.")
        place = read.axis(self.axis, len(shapes[0]), self.where)
        if place == 0:
            raise self.unsupported("it joins batches: rows would depend on each other.")
        result: list[int | None] = []
        for index in range(len(shapes[0])):
            sizes = [shape[index] if len(shape) == len(shapes[0]) else -1 for shape in shapes]
            known = [n for n in sizes if n is not None]
            if index == place and -1 not in known:
                result.append(sum(known) if len(known) == len(sizes) else None)
            elif len(set(known)) > 1 or -1 in known:
                listed = ", ".join(read.shown(shape) for shape in shapes)
                raise self.fail(
                    f"its inputs' shapes must be equal except at axis {place}: {listed}."
                )
            else:
                result.append(known[0] if known else None)
        return [tuple(result)]

    def compute(self, call: Call) -> Result:
        output = np.concatenate(call.inputs, axis=self.axis)
        if all(mask is None for mask in call.masks):
            return dropping(output)
        masks = []
        for x, mask in zip(call.inputs, call.masks, strict=True):
            if mask is None:
                masks.append(np.broadcast_to(np.True_, x.shape))
            else:
                wide = mask[..., None] if mask.ndim < x.ndim else mask
                masks.append(np.broadcast_to(wide, x.shape))
        return Result([output], [np.any(np.concatenate(masks, axis=self.axis), axis=-1)])


@register("Dot")
class Dot(Layer):
    """Products of two inputs, summed over one axis of each; the result has no mask.

    Attributes:
        axes: of the first and of the second input, as configured.
        normalize: whether both are divided by their lengths before.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.axes = read.integers(config, "axes", where, count=2, least=-32, most=31)
        self.normalize = read.boolean(config, "normalize", where, default=False)

    def _places(self, shapes: Sequence[Shape]) -> tuple[int, int]:
        if len(shapes) != 2:
            raise self.fail(f"it has {len(shapes)} inputs, but must have 2.")
        first, second = (
            read.axis(axis, read.rank(shape, self.where, least=2), self.where, "axes")
            for axis, shape in zip(self.axes, shapes, strict=True)
        )
        if 0 in (first, second):
            raise read.wrong(self.where, "axes", self.axes, "axes other than the batch's")
        sizes = shapes[0][first], shapes[1][second]
        if None not in sizes and sizes[0] != sizes[1]:
            raise self.fail(
                f"its inputs have {sizes[0]} and {sizes[1]} places along axes {self.axes}."
            )
        return first, second

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        first, second = self._places(shapes)
        left, right = list(shapes[0]), list(shapes[1])
        del left[first], right[second]
        shape = (*left, *right[1:])
        return [shape if len(shape) > 1 else (*shape, 1)]

    def compute(self, call: Call) -> Result:
        first, second = self._places([x.shape for x in call.inputs])
        x, y = (
            np.moveaxis(array, place, -1)
            for array, place in zip(call.inputs, (first, second), strict=True)
        )
        if self.normalize:
            x, y = unit(x, 1e-7), unit(y, 1e-7)
        rows, places = x.shape[0], x.shape[-1]
        left = x.reshape(rows, -1 if x.size else 0, places)
        right = y.reshape(rows, -1 if y.size else 0, places)
        shape = (*x.shape[:-1], *y.shape[1:-1])
        product = np.matmul(left, right.swapaxes(1, 2))
        return dropping(product.reshape(shape if len(shape) > 1 else (*shape, 1)))


def unit(x: Array, epsilon: float, axis: int | tuple[int, ...] = -1) -> Array:
    """x divided by its Euclidean length along `axis`, or by `epsilon` if that is larger."""
    with np.errstate(all="ignore"):
        squares = np.sum(np.square(x), axis=axis, keepdims=True, dtype=np.float64)
        return (x * np.minimum(1.0 / np.sqrt(squares), 1.0 / epsilon)).astype(np.float32)
