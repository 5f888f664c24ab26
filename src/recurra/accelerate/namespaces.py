"""Where a class can be looked up, and putting another one there."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from recurra import layers
from recurra.engine import Choice
from recurra.layers import saving, usage
from recurra.layers.metaclass import LayerType

import keras  # isort: skip  -- after recurra.layers, which settles what Keras runs on
from keras.src.layers.rnn.rnn import RNN  # stays Keras's: nothing is replaced in Recurra

_KERAS = ("keras", "tensorflow.keras")
_LONGEST = 10_000  # of the tables in a program that are looked through


def pairs() -> dict[type, type]:
    """Recurra's classes by the stock classes that they stand for.

    Every class that `recurra.layers` defines under a name of `keras.layers`.

    Raises:
        ImportError: if Keras is not Keras 3.
    """
    if int(keras.__version__.partition(".")[0]) < 3:
        raise ImportError(
            f"Recurra's layers are Keras 3's, but this is Keras {keras.__version__}: "
            'pip install "keras>=3.15".'
        )
    found = {}
    for name, value in vars(layers).items():
        stock = vars(keras.layers).get(name)
        if isinstance(value, type) and isinstance(stock, type) and value is not stock:
            found[stock] = value
    return found


class Replacement:
    """One act of replacing, which can be undone."""

    def __init__(self, classes: dict[type, type]) -> None:
        self._classes = classes
        # By identity: not every class can be hashed.
        self._stocks = {id(stock): stock for stock in classes}
        # Where what was put: weakly, so that a module that is thrown away goes.
        self._places: list[tuple[weakref.ref[ModuleType], str, type]] = []
        self._undo: list[Callable[[], None]] = []
        self._users: list[str] = []
        self._left: list[str] = []

    def make(self) -> None:
        """Put Recurra's classes in place."""
        self._left = [_full_name(cls) for cls in self._users_subclasses()]
        for name, module in _modules():
            self._replace_in(name, module)
        # The table by which Keras finds the classes that files and configurations name.
        saving.want_names()
        self._undo.append(saving.release_names)
        for stock, ours in self._classes.items():
            self._undo.append(_answer_for(ours, stock))
        self._undo.append(_see_stock_calls())

    def undo(self) -> None:
        """Put back what was there. A place that has been given another value keeps that."""
        while self._undo:
            self._undo.pop()()
        stock_by_ours = {id(ours): stock for stock, ours in self._classes.items()}
        for reference, name, stock in self._places:
            module = reference()
            if module is not None and vars(module).get(name) is self._classes[stock]:
                vars(module)[name] = stock
        self._places.clear()
        # Modules of Keras's own that were first imported meanwhile.
        for name, module in _modules():
            if _is_kerass(name):
                for key, value in list(vars(module).items()):
                    if id(value) in stock_by_ours:
                        vars(module)[key] = stock_by_ours[id(value)]

    def describe(self) -> str:
        """One line: what was replaced, where, and what was not."""
        names = sorted(stock.__name__ for stock in self._classes)
        line = (
            f"Recurra is enabled: its {', '.join(names)} stand where Keras's were in keras.layers "
            "and tensorflow.keras, and are what saved models are read as"
        )
        if self._users:
            line += f"; so do these names, imported before: {_listed(self._users)}"
        if self._left:
            line += f". Still Keras's, because they were made before: {_listed(self._left)}"
        return line + "."

    def _replace_in(self, name: str, module: ModuleType) -> None:
        namespace = vars(module)
        ours = not _is_kerass(name)
        looked_through = ours and _is_users(module)
        for key, value in list(namespace.items()):
            stock = self._stock(value)
            if stock is not None:
                namespace[key] = self._classes[stock]
                self._places.append((weakref.ref(module), key, stock))
                if ours:
                    self._users.append(f"{name}.{key}")
            elif looked_through:
                self._left.extend(
                    f"{name}.{key}{inside}" for inside in _holds(value, name, self._stock)
                )

    def _stock(self, value: Any) -> type | None:
        """`value` if it is one of the stock classes."""
        return self._stocks.get(id(value))

    def _users_subclasses(self) -> list[type]:
        """Subclasses of stock classes that neither Keras nor Recurra has defined."""
        found: dict[type, None] = {}
        waiting = list(self._classes)
        while waiting:
            base: Any = waiting.pop()
            for cls in base.__subclasses__():
                if _is_recurras(cls):
                    continue
                waiting.append(cls)
                if cls.__module__.partition(".")[0] != "keras":
                    found[cls] = None
        return list(found)


# The stock class that a class stands for just now.
_stands_for: weakref.WeakKeyDictionary[Any, type] = weakref.WeakKeyDictionary()


class _StandIn(LayerType):
    """Metaclass: isinstance and issubclass as the stock class would answer.

    Keras's LSTM is an RNN; Recurra's LSTM is no subclass of Recurra's RNN, but of Keras's, and
    Keras's layers made before are instances of Keras's classes. A program that asks
    isinstance(layer, keras.layers.RNN) must hear what it hears without Recurra.
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        stock = _stands_for.get(cls)
        return super().__instancecheck__(instance) if stock is None else isinstance(instance, stock)

    def __subclasscheck__(cls, subclass: type) -> bool:
        stock = _stands_for.get(cls)
        return super().__subclasscheck__(subclass) if stock is None else issubclass(subclass, stock)


def _answer_for(ours: Any, stock: type) -> Callable[[], None]:
    """Have `ours` answer isinstance as `stock`; returns what ends that."""
    ours.__class__ = _StandIn
    _stands_for[ours] = stock

    def undo() -> None:
        _stands_for.pop(ours, None)
        ours.__class__ = LayerType

    return undo


def _see_stock_calls() -> Callable[[], None]:
    """Have the record see stock layers: strict mode and reports are about them too."""
    original = RNN.call  # which the `call` of every class of Keras's that scans ends in

    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_recurras(type(self)):
            usage.record(self, _stock_choice(type(self)))
        return original(self, *args, **kwargs)

    RNN.call = call

    def undo() -> None:
        if RNN.call is call:
            RNN.call = original

    return undo


def _is_recurras(cls: type) -> bool:
    """Whether a class is Recurra's or derived from one that is."""
    return any(base.__module__.partition(".")[0] == "recurra" for base in cls.__mro__)


def _stock_choice(cls: type) -> Choice:
    if cls.__module__.partition(".")[0] == "keras":
        reason = "it is a stock layer, made before Recurra was enabled; make it afterwards"
    else:
        reason = (
            f"{cls.__name__} was derived from a stock layer before Recurra was enabled; define it "
            "afterwards"
        )
    return Choice("keras", reason)


def _modules() -> Iterator[tuple[str, ModuleType]]:
    """All loaded modules but Recurra's own, each once."""
    seen = set()
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or name.partition(".")[0] == "recurra":
            continue
        if id(module) not in seen:
            seen.add(id(module))
            yield name, module


def _is_kerass(name: str) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in _KERAS)


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(
        os.path.realpath(paths[key]) + os.sep
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
    )


def _is_users(module: ModuleType) -> bool:
    """Whether a module is the program's, rather than an installed library's."""
    # Not by getattr: there are modules that load something when they are asked.
    file = vars(module).get("__file__")
    if not isinstance(file, str):
        return vars(module).get("__name__") == "__main__"
    return not os.path.realpath(file).startswith(_installed())


def _holds(value: Any, module: str, stock: Callable[[Any], Any]) -> Iterator[str]:
    """Where inside a global value of the program stock classes are kept, as text to go behind it.

    Nothing is replaced there: what such tables are for, only the program knows.
    """
    if isinstance(value, dict) and len(value) <= _LONGEST:
        yield from (f"[{key!r}]" for key, item in list(value.items()) if stock(item))
    elif isinstance(value, (list, tuple)) and len(value) <= _LONGEST:
        yield from (f"[{index}]" for index, item in enumerate(value) if stock(item))
    elif isinstance(value, (set, frozenset)) and len(value) <= _LONGEST:
        yield from (f" (holding {item.__name__})" for item in value if stock(item))
    elif isinstance(value, functools.partial):
        if stock(value.func):
            yield ".func"
    elif isinstance(value, FunctionType):
        if value.__module__ == module:
            kept = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
            yield from (f" (default {item.__name__})" for item in kept if stock(item))
    elif isinstance(value, type) and value.__module__ == module:
        for name, item in list(vars(value).items()):
            if stock(item):
                yield f".{name}"
            elif isinstance(item, FunctionType):
                yield from (f".{name}{inside}" for inside in _holds(item, module, stock))


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _listed(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
