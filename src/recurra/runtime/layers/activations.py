"""What a configuration says of an activation: a name, parameters, and the function of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurra.runtime import custom
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.layer import Array, Shape
from recurra.runtime.layers import functions
from recurra.runtime.layers.config import Config, axes, number, shown


class Activation(NamedTuple):
    """An activation function with its parameters.

    Args:
        name: Keras's name of the function: "relu", "softmax", ...
        parameters: all of them, in the order of `PARAMETERS[name]`, whether given or not.
        function: the user's, if it is none of Keras's.

    Example:
        >>> import numpy as np
        >>> activation("leaky_relu", "dense")
        Activation(name='leaky_relu', parameters=(0.2,), function=None)
        >>> activation("relu", "dense")(np.array([-1.0, 2.0], np.float32))
        array([0., 2.], dtype=float32)
    """

    name: str
    parameters: tuple[float, ...] = ()
    function: Callable[[Array], Array] | None = None

    def __call__(self, x: Array) -> Array:
        """The function of a float32 array of any shape (batch first); float32."""
        if self.name == "linear" and self.function is None:
            return x
        # Results that overflow, or are undefined, are infinite or NaN without a warning.
        with np.errstate(all="ignore"):
            if self.function is not None:
                y = np.asarray(self.function(x))
            else:
                y = FUNCTIONS[self.name](x, *self.arguments())
        return y.astype(np.float32, copy=False)

    def arguments(self) -> Sequence[Any]:
        """The parameters as the NumPy function takes them: axes are whole numbers."""
        named = zip(PARAMETERS[self.name], self.parameters, strict=True)
        return [int(value) if name == "axis" else value for (name, _), value in named]

    def shape(self, shape: Shape) -> Shape:
        """The result's shape: the argument's, except for the gated linear unit's."""
        if self.name != "glu" or self.function is not None:
            return shape
        halved = list(shape)
        place = int(self.parameters[0])
        found = halved[place]
        halved[place] = None if found is None else found // 2
        return tuple(halved)


FUNCTIONS: Mapping[str, Callable[..., Array]] = {f.__name__: f for f in functions.ACTIVATIONS}
"""All activations, by Keras's names."""

PARAMETERS: Mapping[str, Sequence[tuple[str, float]]] = {
    **{name: () for name in FUNCTIONS},
    "relu": (("negative_slope", 0.0), ("max_value", math.inf), ("threshold", 0.0)),
    "leaky_relu": (("negative_slope", 0.2),),
    "elu": (("alpha", 1.0),),
    "celu": (("alpha", 1.0),),
    "squareplus": (("b", 4.0),),
    "gelu": (("approximate", 0.0),),
    "hard_shrink": (("threshold", 0.5),),
    "soft_shrink": (("threshold", 0.5),),
    "threshold": (("threshold", 0.0), ("default_value", 0.0)),
    "softmax": (("axis", -1.0),),
    "log_softmax": (("axis", -1.0),),
    "sparsemax": (("axis", -1.0),),
    "glu": (("axis", -1.0),),
}
"""The parameters of each activation and Keras's defaults."""

_OTHER_NAMES = {
    "swish": "silu",
    "hard_swish": "hard_silu",
    "log_softmax_v2": "log_softmax",
    "softmax_v2": "softmax",
    "identity": "linear",
    "exp": "exponential",
}


def make(name: str, **parameters: float) -> Activation:
    """An activation by name, with these parameters and the defaults of the others.

    Example:
        >>> make("relu", max_value=6.0).parameters
        (0.0, 6.0, 0.0)
    """
    values = {**dict(PARAMETERS[name]), **parameters}
    return Activation(name, tuple(float(value) for value in values.values()))


def activation(value: object, where: str) -> Activation:
    """The activation that a configuration names.

    Args:
        value: a name, None for none, or a serialized object as either version of Keras writes it.
        where: the layer's place, for messages.

    Raises:
        UnsupportedLayerError: if it is a function or class that Keras does not have.
        ModelFileError: if it is nothing that could name an activation.

    Example:
        >>> activation({"class_name": "LeakyReLU", "config": {"alpha": 0.25}}, "dense")
        Activation(name='leaky_relu', parameters=(0.25,), function=None)
    """
    if value is None:
        return make("linear")
    if isinstance(value, str):
        return _named(value, where)
    if isinstance(value, Mapping):
        class_name, config = value.get("class_name"), value.get("config")
        if class_name == "__lambda__" or (class_name is None and "value" in value):
            return _lambda(where)
        if class_name == "function" and isinstance(config, str):
            return _named(config, where)
        registered = value.get("registered_name")
        if isinstance(registered, str) and (own := _own(registered)) is not None:
            return Activation(registered, (), own)
        if isinstance(class_name, str):
            if class_name in OBJECTS and isinstance(config, Mapping):
                return OBJECTS[class_name](config, where)
            return _named(class_name, where)
    raise ModelFileError(
        f"Layer '{where}': its activation is {shown(value)} in the model's file, but must be a "
        "name or an object with a class_name."
    )


def _named(name: str, where: str) -> Activation:
    own = _own(name)
    if own is not None:
        return Activation(name, (), own)
    known = _OTHER_NAMES.get(name, name)
    if known not in FUNCTIONS:
        raise UnsupportedLayerError(
            f"Layer '{where}': its activation {shown(name)} is none of Keras's own, and code in "
            "model files is never run. Save the model with one of Keras's activations there, or "
            "give a NumPy function(x) for it: "
            f"recurra.load(path, custom={{{shown(name.rpartition('>')[2])}: function}})."
        )
    return make(known)


def _own(name: str) -> Callable[[Array], Array] | None:
    """The user's function for an activation, by its name with its package or without."""
    return custom.find(name, name.rpartition(">")[2])


def _lambda(where: str) -> Activation:
    """The user's function for an activation that is a lambda, which has the layer's name only."""
    name = where.rpartition("/")[2]
    own = custom.find(f"{name}/activation")
    if own is None:
        raise UnsupportedLayerError(
            f"Layer '{where}': its activation is a lambda, and code in model files is never run. "
            "Give a NumPy function(x) for it: "
            f'recurra.load(path, custom={{"{name}/activation": function}}).'
        )
    return Activation("lambda", (), own)


def relu_object(config: Config, where: str) -> Activation:
    """A ReLU layer's function."""
    unbounded = config.get("max_value") is None
    return make(
        "relu",
        negative_slope=number(config, "negative_slope", where, least=0.0, default=0.0),
        max_value=math.inf if unbounded else number(config, "max_value", where, least=0.0),
        threshold=number(config, "threshold", where, least=0.0, default=0.0),
    )


def leaky_relu_object(config: Config, where: str) -> Activation:
    """A LeakyReLU layer's function; its slope was called alpha before Keras 3."""
    key = "negative_slope" if "negative_slope" in config else "alpha"
    return make("leaky_relu", negative_slope=number(config, key, where, least=0.0, default=0.3))


def elu_object(config: Config, where: str) -> Activation:
    """An ELU layer's function."""
    return make("elu", alpha=number(config, "alpha", where, default=1.0))


def softmax_object(config: Config, where: str) -> Activation:
    """A Softmax layer's function, over one axis."""
    found = config.get("axis", -1)
    listed = found if isinstance(found, (list, tuple)) else [found]
    if len(listed) != 1:
        raise UnsupportedLayerError(
            f"Layer '{where}': its activation is a softmax over axes {shown(found)}; only one axis "
            "can be run."
        )
    axes(listed[0], 32, where)  # that it is a whole number; the layer checks it with its rank
    return make("softmax", axis=listed[0])


OBJECTS: Mapping[str, Callable[[Config, str], Activation]] = {
    "ReLU": relu_object,
    "LeakyReLU": leaky_relu_object,
    "ELU": elu_object,
    "Softmax": softmax_object,
}
"""Layers that may also stand as another layer's activation."""
