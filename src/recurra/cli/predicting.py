"""How a table's rows become what a model takes, and what it gives becomes rows again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.cli.failures import CommandError, UsageError
from recurra.cli.form import Array, Form
from recurra.cli.tables.numbers import Block
from recurra.cli.tables.reading import Item, Table

Emit = Callable[[Sequence[Sequence[Any]], Sequence[Array]], None]
"""Takes rows of the result: for each its kept cells, and arrays (rows, ...) of the outputs."""


@dataclass(frozen=True)
class Plan:
    """What is done with the rows.

    Args:
        window: time steps of a window; None for whole sequences.
        stride: rows from one window to the next.
        wide: an output's time steps side by side in one row.
        outputs: which of the model's.
        per_step: for each of them, whether it gives a row per time step.
        nested: the output's format holds a sequence's steps in one row.
    """

    window: int | None
    stride: int
    wide: bool
    outputs: Sequence[int]
    per_step: Sequence[bool]
    nested: bool

    @property
    def rows_per_step(self) -> bool:
        """Whether results are rows of single time steps."""
        return all(self.per_step)


def make_plan(
    form: Form,
    table: Table,
    outputs: Sequence[int],
    *,
    window: int | None,
    stride: int | None,
    wide: bool,
    nested: bool,
) -> Plan:
    """Check what is asked for against what the model takes.

    Raises:
        UsageError: if options do not fit the model or the table.
        CommandError: if outputs do not fit into one table.
    """
    names = [form.outputs[index].name for index in outputs]
    per_step = [not wide and form.per_step(form.outputs[index]) for index in outputs]
    if window is not None or stride is not None:
        if not form.steps:
            raise UsageError(
                f"the model takes no time steps ({form.describe()}), so there are no windows of "
                "them: every row is a sample; leave out --window and --stride."
            )
        if table.samples:
            raise UsageError(
                f"{table.source} holds whole sequences, one prediction each; --window and "
                "--stride are for tables with a time step in each row."
            )
    if window is None and not table.samples:
        window = form.time_steps
    elif form.time_steps not in (None, window) and not table.samples:
        raise UsageError(
            f"--window {window}: the model takes {form.time_steps} time steps; "
            f"leave --window out, or say --window {form.time_steps}."
        )
    if stride is not None and window is None:
        raise UsageError("--stride is the distance of windows: give --window too.")
    if window is not None and stride is None:
        # Where every step has its own result, windows that overlap would give rows twice.
        stride = window if all(per_step) else 1
    mixed = any(per_step) and not all(per_step)
    if mixed and not (window is not None and stride == 1) and not (table.samples and nested):
        steps = [name for name, each in zip(names, per_step, strict=True) if each]
        raise CommandError(
            f"of the outputs {', '.join(names)} only {', '.join(steps)} have a row for every time "
            f"step; choose some that go together, as by --outputs {steps[0]}"
        )
    return Plan(window, stride or 1, wide, outputs, per_step, nested)


class Predictor:
    """Runs a model over a table.

    Args:
        runtime: the model.
        form: of the model.
        table: open, with its columns chosen.
        plan: what to do.
        emit: takes the results.
        batch_size: sequences or windows of one call.
        tick: called with the rows that have been read.
    """

    def __init__(
        self,
        runtime: Any,
        form: Form,
        table: Table,
        plan: Plan,
        emit: Emit,
        batch_size: int,
        tick: Callable[[int], None],
    ) -> None:
        self._runtime, self._form, self._table = runtime, form, table
        self._plan, self._emit, self._batch = plan, emit, batch_size
        self._tick = tick
        self.left_over = 0
        """Rows at the ends of sequences that no window has covered."""

    def run(self) -> None:
        """Predict everything.

        Raises:
            CommandError: if there are too few rows, or a row is bad.
        """
        if self._table.samples:
            self._run_items()
        elif self._table.choice.by is not None:
            self._run_groups()
        elif not self._form.steps:
            for block in self._blocks():
                self._emit(block.kept, self._predict(block.values, None, sequence=False))
        elif self._plan.window is not None:
            windows = Windows(self, self._plan.window, self._plan.stride)
            for block in self._blocks():
                windows.add(block)
            windows.finish(self._table.source)
        else:
            self._run_whole()

    def _blocks(self) -> Iterator[Block]:
        for block in self._table.blocks():
            self._tick(len(block.lines))
            if len(block.lines):
                yield block

    def _run_whole(self) -> None:
        """The table is one sequence: in pieces if the model streams, else at once."""
        session = self._session()
        if session is None:
            block = joined(list(self._blocks()), self._table.source)
            self._one_sequence(block, block.kept)
            return
        seen = False
        last: Sequence[Any] = ()
        outputs: list[Array] = []
        for block in self._blocks():
            seen = True
            inputs = self._form.split(block.values, sequence=True)
            try:
                outputs = self._chosen(session.run(*inputs))
            except ValueError as error:
                place = self._table.place(block.lines[0])
                raise CommandError(f"{place} and after: {error}") from None
            if self._plan.rows_per_step:
                self._emit(block.kept, outputs)
            else:
                last = block.kept[-1]
        if not seen:
            raise CommandError(f"{self._table.source}: has no rows of numbers.")
        if not self._plan.rows_per_step:
            self._emit([last], [output[None] for output in outputs])

    def _session(self) -> Any:
        """A session if the model's rows can go through it one by one."""
        plain = self._table.choice.mask is None and not self._plan.wide
        if not plain or not all(entry.steps for entry in self._form.inputs):
            return None
        from recurra.runtime.errors import StreamingError

        try:
            return self._runtime.open()
        except StreamingError:
            return None

    def _run_groups(self) -> None:
        """Each group's rows are a sequence, wherever they stand in the table."""
        if not self._form.steps:
            raise UsageError(
                "--by makes a sequence of each group's rows, but the model takes no time steps; "
                "--keep carries the column over."
            )
        whole = joined(list(self._blocks()), self._table.source)
        assert whole.groups is not None
        members: dict[str, list[int]] = {}
        for index, group in enumerate(whole.groups):
            members.setdefault(group, []).append(index)
        for group, rows in members.items():
            block = taken(whole, rows)
            block.kept = [(group, *kept) for kept in block.kept]
            if self._plan.window is None:
                self._one_sequence(block, block.kept)
                continue
            windows = Windows(self, self._plan.window, self._plan.stride)
            windows.add(block)
            windows.finish(f"{self._table.source}: group {group!r}")

    def _one_sequence(self, block: Block, kept: Sequence[Sequence[Any]]) -> None:
        mask = None if block.mask is None else block.mask[None]
        outputs = self._predict(block.values[None], mask, sequence=True)
        if not self._plan.rows_per_step:
            self._emit(kept[-1:], outputs)
            return
        rows = outputs[0].shape[1]
        if rows != len(kept):
            if any(kept):
                raise CommandError(
                    f"{self._table.source}: {len(kept)} rows give {rows} time steps of output, so "
                    "there is nothing to put the columns of --keep and --by beside."
                )
            kept = [()] * rows
        self._emit(kept, [output[0] for output in outputs])

    def _run_items(self) -> None:
        """Samples that stand alone: those of one shape go together, results in their order."""
        waiting: list[Item] = []
        for item in self._table.items():
            self._tick(1)
            waiting.append(item)
            if len(waiting) == 16 * self._batch:
                self._predict_items(waiting)
                waiting = []
        self._predict_items(waiting)

    def _predict_items(self, items: Sequence[Item]) -> None:
        alike: dict[tuple[Any, ...], list[int]] = {}
        for index, item in enumerate(items):
            alike.setdefault(tuple(array.shape for array in item.arrays), []).append(index)
        results: list[list[Array]] = [[]] * len(items)
        for indices in alike.values():
            inputs = [
                np.stack(arrays)
                for arrays in zip(*(items[index].arrays for index in indices), strict=True)
            ]
            try:
                outputs = self._chosen(self._run(inputs, None))
            except ValueError:  # of one of them, which is found one by one
                for index in indices:
                    results[index] = self._predict_item(items[index])
                continue
            for place, index in enumerate(indices):
                results[index] = [output[place] for output in outputs]
        for item, outputs in zip(items, results, strict=True):
            if not outputs:
                continue
            if self._plan.rows_per_step and not self._plan.nested:
                steps = range(1, len(outputs[0]) + 1)
                self._emit([(*item.kept, item.line, step) for step in steps], outputs)
            else:
                self._emit([item.kept], [output[None] for output in outputs])

    def _predict_item(self, item: Item) -> list[Array]:
        """One sample's results; none if the model refuses it and bad ones are left out."""
        try:
            outputs = self._chosen(self._run([array[None] for array in item.arrays], None))
        except ValueError as error:
            lengths = {
                entry.name: len(array)
                for entry, array in zip(self._form.inputs, item.arrays, strict=True)
                if entry.steps
            }
            problem = str(error).removesuffix(".")
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
                problem = f"the inputs have different numbers of time steps ({told}): {problem}"
            self._table.numbers.bad(item.line, problem)
            return []
        return [output[0] for output in outputs]

    def _predict(self, values: Array, mask: Array | None, *, sequence: bool) -> list[Array]:
        return self._chosen(self._call(self._form.split(values, sequence=sequence), mask))

    def _call(self, inputs: list[Array], mask: Array | None) -> Any:
        try:
            return self._run(inputs, mask)
        except ValueError as error:  # too few steps
            raise CommandError(f"{self._table.source}: {error}") from None

    def _run(self, inputs: list[Array], mask: Array | None) -> Any:
        masks = [mask if entry.steps else None for entry in self._form.inputs]
        several = len(inputs) > 1
        return self._runtime.predict(
            inputs if several else inputs[0],
            mask=None if mask is None else (masks if several else masks[0]),
            batch_size=self._batch,
        )

    def _chosen(self, results: Any) -> list[Array]:
        found = self._form.flat(results)
        return [found[index] for index in self._plan.outputs]

    def predict_windows(self, values: Array, mask: Array | None, kept: Sequence[Any]) -> None:
        """Predict windows (windows, steps, columns) and emit what is new in each.

        Args:
            values: the windows.
            mask: (windows, steps) or None.
            kept: for each window, its newest rows' kept cells: as many as each gives rows.
        """
        outputs = self._predict(values, mask, sequence=True)
        steps = values.shape[1]
        new = self.new_rows
        parts = []
        for output, each in zip(outputs, self._plan.per_step, strict=True):
            if not each or output.shape[1] != steps:
                parts.append(output)
            else:
                part = output[:, steps - new :]
                parts.append(part.reshape(part.shape[0] * new, *part.shape[2:]))
        if any(len(part) != len(kept) for part in parts):
            # A layer that shortens sequences: a window's steps go side by side.
            kept = kept[new - 1 :: new]
        self._emit(kept, parts)

    @property
    def new_rows(self) -> int:
        """Rows that a window gives."""
        assert self._plan.window is not None
        return min(self._plan.stride, self._plan.window) if self._plan.rows_per_step else 1

    @property
    def batch_size(self) -> int:
        """Windows of one call."""
        return self._batch


class Windows:
    """Windows that slide over rows as they come; holds no more rows than they need."""

    def __init__(self, predictor: Predictor, size: int, stride: int) -> None:
        self._predictor, self._size, self._stride = predictor, size, stride
        self._rows: Block | None = None
        self._next = 0  # where the next window begins among the rows that are held
        self._count = 0
        self._covered = 0
        self._seen = 0

    def add(self, block: Block) -> None:
        """Predict the windows that these rows complete."""
        self._seen += len(block.lines)
        rows = block if self._rows is None else joined([self._rows, block], "")
        size, stride, new = self._size, self._stride, self._predictor.new_rows
        starts = np.arange(self._next, len(rows.lines) - size + 1, stride)
        for first in range(0, len(starts), self._predictor.batch_size):
            some = starts[first : first + self._predictor.batch_size]
            index = some[:, None] + np.arange(size)
            kept = [rows.kept[row] for row in index[:, size - new :].ravel()]
            mask = None if rows.mask is None else rows.mask[index]
            self._predictor.predict_windows(rows.values[index], mask, kept)
        self._count += len(starts)
        if len(starts):
            self._next = int(starts[-1]) + stride
            self._covered = self._seen - (len(rows.lines) - (int(starts[-1]) + size))
        gone = min(self._next, len(rows.lines))
        self._rows = taken(rows, range(gone, len(rows.lines)))
        self._next -= gone

    def finish(self, source: str) -> None:
        """Raise CommandError if there was no window at all."""
        if not self._count:
            rows = "1 row" if self._seen == 1 else f"{self._seen} rows"
            raise CommandError(
                f"{source}: has {rows} of numbers, too few for a window of {self._size} time steps."
            )
        self._predictor.left_over += self._seen - self._covered


def joined(blocks: Sequence[Block], source: str) -> Block:
    """Blocks as one; CommandError if there is no row in them."""
    if not blocks:
        raise CommandError(f"{source}: has no rows of numbers.")
    if len(blocks) == 1:
        return blocks[0]
    groups, masks = [b.groups for b in blocks], [b.mask for b in blocks]
    return Block(
        [line for block in blocks for line in block.lines],
        np.concatenate([block.values for block in blocks]),
        [kept for block in blocks for kept in block.kept],
        None if groups[0] is None else [group for part in groups for group in part or ()],
        None if masks[0] is None else np.concatenate([mask for mask in masks if mask is not None]),
    )


def taken(block: Block, rows: Sequence[int]) -> Block:
    """Some rows of a block."""
    index = np.asarray(rows, int)
    return Block(
        [block.lines[row] for row in rows],
        block.values[index],
        [block.kept[row] for row in rows],
        None if block.groups is None else [block.groups[row] for row in rows],
        None if block.mask is None else block.mask[index],
    )
