"""Attributes of groups: texts, lists of texts, and numbers."""

from __future__ import annotations

from math import prod

import numpy as np

from recurra.runtime.files.hdf5.blocks import NOWHERE, Blocks, Message
from recurra.runtime.files.hdf5.types import Type, as_numbers, parse_shape, parse_type

ATTRIBUTE, ATTRIBUTE_INFO = 0x0C, 0x15

Value = str | list[str] | np.ndarray | None


class Heaps:
    """Texts that stand apart from where they are used, in collections by address."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.collections: dict[int, dict[int, tuple[int, int]]] = {}

    def text(self, reference: bytes) -> bytes:
        """The text that sixteen bytes refer to: its length, its collection and its number."""
        length, address, number = self.blocks.unpack("<IQI", reference)
        if length == 0:
            return b""
        if address not in self.collections:
            self.collections[address] = self._collection(address)
        place, size = self.collections[address].get(number, (0, 0))
        if length > size:
            raise self.blocks.fail(f"a text of {length} bytes is not there: it is damaged")
        return self.blocks.read(place, length)

    def _collection(self, address: int) -> dict[int, tuple[int, int]]:
        """Places and sizes of a collection's texts, by number."""
        blocks = self.blocks
        head = blocks.signed(address, b"GCOL", 16, "collection of texts")
        (size,) = blocks.unpack("<Q", head, 8)
        found: dict[int, tuple[int, int]] = {}
        at, end = address + 16, address + size
        while at + 16 <= end:
            number, length = blocks.unpack("<H6xQ", blocks.read(at, 16))
            if number == 0:  # what is left free, to the end
                break
            found[number] = (at + 16, length)
            at += 16 + length + -length % 8
        return found


def read_attributes(
    blocks: Blocks, heaps: Heaps, messages: list[Message], names: tuple[str, ...]
) -> dict[str, Value]:
    """Those attributes of an object whose names begin with one of `names`."""
    found: dict[str, Value] = {}
    for message in messages:
        if message.kind == ATTRIBUTE_INFO and _is_elsewhere(blocks, message.data):
            raise blocks.unusual("it keeps attributes apart from their objects")
        if message.kind != ATTRIBUTE:
            continue
        name, form, place = _head(blocks, message)
        if not name.startswith(names):
            continue
        if name in found:
            raise blocks.fail(f"it has two attributes '{name}': it is damaged")
        found[name] = _value(blocks, heaps, name, message.data, form, place)
    return found


def _is_elsewhere(blocks: Blocks, data: bytes) -> bool:
    _, flags = blocks.unpack("<BB", data)
    (address,) = blocks.unpack("<Q", data, 4 if flags & 1 else 2)
    return address != NOWHERE


def _head(blocks: Blocks, message: Message) -> tuple[str, tuple[int, int], int]:
    """An attribute's name, the sizes of its type and its shape, and where these begin."""
    data = message.data
    version, flags, name_size, *form = blocks.unpack("<BBHHH", data)
    if not 1 <= version <= 3:
        raise blocks.fail(f"an attribute of version {version} cannot be: it is damaged")
    if version > 1 and flags & 3:
        raise blocks.unusual("it has types that stand apart from values")
    at = 9 if version == 3 else 8
    name = data[at : at + name_size].split(b"\0")[0].decode("utf-8", "replace")
    if version == 1:  # everything is filled up to eight bytes
        name_size, *form = (size + -size % 8 for size in (name_size, *form))
    return name, (form[0], form[1]), at + name_size


def _value(
    blocks: Blocks, heaps: Heaps, name: str, data: bytes, form: tuple[int, int], at: int
) -> Value:
    kind = parse_type(blocks, data[at : at + form[0]])
    at += form[0]
    shape = parse_shape(blocks, data[at : at + form[1]])
    at += form[1]
    if shape is None:
        return None
    count = prod(shape)
    size = count * kind.dtype.itemsize
    if at + size > len(data):
        raise blocks.fail(f"the attribute '{name}' is cut off: it is damaged")
    blocks.count(count)
    return _decode(blocks, heaps, name, kind, data[at : at + size], shape)


def _decode(
    blocks: Blocks, heaps: Heaps, name: str, kind: Type, data: bytes, shape: tuple[int, ...]
) -> Value:
    if kind.kind not in ("text", "heap"):
        return as_numbers(kind, data, shape)
    size = kind.dtype.itemsize
    items = [data[at : at + size] for at in range(0, len(data), size)]
    if kind.kind == "heap":
        items = [heaps.text(item) for item in items]
    else:
        items = [item.rstrip(b"\0") for item in items]
    try:
        texts = [item.decode() for item in items]
    except UnicodeDecodeError:
        raise blocks.fail(f"the attribute '{name}' is not UTF-8 text: it is damaged") from None
    return texts if shape else texts[0]
