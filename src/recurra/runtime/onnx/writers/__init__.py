"""How each layer is written as ONNX operators: one function per class, in `registry.WRITERS`."""

from __future__ import annotations

import importlib

_MODULES = ("basic", "recurrent", "windows", "shapes", "merge", "normalization", "attention")


def load() -> None:
    """Have every writer registered."""
    for name in _MODULES:
        importlib.import_module(f"{__name__}.{name}")
