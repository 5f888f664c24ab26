"""Layers with several results inside of Sequential models, which hand one tensor on."""

from __future__ import annotations

import inspect
import itertools
from types import CodeType, FrameType
from typing import Any

import keras

_BUILD: CodeType | None = getattr(inspect.unwrap(keras.Sequential.build), "__code__", None)


def check_next_layer(layer: Any, frame: FrameType, result: tuple[Any, ...]) -> None:
    """Raise ValueError if a Sequential model is about to give several results to a stock layer.

    Keras would say how many tensors the next layer got, and not which layer to change. Layers that
    may take several tensors (a Lambda, layers of the user's) are left alone.

    Args:
        layer: the layer that was called.
        frame: of the caller.
        result: what the layer returns.
    """
    if frame.f_code is not _BUILD:
        return
    stack = getattr(frame.f_locals.get("self"), "_layers", [])
    following: Any = next(
        (after for each, after in itertools.pairwise(stack) if each is layer), None
    )
    # A single specification is a single tensor for Keras.
    if not isinstance(getattr(following, "input_spec", None), keras.layers.InputSpec):
        return
    names = getattr(result, "_fields", None)
    returned = f"({', '.join(names)})" if names else f"{len(result)} results"
    raise ValueError(
        f"Layer {layer.name!r} returns {returned}, and {following.name!r}, the next layer of the "
        "Sequential model, takes one tensor. Sequential models hand one tensor from layer to "
        f"layer: build {layer.name!r} without return_state=True (and return_trace=True), or use "
        f"keras.Model and pass {names[0] if names else 'the output'} on by yourself: "
        f"{'result.' + names[0] if names else 'result[0]'}."
    )
