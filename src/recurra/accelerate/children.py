"""Processes that a program starts by multiprocessing run on Recurra's layers as the program does.

A forked process is a copy of its parent. A spawned one starts anew, with what multiprocessing
sends it before it imports the program: a dict, in which an item of ours goes along that acts where
it is unpickled.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from recurra.accelerate import hook

_SPAWN = "multiprocessing.spawn"


class Children:
    """The processes that this one starts.

    Attributes:
        started: how many there have been.
    """

    def __init__(self, *, strict: bool) -> None:
        self.started = 0
        self._item = _Item(strict)

    def install(self) -> None:
        """Act when multiprocessing's module is imported, or now if it is already."""
        if _SPAWN in sys.modules:
            self._wrap()
        else:
            sys.meta_path.insert(0, hook.Imported(_SPAWN, self._wrap))

    def _wrap(self) -> None:
        spawn: Any = sys.modules[_SPAWN]
        original = spawn.get_preparation_data

        @functools.wraps(original)
        def get_preparation_data(*args: Any, **kwargs: Any) -> Any:
            data = original(*args, **kwargs)
            self.started += 1
            return {**data, "recurra": self._item}

        spawn.get_preparation_data = get_preparation_data


class _Item:
    """Unpickled, it calls `join`; the new process has no module search path of its parent's yet."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def __reduce__(self) -> Any:
        folder = str(Path(__file__).parents[2])
        code = (
            f"import sys; sys.path.append({folder!r}); "
            f"from recurra.accelerate.children import join; join({self._strict!r})"
        )
        return exec, (code, {})


def join(strict: bool) -> None:
    """In a new process, before it imports the program: do as `recurra run` does."""
    from recurra.accelerate.run import prepare

    prepare(strict)
