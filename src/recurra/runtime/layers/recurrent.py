"""LSTM, GRU, SimpleRNN, and RNN over their cells or a stack of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.create import describe
from recurra.runtime.files.names import container_names
from recurra.runtime.layer import Array, Call, Layer, Mask, Result, Shape, Variable, register
from recurra.runtime.layers import config as checked
from recurra.runtime.layers.cells import KINDS, Cell, Options, Scan, Scanned, run, scan


class Recurrent(Layer):
    """A recurrent layer over one cell, or several on top of each other.

    A stateful layer starts from zeros at every call: what is carried from call to call belongs to a
    session.

    Attributes:
        cells: from the input upwards.
        return_sequences, return_state, go_backwards, zero_output_for_mask, return_trace: as in
            Keras and Recurra.
    """

    parameters = ("sequences", "initial_state", "mask")

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)

        def flag(name: str) -> bool:
            return checked.boolean(config, name, where, default=False)

        self.return_sequences, self.return_state = flag("return_sequences"), flag("return_state")
        self.go_backwards, self.return_trace = flag("go_backwards"), flag("return_trace")
        self.zero_output_for_mask, self.stateful = flag("zero_output_for_mask"), flag("stateful")
        if flag("time_major"):
            raise self.unsupported(
                "time_major=True, an option of Keras 2 that Keras 3 does not have. Put Permute "
                "layers around it and save the model with time_major=False."
            )
        self.cells: list[Cell] = []
        self._paths: list[tuple[str, ...]] = []
        found = self._cell_configs()
        for index, (class_name, cell, path) in enumerate(found):
            options = Options(
                go_backwards=self.go_backwards and index == 0,
                zero_output_for_mask=self.zero_output_for_mask and index == len(found) - 1,
            )
            place = where if len(found) == 1 else f"{where}/{path[-1]}"
            self.cells.append(Cell(class_name, cell, place, options))
            self._paths.append(path)

    def _cell_configs(self) -> list[tuple[str, Mapping[str, Any], tuple[str, ...]]]:
        """Class, configuration and path of each cell."""
        path = () if self.keras_class.startswith("CuDNN") else ("cell",)
        return [(self.keras_class, self.config, path)]

    @property
    def units(self) -> int:
        """Of the topmost cell, and so of the output."""
        return self.cells[-1].units

    @property
    def options(self) -> Options:
        """For the scan."""
        return Options(
            self.go_backwards, self.zero_output_for_mask, self.return_sequences, self.return_trace
        )

    @property
    def state_sizes(self) -> list[int]:
        """Units of each state, cell by cell."""
        return [cell.units for cell in self.cells for _ in cell.spec.states]

    def variables(self) -> list[Variable]:
        """The cells' weights: by name if there is one, else by the cell's name and that."""
        several = len(self.cells) > 1
        return [
            Variable(
                f"{path[-1]}/{each.name}" if several else each.name,
                path,
                each.index,
            )
            for cell, path in zip(self.cells, self._paths, strict=True)
            for each in cell.variables()
        ]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Give every cell its weights."""
        checked.rank(shapes[0], self.where, least=3, most=3)
        features = checked.size(shapes[0], 2, self.where, "number of features")
        for cell, path in zip(self.cells, self._paths, strict=True):
            prefix = f"{path[-1]}/" if len(self.cells) > 1 else ""
            own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
            cell.build(own, features)
            features = cell.units

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The output's, the states', the trace's, by name."""
        batch, time_steps = shapes[0][:2]
        sequence = (batch, time_steps, self.units)
        found: list[Shape] = [sequence if self.return_sequences else (batch, self.units)]
        if self.return_state or self.return_trace:
            found += [(batch, units) for units in self.state_sizes]
        if self.return_trace:
            found += [sequence] * len(self.cells[-1].spec.trace_names)
        return found

    def scan(self, x: Array, states: Sequence[Array] | None, mask: Mask) -> Scan:
        """The layer's scan over x, for `cells.run`."""
        return scan(self.cells, x, states, mask, self.options)

    def outputs(self, scanned: Scanned) -> list[Array]:
        """A scan's results as the layer returns them."""
        found = [scanned.output]
        if self.return_state or self.return_trace:
            found += scanned.states
        # Keras flattens a dict in the order of its keys.
        return found + [scanned.trace[name] for name in sorted(scanned.trace)]

    def compute(self, call: Call) -> Result:
        """Run the scan."""
        x = np.ascontiguousarray(call.inputs[0], np.float32)
        states = initial_states(self, call, self.state_sizes)
        mask = scan_mask(call)
        outputs = self.outputs(run(self.scan(x, states, mask))[0])
        kept = call.masks[0] if self.return_sequences else None
        return Result(outputs, [kept] + [None] * (len(outputs) - 1))


@register("LSTM")
class LSTM(Recurrent):
    """Keras's LSTM."""


@register("GRU")
class GRU(Recurrent):
    """Keras's GRU."""


@register("SimpleRNN")
class SimpleRNN(Recurrent):
    """Keras's SimpleRNN."""


@register("CuDNNLSTM")
class CuDNNLSTM(Recurrent):
    """The LSTM of Keras 2 for cuDNN, whose weights lie otherwise."""


@register("CuDNNGRU")
class CuDNNGRU(Recurrent):
    """The GRU of Keras 2 for cuDNN, whose weights lie otherwise."""


@register("RNN")
class RNN(Recurrent):
    """Keras's RNN over one of Keras's cells or a stack of them."""

    def _cell_configs(self) -> list[tuple[str, Mapping[str, Any], tuple[str, ...]]]:
        cell = describe(self.config.get("cell"), self.where)
        if cell.kind != "custom" and cell.class_name == "StackedRNNCells":
            entries = cell.config.get("cells")
            if not isinstance(entries, list) or not 0 < len(entries) <= 1000:
                raise checked.wrong(self.where, "cells", entries, "a list of 1 to 1000 cells")
            stack = [describe(entry, self.where) for entry in entries]
            names = container_names([each.class_name for each in stack])
            paths: list[tuple[str, ...]] = [("cell", "cells", name) for name in names]
        else:
            stack, paths = [cell], [("cell",)]
        for each in stack:
            if each.kind == "custom" or each.class_name not in KINDS:
                raise self.unsupported(
                    f"its cell is a {each.class_name}, and the runtime has code for "
                    "LSTMCell, GRUCell, SimpleRNNCell and StackedRNNCells of them. To run it, give "
                    f'a NumPy function for the layer: custom={{"{self.name}": function}}.'
                )
        return [(e.class_name, e.config, path) for e, path in zip(stack, paths, strict=True)]


def initial_states(layer: Layer, call: Call, sizes: Sequence[int]) -> list[Array] | None:
    """The states to start from, checked; None for zeros."""
    given = call.arguments.get("initial_state")
    if given is None:
        return None
    if len(given) != len(sizes):
        raise layer.fail(f"its initial_state has {len(given)} arrays; expected {len(sizes)}.")
    batch = call.inputs[0].shape[0]
    states = []
    for state, units in zip(given, sizes, strict=True):
        if state.shape != (batch, units):
            raise layer.fail(
                f"its initial_state has an array of shape {state.shape}; expected {(batch, units)}."
            )
        states.append(np.ascontiguousarray(state, np.float32))
    return states


def scan_mask(call: Call) -> Mask:
    """The mask that a scan gets.

    Keras 3 hands a layer its input's own mask only where the input is the call's one tensor: with
    an initial state the mask is passed on, but every step is computed, unless the call names it.
    """
    if call.arguments.get("initial_state") is not None and call.arguments.get("mask") is None:
        return None
    mask = call.masks[0]
    if mask is not None and mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[:, :, 0]
    return mask
