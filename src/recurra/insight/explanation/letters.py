"""Which free sizes of a model are the same: one letter for each.

A model with two sequences of lengths of their own, such as an encoder and a decoder, has the
letters T and T2.
"""

from __future__ import annotations

from recurra.insight.explanation.sizes import SymbolicShape, symbolic
from recurra.insight.structure import Node, Structure, Tensor


def shapes_of(structure: Structure) -> dict[int, SymbolicShape]:
    """The shape of every tensor, with letters; () where it is not known."""
    lengths = _Lengths(structure)
    items = any(_is_items(node) for node in structure.nodes)
    found = {}
    for tensor in structure.tensors:
        letters = "BTF"
        if items and tensor.shape is not None and len(tensor.shape) == 4:
            letters = "BNTF"
        shape = symbolic(tensor.shape, letters)
        name = lengths.name(tensor.index)
        if len(shape) > 1 and shape[1] == "T" and name:
            shape = (shape[0], name, *shape[2:])
        found[tensor.index] = shape
    return found


def _is_items(node: Node) -> bool:
    return node.recurrent is not None and node.recurrent.class_name == "TimeDistributed"


class _Lengths:
    """The free lengths of a model's sequences, followed through its calls."""

    def __init__(self, structure: Structure) -> None:
        self._origin: dict[int, int] = {}  # tensor -> the input whose length it has
        self._same: dict[int, int] = {}  # input -> an input of the same length
        tensors = {tensor.index: tensor for tensor in structure.tensors}
        for index in structure.inputs:
            if _is_free(tensors[index]):
                self._origin[index] = index
        for node in structure.nodes:
            known = [self._root(self._origin[i]) for i in node.inputs if i in self._origin]
            if not known:
                continue
            if len(known) > 1 and _joins(node):
                for other in known[1:]:
                    self._join(known[0], other)
            for index in node.outputs:
                if _is_free(tensors[index]):
                    self._origin[index] = known[0]
        roots = list(dict.fromkeys(self._root(i) for i in self._origin.values()))
        self._names = {root: f"T{i + 1}" if i else "T" for i, root in enumerate(roots)}

    def name(self, tensor: int) -> str:
        """The letter for a tensor's length; "" if nothing is known of it."""
        origin = self._origin.get(tensor)
        return "" if origin is None else self._names[self._root(origin)]

    def _root(self, index: int) -> int:
        while index in self._same:
            index = self._same[index]
        return index

    def _join(self, a: int, b: int) -> None:
        a, b = sorted((self._root(a), self._root(b)))
        if a != b:
            self._same[b] = a


def _is_free(tensor: Tensor) -> bool:
    return tensor.shape is not None and len(tensor.shape) > 1 and tensor.shape[1] is None


def _joins(node: Node) -> bool:
    """Whether a call lays its inputs side by side, step by step."""
    return node.recurrent is None and "Attention" not in node.class_name
