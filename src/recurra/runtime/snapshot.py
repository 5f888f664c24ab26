"""Sessions' states as bytes.

A snapshot holds everything that a session carries from one step to the next and nothing else; equal
states give equal bytes on every machine. All numbers are little-endian:

    8 bytes   "RECURRA" and a line feed
    uint32    version of this format, 1
    uint32    batch
    32 bytes  SHA-256 of the model's digest
    uint32    number of states; then for each, in the order of `Session.state`:
        uint16    bytes of its name, and the name in UTF-8
        uint8     "f" (float32) or "?" (bool, a byte each)
        uint8     number of axes without the batch, and a uint32 for the size of each
        values    of (batch, *axes), the last axis fastest
    32 bytes  SHA-256 of all the bytes before
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import numpy as np

from recurra.runtime.errors import SnapshotError
from recurra.runtime.layer import Array

if TYPE_CHECKING:
    from recurra.runtime.streaming.program import Field, Program

MAGIC = b"RECURRA\n"
VERSION = 1
_HEAD = struct.Struct("<8sII32sI")
_CHECKSUM = hashlib.sha256().digest_size
_LARGEST_BATCH = 2**31 - 1


def dump(program: Program, state: Array) -> bytes:
    """Write a snapshot.

    Args:
        program: of the session's model.
        state: (batch, state_bytes), uint8, as the engine keeps it.
    """
    fields = program.fields.values()
    parts = [_HEAD.pack(MAGIC, VERSION, len(state), _model(program), len(fields))]
    for field in fields:
        parts += [_description(field), _values(state, field).tobytes()]
    written = b"".join(parts)
    return written + hashlib.sha256(written).digest()


def load(program: Program, data: bytes, batch: int | None = None) -> Array:
    """Read a snapshot.

    Args:
        program: of the model that the snapshot must be of.
        data: what `dump` gave.
        batch: how many rows the snapshot must have; None for any number.

    Returns:
        (batch, state_bytes), uint8, as the engine keeps it.

    Raises:
        TypeError: for something that is not bytes.
        SnapshotError: if it is no snapshot, damaged, of another version, model or batch.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"A snapshot is bytes, as Session.snapshot() gives them; got {type(data).__name__}."
        )
    data = bytes(data)
    rows = _checked_batch(program, data, batch)
    state = np.zeros((rows, program.plan.state_bytes), np.uint8)
    position = _HEAD.size
    for field in program.fields.values():
        description = _description(field)
        size = rows * field.bytes
        if data[position : position + len(description)] != description:
            raise SnapshotError(
                f"The snapshot's states are not those that sessions of '{program.name}' carry "
                f"here ({', '.join(program.fields)}): it was taken with another release of "
                "Recurra. Restore it there, and hand the arrays of `state` over."
            )
        position += len(description)
        values = np.frombuffer(data, np.uint8, size, position).reshape(rows, field.bytes)
        state[:, field.offset : field.offset + field.bytes] = _native(values, field)
        position += size
    return state


def _checked_batch(program: Program, data: bytes, batch: int | None) -> int:
    """Check everything but the states, from what says most to what says least."""
    if data[: len(MAGIC)] != MAGIC:
        raise SnapshotError(
            f"These {len(data)} bytes are no snapshot: they do not begin as Session.snapshot() "
            "does. Expected what it returned, unchanged and read in binary mode."
        )
    if len(data) < _HEAD.size + _CHECKSUM:
        raise SnapshotError(
            f"The snapshot is cut off after {len(data)} bytes. Expected all that "
            "Session.snapshot() returned."
        )
    _, version, rows, model, count = _HEAD.unpack_from(data)
    if version != VERSION:
        raise SnapshotError(
            f"The snapshot has version {version} of the format, and this release of Recurra reads "
            f"version {VERSION}. Restore it with the release that it was taken with."
        )
    if hashlib.sha256(data[:-_CHECKSUM]).digest() != data[-_CHECKSUM:]:
        raise SnapshotError(
            "The snapshot is damaged: its checksum does not fit its contents. Expected the bytes "
            "that Session.snapshot() returned, all of them and unchanged."
        )
    if model != _model(program):
        raise SnapshotError(
            f"The snapshot is of another model than '{program.name}': a state is tied to the "
            "configuration and the weights that made it. Load the model's file of that time."
        )
    if batch is not None and rows != batch:
        raise SnapshotError(
            f"The snapshot is of a session with batch={rows}, and this one has batch={batch}. Open "
            f"one with open(batch={rows}), or use Runtime.restore(data), which does."
        )
    expected = _HEAD.size + _CHECKSUM
    expected += sum(len(_description(f)) + rows * f.bytes for f in program.fields.values())
    if count != len(program.fields) or len(data) != expected or not 1 <= rows <= _LARGEST_BATCH:
        raise SnapshotError(
            f"The snapshot's states are not those that sessions of '{program.name}' carry here "
            f"({', '.join(program.fields)}): it was taken with another release of Recurra."
        )
    return int(rows)


def _model(program: Program) -> bytes:
    return hashlib.sha256(program.digest.encode()).digest()


def _description(field: Field) -> bytes:
    name = field.name.encode()
    axes = struct.pack(
        f"<BB{len(field.shape)}I", ord(field.dtype.char), len(field.shape), *field.shape
    )
    return struct.pack("<H", len(name)) + name + axes


def _values(state: Array, field: Field) -> Array:
    """A field's bytes for all rows, little-endian."""
    return _native(state[:, field.offset : field.offset + field.bytes], field)


def _native(values: Array, field: Field) -> Array:
    """Between the machine's order of bytes and little-endian; the same both ways."""
    values = np.ascontiguousarray(values)
    if values.size == 0:
        return values
    swapped = values.view(field.dtype).astype(field.dtype.newbyteorder("<"))
    return swapped.view(np.uint8).reshape(values.shape)
