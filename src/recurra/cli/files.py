"""Files that are there in full or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from recurra.cli.failures import CommandError

STANDARD = "-"
"""The name of standard input and output on a command line."""


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends without an exception.

    `-` is standard output. A pipe or a device is written as it comes.

    Raises:
        OSError: if the folder is not there or cannot be written.
    """
    if path == STANDARD:
        with _standard_output() as file:
            yield file
        return
    target = os.path.realpath(path)  # a link goes on pointing where it does
    if os.path.exists(target) and not os.path.isfile(target):
        if os.path.isdir(target):
            raise IsADirectoryError(21, "is a folder; name a file in it", path)
        with open(target, "wb") as file:
            yield file
        return
    folder, name = os.path.split(target)
    partial = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.partial")
    _partial.add(partial)  # before it is there, so that no signal comes in between
    try:
        try:
            number = os.open(partial, _NEW, 0o600)
        except OSError as error:
            raise CommandError(f"{path}: cannot be written: {error.strerror}.") from None
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, _mode(target))
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    finally:
        _partial.discard(partial)


_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_partial: set[str] = set()
"""Files that are being written under other names than they will have."""


def discard_partial() -> None:
    """Remove what is being written, for a process that ends where it is."""
    for path in list(_partial):
        with contextlib.suppress(OSError):
            os.unlink(path)


def standard_input() -> IO[bytes]:
    """Standard input's bytes; CommandError if it is closed."""
    if sys.stdin is None:
        raise CommandError("stdin is closed; give it something to read, as by < data.csv")
    return sys.stdin.buffer


def require_output() -> None:
    """Raise CommandError if standard output is closed."""
    if sys.stdout is None:
        raise CommandError("stdout is closed; give it somewhere to write, as by > results.csv")


@contextlib.contextmanager
def _standard_output() -> Iterator[IO[bytes]]:
    if sys.stdout is None:
        raise CommandError("stdout is closed; name a file to write: -o out.csv")
    file: IO[bytes] = sys.stdout.buffer
    if not isinstance(file, io.RawIOBase):
        yield file
        file.flush()
        return
    # PYTHONUNBUFFERED: what is written in parts, as when a signal comes, would be lost.
    buffered = io.BufferedWriter(file, 1 << 16)
    try:
        yield buffered
        buffered.flush()
    finally:
        with contextlib.suppress(OSError):
            buffered.detach()


def _mode(target: str) -> int:
    """The permissions of the file that is replaced, or those of any new file."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(os.stat(target).st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def check_output(path: str, inputs: Sequence[str]) -> None:
    """Refuse to write over what is read.

    Raises:
        CommandError: if `path` is one of `inputs`, by whatever name.
    """
    if path == STANDARD or not os.path.exists(path):
        return
    for other in inputs:
        if other != STANDARD and os.path.exists(other) and os.path.samefile(path, other):
            raise CommandError(f"{path}: would be overwritten while it is read; name another file.")


def check_input(path: str, what: str) -> None:
    """Raise CommandError if there is no file `path`, with names of files that are like it."""
    if path == STANDARD or os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise CommandError(f"{path}: is a folder; name {what}.")
    if os.path.exists(path):
        return  # a pipe, as of `<(...)`
    from difflib import get_close_matches

    folder = Path(path).parent
    hint = ""
    if not folder.is_dir():
        hint = f" There is no folder {folder}."
    else:
        there = [entry.name for entry in folder.iterdir() if entry.is_file()]
        near = get_close_matches(Path(path).name, there, n=1)
        if near:
            hint = f" Did you mean {folder / near[0]}?"
    raise CommandError(f"{path}: no such file; name {what}.{hint}")
