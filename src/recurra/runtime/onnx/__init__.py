"""ONNX: writing a loaded model, and reading what this or PyTorch wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recurra.runtime.onnx.exporter import Report as Report
    from recurra.runtime.onnx.exporter import export as export
    from recurra.runtime.onnx.load import load_graph as load_graph

__all__ = ["Report", "export", "load_graph"]


def __getattr__(name: str) -> Any:
    import importlib

    if name in ("Report", "export"):
        return getattr(importlib.import_module("recurra.runtime.onnx.exporter"), name)
    if name == "load_graph":
        return importlib.import_module("recurra.runtime.onnx.load").load_graph
    raise AttributeError(f"module 'recurra.runtime.onnx' has no attribute {name!r}")
