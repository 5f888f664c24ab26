"""The package `onnx`, imported where it is first needed: most programs never are."""

from __future__ import annotations

from types import ModuleType


def onnx() -> ModuleType:
    """The package, with its submodules `checker`, `helper` and `numpy_helper`.

    Raises:
        ImportError: if it is not installed; the message says how to install it.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(
            f"Reading and writing ONNX files needs the package onnx ({error}). Install it with: "
            'pip install "recurra[onnx]"'
        ) from error
    module: ModuleType = onnx
    return module
