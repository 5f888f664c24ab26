"""The types and shapes of HDF5 values, as NumPy's.

Keras writes numbers, booleans and strings. Everything else that HDF5 can hold (references,
compound and complex numbers, objects) is refused: no weight is made of it.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from recurra.runtime.files.hdf5.blocks import SHARED, Blocks, Message

CLASSES = (
    "integers",
    "floats",
    "times",
    "strings",
    "bit fields",
    "opaque bytes",
    "compound values",
    "references",
    "enumerations",
    "sequences",
    "arrays",
    "complex numbers",
)
INTEGER, FLOAT, STRING, OPAQUE, ENUMERATION, SEQUENCE = 0, 1, 3, 5, 8, 9
MAX_RANK = 32

# Size, sign's place, exponent's place and size, mantissa's place and size, bias.
FLOATS: dict[tuple[int, ...], str] = {
    (2, 15, 10, 5, 0, 10, 15): "f2",
    (2, 15, 7, 8, 0, 7, 127): "bfloat16",
    (4, 31, 23, 8, 0, 23, 127): "f4",
    (8, 63, 52, 11, 0, 52, 1023): "f8",
}


class Type(NamedTuple):
    """What a value is made of.

    Args:
        kind: "number", "bfloat16", "text" (of a fixed length) or "heap" (text elsewhere).
        dtype: of the bytes in the file.
    """

    kind: str
    dtype: np.dtype

    @property
    def is_float(self) -> bool:
        """Whether values come as float32."""
        return self.kind == "bfloat16" or self.dtype.kind == "f"


def read_type(blocks: Blocks, message: Message) -> Type:
    """The type that a message of an object states."""
    if message.flags & SHARED:
        raise blocks.unusual("it has types that stand apart from values")
    return parse_type(blocks, message.data)


def parse_type(blocks: Blocks, data: bytes) -> Type:
    """The type in these bytes."""
    first, low, middle, _, size = blocks.unpack("<BBBBI", data)
    kind = first & 15
    order = ">" if low & 1 else "<"
    if kind == INTEGER:
        offset, precision = blocks.unpack("<HH", data, 8)
        if size in (1, 2, 4, 8) and offset == 0 and precision == 8 * size:
            return Type("number", np.dtype(f"{order}{'i' if low & 8 else 'u'}{size}"))
    elif kind == FLOAT:
        offset, precision, *layout = blocks.unpack("<HHBBBBI", data, 8)
        name = FLOATS.get((size, middle, *layout))
        if name and offset == 0 and precision == 8 * size and low & 0x70 == 0x20:
            if name == "bfloat16":
                return Type(name, np.dtype(f"{order}u2"))
            return Type("number", np.dtype(order + name))
    elif kind == ENUMERATION:
        base = parse_type(blocks, data[8:])
        # h5py's booleans: the names FALSE and TRUE, with whatever padding.
        if size == 1 and base.dtype.itemsize == 1 and b"FALSE\0" in data and b"TRUE\0" in data:
            return Type("number", np.dtype(bool))
    elif kind == OPAQUE and size == 2:
        return Type("bfloat16", np.dtype("<u2"))  # which h5py has no other type for
    elif kind == STRING:
        if 0 < size <= blocks.limits.max_config_bytes:
            return Type("text", np.dtype(f"S{size}"))
    elif kind == SEQUENCE and low & 15 == 1 and size == 16:
        return Type("heap", np.dtype("V16"))
    what = CLASSES[kind] if kind < len(CLASSES) else "values"
    raise blocks.unusual(f"it has {what} of a kind ({size} bytes each)")


def read_shape(blocks: Blocks, message: Message) -> tuple[int, ...] | None:
    """The shape that a message states; None for HDF5's "no value at all"."""
    if message.flags & SHARED:
        raise blocks.unusual("it has shapes that stand apart from values")
    return parse_shape(blocks, message.data)


def parse_shape(blocks: Blocks, data: bytes) -> tuple[int, ...] | None:
    """The shape in these bytes."""
    version, rank, _, kind = blocks.unpack("<BBBB", data)
    if version not in (1, 2) or rank > MAX_RANK:
        raise blocks.fail(f"a shape of {rank} axes (version {version}) cannot be: it is damaged")
    if version == 2 and kind == 2:
        return None
    shape = blocks.unpack(f"<{rank}Q", data, 8 if version == 1 else 4)
    # As NumPy counts: a zero among the axes does not excuse the others.
    if prod(size for size in shape if size) > 2**48:
        raise blocks.fail(f"a shape of {shape} is beyond reason")
    return shape


def as_numbers(kind: Type, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes of a file as an array of this machine: read-only, floats in float32."""
    values = np.frombuffer(data, kind.dtype)
    if kind.kind == "bfloat16":
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif kind.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(np.float32, copy=False)
    elif kind.dtype.kind == "b":
        values = np.frombuffer(data, np.uint8) != 0
    else:
        values = values.astype(kind.dtype.newbyteorder("="), copy=False)
    values = values.reshape(shape)
    values.flags.writeable = False
    return values
