"""Writing predictions: one class per format, all with the same methods."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from recurra.cli.failures import CommandError
from recurra.cli.form import Array, column_names


class Writer:
    """Writes rows of predictions.

    Args:
        file: where to.
        kept: names of the columns that go before the outputs.
        outputs: names of the outputs.
        shapes: what one row of each output looks like, for a file that gets no rows.
    """

    def __init__(
        self,
        file: IO[bytes],
        kept: Sequence[str],
        outputs: Sequence[str],
        shapes: Sequence[Sequence[int]],
    ) -> None:
        self.file, self.kept, self.outputs = file, list(kept), list(outputs)
        self.shapes = [tuple(shape) for shape in shapes]

    def rows(self, kept: Sequence[Sequence[Any]], arrays: Sequence[Array]) -> None:
        """Write rows: for each its kept cells, and arrays (rows, ...) of the outputs."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what has to be there even without rows."""


class CsvWriter(Writer):
    """Comma-separated rows under a header; float32 numbers with as many digits as they have."""

    def __init__(self, *arguments: Any, delimiter: str = ",", header: bool = True) -> None:
        super().__init__(*arguments)
        self._delimiter, self._header = delimiter, header

    def rows(self, kept: Sequence[Sequence[Any]], arrays: Sequence[Array]) -> None:
        self.file.write(self.text(kept, arrays))

    def text(self, kept: Sequence[Sequence[Any]], arrays: Sequence[Array]) -> bytes:
        """The rows as lines, beneath the header if they are the first."""
        text = io.StringIO()
        writer = csv_writer(text, self._delimiter)
        self._begin(writer, [array.shape[1:] for array in arrays])
        flat = [array.reshape(len(array), -1) for array in arrays]
        if any(self.kept):
            for index, cells in enumerate(kept):
                row = ["" if cell is None else cell for cell in cells]
                for array in flat:
                    row += map(str, array[index])
                writer.writerow(row)
        else:
            whole = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
            join = self._delimiter.join
            text.write("".join([join(map(str, row)) + "\n" for row in whole]))
        return text.getvalue().encode(errors="surrogateescape")

    def close(self) -> None:
        text = io.StringIO()
        self._begin(csv_writer(text, self._delimiter), self.shapes)
        self.file.write(text.getvalue().encode(errors="surrogateescape"))

    def _begin(self, writer: Any, shapes: Sequence[Sequence[int]]) -> None:
        if not self._header:
            return
        self._header = False
        names = [
            column
            for name, shape in zip(self.outputs, shapes, strict=True)
            for column in column_names(name, shape)
        ]
        writer.writerow([*self.kept, *names])


class _Newlines:
    """Takes the rows of `csv.writer`, each in one call, and ends them by a newline alone."""

    def __init__(self, text: io.StringIO) -> None:
        self._text = text

    def write(self, row: str) -> None:
        self._text.write(row.removesuffix("\r\n") + "\n")


def csv_writer(text: io.StringIO, delimiter: str) -> Any:
    """Writes rows that end by a newline, and quotes cells with any end of a line in them.

    Python 3.11's csv leaves a carriage return bare unless it is part of the rows' ends.
    """
    return csv.writer(_Newlines(text), delimiter=delimiter, lineterminator="\r\n")


class JsonWriter(Writer):
    """An object on each line: the kept cells, and each output as a number or an array."""

    def rows(self, kept: Sequence[Sequence[Any]], arrays: Sequence[Array]) -> None:
        self.file.write(self.text(kept, arrays))

    def text(self, kept: Sequence[Sequence[Any]], arrays: Sequence[Array]) -> bytes:
        """The rows as lines."""
        keys = [json.dumps(name) + ": " for name in [*self.kept, *self.outputs]]
        lines = []
        for index in range(len(arrays[0])):
            values = [_json(cell) for cell in (kept[index] if self.kept else ())]
            values += [_json_array(_squeezed(array[index])) for array in arrays]
            pairs = ", ".join([key + value for key, value in zip(keys, values, strict=True)])
            lines.append(f"{{{pairs}}}\n")
        return "".join(lines).encode(errors="surrogateescape")


class NpyWriter(Writer):
    """A .npy array (rows, ...) of one output; the number of rows is filled in at the end."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.kept:
            raise CommandError(
                "a .npy file has no place for --keep, --by or numbers of steps; write CSV, JSON "
                "lines or Parquet, or leave them out."
            )
        if len(self.outputs) != 1:
            raise CommandError(
                f"a .npy file holds one array, but the outputs are {', '.join(self.outputs)}: "
                f"choose one, as by --outputs {self.outputs[0]}"
            )
        self._count = 0
        self._seekable = self.file.seekable()
        self._parts: list[Array] = []
        self._shape: tuple[int, ...] | None = None

    def rows(self, kept: Sequence[Sequence[Any]], arrays: Sequence[Array]) -> None:
        (array,) = arrays
        if self._shape is None:
            self._shape = array.shape[1:]
            self._dtype = array.dtype
            if self._seekable:
                self._write_header()
        if array.shape[1:] != self._shape:
            raise CommandError(
                f"a .npy file holds arrays of one shape, but after {self._shape} came "
                f"{array.shape[1:]}: write JSON lines (-o name.jsonl)."
            )
        self._count += len(array)
        if self._seekable:
            self.file.write(np.ascontiguousarray(array).tobytes())
        else:
            self._parts.append(array)

    def close(self) -> None:
        if self._shape is None:
            self._shape, self._dtype = self.shapes[0], np.dtype(np.float32)
            self._write_header()
            return
        if self._seekable:
            # The header keeps room for more digits, so it is as long as the first one.
            self.file.seek(0)
        self._write_header()
        for part in self._parts:
            self.file.write(np.ascontiguousarray(part).tobytes())
        if self._seekable:
            self.file.seek(0, io.SEEK_END)

    def _write_header(self) -> None:
        assert self._shape is not None
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._count, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self.file, header)


class ParquetWriter(Writer):
    """Columns of float32 beside the kept ones."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        from recurra.cli.tables.arrays import import_parquet

        self._parquet = import_parquet("the output")
        import pyarrow

        self._arrow = pyarrow
        self._writer: Any = None

    def rows(self, kept: Sequence[Sequence[Any]], arrays: Sequence[Array]) -> None:
        names = list(self.kept)
        columns = [self._arrow.array(list(cells)) for cells in zip(*kept, strict=True)]
        columns = columns or [self._arrow.array([], self._arrow.string()) for _ in self.kept]
        for name, array in zip(self.outputs, arrays, strict=True):
            names += column_names(name, array.shape[1:])
            flat = array.reshape(len(array), math.prod(array.shape[1:]))
            columns += [self._arrow.array(np.ascontiguousarray(part)) for part in flat.T]
        batch = self._arrow.record_batch(columns, names=names)
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self.file, batch.schema)
        elif batch.schema != self._writer.schema:
            try:
                batch = batch.cast(self._writer.schema)
            except self._arrow.ArrowException as error:
                raise CommandError(f"a kept column changes its kind: {error}") from None
        self._writer.write_batch(batch)

    def close(self) -> None:
        if self._writer is None:
            self.rows([], [np.zeros((0, *shape), np.float32) for shape in self.shapes])
        self._writer.close()


WRITERS: dict[str, type[Writer]] = {
    "csv": CsvWriter,
    "jsonl": JsonWriter,
    "npy": NpyWriter,
    "parquet": ParquetWriter,
}


def _squeezed(value: Any) -> Any:
    """One number instead of an array of one."""
    return value.reshape(-1)[0] if math.prod(value.shape) == 1 and value.ndim < 2 else value


def _json(cell: Any) -> str:
    if isinstance(cell, float) and not math.isfinite(cell):
        return "null"
    try:
        return json.dumps(cell)
    except TypeError:  # a date of Parquet
        return json.dumps(str(cell))


def _json_array(value: Any) -> str:
    if value.ndim == 0:
        # float32's own digits; JSON has neither NaN nor infinity.
        return str(value) if np.isfinite(value) else "null"
    return "[" + ", ".join([_json_array(part) for part in value]) + "]"
