"""From the description in a file of our own back to the graph, by the same steps as a Keras file.

Nothing in it is trusted: every layer reads its configuration and checks its weights as always.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recurra import weights as layouts
from recurra.runtime.build import WithMask, Writer
from recurra.runtime.create import Description, make_layer
from recurra.runtime.describe_model import MOST_LAYERS, read_shape
from recurra.runtime.errors import ModelFileError
from recurra.runtime.graph import Graph, Tensor
from recurra.runtime.layer import Array, Layer
from recurra.runtime.layers.config import shown
from recurra.runtime.layers.operations import Slot, make_operation
from recurra.runtime.onnx.description import VERSION, checksum

DTYPES = ("float32", "int32", "int64", "bool")

Initializers = Callable[[str], Array]
"""The array of an initializer, by its name."""


def restore(
    text: str, nodes: Sequence[Any], initializer: Initializers, digest: str
) -> Graph | None:
    """The graph that a description tells of; None if the operators are not the ones it was of.

    Args:
        text: the description, JSON.
        nodes: the file's operators.
        initializer: gives arrays by name; raises ModelFileError.
        digest: of the file.

    Raises:
        ModelFileError: if it contradicts itself or the weights.
    """
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        return None
    if found.get("operators") != checksum(nodes):
        return None
    if len(found["layers"]) > MOST_LAYERS or len(found["nodes"]) > MOST_LAYERS:
        raise ModelFileError(f"The model has more than {MOST_LAYERS} layers.")
    weights: dict[int, Mapping[str, Array]] = {}
    layers = []
    for entry in found["layers"]:
        layer, given = _layer(entry, initializer)
        weights[id(layer)] = given
        layers.append(layer)
    writer = Writer(weights)
    tensors: dict[int, Tensor] = {}
    for each in found["inputs"]:
        name, dtype = str(each["name"]), each["dtype"]
        if dtype not in DTYPES:
            raise ModelFileError(f"The input '{name}' has dtype {shown(dtype)}.")
        tensors[each["index"]] = writer.tensor(name, read_shape(each["shape"], name), dtype)
    inputs = list(tensors.values())
    for node in found["nodes"]:
        arguments = {str(key): _filled(v, tensors) for key, v in node["arguments"].items()}
        operands = [tensors[index] for index in node["inputs"]]
        made = writer.layer(layers[node["layer"]], operands, arguments).flat
        tensors |= dict(zip(node["outputs"], made, strict=True))
    outputs = [tensors[index] for index in found["outputs"]]
    return Graph(str(found["name"]), inputs, outputs, writer.nodes, digest)


def _layer(entry: Mapping[str, Any], initializer: Initializers) -> tuple[Layer, dict[str, Array]]:
    """A layer, unbuilt, and its variables."""
    where, config = entry["where"], entry["config"]
    if not isinstance(where, str) or not isinstance(config, dict):
        raise ModelFileError(f"A layer is described as {shown(entry)}.")
    if "operation" in entry:
        name = str(entry["operation"])
        operation = make_operation(Description(name, name, config, where, "operation", None), where)
        arguments = [_filled(value, {}) for value in entry["arguments"]]
        keywords = {str(k): _filled(value, {}) for k, value in entry["keywords"].items()}
        return operation.called_with(arguments, keywords), {}
    if entry["class"] == "WithMask":
        masked = WithMask(config, where)
        return masked, {}
    described = {"module": "keras.layers", "class_name": entry["class"], "config": config}
    variables = {
        str(name): _variable(stored, initializer) for name, stored in entry["variables"].items()
    }
    return make_layer(described, where), variables


def _variable(stored: Mapping[str, Any], initializer: Initializers) -> Array:
    """A variable in Keras's layout."""
    if "cell" not in stored:
        array = initializer(stored["tensor"])
        axes = stored.get("axes")
        return np.asarray(array.transpose(np.argsort(axes)) if axes else array, order="C")
    how = stored["cell"]
    tensors = {name: initializer(tensor) for name, tensor in how["tensors"].items()}
    made = layouts.from_onnx(
        how["cell"],
        tensors,
        linear_before_reset=bool(how["linear_before_reset"]),
        direction=int(how["direction"]),
    )
    return made[stored["tensor"]]


def _filled(value: Any, tensors: Mapping[int, Tensor]) -> Any:
    """An argument of a call, from how `description` writes it."""
    if isinstance(value, list):
        return [_filled(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "slot":
        return Slot(int(inside))
    if kind == "slice":
        return slice(*inside)
    if kind == "ellipsis":
        return Ellipsis
    raise ModelFileError(f"A call has the argument {shown(value)}.")
