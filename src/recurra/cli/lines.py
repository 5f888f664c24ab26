"""Lines of a stream to rows of numbers: each line is one time step."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recurra.cli.failures import CommandError
from recurra.cli.form import Form
from recurra.cli.tables.columns import Choice, Wanted, choose
from recurra.cli.tables.csv_tables import is_header
from recurra.cli.tables.json_lines import parse
from recurra.cli.tables.numbers import Bad, Block, Numbers, from_json, from_text

SOURCE = "<stdin>"


class Stopped(Exception):
    """A bad line: `block` has the good rows before it, `error` says what is wrong."""

    def __init__(self, block: Block, error: CommandError) -> None:
        super().__init__(str(error))
        self.block, self.error = block, error


class Lines:
    """Turns lines into rows, numbering them.

    Args:
        form: of the model, stepwise.
        wanted: the columns that are asked for.
        skip_bad: leave bad lines out and count them.
        missing: what stands for an absent value; None if that is an error.

    Attributes:
        count: lines so far.
        numbers: counts bad ones; None before the first line.
    """

    def __init__(
        self, form: Form, wanted: Wanted, *, skip_bad: bool, missing: float | None
    ) -> None:
        self._form, self._wanted = form, wanted
        self._skip_bad, self._missing = skip_bad, missing
        self.count = 0
        self.numbers: Numbers | None = None
        self._width = 0

    def block(self, texts: Sequence[bytes]) -> Block:
        """The rows of lines without their ends; blank ones are left out.

        Raises:
            Stopped: at a bad line.
            CommandError: at the first line, if its columns do not fit the model.
        """
        lines: list[int] = []
        rows: list[Any] = []
        for raw in texts:
            self.count += 1
            text = raw.decode("utf-8", "surrogateescape").strip("\r\n")
            if self.count == 1:
                text = text.removeprefix("\ufeff")
            if not text or text.isspace():
                continue
            try:
                row = self._begin(text) if self.numbers is None else self.cells(text)
            except Bad as bad:
                self._bad(lines, rows, self.count, str(bad))
                continue
            if row is not None:
                lines.append(self.count)
                rows.append(row)
        return self._numbered(lines, rows)

    def cells(self, text: str) -> Sequence[Any]:
        """A line's cells; raises Bad if it is not of this format."""
        raise NotImplementedError

    def _begin(self, text: str) -> Sequence[Any] | None:
        """Learn the columns from the first line; its row, or None if it has names only."""
        raise NotImplementedError

    def _choose(self, names: list[str] | None, width: int, first: Sequence[Any]) -> None:
        integers = self._form.integers
        choice = choose(SOURCE, names, width, self._wanted, integers, first)
        self._width = width
        self.numbers = self._make_numbers(choice)

    def _make_numbers(self, choice: Choice) -> Numbers:
        return Numbers(
            lambda line: f"{SOURCE}:{line}",
            choice,
            self._number,
            missing=self._missing,
            skip_bad=self._skip_bad,
            limits=self._form.limits,
        )

    _number: Callable[[Any], float] = staticmethod(float)

    def _numbered(self, lines: list[int], rows: list[Any]) -> Block:
        if self.numbers is None or not rows:
            return Block([], np.empty((0, self._form.width)), [])
        try:
            return self.numbers.block(lines, rows, self._width)
        except CommandError as error:
            good = 0
            while _is_good(self.numbers, rows[good], self._width):
                good += 1
            raise Stopped(self._numbered(lines[:good], rows[:good]), error) from None

    def _bad(self, lines: list[int], rows: list[Any], line: int, problem: str) -> None:
        """Count a line that is no row, or raise Stopped with what came before it."""
        if self.numbers is None:
            raise CommandError(f"{SOURCE}:{line}: {problem}.")
        before = self._numbered(lines, rows) if not self._skip_bad else None
        try:
            self.numbers.bad(line, problem)
        except CommandError as error:
            assert before is not None
            raise Stopped(before, error) from None


class CsvLines(Lines):
    """Lines of CSV; the first may have names.

    Args:
        arguments: of `Lines`, as `settings`.
        delimiter: one character.
        header: whether the first line has names; None to see for itself: it has if all its cells
            are names, as `is_header` says.
        goes_on: the lines go on where others ended. Without a word about a header, the first then
            has names only if it has all that are asked for by name.
    """

    def __init__(
        self,
        *arguments: Any,
        delimiter: str = ",",
        header: bool | None = None,
        goes_on: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self._delimiter, self._header, self._goes_on = delimiter, header, goes_on

    _number = staticmethod(from_text)

    def cells(self, text: str) -> list[str]:
        if '"' not in text:
            return text.split(self._delimiter)
        try:
            return next(csv.reader([text], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            raise Bad(f"not CSV: {error}") from None

    def _begin(self, text: str) -> Sequence[Any] | None:
        if text[0] in "{[" and self._delimiter != text[0]:
            raise Bad("got JSON, expected CSV: add --format jsonl")
        row = self.cells(text)
        names = [name.strip() for name in row]
        named = self._header
        if named is None:
            named = is_header(row)
            if self._goes_on:
                asked = [*self._wanted.columns, *self._wanted.keep]
                named = named and bool(asked) and all(name in names for name in asked)
        self._choose(names if named else None, len(row), () if named else row)
        return None if named else row


class JsonLines(Lines):
    """Lines of JSON: an array, an object with names, or a number for a model that takes one."""

    _number = staticmethod(from_json)

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._names: list[str] | None = None

    def cells(self, text: str) -> Sequence[Any]:
        value = parse(text)
        if self._names is not None:
            if not isinstance(value, dict):
                raise Bad("expected an object, as the first line is")
            return [value.get(name) for name in self._names]
        if isinstance(value, dict):
            raise Bad("got an object, but the first line has no names")
        return value if isinstance(value, list) else [value]

    def _begin(self, text: str) -> Sequence[Any]:
        value = parse(text)
        if isinstance(value, dict):
            self._names = list(value)
        row = list(value.values()) if isinstance(value, dict) else value
        row = row if isinstance(row, list) else [row]
        if any(isinstance(cell, list | dict) for cell in row):
            raise Bad("got a whole sequence, expected one time step: use recurra predict")
        self._choose(self._names, len(row), row)
        return row


def _is_good(numbers: Numbers, row: Sequence[Any], width: int) -> bool:
    try:
        numbers.row(row, width)
    except Bad:
        return False
    return True
