"""Reading CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from recurra.cli.failures import CommandError
from recurra.cli.tables.numbers import Block, from_text, is_absent
from recurra.cli.tables.reading import ROWS, Table, batches, check_text, open_bytes


class CsvTable(Table):
    """A CSV file: quoted cells may hold delimiters and ends of lines; blank lines are left out.

    Args:
        path: of the file, or `-`.
        delimiter: one character.
        header: whether the first row has the columns' names; None to see for itself, as
            `is_header` does.

    Raises:
        CommandError: if the file is empty or not text.
    """

    number = staticmethod(from_text)

    def __init__(self, path: str, *, delimiter: str = ",", header: bool | None = None) -> None:
        super().__init__(path)
        self._file = open_bytes(path)
        check_text(self._file, self.source)
        # Bytes that are not UTF-8 are carried over as they are, and are no numbers.
        self._text = io.TextIOWrapper(
            self._file, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self._reader = csv.reader(self._text, delimiter=delimiter, strict=True)
        self._pending: tuple[int, list[str]] | None = None
        row = self._next()
        if row is None:
            raise CommandError(f"{self.source}: is empty; expected rows of numbers.")
        self.width = len(row[1])
        if is_header(row[1]) if header is None else header:
            self.names = [name.strip() for name in row[1]]
            row = self._next()
        self._pending = row
        self.first = () if row is None else row[1]

    def blocks(self, rows: int = ROWS) -> Iterator[Block]:
        for lines, cells in batches(self._rows(), rows):
            yield self.numbers.block(lines, cells, self.width)

    def close(self) -> None:
        self._text.close()

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        row, self._pending = self._pending, None
        while row is not None:
            yield row
            row = self._next()

    def _next(self) -> tuple[int, list[str]] | None:
        """The next row that is not blank, and the line where it begins."""
        while True:
            line = self._reader.line_num + 1
            try:
                row = next(self._reader)
            except StopIteration:
                return None
            except csv.Error as error:
                problem = f"not CSV: {error}"
                if not hasattr(self, "numbers"):
                    raise CommandError(f"{self.source}:{line}: {problem}.") from None
                self.numbers.bad(line, problem)
                continue
            if row:
                return line, row


def is_header(row: list[str]) -> bool:
    """Whether a first row has names: no cell is a number or stands for an absent value.

    Only the very first may be empty, as above the index that some programs write.
    """
    for place, cell in enumerate(row):
        if is_absent(cell) and (cell or place or len(row) == 1):
            return False
        try:
            from_text(cell)
        except ValueError:
            continue
        return False
    return True
