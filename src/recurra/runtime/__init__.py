"""Trained Keras models without Keras: read from their files, run whole and step by step."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recurra.runtime.custom import register_layer as register_layer
    from recurra.runtime.errors import ModelFileError as ModelFileError
    from recurra.runtime.errors import SnapshotError as SnapshotError
    from recurra.runtime.errors import StreamingError as StreamingError
    from recurra.runtime.errors import UnsupportedLayerError as UnsupportedLayerError
    from recurra.runtime.model import Runtime as Runtime
    from recurra.runtime.model import load as load
    from recurra.runtime.session import Session as Session

_NAMES = {
    "ModelFileError": "errors",
    "Runtime": "model",
    "Session": "session",
    "SnapshotError": "errors",
    "StreamingError": "errors",
    "UnsupportedLayerError": "errors",
    "load": "model",
    "register_layer": "custom",
}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"recurra.runtime.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'recurra.runtime' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
