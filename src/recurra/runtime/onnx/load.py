"""Reading an ONNX file as a graph: what this library wrote, or PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from recurra.runtime.build import INSIDE
from recurra.runtime.errors import ModelFileError
from recurra.runtime.files.limits import LIMITS
from recurra.runtime.graph import Graph
from recurra.runtime.layer import Array
from recurra.runtime.layers.config import shown
from recurra.runtime.onnx.description import KEY
from recurra.runtime.onnx.proto import File

T = TypeVar("T")


def load_graph(path: str | os.PathLike[str], *, max_bytes: int = LIMITS.max_bytes) -> Graph:
    """The model in an ONNX file.

    A file that `export` wrote gives the model that was exported, stateful or not: states are the
    business of sessions then, and no inputs. Others are read by their operators, as PyTorch writes
    models around torch.nn.LSTM, GRU and RNN; see the page on ONNX in the documentation.

    Args:
        path: of the file.
        max_bytes: of the file, and of all its weights together.

    Raises:
        ModelFileError: if it is no ONNX file, is damaged, or is larger than allowed.
        UnsupportedLayerError: for an operator that the runtime does not read, naming it.
        ImportError: if the package onnx is not installed.
    """
    file = File(path, max_bytes)
    if KEY in file.metadata:
        from recurra.runtime.onnx.restore import restore

        text, nodes = file.metadata[KEY], file.graph.node

        def weight(name: str) -> Array:
            return file.copied(file.initializer(name))

        graph = _guarded(file, lambda: restore(text, nodes, weight, file.digest))
        if graph is not None:
            return graph
    from recurra.runtime.onnx.reading import read_graph

    return _guarded(file, lambda: read_graph(file))


def _guarded(file: File, read: Callable[[], T]) -> T:
    """Whatever inconsistent files raise, as a ModelFileError that names the file."""
    try:
        return read()
    except ModelFileError as error:
        text = str(error)
        if str(file.path) in text:
            raise
        raise type(error)(f"{file.path}: {text}") from error.__cause__
    except RecursionError:
        raise ModelFileError(f"{file.path}: it is nested too deep.") from None
    except INSIDE as error:
        raise ModelFileError(
            f"{file.path}: the file is inconsistent: while it was read, {type(error).__name__} was "
            f"raised ({shown(str(error))})."
        ) from error
