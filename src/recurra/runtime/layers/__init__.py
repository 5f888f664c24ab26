"""The runtime's layers: one class per class of Keras, registered under its name."""

from __future__ import annotations

import importlib

_MODULES = (
    "core",
    "recurrent",
    "wrappers",
    "dense",
    "convolution",
    "pooling",
    "shapes",
    "merge",
    "normalization",
    "attention",
    "heads",
    "activation_layers",
    "operations",
)


def load() -> None:
    """Have every layer in `recurra.runtime.layer.LAYERS`."""
    for name in _MODULES:
        importlib.import_module(f"recurra.runtime.layers.{name}")
