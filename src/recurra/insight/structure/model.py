"""A model as plain data: calls of layers, and the tensors that go from one to the next.

What explains, draws, checks or traces a model reads this, so that all of them work alike on Keras
models of every kind, on loaded models and on saved files. Nothing here imports a framework, and
everything can be written as JSON (`to_dict`) and read back (`from_dict`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from recurra.cells import CELLS, CellSpec

Shape = tuple[int | None, ...]
"""With the batch; None where a size is free."""

MaskRole = Literal["none", "makes", "passes", "uses", "loses"]
"""What a call does with masks: nothing (there is none); makes one (Masking, Embedding); hands its
input's on to its output; uses it, and hands nothing on or something of another shape (a recurrent
layer); loses it (the layer does not support masks, so whatever follows sees every step as real)."""


@dataclass(frozen=True)
class Tensor:
    """What goes from one call to the next.

    index: its number in the structure.
    name: of the call that makes it, or the input's own; ":state_h" and the like for further
        outputs.
    shape: None where it cannot be known without running the model.
    masked: whether a mask comes with it.
    """

    index: int
    name: str
    shape: Shape | None
    dtype: str = "float32"
    masked: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell of a recurrent layer.

    name: "cell", or "cell_0" and so on from the input upwards where cells are stacked.
    class_name: Keras's: "LSTMCell".
    cell: its name in `recurra.cells.CELLS`; None for a cell of the user's.
    units, features: None where a cell of the user's does not say.
    activations: {gate: name of the function}; a function of the user's by its own name.
    options: {"reset_after": True} and the like, as `CellSpec.choose` gives them.
    weights: {name: shape}, in Keras's order.
    state_sizes: shapes of its states without the batch, in order.
    dropout, recurrent_dropout: rates.
    """

    name: str
    class_name: str
    cell: str | None
    units: int | None
    features: int | None
    activations: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, bool] = field(default_factory=dict)
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    state_sizes: tuple[tuple[int, ...], ...] = ()
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    @property
    def spec(self) -> CellSpec | None:
        """The cell's definition; None for a cell of the user's."""
        return None if self.cell is None else CELLS[self.cell]


@dataclass(frozen=True)
class Recurrent:
    """What is recurrent about a layer.

    class_name: "LSTM", "RNN", "Bidirectional", "TimeDistributed", "ConvLSTM2D", ...
    library: whose code it is: "recurra", "keras" (stock), or "runtime" (a loaded model).
    cells: from the input upwards; empty for wrappers.
    parts: of wrappers, by the wrapper's own names: ("forward_layer", ...), ("backward_layer", ...)
        or ("layer", ...).
    layer_name: the layer's own name, of parts too: "forward_lstm".
    engine: which one runs it: "cpu", "keras", "runtime"; reason: why; advice: what to change to
        get the fast one, "" if there is nothing.
    merge_mode: of Bidirectional.
    dtype: the type that it computes in.
    """

    class_name: str
    library: Literal["recurra", "keras", "runtime"]
    layer_name: str = ""
    cells: tuple[Cell, ...] = ()
    parts: tuple[tuple[str, Recurrent], ...] = ()
    return_sequences: bool = False
    return_state: bool = False
    return_trace: bool = False
    go_backwards: bool = False
    stateful: bool = False
    zero_output_for_mask: bool = False
    merge_mode: str | None = None
    engine: str = ""
    reason: str = ""
    advice: str = ""
    dtype: str = "float32"

    def leaves(self, path: str) -> list[tuple[str, Recurrent]]:
        """The layers with cells under this one, by path: itself, or a wrapper's parts.

        Example:
            >>> [name for name, _ in bidirectional.leaves("bi")]
            ['bi/forward_layer', 'bi/backward_layer']
        """
        if not self.parts:
            return [(path, self)]
        return [leaf for name, part in self.parts for leaf in part.leaves(f"{path}/{name}")]


@dataclass(frozen=True)
class Node:
    """One call of a layer, or of an operation such as `keras.ops.add`.

    path: the layer's place, as `recurra.load` and `trace` call it: "lstm", "encoder/lstm" inside of
        a nested model or layer; ":2" and so on behind it for further calls of a shared layer.
    class_name: "LSTM", "Dense", "Add", ...
    inputs, outputs: numbers of tensors.
    states: tensors given as initial_state, in the call's order; they are not among `inputs`.
    others: tensors given to any other argument (attention's value, ...), by the argument's name.
    output_names: of each output: ("output", "state_h", "state_c").
    parameters: of the layer; 0 for further calls of the same layer.
    mask_role: see `MaskRole`.
    config: what else is worth telling: {"mask_zero": True}, {"units": 4, "activation": "relu"}.
    operation: whether it is a function of `keras.ops`, not a layer.
    """

    path: str
    class_name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    states: tuple[int, ...] = ()
    others: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    output_names: tuple[str, ...] = ("output",)
    parameters: int = 0
    recurrent: Recurrent | None = None
    mask_role: MaskRole = "none"
    config: Mapping[str, Any] = field(default_factory=dict)
    operation: bool = False


@dataclass(frozen=True)
class Structure:
    """A model.

    kind: "Functional", "Sequential", "Model" (subclassed), "Layer" (a single layer), "Runtime".
    source: the file that it came from, "" if none.
    inputs, outputs: numbers of tensors.
    gaps: where the way of the data could not be followed, and why, in sentences for people; the
        nodes inside of such a place are listed without tensors.
    """

    name: str
    kind: str
    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    source: str = ""
    gaps: tuple[str, ...] = ()

    def recurrent(self) -> list[Node]:
        """The calls of recurrent layers, in order."""
        return [node for node in self.nodes if node.recurrent is not None]

    def maker(self, tensor: int) -> Node | None:
        """The call that makes a tensor; None for an input of the model."""
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def users(self, tensor: int) -> list[Node]:
        """The calls that are given a tensor, in any role."""
        return [
            node
            for node in self.nodes
            if tensor in (*node.inputs, *node.states, *(t for g in node.others.values() for t in g))
        ]

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Structure:
        """What `to_dict` gave, as a structure again.

        Raises:
            KeyError, TypeError: if it is something else.
            ValueError: if it speaks of tensors that it does not have.
        """
        found = cls(
            **{
                **data,
                "tensors": tuple(
                    Tensor(**{**t, "shape": _tuple(t["shape"])}) for t in data["tensors"]
                ),
                "nodes": tuple(_node(node) for node in data["nodes"]),
                "inputs": tuple(data["inputs"]),
                "outputs": tuple(data["outputs"]),
                "gaps": tuple(data["gaps"]),
            }
        )
        found._check()
        return found

    def _check(self) -> None:
        known = set(range(len(self.tensors)))
        used = {*self.inputs, *self.outputs}
        for node in self.nodes:
            used |= {*node.inputs, *node.states, *node.outputs}
            used |= {tensor for group in node.others.values() for tensor in group}
        if [tensor.index for tensor in self.tensors] != sorted(known) or not used <= known:
            raise ValueError(
                f"A structure of {len(known)} tensors must number them from 0 on and speak of no "
                f"others; this one speaks of {sorted(used - known, key=str)[:5] or 'others'}."
            )


def _tuple(value: Any) -> Any:
    return None if value is None else tuple(value)


def _node(data: Mapping[str, Any]) -> Node:
    return Node(
        **{
            **data,
            **{name: tuple(data[name]) for name in ("inputs", "outputs", "states", "output_names")},
            "others": {name: tuple(group) for name, group in data["others"].items()},
            "recurrent": None if data["recurrent"] is None else _recurrent(data["recurrent"]),
        }
    )


def _recurrent(data: Mapping[str, Any]) -> Recurrent:
    return Recurrent(
        **{
            **data,
            "cells": tuple(_cell(cell) for cell in data["cells"]),
            "parts": tuple((name, _recurrent(part)) for name, part in data["parts"]),
        }
    )


def _cell(data: Mapping[str, Any]) -> Cell:
    return Cell(
        **{
            **data,
            "weights": {name: tuple(shape) for name, shape in data["weights"].items()},
            "state_sizes": tuple(tuple(size) for size in data["state_sizes"]),
        }
    )
