"""An ONNX graph of another program as the runtime's: its operators, one after the other.

What PyTorch writes for torch.nn.LSTM, GRU and RNN and simple layers around them is known: see
`OPERATORS` in `reading_shapes`, `reading_layers` and `reading_recurrent`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.graph import Graph
from recurra.runtime.layer import Array, Shape
from recurra.runtime.layers.config import shown
from recurra.runtime.onnx.drafts import Drafts
from recurra.runtime.onnx.package import onnx
from recurra.runtime.onnx.proto import File
from recurra.runtime.onnx.views import Atom, Known, LayoutError, Size, Stack, View, size_of

RECURRENT = ("LSTM", "GRU", "RNN")

_PASSING = ("Slice", "Gather", "Squeeze", "Unsqueeze", "Identity", "Cast", "Split", "Reshape")
"""Operators between an input of states and the recurrent operators that start from it."""

_DTYPES = {1: "float32", 10: "float32", 11: "float32", 6: "int32", 7: "int64"}


class Node:
    """One operator: what it is called, what it is given, and its attributes."""

    def __init__(self, proto: Any, file: File) -> None:
        self.kind, self.name = str(proto.op_type), str(proto.name or proto.op_type)
        self.domain = str(proto.domain)
        self.inputs, self.outputs = list(proto.input), list(proto.output)
        self._attributes = {each.name: each for each in proto.attribute}
        self._file = file

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute's value; texts as str, tensors as arrays."""
        if name not in self._attributes:
            return default
        attribute = self._attributes[name]
        if attribute.type == onnx().AttributeProto.TENSOR:
            return self._file.array(attribute.t)
        if attribute.type in (onnx().AttributeProto.GRAPH, onnx().AttributeProto.GRAPHS):
            raise self.unsupported("it has graphs inside.")
        value = onnx().helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, (list, tuple)) or attribute.type in (6, 7, 8):
            return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
        return value

    def unsupported(self, problem: str) -> UnsupportedLayerError:
        """An error that names the operator."""
        return UnsupportedLayerError(f"Operator '{self.name}' (ONNX's {self.kind}): {problem}")


class Reader:
    """What is known of the graph's tensors while its operators are read.

    Args:
        file: the ONNX file.
        time_first: whether inputs are (time_steps, batch, features).
    """

    def __init__(self, file: File, time_first: bool) -> None:
        self.file, self.time_first = file, time_first
        self.drafts = Drafts()
        self.known: dict[str, Known] = {}
        self._atoms = 0

    def atom(self, name: str, size: Size | int | None) -> Atom:
        """A new axis; None for a size of which nothing is known."""
        self._atoms += 1
        label = f"{name}#{self._atoms}"
        if size is None:
            size = Size(1, (label,))
        return Atom(label, size if isinstance(size, Size) else Size(size))

    def value(self, name: str) -> Known:
        """What is known of a tensor."""
        if name in self.known:
            return self.known[name]
        if name in self.file:
            return self.file.initializer(name)
        raise ModelFileError(f"The tensor {name!r} is used before anything makes it.")

    def constant(self, node: Node, place: int, what: str) -> Array:
        """A constant input of an operator."""
        value = self.value(node.inputs[place])
        if not isinstance(value, np.ndarray):
            raise node.unsupported(f"its {what} is computed from the input; it must be constant.")
        return self.file.copied(value)

    def view(self, node: Node, place: int) -> View:
        """An input that depends on the model's; several states become one tensor."""
        value = self.value(node.inputs[place])
        if isinstance(value, Stack):
            return self.joined(value)
        if not isinstance(value, View):
            raise node.unsupported("it computes with constants or shapes where data is expected.")
        return value

    def joined(self, stack: Stack) -> View:
        """States side by side: (batch, count * units), seen as (count, batch, units)."""
        first = stack.items[0]
        batch, units = first.axes
        if len(stack.items) == 1:
            return View(first.source, first.base, ((), batch, units))
        sources = [self.plain(item) for item in stack.items]
        source = self.drafts.layer("Concatenate", {"axis": -1}, sources, kind="merge")
        each = self.atom("units", size_of(units))
        number = self.atom("count", len(stack.items))
        return View(source, (batch, (number, each)), ((number,), batch, (each,)))

    def plain(self, view: View) -> int:
        """The number of a tensor that has the view's axes, the batch first."""
        if not view.axes or view.axes[0] != view.batch:
            raise LayoutError("the batch is not the first axis")
        if view.axes == view.base:
            return view.source
        atoms = [atom for axis in view.axes for atom in axis]
        given = [atom for axis in view.base for atom in axis]
        source, base = view.source, view.base
        if atoms != given:
            order = [n for axis in view.axes for n, each in enumerate(base) if each == axis]
            if sorted(order) != list(range(len(base))):
                raise LayoutError("axes are split and turned round")
            source = self.drafts.layer("Permute", {"dims": order[1:]}, [source])
            base = tuple(base[n] for n in order)
        if base == view.axes:
            return source
        sizes = [size_of(axis).known() for axis in view.axes[1:]]
        if sizes.count(None) > 1:
            raise LayoutError("a shape with several free sizes")
        target = [-1 if size is None else size for size in sizes]
        return self.drafts.layer("Reshape", {"target_shape": target}, [source])


def read_graph(file: File) -> Graph:
    """The graph that a file's operators are.

    Raises:
        UnsupportedLayerError: for an operator that is not known, naming it.
        ModelFileError: if the file contradicts itself.
    """
    nodes = [Node(proto, file) for proto in file.graph.node]
    if not any(node.kind in RECURRENT for node in nodes):
        raise UnsupportedLayerError(
            "It has no LSTM, GRU or RNN operator, and only models with these are read, not loops. "
            "torch.nn.RNN comes out of PyTorch's newer exporter as single steps: use "
            "torch.onnx.export(..., dynamo=False) for it."
        )
    problem: LayoutError | None = None
    for time_first in (False, True):
        try:
            return _read(file, nodes, time_first)
        except LayoutError as error:
            problem = problem or error
    raise UnsupportedLayerError(
        f"Its tensors are turned round in a way that is not understood ({problem}). Models whose "
        "input is (batch, time_steps, features), or (time_steps, batch, features) throughout, are."
    )


def _read(file: File, nodes: Sequence[Node], time_first: bool) -> Graph:
    from recurra.runtime.onnx.reading_layers import OPERATORS as LAYERS
    from recurra.runtime.onnx.reading_recurrent import OPERATORS as CELLS
    from recurra.runtime.onnx.reading_shapes import OPERATORS as SHAPES

    handlers: Mapping[str, Callable[[Reader, Node], Sequence[Known | None]]] = {
        **SHAPES,
        **LAYERS,
        **CELLS,
    }
    reader = Reader(file, time_first)
    states = _state_inputs(nodes)
    for proto in file.graph.input:
        if proto.name not in file:
            reader.known[proto.name] = _input(reader, proto, proto.name in states)
    for node in nodes:
        handler = handlers.get(node.kind) if node.domain in ("", "ai.onnx") else None
        if handler is None:
            raise node.unsupported(
                "the runtime does not read this operator. It reads LSTM, GRU and RNN and what "
                "PyTorch writes for Linear, Embedding, LayerNorm, Conv1d, activations, sums, "
                "products and slices around them. Export the recurrent part by itself."
            )
        try:
            made = handler(reader, node)
        except LayoutError as error:
            raise LayoutError(f"at the operator '{node.name}', {node.kind}: {error}") from None
        for name, value in zip(node.outputs, made, strict=False):
            if name and value is not None:
                reader.known[name] = value
    outputs = [each for proto in file.graph.output for each in _outputs(reader, proto.name)]
    return reader.drafts.graph(file.graph.name or "model", outputs, file.digest)


def _state_inputs(nodes: Sequence[Node]) -> set[str]:
    """Names of the tensors that recurrent operators start from, back to the model's inputs."""
    makers = {name: node for node in nodes for name in node.outputs}
    found: set[str] = set()
    waiting = [n for node in nodes if node.kind in RECURRENT for n in node.inputs[5:7] if n]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        node = makers.get(name)
        if node is not None and node.kind in _PASSING:
            waiting.append(node.inputs[0])
    return found


def _input(reader: Reader, proto: Any, is_state: bool) -> Known:
    """An input of the model; states of several layers become an input for each."""
    name, about = proto.name, proto.type.tensor_type
    if about.elem_type not in _DTYPES:
        raise UnsupportedLayerError(
            f"The input '{name}' is of ONNX's type {about.elem_type}; float, int32 and int64 are "
            "read."
        )
    dtype = _DTYPES[about.elem_type]
    sizes = [
        each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None
        for each in about.shape.dim
    ]
    if is_state and len(sizes) == 3:
        if sizes[0] is None or sizes[2] is None or sizes[0] > 1000:
            raise UnsupportedLayerError(
                f"The input '{name}' of states has shape {shown(sizes)}; its numbers of layers and "
                "of units must be fixed."
            )
        batch = (reader.atom(name, sizes[1]),)
        items = []
        for index in range(sizes[0]):
            label = name if sizes[0] == 1 else f"{name}_{index}"
            number = reader.drafts.input(label, (None, sizes[2]), dtype)
            own = (batch, (reader.atom(name, sizes[2]),))
            items.append(View(number, own, own))
        return Stack(tuple(items))
    axes = tuple((reader.atom(name, size),) for size in sizes)
    turned = reader.time_first and not is_state and len(axes) > 1
    base = (axes[1], axes[0], *axes[2:]) if turned else axes
    if not base:
        raise UnsupportedLayerError(f"The input '{name}' is a single number.")
    shape: Shape = (None, *(size_of(axis).known() for axis in base[1:]))
    return View(reader.drafts.input(name, shape, dtype), base, axes)


def _outputs(reader: Reader, name: str) -> list[tuple[int, str]]:
    """An output of the model with the batch first; states of several layers one by one."""
    value = reader.value(name)
    if isinstance(value, Stack):
        several = len(value.items) > 1
        return [
            (reader.plain(item), f"{name}_{index}" if several else name)
            for index, item in enumerate(value.items)
        ]
    if not isinstance(value, View):
        raise UnsupportedLayerError(f"The output '{name}' does not depend on the model's input.")
    places = [n for n, axis in enumerate(value.axes) if axis == value.batch]
    if not places:
        raise LayoutError("an output without a batch axis")
    order = [places[0], *(n for n in range(len(value.axes)) if n != places[0])]
    return [(reader.plain(value.transposed(order)), name)]
