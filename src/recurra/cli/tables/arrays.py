"""Reading .npy arrays, which stay on the disk, and Parquet files."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from recurra.cli.failures import CommandError
from recurra.cli.files import STANDARD, standard_input
from recurra.cli.form import Array, Form
from recurra.cli.tables.numbers import Bad, Block
from recurra.cli.tables.reading import ROWS, Item, Table


class NpyTable(Table):
    """A .npy array: (rows, columns) is a table, (sequences, time_steps, columns) holds samples.

    For a model that takes one index per time step, (time_steps,) is a table and (sequences,
    time_steps) holds samples.

    Args:
        path: of the file, or `-`.
        form: of the model.

    Raises:
        CommandError: if it is no array of numbers, or of other dimensions.
    """

    def __init__(self, path: str, form: Form) -> None:
        super().__init__(path)
        self._form = form
        try:
            if path == STANDARD:
                array = np.load(io.BytesIO(standard_input().read()), allow_pickle=False)
            else:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, SyntaxError) as error:
            raise CommandError(f"{self.source}: is no .npy array of numbers: {error}") from None
        if not isinstance(array, np.ndarray):
            raise CommandError(f"{self.source}: is an archive of arrays; expected one .npy array.")
        if array.dtype.kind not in "fiub":
            raise CommandError(
                f"{self.source}: holds {array.dtype}; expected floats or integers, as by "
                "array.astype('float32')."
            )
        rank = max(entry.rank for entry in form.inputs)
        shape = array.shape
        if array.ndim == 1 and form.width == 1:
            array = array.reshape(-1, 1)
        elif array.ndim == rank and form.steps:
            array = array.reshape(shape[0], math.prod(shape[1:]))
        elif array.ndim == rank + 1:
            self.samples = form.steps
            whole = 1 + form.steps
            array = array.reshape(*shape[:whole], math.prod(shape[whole:]))
        else:
            raise CommandError(
                f"{self.source}: has shape {shape}, but the model takes {form.describe()}."
            )
        self._array = array
        self.rows, self.width = len(array), array.shape[-1]

    def place(self, line: int) -> str:
        return f"{self.source}: {'sequence' if self.samples else 'row'} {line}"

    def blocks(self, rows: int = ROWS) -> Iterator[Block]:
        for start in range(0, len(self._array), rows):
            part = np.asarray(self._array[start : start + rows])
            lines = list(range(start + 1, start + 1 + len(part)))
            yield typed_block(self, lines, [part[:, c] for c in range(self.width)])

    def items(self) -> Iterator[Item]:
        length = self._form.time_steps
        if length not in (None, self._array.shape[1]):
            raise CommandError(
                f"{self.source}: has {self._array.shape[1]} time steps, but the model takes "
                f"{length}."
            )
        for number, sequence in enumerate(self._array, 1):
            values = np.asarray(sequence)[:, list(self.choice.inputs)].astype(np.float64)
            if not self.numbers.check(values):
                try:
                    values = self._one_by_one(np.asarray(sequence))
                except Bad as bad:
                    self.numbers.bad(number, str(bad))
                    continue
            kept = tuple(sequence[-1, c].item() for c in self.choice.keep)
            yield Item(number, self._form.split(values, sequence=True), kept)

    def _one_by_one(self, sequence: Array) -> Array:
        """A sequence with --missing where it has no value; raises Bad, naming step and column."""
        steps = []
        for step, row in enumerate(sequence, 1):
            try:
                steps.append(self.numbers.row(row.tolist(), self.width))
            except Bad as bad:
                raise Bad(f"time step {step}: {bad}") from None
        return np.array(steps, np.float64)


class ParquetTable(Table):
    """A Parquet file, read in batches by pyarrow.

    Raises:
        CommandError: if pyarrow is not installed, or the file is not Parquet.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        parquet = import_parquet(self.source)
        import pyarrow

        self._arrow = pyarrow
        source = io.BytesIO(standard_input().read()) if path == STANDARD else path
        try:
            self._file = parquet.ParquetFile(source)
        except self._arrow.ArrowException as error:
            raise CommandError(f"{self.source}: is no Parquet file: {error}") from None
        self.names = list(self._file.schema_arrow.names)
        self.rows, self.width = self._file.metadata.num_rows, len(self.names)
        types = self._arrow.types
        # Of each column's kind, so that those of no numbers can be told.
        self.first = [
            0.0 if types.is_integer(kind) or types.is_floating(kind) else "text"
            for kind in self._file.schema_arrow.types
        ]

    def place(self, line: int) -> str:
        return f"{self.source}: row {line}"

    def blocks(self, rows: int = ROWS) -> Iterator[Block]:
        assert self.names is not None
        choice = self.choice
        aside = [c for c in (choice.by, choice.mask) if c is not None]
        used = sorted({*choice.inputs, *choice.keep, *aside})
        names = [self.names[c] for c in used]
        line = 1
        try:
            for batch in self._file.iter_batches(batch_size=rows, columns=names):
                columns: list[Any] = [None] * self.width
                for c, name in zip(used, names, strict=True):
                    columns[c] = batch.column(batch.schema.get_field_index(name))
                lines = list(range(line, line + batch.num_rows))
                line += batch.num_rows
                yield typed_block(self, lines, columns)
        except self._arrow.ArrowException as error:
            raise CommandError(f"{self.source}: cannot be read: {error}") from None

    def close(self) -> None:
        self._file.close()


def import_parquet(path: str) -> Any:
    """pyarrow.parquet, or CommandError that says what to install."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise CommandError(
            f'{path}: Parquet files need pyarrow: pip install "recurra[parquet]"'
        ) from None
    return parquet


def typed_block(table: Table, lines: list[int], columns: list[Any]) -> Block:
    """A block of typed columns; looks at single cells only if something is wrong."""
    choice, numbers = table.choice, table.numbers
    fast = not choice.keep and choice.by is None and choice.mask is None
    values: Array | None = None
    if fast:
        try:
            values = np.stack([_floats(columns[c]) for c in choice.inputs], axis=1)
        except (ValueError, TypeError):
            values = None
        if values is not None and numbers.check(values):
            return Block(lines, values, [()] * len(lines))
    cells = [[None] * len(lines) if column is None else _cells(column) for column in columns]
    rows = [list(row) for row in zip(*cells, strict=True)]
    return numbers.block(lines, rows, table.width)


def _floats(column: Any) -> Array:
    if isinstance(column, np.ndarray):
        return column.astype(np.float64)
    array = column.to_numpy(zero_copy_only=False)
    if array.dtype.kind not in "fiu":
        raise TypeError(array.dtype)
    return np.asarray(array, np.float64)


def _cells(column: Any) -> list[Any]:
    cells: list[Any] = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
    return cells
