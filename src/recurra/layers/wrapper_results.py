"""What layers of several kinds return: named tuples with errors that say what is in them.

As `recurra.layers.outputs` does for the cells' layers; the fields of Bidirectional's results depend
on the layers inside.
"""

from __future__ import annotations

import functools
import sys
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recurra import hosts
from recurra.layers import unpack
from recurra.layers.outputs import describe_attribute, shape_text


@dataclass(frozen=True)
class Contents:
    """What a layer's result consists of, for its named tuple and for errors.

    layer: what the layer is, as in "Bidirectional(LSTM)".
    fields: (name, meaning) of every result.
    advice: what to change to get other results, one sentence.
    """

    layer: str
    fields: tuple[tuple[str, str], ...]
    advice: str

    def result_class(self) -> Any:
        """The class of the named tuple: called with the values, one by one."""
        return _class(self)

    def named(self, values: Iterable[Any]) -> Any:
        """The values as a tuple with names."""
        return _class(self)(*values)

    def describe_unpacking(self, count: int, values: Sequence[Any]) -> str:
        """The message for `count` names on the left of a layer that returns `values`."""
        number = len(self.fields)
        left = "1 name" if count == 1 else f"{count} names"
        returned = "1 output" if number == 1 else f"{number} outputs"
        names = [name for name, _ in self.fields]
        shapes = [shape_text(value) for value in values]
        widths = max(map(len, names)), max(map(len, shapes))
        lines = [f"{left} on the left, but this {self.layer} returns {returned}:"]
        lines += [
            f"  {name:{widths[0]}}  {shape:{widths[1]}}  {meaning}"
            for (name, meaning), shape in zip(self.fields, shapes, strict=True)
        ]
        rest = "" if number == 1 else f" or `{names[0]}, *rest = layer(x)`"
        return "\n".join([*lines, f"Write `{', '.join(names)} = layer(x)`{rest}. {self.advice}"])


def _restore(contents: Contents, values: tuple[Any, ...]) -> Any:
    return contents.named(values)


# Functions of the module, not closures: torch.compile can read these.
def _iterate(self: Any) -> Iterator[Any]:
    if hosts.is_traced():
        return tuple.__iter__(self)
    count = unpack.names_being_unpacked(sys._getframe(1))
    if count is not None and count != len(self):
        values = [self[index] for index in range(len(self))]
        raise ValueError(type(self)._contents.describe_unpacking(count, values))
    return tuple.__iter__(self)


def _no_attribute(self: Any, name: str) -> Any:
    raise AttributeError(describe_attribute(type(self), type(self)._contents.layer, name))


def _reduce(self: Any) -> Any:
    return _restore, (type(self)._contents, tuple(self))


@functools.lru_cache(maxsize=256)
def _class(contents: Contents) -> type:
    names = [name for name, _ in contents.fields]
    title = f"{contents.layer.partition('(')[0]}Result"
    base = namedtuple(title, names)  # type: ignore[misc]
    return type(
        title,
        (base,),
        {
            "__slots__": (),
            "__module__": __name__,
            "__doc__": f"Outputs of a {contents.layer}: {', '.join(names)}.",
            "_contents": contents,
            "__iter__": _iterate,
            "__getattr__": _no_attribute,
            "__reduce__": _reduce,
        },
    )
