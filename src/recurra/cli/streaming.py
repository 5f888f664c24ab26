"""Lines in, results out, and the state that is carried: the loop of `recurra stream`."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.cli.failures import CommandError
from recurra.cli.form import Form
from recurra.cli.lines import Lines, Stopped
from recurra.cli.signals import Stop
from recurra.cli.sink import LineSink
from recurra.cli.state_file import StateFile
from recurra.cli.tables.numbers import Block, DataError
from recurra.cli.tables.writing import CsvWriter, JsonWriter

_READ = 1 << 14  # bytes: what is read but not answered when the reader of stdout goes is lost
_LONGEST = 1 << 24  # bytes of a line
_TOGETHER = 256
"""Most lines whose results go out together where input is fast; a slow input's go one by one."""
_DELAY = 0.01
"""Seconds that a result waits for others, about."""


class Stream:
    """One run over stdin.

    The session is always the state after the last line whose result is out: if writing ends in the
    middle of a batch, the steps of the lines that are out are taken again from before it.

    Args:
        session: of the model, restored if that is asked for.
        form: of the model, stepwise.
        lines: how a line becomes a row.
        writer: how results become lines.
        sink: where they go.
        stop: tells signals.
        state: where the session is saved; None for nowhere.
        every: save after so many lines, beside at the end; 0 for then only.
    """

    def __init__(
        self,
        session: Any,
        form: Form,
        lines: Lines,
        writer: CsvWriter | JsonWriter,
        sink: LineSink,
        stop: Stop,
        state: StateFile | None,
        every: int,
    ) -> None:
        self.session = session
        self._form, self._lines, self._writer = form, lines, writer
        self._sink, self._stop, self._state, self._every = sink, stop, state, every
        self._careful = state is not None or any(entry.integer for entry in form.inputs)
        self._unsaved = 0
        self._together = 1
        self.results = 0
        """Lines that are out."""
        self.lost = 0
        """Lines that were read but have no result out."""
        self.unfinished = 0
        """Bytes of a line whose end had not come."""

    def run(self) -> None:
        """Go on until the input ends, a signal comes, or the output breaks.

        Raises:
            DataError: at a bad line, after the results of all before it are out.
        """
        pending = b""
        while self._stop.name is None:
            ready, _, _ = select.select([0, self._stop.waker], [], [])
            if self._stop.waker in ready:
                os.read(self._stop.waker, 64)
                continue
            data = os.read(0, _READ)
            if not data:
                if pending:
                    self._take([pending])
                return
            *texts, pending = (pending + data).split(b"\n")
            if len(pending) > _LONGEST:
                raise CommandError(
                    f"<stdin>:{self._lines.count + len(texts) + 1}: is longer than "
                    f"{_LONGEST >> 20} MiB; expected a time step on each line."
                )
            if not self._take(texts):
                return
        self.unfinished = len(pending)

    def save(self) -> None:
        """Save the session, if it is to be saved."""
        if self._state is not None:
            self._state.save(self.session.snapshot())
            self._unsaved = 0

    def _take(self, texts: Sequence[bytes]) -> bool:
        """Answer lines; False if the output has ended."""
        first = 0
        while first < len(texts):
            if self._stop.left() == 0.0:
                self.lost = len(texts) - first
                return False
            began = time.monotonic()
            some = texts[first : first + self._together]
            first += len(some)
            error: CommandError | None = None
            try:
                block = self._lines.block(some)
            except Stopped as stopped:
                block, error = stopped.block, stopped.error
            done = self._answer(block)
            if done < len(block.lines):
                self.lost = len(block.lines) - done + len(texts) - first
                return False
            if error is not None:
                raise error
            if self._every and self._unsaved >= self._every:
                self.save()
            quick = time.monotonic() - began < _DELAY
            self._together = min(_TOGETHER, 2 * len(some)) if quick else max(1, len(some) // 2)
        return True

    def _answer(self, block: Block) -> int:
        """Step through rows and write the results; return how many are out."""
        if not len(block.lines):
            return 0
        before = self.session.fork() if self._careful else None
        inputs = self._form.split(block.values, sequence=False)
        kept, results, error = [], [], None
        taken: list[int] = []
        for row in range(len(block.lines)):
            step = [array[row] for array in inputs]
            try:
                result = self.session.step(*step)
            except ValueError as refusal:  # an index that the model does not know
                if before is None or self._lines.numbers is None:
                    raise
                self.session = _again(before, inputs, taken)
                try:
                    self._lines.numbers.bad(block.lines[row], str(refusal))
                except DataError as found:
                    error = found
                    break
                continue
            results.append(self._form.flat(result))
            kept.append(block.kept[row])
            taken.append(row)
        written = 0
        if results:
            arrays = [np.stack(column) for column in zip(*results, strict=True)]
            text = self._writer.text(kept, arrays)
            texts = [line + b"\n" for line in text.split(b"\n")[:-1]]
            written = self._sink.write(texts)
        self.results += written
        self._unsaved += written
        if written < len(results):
            if before is not None:
                self.session = _again(before, inputs, taken[:written])
            return written
        if error is not None:
            raise error
        return len(block.lines)


def _again(before: Any, inputs: Sequence[Any], rows: Sequence[int]) -> Any:
    """The session after these rows, from the one before them."""
    session = before.fork()
    for row in rows:
        session.step(*[array[row] for array in inputs])
    return session
