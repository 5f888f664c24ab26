"""The way back through time for any cell at all, a step at a time on the host.

For cells of the user's and for activations that the engine does not have. Slower than `backward`,
which knows the cell: a call of the framework per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.src import backend

from recurra import hosts
from recurra.cells import CELLS
from recurra.insight.tracing.backward import Cotangents, Pulled
from recurra.insight.tracing.keras_cells import to_numpy
from recurra.insight.tracing.result import Array
from recurra.insight.tracing.scan import TracedCell, state_names


def step_gradients(
    cell: TracedCell,
    *,
    x: Array,
    states: Sequence[Array] | None,
    mask: Array | None,
    cotangents: Cotangents,
    zero_output_for_mask: bool,
) -> Pulled:
    """Walk back through the scan of a cell that only its own code can compute.

    Args:
        cell: with its Keras cell.
        x: (batch, time_steps, ...), in processing order.
        states: to start from, flat; None for the cell's own.
        mask: (batch, time_steps), True = keep; None to keep all.
        cotangents: by "sequence", "last_output", the final states' names ("state_h", or "state_0"
            of a cell of the user's), and any sequence that a layer's own trace shows, by name.
        zero_output_for_mask: whether the sequence is zero at masked steps.
    """
    batch, time_steps = x.shape[:2]
    found = cell.run(x, states, mask)
    names = _state_sequences(cell)
    example = _initial(cell, batch, found, names)
    start = [to_numpy(each) for each in tree.flatten(example)] if states is None else states
    before = [
        np.concatenate([np.asarray(first)[:, np.newaxis], found[name][:, :-1]], axis=1)
        for first, name in zip(start, names, strict=True)
    ]
    pull = _step(cell, example)
    dtype = _dtype(cell)

    def back(t: int, changes: Sequence[Array]) -> list[Array]:
        given = [_tensor(x[:, t], dtype), *(_tensor(state[:, t], dtype) for state in before)]
        _, gradients = pull(given, [_tensor(change, dtype) for change in changes])
        return [to_numpy(gradient) for gradient in gradients]

    output = found["hidden_state"]
    is_state = output.shape == found[names[0]].shape and np.array_equal(
        output if mask is None else output[mask],
        found[names[0]] if mask is None else found[names[0]][mask],
        equal_nan=True,
    )
    sequence, d_output = cotangents.get("sequence"), np.zeros_like(output[:, 0])
    d_output = d_output + cotangents.get("last_output", 0)
    finals = state_names(cell.kind, cell.states, cell.final)
    after = [
        np.zeros_like(found[name][:, 0]) + cotangents.get(final, 0)
        for name, final in zip(names, finals, strict=True)
    ]
    shown = {"hidden_state": np.zeros_like(output)}
    if cell.kind is not None or _is_convolutional(cell):
        shown |= {name: np.zeros_like(found[name]) for name in names}
    dx = np.zeros_like(x)
    for t in range(time_steps - 1, -1, -1):
        keep = np.ones(batch, bool) if mask is None else mask[:, t]
        if sequence is not None:
            step = sequence[:, t]
            d_output = d_output + (_where(keep, step, 0) if zero_output_for_mask else step)
        for index, name in enumerate(names):
            if cell.kind is not None and name in cotangents:
                after[index] = after[index] + cotangents[name][:, t]
        shown["hidden_state"][:, t] = d_output + after[0] if is_state else d_output
        now = [_where(keep, each, 0) for each in (d_output, *after)]
        for name, each in _within_step(cell, found, t, now).items():
            shown[name][:, t] = after[names.index(name)] + each
        dx[:, t], *previous = back(t, now)
        after = [_where(keep, new, old) for new, old in zip(previous, after, strict=True)]
        d_output = _where(keep, 0, d_output)
    return Pulled(shown, dx)


def _is_convolutional(cell: TracedCell) -> bool:
    """Whether it computes as an LSTM does, with convolutions: its states are called alike."""
    return cell.kind is None and cell.final == CELLS["lstm"].state_outputs


def _state_sequences(cell: TracedCell) -> list[str]:
    if cell.kind is not None:
        return [state.name for state in CELLS[cell.kind].state_table]
    if _is_convolutional(cell):
        return ["hidden_state", "cell_state"]
    return [f"state_{index}" for index in range(cell.states)]


def _initial(cell: TracedCell, batch: int, found: Any, names: Sequence[str]) -> Any:
    """The cell's own initial states, in tensors nested as it takes them."""
    if cell.initial is not None:
        return cell.initial(batch)
    dtype = _dtype(cell)
    return [ops.zeros((batch, *found[name].shape[2:]), dtype=dtype) for name in names]


def _step(cell: TracedCell, example: Any) -> Any:
    """One step of the cell as something to walk back through: (x, *states) -> (output, *states)."""
    arguments = {}
    if isinstance(cell.cell, keras.Layer) and cell.cell._call_has_training_arg:
        arguments["training"] = False

    def step(given: list[Any]) -> list[Any]:
        x_t, *states = given
        with backend.StatelessScope():
            output, new = cell.cell(x_t, tree.pack_sequence_as(example, states), **arguments)
        return [output, *tree.flatten(new)]

    host = hosts.get(backend.backend())
    assert host is not None
    return host.pullback(step, compiled=True)


def _within_step(
    cell: TracedCell, found: Any, t: int, changes: Sequence[Array]
) -> dict[str, Array]:
    """What states cost by what the same step makes of them: an LSTM's output of its cell state."""
    if cell.kind != "lstm" and not _is_convolutional(cell):
        return {}
    host = hosts.get(backend.backend())
    assert host is not None
    hidden = sum(changes[:2])  # the output and the hidden state are the same
    dtype = _dtype(cell)
    pull = host.pullback(lambda given: [cell.cell.activation(given[0])])
    given = _tensor(found["cell_state"][:, t], dtype)
    cost = _tensor(hidden * found["output_gate"][:, t], dtype)
    _, (gradient,) = pull([given], [cost])
    return {"cell_state": to_numpy(gradient)}


def _dtype(cell: TracedCell) -> str:
    return str(cell.info.get("dtype") or getattr(cell.cell, "compute_dtype", "float32"))


def _tensor(array: Any, dtype: str) -> Any:
    return ops.convert_to_tensor(np.ascontiguousarray(array), dtype=dtype)


def _where(keep: Array, a: Any, b: Any) -> Array:
    """Rows of a where keep, (batch,), is True, else of b."""
    shape = np.shape(a) if np.ndim(a) else np.shape(b)
    return np.where(keep.reshape(-1, *[1] * (len(shape) - 1)), a, b)
