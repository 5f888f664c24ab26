"""Layers that move, repeat or cut numbers and leave them as they are. Keras drops masks here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Call, Layer, Result, Shape, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.results import dropping


@register("Flatten")
class Flatten(Layer):
    """All axes but the batch as one."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.channels_first = read.data_format(config, where) == "channels_first"

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch, *rest = shapes[0]
        sizes = [n for n in rest if n is not None]
        return [(batch, math.prod(sizes) if len(sizes) == len(rest) else None)]

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        if self.channels_first and x.ndim > 1:
            x = np.moveaxis(x, 1, -1)
        return dropping(x.reshape(x.shape[0], math.prod(x.shape[1:])))


@register("Reshape")
class Reshape(Layer):
    """The same numbers in another shape.

    Attributes:
        target_shape: without the batch; at most one -1, which takes what is left.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.target_shape = read.integers(config, "target_shape", where, least=-1)
        if 0 in self.target_shape or self.target_shape.count(-1) > 1 or len(self.target_shape) > 31:
            raise read.wrong(
                where, "target_shape", self.target_shape, "sizes from 1, or -1 in one place"
            )

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch, *rest = shapes[0]
        sizes = [n for n in rest if n is not None]
        if len(sizes) < len(rest):
            return [(batch, *(None if n == -1 else n for n in self.target_shape))]
        return [(batch, *self._target(sizes))]

    def _target(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The target for an input of these sizes, -1 replaced."""
        numbers = math.prod(sizes)
        known = math.prod(n for n in self.target_shape if n != -1)
        left = numbers // known
        if left * known != numbers or (-1 not in self.target_shape and left != 1):
            raise self.fail(
                f"an input of shape {tuple(sizes)}, without the batch, cannot have the shape "
                f"{self.target_shape}: it has {numbers} numbers."
            )
        return tuple(left if n == -1 else n for n in self.target_shape)

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        return dropping(x.reshape(x.shape[0], *self._target(x.shape[1:])))


@register("Permute")
class Permute(Layer):
    """The axes in another order.

    Attributes:
        dims: the input's axes in the output's order, counted from 1: the batch is not among them.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.dims = read.integers(config, "dims", where, most=31)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise read.wrong(where, "dims", self.dims, "the numbers from 1 on, each of them once")

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        rank = len(self.dims) + 1
        read.rank(shapes[0], self.where, least=rank, most=rank)
        return [(shapes[0][0], *(shapes[0][n] for n in self.dims))]

    def compute(self, call: Call) -> Result:
        return dropping(np.ascontiguousarray(call.inputs[0].transpose(0, *self.dims)))


@register("RepeatVector")
class RepeatVector(Layer):
    """(batch, features) at each of n steps.

    Attributes:
        n: how many.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.n = read.integer(config, "n", where)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        read.rank(shapes[0], self.where, least=2, most=2)
        return [read.bounded((shapes[0][0], self.n, shapes[0][1]), self.where)]

    def compute(self, call: Call) -> Result:
        return dropping(np.repeat(call.inputs[0][:, None], self.n, axis=1))


class Steps(Layer):
    """A layer for (batch, time_steps, features)."""

    def check(self, shapes: Sequence[Shape]) -> Shape:
        """The input's shape, if it has three axes."""
        read.rank(shapes[0], self.where, least=3, most=3)
        return shapes[0]


@register("Cropping1D")
class Cropping1D(Steps):
    """Without its first and last steps.

    Attributes:
        cropping: how many steps at the start and at the end.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.cropping = read.integers(config, "cropping", where, count=2, least=0, default=(1, 1))

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch, steps, features = self.check(shapes)
        return [(batch, None if steps is None else self._left(steps), features)]

    def _left(self, steps: int) -> int:
        left = steps - sum(self.cropping)
        if left <= 0:
            raise self.fail(f"cropping {self.cropping} leaves nothing of {steps} time steps.")
        return left

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        start = self.cropping[0]
        return dropping(x[:, start : start + self._left(x.shape[1])])


@register("ZeroPadding1D")
class ZeroPadding1D(Steps):
    """Zeros before the first step and after the last.

    Attributes:
        padding: how many steps of them, before and after.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.padding = read.integers(config, "padding", where, count=2, least=0, default=1)
        self.axis = 2 if read.data_format(config, where) == "channels_first" else 1

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        shape = list(self.check(shapes))
        before = shape[self.axis]
        # Even of a free number of steps it must be known that the zeros alone are not too many.
        added = [sum(self.padding) if place == self.axis else n for place, n in enumerate(shape)]
        read.bounded(tuple(added), self.where)
        shape[self.axis] = None if before is None else before + sum(self.padding)
        return [read.bounded(tuple(shape), self.where)]

    def compute(self, call: Call) -> Result:
        widths = [self.padding if axis == self.axis else (0, 0) for axis in range(3)]
        return dropping(np.pad(call.inputs[0], widths))


@register("UpSampling1D")
class UpSampling1D(Steps):
    """Each step several times.

    Attributes:
        size: how often.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.size = read.integers(config, "size", where, count=1, default=2)[0]

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch, steps, features = self.check(shapes)
        read.bounded((batch, self.size, features), self.where)
        longer = None if steps is None else steps * self.size
        return [read.bounded((batch, longer, features), self.where)]

    def compute(self, call: Call) -> Result:
        return dropping(np.repeat(call.inputs[0], self.size, axis=1))
