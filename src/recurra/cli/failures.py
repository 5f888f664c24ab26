"""What goes wrong in a command, as one line and an exit code: 1 for data, 2 for usage."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer


class CommandError(Exception):
    """A reason to stop: what was got, what was expected, what to change."""


class UsageError(CommandError):
    """Options or arguments that do not fit each other."""


def a_float32(given: float | None) -> float | None:
    """The value of an option that goes into a model; as its callback."""
    if given is not None and not abs(given) <= 3.4028234663852886e38:
        raise typer.BadParameter(
            f"got {given}; expected a finite number within float32. A model that remembers would "
            "not get over another one."
        )
    return given


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what is expected to go wrong inside into `Error: ...` on stderr and an exit code.

    A traceback is left to what nobody expected.
    """
    _occupy()
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        _exit(str(error), 2)
    except BrokenPipeError:
        die_by("SIGPIPE")
    except (CommandError, OSError) as error:
        _exit(_words(error), 1)
    except MemoryError:
        _exit("not enough memory for this.", 1)
    except ValueError as error:
        from recurra.runtime.errors import ModelFileError, SnapshotError, StreamingError

        if not isinstance(error, ModelFileError | SnapshotError | StreamingError):
            raise
        _exit(str(error), 1)


def die_by(name: str) -> NoReturn:
    """End as a program does that this signal kills, so that shells and supervisors can tell."""
    _silence()
    number = getattr(signal, name, None)
    if number is not None and os.name == "posix":
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(1)


def note(command: str, words: str) -> None:
    """A remark on stderr that stops nothing."""
    _say(f"recurra {command}: {words}")


def _exit(message: str, code: int) -> NoReturn:
    _say(f"Error: {message}")
    raise typer.Exit(code) from None


def _say(line: str) -> None:
    if sys.stderr is not None:  # closed; print would take stdout instead
        print(line, file=sys.stderr, flush=True)


def _occupy() -> None:
    """Let no file get the descriptor of a standard stream that is closed.

    What is put there can be neither read as stdin nor written as stdout or stderr.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}."
    return str(error)


def _silence() -> None:
    """Let Python's own flush of stdout at its end find no broken pipe."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
