"""What of a trace fits into a page: which rows and units, and how many columns for the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight.report.axes import Axes
from recurra.insight.report.encoding import Columns, text_size
from recurra.insight.tracing import LayerTrace, Trace

Array = NDArray[Any]

MAX_BYTES = 24 * 2**20
"""How large a page may be, unless something else is said: a browser opens it at once."""

EXACT_BYTES = 8 * 2**20
"""How large a page may be for values not to be rounded: numbers that are read are right then."""

MAX_ROWS = 32
"""How many rows a page shows, unless something else is said."""

MAX_CHANNELS = 64
"""Channels of an input or output of the model that a page draws."""

_CLOSE = 1000
"""Columns that a long sequence keeps as long as anything else can be left out."""

_FEW_COLUMNS, _FEW_UNITS = 64, 16
"""What is shown in any case."""


class PageTooLarge(ValueError):
    """A trace of which not even the least fits into a page.

    Args:
        allowed: bytes that the page may have.
        needed: bytes that would do.
    """

    def __init__(self, allowed: int, needed: int) -> None:
        super().__init__(
            f"max_bytes={allowed:,} is too small for a report of this trace: with as few rows, "
            f"units and columns as a page can have, it has {needed:,} bytes. Allow as many, or "
            "trace fewer layers: trace(model, x, layers=[...])."
        )
        self.needed = needed


@dataclass(frozen=True)
class Sizes:
    """What of a trace a page shows.

    Args:
        rows: their numbers in the trace.
        columns: the most that an axis may have; None for every step.
        units: the most that a layer may show; None for all.
        exact: whether values are as in the trace, not rounded to bytes.
    """

    rows: tuple[int, ...]
    columns: int | None = None
    units: int | None = None
    exact: bool = False

    def of(self, time_steps: int) -> Columns:
        """How so many steps stand in columns.

        Pooling keeps three values of each column, so it begins where it saves: at four steps.
        """
        if self.columns is None or time_steps <= self.columns:
            return Columns(time_steps)
        return Columns(time_steps, max(4, math.ceil(time_steps / self.columns)))


def fit(
    trace: Trace,
    axes: Axes,
    rows: Sequence[int],
    chosen: bool,
    arrays: Mapping[str, Sequence[str]],
    max_bytes: int,
    other: int,
    by_row: Sequence[int],
) -> Sizes:
    """The most that fits: every step before many rows, many rows before few units.

    Args:
        trace: what is to be shown.
        axes: of the trace.
        rows: those that may be shown, the most important first.
        chosen: whether the user has named them: then all of them stay as long as possible.
        arrays: {path: names} of what is shown of each layer.
        max_bytes: of the page.
        other: bytes that the page needs for everything else,
        by_row: and for each of `rows` besides its arrays, as its tokens.

    Raises:
        PageTooLarge: if nothing fits.
    """
    smallest = other
    whole = Sizes(tuple(rows), exact=True)
    texts = sum(by_row)
    if other + texts + bytes_of(trace, axes, whole, arrays) <= min(max_bytes, EXACT_BYTES):
        return whole
    for sizes in _candidates(trace, axes, tuple(rows), chosen):
        texts = sum(by_row[: len(sizes.rows)])
        smallest = other + texts + bytes_of(trace, axes, sizes, arrays)
        if smallest <= max_bytes:
            return sizes
    raise PageTooLarge(max_bytes, smallest)


def bytes_of(trace: Trace, axes: Axes, sizes: Sizes, arrays: Mapping[str, Sequence[str]]) -> int:
    """Bytes of the layers' arrays in a page."""
    total = 0
    for path, layer in trace.items():
        outer = axes.outer(path, trace.batch, layer)
        if outer is None:
            continue
        columns = sizes.of(int(layer.arrays["hidden_state"].shape[1]))
        blobs = 0
        for name in arrays[path]:
            channels = math.prod(layer.arrays[name].shape[2:])
            kept = channels if sizes.units is None else min(channels, sizes.units)
            each = kept * columns.count * (4 if sizes.exact else 1)
            blobs += columns.planes * (text_size(each) + 40)
        # Norms, as float32, and the mask.
        blobs += 4 * columns.planes * (text_size(4 * columns.count) + 40) + columns.count + 10
        total += len(sizes.rows) * outer * blobs
    for array in [*trace.inputs.values(), *trace.outputs.values()]:
        channels = min(MAX_CHANNELS, math.prod(array.shape[2:]))
        columns = sizes.of(array.shape[1] if array.ndim > 1 else 1)
        each = columns.planes * (text_size(4 * channels * columns.count) + 40)
        total += len(sizes.rows) * each
    return total


def most_active(layer: LayerTrace, name: str, count: int) -> Array:
    """The channels of an array that vary most over its real steps, in order of their numbers."""
    values = layer.arrays[name]
    values = values.reshape(*values.shape[:2], -1)
    real = values.reshape(-1, values.shape[-1]) if layer.mask is None else values[layer.mask]
    if not len(real):
        return np.arange(count)
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.nan_to_num(np.std(real, axis=0, dtype=np.float64), nan=0.0, posinf=0.0)
    return np.sort(np.argsort(-spread, kind="stable")[:count])


def _candidates(trace: Trace, axes: Axes, rows: tuple[int, ...], chosen: bool) -> Iterator[Sizes]:
    """From the most to the least."""
    longest = max((axis.time_steps for axis in axes.all), default=1)
    widest = max(
        (math.prod(layer.arrays["hidden_state"].shape[2:]) for layer in trace.values()), default=1
    )
    counts = [len(rows)] if chosen else range(len(rows), 0, -1)
    columns: list[int | None] = [None]
    fewer = longest / 4  # pooling saves from four steps on
    while fewer >= _CLOSE:
        columns.append(int(fewer))
        fewer *= 0.8
    for most in columns:
        for count in counts:
            yield Sizes(rows[:count], most)
    last = Sizes(rows if chosen else rows[:1], columns[-1])
    across, down = columns[-1] or longest, widest
    while across > _FEW_COLUMNS or down > _FEW_UNITS:
        # A heat map of about four columns for each unit is what a screen can show.
        if down > _FEW_UNITS and (4 * down >= across or across <= _FEW_COLUMNS):
            down = max(_FEW_UNITS, down * 3 // 4)
        else:
            across = max(_FEW_COLUMNS, across * 3 // 4)
        last = replace(
            last,
            columns=across if across < longest else None,
            units=down if down < widest else None,
        )
        yield last
    yield from (replace(last, rows=rows[:count]) for count in range(len(last.rows) - 1, 0, -1))
