"""How each layer is written as ONNX operators: one function per class, in `registry.WRITERS`."""

from __future__ import annotations

import importlib


def load() -> None:
    """Have every writer registered."""
    for name in ("basic", "recurrent"):
        importlib.import_module(f"{__name__}.{name}")
