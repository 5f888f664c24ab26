"""An ONNX file's parts, read without trusting it: sizes are checked before anything is made."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recurra.runtime.errors import ModelFileError
from recurra.runtime.layer import Array
from recurra.runtime.onnx.package import onnx

_TYPES: Mapping[int, tuple[str, str]] = {
    1: ("<f4", "float_data"),
    11: ("<f8", "double_data"),
    10: ("<f2", ""),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("|b1", "int32_data"),
}
"""NumPy's type, and the field with the numbers if they are not raw bytes, by ONNX's number."""

MOST_NODES = 200_000


class File:
    """The parts of an ONNX file.

    Args:
        path: of the file.
        max_bytes: of the file, and of its weights.

    Attributes:
        graph: the protobuf message of the graph.
        metadata: the file's own remarks.
        opset: version of the standard operators.

    Raises:
        ModelFileError: if it is no ONNX file, or larger than allowed.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int) -> None:
        self.path, self._left, self._copies = Path(path), max_bytes, 8 * max_bytes
        size = self.path.stat().st_size
        if size > max_bytes:
            raise ModelFileError(
                f"{self.path} has {size:,} bytes, more than max_bytes={max_bytes:,}."
            )
        data = self.path.read_bytes()
        self.digest = hashlib.sha256(data).hexdigest()
        model = onnx().ModelProto()
        try:
            model.ParseFromString(data)
        except Exception as error:  # protobuf's implementations raise errors of their own
            raise ModelFileError(
                f"{self.path} is no ONNX file, or a damaged one ({error})."
            ) from None
        if not model.HasField("graph") or not model.graph.node:
            raise ModelFileError(f"{self.path} is no ONNX file: it has no operators.")
        if len(model.graph.node) > MOST_NODES:
            raise ModelFileError(f"{self.path} has more than {MOST_NODES:,} operators.")
        if model.functions:
            raise ModelFileError(
                f"{self.path} has functions of its own, which are not read. Export the model with "
                "inlined functions."
            )
        self.graph = model.graph
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
        self.opset = max(versions, default=0)
        self._initializers = {each.name: each for each in model.graph.initializer}
        self._arrays: dict[str, Array] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._initializers

    def initializer(self, name: str) -> Array:
        """An initializer's array; floating-point numbers as float32.

        Raises:
            ModelFileError: if there is none of that name, or it is damaged.
        """
        if name not in self._arrays:
            if name not in self._initializers:
                raise ModelFileError(f"{self.path}: the weight {name!r} is missing.")
            self._arrays[name] = self.array(self._initializers[name])
        return self._arrays[name]

    def copied(self, array: Array) -> Array:
        """An array of which a copy is about to be made: a small file may ask for many.

        Raises:
            ModelFileError: if there have been too many.
        """
        self._copies -= array.nbytes
        if self._copies < 0:
            raise ModelFileError(f"{self.path}: its operators use its weights too often.")
        return array

    def array(self, tensor: Any) -> Array:
        """A tensor's array, of which the size is checked first."""
        if tensor.data_type not in _TYPES:
            raise ModelFileError(
                f"{self.path}: the tensor {tensor.name!r} is of ONNX's type {tensor.data_type}; "
                "the runtime reads float, double, float16, int32, int64 and bool."
            )
        dtype, field = _TYPES[tensor.data_type]
        shape = tuple(tensor.dims)
        if any(n < 0 for n in shape) or len(shape) > 32:
            raise ModelFileError(f"{self.path}: the tensor {tensor.name!r} has shape {shape}.")
        count = math.prod(shape)
        expected = count * np.dtype(dtype).itemsize
        self._left -= expected
        if self._left < 0:
            raise ModelFileError(f"{self.path}: its weights are larger than max_bytes allows.")
        if tensor.data_location == 1:
            raw = self._external(tensor, expected)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
        else:
            return self._listed(tensor, field, dtype, shape)
        if len(raw) != expected:
            raise ModelFileError(
                f"{self.path}: the tensor {tensor.name!r} of shape {shape} has {len(raw):,} bytes "
                f"of data; expected {expected:,}."
            )
        return _native(np.frombuffer(raw, dtype).reshape(shape))

    def _listed(self, tensor: Any, field: str, dtype: str, shape: tuple[int, ...]) -> Array:
        numbers = getattr(tensor, field) if field else ()
        if len(numbers) != math.prod(shape):
            raise ModelFileError(
                f"{self.path}: the tensor {tensor.name!r} of shape {shape} has {len(numbers)} "
                "numbers."
            )
        return _native(np.array(numbers, dtype).reshape(shape))

    def _external(self, tensor: Any, expected: int) -> bytes:
        """Weights in a file beside the model, as PyTorch writes them: "model.onnx.data".

        The name must be that of a plain file in the same folder, and nothing else.
        """
        given = {entry.key: entry.value for entry in tensor.external_data}
        location = given.get("location", "")
        if not location or location in (".", "..") or set(location) & set("/\\:\0"):
            raise ModelFileError(
                f"{self.path}: the tensor {tensor.name!r} is in the file {location!r}, which is "
                "not in the model's folder. Save the model in one piece: onnx.save(onnx.load(path),"
                " new_path), or torch.onnx.export(..., external_data=False)."
            )
        path = self.path.parent / location
        try:
            offset, length = int(given.get("offset", 0)), int(given.get("length", expected))
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            raise ModelFileError(
                f"{self.path}: its weights are in {location!r}, which is not beside it. Keep both "
                "files together, or save the model in one piece: torch.onnx.export(..., "
                "external_data=False)."
            ) from None
        except (OSError, ValueError) as error:
            raise ModelFileError(f"{self.path}: {location!r} cannot be read ({error}).") from None
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise ModelFileError(f"{self.path}: {location!r} is not a plain file.")
            if length != expected or not 0 <= offset <= about.st_size - length:
                raise ModelFileError(
                    f"{self.path}: the tensor {tensor.name!r} should have {expected:,} bytes at "
                    f"{offset:,} of {location!r}, which has {about.st_size:,}."
                )
            file.seek(offset)
            return file.read(length)


def _native(array: Array) -> Array:
    """float32 for all floating-point types; whole numbers and booleans as they are."""
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="))
