"""Saved files that stock Keras and Recurra both read.

A Recurra layer is written under the name of the stock class ("keras.layers", "LSTM"), so stock
Keras loads the file without Recurra. Reading goes by that name too, hence to the stock class;
inside `recurra_classes()` it goes to Recurra's. Copies and pickles, which Keras makes of the same
files, stay what they are copies of.
"""

from __future__ import annotations

import contextlib
import copyreg
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.src import api_export
from keras.src.backend.common import global_state
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving.keras_saveable import KerasSaveable

from recurra.layers import legacy

_names: dict[str, type] = {}  # Recurra's classes by the names under which Keras looks classes up

# Who wants names of stock classes read as Recurra's, and what to put back after the last of them.
_lock = threading.RLock()
_wanted = 0
_stock: dict[str, type] = {}


def register(cls: type) -> type:
    """Have instances of `cls` written as instances of the stock class of the same name.

    A class decorator. The stock class keeps the name for reading.

    Args:
        cls: a subclass of `keras.layers.<the same name>`.
    """
    name = api_export.get_name_from_symbol(getattr(keras.layers, cls.__name__))
    api_export.REGISTERED_OBJS_TO_NAMES[cls] = name
    _names[name] = cls
    return cls


def custom_objects() -> dict[str, type]:
    """Recurra's classes by the stock class's name, for Keras functions that ask for such a dict.

    Enough for legacy .h5 files and configurations, which name a class without its module. For
    .keras files, whose built-in classes Keras does not look up there, use
    `recurra.models.load_model` or `recurra_classes`.

    Example:
        >>> model = keras.models.load_model("model.h5", custom_objects=custom_objects())
    """
    return {cls.__name__: cls for cls in _names.values()}


def want_names() -> None:
    """Have names of stock classes read as Recurra's until as many calls of `release_names`.

    Whoever reads models and whoever replaces classes for longer come and go in any order, and in
    several threads: only the first of them changes Keras's table, and only the last puts it back.
    """
    global _wanted
    with _lock:
        if _wanted == 0:
            table = api_export.REGISTERED_NAMES_TO_OBJS
            _stock.update((name, table[name]) for name in _names)
            table.update(_names)
        _wanted += 1


def release_names() -> None:
    """Undo one call of `want_names`. A name that has been given another class keeps that."""
    global _wanted
    with _lock:
        _wanted -= 1
        if _wanted == 0:
            table = api_export.REGISTERED_NAMES_TO_OBJS
            table.update(
                (name, cls) for name, cls in _stock.items() if table.get(name) is _names[name]
            )
            _stock.clear()


@contextlib.contextmanager
def recurra_classes(first: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Inside this context, Keras reads its recurrent layers' names as Recurra's classes.

    For anything that builds layers from configurations: keras.models.load_model, model_from_json,
    clone_model, from_config. Not for building layers by calling their classes.

    Args:
        first: custom objects by name that go before Recurra's classes.

    The mapping is Keras's own table, which all threads share: other threads that read models at the
    same moment get Recurra's classes too.

    Example:
        >>> with recurra_classes():
        ...     model = keras.models.model_from_json(text)
    """
    want_names()
    try:
        # Legacy .h5 files name a class without its module. Scopes do not nest: the inner one
        # alone counts, so it holds the outer one's names too.
        outer = global_state.get_global_attribute("custom_objects_scope_dict", {})
        names = {**custom_objects(), **outer, **(first or {})}
        with keras.saving.custom_object_scope(names):
            yield
    finally:
        release_names()


def reading_as_recurra() -> bool:
    """Whether names of stock classes are read as Recurra's just now."""
    return all(api_export.REGISTERED_NAMES_TO_OBJS[name] is cls for name, cls in _names.items())


def unpickle(pickled: Any) -> Any:
    """The layer or model in what Keras's `__reduce__` wrote, with Recurra's recurrent layers.

    Args:
        pickled: a binary file object.
    """
    with recurra_classes():
        return KerasSaveable._unpickle_model(pickled)


def copies_as_recurra(cls: type, holds: Callable[[Any], bool]) -> None:
    """Have copy and pickle restore Keras's `cls` by `unpickle` where it holds Recurra's layers.

    Args:
        cls: a class of Keras's; its subclasses are not meant.
        holds: tells whether an instance holds layers of Recurra's.
    """

    def reduce(value: Any) -> Any:
        function, arguments = value.__reduce__()
        return (unpickle if holds(value) else function), arguments

    copyreg.pickle(cls, reduce)


def load_model(
    filepath: Any,
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """`keras.models.load_model` with Recurra's layers in place of Keras's recurrent layers.

    Reads files saved by stock Keras and by Recurra alike, and .h5 files of Keras 1 and 2, with
    the arguments that Keras 3 no longer takes and the layers CuDNNLSTM and CuDNNGRU.

    Args:
        filepath: a .keras or .h5 file, as str or path.
        custom_objects, compile, safe_mode: as for keras.models.load_model. A recurrent class that
            custom_objects names is used instead of Recurra's.

    Returns:
        The model.

    Raises:
        ValueError: as keras.models.load_model does.

    Example:
        >>> model = load_model("forecaster.keras")
    """
    options = {"custom_objects": custom_objects, "compile": compile, "safe_mode": safe_mode}
    if str(filepath).endswith((".h5", ".hdf5")):
        named = {**legacy.function_names(), **(custom_objects or {})}
        old = legacy.translated(filepath)
        if old is not None:
            with old, recurra_classes(named):
                return legacy_h5_format.load_model_from_hdf5(old, **options)
        with recurra_classes(named):
            return keras.models.load_model(filepath, **options)
    with recurra_classes(custom_objects):
        return keras.models.load_model(filepath, **options)
