"""Reading tables: one class per format, all with the same methods."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from numpy.typing import NDArray

from recurra.cli.failures import CommandError
from recurra.cli.files import STANDARD, standard_input
from recurra.cli.tables.columns import Choice, Wanted, choose
from recurra.cli.tables.numbers import Block, Numbers

ROWS = 2048
"""Rows that are read at a time."""


@dataclass
class Item:
    """A sample that stands alone: a line with a whole sequence, or one of an array's.

    Args:
        line: where it is in its file, from 1.
        arrays: one for each input of the model, without the batch.
        kept: what is carried over to the output.
    """

    line: int
    arrays: list[NDArray[Any]]
    kept: tuple[Any, ...]


class Table:
    """A table that is open for reading.

    Attributes:
        source: its name, for messages.
        names: of its columns; None if they have none.
        width: how many columns it has.
        samples: whether it holds `Item`s, not rows.
        choice: the columns that are used, after `choose`.
        rows: how many there are; None if that is not known beforehand.
    """

    def __init__(self, path: str) -> None:
        self.source = "<stdin>" if path == STANDARD else path
        self.names: list[str] | None = None
        self.width = 0
        self.samples = False
        self.rows: int | None = None
        self.first: Sequence[Any] = ()
        self.numbers: Numbers
        self.choice: Choice

    def choose(
        self,
        wanted: Wanted,
        integers: Sequence[bool],
        *,
        missing: float | None = None,
        skip_bad: bool = False,
        limits: Sequence[int | None] = (),
    ) -> None:
        """Say which columns to read, and what to do with bad rows; before anything is read."""
        self.choice = choose(self.source, self.names, self.width, wanted, integers, self.first)
        self.numbers = Numbers(
            self.place,
            self.choice,
            self.number,
            missing=missing,
            skip_bad=skip_bad,
            limits=limits,
        )

    number: Callable[[Any], float] = staticmethod(float)
    """A cell's number."""

    def place(self, line: int) -> str:
        """Where a row is, for messages."""
        return f"{self.source}:{line}"

    def blocks(self, rows: int = ROWS) -> Iterator[Block]:
        """The rows, so many at a time."""
        raise NotImplementedError

    def items(self) -> Iterator[Item]:
        """The samples, if the table holds such."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def batches(rows: Iterator[tuple[int, Any]], size: int) -> Iterator[tuple[list[int], list[Any]]]:
    """Numbered rows in lists of at most `size`."""
    lines: list[int] = []
    cells: list[Any] = []
    for line, row in rows:
        lines.append(line)
        cells.append(row)
        if len(lines) == size:
            yield lines, cells
            lines, cells = [], []
    if lines:
        yield lines, cells


def open_bytes(path: str) -> IO[bytes]:
    """A file, or standard input, for reading."""
    return standard_input() if path == STANDARD else open(path, "rb")


def check_text(file: IO[bytes], source: str) -> None:
    """Raise CommandError if a file that should be text begins as another kind does."""
    if not isinstance(file, io.BufferedReader):
        return
    start = file.peek(8)[:8]
    kinds = {
        b"\x93NUMPY": "a .npy array: add --input-format npy",
        b"PAR1": "a Parquet file: add --input-format parquet",
        b"\x1f\x8b": "compressed: decompress it first, as by gunzip -c",
        b"PK\x03\x04": "a zip archive or a spreadsheet: export it as CSV",
        b"\xff\xfe": "text in UTF-16: save it as UTF-8",
        b"\xfe\xff": "text in UTF-16: save it as UTF-8",
        b"\x89HDF": "an HDF5 file: it is no table of numbers",
    }
    for mark, kind in kinds.items():
        if start.startswith(mark):
            raise CommandError(f"{source}: is {kind}.")
