"""Lowering layers that treat every time step alike: activations and merges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recurra.runtime.build import WithMask
from recurra.runtime.layer import Array, Layer
from recurra.runtime.layers.activation_layers import ActivationLayer, PReLU, Softmax
from recurra.runtime.layers.activations import PARAMETERS, Activation
from recurra.runtime.layers.core import Identity
from recurra.runtime.layers.merge import Concatenate, Merge
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, one_axis, refuse

_NOT_IN_THE_PLAN = ("glu", "sparsemax")


@lowers(Identity, WithMask)
def lower_identity(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Dropout and its kind, and what gives a nested model's input a mask."""
    return inputs


def activate(lowering: Lowering, layer: Layer, x: Value, activation: Activation) -> Value:
    """An activation of every number, or over the last axis."""
    name, parameters = activation.name, activation.parameters
    if activation.function is not None:
        raise refuse(
            layer,
            "its activation is computed by a Python function, and a stream's steps run in the "
            "compiled engine",
            "use one of Keras's activations",
        )
    if name == "linear":
        return x
    if name in _NOT_IN_THE_PLAN:
        raise refuse(
            layer,
            f"the compiled plan has no activation {name!r}",
            "use another activation",
        )
    if name == "gelu":
        name, parameters = "gelu_tanh" if parameters[0] else "gelu", ()
    elif PARAMETERS[name][:1] == (("axis", -1.0),):
        last_axis_only(layer, x, [int(parameters[0])])
        parameters = ()
    return _function(lowering, x, name, list(parameters))


def _function(
    lowering: Lowering, x: Value, name: str, parameters: Sequence[float] | Array
) -> Value:
    output = lowering.like(x)
    lowering.add(
        "activation", input=x.number, output=output.number, function=name, parameters=parameters
    )
    return output


def last_axis_only(layer: Layer, x: Value, axes: Sequence[int]) -> None:
    """Refuse axes other than the features, of a value with one feature axis."""
    one_axis(layer, x)
    if {axis % x.rank for axis in axes} != {x.rank - 1}:
        over = "time" if x.has_time_axis else "an axis before the features"
        raise refuse(
            layer,
            f"its axis {axes[0] if len(axes) == 1 else tuple(axes)} goes over {over}",
            "use axis=-1",
        )


@lowers(ActivationLayer)
def lower_activation(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Activation, ReLU, LeakyReLU, ELU."""
    assert isinstance(layer, ActivationLayer)
    return [activate(lowering, layer, inputs[0], layer.activation)]


@lowers(Softmax)
def lower_softmax(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Softmax, which unlike Activation("softmax") would use a mask."""
    assert isinstance(layer, Softmax)
    (x,) = inputs
    if x.mask is not None:
        raise refuse(
            layer,
            "its input has a mask, which it would apply to the features",
            'use Activation("softmax"), which leaves masks alone',
        )
    last_axis_only(layer, x, layer.axis)
    return [_function(lowering, x, "softmax", [])]


@lowers(PReLU)
def lower_prelu(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """PReLU with slopes that are the same for all steps."""
    assert isinstance(layer, PReLU)
    (x,) = inputs
    slopes = layer.alpha
    if x.has_time_axis:
        if slopes.shape[0] != 1:
            raise refuse(
                layer, "it has a slope for each time step", "train it with shared_axes=[1]"
            )
        slopes = slopes[0]
    slopes = np.ascontiguousarray(np.broadcast_to(slopes, x.features)).reshape(-1)
    return [_function(lowering, x, "prelu", slopes)]


_LOOK_AT_MASKS = ("multiply", "maximum", "minimum")


@lowers(Merge)
def lower_merge(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Add, Subtract, Multiply, Average, Maximum, Minimum."""
    function = layer.keras_class.lower()
    if function in _LOOK_AT_MASKS and any(value.mask is not None for value in inputs):
        _same_kind(layer, inputs)
        features = np.broadcast_shapes(*(value.features for value in inputs))
        widened = [_widened(lowering, layer, value, features) for value in inputs]
        join = _masked_product if function == "multiply" else _masked_extreme
        return [_joined(lowering, join(lowering, function, widened), inputs)]
    return [merge(lowering, layer, function, inputs)]


def _masked_product(lowering: Lowering, function: str, inputs: Sequence[Value]) -> Value:
    """Masked numbers count as 1; where all are masked the result is 0."""
    factors = [_where(lowering, value.mask, value, 1.0) for value in inputs]
    output = _merge(lowering, function, factors)
    return _where(lowering, _joined_mask(lowering, inputs), output, 0.0)


def _masked_extreme(lowering: Lowering, function: str, inputs: Sequence[Value]) -> Value:
    """Masked numbers are left out, one input after the other."""
    output, kept = inputs[0], inputs[0].mask
    for value in inputs[1:]:
        other = _where(lowering, value.mask, value, output)
        before = _where(lowering, kept, output, other)
        output = _merge(lowering, function, [before, other])
        both = kept is not None and value.mask is not None
        kept = _joined_mask(lowering, [replace(value, mask=kept), value]) if both else None
    return output


def _where(lowering: Lowering, mask: int | None, value: Value, other: Value | float) -> Value:
    """The value at steps that the mask keeps, elsewhere another."""
    if mask is None:
        return value
    output = lowering.like(value)
    source: dict[str, Any] = (
        {"other": other.number} if isinstance(other, Value) else {"value": other}
    )
    lowering.add("where", mask=mask, input=value.number, output=output.number, **source)
    return output


def merge(lowering: Lowering, layer: Layer, function: str, inputs: Sequence[Value]) -> Value:
    """Values joined by "add", "subtract", "multiply", "average", "maximum" or "minimum"."""
    _same_kind(layer, inputs)
    features = np.broadcast_shapes(*(value.features for value in inputs))
    widened = [_widened(lowering, layer, value, features) for value in inputs]
    return _joined(lowering, _merge(lowering, function, widened), inputs)


def _merge(lowering: Lowering, function: str, inputs: Sequence[Value]) -> Value:
    output = lowering.like(inputs[0])
    numbers = [value.number for value in inputs]
    lowering.add("merge", function=function, inputs=numbers, output=output.number)
    return output


@lowers(Concatenate)
def lower_concatenate(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """Concatenate along the features."""
    assert isinstance(layer, Concatenate)
    return [concatenate(lowering, layer, inputs, layer.axis)]


def concatenate(lowering: Lowering, layer: Layer, inputs: Sequence[Value], axis: int) -> Value:
    """Values side by side, along the features."""
    _same_kind(layer, inputs)
    for value in inputs:
        last_axis_only(layer, value, [axis])
    features = (*inputs[0].features[:-1], sum(value.features[-1] for value in inputs))
    output = lowering.like(inputs[0], features)
    numbers = [value.number for value in inputs]
    lowering.add("concat", inputs=numbers, output=output.number)
    return _joined(lowering, output, inputs)


def _joined(lowering: Lowering, output: Value, inputs: Sequence[Value]) -> Value:
    """The output with the inputs' mask, and running if one of them is."""
    mask = _joined_mask(lowering, inputs)
    return replace(output, mask=mask, running=any(value.running for value in inputs))


def _same_kind(layer: Layer, inputs: Sequence[Value]) -> None:
    if len({value.kind for value in inputs}) > 1:
        raise refuse(
            layer,
            "it joins values that have time steps with values that have none",
            "give the latter with every time step, as an input of shape (batch, time_steps, "
            "features)",
        )


def _widened(lowering: Lowering, layer: Layer, value: Value, features: tuple[int, ...]) -> Value:
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


def _joined_mask(lowering: Lowering, inputs: Sequence[Value]) -> int | None:
    """Keras's mask of several: a step is kept if any of them keeps it, none if one has none."""
    masks = {value.mask for value in inputs}
    numbers = sorted(mask for mask in masks if mask is not None)
    if None in masks:
        return None
    return numbers[0] if len(numbers) == 1 else lowering.once("mask_or", "mask", inputs=numbers)
