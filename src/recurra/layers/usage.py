"""Who ran on what: a record of the recurrent layers' calls, and strict mode.

    usage.record(layer, choice)        # by a layer, in every call, before it computes
    with usage.watch() as record:      # by whoever wants a report
        ...
        print(record.rows())

Nobody watches by default; then a call costs one comparison. Strict mode (`strict(True)`) makes a
fallback to Keras's scan an error, for every layer that was not built with engine="keras".
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from recurra.engine import Choice

_strict = False
_refusal: str | None = None
_watching: tuple[Record, ...] = ()
_active = False  # `_strict or _watching`: the one thing that an unwatched call looks at


@dataclass(frozen=True)
class Row:
    """What one layer did, on one engine, for one reason.

    name, layer: the layer's name, behind those of the wrappers that hold it, and its class's.
    calls: how often its `call` ran; inside a compiled function that is once per compilation.
    engine: as in `recurra.engine.Choice`: "keras" is Keras's own scan, all others are Recurra's.
    reason, advice: why, and which argument to change to get the engine ("" if there is none).
    """

    name: str
    layer: str
    calls: int
    engine: str
    reason: str
    advice: str


@dataclass
class _Entry:
    layer: weakref.ref[Any]
    name: str
    kind: str
    calls: dict[Choice, int] = field(default_factory=dict)


class Record:
    """The calls since `watch` began. Holds no layer alive."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._by_id: dict[int, _Entry] = {}
        self._lock = threading.Lock()

    def add(self, layer: Any, choice: Choice) -> None:
        """Count one call."""
        with self._lock:
            entry = self._by_id.get(id(layer))
            if entry is None or entry.layer() is not layer:  # ids are given again
                entry = _Entry(weakref.ref(layer), _path(layer), _kind(layer))
                self._by_id[id(layer)] = entry
                self._entries.append(entry)
            entry.calls[choice] = entry.calls.get(choice, 0) + 1

    def rows(self) -> list[Row]:
        """A row per layer and choice, in the order of the layers' first calls."""
        with self._lock:
            return [
                Row(entry.name, entry.kind, calls, choice.engine, *split_reason(choice.reason))
                for entry in self._entries
                for choice, calls in entry.calls.items()
            ]


def record(layer: Any, choice: Choice) -> None:
    """Note that a layer is about to compute; in strict mode, refuse a fallback.

    Args:
        layer: the layer that is called (for layers that a wrapper runs itself: the wrapper).
        choice: the engine that this call uses. Its reason reads "why" or "why; what to change".

    Raises:
        ValueError: in strict mode, for choice.engine == "keras" unless the layer's own `engine`
            argument asked for that.
    """
    if _active:
        _record(layer, choice)


def _record(layer: Any, choice: Choice) -> None:
    for each in _watching:
        each.add(layer, choice)
    if _strict and choice.engine == "keras" and getattr(layer, "engine", "auto") != "keras":
        reason, advice = split_reason(choice.reason)
        ways = [advice] if advice else []
        if hasattr(layer, "engine"):
            ways.append("build the layer with engine='keras' to allow it")
        ways.append("leave strict mode (recurra.enable(strict=False), or no --strict)")
        change = ", or ".join(ways)
        global _refusal
        _refusal = (
            f"Layer {_path(layer)!r} ({_kind(layer)}) would run on Keras's own scan, which strict "
            f"mode forbids: {reason}. {change[0].upper()}{change[1:]}."
        )
        raise ValueError(_refusal)


def refusal() -> str | None:
    """What strict mode said last: Keras buries it in a report of the call's arguments."""
    return _refusal


def split_reason(reason: str) -> tuple[str, str]:
    """A choice's reason as (why, what to change); the second may be empty.

    Example:
        >>> split_reason("use_cudnn=True asks for cuDNN; leave use_cudnn at 'auto'")
        ('use_cudnn=True asks for cuDNN', "leave use_cudnn at 'auto'")
    """
    why, _, advice = reason.rstrip(".").partition("; ")
    return why, advice


def tell_held(wrapper: Any) -> None:
    """Have the layers that a wrapper holds be shown under its name, as in "bi/forward_lstm"."""
    for holder in ("forward_layer", "backward_layer", "layer"):
        held = getattr(wrapper, holder, None)
        if held is not None and hasattr(held, "name"):
            held._recurra_holder = _path(wrapper)
            tell_held(held)


def _path(layer: Any) -> str:
    holder = getattr(layer, "_recurra_holder", None)
    return layer.name if holder is None else f"{holder}/{layer.name}"


def _kind(layer: Any) -> str:
    """The class, with what it holds: "Bidirectional(LSTM)", "RNN(LSTMCell, GRUCell)"."""
    name = type(layer).__name__
    for holder in ("forward_layer", "cell", "layer"):
        inner = getattr(layer, holder, None)
        if inner is None or (holder == "cell" and _is_plain(layer, inner)):
            continue
        cells = getattr(inner, "cells", None) or [inner]
        names = [_kind(each) if holder != "cell" else type(each).__name__ for each in cells]
        return f"{name}({', '.join(names)})"
    return name


def _is_plain(layer: Any, cell: Any) -> bool:
    """Whether the class already tells the cell, as LSTM tells LSTMCell."""
    return any(type(cell).__name__ == f"{cls.__name__}Cell" for cls in type(layer).__mro__)


def is_strict() -> bool:
    """Whether a fallback is an error now."""
    return _strict


def strict(on: bool) -> None:
    """Turn strict mode on or off, for all threads."""
    global _strict
    _strict = bool(on)
    _refresh()


@contextlib.contextmanager
def watch() -> Iterator[Record]:
    """Record all layers' calls, in all threads, until the end of the context.

    Example:
        >>> with watch() as seen:
        ...     model.predict(x)
        >>> seen.rows()
    """
    global _watching
    mine = Record()
    _watching = (*_watching, mine)
    _refresh()
    try:
        yield mine
    finally:
        _watching = tuple(each for each in _watching if each is not mine)
        _refresh()


def _refresh() -> None:
    global _active
    _active = _strict or bool(_watching)
