"""Lowerings, a module for each module of `recurra.runtime.layers`, imported when it is needed."""

from __future__ import annotations

import importlib

from recurra.runtime.layer import Layer
from recurra.runtime.streaming.lowering import LOWERINGS, Lower

_NAMES = (
    "activation_layers convolution core dense merge model normalization operations recurrent "
    "shapes wrappers"
)

_MODULES = {f"recurra.runtime.layers.{name}": name for name in _NAMES.split()} | {
    "recurra.runtime.build": "core"
}
"""The module here that lowers the layers of a module."""


def find(layer: Layer) -> Lower | None:
    """How a layer is lowered; None if it cannot be."""
    for cls in type(layer).__mro__:
        if cls.__module__ in _MODULES:
            importlib.import_module(f"{__name__}.{_MODULES[cls.__module__]}")
        if cls in LOWERINGS:
            return LOWERINGS[cls]
    return None


def load() -> None:
    """Have every lowering in `recurra.runtime.streaming.lowering.LOWERINGS`."""
    for name in _MODULES.values():
        importlib.import_module(f"{__name__}.{name}")
