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
_open: list[Enabled] = []  # who wants Recurra's layers just now, in the order of their calls


class Enabled:
    """What `enable` returns: Recurra is enabled until the last of these has been left.

    Open from the call of `enable` until it is left as a context, or until `disable`, which closes
    all. Entering one that has been closed enables again.
    """

    def __init__(self, strict: bool) -> None:
        self._strict = bool(strict)
        self._depth = 0  # of `with` statements

    def __enter__(self) -> Enabled:
        with _lock:
            if not self._is_open():
                self._depth = 0
                self._begin()
            self._depth += 1
            _settle_strictness()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _lock:
            self._depth -= 1
            if self._depth > 0 or not self._is_open():
                return
            if len(_open) == 1:
                disable()
            else:
                _open[:] = [each for each in _open if each is not self]
                _settle_strictness()

    def _is_open(self) -> bool:
        return any(each is self for each in _open)

    def _begin(self) -> None:
        global _replacement
        if _replacement is None:
            from recurra.accelerate import namespaces

            replacement = namespaces.Replacement(namespaces.pairs())
            replacement.make()
            _replacement = replacement
            _log.warning("%s", replacement.describe())
        _open.append(self)
        _settle_strictness()

    def __repr__(self) -> str:
        state = "enabled" if is_enabled() else "not enabled"
        return f"<Recurra's layers are {state} in place of Keras's>"


def enable(strict: bool = False) -> Enabled:
    """Put Recurra's recurrent layers where Keras's are.

    Keras is imported if it is not yet, so set KERAS_BACKEND before. Best called before a program
    makes layers: layers that exist stay what they are, and so do subclasses of Keras's recurrent
    layers that were defined before (the line names them).

    While enabled, isinstance and issubclass answer for Recurra's classes as for the stock classes
    whose places they have taken. What Keras restores by names of classes becomes Recurra's, copies
    of stock models by copy.deepcopy and pickle too, and of stock layers by copy.deepcopy; pickle
    refuses a stock layer by itself, since its class is not where it was. keras.models.clone_model
    keeps a stock layer's class, except inside of wrappers.

    Calling it again replaces nothing more. A call whose result is not used as a context counts
    until `disable`, and the latest such call's `strict` counts. Contexts may overlap: Recurra stays
    enabled until all have been left, and strict while any of them is.

    Args:
        strict: whether a layer that would run on Keras's own scan raises ValueError, with the
            reason and the argument to change, instead of running there. Layers built with
            engine="keras" may.

    Returns:
        A context manager; leaving it disables again, unless another call of `enable` is still
        open.

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
    enabled = Enabled(strict)
    with _lock:
        enabled._begin()
    return enabled


def disable() -> None:
    """Put Keras's own recurrent layers back wherever `enable` had replaced them.

    Closes all open contexts of `enable`; leaving them afterwards does nothing. Layers made
    meanwhile stay Recurra's, as do names that other modules imported meanwhile. Does nothing if
    Recurra is not enabled.

    Example:
        >>> import recurra
        >>> recurra.disable()
    """
    global _replacement
    with _lock:
        _open.clear()
        if _replacement is None:
            return
        _settle_strictness()
        _replacement.undo()
        _replacement = None


def is_enabled() -> bool:
    """Whether Recurra's layers stand in the places of Keras's."""
    return _replacement is not None


def _settle_strictness() -> None:
    """Strict while any entered context is, or the latest call that nobody has entered."""
    from recurra.layers import usage

    called = [each for each in _open if each._depth <= 0]
    counting = [each for each in _open if each._depth > 0] + called[-1:]
    usage.strict(any(each._strict for each in counting))
