"""All lowerings: importing this module fills `lowering.LOWERINGS`."""

from __future__ import annotations

from recurra.runtime.streaming import (
    normalization,
    operations,
    pointwise,
    products,
    recurrent,
    shapes,
)

__all__ = ["normalization", "operations", "pointwise", "products", "recurrent", "shapes"]
