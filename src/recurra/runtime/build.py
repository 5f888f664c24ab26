"""From a model file's contents to a graph: weights given to layers, calls put in order.

Nested models are flattened: their layers are called "inner/dense". A layer that is called several
times is one object in several nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from recurra.runtime import custom as custom_functions
from recurra.runtime.calls import MOST_LAYERS, Invocation, Reference, references
from recurra.runtime.create import describe
from recurra.runtime.describe_model import Entry, Input, Model, Reader
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.layer import Array, Call, Layer, Result, Shape
from recurra.runtime.layers.config import bounded, shown
from recurra.runtime.wiring import Values, in_order, value_of

if TYPE_CHECKING:
    from recurra.runtime.files import SavedModel

INSIDE = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)
"""What inconsistent configurations raise where no check foresaw them."""


class Built(NamedTuple):
    """A graph, and how Keras nests the model's inputs and outputs.

    Args:
        graph: the model.
        inputs, outputs: a number (the index in `graph.inputs` or `graph.outputs`), or a list or
            dict of such.
    """

    graph: Graph
    inputs: Any
    outputs: Any


def build(saved: SavedModel, custom: Mapping[str, Callable[..., Any]] | None = None) -> Built:
    """The graph of a model file.

    Args:
        saved: what `recurra.runtime.files.read` gave.
        custom: the user's functions by the names of classes or layers, as for `recurra.load`.

    Raises:
        UnsupportedLayerError: for what the runtime has no code for.
        ModelFileError: if configuration and weights contradict themselves or each other.
    """
    with custom_functions.given(custom):
        try:
            return _build(saved)
        except ModelFileError:
            raise
        except RecursionError:
            raise ModelFileError("The model's configuration is nested too deep.") from None
        except INSIDE as error:
            raise ModelFileError(
                "The model's configuration is inconsistent: while it was read, "
                f"{type(error).__name__} was raised ({str(error)[:200]})."
            ) from error


def _build(saved: SavedModel) -> Built:
    from recurra.runtime.files import Request

    found = describe(
        {"class_name": saved.class_name, "config": saved.config, "module": "keras"}, "the model"
    )
    if (
        found.class_name not in ("Sequential", "Functional", "Model")
        or "layers" not in found.config
    ):
        raise UnsupportedLayerError(
            f"The model is a {found.class_name}, a class of its own whose code is not in the file. "
            "If it has the structure of a functional model, save "
            "keras.Model(model.inputs, model.outputs) instead."
        )
    reader = Reader()
    model = reader.model(found)
    requests = [Request(place, wanted_variables(layer)) for place, layer in reader.layers]
    values = saved.weights.read_all(requests)
    weights = {id(layer): w for (_, layer), w in zip(reader.layers, values, strict=True)}
    writer = Writer(weights)
    inputs, structure = _inputs(model, writer)
    outputs = writer.model(model, inputs)
    inputs, nodes = _with_indices(inputs, writer.nodes, outputs.flat)
    graph = Graph(found.name, inputs, outputs.flat, nodes, str(saved.digest))
    return Built(graph, structure, outputs.structure)


def wanted_variables(layer: Layer) -> Any:
    """A layer's variables; None for everything that is there."""
    everything = isinstance(layer, custom_functions.FunctionLayer)
    everything |= getattr(layer, "takes_all_weights", False)
    return None if everything else layer.variables()


class Writer:
    """Writes a graph's nodes, building every layer at its first call."""

    def __init__(self, weights: Mapping[int, Mapping[str, Array]]) -> None:
        self.nodes: list[Node] = []
        self._weights = weights
        self._built: set[int] = set()
        self._tensors = 0

    def tensor(self, name: str, shape: Shape, dtype: str = "float32") -> Tensor:
        """A new tensor."""
        self._tensors += 1
        return Tensor(self._tensors - 1, name, shape, dtype)

    def model(self, model: Model, inputs: Sequence[Tensor]) -> Values:
        """Write all calls of a model on these inputs (flat).

        Returns:
            The model's outputs.
        """
        if model.sequential:
            return self._sequential(model, inputs)
        wanted = list(references(model.inputs))
        known: dict[tuple[str, int], Values] = {}
        for reference, tensor in zip(wanted, inputs, strict=True):
            known[reference.layer, 0] = Values([tensor])
        for entry, number in in_order(model, known):
            call = entry.calls[number]
            known[entry.name, number] = self.call(
                entry, *_resolved(call, lambda r: value_of(model, known, r))
            )
        flat: list[Tensor] = []

        def output(reference: Reference) -> int:
            flat.append(value_of(model, known, reference, of_model=True))
            return len(flat) - 1

        structure = _mapped(model.outputs, output)
        return Values(flat, _unpacked(structure))

    def _sequential(self, model: Model, inputs: Sequence[Tensor]) -> Values:
        entries = list(model.entries.values())
        if isinstance(entries[0].part, Input):
            entries = entries[1:]
        values = Values(list(inputs), 0 if len(inputs) == 1 else [*range(len(inputs))])
        for entry in entries:
            given = values.flat[0] if len(values.flat) == 1 else values.flat
            values = self.call(entry, [given], {})
        return values

    def call(self, entry: Entry, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Values:
        """Write one call; Tensors stand in the arguments."""
        if isinstance(entry.part, Model):
            return self._call_model(entry.part, arguments, keywords)
        assert isinstance(entry.part, Layer)
        if hasattr(entry.part, "called_with"):
            given = tensors([list(arguments), keywords])
            slots = iter(range(len(given)))
            marked = [_marked(each, slots) for each in arguments]
            named = {name: _marked(keywords[name], slots) for name in sorted(keywords)}
            return self.layer(entry.part.called_with(marked, named), given, {})
        inputs, others = bind(entry.part, arguments, keywords)
        return self.layer(entry.part, inputs, others)

    def layer(self, layer: Layer, inputs: Sequence[Tensor], arguments: Mapping[str, Any]) -> Values:
        """Write one call of a layer, which is built if it has not been called before."""
        if len(self.nodes) >= MOST_LAYERS:
            raise ModelFileError(f"The model has more than {MOST_LAYERS} calls of layers.")
        shapes = [tensor.shape for tensor in inputs]
        try:
            if id(layer) not in self._built:
                weights = self._weights.get(id(layer), {})
                layer.build(weights, shapes)
                layer.weights, layer.shapes = weights, shapes
                self._built.add(id(layer))
            found = layer.call_shapes(shapes, arguments)
            for shape in (*found, *_smallest(layer, shapes)):
                bounded(shape, layer.where)
        except ModelFileError:
            raise
        except INSIDE as error:
            raise layer.fail(
                f"it does not fit its inputs of shapes {shown(shapes)} "
                f"({type(error).__name__}: {str(error)[:200]})."
            ) from error
        outputs = [self.tensor(layer.where, shape) for shape in found]
        self.nodes.append(Node(layer, tuple(inputs), tuple(outputs), arguments))
        return Values(outputs, _unpacked([*range(len(outputs))]))

    def _call_model(
        self, model: Model, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Values:
        if not arguments and "inputs" in keywords:
            arguments = [keywords["inputs"]]
        if len(arguments) != 1:
            raise ModelFileError(
                f"The model '{model.where}' is called with {len(arguments)} arguments; expected 1."
            )
        given = arguments[0]
        if isinstance(given, Mapping) and isinstance(model.inputs, (list, Reference)):
            names = [reference.layer for reference in references(model.inputs)]
            if set(names) <= set(given):
                given = [given[name] for name in names]
        inputs = tensors(given)
        count = 1 if model.inputs is None else len(list(references(model.inputs)))
        if len(inputs) != count:
            raise ModelFileError(
                f"The model '{model.where}' is called on {len(inputs)} tensors; expected {count}."
            )
        masks = tensors(keywords.get("mask"))
        if masks:
            inputs = [
                self.layer(WithMask({}, f"{model.where}/mask"), [tensor], {"mask": mask}).flat[0]
                for tensor, mask in zip(inputs, masks, strict=False)
            ] + inputs[len(masks) :]
        return self.model(model, inputs)


class WithMask(Layer):
    """Gives a nested model's input the mask that the call of the model names."""

    def compute(self, call: Call) -> Result:
        """The input; its mask is the call's already."""
        return Result(call.inputs, call.masks)


def bind(
    layer: Layer, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[list[Tensor], dict[str, Any]]:
    """A call's arguments as the layer's inputs and its other arguments.

    Returns:
        The tensors of the first `layer.operands` parameters, flat, and the others by name.
    """
    named = {name: value for name, value in keywords.items() if name != "training"}
    if isinstance(layer, custom_functions.FunctionLayer):
        return layer.bind(arguments, named, tensors)
    if len(arguments) > len(layer.parameters):
        raise layer.fail(f"it is called with {len(arguments)} arguments.")
    named.update(zip(layer.parameters, arguments, strict=False))
    operands = layer.parameters[: layer.operands]
    inputs = [tensor for name in operands for tensor in tensors(named.pop(name, None))]
    if not inputs:
        raise layer.fail("it is called on no tensor.")
    if "initial_state" in layer.parameters:
        # Keras 2 wrote the states behind the input, in one list.
        states = tensors(named.pop("initial_state", None)) or inputs[1:]
        inputs = inputs[:1]
        if states:
            named["initial_state"] = states
    mask = named.get("mask")
    listed = mask if isinstance(mask, list) else [mask]
    if not all(each is None or isinstance(each, Tensor) for each in listed):
        raise layer.fail(f"it is called with mask={shown(mask)}; expected a tensor.")
    return inputs, {name: value for name, value in named.items() if value is not None}


def tensors(value: Any) -> list[Tensor]:
    """All tensors in nested arguments, dicts in the order of their keys."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [each for key in sorted(value, key=str) for each in tensors(value[key])]
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in tensors(item)]
    return []


def _marked(value: Any, slots: Iterator[int]) -> Any:
    """An operation's argument with the numbers of its tensors in their places."""
    if isinstance(value, Tensor):
        from recurra.runtime.layers.operations import Slot

        return Slot(next(slots))
    if isinstance(value, (list, tuple)):
        return [_marked(each, slots) for each in value]
    return value


def _inputs(model: Model, writer: Writer) -> tuple[list[Tensor], Any]:
    """The root model's input tensors, and how they are nested."""
    if model.inputs is None:
        raise ModelFileError(
            f"The model '{model.where}' does not say what its input looks like: it was saved "
            "before it was built. Call it on data, or give it a keras.Input, and save it again."
        )
    found: list[Tensor] = []

    def one(reference: Reference) -> int:
        entry = model.entries.get(reference.layer)
        if entry is None or not isinstance(entry.part, Input):
            raise ModelFileError(
                f"The model '{model.where}' names '{reference.layer}' as an input, but it has no "
                "InputLayer of that name."
            )
        found.append(
            writer.tensor(entry.name, bounded(entry.part.shape, entry.name), entry.part.dtype)
        )
        return len(found) - 1

    structure = _mapped(model.inputs, one)
    return found, _unpacked(structure)


def _resolved(call: Invocation, value: Callable[[Reference], Tensor]) -> tuple[list[Any], Any]:
    return (
        [_mapped(each, value) for each in call.arguments],
        {name: _mapped(each, value) for name, each in call.keywords.items()},
    )


def _mapped(value: Any, function: Callable[[Reference], Any]) -> Any:
    """A nested structure with every reference replaced, in flat order."""
    if isinstance(value, Reference):
        return function(value)
    if isinstance(value, Mapping):
        made = {key: _mapped(value[key], function) for key in sorted(value, key=str)}
        return {key: made[key] for key in value}
    if isinstance(value, (list, tuple)):
        return [_mapped(each, function) for each in value]
    return value


def _unpacked(structure: Any) -> Any:
    """Keras gives a list of one as the one."""
    return structure[0] if isinstance(structure, list) and len(structure) == 1 else structure


def _smallest(layer: Layer, shapes: Sequence[Shape]) -> list[Shape]:
    """What a layer makes of the smallest inputs, to see what comes of their free sizes."""
    try:
        return layer.output_shapes(
            [tuple(1 if size is None else size for size in shape) for shape in shapes]
        )
    except ModelFileError:
        return []  # too short for a window


def _with_indices(
    inputs: Sequence[Tensor], nodes: Sequence[Node], outputs: Sequence[Tensor]
) -> tuple[list[Tensor], list[Node]]:
    """Inputs that only embeddings read are integers, whatever Keras calls them.

    Keras's own default for an input is float32, which embeddings convert. What makes an embedding's
    mask, a comparison with a constant, may read them too.
    """
    from recurra.runtime.layers.core import Embedding

    other = {t.index for t in outputs}
    read: set[int] = set()
    for node in nodes:
        found = {tensor.index for tensor in node.inputs}
        if isinstance(getattr(node.layer, "layer", node.layer), Embedding):
            read |= found
        elif node.layer.keras_class not in ("Equal", "NotEqual") or len(node.inputs) > 1:
            other |= found
        other |= {tensor.index for tensor in tensors(dict(node.arguments))}
    changed = {t.index: replace(t, dtype="int32") for t in inputs if t.index in read - other}
    if not changed:
        return list(inputs), list(nodes)
    return [changed.get(t.index, t) for t in inputs], [
        replace(n, inputs=tuple(changed.get(t.index, t) for t in n.inputs)) for n in nodes
    ]
