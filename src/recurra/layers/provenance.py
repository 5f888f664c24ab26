"""Where a tensor that does not fit comes from, so that an error can name the layer to change.

Keras's symbolic tensors know which layer made them. Of arrays nothing is known; the programs that
are calling can be looked at instead: if among the layers at hand exactly one returns such arrays,
it is named as a likely source. All of this runs when an error is certain, never before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import keras

# Layers between two recurrent layers that leave the axes as they are.
_PASSING = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LayerNormalization,
    keras.layers.Masking,
    keras.layers.ReLU,
)
_MANY_FRAMES = 40
_LIBRARIES = ("keras", "recurra", "jax", "torch", "tensorflow", "importlib", "contextlib")


def is_recurrent(layer: Any) -> bool:
    """Whether a layer goes over time: RNN's classes and Bidirectional."""
    return isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))


def described(layer: Any) -> str:
    """A layer for an error: "LSTM 'encoder'"."""
    return f"{type(layer).__name__} {layer.name!r}"


def maker(value: Any) -> Any:
    """The recurrent layer that made a symbolic tensor, through layers such as Dropout, or None."""
    for _ in range(_MANY_FRAMES):
        history: Any = getattr(value, "_keras_history", None)
        operation = getattr(history, "operation", None)
        if operation is None or is_recurrent(operation):
            return operation
        node = operation._inbound_nodes[history.node_index]
        if not isinstance(operation, _PASSING) or len(node.input_tensors) != 1:
            return None
        value = node.input_tensors[0]
    return None


def output_index(value: Any) -> int | None:
    """Which of its maker's results a symbolic tensor is, if it is one of a recurrent layer's."""
    history: Any = getattr(value, "_keras_history", None)
    made = history is not None and is_recurrent(history.operation)
    return int(history.tensor_index) if made else None


def without_sequences(value: Any, name: str) -> tuple[Any, bool]:
    """The recurrent layer that returned (batch, units) because it lacks return_sequences.

    Args:
        value: an input with two axes, symbolic or not.
        name: of the layer that was given it.

    Returns:
        The layer, or None; and whether that is certain.
    """
    if isinstance(value, keras.KerasTensor):
        layer = maker(value)
        found = layer is not None and not getattr(layer, "return_sequences", True)
        return (layer, True) if found else (None, True)
    width = tuple(value.shape)[-1]
    likely: dict[int, Any] = {}
    for layer in _layers_at_hand():
        fits = is_recurrent(layer) and not getattr(layer, "return_sequences", True)
        if fits and name.split("/")[0] != layer.name and _width(layer) == width:
            likely[id(layer)] = layer
    return (next(iter(likely.values())), False) if len(likely) == 1 else (None, False)


def advice_to_keep_time(value: Any, name: str) -> str:
    """What to change so that a layer gets steps, if it is known who took them away; else ""."""
    layer, certain = without_sequences(value, name)
    if layer is None:
        return ""
    comes = "It comes from" if certain else "It looks like the output of"
    return (
        f"{comes} {described(layer)}, which returns the last step only: build that one with "
        f"return_sequences=True, {_built(layer)}, so that every step goes on."
    )


def _built(layer: Any) -> str:
    """How a layer is built with return_sequences."""
    inner = getattr(layer, "forward_layer", layer)
    units = getattr(inner, "units", None)
    first = f"{units}, " if isinstance(units, int) and type(inner).__name__ != "RNN" else "..., "
    call = f"{type(inner).__name__}({first}return_sequences=True)"
    return call if inner is layer else f"{type(layer).__name__}({call})"


def _width(layer: Any) -> int | None:
    inner = getattr(layer, "forward_layer", None)
    if inner is None:
        return getattr(layer, "units", None)
    width, other = _width(inner), _width(layer.backward_layer)
    if width is None or other is None:
        return None
    return width + other if layer.merge_mode == "concat" else width


def _layers_at_hand() -> Iterator[Any]:
    """The layers that the calling programs have in variables, alone or inside of other layers."""
    frame = sys._getframe(1)
    for _ in range(_MANY_FRAMES):
        if frame.f_back is None:
            return
        frame = frame.f_back
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module in _LIBRARIES:
            continue
        for value in list(frame.f_locals.values()):
            if isinstance(value, keras.Layer):
                yield from value._flatten_layers()
            elif isinstance(value, (list, tuple)):
                yield from (each for each in value if isinstance(each, keras.Layer))
