"""From what a recurrent layer was given to its trace: the cells' scans, on NumPy arrays.

Keras models on any host and loaded models all end up here, with the same arrays, so they give the
same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurra.cells import CELLS
from recurra.engine import Config
from recurra.engine.cpu import forward
from recurra.insight.tracing.result import Array, LayerTrace

Run = Callable[[Array, Sequence[Array] | None, Array | None], dict[str, Array]]
"""(x, states or None for zeros, mask or None) -> arrays by name, all in the order of x: the names
of a trace without "input", and "sequence", what the next cell of a stack reads."""


@dataclass(frozen=True)
class TracedCell:
    """One cell of a layer, ready to run.

    Args:
        kind: its name in `recurra.cells.CELLS`; None for a cell of the user's.
        run: its scan, without any direction of its own.
        states: how many states it has.
        info: see `LayerTrace`.
        prepare: what the cell does to its input before it reads it, such as a cast.
        config: what the engine computes, without a direction; None where it does not.
        weights: kernel, recurrent_kernel and bias (None without one), of cells with a `kind`.
        cell: the Keras cell; None of loaded models.
        initial: for a batch's size the states that a cell of the user's starts from, in tensors
            nested as the cell takes them; None for zeros.
        final: names of the states after the last step, which have no axis of time, among the
            arrays of a cell without a `kind`.
    """

    kind: str | None
    run: Run
    states: int
    info: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Array], Array] = lambda x: x
    config: Config | None = None
    weights: Mapping[str, Array | None] = field(default_factory=dict)
    cell: Any = None
    initial: Callable[[int], Any] | None = None
    final: tuple[str, ...] = ()

    @property
    def final_states(self) -> tuple[str, ...]:
        """Names of the arrays without an axis of time."""
        return self.final if self.kind is None else CELLS[self.kind].state_outputs


@dataclass(frozen=True)
class Scan:
    """A recurrent layer's cells, and what they were given in one call.

    Args:
        path: the layer's; cells of a stack are called "cell_0" and so on inside of it.
        cells: from the input upwards, at least one.
        x: (batch, time_steps, ...), in the input's order.
        states: to start from, flat, cell by cell; None for the cells' own (zeros).
        mask: (batch, time_steps), bool; None for all.
        go_backwards: whether the layer reads the last step first.
    """

    path: str
    cells: Sequence[TracedCell]
    x: Array
    states: Sequence[Array] | None = None
    mask: Array | None = None
    go_backwards: bool = False

    def paths(self) -> list[str]:
        """What its traces are called."""
        return cell_paths(self.path, len(self.cells))

    def traces(self) -> list[LayerTrace]:
        """Run it: one trace per cell, from the input upwards."""
        given = None if self.states is None else list(self.states)
        x, mask = self._turned(self.x), None if self.mask is None else self._turned(self.mask)
        found = []
        for path, cell in zip(self.paths(), self.cells, strict=True):
            start: list[Array] = []
            if given is not None:
                start, given = given[: cell.states], given[cell.states :]
            x = np.ascontiguousarray(cell.prepare(x))
            arrays = cell.run(x, start or None, mask)
            # In a stack, what is read next: in the order of processing, like x itself.
            above = arrays.pop("sequence")
            shown = {
                name: array if name in cell.final_states else self._turned(array)
                for name, array in ({"input": x} | arrays).items()
            }
            if cell.kind is not None and not any(np.any(state) for state in start):
                start = []  # as if there were none
            names = state_names(cell.kind, cell.states, cell.final)
            found.append(
                LayerTrace(
                    path=path,
                    cell=cell.kind,
                    arrays=shown,
                    mask=self.mask,
                    go_backwards=self.go_backwards,
                    initial=dict(zip(names, start, strict=False)),
                    info=cell.info,
                )
            )
            x = above
        return found

    def _turned(self, array: Array) -> Array:
        """Between the input's order of steps and the order of processing."""
        return np.ascontiguousarray(array[:, ::-1]) if self.go_backwards else array


def cell_paths(path: str, count: int) -> list[str]:
    """Paths of a layer's cells: the layer's own for one, numbered ones for a stack.

    Example:
        >>> cell_paths("rnn", 2)
        ['rnn/cell_0', 'rnn/cell_1']
    """
    return [path] if count == 1 else [f"{path}/cell_{index}" for index in range(count)]


def state_names(kind: str | None, count: int, final: Sequence[str] = ()) -> list[str]:
    """What the states that a cell starts from are called.

    Args:
        kind, final: see `TracedCell`.
        count: how many there are; a user's are called "state_0" and so on.
    """
    return list(final if kind is None else CELLS[kind].state_outputs) or [
        f"state_{index}" for index in range(count)
    ]


def engine_run(config: Config, kernel: Array, recurrent_kernel: Array, bias: Array | None) -> Run:
    """The scan of a cell that the engine computes.

    Args:
        config: without go_backwards and zero_output_for_mask.
        kernel, recurrent_kernel, bias: float32 or float64, as x will be.
    """
    spec = config.spec

    def run(x: Array, states: Sequence[Array] | None, mask: Array | None) -> dict[str, Array]:
        start = dict(zip((f"{s.symbol}0" for s in spec.state_table), states or (), strict=False))
        found = forward(
            config,
            x=x,
            kernel=kernel,
            recurrent_kernel=recurrent_kernel,
            bias=bias,
            mask=mask,
            last_output=False,
            sequence=True,
            slots=True,
            **start,
        )
        found.setdefault("hidden_state", found["sequence"])
        return _named(spec.name, found)

    return run


def step_run(
    kind: str,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    activation: Callable[[Array], Array],
    recurrent_activation: Callable[[Array], Array],
    reset_after: bool | None = None,
) -> Run:
    """The scan of a cell whose activations the engine does not have: the definition's own steps.

    Args:
        kind: a name in `recurra.cells.CELLS`.
        kernel, recurrent_kernel, bias: as for `engine_run`.
        activation, recurrent_activation: elementwise functions of NumPy arrays.
        reset_after: of GRU.
    """
    spec = CELLS[kind]
    units = recurrent_kernel.shape[0]
    columns = {g: slice(i * units, (i + 1) * units) for i, g in enumerate(spec.gates)}
    biases: tuple[Array | None, Array | None] = (bias, None)
    if bias is not None and bias.ndim == 2:
        biases = (bias[0], bias[1])

    def recurrent(h: Array, gates: Sequence[str]) -> dict[str, Array]:
        products = {gate: h @ recurrent_kernel[:, columns[gate]] for gate in gates}
        if biases[1] is None:
            return products
        return {gate: value + biases[1][columns[gate]] for gate, value in products.items()}

    def run(x: Array, states: Sequence[Array] | None, mask: Array | None) -> dict[str, Array]:
        batch, time_steps = x.shape[:2]
        given = x @ kernel
        if biases[0] is not None:
            given = given + biases[0]
        zeros = np.zeros((batch, units), x.dtype)
        state = dict(zip(spec.states, states or [zeros] * len(spec.states), strict=True))
        output = zeros
        names = (*spec.trace_names, "sequence")
        found = {name: np.zeros((batch, time_steps, units), x.dtype) for name in names}
        for t in range(time_steps):
            new, record = spec.step(
                {gate: given[:, t, part] for gate, part in columns.items()},
                state,
                recurrent,
                activation,
                recurrent_activation,
                **spec.choose(reset_after),
            )
            keep = np.ones((batch, 1), bool) if mask is None else mask[:, t, np.newaxis]
            state = {name: np.where(keep, new[name], state[name]) for name in spec.states}
            output = np.where(keep, new["hidden_state"], output)
            for name in spec.trace_names:
                found[name][:, t] = (
                    state[name] if name in state else np.where(keep, record[name], 0)
                )
            found["sequence"][:, t] = output
        return _named(kind, found | {s.output: state[s.name] for s in spec.state_table})

    return run


def _named(kind: str, found: Mapping[str, Array]) -> dict[str, Array]:
    """Of a scan's arrays those that a trace shows, in its order, and the sequence."""
    spec = CELLS[kind]
    names = (*spec.trace_names, *spec.state_outputs, "sequence")
    return {name: found[name] for name in names}
