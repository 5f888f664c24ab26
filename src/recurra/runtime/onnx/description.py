"""The model's own description inside an ONNX file, from which `recurra.load` makes the same model.

Operators alone do not tell a Dropout from nothing or a Masking from a comparison. So the export
writes the layers' classes, configurations and calls beside them, as JSON in the file's metadata,
and where each variable is among the initializers. The description counts while the operators are
those that it was written with: it has a checksum of them. A file that another program has changed
is read by its operators instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from recurra.runtime.graph import Graph, Tensor
from recurra.runtime.layer import Layer
from recurra.runtime.layers.operations import Operation, Slot
from recurra.runtime.onnx.builder import Builder, Stored

KEY = "recurra"
"""The description's key in the file's metadata."""

VERSION = 1


def describe(graph: Graph, b: Builder) -> str:
    """The description of a graph that has been written with `b`, as JSON.

    Variables that no operator needed are added to the initializers.
    """
    layers: dict[int, int] = {}
    described: list[dict[str, Any]] = []
    nodes = []
    for node in graph.nodes:
        if id(node.layer) not in layers:
            layers[id(node.layer)] = len(described)
            described.append(_describe_layer(node.layer, b))
        nodes.append(
            {
                "layer": layers[id(node.layer)],
                "inputs": [tensor.index for tensor in node.inputs],
                "outputs": [tensor.index for tensor in node.outputs],
                "arguments": {key: _argument(value) for key, value in node.arguments.items()},
            }
        )
    found = {
        "version": VERSION,
        "name": graph.name,
        "inputs": [_tensor(tensor) for tensor in graph.inputs],
        "outputs": [tensor.index for tensor in graph.outputs],
        "layers": described,
        "nodes": nodes,
        "operators": checksum(b.nodes),
    }
    return json.dumps(found, separators=(",", ":"), allow_nan=True)


def checksum(nodes: Sequence[Any]) -> str:
    """Of operators, their names, attributes and connections."""
    digest = hashlib.sha256()
    for node in nodes:
        given = sorted((a.name, a.SerializeToString(deterministic=True)) for a in node.attribute)
        parts = [node.op_type, node.domain, *node.input, "->", *node.output]
        digest.update(json.dumps(parts).encode())
        for name, value in given:
            digest.update(name.encode() + b"\0" + value)
    return digest.hexdigest()


def _describe_layer(layer: Layer, b: Builder) -> dict[str, Any]:
    if isinstance(layer, Operation):
        return {
            "operation": layer.keras_class,
            "where": layer.where,
            "config": dict(layer.config),
            "arguments": [_argument(value) for value in layer.arguments],
            "keywords": {key: _argument(value) for key, value in layer.keywords.items()},
        }
    stored = b.variables.get(layer.where, {})
    needed = {variable.name for variable in layer.variables() if not variable.optional}
    for name in sorted(needed - set(stored)):
        given = b.weight(f"{layer.where}/{name}", layer.weights[name])
        stored = {**stored, name: Stored(given)}
    # What a cuDNN layer has is written in the layout of today's class, which is the same otherwise.
    class_name = layer.keras_class.removeprefix("CuDNN")
    return {
        "class": class_name,
        "where": layer.where,
        "config": dict(layer.config),
        "variables": {name: _stored(where) for name, where in stored.items()},
    }


def _stored(stored: Stored) -> dict[str, Any]:
    found: dict[str, Any] = {"tensor": stored.tensor}
    if stored.axes:
        found["axes"] = list(stored.axes)
    if stored.cell is not None:
        found["cell"] = dict(stored.cell)
    return found


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "index": tensor.index,
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
    }


def _argument(value: Any) -> Any:
    """An argument of a call; what JSON does not have becomes an object that says what it is."""
    if isinstance(value, Tensor):
        return {"tensor": value.index}
    if isinstance(value, Slot):
        return {"slot": value.number}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, (list, tuple)):
        return [_argument(item) for item in value]
    return value
