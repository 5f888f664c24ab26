"""Activations as layers of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Mask, Result, Shape, Variable, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.activations import (
    Activation,
    activation,
    elu_object,
    leaky_relu_object,
    make,
    relu_object,
)
from recurra.runtime.layers.functions import softmax
from recurra.runtime.layers.results import AlongAxes, keeping


class ActivationLayer(Layer):
    """A function of every number.

    Attributes:
        activation: the function.
    """

    activation: Activation

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.activation.shape(shapes[0])]

    def compute(self, call: Call) -> Result:
        return keeping(call, self.activation(call.inputs[0]))


@register("Activation")
class NamedActivation(ActivationLayer):
    """An activation by name."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.activation = activation(config.get("activation"), where)


@register("ReLU")
class ReLU(ActivationLayer):
    """relu with its parameters."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.activation = relu_object(config, where)


@register("ThresholdedReLU")
class ThresholdedReLU(ActivationLayer):
    """Keras 2's layer: x above theta, 0 elsewhere."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        theta = read.number(config, "theta", where, least=0.0, default=1.0)
        self.activation = make("relu", threshold=theta)


@register("LeakyReLU")
class LeakyReLU(ActivationLayer):
    """leaky_relu with its slope."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.activation = leaky_relu_object(config, where)


@register("ELU")
class ELU(ActivationLayer):
    """elu with its alpha."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.activation = elu_object(config, where)


@register("PReLU")
class PReLU(Layer):
    """x above 0, alpha * x below, with an alpha for each place or shared along axes.

    Attributes:
        alpha: of the input's shape without the batch; 1 along shared axes.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.shared: tuple[int, ...] = ()
        if config.get("shared_axes") is not None:
            self.shared = read.integers(config, "shared_axes", where, most=32)

    def variables(self) -> Sequence[Variable]:
        return (Variable("alpha"),)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        rank = read.rank(shapes[0], self.where, least=2)
        if max(self.shared, default=0) >= rank:
            raise read.wrong(self.where, "shared_axes", self.shared, f"axes below {rank}")
        shape = [
            1 if place in self.shared else read.size(shapes[0], place, self.where, "size")
            for place in range(1, rank)
        ]
        self.alpha: Array = read.weight(weights, "alpha", shape, self.where)

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        return keeping(call, np.maximum(x, 0.0) + self.alpha * np.minimum(x, 0.0))


@register("Softmax")
class Softmax(AlongAxes):
    """Softmax over one axis or several; where the mask is False, the result is 0."""

    def compute(self, call: Call) -> Result:
        x, mask = call.inputs[0], call.masks[0]
        return keeping(call, masked_softmax(x, self._fitting(mask, x), self.axis))

    def _fitting(self, mask: Mask, x: Array) -> Mask:
        if mask is None:
            return None
        lengths = zip(mask.shape[::-1], x.shape[::-1], strict=False)
        if mask.ndim > x.ndim or any(m not in (1, n) for m, n in lengths):
            raise self.unsupported(
                f"its input of shape {x.shape} has a mask of shape {mask.shape}, which does not "
                "broadcast to it (nor can Keras use it). Use Activation('softmax'), which leaves "
                "masks alone."
            )
        return mask if mask.dtype == bool else mask > 0.5


MASKED = np.float32(-1e9)
"""What Keras puts in place of masked scores."""


def masked_softmax(x: Array, mask: Mask, axis: int | tuple[int, ...]) -> Array:
    """Softmax over `axis` of where `mask` (broadcast to `x`) is True; 0 elsewhere."""
    with np.errstate(all="ignore"):
        if mask is None:
            return softmax(x, axis)
        return np.where(mask, softmax(np.where(mask, x, MASKED), axis), np.float32(0))
