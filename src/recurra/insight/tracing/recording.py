"""Watching a Keras model's layers while it runs, without changing the model.

For the duration of a forward call, each layer of interest has a `call` of its own that keeps what
the layer was given and what it gave. It stands on the layer object, in front of the class's method,
and goes away with the last recording. It records in the thread that asked for it, for that
recording alone: other threads' calls pass through.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recorded:
    """One call of a layer.

    Args:
        layer: the layer.
        arguments: by name, as the class's `call` names them.
        kept: what the recording's `before` gave.
        result: what the call returned.
    """

    layer: Any
    arguments: dict[str, Any]
    kept: Any
    result: Any


@dataclass
class Recording:
    """The calls of some layers in one thread, outermost ones only.

    Args:
        layers: the layers to watch.
        before: is given a layer and its arguments before the layer runs.
        replace: may put something in the place of a result, for gradients; is given the call's
            number, the layer and the result.
    """

    layers: Sequence[Any]
    before: Callable[[Any, dict[str, Any]], Any] = lambda layer, arguments: None
    replace: Callable[[int, Any, Any], Any] = lambda number, layer, result: result
    calls: list[Recorded] = field(default_factory=list)
    inside: bool = False

    def watches(self, layer: Any) -> bool:
        """Whether a call of a layer that begins now is to be recorded."""
        return not self.inside and any(each is layer for each in self.layers)

    def record(self, layer: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make a call and keep it."""
        arguments = dict(_signature(type(layer).call).bind(layer, *args, **kwargs).arguments)
        arguments.pop(next(iter(arguments)))  # self
        kept = self.before(layer, arguments)
        self.inside = True
        try:
            result = call(*args, **kwargs)
        finally:
            self.inside = False
        result = self.replace(len(self.calls), layer, result)
        self.calls.append(Recorded(layer, arguments, kept, result))
        return result


@functools.lru_cache(maxsize=256)
def _signature(call: Any) -> inspect.Signature:
    return inspect.signature(call)


_active: ContextVar[Recording | None] = ContextVar("recording", default=None)
_lock = threading.Lock()
_shadows: dict[int, tuple[int, Any, Any]] = {}  # by layer: how many need it, it, what was there


@contextlib.contextmanager
def recording(recording: Recording) -> Iterator[Recording]:
    """Watch layers until the block ends, by an error too."""
    installed = []
    token = _active.set(recording)
    try:
        for layer in recording.layers:
            _install(layer)
            installed.append(layer)
        yield recording
    finally:
        _active.reset(token)
        for layer in installed:
            _remove(layer)


def _install(layer: Any) -> None:
    with _lock:
        count, shadow, before = _shadows.get(id(layer), (0, None, None))
        if shadow is None:
            before = vars(layer).get("call")
            # Straight into __dict__: the frameworks' __setattr__ would track or refuse it.
            vars(layer)["call"] = shadow = _shadow(layer, layer.call)
        _shadows[id(layer)] = (count + 1, shadow, before)


def _remove(layer: Any) -> None:
    with _lock:
        count, shadow, before = _shadows.pop(id(layer))
        if count > 1:
            _shadows[id(layer)] = (count - 1, shadow, before)
        elif vars(layer).get("call") is shadow:
            if before is None:
                del vars(layer)["call"]
            else:
                vars(layer)["call"] = before


def _shadow(layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        present = _active.get()
        if present is None or not present.watches(layer):
            return original(*args, **kwargs)
        return present.record(layer, original, args, kwargs)

    return call
