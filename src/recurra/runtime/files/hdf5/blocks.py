"""Reading an HDF5 file's structures within bounds, and the messages of its objects.

Everything in HDF5 is found by its address. All of them go through `Blocks`, which counts what is
read, so that structures that refer to each other in circles come to an end.
"""

from __future__ import annotations

from struct import calcsize, unpack_from
from typing import NamedTuple

from recurra.runtime.errors import ModelFileError
from recurra.runtime.files.limits import Limits
from recurra.runtime.files.source import Source

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1  # an address that is not set
CONTINUATION = 0x10
SHARED = 2  # in a message's flags: its content stands elsewhere


class Unusual(ModelFileError):
    """A file that may be in order, written in ways of HDF5 that are not known here.

    Args:
        name: of the file.
        what: it does.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"Cannot read {name}: {what}, which files of Keras seldom do. "
            "Load the model in Keras and save it again, with plain names."
        )
        self.what = what


class Message(NamedTuple):
    """One property of an object: its shape, its type, an attribute, ..."""

    kind: int
    flags: int
    data: bytes


class Blocks:
    """A file's structures by their addresses, up to a number and a size of them."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        self.entries, self.metadata_bytes, self.value_bytes = 0, 0, 0

    def read(self, address: int, count: int) -> bytes:
        """A structure's bytes, counted."""
        self.count()
        self.metadata_bytes += count
        if self.metadata_bytes > self.limits.max_metadata_bytes:
            raise self.fail(
                f"its structure takes more than {self.limits.max_metadata_bytes} bytes "
                "beside the weights (limit max_metadata_bytes)"
            )
        return self.source.read(address, count)

    def read_values(self, address: int, count: int) -> bytes:
        """Bytes of weights, which no two of them share."""
        self.value_bytes += count
        if self.value_bytes > self.source.size:
            raise self.fail("its weights together are larger than it is: they overlap")
        return self.source.read(address, count)

    def count(self, number: int = 1) -> None:
        """Note that so many things have been read."""
        self.entries += number
        if self.entries > self.limits.max_entries:
            raise self.fail(
                f"it has more than {self.limits.max_entries} objects, links and attributes "
                "(limit max_entries)"
            )

    def signed(self, address: int, signature: bytes, count: int, what: str) -> bytes:
        """The first bytes of a structure that begins with a signature."""
        data = self.read(address, count)
        if data[: len(signature)] != signature:
            raise self.fail(f"there is no {what} at {address}: it is damaged")
        return data

    def fail(self, problem: str) -> ModelFileError:
        """An error of this file."""
        return self.source.fail(problem)

    def unusual(self, what: str) -> Unusual:
        """An error of a file that is HDF5, yet not as Keras writes it."""
        return Unusual(self.source.name, what)

    def messages(self, address: int) -> list[Message]:
        """All messages of the object at `address`."""
        if self.read(address, 4) == b"OHDR":
            return self._new_messages(address)
        start = self.read(address, 16)
        version, number, size = unpack_from("<BxH4xI", start)
        if version != 1:
            raise self.fail(f"there is no object at {address}: it is damaged")
        found: list[Message] = []
        blocks = [(address + 16, size)]
        while blocks and len(found) < number:
            place, size = blocks.pop(0)
            data, at = self.read(place, size), 0
            while at + 8 <= len(data) and len(found) < number:
                kind, length, flags = unpack_from("<HHB", data, at)
                at += 8
                self._take(found, blocks, Message(kind, flags, data[at : at + length]), length)
                at += length
        return [message for message in found if message.kind != 0]

    def _new_messages(self, address: int) -> list[Message]:
        """Of an object in the newer of HDF5's two forms."""
        version, flags = unpack_from("<BB", self.read(address + 4, 2))
        if version != 2:
            raise self.fail(f"there is no object at {address}: it is damaged")
        width = 1 << (flags & 3)
        address += 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        size = int.from_bytes(self.read(address, width), "little")
        head = 6 if flags & 4 else 4
        found: list[Message] = []
        blocks = [(address + width, size)]
        first = True
        while blocks:
            place, size = blocks.pop(0)
            data, at = self.read(place, size), 0
            if not first:
                if data[:4] != b"OCHK" or size < 8:
                    raise self.fail(f"there is no part of an object at {place}: it is damaged")
                data, at = data[:-4], 4
            first = False
            while at + head <= len(data):
                kind, length, message_flags = unpack_from("<BHB", data, at)
                at += head
                message = Message(kind, message_flags, data[at : at + length])
                self._take(found, blocks, message, length)
                at += length
        return [message for message in found if message.kind != 0]

    def _take(
        self,
        found: list[Message],
        blocks: list[tuple[int, int]],
        message: Message,
        length: int,
    ) -> None:
        self.count()
        if len(message.data) != length:
            raise self.fail("a property of an object is cut off: it is damaged")
        found.append(message)
        if message.kind == CONTINUATION:
            if length < 16:
                raise self.fail("an object's continuation is cut off: it is damaged")
            blocks.append(unpack_from("<QQ", message.data))

    def unpack(self, form: str, data: bytes, at: int = 0) -> tuple[int, ...]:
        """Numbers out of bytes that may be too few."""
        if at < 0 or at + calcsize(form) > len(data):
            raise self.fail("a structure is cut off: it is damaged")
        return unpack_from(form, data, at)
