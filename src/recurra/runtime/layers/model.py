"""A model as a layer of a wrapper: TimeDistributed(Sequential([...]))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recurra.runtime.build import Writer
from recurra.runtime.calls import references
from recurra.runtime.create import Description
from recurra.runtime.describe_model import Reader
from recurra.runtime.graph import Graph
from recurra.runtime.interpreter import Interpreter, Watch
from recurra.runtime.layer import Array, Call, Layer, Result, Shape, Variable


class ModelLayer(Layer):
    """A model with one input that something else than a model contains.

    Attributes:
        graph: the model, once it is built.
    """

    graph: Graph
    _interpreter: Interpreter

    def __init__(self, found: Description, where: str) -> None:
        super().__init__(found.config, where)
        self.keras_class = found.class_name
        self._reader = Reader(where)
        self._model = self._reader.model(found)
        if self._model.inputs is not None and len(list(references(self._model.inputs))) != 1:
            raise self.unsupported("it is a model with several inputs inside of a wrapper.")

    def variables(self) -> list[Variable]:
        """Those of all its layers, as Keras 3 groups them."""
        return [
            Variable(
                f"{'/'.join(place)}/{each.name}",
                (*group, *each.path),
                each.index,
                each.trainable,
                each.optional,
            )
            for (place, layer), group in zip(self._reader.layers, self._reader.groups, strict=True)
            for each in layer.variables()
        ]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Build all its layers."""
        own = {}
        for place, layer in self._reader.layers:
            prefix = f"{'/'.join(place)}/"
            own[id(layer)] = {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
        writer = Writer(own)
        inputs = [writer.tensor(self.where, shape) for shape in shapes]
        outputs = writer.model(self._model, inputs).flat
        self.graph = Graph(self.where, inputs, outputs, writer.nodes)
        self._interpreter = Interpreter(self.graph)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Those of the outputs, for the shapes that it was built for or of their kind."""
        known = {t.index: shape for t, shape in zip(self.graph.inputs, shapes, strict=True)}
        for node in self.graph.nodes:
            made = node.layer.output_shapes([known[t.index] for t in node.inputs])
            known |= {t.index: shape for t, shape in zip(node.outputs, made, strict=True)}
        return [known[t.index] for t in self.graph.outputs]

    def compute(self, call: Call) -> Result:
        """Run the model; masks end here."""
        return self.watched(call, None)

    def watched(self, call: Call, watch: Watch | None) -> Result:
        """`compute`, telling `watch` of every call inside."""
        outputs = self._interpreter.run(call.inputs, call.masks, watch)
        return Result(outputs, [None] * len(outputs))
