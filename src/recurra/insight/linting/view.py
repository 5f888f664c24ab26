"""A structure as the rules look at it: who makes a tensor, who reads it, what becomes of time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from recurra.insight.structure import Node, Recurrent, Structure, Tensor

# Layers that compute every step by itself, or all of them in their order: step t of the output
# belongs to step t of the input.
STEPWISE = frozenset(
    {
        *("Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense"),
        *("Dropout", "ELU", "EinsumDense", "Embedding", "GaussianDropout", "GaussianNoise"),
        *("GroupNormalization", "Identity", "LayerNormalization", "LeakyReLU", "Masking"),
        *("Normalization", "PReLU", "RMSNormalization", "ReLU", "Rescaling", "Softmax"),
        *("SpatialDropout1D", "SpectralNormalization", "TimeDistributed", "UnitNormalization"),
    }
)

MERGES = frozenset({"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"})

# Layers of Keras's that make new steps of neighbouring ones, in the same order, without masks.
NEIGHBOURS = frozenset(
    {
        *("AveragePooling1D", "Conv1D", "Conv1DTranspose", "Cropping1D", "DepthwiseConv1D"),
        *("MaxPooling1D", "SeparableConv1D", "UpSampling1D", "ZeroPadding1D"),
    }
)

ATTENTION = frozenset(
    {"AdditiveAttention", "Attention", "GroupQueryAttention", "MultiHeadAttention"}
)


class View:
    """A structure with its tensors' makers and readers at hand.

    padded_at_end: whether data was given, all of whose padding comes after the real steps.
    """

    def __init__(self, structure: Structure, *, padded_at_end: bool = False) -> None:
        self.padded_at_end = padded_at_end
        self.structure = structure
        self.nodes = structure.nodes
        self.tensors = {tensor.index: tensor for tensor in structure.tensors}
        self.makers = {out: node for node in self.nodes for out in node.outputs}

    @cached_property
    def readers(self) -> dict[int, list[Node]]:
        """The calls that are given a tensor in any role, by its number."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(inputs_of(node)):
                found.setdefault(tensor, []).append(node)
        return found

    @property
    def trains(self) -> bool:
        """Whether the model can still be trained: a Runtime cannot."""
        return self.structure.kind != "Runtime"

    def input(self, node: Node) -> Tensor | None:
        """A call's first input."""
        return self.tensors.get(node.inputs[0]) if node.inputs else None

    def output(self, node: Node) -> Tensor | None:
        """A call's first output."""
        return self.tensors.get(node.outputs[0]) if node.outputs else None

    def is_used(self, tensor: int) -> bool:
        """Whether a call reads a tensor, or the model returns it."""
        return tensor in self.structure.outputs or bool(self.readers.get(tensor))

    def recurrent(self) -> Iterator[tuple[Node, Recurrent]]:
        """The calls of recurrent layers whose inputs are known."""
        for node in self.nodes:
            if node.recurrent is not None and node.inputs:
                yield node, node.recurrent

    def label(self, tensor: int) -> str:
        """What to call a tensor in a sentence: by the call that makes it, or the input's name."""
        maker = self.makers.get(tensor)
        if maker is None:
            return f"the input {self.tensors[tensor].name!r}"
        name = output_name(maker, tensor)
        of = "" if name == "output" and len(maker.outputs) == 1 else f"{name} of "
        return f"{of}{maker.path!r}"


def reached(view: View, tensor: int, passing: frozenset[str]) -> Iterator[Node]:
    """The recurrent calls that read a tensor, or what such layers make of it."""
    waiting, seen = [tensor], set()
    while waiting:
        current = waiting.pop(0)
        for node in view.readers.get(current, []):
            if current not in node.inputs or node.path in seen:
                continue
            seen.add(node.path)
            if node.recurrent is not None:
                yield node
            elif node.class_name in passing:
                waiting += node.outputs


def inputs_of(node: Node) -> tuple[int, ...]:
    """Every tensor that a call is given."""
    others = (tensor for group in node.others.values() for tensor in group)
    return (*node.inputs, *node.states, *others)


def output_name(node: Node, tensor: int) -> str:
    """What a call's output is called: "output", "state_h", ..."""
    place = node.outputs.index(tensor)
    return node.output_names[place] if place < len(node.output_names) else f"output {place}"


def kind(node: Node) -> str:
    """A recurrent call's layer with what it holds: "LSTM", "Bidirectional(LSTM)"."""
    return node.class_name if node.recurrent is None else kind_of(node.recurrent)


def kind_of(layer: Recurrent) -> str:
    """As `kind`, of a layer."""
    if layer.parts:
        return f"{layer.class_name}({kind_of(layer.parts[0][1])})"
    return layer.class_name


def inner(layer: Recurrent) -> Recurrent:
    """The first layer with cells of its own in a wrapper, or the layer itself."""
    return inner(layer.parts[0][1]) if layer.parts else layer


def rank(tensor: Tensor | None) -> int | None:
    """How many axes a tensor has; None where that is not known."""
    return None if tensor is None or tensor.shape is None else len(tensor.shape)


def shape_text(tensor: Tensor | None) -> str:
    """A shape for people: "(B, 7, 32)", T for a free number of steps."""
    if tensor is None or tensor.shape is None:
        return "unknown"
    names = ["B", "T"]
    sizes = [
        (names[axis] if axis < 2 and (axis == 0 or rank(tensor) == 3) else "?")
        if size is None
        else str(size)
        for axis, size in enumerate(tensor.shape)
    ]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def size_at(tensor: Tensor | None, axis: int) -> int | None:
    """A size of a tensor; None where it is free or not known."""
    if tensor is None or tensor.shape is None or len(tensor.shape) <= axis:
        return None
    return tensor.shape[axis]


def argument(node: Node, name: str) -> Any:
    """What is known of a layer's configuration under a name; None if nothing is."""
    return node.config.get(name)
