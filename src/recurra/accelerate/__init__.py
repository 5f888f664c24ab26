"""Recurra's layers where Keras's are: for a program that imports `keras.layers` and stays as it is.

    recurra.enable()                    # until recurra.disable()
    with recurra.enable(strict=True):   # or for a while
        ...

`recurra run script.py` does the same from outside (`recurra.accelerate.program`). While enabled,
every way to Keras's recurrent classes leads to Recurra's: keras.layers, tensorflow.keras, the
modules that define them, models read from files and configurations, and modules that had imported
the names before. One line, logged as a warning, says what was replaced.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Any

__all__ = ["Enabled", "disable", "enable", "is_enabled"]

_log = logging.getLogger("recurra")
_lock = threading.RLock()
_replacement: Any = None  # a namespaces.Replacement while enabled


class Enabled:
    """What `enable` returns: leaving it as a context puts back what was before that `enable`."""

    def __init__(self, before: bool | None) -> None:
        self._before = before

    def __enter__(self) -> Enabled:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before is None:
            disable()
        elif is_enabled():
            _set_strict(self._before)

    def __repr__(self) -> str:
        state = "enabled" if is_enabled() else "not enabled"
        return f"<Recurra's layers are {state} in place of Keras's>"


def enable(strict: bool = False) -> Enabled:
    """Put Recurra's recurrent layers where Keras's are.

    Keras is imported if it is not yet, so set KERAS_BACKEND before. Best called before a program
    makes layers: layers that exist stay what they are, and so do subclasses of Keras's recurrent
    layers that were defined before (the line names them).

    While enabled, isinstance and issubclass answer for Recurra's classes as for the stock classes
    whose places they have taken.

    Calling it again changes nothing but `strict`.

    Args:
        strict: whether a layer that would run on Keras's own scan raises ValueError, with the
            reason and the argument to change, instead of running there. Layers built with
            engine="keras" may.

    Returns:
        A context manager; leaving it disables again, or if Recurra was enabled before, puts back
        that call's `strict`.

    Raises:
        ImportError: if Keras or the framework that it is to run on is missing, or Keras is older
            than Keras 3.

    Example:
        >>> import recurra
        >>> with recurra.enable():
        ...     import keras
        ...
        ...     layer = keras.layers.LSTM(4)
        >>> type(layer).__module__
        'recurra.layers.lstm'
    """
    global _replacement
    with _lock:
        from recurra.layers import usage

        before = usage.is_strict() if is_enabled() else None
        if _replacement is None:
            from recurra.accelerate import namespaces

            replacement = namespaces.Replacement(namespaces.pairs())
            replacement.make()
            _replacement = replacement
            _log.warning("%s", replacement.describe())
        _set_strict(strict)
        return Enabled(before)


def disable() -> None:
    """Put Keras's own recurrent layers back wherever `enable` had replaced them.

    Layers made meanwhile stay Recurra's, as do names that other modules imported meanwhile. Does
    nothing if Recurra is not enabled.

    Example:
        >>> import recurra
        >>> recurra.disable()
    """
    global _replacement
    with _lock:
        if _replacement is None:
            return
        _set_strict(False)
        _replacement.undo()
        _replacement = None


def is_enabled() -> bool:
    """Whether Recurra's layers stand in the places of Keras's."""
    return _replacement is not None


def _set_strict(strict: bool) -> None:
    from recurra.layers import usage

    usage.strict(strict)
