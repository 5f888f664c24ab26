"""Saved models, by the path of their file; also those that the runtime cannot run.

No code in a file is run. A layer of the user's, or a Lambda, is one call whose inside is not known;
Keras 3 writes into the file which shapes its results have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from recurra.insight.structure.described import described_recurrent
from recurra.insight.structure.model import Structure
from recurra.insight.structure.runtime import structure_of_graph, structure_of_runtime
from recurra.runtime.build import INSIDE, Writer, wanted_variables
from recurra.runtime.calls import MOST_LAYERS, references
from recurra.runtime.create import MODELS, Description, describe
from recurra.runtime.describe_model import Input, Model, Reader, read_shape
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.files import Request, SavedModel, read
from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.layer import Layer
from recurra.runtime.model import load
from recurra.runtime.wiring import Values


def structure_of_file(path: str) -> Structure:
    """The structure of the model in a file.

    Raises:
        FileNotFoundError: if there is no such file.
        recurra.runtime.ModelFileError: for files that are damaged or no model.
    """
    try:
        found = structure_of_runtime(load(path))
    except UnsupportedLayerError as error:
        if path.lower().endswith(".onnx"):
            raise
        found = _beyond_the_runtime(path, error)
    return dataclasses.replace(found, source=path)


def _beyond_the_runtime(path: str, error: UnsupportedLayerError) -> Structure:
    """The structure of a model with layers that the runtime has no code for.

    Raises:
        UnsupportedLayerError: that one, if nothing more can be told.
    """
    saved = read(path)
    try:
        found = describe(
            {"class_name": saved.class_name, "config": saved.config, "module": "keras"}, "the model"
        )
        if found.class_name not in MODELS or "layers" not in found.config:
            raise error
        reader = _Reader()
        model = reader.model(found)
        shapes = _Shapes()
        shapes.collect(found.config, "", found.class_name == "Sequential")
        return _structure(saved, found.name, reader, model, shapes)
    except (*INSIDE, RecursionError):
        raise error from None
    finally:
        saved.close()


def _structure(
    saved: SavedModel, name: str, reader: _Reader, model: Model, shapes: _Shapes
) -> Structure:
    requests = [Request(place, wanted_variables(layer)) for place, layer in reader.layers]
    try:
        values = saved.weights.read_all(requests)
    except ModelFileError:  # then the sizes of weights are not known, but all the rest is
        values = [{} for _ in requests]
    weights = {id(layer): w for (_, layer), w in zip(reader.layers, values, strict=True)}
    writer = _Writer(weights, shapes)
    inputs, names = [], []
    for reference in references(model.inputs):
        part = model.entries[reference.layer].part
        if not isinstance(part, Input):
            raise ModelFileError(f"the input {reference.layer!r} is none")
        inputs.append(writer.tensor(reference.layer, part.shape, part.dtype))
        names.append(reference.layer)
    outputs = writer.model(model, inputs)
    graph = Graph(name, inputs, outputs.flat, writer.nodes)
    return structure_of_graph(graph, names, [_gap(layer) for layer in reader.unknown])


class Unknown(Layer):
    """A layer that the runtime has no code for.

    Attributes:
        takes_all_weights: it gets whatever is stored for it.
        is_code: whether the file holds Python code for it.
    """

    parameters = ("inputs", *(f"argument_{number}" for number in range(1, 10)))
    takes_all_weights = True
    takes_mask = True  # Nobody knows; most hand masks on.

    def __init__(self, config: Mapping[str, Any], where: str, class_name: str, known: bool) -> None:
        super().__init__(config, where)
        self.keras_class = class_name
        self.is_code = class_name == "Lambda"
        self.is_keras = known and not self.is_code
        self.recurrent = described_recurrent(config, class_name, self.name) if known else None


def _is_kerass(found: Description) -> bool:
    """Whether a class is Keras's; old files do not say whose it is."""
    return found.kind == "keras" or (
        found.kind == "unknown" and found.class_name.startswith("ConvLSTM")
    )


def _gap(layer: Unknown) -> str:
    if layer.is_code:
        why = "is a Lambda, Python code that is never run from a file"
    elif layer.recurrent is not None:
        names = {leaf.cells[0].class_name for _, leaf in layer.recurrent.leaves("")}
        why = f"runs {' and '.join(sorted(names))}, which the runtime has no code for"
    elif layer.is_keras:
        why = f"is a {layer.keras_class}, which the runtime has no code for"
    else:
        why = f"is of the user's class {layer.keras_class}, whose code is not in the file"
    return f"The layer {layer.where!r} {why}, so what is inside of it is not known."


class _Reader(Reader):
    """Reads configurations with an `Unknown` for each layer that there is no code for."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: list[Unknown] = []

    def _part(self, found: Any, item: Any, place: tuple[str, ...], group: Any) -> Any:
        try:
            return super()._part(found, item, place, group)
        except UnsupportedLayerError:
            where = "/".join(place)
            if found.class_name == "InputLayer":  # of text, say
                shape = found.config.get("batch_shape") or found.config.get("batch_input_shape")
                return Input((None, *read_shape(shape, where)[1:]), str(found.config.get("dtype")))
            if found.class_name in MODELS and "layers" in found.config:
                raise
            layer = Unknown(found.config, where, found.class_name, _is_kerass(found))
            self.unknown.append(layer)
            if found.kind != "operation":
                self.layers.append((place, layer))
                self.groups.append(group)
            return layer


class _Shapes:
    """The shapes that a file tells of layers' results, by (place, call, output)."""

    def __init__(self) -> None:
        self.known: dict[str, dict[tuple[int, int], Any]] = {}

    def collect(self, config: Mapping[str, Any], prefix: str, sequential: bool) -> None:
        """Take everything from a model's configuration."""
        before = ""
        for item in config.get("layers", ()):
            found = describe(item, prefix)
            where = f"{prefix}{found.name}"
            if isinstance(found.config.get("layers"), list):
                self.collect(found.config, f"{where}/", found.class_name == "Sequential")
            built = item.get("build_config")
            shape = built.get("input_shape") if isinstance(built, Mapping) else None
            if sequential and before and isinstance(shape, list):
                self._note(before, 0, 0, shape)
            self._from_calls(item.get("inbound_nodes"), prefix, 0)
            before = where

    def _from_calls(self, value: Any, prefix: str, depth: int) -> None:
        if depth > 30:
            return
        if isinstance(value, Mapping):
            config = value.get("config")
            if value.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
                history = config.get("keras_history")
                if isinstance(history, list) and len(history) == 3:
                    self._note(f"{prefix}{history[0]}", history[1], history[2], config.get("shape"))
                return
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for each in value:
                self._from_calls(each, prefix, depth + 1)

    def _note(self, where: str, call: Any, output: Any, shape: Any) -> None:
        if isinstance(shape, list) and all(n is None or isinstance(n, int) for n in shape):
            self.known.setdefault(where, {})[call, output] = (None, *shape[1:])

    def of(self, where: str, call: int) -> list[Any]:
        """The shapes of one call's results; at least one, None for what is not known."""
        known = self.known.get(where, {})
        count = 1 + max((output for _, output in known), default=0)
        any_call = {output: shape for (_, output), shape in known.items()}
        return [known.get((call, n), any_call.get(n)) for n in range(count)]


class _Writer(Writer):
    """Writes calls also where shapes are not known, without building the layers there."""

    def __init__(self, weights: Mapping[int, Mapping[str, Any]], shapes: _Shapes) -> None:
        super().__init__(weights)
        self._shapes = shapes
        self._calls: dict[str, int] = {}

    def layer(self, layer: Layer, inputs: Sequence[Tensor], arguments: Mapping[str, Any]) -> Values:
        """Write one call of a layer."""
        if len(self.nodes) >= MOST_LAYERS:
            raise ModelFileError(f"The model has more than {MOST_LAYERS} calls of layers.")
        number = self._calls.get(layer.where, 0)
        self._calls[layer.where] = number + 1
        if not isinstance(layer, Unknown) and all(t.shape is not None for t in inputs):
            try:
                return super().layer(layer, inputs, arguments)
            except ModelFileError:  # it does not fit to what an unknown layer is said to give
                pass
        layer.weights = self._weights.get(id(layer), {})
        shapes = self._shapes.of(layer.where, number)
        outputs = [self.tensor(layer.where, shape) for shape in shapes]
        self.nodes.append(Node(layer, tuple(inputs), tuple(outputs), arguments))
        structure = [*range(len(outputs))] if len(outputs) > 1 else 0
        return Values(outputs, structure)
