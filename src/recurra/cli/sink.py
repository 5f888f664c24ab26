"""Standard output in whole lines, with the knowledge of which have been written."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

from recurra.cli.signals import Stop


class LineSink:
    """Writes lines so that at any moment it is known how many are out.

    A pipe takes at least `select.PIPE_BUF` bytes when it is ready, all or none: lines go in pieces
    of that size, so that writing never blocks where a signal could not end it.

    Args:
        stop: after a signal, a reader who does not read is waited for no longer than it says.
        file: descriptor to write to.

    Attributes:
        error: why nothing more can be written; None if it can.
        stuck: whether the patience with the reader has ended.
    """

    def __init__(self, stop: Stop, file: int = 1) -> None:
        self._stop, self._file = stop, file
        self.error: OSError | None = None
        self.stuck = False

    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines, each with its end, and return how many are out in full."""
        written = 0
        while written < len(lines) and self.error is None and not self.stuck:
            count, size = 1, len(lines[written])
            while written + count < len(lines):
                size += len(lines[written + count])
                if size > select.PIPE_BUF:
                    break
                count += 1
            piece = lines[written : written + count]
            out = self._write(b"".join(piece))
            for line in piece:
                out -= len(line)
                if out < 0:
                    break
                written += 1
        return written

    def _write(self, data: bytes) -> int:
        """The bytes of `data` that are out: all, unless there is an error or a stuck reader."""
        out = 0
        while out < len(data):
            if not self._ready():
                self.stuck = True
                break
            try:
                out += os.write(self._file, data[out : out + select.PIPE_BUF])
            except BlockingIOError:
                time.sleep(0.001)  # who made the pipe non-blocking lets ready mean one byte
            except OSError as error:
                self.error = error
                break
        return out

    def _ready(self) -> bool:
        """Wait until something can be written; False if after a signal it cannot for long."""
        while True:
            left = self._stop.left()
            wake = [self._stop.waker] if left is None else []
            _, ready, _ = select.select(wake, [self._file], [], left)
            if ready:
                return True
            if left == 0.0:
                return False
