"""Recurra: Keras 3's recurrent layers on an engine of their own.

Importing this package loads neither a framework nor the engine: every name below is loaded when it
is first used, so a program pays only for what it touches.

Example:
    >>> import recurra
    >>> recurra.set_num_threads(1)
    >>> recurra.set_num_threads(0)  # back to the default, one thread per core
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recurra import accelerate as accelerate
    from recurra import cells as cells
    from recurra import engine as engine
    from recurra import insight as insight
    from recurra import layers as layers
    from recurra import models as models
    from recurra import reference as reference
    from recurra import runtime as runtime
    from recurra import weights as weights
    from recurra.accelerate import disable as disable
    from recurra.accelerate import enable as enable
    from recurra.insight.explanation import explain as explain
    from recurra.insight.tracing import trace as trace
    from recurra.runtime.from_torch import from_torch as from_torch
    from recurra.runtime.model import load as load

_MODULES = (
    "accelerate",
    "cells",
    "engine",
    "insight",
    "layers",
    "models",
    "reference",
    "runtime",
    "weights",
)

_FUNCTIONS = {
    "disable": "recurra.accelerate",
    "enable": "recurra.accelerate",
    "explain": "recurra.insight.explanation",
    "from_torch": "recurra.runtime.from_torch",
    "load": "recurra.runtime.model",
    "trace": "recurra.insight.tracing",
}

__all__ = ["__version__", "set_num_threads", *_FUNCTIONS, *_MODULES]


def set_num_threads(n: int) -> None:
    """Set how many threads a call of Recurra's engine may use, whatever the host.

    They are the host's own threads where it has a pool (XLA's, PyTorch's, TensorFlow's), and never
    more than the host allows. Results do not depend on it: they are bitwise equal for every number
    of threads.

    Args:
        n: Number of threads, 1 to 1024; or 0 for the default, the host's own setting, or one per
            core that this process may use where the host has none.

    Raises:
        TypeError: if ``n`` is not an integer.
        ValueError: if ``n`` is negative or above 1024.

    Example:
        >>> recurra.set_num_threads(2)
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(
            f"set_num_threads(n) got n={n!r} of type {type(n).__name__}; expected an integer: "
            "1 or more threads, or 0 for the default (one per core)."
        )
    if not 0 <= n <= 1024:
        raise ValueError(
            f"set_num_threads(n) got n={n}; expected 1 to 1024 threads, or 0 for the default "
            "(one per core)."
        )
    from recurra.engine import set_num_threads as apply

    apply(n)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"recurra.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name == "__version__":
        # From the installed package's metadata: pyproject.toml stays the only place that states it.
        from importlib.metadata import version

        return version("recurra")
    raise AttributeError(
        f"module 'recurra' has no attribute {name!r}; it has {', '.join(__all__)}."
    )


def __dir__() -> list[str]:
    return sorted(__all__)
