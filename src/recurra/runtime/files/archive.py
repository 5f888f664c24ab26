"""Zip archives as Keras writes them, with everything compared before it is used."""

from __future__ import annotations

import zlib
from struct import error as StructError
from struct import unpack_from
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from recurra.runtime.errors import ModelFileError
from recurra.runtime.files.limits import SMALL, Limits
from recurra.runtime.files.source import Source

ENCRYPTED = 1
PIECE = 2**20
MAX_LIST = 4 * 2**20  # some ten thousand members; Keras writes three, and vocabularies
# What `zipfile` raises for archives that are damaged, by its own hand or in passing.
DAMAGED = (
    BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    StructError,
    ValueError,
    zlib.error,
)


class _Bounded:
    """A file of which not too much is read at once: `zipfile` reads any list of members whole."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if count > MAX_LIST:
            raise ModelFileError(
                f"Cannot read {self.file.name}: its list of members takes {count} bytes, "
                f"more than {MAX_LIST}."
            )
        return self.file.read(count if count >= 0 else MAX_LIST)


class Archive:
    """The members of a zip archive.

    Args:
        file: open for reading.
        source: the same, for places in it.
        limits: how much its members may unpack to.

    Raises:
        ModelFileError: if it is damaged, encrypted, names a member twice, or is beyond the
            limits; also by every method.
    """

    def __init__(self, file: BinaryIO, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        try:
            self.zip = ZipFile(_Bounded(file))
        except ModelFileError:
            raise
        except DAMAGED as error:
            raise source.fail(f"as a zip archive it is damaged ({_text(error)})") from None
        self.members: dict[str, ZipInfo] = {}
        for member in self.zip.infolist():
            if member.filename in self.members:
                raise source.fail(f"it has two members {member.filename}: it is damaged")
            self.members[member.filename] = member

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def open(self, name: str, max_bytes: int) -> Source:
        """A member, its checksum compared: in memory if it is packed, else where it stands."""
        source, member = self.source, self.members[name]
        if member.flag_bits & ENCRYPTED:
            raise source.fail(f"{name} is encrypted")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise source.fail(f"{name} is packed in a way of its own ({member.compress_type})")
        if member.file_size > max_bytes:
            raise source.fail(f"{name} takes {member.file_size} bytes, more than {max_bytes}")
        if member.file_size > max(SMALL, self.limits.max_expansion * member.compress_size):
            raise source.fail(
                f"{name} would unpack from {member.compress_size} bytes to {member.file_size}, "
                f"more than {self.limits.max_expansion}-fold (limit max_expansion)"
            )
        try:
            return self._read(name, member)
        except ModelFileError:
            raise
        except DAMAGED as error:
            raise source.fail(f"{name} is damaged ({_text(error)})") from None

    def _read(self, name: str, member: ZipInfo) -> Source:
        inside = f"{name} of {self.source.name}"
        size, pieces, keep = 0, [], member.compress_type != ZIP_STORED
        with self.zip.open(member) as file:
            while piece := file.read(PIECE):
                size += len(piece)
                if keep:
                    pieces.append(piece)
        if size != member.file_size:
            raise self.source.fail(f"{name} has {size} bytes instead of {member.file_size}")
        if keep:
            return Source(b"".join(pieces), inside)
        # Where `zipfile` has just read it from: behind a head whose length it states.
        lengths = unpack_from("<HH", self.source.read(member.header_offset + 26, 4))
        return self.source.part(inside, member.header_offset + 30 + sum(lengths), size)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
