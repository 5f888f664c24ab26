"""The time axes of a page: which sequences of a model run along the same steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight.structure import Node, Structure
from recurra.insight.tracing import LayerTrace, Trace

Array = NDArray[Any]

_SIDE_BY_SIDE = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
"""Layers that join sequences step by step, so that these run along the same steps."""

_OTHER_STEPS = ("Flatten", "Permute", "RepeatVector", "Reshape")
"""Layers behind which steps are others than before, even where there are as many."""


@dataclass
class Axis:
    """Steps that several sequences share.

    Args:
        name: whose steps they are.
        time_steps: how many.
        source: what tells it from another axis of as many steps.
        members: names of the inputs, and paths of the layers, that have these steps.
        mask: (batch, time_steps), True where a step is real; None for all, or if it is not known.
    """

    name: str
    time_steps: int
    source: str
    members: list[str] = field(default_factory=list)
    mask: Array | None = None


class Axes:
    """The axes of a trace.

    Args:
        trace: whose layers and inputs are looked at.
    """

    def __init__(self, trace: Trace) -> None:
        self.all: list[Axis] = []
        self._structure = trace.structure
        self._nodes = {node.path: node for node in trace.structure.nodes}
        self._makers = {tensor: node for node in trace.structure.nodes for tensor in node.outputs}
        self._lengths = {
            name: array.shape[1]
            for name, array in trace.inputs.items()
            if has_steps(array, trace.structure, name)
        }
        self._first = {name: name for name in self._lengths}
        for node in trace.structure.nodes:
            self._join(node)
        self._of: dict[str, int] = {}
        for name, length in self._lengths.items():
            self._of[name] = self._find(self._first[name], length, name, name)
            axis = self.all[self._of[name]]
            if name in trace.masks:
                axis.mask = np.asarray(trace.masks[name], bool)
        for path, layer in trace.items():
            self._add_layer(path, layer, trace.batch)

    def of(self, name: str) -> int | None:
        """The axis of an input or a layer; None if it has none."""
        return self._of.get(name)

    def of_output(self, tensor: int | None, time_steps: int) -> int:
        """The axis of a model's output (batch, time_steps, ...), made if there is none yet."""
        source = self._source(tensor, time_steps)
        return self._find(source or "output", time_steps, "output", None)

    def outer(self, path: str, batch: int, layer: LayerTrace) -> int | None:
        """Rows of a layer for one of the trace's; None if they cannot be told apart."""
        rows = len(layer.arrays["hidden_state"])
        return rows // batch if batch and rows % batch == 0 else None

    def node(self, path: str) -> Node | None:
        """The call in the structure that a layer of the trace is, or is a part of."""
        while path:
            if path in self._nodes:
                return self._nodes[path]
            path = path.rpartition("/")[0]
        return None

    def _add_layer(self, path: str, layer: LayerTrace, batch: int) -> None:
        length = int(layer.arrays["hidden_state"].shape[1])
        node = self.node(path)
        outer = self.outer(path, batch, layer)
        if outer == 1:
            source = self._source(node.inputs[0] if node and node.inputs else None, length)
            name = source
        else:  # the steps inside of an outer step
            source = name = "" if node is None else f"{node.path}, inner steps"
        index = self._find(source or path, length, name or path, path)
        self._of[path] = index
        axis = self.all[index]
        if outer == 1 and axis.mask is None and layer.mask is not None:
            axis.mask = np.asarray(layer.mask, bool)

    def _find(self, source: str, length: int, name: str, member: str | None) -> int:
        known = [(axis.source, axis.time_steps) for axis in self.all]
        if (source, length) not in known:
            known.append((source, length))
            self.all.append(Axis(name, length, source))
        index = known.index((source, length))
        if member is not None and member not in self.all[index].members:
            self.all[index].members.append(member)
        return index

    def _join(self, node: Node) -> None:
        """Let inputs that a call joins step by step have one axis, the first one's."""
        if node.class_name not in _SIDE_BY_SIDE or node.config.get("axis") in (1, -2):
            return
        ends = [self._end(tensor) for tensor in node.inputs]
        names = [self._name(end) for end in ends if isinstance(end, int)]
        for name in names[1:]:
            if self._lengths.get(name) == self._lengths.get(names[0]) is not None:
                old, new = self._first[name], self._first[names[0]]
                self._first = {k: new if v == old else v for k, v in self._first.items()}

    def _source(self, tensor: int | None, length: int) -> str:
        """What a tensor's steps come from: an input of the model, or the call that makes them."""
        end = None if tensor is None else self._end(tensor)
        if isinstance(end, Node):
            return end.path
        name = "" if end is None else self._name(end)
        if self._lengths.get(name) == length:
            return self._first[name]
        return self._fallback(length)

    def _end(self, tensor: int) -> int | Node | None:
        """Where a tensor's steps come from: a tensor that nothing makes, or a call."""
        seen = set()
        while tensor not in seen:
            seen.add(tensor)
            maker = self._makers.get(tensor)
            if maker is None:
                return tensor
            keeps = (
                maker.recurrent is None
                or maker.recurrent.return_sequences
                or maker.class_name == "TimeDistributed"  # whatever it holds
            )
            if maker.class_name in _OTHER_STEPS or not keeps or not maker.inputs:
                return maker
            tensor = maker.inputs[0]
        return None

    def _name(self, tensor: int) -> str:
        """The name that the trace has for an input of the model."""
        inputs = list(self._structure.inputs)
        names = list(self._lengths)
        name = self._structure.tensors[tensor].name
        if name not in self._lengths and tensor in inputs and len(names) == len(inputs):
            name = names[inputs.index(tensor)]
        return name

    def _fallback(self, length: int) -> str:
        """The only input with so many steps; else nothing that has a name."""
        fitting = [name for name, steps in self._lengths.items() if steps == length]
        return self._first[fitting[0]] if fitting else ""


def has_steps(array: Array, structure: Structure, name: str) -> bool:
    """Whether an input of a model has time steps: (batch, time_steps, ...)."""
    if array.ndim >= 3:
        return True
    if array.ndim != 2:
        return False
    # (batch, time_steps) of indices, or (batch, features)?
    return bool(np.issubdtype(array.dtype, np.integer)) or _read_as_indices(structure, name)


def _read_as_indices(structure: Structure, name: str) -> bool:
    tensors = [t.index for t in structure.tensors if t.name == name and t.index in structure.inputs]
    if not tensors and len(structure.inputs) == 1:
        tensors = list(structure.inputs)
    return any(user.class_name == "Embedding" for t in tensors for user in structure.users(t))
