"""From a graph to the compiled plan's operations: one function per layer, in a registry.

A function of the registry gets a layer and the values of its inputs, adds operations, and returns
the values of its outputs; where a layer needs time steps that have not come yet, or changes how
many there are, it raises StreamingError.

What a plan's tensors are: "steps" (batch, time_steps, width) float32; "ids" (batch, time_steps)
int32; "row" (batch, width) and "id_row" (batch,) have no time; "mask" (batch, time_steps) bool.

Functional models compute masks by operations on bools, (batch, time_steps, features) on the way:
of such a "wide" value only the masks are kept that it is made of, since all that is ever asked of
it is whether any of its features is True.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from recurra.runtime.errors import StreamingError
from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.layer import Array, Layer

KEEP_ALL = -1
"""Stands for the number of a mask that is True everywhere."""

Kind = Literal["steps", "row", "ids", "id_row", "mask", "wide"]
Op = dict[str, Any]


class Value(NamedTuple):
    """What a tensor of the graph is in the plan.

    Args:
        number: the plan's tensor.
        kind: see the top of this module.
        features: the axes after batch and time; () for indices. The plan sees their product.
        mask: number of the mask's tensor, for steps.
        running: for a row, whether it is made from the time steps so far, and so changes.
        inside: whether a TimeDistributed shows it to its layer, which sees no time then.
        parts: of a "wide" value, the masks (and KEEP_ALL) that its features are made of by "or".
    """

    number: int
    kind: Kind
    features: tuple[int, ...]
    mask: int | None = None
    running: bool = False
    inside: bool = False
    parts: frozenset[int] = frozenset()

    @property
    def timed(self) -> bool:
        """Whether it has a value for every time step."""
        return self.kind in ("steps", "ids", "mask", "wide")

    @property
    def has_time_axis(self) -> bool:
        """Whether the layer that gets it sees a time axis."""
        return self.timed and not self.inside

    @property
    def rank(self) -> int:
        """How many axes the layer that gets it sees, the batch among them."""
        return 1 + self.has_time_axis + len(self.features)

    @property
    def width(self) -> int:
        """How many numbers the plan's tensor has for each row and step."""
        return math.prod(self.features)

    def unmasked(self) -> Value:
        """Without its mask, as layers leave it that do not know of masks."""
        return self._replace(mask=None)


Lower = Callable[["Lowering", Layer, Sequence[Value], Mapping[str, Any]], Sequence[Value]]
"""(lowering, layer, inputs, arguments) -> outputs; tensors in `arguments` are values."""

LOWERINGS: dict[type[Layer], Lower] = {}
"""How each layer is lowered, by the class that states how it computes."""

F = TypeVar("F", bound=Lower)


def lowers(*classes: type[Layer]) -> Callable[[F], F]:
    """Name a function as the lowering of these layers."""

    def name(function: F) -> F:
        for cls in classes:
            LOWERINGS[cls] = function
        return function

    return name


class Lowered(NamedTuple):
    """A plan before it is compiled: the arguments of `recurra._engine.Plan`.

    Args:
        tensors: kind and width of each.
        ops: the operations in order.
        inputs: tensor numbers of the model's inputs, then of the masks that are given with them.
        outputs: tensor numbers.
    """

    tensors: Sequence[tuple[str, int]]
    ops: Sequence[Op]
    inputs: Sequence[int]
    outputs: Sequence[int]


class Lowering:
    """A plan that grows, operation by operation."""

    def __init__(self) -> None:
        self.tensors: list[tuple[str, int]] = []
        self.ops: list[Op] = []
        self._names: set[str] = set()

    def tensor(self, kind: str, width: int) -> int:
        """A new tensor's number."""
        self.tensors.append((kind, width))
        return len(self.tensors) - 1

    def add(self, op: str, **fields: Any) -> None:
        """Add an operation; arrays become what the plan takes, contiguous float32."""
        for name, field in fields.items():
            if isinstance(field, np.ndarray):
                fields[name] = np.ascontiguousarray(field, np.float32)
        self.ops.append({"op": op, **fields})

    def once(self, op: str, output: str, **fields: Any) -> int:
        """An operation that is added only if it is not there yet; the number of its output.

        Args:
            op: its name.
            output: the kind of its output, of width 1.
            **fields: its other fields.
        """
        for known in self.ops:
            if known["op"] == op and all(known.get(name) == fields[name] for name in fields):
                return int(known["output"])
        number = self.tensor(output, 1)
        self.add(op, output=number, **fields)
        return number

    def id_mask(self, ids: Value) -> int:
        """The mask of indices that are not 0."""
        for op in self.ops:
            if op["op"] == "mask_ids" and op["input"] == ids.number:
                return int(op["mask"])
        mask = self.tensor("mask", 1)
        self.add("mask_ids", input=ids.number, mask=mask)
        return mask

    def masked(self, layer: Layer, x: Value, value: float) -> tuple[int, int]:
        """Steps with zeros where all features are `value`, and the mask of the others."""
        one_axis(layer, x)
        for op in self.ops:
            if op["op"] == "masking" and (op["input"], op["value"]) == (x.number, value):
                return int(op["output"]), int(op["mask"])
        output, mask = self.tensor("steps", x.width), self.tensor("mask", 1)
        self.add("masking", input=x.number, output=output, mask=mask, value=value)
        return output, mask

    def dense(self, x: Value, kernel: Array, bias: Array | None) -> Value:
        """x · kernel + bias over the last axis."""
        output = self.like(x, (*x.features[:-1], kernel.shape[1]))
        self.add("dense", input=x.number, output=output.number, kernel=kernel, bias=bias)
        return output

    def like(self, value: Value, features: Sequence[int] | None = None) -> Value:
        """A new value of the same kind, mask and dependence on time, of other features."""
        features = value.features if features is None else tuple(features)
        kind: Kind = "steps" if value.timed else "row"
        number = self.tensor(kind, math.prod(features))
        return value._replace(number=number, kind=kind, features=features)

    def state_name(self, name: str) -> str:
        """A prefix for a state that nothing else has: a layer called twice has two states."""
        unique, count = name, 1
        while unique in self._names:
            count += 1
            unique = f"{name}#{count}"
        self._names.add(unique)
        return unique

    def lower(
        self, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
    ) -> Sequence[Value]:
        """Add one call of a layer.

        Raises:
            StreamingError: if it cannot run step by step.
        """
        from recurra.runtime.streaming.layers import find

        function = find(layer)
        if function is None:
            from recurra.runtime.streaming.refusals import refusal

            raise refuse(layer, *refusal(layer, inputs))
        self._check_kinds(layer, inputs)
        inputs = self._with_explicit_masks(layer, inputs, arguments.get("mask"))
        return function(self, layer, inputs, arguments)

    def calls(self, nodes: Sequence[Node], values: dict[int, Value]) -> None:
        """Add the calls of a graph.

        Args:
            nodes: the calls in order.
            values: of the graph's tensors, by number: those of its inputs, and then of all.
        """

        def resolve(argument: Any) -> Any:
            if isinstance(argument, Tensor):
                return values[argument.index]
            if isinstance(argument, (list, tuple)):
                return [resolve(item) for item in argument]
            return argument

        for node in nodes:
            inputs = [values[tensor.index] for tensor in node.inputs]
            arguments = {name: resolve(argument) for name, argument in node.arguments.items()}
            outputs = self.lower(node.layer, inputs, arguments)
            for tensor, value in zip(node.outputs, outputs, strict=True):
                values[tensor.index] = value

    @staticmethod
    def _check_kinds(layer: Layer, inputs: Sequence[Value]) -> None:
        """Only embeddings take indices, and only operations on masks take masks."""
        if all(value.kind in ("steps", "row") for value in inputs):
            return
        from recurra.runtime.layers.core import Embedding, Identity
        from recurra.runtime.layers.operations import Operation

        if isinstance(layer, Operation):
            return
        if any(value.kind in ("mask", "wide") for value in inputs):
            raise refuse(layer, "it computes with a mask")
        indices = any(value.kind in ("ids", "id_row") for value in inputs)
        if indices and not isinstance(layer, (Embedding, Identity)):
            raise refuse(
                layer,
                "it gets an input that another layer takes for indices of an Embedding",
                "give the model an input of its own for each",
            )

    @staticmethod
    def _with_explicit_masks(
        layer: Layer, inputs: Sequence[Value], explicit: Any
    ) -> Sequence[Value]:
        """The inputs with the masks that the call names, if it names any."""
        if explicit is None:
            return inputs
        masks = explicit if isinstance(explicit, list) else [explicit] * len(inputs)
        changed = []
        for value, mask in zip(inputs, masks, strict=True):
            if mask is None or mask == KEEP_ALL:
                changed.append(value.unmasked())
            elif isinstance(mask, Value) and mask.kind == "mask" and value.has_time_axis:
                number = None if mask.number == KEEP_ALL else mask.number
                changed.append(value._replace(mask=number))
            else:
                raise refuse(
                    layer,
                    "the mask that it is called with is not one of time steps",
                    "let masks come from Masking or Embedding layers",
                )
        return changed


def refuse(layer: Layer, reason: str, instead: str = "") -> StreamingError:
    """The error that a layer cannot run step by step.

    Args:
        layer: the layer.
        reason: goes on from "cannot run step by step: ".
        instead: what to do about it; `predict` is always named.
    """
    advice = f"{instead[:1].upper()}{instead[1:]}, or use" if instead else "Use"
    return StreamingError(
        f"Layer '{layer.where}' ({layer.keras_class}) cannot run step by step: {reason}. "
        f"{advice} predict(), which runs whole sequences."
    )


def one_axis(layer: Layer, value: Value) -> int:
    """The size of the last axis, of a value whose other feature axes, if any, are of size 1.

    Raises:
        StreamingError: for more feature axes than that.
    """
    if not value.features or math.prod(value.features[:-1]) != 1:
        raise refuse(
            layer,
            f"its input has {len(value.features)} feature axes, {value.features}; in a stream "
            "layers see one",
            "flatten the features",
        )
    return value.features[-1]


def lower(graph: Graph, masked: Sequence[bool] = ()) -> tuple[Lowered, list[Value], list[Value]]:
    """Lower a model.

    Args:
        graph: the model.
        masked: for each input whether a mask is given with it; it stands after the inputs then.

    Returns:
        The plan to compile, and the values of the model's inputs and outputs.

    Raises:
        StreamingError: if the model cannot run step by step.
    """
    from recurra.runtime.streaming.inputs import input_kinds
    from recurra.runtime.streaming.prune import needed_nodes, prune

    nodes = needed_nodes(graph)
    error: StreamingError | None = None
    for kinds in input_kinds(graph, nodes):
        try:
            lowering, inputs, outputs, masks = _lower_with(graph, nodes, kinds, masked)
        except StreamingError as problem:
            error = error or problem
        else:
            lowered = Lowered(
                lowering.tensors,
                lowering.ops,
                [value.number for value in inputs] + masks,
                [value.number for value in outputs],
            )
            return prune(lowered), inputs, outputs
    assert error is not None
    raise error


def _lower_with(
    graph: Graph,
    nodes: Sequence[Node],
    kinds: Sequence[tuple[Kind, tuple[int, ...]]],
    masked: Sequence[bool],
) -> tuple[Lowering, list[Value], list[Value], list[int]]:
    lowering = Lowering()
    values: dict[int, Value] = {}
    masks: list[int] = []
    for index, (tensor, (kind, features)) in enumerate(zip(graph.inputs, kinds, strict=True)):
        values[tensor.index] = Value(
            lowering.tensor(kind, math.prod(features) if kind in ("steps", "row") else 1),
            kind,
            features,
        )
        if index < len(masked) and masked[index]:
            if not values[tensor.index].timed:
                raise StreamingError(
                    f"Input '{tensor.name}' has no time axis, so no mask can be given with it."
                )
            masks.append(lowering.tensor("mask", 1))
            values[tensor.index] = values[tensor.index]._replace(mask=masks[-1])

    lowering.calls(nodes, values)
    for tensor in graph.outputs:
        value = values[tensor.index]
        if value.kind not in ("steps", "row") or len(value.features) != 1:
            raise StreamingError(
                f"Output '{tensor.name}' of shape {tensor.shape} cannot be given step by step: a "
                "stream's outputs are numbers with one feature axis. Use predict(), which runs "
                "whole sequences."
            )
    return (
        lowering,
        [values[tensor.index] for tensor in graph.inputs],
        [values[tensor.index] for tensor in graph.outputs],
        masks,
    )
