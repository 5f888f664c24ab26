"""Datasets: arrays by their shape, their type, and where their bytes stand."""

from __future__ import annotations

import zlib
from math import prod
from typing import NamedTuple

import numpy as np

from recurra.runtime.files.hdf5.blocks import NOWHERE, Blocks, Message
from recurra.runtime.files.hdf5.types import Type, as_numbers, read_shape, read_type
from recurra.runtime.files.limits import SMALL

SHAPE, TYPE, ELSEWHERE, LAYOUT, FILTERS = 0x01, 0x03, 0x07, 0x08, 0x0B
COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = 0, 1, 2, 3
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3


class Dataset(NamedTuple):
    """An array of a file, not read yet.

    Args:
        name: its path, for messages.
        shape, kind: of what it states to hold.
        layout, filters: messages that say where its bytes are and how they are packed.
    """

    name: str
    shape: tuple[int, ...]
    kind: Type
    layout: bytes
    filters: bytes

    @property
    def size(self) -> int:
        """Bytes as they are in the file, unpacked."""
        return prod(self.shape) * self.kind.dtype.itemsize


def is_dataset(messages: list[Message]) -> bool:
    """Whether an object with these messages holds values (else it is a group, or nothing)."""
    return any(message.kind == LAYOUT for message in messages)


def describe(blocks: Blocks, name: str, messages: list[Message]) -> Dataset:
    """The dataset that an object's messages describe."""
    by_kind = {message.kind: message for message in messages}
    if ELSEWHERE in by_kind:
        raise blocks.fail(f"the values of '{name}' stand in another file, which is not opened")
    if SHAPE not in by_kind or TYPE not in by_kind:
        raise blocks.fail(f"'{name}' has no shape or no type: it is damaged")
    shape = read_shape(blocks, by_kind[SHAPE])
    if shape is None:
        raise blocks.fail(f"'{name}' holds no value")
    kind = read_type(blocks, by_kind[TYPE])
    if kind.kind in ("text", "heap"):
        raise blocks.fail(f"'{name}' holds texts, where numbers were expected")
    filters = by_kind[FILTERS].data if FILTERS in by_kind else b""
    return Dataset(name, shape, kind, by_kind[LAYOUT].data, filters)


def read_values(blocks: Blocks, dataset: Dataset) -> np.ndarray:
    """A dataset's values: read-only, floats as float32."""
    if dataset.size > blocks.limits.max_bytes:
        raise blocks.fail(
            f"'{dataset.name}' of shape {dataset.shape} takes {dataset.size} bytes, "
            f"more than {blocks.limits.max_bytes} (limit max_bytes)"
        )
    data = _read_bytes(blocks, dataset)
    return as_numbers(dataset.kind, data, dataset.shape)


def _read_bytes(blocks: Blocks, dataset: Dataset) -> bytes:
    layout = dataset.layout
    version, storage = blocks.unpack("<BB", layout)
    if version not in (3, 4):
        raise blocks.unusual(f"it stores '{dataset.name}' in a form of old (version {version})")
    if storage == COMPACT:
        (size,) = blocks.unpack("<H", layout, 2)
        data = layout[4 : 4 + size]
    elif storage == CONTIGUOUS:
        address, size = blocks.unpack("<QQ", layout, 2)
        if address == NOWHERE and dataset.size:
            raise blocks.fail(f"'{dataset.name}' has the shape {dataset.shape} and no values")
        # Only where it fits the shape, so that what is claimed is no reason to read it.
        data = blocks.read_values(address, size) if size and size == dataset.size else b""
    elif storage == CHUNKED and version == 3:
        return _read_chunks(blocks, dataset)
    elif storage == VIRTUAL:
        raise blocks.fail(f"'{dataset.name}' is made of other files, which are not opened")
    else:
        raise blocks.unusual(f"it stores '{dataset.name}' in pieces of a newer form")
    if len(data) != dataset.size:
        raise blocks.fail(
            f"'{dataset.name}' of shape {dataset.shape} takes {dataset.size} bytes, "
            f"and {size} are stored"
        )
    return data


def _read_chunks(blocks: Blocks, dataset: Dataset) -> bytes:
    """Values in pieces, each packed by itself: not Keras's way, but other programs'."""
    (rank,) = blocks.unpack("<B", dataset.layout, 2)
    (address,) = blocks.unpack("<Q", dataset.layout, 3)
    *piece, item = blocks.unpack(f"<{rank}I", dataset.layout, 11) or (0,)
    name, itemsize = dataset.name, dataset.kind.dtype.itemsize
    if len(piece) != len(dataset.shape) or item != itemsize or not all(piece):
        raise blocks.fail(f"the pieces of '{name}' do not fit its shape: it is damaged")
    filters = _filters(blocks, dataset)
    number = prod(-(-size // part) for size, part in zip(dataset.shape, piece, strict=True))
    piece_bytes = prod(piece) * itemsize
    pieces: dict[tuple[int, ...], tuple[int, int]] = {}
    if number and address != NOWHERE:
        _find_pieces(blocks, address, rank, pieces, name)
    stored = sum(size for size, _ in pieces.values())
    # Both what is asked for and what the pieces unpack to, however little of it is asked for.
    claimed = max(dataset.size, number * piece_bytes)
    if len(pieces) != number or claimed > max(SMALL, blocks.limits.max_expansion * stored):
        raise blocks.fail(
            f"'{name}' of shape {dataset.shape} would take {claimed} bytes in {number} pieces, "
            f"and {stored} bytes in {len(pieces)} pieces are stored"
        )
    values = np.zeros(dataset.shape, f"V{itemsize}")
    for corner, (size, place) in pieces.items():
        if any(
            at % part or at >= full
            for at, part, full in zip(corner, piece, dataset.shape, strict=True)
        ):
            raise blocks.fail(f"a piece of '{name}' lies outside it: it is damaged")
        data = _unpack(
            blocks, blocks.read_values(place, size), filters, piece_bytes, itemsize, name
        )
        block = np.frombuffer(data, values.dtype).reshape(piece)
        where = tuple(slice(at, at + part) for at, part in zip(corner, piece, strict=True))
        part = values[where]
        part[...] = block[tuple(slice(0, size) for size in part.shape)]
    return values.tobytes()


def _find_pieces(
    blocks: Blocks,
    root: int,
    rank: int,
    pieces: dict[tuple[int, ...], tuple[int, int]],
    name: str,
) -> None:
    """Sizes and addresses of the pieces, by their corners."""
    key = 8 + 8 * rank
    waiting, seen = [root], {root}
    while waiting:
        address = waiting.pop()
        head = blocks.signed(address, b"TREE", 24, "index of pieces")
        kind, level, used = blocks.unpack("<BBH", head, 4)
        if kind != 1:
            raise blocks.fail(f"the index of '{name}' is another's: it is damaged")
        data = blocks.read(address + 24, used * (key + 8))
        blocks.count(used)
        for at in range(0, len(data), key + 8):
            size, mask, *corner = blocks.unpack(f"<II{rank}Q", data, at)
            (child,) = blocks.unpack("<Q", data, at + key)
            if level:
                if child in seen:
                    raise blocks.fail(f"the index of '{name}' goes in circles")
                seen.add(child)
                waiting.append(child)
                continue
            if mask or tuple(corner[:-1]) in pieces:
                raise blocks.fail(f"pieces of '{name}' are packed differently or twice")
            pieces[tuple(corner[:-1])] = (size, child)


def _filters(blocks: Blocks, dataset: Dataset) -> list[int]:
    """How the pieces are packed, in the order of packing."""
    data = dataset.filters
    if not data:
        return []
    version, number = blocks.unpack("<BB", data)
    at = 8 if version == 1 else 2
    found = []
    for _ in range(number):
        (kind,) = blocks.unpack("<H", data, at)
        if kind not in (DEFLATE, SHUFFLE, CHECKSUM):
            raise blocks.unusual(f"'{dataset.name}' is packed in a way of its own (filter {kind})")
        if version == 1:
            name_size, _, values = blocks.unpack("<HHH", data, at + 2)
            at += 8 + name_size + -name_size % 8 + 4 * (values + values % 2)
        else:
            _, values = blocks.unpack("<HH", data, at + 2)
            at += 6 + 4 * values
        found.append(kind)
    if len(found) > 3:
        raise blocks.unusual(f"'{dataset.name}' is packed {len(found)} times over")
    return found


def _unpack(
    blocks: Blocks, data: bytes, filters: list[int], size: int, itemsize: int, name: str
) -> bytes:
    """A piece as it was before it was packed."""
    for kind in reversed(filters):
        if kind == CHECKSUM:
            data = data[:-4]
        elif kind == DEFLATE:
            try:
                # Four more bytes for a checksum made before.
                data = zlib.decompressobj().decompress(data, size + 4)
            except zlib.error as error:
                raise blocks.fail(f"a piece of '{name}' does not unpack: {error}") from None
        elif len(data) % itemsize == 0:
            data = np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()
    if len(data) != size:
        raise blocks.fail(f"a piece of '{name}' has {len(data)} bytes instead of {size}")
    return data
