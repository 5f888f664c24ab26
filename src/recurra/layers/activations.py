"""Recognising the engine's activations among the functions that Keras's layers hold."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import Any

import keras

from recurra import hosts
from recurra.cells import ACTIVATIONS


@functools.cache
def _known() -> dict[Any, str]:
    # keras.ops.gelu is left out: called with one argument it is the tanh approximation, while
    # keras.activations.gelu and the engine's are exact. hard_sigmoid and the others agree.
    operations = {
        "tanh": keras.ops.tanh,
        "sigmoid": keras.ops.sigmoid,
        "hard_sigmoid": keras.ops.hard_sigmoid,
        "relu": keras.ops.relu,
        "softsign": keras.ops.softsign,
        "elu": keras.ops.elu,
        "selu": keras.ops.selu,
        "silu": keras.ops.silu,
        "exponential": keras.ops.exp,
        "softplus": keras.ops.softplus,
    }
    known: dict[Any, str] = {getattr(keras.activations, name): name for name in ACTIVATIONS}
    known |= {function: name for name, function in operations.items()}
    host = hosts.get(keras.backend.backend())
    if host is not None:
        known |= host.equivalent_activations()
    return known


def engine_name(activation: Callable[..., Any]) -> str | None:
    """The engine's name for an activation function, or None if it is none of the engine's.

    Functions are recognised by identity: Keras's own (keras.activations.*), those of keras.ops and
    of the host's framework that compute the same. Nothing is guessed from a function's name.

    Example:
        >>> engine_name(keras.activations.tanh), engine_name(lambda x: x)
        ('tanh', None)
    """
    try:
        return _known().get(activation)
    except TypeError:  # not hashable, so none of the known functions
        return None


def check_activation(argument: str, value: Any) -> None:
    """Raise ValueError if Keras cannot make an activation function of `value`.

    Args:
        argument: the constructor argument's name.
        value: what was passed.
    """
    try:
        keras.activations.get(value)
    except ValueError:
        message = f"Could not interpret activation function identifier: {value!r}."
        if isinstance(value, str):
            # Keras keeps the names in a table that is not public; these are all that it exports.
            names = [name for name in dir(keras.activations) if not name.startswith("_")]
            names = [name for name in names if name not in ("deserialize", "get", "serialize")]
            close = difflib.get_close_matches(value.lower(), names, n=1)
            if close:
                message += f" Did you mean {argument}={close[0]!r}?"
        raise ValueError(
            f"{message} Expected for `{argument}` a function, None (linear), or a name; the engine "
            f"compiles in {', '.join(ACTIVATIONS)}."
        ) from None


# torch.compile calls it instead of tracing it.
engine_name._dynamo_marked_constant = True  # type: ignore[attr-defined]
