"""The first few sequences of a table, side by side in a batch: what `recurra trace` looks at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.cli.failures import CommandError, UsageError
from recurra.cli.form import Array, Form
from recurra.cli.predicting import Plan, joined, taken
from recurra.cli.tables.numbers import Block
from recurra.cli.tables.reading import Table


@dataclass(frozen=True)
class Sample:
    """One sequence of a table.

    Args:
        name: where it is in the table, or its group.
        arrays: one for each of the model's inputs, without the batch.
        kept: for each of its rows the cells that are kept; or, of a sequence that stands on a line
            of its own, that line's.
        mask: (time_steps,), True where a row counts; None for all.
        single: whether `kept` is of the line.
    """

    name: str
    arrays: Sequence[Array]
    kept: Sequence[Any]
    mask: Array | None = None
    single: bool = False

    def cells(self, place: int) -> list[Any] | None:
        """A kept column's cell for each row; None if there is one for all of them."""
        if not self.single:
            return [row[place] for row in self.kept]
        cell = self.kept[place]
        return list(cell) if isinstance(cell, list) else None

    def cell(self, place: int) -> Any:
        """A kept column's only cell, or that of the last row."""
        cells = self.cells(place)
        return self.kept[place] if cells is None else cells[-1]


@dataclass(frozen=True)
class Batch:
    """Sequences side by side; shorter ones are padded at their ends.

    Args:
        sequences: as they were.
        inputs: one array for each of the model's inputs.
        masks: likewise, (batch, time_steps); None where every step is real.
        padded: whether any sequence is shorter than another.
    """

    sequences: Sequence[Sample]
    inputs: Sequence[Array]
    masks: Sequence[Array | None]
    padded: bool

    @property
    def x(self) -> Any:
        """The inputs as a model takes them."""
        return list(self.inputs) if len(self.inputs) > 1 else self.inputs[0]

    @property
    def mask(self) -> Any:
        """The masks likewise; None if there are none."""
        if all(mask is None for mask in self.masks):
            return None
        return list(self.masks) if len(self.masks) > 1 else self.masks[0]


def first_sequences(form: Form, table: Table, plan: Plan, count: int) -> tuple[list[Sample], bool]:
    """The first few sequences of a table, whose columns have been chosen; and if there are more.

    Args:
        form: of the model.
        table: open.
        plan: whether there are windows.
        count: how many at most.

    Raises:
        CommandError: if there is none, or a row is bad.
    """
    if not form.steps:
        raise UsageError(
            f"the model takes no time steps ({form.describe()}), so it has no recurrent layer to "
            "trace; `recurra info` lists its layers."
        )
    samples = (
        (
            Sample(f"sequence {item.line}", item.arrays, item.kept, None, True)
            for item in table.items()
        )
        if table.samples
        else (_of_block(form, block, name) for name, block in _pieces(table, plan))
    )
    found = list(itertools.islice(samples, count + 1))
    if not found:
        raise CommandError(f"{table.source}: has no rows of numbers.")
    return found[:count], len(found) > count


def batch_of(form: Form, sequences: Sequence[Sample]) -> Batch:
    """Sequences of perhaps different lengths as one batch."""
    inputs: list[Array] = []
    masks: list[Array | None] = []
    padded = False
    for place, entry in enumerate(form.inputs):
        arrays = [each.arrays[place] for each in sequences]
        lengths = {array.shape[:1] for array in arrays}
        if len(lengths) == 1:
            inputs.append(np.stack(arrays))
        else:
            padded = True
            inputs.append(_padded(arrays, _filler(form.graph, place)))
        own = [each.mask for each in sequences]
        if len(lengths) > 1 or (entry.steps and any(mask is not None for mask in own)):
            rows = [
                np.ones(len(array), bool) if mask is None else mask
                for array, mask in zip(arrays, own, strict=True)
            ]
            masks.append(_padded(rows, False))
        else:
            masks.append(None)
    return Batch(sequences, inputs, masks, padded)


def _pieces(table: Table, plan: Plan) -> Iterator[tuple[str, Block]]:
    """Rows that belong together, and what they are called."""
    if table.choice.by is not None:
        for group, block in _groups(table):
            if plan.window is None:
                yield group, block
            else:
                for first, part in _windows(iter([block]), plan.window, plan.stride):
                    yield f"{group}, {_rows(first, plan.window)}", part
        return
    blocks = (block for block in table.blocks() if len(block.lines))
    if plan.window is None:
        yield table.source, joined(list(blocks), table.source)
        return
    seen = False
    for first, part in _windows(blocks, plan.window, plan.stride):
        seen = True
        yield _rows(first, plan.window), part
    if not seen:
        raise CommandError(
            f"{table.source}: has too few rows of numbers for a window of {plan.window} time "
            "steps; --window says how many there are in one."
        )


def _groups(table: Table) -> Iterator[tuple[str, Block]]:
    whole = joined([block for block in table.blocks() if len(block.lines)], table.source)
    assert whole.groups is not None
    members: dict[str, list[int]] = {}
    for index, group in enumerate(whole.groups):
        members.setdefault(group, []).append(index)
    for group, rows in members.items():
        yield group, taken(whole, rows)


def _windows(blocks: Iterator[Block], size: int, stride: int) -> Iterator[tuple[int, Block]]:
    """Windows and their first rows' numbers, from 0; holds no more rows than they need."""
    held: Block | None = None
    first = 0  # the number of the first row that is held
    start = 0
    for block in blocks:
        held = block if held is None else joined([held, block], "")
        while start + size <= first + len(held.lines):
            yield start, taken(held, range(start - first, start - first + size))
            start += stride
        gone = min(start - first, len(held.lines))
        held = taken(held, range(gone, len(held.lines)))
        first += gone


def _rows(first: int, size: int) -> str:
    return f"rows {first + 1} to {first + size}"


def _of_block(form: Form, block: Block, name: str) -> Sample:
    arrays = form.split(block.values[None], sequence=True)
    mask = None if block.mask is None or block.mask.all() else block.mask
    return Sample(name, [array[0] for array in arrays], block.kept, mask)


def _padded(arrays: Sequence[Array], filler: Any) -> Array:
    """(batch, the most time steps, ...)."""
    longest = max(len(array) for array in arrays)
    whole = np.full((len(arrays), longest, *arrays[0].shape[1:]), filler, arrays[0].dtype)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return whole


def _filler(graph: Any, place: int) -> float:
    """What the model takes for padding in an input, if it has a Masking layer; else 0."""
    tensor = graph.inputs[place].index
    for node in graph.nodes:
        if node.layer.keras_class == "Masking" and any(t.index == tensor for t in node.inputs):
            return float(node.layer.mask_value)
    return 0.0


def check_padding(runtime: Any, form: Form, batch: Batch, outputs: Sequence[Array]) -> None:
    """See to it that padding has changed nothing: some layers do not heed masks.

    Args:
        runtime: the model.
        form: of it.
        batch: what it was given.
        outputs: what it has made of that.

    Raises:
        CommandError: if a sequence alone gives something else.
    """
    if not batch.padded:
        return
    for row, sample in enumerate(batch.sequences):
        inputs = [array[None] for array in sample.arrays]
        masks = [
            None if sample.mask is None or not entry.steps else sample.mask[None]
            for entry in form.inputs
        ]
        several = len(inputs) > 1
        alone = form.flat(
            runtime.predict(inputs if several else inputs[0], masks if several else masks[0])
        )
        for one, whole in zip(alone, outputs, strict=True):
            part = whole[row]
            if part.shape != one[0].shape:
                part = part[: len(one[0])]
            if part.shape != one[0].shape or not np.allclose(part, one[0], 1e-4, 1e-5):
                raise CommandError(
                    f"{sample.name} is shorter than others, and padding would change what the "
                    "model makes of it: it has layers that do not heed masks. Look at sequences of "
                    "one length: --rows 1 for the first, or --window N."
                )
