"""Cells to numbers: fast for good rows, precise about bad ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.cli.failures import CommandError
from recurra.cli.tables.columns import Choice

_ABSENT = ("", "na", "n/a", "nan", "null", "none", "-", "?")
LARGEST = float(np.finfo(np.float32).max)


class DataError(CommandError):
    """A row that cannot be used; the message names file, line and column."""


@dataclass
class Block:
    """Some rows of a table.

    Args:
        lines: where each stands in its file, from 1.
        values: (rows, features), float64.
        kept: each row's cells that are carried over.
        groups: each row's group; None without groups.
        mask: (rows,), True = counts; None without a mask.
    """

    lines: Sequence[int]
    values: NDArray[Any]
    kept: list[tuple[Any, ...]]
    groups: list[str] | None = None
    mask: NDArray[np.bool_] | None = None


class Bad(ValueError):
    """What is wrong with a cell: "got 'n/a', expected a number"."""


class Numbers:
    """Turns rows of cells into blocks, and stops at bad rows or counts them.

    Args:
        place: of a line, for messages: "data.csv:17".
        choice: which columns.
        number: a cell's number; raises an exception of ValueError, TypeError or OverflowError.
        missing: what stands for an absent value; None if that is an error.
        skip_bad: whether bad rows are left out and counted.
        limits: for each feature how many indices there are, from 0; None if it is no index.
    """

    def __init__(
        self,
        place: Callable[[int], str],
        choice: Choice,
        number: Callable[[Any], float],
        *,
        missing: float | None = None,
        skip_bad: bool = False,
        limits: Sequence[int | None] = (),
    ) -> None:
        self.place, self.choice, self.missing = place, choice, missing
        self.skip_bad, self._number = skip_bad, number
        self.skipped, self.first_bad = 0, ""
        self._integers = np.asarray(choice.integers, bool)
        self._limits = {place: n for place, n in enumerate(limits) if n is not None}

    def bad(self, line: int, problem: str) -> None:
        """Count a bad row, or raise DataError."""
        message = f"{self.place(line)}: {problem}"
        if not self.skip_bad:
            raise DataError(f"{message}; --skip-bad leaves such rows out.")
        self.skipped += 1
        self.first_bad = self.first_bad or message

    def report(self) -> str:
        """What was skipped, for stderr; empty if nothing was."""
        if not self.skipped:
            return ""
        rows = "1 bad row" if self.skipped == 1 else f"{self.skipped} bad rows"
        return f"skipped {rows}; the first: {self.first_bad}"

    def block(self, lines: Sequence[int], rows: Sequence[Sequence[Any]], width: int) -> Block:
        """The good rows of these, each of which should have `width` cells."""
        values = self._all(rows, width)
        if values is None:
            lines, rows, values = self._one_by_one(lines, rows, width)
        block = Block(lines, values, self._keep(rows))
        if self.choice.by is not None:
            block.groups = [str(row[self.choice.by]) for row in rows]
        if self.choice.mask is not None:
            block.mask = self._mask(lines, rows)
        return block

    def check(self, values: NDArray[Any]) -> bool:
        """Whether all of (..., features) are numbers that the model can take."""
        with np.errstate(invalid="ignore"):
            if not (np.abs(values) <= LARGEST).all():
                return False
        for feature, limit in self._limits.items():
            indices = values[..., feature]
            if not ((indices > -1) & (indices < limit)).all():
                return False
        whole = values[..., self._integers]
        return bool((whole == np.rint(whole)).all())

    def value(self, cell: Any, feature: int) -> float:
        """A cell's number.

        Raises:
            Bad: if it is none.
        """
        absent = is_absent(cell)
        if absent and self.missing is not None:
            self._check_index(
                self.missing, feature, f"--missing {self.missing:g} for {_shown(cell)}"
            )
            return self.missing
        try:
            value = self._number(cell)
        except (ValueError, TypeError, OverflowError):
            raise Bad(_not_a_number(cell, absent)) from None
        if not abs(value) <= LARGEST:
            if value != value or value in (float("inf"), float("-inf")):
                raise Bad(f"got {_shown(cell)}, expected a finite number")
            raise Bad(f"got {_shown(cell)}, expected a number within float32's range")
        if self._integers[feature] and value != round(value):
            raise Bad(f"got {_shown(cell)}, expected an integer")
        self._check_index(value, feature, _shown(cell))
        return value

    def _check_index(self, value: float, feature: int, shown: str) -> None:
        limit = self._limits.get(feature)
        if limit is not None and not -1 < value < limit:
            raise Bad(f"got {shown}, expected an index from 0 to {limit - 1}")

    def row(self, row: Sequence[Any], width: int) -> list[float]:
        """One row's features; raises Bad, naming the column."""
        if len(row) != width:
            raise Bad(f"got {len(row)} columns, expected {width}")
        values = []
        for feature, column in enumerate(self.choice.inputs):
            try:
                values.append(self.value(row[column], feature))
            except Bad as bad:
                raise Bad(f"{self.choice.label(column)}: {bad}") from None
        return values

    def _all(self, rows: Sequence[Sequence[Any]], width: int) -> NDArray[Any] | None:
        """All rows' features if none is bad; None if one may be."""
        number, inputs = self._number, self.choice.inputs
        if any(len(row) != width for row in rows):
            return None
        try:
            values = np.array([[number(row[c]) for c in inputs] for row in rows], np.float64)
        except (ValueError, TypeError, OverflowError):
            return None
        values = values.reshape(len(rows), len(inputs))
        return values if self.check(values) else None

    def _one_by_one(
        self, lines: Sequence[int], rows: Sequence[Sequence[Any]], width: int
    ) -> tuple[list[int], list[Sequence[Any]], NDArray[Any]]:
        good: list[tuple[int, Sequence[Any]]] = []
        values: list[list[float]] = []
        for line, row in zip(lines, rows, strict=True):
            try:
                values.append(self.row(row, width))
            except Bad as bad:
                self.bad(line, str(bad))
            else:
                good.append((line, row))
        array = np.array(values, np.float64).reshape(len(values), len(self.choice.inputs))
        return [line for line, _ in good], [row for _, row in good], array

    def _keep(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        keep = self.choice.keep
        return [tuple(row[c] for c in keep) for row in rows] if keep else [()] * len(rows)

    def _mask(self, lines: Sequence[int], rows: Sequence[Sequence[Any]]) -> NDArray[np.bool_]:
        column = self.choice.mask
        assert column is not None
        mask = np.empty(len(rows), bool)
        for index, row in enumerate(rows):
            text = str(row[column]).strip().lower()
            if text not in _TRUTHS:
                raise DataError(
                    f"{self.place(lines[index])}: {self.choice.label(column)}: got "
                    f"{_shown(row[column])}, expected 1 or true for rows that count, 0 or false "
                    "for others."
                )
            mask[index] = _TRUTHS[text]
        return mask


_TRUTHS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
}


def is_absent(cell: Any) -> bool:
    """Whether a cell says that there is no value."""
    return cell is None or str(cell).strip().lower() in _ABSENT


def from_text(cell: str) -> float:
    """The number that a cell of text says, which Python's own notation with `_` is not."""
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def from_json(value: Any) -> float:
    """A number of JSON; true, false and text are none."""
    if type(value) is float or type(value) is int:
        return float(value)
    raise TypeError(value)


def _shown(cell: Any) -> str:
    if cell is None or isinstance(cell, bool):
        return {None: "null", True: "true", False: "false"}[cell]
    text = repr(cell)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"


def _not_a_number(cell: Any, absent: bool) -> str:
    hint = ""
    if absent:
        hint = " (--missing 0 puts a number there)"
    elif isinstance(cell, str) and cell.count(",") == 1 and cell.replace(",", "").strip().isdigit():
        hint = f" ({cell.strip().replace(',', '.')}, with a point?)"
    return f"got {_shown(cell)}, expected a number{hint}"
