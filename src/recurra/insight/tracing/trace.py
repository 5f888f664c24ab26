"""What `recurra.trace` gives: every recurrent layer's sequences, states and gates, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.cells import CELLS, CellSpec
from recurra.insight.structure import Structure

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class LayerTrace(Mapping[str, Any]):
    """One recurrent layer (or direction, or cell of a stack) over the traced batch.

    Time runs as in the input, for layers that go backwards too: step t of every array belongs to
    step t of the input. Masked steps carry the states on; their gates are 0.

    Args:
        path: as in `recurra.insight.structure.Node`: "lstm", "bi/forward_layer", "rnn/cell_0".
        cell: its name in `recurra.cells.CELLS`; None for a cell of the user's.
        arrays: NumPy arrays by name, in this order: "input" (batch, time_steps, features); every
            name of the cell's `trace_names` (batch, time_steps, units): gates, "cell_state",
            "hidden_state"; the final states "state_h", "state_c" (batch, units); and, where a loss
            was given, "dhidden_state", "dcell_state" (batch, time_steps, units). For a cell of the
            user's: "input", "hidden_state" (its output), "state_0", "state_1", ... sequences.
        mask: (batch, time_steps), True where the step is real; None for all.
        go_backwards: whether the layer reads the last step first.
        initial: {"state_h": (batch, units), ...} that the layer started from; empty for zeros.
        info: units, features, class_name, activations and the like, for people.
    """

    path: str
    cell: str | None
    arrays: Mapping[str, Array]
    mask: Array | None = None
    go_backwards: bool = False
    initial: Mapping[str, Array] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> CellSpec | None:
        """The cell's definition; None for a cell of the user's."""
        return None if self.cell is None else CELLS[self.cell]

    def __getitem__(self, name: str) -> Any:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


@dataclass(frozen=True, eq=False)
class Trace(Mapping[str, LayerTrace]):
    """Every recurrent layer of a model over one batch, by path.

    Args:
        layers: in the order in which they run.
        structure: the model.
        inputs, outputs: the model's own, by name: what it was given and what it made of it.
        masks: of the inputs, as far as they have any.
    """

    layers: Mapping[str, LayerTrace]
    structure: Structure
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    masks: Mapping[str, Array] = field(default_factory=dict)

    def __getitem__(self, path: str) -> LayerTrace:
        return self.layers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def batch(self) -> int:
        """How many rows were traced."""
        return len(next(iter(self.inputs.values()))) if self.inputs else 0


def steps_of(layer: LayerTrace) -> int:
    """How many time steps a layer has seen."""
    return int(np.shape(layer.arrays["hidden_state"])[1])
