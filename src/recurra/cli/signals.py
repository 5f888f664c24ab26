"""Signals that ask a program to end, so that it can end where nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from recurra.cli.failures import die_by
from recurra.cli.files import discard_partial

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

GRACE = 2.0
"""Seconds in which what has been begun may be finished."""


@contextlib.contextmanager
def cleaned_up() -> Iterator[None]:
    """While it is entered, SIGTERM and SIGHUP leave no half-written file behind.

    The process still ends by the signal; Ctrl-C is an exception, and cleans up by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {}
    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                old[number] = signal.signal(number, _end)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    discard_partial()
    die_by(signal.Signals(number).name)


class Stop:
    """While it is entered, a first signal is only remembered; a second one ends the process.

    A signal that is ignored, as SIGHUP under nohup, stays so.

    Attributes:
        name: of the first signal; None before.
        waker: a file descriptor that becomes readable when a signal comes.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._deadline = 0.0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        self.waker, self._written = os.pipe()
        os.set_blocking(self.waker, False)
        os.set_blocking(self._written, False)
        self._old_waker = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        for name in _NAMES:
            number = getattr(signal, name)
            if signal.getsignal(number) != signal.SIG_IGN:
                self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_waker)
        os.close(self.waker)
        os.close(self._written)

    def left(self) -> float | None:
        """Seconds until work should end; None if nobody has asked for that."""
        return None if self.name is None else max(0.0, self._deadline - time.monotonic())

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None:
            _end(number, frame)
        self._deadline = time.monotonic() + GRACE
        self.name = signal.Signals(number).name
