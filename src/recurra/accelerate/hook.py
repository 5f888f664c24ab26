"""Acting right after Keras has been imported, by whoever imports it.

A program may choose what Keras runs on by setting KERAS_BACKEND before it imports Keras, so
`recurra run` must not import Keras before the program does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class KerasImported(MetaPathFinder):
    """A finder that finds nothing itself: it wraps Keras's loader.

    Args:
        before: called before Keras's own code runs.
        after: called when Keras is complete, in the importing statement. What it raises is raised
            there.
        legacy: called when the legacy tf_keras package is imported.
    """

    def __init__(
        self,
        before: Callable[[], None],
        after: Callable[[], None],
        legacy: Callable[[], None],
    ) -> None:
        self._before, self._after, self._legacy = before, after, legacy
        self._searching = False

    def install(self) -> None:
        """Start watching; Keras must not be imported yet."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec that the other finders give for Keras, with its loader wrapped; else None."""
        if fullname not in ("keras", "tf_keras") or self._searching:
            return None
        self._searching = True
        try:
            spec = find_spec(fullname)
        finally:
            self._searching = False
        if spec is None or spec.loader is None:
            return None
        if fullname == "tf_keras":
            self._legacy()
        else:
            spec.loader = _Loader(spec.loader, self._before, self._after)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Any, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._loader, self._before, self._after = loader, before, after

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the wrapped loader does. Keras is not in sys.modules yet."""
        self._before()
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run Keras's code, then act."""
        # Whoever looks at the module later sees the loader that it would have had.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._after()


def choose_framework() -> str | None:
    """Just before Keras is imported: have it run on what is installed, if its choice is not.

    Keras takes TensorFlow if nobody chooses. What the program or the user has chosen is left alone,
    and so is Keras's own choice where it can run.

    Returns:
        What to tell the user; None if nothing was changed.
    """
    from recurra import hosts

    if os.environ.get("KERAS_BACKEND") or find_spec("tensorflow") is not None:
        return None
    hosts.prepare_keras()
    taken = os.environ.get("KERAS_BACKEND")
    if not taken:
        return None
    return f"KERAS_BACKEND is not set and TensorFlow is not installed, so Keras runs on {taken}."


class Imported(MetaPathFinder):
    """A finder that finds nothing itself: it has `after` called once a module is imported.

    Args:
        name: the module's.
        after: called when the module is complete, in the importing statement.
    """

    def __init__(self, name: str, after: Callable[[], None]) -> None:
        self._name, self._after = name, after
        self._searching = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with its loader wrapped; else None."""
        if fullname != self._name or self._searching:
            return None
        self._searching = True
        try:
            spec = find_spec(fullname)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, lambda: None, self._after)
        return spec
