"""Where windows lie over an axis, for convolutions and pooling.

No array is padded: each tap of a window is one slice of the input that meets one slice of the
output.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from recurra.runtime.errors import ModelFileError
from recurra.runtime.layer import Array, Shape
from recurra.runtime.layers import config as read


class Windows(NamedTuple):
    """Windows along one axis.

    Args:
        size: taps of a window.
        stride: places from one window to the next.
        dilation: places from one tap to the next.
        padding: "valid", "same" or "causal".
    """

    size: int
    stride: int
    dilation: int
    padding: str

    @property
    def span(self) -> int:
        """Places from a window's first to its last, both included."""
        return (self.size - 1) * self.dilation + 1

    def count(self, length: int) -> int:
        """How many windows there are over `length` places; 0 or less if not even one fits."""
        if self.padding == "valid":
            return (length - self.span) // self.stride + 1
        return -(-length // self.stride)

    def before(self, length: int) -> int:
        """How many places the first window starts before the first place."""
        if self.padding == "valid":
            return 0
        if self.padding == "causal":
            return self.span - 1
        missing = (self.count(length) - 1) * self.stride + self.span - length
        return max(missing, 0) // 2

    def taps(self, length: int) -> Iterator[tuple[int, slice, slice]]:
        """(tap, the windows in which it meets an input, those inputs) for all taps that do."""
        count, before = self.count(length), self.before(length)
        # Taps that lie in the padding of every window are not even looked at.
        first = max(0, -(-(before - (count - 1) * self.stride) // self.dilation))
        for tap in range(first, min(self.size, (length - 1 + before) // self.dilation + 1)):
            shift = tap * self.dilation - before
            low = max(0, -(shift // self.stride))
            high = min(count, (length - 1 - shift) // self.stride + 1)
            if low < high:
                start = low * self.stride + shift
                stop = (high - 1) * self.stride + shift + 1
                yield tap, slice(low, high), slice(start, stop, self.stride)


Grid = Sequence[Windows]
"""Windows along each of the axes between the batch and the features."""


def grid(
    config: Mapping[str, Any], where: str, axes: int, size: str, paddings: Sequence[str]
) -> tuple[Windows, ...]:
    """A layer's windows, by the key under which their size stands."""
    sizes = read.integers(config, size, where, count=axes)
    strides = sizes
    if config.get("strides") is not None or size != "pool_size":
        strides = read.integers(config, "strides", where, count=axes, default=1)
    dilations = read.integers(config, "dilation_rate", where, count=axes, default=1)
    if max(strides) > 1 and max(dilations) > 1:
        raise ModelFileError(
            f"Layer '{where}': strides {strides} and dilation_rate {dilations} are both above 1; "
            "one of them must be 1."
        )
    padding = read.choice(config, "padding", where, paddings, default="valid")
    listed = zip(sizes, strides, dilations, strict=True)
    return tuple(Windows(*numbers, padding) for numbers in listed)


def counts(windows: Grid, lengths: Shape, where: str) -> Shape:
    """How many windows lie along each axis; None where the length is free."""
    found = []
    for window, length in zip(windows, lengths, strict=True):
        count = None if length is None else window.count(length)
        if count is not None and count <= 0 < (length or 0):
            raise ModelFileError(
                f"Layer '{where}': its input of {length} steps is too short for a window of "
                f"{window.span}."
            )
        found.append(count)
    return tuple(found)


def meetings(
    windows: Grid, x: Array
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """(tap, outputs, inputs) over all axes of `x` (batch, ..., features): indices for arrays."""
    every = (slice(None),)
    along = [list(w.taps(n)) for w, n in zip(windows, x.shape[1:-1], strict=True)]
    for combined in itertools.product(*along):
        taps, outputs, inputs = zip(*combined, strict=True)
        yield taps, every + outputs, every + inputs
