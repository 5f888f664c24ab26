"""Calls of layers that an ONNX graph turns out to be, before it is known which results are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recurra.runtime.build import Writer
from recurra.runtime.create import Description, make_layer
from recurra.runtime.graph import Graph, Tensor
from recurra.runtime.layer import Array, Layer, Shape
from recurra.runtime.layers.operations import Slot, make_operation

Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Draft:
    """One call.

    Args:
        kind: "dense", "pointwise" (every time step by itself), "recurrent", "merge" or "other".
        make: given whether each output is used, the layer, its variables, and which of the outputs
            it then gives (None for one that nothing uses).
        inputs, outputs: numbers of tensors.
        states: numbers of the initial states.
        details: what later operators want to know of it.
    """

    kind: str
    make: Callable[[Sequence[bool]], tuple[Layer, Weights, Sequence[int | None]]]
    inputs: Sequence[int]
    outputs: Sequence[int]
    states: Sequence[int] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Drafts:
    """The calls so far, in an order in which each finds its inputs."""

    def __init__(self) -> None:
        self.calls: list[Draft] = []
        self.makers: dict[int, Draft] = {}
        self._count = 0
        self._names: dict[str, int] = {}
        self._inputs: list[tuple[int, str, Shape, str]] = []
        self._last: dict[int, int] = {}

    def number(self) -> int:
        """A new tensor's number."""
        self._count += 1
        return self._count - 1

    def input(self, name: str, shape: Shape, dtype: str) -> int:
        """An input of the model."""
        number = self.number()
        self._inputs.append((number, name, shape, dtype))
        return number

    def name(self, base: str) -> str:
        """A layer's name, counted as Keras counts."""
        count = self._names.get(base, 0)
        self._names[base] = count + 1
        return f"{base}_{count}" if count else base

    def add(self, draft: Draft) -> Sequence[int]:
        """Add a call; the numbers of its outputs."""
        self.calls.append(draft)
        for number in draft.outputs:
            self.makers[number] = draft
        return draft.outputs

    def layer(
        self,
        class_name: str,
        config: Mapping[str, Any],
        inputs: Sequence[int],
        weights: Weights | None = None,
        kind: str = "other",
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a call of a layer with one output; its number."""
        name = self.name(class_name.lower())
        entry = {
            "module": "keras.layers",
            "class_name": class_name,
            "config": {"name": name, **config},
        }

        def make(used: Sequence[bool]) -> tuple[Layer, Weights, Sequence[int | None]]:
            return make_layer(entry, name), weights or {}, [0]

        return self.add(Draft(kind, make, inputs, [self.number()], (), details or {}))[0]

    def take(self, source: int, key: Sequence[Any]) -> int:
        """Add an index, as in x[:, -1]; the number of the result."""
        name = self.name("get_item")
        found = Description("GetItem", "GetItem", {"name": name}, name, "operation", None)

        def make(used: Sequence[bool]) -> tuple[Layer, Weights, Sequence[int | None]]:
            operation = make_operation(found, name)
            return operation.called_with([Slot(0), list(key)], {}), {}, [0]

        return self.add(Draft("other", make, [source], [self.number()]))[0]

    def last(self, source: int) -> int:
        """Add the last time step of a tensor, as early as it can be had; its number."""
        if source not in self._last:
            self._last[source] = self._make_last(source)
        return self._last[source]

    def _make_last(self, source: int) -> int:
        draft = self.makers.get(source)
        if draft is not None and draft.kind == "recurrent" and source == draft.outputs[0]:
            state = draft.details.get("last")
            if state is not None:
                return int(state)
        if draft is not None and draft.kind in ("dense", "pointwise", "merge"):
            inputs = [self.last(number) for number in draft.inputs]
            again = Draft(draft.kind, draft.make, inputs, [self.number()], (), draft.details)
            return self.add(again)[0]
        return self.take(source, [slice(None), -1])

    def graph(self, name: str, outputs: Sequence[tuple[int, str]], digest: str) -> Graph:
        """The graph of what the outputs need."""
        used = {number for number, _ in outputs}
        kept: list[Draft] = []
        for draft in reversed(self.calls):
            if used & set(draft.outputs):
                used |= {*draft.inputs, *draft.states}
                kept.append(draft)
        weights: dict[int, Weights] = {}
        writer = Writer(weights)
        tensors: dict[int, Tensor] = {}
        for number, label, shape, dtype in self._inputs:
            tensors[number] = writer.tensor(label, shape, dtype)
        inputs = list(tensors.values())
        for draft in kept[::-1]:
            layer, given, places = draft.make([number in used for number in draft.outputs])
            weights[id(layer)] = given
            arguments = (
                {"initial_state": [tensors[number] for number in draft.states]}
                if draft.states
                else {}
            )
            made = writer.layer(layer, [tensors[number] for number in draft.inputs], arguments).flat
            for number, place in zip(draft.outputs, places, strict=True):
                if place is not None:
                    tensors[number] = made[place]
        ends = [
            Tensor(tensors[number].index, label, tensors[number].shape, tensors[number].dtype)
            for number, label in outputs
        ]
        return Graph(name, inputs, ends, writer.nodes, digest)
