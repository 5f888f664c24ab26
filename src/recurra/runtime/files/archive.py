"""Zip archives as Keras writes them, with everything compared before it is used.

`zipfile` would do, and takes a tenth of the time that a small model may take to its first answer
just to be imported; it also reads a list of members of any length.
"""

from __future__ import annotations

import zlib
from struct import error as StructError
from struct import iter_unpack, unpack_from
from typing import NamedTuple

from recurra.runtime.files.limits import SMALL, Limits
from recurra.runtime.files.source import Source

END, END_64, LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
ENTRY, LOCAL = b"PK\x01\x02", b"PK\x03\x04"
END_SIZE, LOCATOR_SIZE, MAX_COMMENT = 22, 20, 2**16 - 1
STORED, DEFLATED = 0, 8
ENCRYPTED = 1
WIDE = 2**32 - 1  # a number that stands elsewhere, in 64 bits
PIECE = 2**20
MAX_LIST = 4 * 2**20  # some ten thousand members; Keras writes three, and vocabularies


class Member(NamedTuple):
    """A file in an archive."""

    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    place: int


class Archive:
    """The members of a zip archive.

    Args:
        source: its bytes.
        limits: how much its members may unpack to.

    Raises:
        ModelFileError: if it is damaged, encrypted, names a member twice, or is beyond the
            limits; also by every method.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        try:
            self.members = self._list()
        except StructError:
            raise source.fail("its list of members is cut off: it is damaged") from None

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def open(self, name: str, max_bytes: int) -> Source:
        """A member, its checksum compared: in memory if it is packed, else where it stands."""
        source, member = self.source, self.members[name]
        if member.flags & ENCRYPTED:
            raise source.fail(f"{name} is encrypted")
        if member.size > max_bytes:
            raise source.fail(f"{name} takes {member.size} bytes, more than {max_bytes}")
        if member.size > max(SMALL, self.limits.max_expansion * member.packed):
            raise source.fail(
                f"{name} would unpack from {member.packed} bytes to {member.size}, "
                f"more than {self.limits.max_expansion}-fold (limit max_expansion)"
            )
        head = source.read(member.place, 30)
        if head[:4] != LOCAL:
            raise source.fail(f"{name} is not where it should be: it is damaged")
        place = member.place + len(head) + sum(unpack_from("<HH", head, 26))
        inside = f"{name} of {source.name}"
        if member.method == STORED:
            if member.packed != member.size:
                raise source.fail(f"{name} has two sizes: it is damaged")
            content = source.part(inside, place, member.size)
        elif member.method == DEFLATED:
            packed = source.read(place, member.packed)
            content = Source(self._inflate(name, packed, member.size), inside)
        else:
            raise source.fail(f"{name} is packed in a way of its own ({member.method})")
        checksum = 0
        for at in range(0, member.size, PIECE):
            checksum = zlib.crc32(content.read(at, min(PIECE, member.size - at)), checksum)
        if checksum != member.checksum:
            raise source.fail(f"the checksum of {name} is not right: it is damaged")
        return content

    def _inflate(self, name: str, packed: bytes, size: int) -> bytes:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
        except zlib.error as error:
            raise self.source.fail(f"{name} does not unpack: {error}") from None
        if len(data) != size:
            raise self.source.fail(f"{name} does not unpack to {size} bytes: it is damaged")
        return data

    def _list(self) -> dict[str, Member]:
        source = self.source
        number, size, place = self._end()
        if size > MAX_LIST:
            raise source.fail(f"its list of members takes {size} bytes, more than {MAX_LIST}")
        data, at = source.read(place, size), 0
        members: dict[str, Member] = {}
        for _ in range(number):
            if data[at : at + 4] != ENTRY:
                raise source.fail("its list of members is damaged")
            flags, method, checksum, packed, full = unpack_from("<HH4xIII", data, at + 8)
            name_size, extra_size, comment_size = unpack_from("<HHH", data, at + 28)
            (start,) = unpack_from("<I", data, at + 42)
            at += 46
            name = data[at : at + name_size].decode("utf-8", "replace").replace("\\", "/")
            extra = data[at + name_size : at + name_size + extra_size]
            full, packed, start = wide(extra, [full, packed, start])
            if name in members:
                raise source.fail(f"it has two members {name}: it is damaged")
            members[name] = Member(flags, method, checksum, packed, full, start)
            at += name_size + extra_size + comment_size
        return members

    def _end(self) -> tuple[int, int, int]:
        """How many members there are, and the size and the place of their list."""
        source = self.source
        count = min(source.size, END_SIZE + MAX_COMMENT)
        tail = source.read(source.size - count, count)
        at = tail.rfind(END)
        if at < 0:
            raise source.fail(
                "it begins like a zip archive and does not end like one: "
                "it was written or copied in part"
            )
        number, size, place, comment = unpack_from("<HIIH", tail, at + 10)
        if at + END_SIZE + comment > count:
            raise source.fail("the end of the archive is cut off")
        if number == 0xFFFF or WIDE in (size, place):
            if tail[max(at - LOCATOR_SIZE, 0) :][:4] != LOCATOR_64:
                raise source.fail("the end of the archive is damaged")
            (start,) = unpack_from("<Q", tail, at - LOCATOR_SIZE + 8)
            end = source.read(start, 56)
            if end[:4] != END_64:
                raise source.fail("the end of the archive is damaged")
            number, size, place = unpack_from("<QQQ", end, 32)
        return number, size, place


def wide(extra: bytes, numbers: list[int]) -> list[int]:
    """A member's sizes and place, with those that do not fit 32 bits from where they stand."""
    at = 0
    while WIDE in numbers and at + 4 <= len(extra):
        kind, size = unpack_from("<HH", extra, at)
        if kind == 1:
            found = [value for (value,) in iter_unpack("<Q", extra[at + 4 : at + 4 + size])]
            return [found.pop(0) if number == WIDE and found else number for number in numbers]
        at += 4 + size
    return numbers
