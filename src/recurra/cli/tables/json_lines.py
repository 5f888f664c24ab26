"""Reading JSON lines: a row or a whole sequence on each line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recurra.cli.failures import CommandError
from recurra.cli.form import Array, Form, Input
from recurra.cli.tables.numbers import LARGEST, Bad, Block, from_json
from recurra.cli.tables.reading import ROWS, Item, Table, batches, check_text, open_bytes


class _Nothing:
    """In the place of a value that an object has not."""

    def __repr__(self) -> str:
        return "nothing"

    def __str__(self) -> str:
        return ""


_NOTHING = _Nothing()


class JsonTable(Table):
    """A file of JSON lines. What its first line is, all are:

    - an array of numbers: a row; an object of numbers: a row by names;
    - an array of arrays: a sequence of time steps (for a model that takes one index per step: an
      array of integers);
    - an object of arrays: a sequence by names of columns, or, if the keys are the names of the
      model's inputs, a sample with an array for each.

    Args:
        path: of the file, or `-`.
        form: of the model, which tells rows from sequences.

    Raises:
        CommandError: if the file is empty, or its first line is none of these.
    """

    number = staticmethod(from_json)

    def __init__(self, path: str, form: Form) -> None:
        super().__init__(path)
        self._form = form
        self._file = open_bytes(path)
        check_text(self._file, self.source)
        self._line = 0
        self._by_inputs = False
        first = self._next_text()
        if first is None:
            raise CommandError(f"{self.source}: is empty; expected a line of JSON.")
        self._pending: tuple[int, bytes] | None = first
        try:
            value = parse(first[1])
        except Bad as bad:
            raise CommandError(f"{self.place(first[0])}: {bad}.") from None
        self._begin(value, first[0])

    def _begin(self, value: Any, line: int) -> None:
        """Learn from the first line what the others are."""
        inputs = self._form.inputs
        step_depth = 1 if any(len(entry.step) for entry in inputs) else 0
        if isinstance(value, dict):
            self.names = list(value)
            self.width = len(self.names)
            self._by_inputs = _are_inputs(value, inputs)
            self.samples = self._by_inputs or (
                self._form.steps and any(isinstance(cell, list) for cell in value.values())
            )
            self.first = list(value.values())
            return
        self.samples = self._form.steps and _depth(value) > step_depth
        row: Any = value
        if self.samples:
            row = value[0] if isinstance(value[0], list) else [value[0]]
        elif not isinstance(value, list):
            row = [value]
        while row and isinstance(row[0], list):
            row = [cell for part in row for cell in (part if isinstance(part, list) else [part])]
        if not row:
            raise CommandError(f"{self.place(line)}: got an empty row; expected numbers.")
        self.width, self.first = len(row), row

    def choose(self, wanted: Any, integers: Sequence[bool], **settings: Any) -> None:
        if not self._by_inputs:
            super().choose(wanted, integers, **settings)
            return
        if wanted.columns:
            raise CommandError(
                f"{self.source}: has an array for each input of the model, so there are no "
                "--columns to choose."
            )
        assert self.names is not None
        # The arrays are looked up by the inputs' names; only --keep, --by and --mask are columns.
        missing = [entry.name for entry in self._form.inputs]
        settings["limits"] = ()  # `_input` looks at the arrays
        super().choose(_with_columns(wanted, missing), [False] * len(missing), **settings)

    def blocks(self, rows: int = ROWS) -> Iterator[Block]:
        for lines, cells in batches(self._rows(), rows):
            yield self.numbers.block(lines, cells, self.width)

    def items(self) -> Iterator[Item]:
        for line, value in self._values():
            try:
                arrays, kept = self._arrays(value)
            except Bad as bad:
                self.numbers.bad(line, str(bad))
            else:
                yield Item(line, arrays, kept)

    def close(self) -> None:
        self._file.close()

    def _next_text(self) -> tuple[int, bytes] | None:
        for text in self._file:
            self._line += 1
            if self._line == 1:
                text = text.removeprefix(b"\xef\xbb\xbf")
            if not text.isspace():
                return self._line, text
        return None

    def _values(self) -> Iterator[tuple[int, Any]]:
        text, self._pending = self._pending, None
        while text is not None:
            try:
                value = parse(text[1])
            except Bad as bad:
                self.numbers.bad(text[0], str(bad))
            else:
                yield text[0], value
            text = self._next_text()

    def _rows(self) -> Iterator[tuple[int, Sequence[Any]]]:
        for line, value in self._values():
            try:
                yield line, self.row(value)
            except Bad as bad:
                self.numbers.bad(line, str(bad))

    def row(self, value: Any) -> Sequence[Any]:
        """The cells of a line that is a row; raises Bad if it is something else."""
        if self.names is not None:
            if not isinstance(value, dict):
                raise Bad("expected an object, as the first line is")
            row = [value.get(name, _NOTHING) for name in self.names]
            for c in self.choice.keep:
                row[c] = value.get(self.names[c])
            return row
        if isinstance(value, dict):
            raise Bad("got an object, but the first line has no names")
        return value if isinstance(value, list) else [value]

    def _arrays(self, value: Any) -> tuple[list[Array], tuple[Any, ...]]:
        """A line's sample: an array for each input."""
        if self.names is None:
            if not isinstance(value, list):
                raise Bad("expected an array of time steps, as the first line is")
            return self._sequence(value), ()
        row = self.row(value)
        kept = tuple(None if row[c] is _NOTHING else row[c] for c in self.choice.keep)
        if self._by_inputs:
            cells = dict(zip(self.names, row, strict=True))
            return [self._input(entry, cells[entry.name]) for entry in self._form.inputs], kept
        columns = [row[c] for c in self.choice.inputs]
        lengths = {len(column) if isinstance(column, list) else -1 for column in columns}
        if len(lengths) != 1 or -1 in lengths:
            raise Bad("expected arrays of one length in all columns, a value for each time step")
        wide: list[Any] = [_NOTHING] * self.width
        steps = []
        for cells_of_step in zip(*columns, strict=True):
            for c, cell in zip(self.choice.inputs, cells_of_step, strict=True):
                wide[c] = cell
            steps.append(list(wide))
        return self._sequence(steps), kept

    def _sequence(self, steps: list[Any]) -> list[Array]:
        if not steps:
            raise Bad("got a sequence of no time steps")
        length = self._form.time_steps
        if length is not None and len(steps) != length:
            raise Bad(f"got {len(steps)} time steps, but the model takes {length}")
        values = []
        for number, step in enumerate(steps, 1):
            row = step if isinstance(step, list) else [step]
            while row and isinstance(row[0], list):
                row = [
                    cell for part in row for cell in (part if isinstance(part, list) else [part])
                ]
            try:
                values.append(self.numbers.row(row, self.width))
            except Bad as bad:
                raise Bad(f"time step {number}: {bad}") from None
        return self._form.split(np.array(values, np.float64), sequence=True)

    def _input(self, entry: Input, value: Any) -> Array:
        try:
            array = np.array(value, np.float64)
        except (ValueError, TypeError, OverflowError):
            raise Bad(f"'{entry.name}': expected numbers in an array of even rows") from None
        shape = (entry.time_steps, *entry.step) if entry.steps else entry.step
        fits = len(array.shape) == len(shape) and all(
            wanted in (None, got) for wanted, got in zip(shape, array.shape, strict=True)
        )
        if not fits or (entry.steps and not len(array)):
            words = ", ".join("any" if size is None else str(size) for size in shape)
            raise Bad(f"'{entry.name}': got an array of shape {array.shape}, expected ({words})")
        if not (np.abs(array) <= LARGEST).all():
            raise Bad(f"'{entry.name}': expected finite numbers within float32's range")
        if entry.integer and (array != np.rint(array)).any():
            raise Bad(f"'{entry.name}': expected integers")
        if entry.limit is not None:
            outside = ~((array > -1) & (array < entry.limit))
            if outside.any():
                place = np.argwhere(outside)[0]
                step = f"time step {place[0] + 1}: " if entry.steps else ""
                raise Bad(
                    f"'{entry.name}': {step}got {array[tuple(place)]:.0f}, expected an index from "
                    f"0 to {entry.limit - 1}"
                )
        return array.astype(np.int32 if entry.integer else np.float32)


def parse(text: bytes | str) -> Any:
    """A line's value.

    Raises:
        Bad: if it is not JSON.
    """
    try:
        return json.loads(text.strip())
    except json.JSONDecodeError as error:
        raise Bad(f"column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise Bad("not JSON: nested too deep") from None
    except UnicodeDecodeError as error:
        raise Bad(f"not JSON: {error}") from None
    except ValueError:  # Python's limit to the length of integers
        raise Bad(
            f"got an integer of more than {sys.get_int_max_str_digits()} digits, expected numbers "
            "within float32's range"
        ) from None


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        if not value:
            break
        value = value[0]
    return depth


def _are_inputs(value: dict[str, Any], inputs: Sequence[Input]) -> bool:
    """Whether an object has an array for each of the model's inputs."""
    if not all(entry.name in value for entry in inputs):
        return False
    deep = all(_depth(value[entry.name]) == entry.rank for entry in inputs)
    return deep and (len(inputs) > 1 or inputs[0].rank > 1)


def _with_columns(wanted: Any, columns: list[str]) -> Any:
    from dataclasses import replace

    return replace(wanted, columns=columns)
