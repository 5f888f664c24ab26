"""Adding what joins several values: arithmetic, features side by side, masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recurra.runtime.layer import Layer
from recurra.runtime.streaming.activation import last_axis_only
from recurra.runtime.streaming.lowering import Lowering, Value, one_axis, refuse


def merge(lowering: Lowering, layer: Layer, function: str, inputs: Sequence[Value]) -> Value:
    """Values joined by "add", "subtract", "multiply", "average", "maximum" or "minimum"."""
    same_kind(layer, inputs)
    features = np.broadcast_shapes(*(value.features for value in inputs))
    wide = [widened(lowering, layer, value, features) for value in inputs]
    return joined(lowering, merged(lowering, function, wide), inputs)


def merged(lowering: Lowering, function: str, inputs: Sequence[Value]) -> Value:
    """The same for values of the same features, without a mask of their own."""
    output = lowering.like(inputs[0])
    numbers = [value.number for value in inputs]
    lowering.add("merge", function=function, inputs=numbers, output=output.number)
    return output


def concatenate(lowering: Lowering, layer: Layer, inputs: Sequence[Value], axis: int) -> Value:
    """Values side by side, along the features."""
    same_kind(layer, inputs)
    for value in inputs:
        last_axis_only(layer, value, [axis])
    features = (*inputs[0].features[:-1], sum(value.features[-1] for value in inputs))
    output = lowering.like(inputs[0], features)
    numbers = [value.number for value in inputs]
    lowering.add("concat", inputs=numbers, output=output.number)
    return joined(lowering, output, inputs)


def joined(lowering: Lowering, output: Value, inputs: Sequence[Value]) -> Value:
    """The output with the inputs' mask, and running if one of them is."""
    mask = joined_mask(lowering, inputs)
    return output._replace(mask=mask, running=any(value.running for value in inputs))


def same_kind(layer: Layer, inputs: Sequence[Value]) -> None:
    """Refuse to join values with and without time steps."""
    if len({value.kind for value in inputs}) > 1:
        raise refuse(
            layer,
            "it joins values that have time steps with values that have none",
            "give the latter with every time step, as an input of shape (batch, time_steps, "
            "features)",
        )


def widened(lowering: Lowering, layer: Layer, value: Value, features: tuple[int, ...]) -> Value:
    """The value with its one feature repeated as often as the others have."""
    if value.features == features:
        return value
    if one_axis(layer, value) != 1 or len(features) != len(value.features):
        raise refuse(
            layer, f"its inputs have features of shapes {value.features} and {features}", ""
        )
    output = lowering.like(value, features)
    ones = np.ones((1, features[-1]), np.float32)
    lowering.add("dense", input=value.number, output=output.number, kernel=ones, bias=None)
    return output


def joined_mask(lowering: Lowering, inputs: Sequence[Value]) -> int | None:
    """Keras's mask of several: a step is kept if any of them keeps it, none if one has none."""
    masks = {value.mask for value in inputs}
    numbers = sorted(mask for mask in masks if mask is not None)
    if None in masks:
        return None
    return numbers[0] if len(numbers) == 1 else lowering.once("mask_or", "mask", inputs=numbers)
