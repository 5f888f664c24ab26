"""Products with a layer's kernel: packed once, and the same bits for a row in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.runtime.layer import Array


class Packed:
    """A kernel (features, units) and a bias (units,) or None, ready for `product`.

    The engine's copy of them is made when it is first needed: models that stream have all their
    products in one plan, and never ask for it.
    """

    __slots__ = ("_plan", "bias", "kernel")

    def __init__(self, kernel: Array, bias: Array | None) -> None:
        self.kernel, self.bias = kernel, bias
        self._plan: Any = None

    def plan(self) -> Any:
        """A plan of this product. Two threads may both make it the first time; either will do."""
        if self._plan is None:
            from recurra._engine import Plan

            features, units = self.kernel.shape
            step = {"op": "dense", "input": 0, "output": 1, "kernel": self.kernel}
            if self.bias is not None:
                step["bias"] = self.bias
            self._plan = Plan([("row", features), ("row", units)], [step], [0], [1])
        return self._plan


def pack(kernel: Array, bias: Array | None = None) -> Packed:
    """Get a kernel (features, units) ready for many products."""
    return Packed(np.ascontiguousarray(kernel, np.float32), bias)


def product(x: Array, packed: Packed) -> Array:
    """x @ kernel + bias over the last axis of `x`, (batch, ..., features); a new float32 array.

    It is the engine's product, whose results for a row do not hang on the rows beside it.

    Example:
        >>> import numpy as np
        >>> product(np.ones((1, 2), np.float32), pack(np.ones((2, 3), np.float32)))
        array([[2., 2., 2.]], dtype=float32)
    """
    features, units = packed.kernel.shape
    rows = np.ascontiguousarray(x, np.float32).reshape(x.size // features, features)
    y: Array = packed.plan().run_batch(rows)
    return y.reshape(*x.shape[:-1], units)
