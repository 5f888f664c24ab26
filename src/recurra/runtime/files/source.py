"""Bytes by their place, from a file or from memory: nothing is read that is not there."""

from __future__ import annotations

import os
from typing import BinaryIO

from recurra.runtime.errors import ModelFileError

PIECE = 2**30  # one system call gives less than 2 GiB


class Source:
    """A file, or a stretch of one, or bytes.

    Args:
        file: open for reading, or bytes.
        name: for messages.
        start, size: the stretch; the whole file if left out.
    """

    def __init__(
        self, file: BinaryIO | bytes, name: str, start: int = 0, size: int | None = None
    ) -> None:
        self.file, self.name, self.start = file, name, start
        if size is None:
            size = len(file) if isinstance(file, bytes) else os.fstat(file.fileno()).st_size
        self.size = size

    def read(self, place: int, count: int) -> bytes:
        """`count` bytes from `place` on.

        Raises:
            ModelFileError: if the file is not that long.
        """
        if place < 0 or count < 0 or place > self.size - count:
            raise self.fail(
                f"it refers to {count} bytes at {place}, and has {self.size} in all: "
                "it is damaged, or was copied in part"
            )
        place += self.start
        if isinstance(self.file, bytes):
            return self.file[place : place + count]
        self.file.seek(place)
        if count <= PIECE:
            data = self.file.read(count)
        else:
            pieces = (min(PIECE, count - done) for done in range(0, count, PIECE))
            data = b"".join(self.file.read(piece) for piece in pieces)
        if len(data) != count:
            raise self.fail("it became shorter while it was read")
        return data

    def part(self, name: str, start: int, size: int) -> Source:
        """A stretch of it as a source of its own, places counted from its start."""
        self.read(start + size, 0)
        return Source(self.file, name, self.start + start, size)

    def fail(self, problem: str) -> ModelFileError:
        """An error of this file, naming it."""
        return ModelFileError(f"Cannot read {self.name}: {problem}.")
