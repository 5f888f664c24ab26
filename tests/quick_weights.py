"""Layers whose weights begin as zeros: for tests that put their own in, or need none.

    no_random_weights = quick_weights.no_random_weights  # at the module's level

JAX compiles every random initializer for every shape, which takes seconds for a small model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest


@pytest.fixture(scope="module", autouse=True)
def no_random_weights() -> Iterator[None]:
    """Random initializers give zeros until the module's last test."""

    def zeros(_: Any, shape: Any, dtype: Any = None) -> Any:
        return np.zeros(shape, dtype or "float32")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("GlorotUniform", "Orthogonal", "RandomUniform"):
            patch.setattr(getattr(keras.initializers, name), "__call__", zeros)
        yield
