"""Datasets: arrays by their shape, their type, and where their bytes stand."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from recurra.runtime.files.hdf5.blocks import NOWHERE, Blocks, Message
from recurra.runtime.files.hdf5.types import Type, as_numbers, read_shape, read_type

SHAPE, TYPE, ELSEWHERE, LAYOUT = 0x01, 0x03, 0x07, 0x08
COMPACT, CONTIGUOUS, VIRTUAL = 0, 1, 3


class Dataset(NamedTuple):
    """An array of a file, not read yet.

    Args:
        name: its path, for messages.
        shape, kind: of what it states to hold.
        layout: the message that says where its bytes are.
    """

    name: str
    shape: tuple[int, ...]
    kind: Type
    layout: bytes

    @property
    def size(self) -> int:
        """Bytes in the file."""
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
    return Dataset(name, shape, kind, by_kind[LAYOUT].data)


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
    elif storage == VIRTUAL:
        raise blocks.fail(f"'{dataset.name}' is made of other files, which are not opened")
    else:
        raise blocks.unusual(f"it stores '{dataset.name}' in pieces")
    if len(data) != dataset.size:
        raise blocks.fail(
            f"'{dataset.name}' of shape {dataset.shape} takes {dataset.size} bytes, "
            f"and {size} are stored"
        )
    return data
