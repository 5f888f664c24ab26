"""Products with a layer's kernel: packed once, and the same bits for a row in any batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from recurra.runtime.layer import Array


class Packed(NamedTuple):
    """A kernel (features, units) and a bias (units,) or None, ready for `product`."""

    kernel: Array
    bias: Array | None


def pack(kernel: Array, bias: Array | None = None) -> Packed:
    """Get a kernel (features, units) ready for many products."""
    return Packed(np.ascontiguousarray(kernel, np.float32), bias)


def product(x: Array, packed: Packed) -> Array:
    """x @ kernel + bias over the last axis of `x`, (batch, ..., features), float32.

    A row's result does not hang on the others: one multiplication for each, never one for all.

    Example:
        >>> import numpy as np
        >>> product(np.ones((1, 2), np.float32), pack(np.ones((2, 3), np.float32)))
        array([[2., 2., 2.]], dtype=float32)
    """
    features, units = packed.kernel.shape
    rows, middle = x.shape[0], math.prod(x.shape[1:-1])
    y = np.matmul(x.reshape(rows, middle, features), packed.kernel)
    if packed.bias is not None:
        y += packed.bias
    return y.reshape(*x.shape[:-1], units)
