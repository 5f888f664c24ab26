"""Adding activations: what many layers end with."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.runtime.layer import Array, Layer
from recurra.runtime.layers.activations import PARAMETERS, Activation
from recurra.runtime.streaming.lowering import Lowering, Value, one_axis, refuse

_NOT_IN_THE_PLAN = ("glu", "sparsemax")


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
    return function(lowering, x, name, list(parameters))


def function(lowering: Lowering, x: Value, name: str, parameters: Sequence[float] | Array) -> Value:
    """One of the plan's functions of every number, or over the features."""
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
