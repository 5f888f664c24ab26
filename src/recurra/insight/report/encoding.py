"""Arrays as texts for a page: bytes for heat maps, float32 for curves; long sequences in columns.

The form is in `recurra.insight.report.data`.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Blob = dict[str, Any]

LEVELS = 254
"""Steps of uint8 between the ends of a range: an even number, so that the middle is exact."""

MISSING = 255
"""The code of a value that is not there."""


@dataclass(frozen=True)
class Columns:
    """How time steps stand in a page's columns.

    Args:
        time_steps: how many there are.
        stride: steps in a column; 1 for each step as it is.
    """

    time_steps: int
    stride: int = 1

    @property
    def count(self) -> int:
        """How many columns there are; the last one may have fewer steps."""
        return math.ceil(self.time_steps / self.stride)

    @property
    def starts(self) -> Array:
        """The first step of each column."""
        return np.arange(0, self.time_steps, self.stride)

    @property
    def planes(self) -> int:
        """Texts of a blob: the mean, least and greatest values where columns hold several steps."""
        return 1 if self.stride == 1 else 3

    def pool(self, values: Array, real: Array | None) -> list[Array]:
        """Steps to columns.

        Args:
            values: (time_steps, channels).
            real: (time_steps,), True where a step counts; None for all.

        Returns:
            (columns, channels) of float32: the values, or their means, least and greatest values.
            NaN where a column has none that is real and finite.
        """
        values = np.asarray(values, np.float32)
        known = np.isfinite(values)
        if real is not None:
            known &= np.asarray(real, bool)[:, None]
        if self.stride == 1:
            return [np.where(known, values, np.float32(np.nan))]
        starts = self.starts
        counts = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
        total = np.add.reduceat(np.where(known, values, 0), starts, axis=0, dtype=np.float64)
        least = np.minimum.reduceat(np.where(known, values, np.inf), starts, axis=0)
        most = np.maximum.reduceat(np.where(known, values, -np.inf), starts, axis=0)
        none = counts == 0
        mean = (total / np.maximum(counts, 1)).astype(np.float32)
        # The mean of values that are all the same may be another one by rounding.
        mean = np.clip(mean, least, most, where=~none, out=mean)
        return [np.where(none, np.float32(np.nan), part) for part in (mean, least, most)]

    def mask_text(self, real: Array | None) -> str | None:
        """A mask (time_steps,) as a character for each column; None if every step is real."""
        if real is None or np.all(real):
            return None
        counts = np.add.reduceat(np.asarray(real, np.int64), self.starts)
        sizes = np.diff([*self.starts, self.time_steps])
        return "".join(
            "0" if count == 0 else "1" if count == size else "2"
            for count, size in zip(counts.tolist(), sizes.tolist(), strict=True)
        )


def bytes_blob(
    values: Array, real: Array | None, columns: Columns, ends: tuple[float, float] | Array
) -> Blob:
    """Values of one row as uint8.

    Args:
        values: (time_steps, channels).
        real: (time_steps,) or None.
        columns: what becomes of the steps.
        ends: the range (low, high), or an array (channels, 2) with one for each channel.
    """
    each = np.asarray(ends, np.float64).reshape(-1, 2)
    low, high = each[:, 0], each[:, 1]
    blob: Blob = {"dtype": "uint8", **_range(ends)}
    parts = columns.pool(values, real)
    for name, part in zip(("data", "low", "high"), parts, strict=False):
        blob[name] = _base64(_codes(part, low, high).T)
    return blob


def floats_blob(
    values: Array,
    real: Array | None,
    columns: Columns,
    ends: tuple[float, float] | Array | None = None,
) -> Blob:
    """Values of one row, (time_steps, channels), as float32; see `bytes_blob`."""
    parts = columns.pool(values, real)
    blob: Blob = {"dtype": "float32", **_range(ends)}
    for name, part in zip(("data", "low", "high"), parts, strict=False):
        blob[name] = _base64(part.astype("<f4").T)
    return blob


def _range(ends: tuple[float, float] | Array | None) -> Blob:
    if ends is None:
        return {}
    if isinstance(ends, tuple):
        return {"range": [float(ends[0]), float(ends[1])]}
    return {"ranges": np.asarray(ends, np.float64).tolist()}


def text_size(count: int) -> int:
    """Characters of base64 for so many bytes."""
    return 4 * math.ceil(count / 3)


def _codes(values: Array, low: Array, high: Array) -> Array:
    span = np.where(high > low, high - low, 1.0)
    with np.errstate(invalid="ignore", over="ignore"):
        codes = (values - low.astype(np.float32)) * (LEVELS / span).astype(np.float32)
    np.rint(codes, out=codes)
    np.clip(codes, 0, LEVELS, out=codes)
    codes[~np.isfinite(values)] = MISSING
    return codes.astype(np.uint8)


def _base64(array: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
