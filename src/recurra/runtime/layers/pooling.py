"""Maxima and averages over windows, and over all steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Result, Shape, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.results import dropping
from recurra.runtime.layers.windows import counts, grid, meetings


class Pooling(Layer):
    """A window's maximum or average, feature by feature; Keras drops masks here.

    Attributes:
        windows: along each axis.
        padding: "valid" or "same".
    """

    axes: ClassVar[int]

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.windows = grid(config, where, self.axes, "pool_size", ("valid", "same"))
        self.padding = self.windows[0].padding
        self.channels_first = read.data_format(config, where) == "channels_first"

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        rank = self.axes + 2
        read.rank(shapes[0], self.where, least=rank, most=rank)
        if self.channels_first:
            batch, features, *inner = shapes[0]
        else:
            batch, *inner, features = shapes[0]
        found = counts(self.windows, tuple(inner), self.where)
        return [(batch, features, *found) if self.channels_first else (batch, *found, features)]

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        x = np.moveaxis(x, 1, -1) if self.channels_first else x
        found = counts(self.windows, x.shape[1:-1], self.where)
        y = self.pool(x, (x.shape[0], *(n or 0 for n in found), x.shape[-1]))
        return dropping(np.moveaxis(y, -1, 1) if self.channels_first else y)

    def pool(self, x: Array, shape: tuple[int, ...]) -> Array:
        """x (batch, ..., features) pooled; `shape` is the result's."""
        raise NotImplementedError


class MaxPooling(Pooling):
    """The largest of a window; padding never is."""

    def pool(self, x: Array, shape: tuple[int, ...]) -> Array:
        y = np.full(shape, -np.inf, np.float32)
        for _, outputs, inputs in meetings(self.windows, x):
            np.maximum(y[outputs], x[inputs], out=y[outputs])
        return y


class AveragePooling(Pooling):
    """The mean of a window; padding does not count."""

    def pool(self, x: Array, shape: tuple[int, ...]) -> Array:
        y = np.zeros(shape, np.float32)
        inside = np.zeros((1, *shape[1:-1], 1), np.float32)
        for _, outputs, inputs in meetings(self.windows, x):
            y[outputs] += x[inputs]
            inside[outputs] += 1.0
        return y / inside


@register("MaxPooling1D", "MaxPool1D")
class MaxPooling1D(MaxPooling):
    """Over one axis."""

    axes = 1


@register("MaxPooling2D", "MaxPool2D")
class MaxPooling2D(MaxPooling):
    """Over two axes."""

    axes = 2


@register("AveragePooling1D", "AvgPool1D")
class AveragePooling1D(AveragePooling):
    """Over one axis."""

    axes = 1


@register("AveragePooling2D", "AvgPool2D")
class AveragePooling2D(AveragePooling):
    """Over two axes."""

    axes = 2


class GlobalPooling(Layer):
    """One number for all places of a feature; the result has no mask.

    Attributes:
        keepdims: whether the axes stay, with one place.
    """

    axes: ClassVar[int]

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.keepdims = read.boolean(config, "keepdims", where, default=False)
        self.channels_first = read.data_format(config, where) == "channels_first"
        start = 2 if self.channels_first else 1
        self.over = tuple(range(start, start + self.axes))

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        rank = self.axes + 2
        read.rank(shapes[0], self.where, least=rank, most=rank)
        ones = [1 if place in self.over else n for place, n in enumerate(shapes[0])]
        left = [n for place, n in enumerate(shapes[0]) if place not in self.over]
        return [tuple(ones if self.keepdims else left)]


class GlobalMaxPooling(GlobalPooling):
    """The maximum over all steps, masked or not, as in Keras."""

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        if 0 in [x.shape[axis] for axis in self.over]:
            raise ValueError(f"Layer '{self.where}': there is no maximum over 0 time steps.")
        return dropping(np.max(x, axis=self.over, keepdims=self.keepdims))


class GlobalAveragePooling(GlobalPooling):
    """The mean over the steps that the mask keeps; NaN in rows where it keeps none."""

    def compute(self, call: Call) -> Result:
        x, mask = call.inputs[0], call.masks[0]
        count: Any = np.prod([x.shape[axis] for axis in self.over])
        if mask is not None and self.axes == 1:
            kept = np.expand_dims(mask, 1 if self.channels_first else 2)
            x = np.where(kept, x, np.float32(0))
            count = np.sum(kept, axis=self.over, keepdims=self.keepdims)
        # In double precision: sums of many numbers would lose digits otherwise.
        total = np.sum(x, axis=self.over, keepdims=self.keepdims, dtype=np.float64)
        with np.errstate(all="ignore"):
            return dropping(np.asarray(total / count, np.float32))


@register("GlobalMaxPooling1D", "GlobalMaxPool1D")
class GlobalMaxPooling1D(GlobalMaxPooling):
    """Over one axis."""

    axes = 1


@register("GlobalMaxPooling2D", "GlobalMaxPool2D")
class GlobalMaxPooling2D(GlobalMaxPooling):
    """Over two axes."""

    axes = 2


@register("GlobalAveragePooling1D", "GlobalAvgPool1D")
class GlobalAveragePooling1D(GlobalAveragePooling):
    """Over one axis."""

    axes = 1


@register("GlobalAveragePooling2D", "GlobalAvgPool2D")
class GlobalAveragePooling2D(GlobalAveragePooling):
    """Over two axes."""

    axes = 2
