"""What is to be known of a model's file."""

from __future__ import annotations

import os
from typing import Any

from recurra.cli.models import load


def facts_of(path: str) -> dict[str, Any]:
    """Everything that `recurra info` tells, as what JSON can hold.

    Raises:
        CommandError: if there is no such file.
        ModelFileError: if it is no model that can be run.
    """
    from recurra.runtime.errors import StreamingError

    runtime = load(path)
    kind, keras_version = _origin(path)
    layers = _layers(runtime)
    reason, state = None, None
    try:
        state = runtime.program().plan.state_bytes
    except StreamingError as error:
        reason = str(error)
    return {
        "file": path,
        "format": kind,
        "keras_version": keras_version,
        "file_bytes": os.path.getsize(path),
        "model": runtime.name,
        "digest": runtime.digest,
        "inputs": [_tensor(spec) for spec in runtime.inputs],
        "outputs": [_tensor(spec) for spec in runtime.outputs],
        "layers": layers,
        "parameters": sum(layer["parameters"] for layer in layers),
        "streams": reason is None,
        "state_bytes": state,
        "reason": reason,
    }


def _origin(path: str) -> tuple[str, str | None]:
    """The file's format, and the version of Keras that wrote it."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".onnx":
        return "ONNX", None
    from recurra.runtime.files import read

    saved = read(path)
    saved.close()
    kind = "Keras 3 (.keras)" if suffix == ".keras" else "Keras HDF5 (.h5)"
    return kind, saved.keras_version or None


def _layers(runtime: Any) -> list[dict[str, Any]]:
    """The calls of layers in the order in which they run; a shared layer's parameters once."""
    found = []
    seen: set[int] = set()
    for node in runtime.graph.nodes:
        layer = node.layer
        again = id(layer) in seen
        seen.add(id(layer))
        found.append(
            {
                "name": layer.where,
                "class": layer.keras_class,
                "output_shapes": [list(tensor.shape) for tensor in node.outputs],
                "parameters": 0 if again else sum(a.size for a in layer.weights.values()),
                "shared": again,
                "called_on": [tensor.name for tensor in node.inputs],
            }
        )
    return found


def _tensor(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}
