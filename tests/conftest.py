"""Settings that must stand before Keras or JAX is imported, and fixtures of the engine's tests."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
# The tests say what the CPU engine does, on machines with an accelerator too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A picture is written to a file, never to a window.
os.environ.setdefault("MPLBACKEND", "agg")

from recurra import _engine


@pytest.fixture(params=_engine.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this processor runs, in use during the test."""
    before = _engine.isa()
    _engine.set_isa(request.param)
    yield request.param
    _engine.set_isa(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the engine's number of threads, until the end of the test."""
    yield _engine.set_num_threads
    _engine.set_num_threads(0)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the engine's output arrays with NaN, so that an element left unwritten is seen."""
    from recurra.engine import cpu

    empty = np.empty

    def poisoned(shape: Any, dtype: Any = float, **rest: Any) -> Any:
        if np.issubdtype(dtype, np.floating) and not rest:
            return np.full(shape, np.nan, dtype)
        return empty(shape, dtype, **rest)

    monkeypatch.setattr(cpu.np, "empty", poisoned)
