"""Numbers about one traced layer, over its real steps: padded steps count nowhere.

Arrays are read in chunks of rows, so that a trace of gigabytes needs no second copy of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from recurra.insight.tracing import LayerTrace

Array = NDArray[np.float64]

CLOSED, OPEN = 0.05, 0.95
"""A gate below the first counts as closed, above the second as open."""

SATURATED = 0.95
"""A candidate beyond this, in absolute value, counts as saturated."""

STILL = 0.01
"""A unit is dead if it stays below this in absolute value, and constant if it moves by less, in
units of the layer's scale: 1 where the activation is bounded by 1, else the root mean square."""

GATES = frozenset({"sigmoid", "hard_sigmoid"})
"""Activations from 0 to 1: what makes a gate."""

BOUNDED = frozenset({"tanh", "softsign"})
"""Activations from -1 to 1."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Spread:
    """Of one array, by unit, over real steps; (units,) each.

    low, high: shares of steps below and above the thresholds; None where there are none.
    """

    mean: Array
    std: Array
    smallest: Array
    largest: Array
    low: Array | None = None
    high: Array | None = None

    @property
    def size(self) -> Array:
        """The largest absolute value."""
        return np.maximum(np.abs(self.smallest), np.abs(self.largest))


def sequence(layer: LayerTrace, name: str) -> NDArray[Any]:
    """An array of a trace as (batch, time_steps, units), also where a state is a picture."""
    array = layer.arrays[name]
    return array.reshape(*array.shape[:2], int(np.prod(array.shape[2:])))


def spread(
    values: NDArray[np.floating], keep: NDArray[np.bool_] | None, limits: tuple[float, float] | None
) -> Spread:
    """Look at (batch, time_steps, units) unit by unit.

    Args:
        values: an array of a trace.
        keep: (batch, time_steps), True where the step is real; None for all.
        limits: what is counted as low and as high; None to count nothing.

    Returns:
        NaN in every place if no step is real.
    """
    units = values.shape[2]
    count = 0
    total, squares = np.zeros(units), np.zeros(units)
    smallest, largest = np.full(units, np.inf), np.full(units, -np.inf)
    low, high = np.zeros(units), np.zeros(units)
    shift: Array | None = None
    for chunk in _chunks(values, keep):
        if shift is None:
            # Sums of what differs from some value of the unit: a constant unit's std is exactly 0.
            shift = chunk[0].astype(np.float64)
        moved = chunk - shift
        count += len(chunk)
        total += moved.sum(axis=0)
        squares += np.einsum("nu,nu->u", moved, moved)
        np.minimum(smallest, chunk.min(axis=0), out=smallest)
        np.maximum(largest, chunk.max(axis=0), out=largest)
        if limits is not None:
            low += np.count_nonzero(chunk < limits[0], axis=0)
            high += np.count_nonzero(chunk > limits[1], axis=0)
    if shift is None:
        nothing = np.full(units, np.nan)
        return Spread(*([nothing] * 4), *([nothing] * 2 if limits else []))
    mean = total / count
    return Spread(
        mean=shift + mean,
        std=np.sqrt(np.maximum(squares / count - mean * mean, 0.0)),
        smallest=smallest,
        largest=largest,
        low=low / count if limits else None,
        high=high / count if limits else None,
    )


def norms(values: NDArray[np.floating], keep: NDArray[np.bool_] | None) -> Array:
    """Euclidean norm over the units: (batch, time_steps), NaN at padded steps."""
    found = np.empty(values.shape[:2])
    for rows in _rows(values):
        part = values[rows].astype(np.float64, copy=False)
        found[rows] = np.sqrt(np.einsum("btu,btu->bt", part, part))
    if keep is not None:
        found[~keep] = np.nan
    return found


def mean_by_step(values: Array) -> Array:
    """Mean over the rows, (batch, time_steps) -> (time_steps,); NaN where no row has a number."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def at_ends(values: Array, go_backwards: bool) -> tuple[float, float]:
    """Means over the rows of what is at their first and at their last real step, as they are read.

    Args:
        values: (batch, time_steps), NaN at padded steps.
        go_backwards: whether the last step is read first.
    """
    there = ~np.isnan(values)
    rows = there.any(axis=1)
    if not rows.any():
        return float("nan"), float("nan")
    there, values = there[rows], values[rows]
    index = np.arange(len(values))
    lowest = values[index, there.argmax(axis=1)].mean()
    highest = values[index, there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)].mean()
    return (float(highest), float(lowest)) if go_backwards else (float(lowest), float(highest))


def memory_lengths(mean_gate: Array) -> Array:
    """Steps after which 1/e of a unit's content is left: -1 / ln(mean of its forget gate).

    A mean of 1, as float32 gates may have, counts as the number beneath it in float32: about 17
    million steps, which no sequence can tell from for ever.

    Source: the time scale of a gate that stays at one value: Tallec and Ollivier (2018), Can
    recurrent neural networks warp time?; estimated from a gate's mean as by Mahto, Vo, Turek and
    Huth (2021), Multi-timescale representation learning in LSTM language models.
    """
    tiny = np.finfo(np.float64).tiny
    return -1.0 / np.log(np.clip(mean_gate, tiny, 1.0 - 2.0**-24))


def first_not_finite(layer: LayerTrace) -> tuple[str, int, int] | None:
    """The array, row and step of the first hidden or cell state that is no finite number."""
    found: list[tuple[int, int, str]] = []
    for name in ("cell_state", "hidden_state"):
        if name not in layer.arrays:
            continue
        values = sequence(layer, name)
        if np.isfinite(values.sum(dtype=np.float64)):
            continue
        rows, steps = np.nonzero(~np.isfinite(values).all(axis=2))
        if len(rows):
            at = (steps.argmax() if layer.go_backwards else steps.argmin()).item()
            read = -int(steps[at]) if layer.go_backwards else int(steps[at])
            found.append((read, int(rows[at]), name))
    if not found:
        return None
    read, row, name = min(found)
    return name, row, abs(read)


def _rows(values: NDArray[np.floating]) -> Iterator[slice]:
    per_row = max(1, int(np.prod(values.shape[1:])))
    step = max(1, _CHUNK // per_row)
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _chunks(
    values: NDArray[np.floating], keep: NDArray[np.bool_] | None
) -> Iterator[NDArray[np.floating]]:
    """The real steps, (steps, units) at a time."""
    for rows in _rows(values):
        part = values[rows]
        flat = part.reshape(-1, part.shape[2]) if keep is None else part[keep[rows]]
        if len(flat):
            yield flat
