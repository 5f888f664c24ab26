"""What layers share: results with and without a mask, and axes along which they work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.layer import Array, Call, Layer, Result, Shape
from recurra.runtime.layers import config as read


def keeping(call: Call, output: Array) -> Result:
    """One output with the first input's mask."""
    return Result([output], [call.masks[0]])


def dropping(output: Array) -> Result:
    """One output without a mask: what Keras gives where a layer does not support masks."""
    return Result([output], [None])


class AlongAxes(Layer):
    """A layer that works along the axes of its configuration's `axis`.

    Attributes:
        axis: the axes, counted from the front, batch included.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.axis: tuple[int, ...] = ()

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        self.axis = read.axes(self.config.get("axis", -1), len(shapes[0]), self.where)
        if 0 in self.axis:
            raise self.unsupported("its axis is the batch's: rows would depend on each other.")
