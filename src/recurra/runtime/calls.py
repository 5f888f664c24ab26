"""Calls of layers, as either version of Keras writes them into a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurra.runtime.create import Description
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.layers.config import shown

MOST_LAYERS = 20_000
"""Layers of all nested models together, and calls of layers."""

DEEPEST = 40
"""Models inside of each other."""

_LARGEST_CONSTANT = 10_000_000


class Reference(NamedTuple):
    """A result of a call: of which layer, its which call, and which of its outputs."""

    layer: str
    call: int
    output: int


class Invocation(NamedTuple):
    """A call of a layer; References stand for tensors, nested as Keras's arguments are."""

    arguments: Sequence[Any]
    keywords: Mapping[str, Any]


def references(value: Any) -> Iterator[Reference]:
    """All references in a nested structure, dicts in the order of their keys."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from references(value[key])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from references(each)


def read_calls(value: Any, found: Description, where: str) -> list[Invocation]:
    """The calls of a layer, as either version of Keras writes them."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or len(value) > MOST_LAYERS:
        raise ModelFileError(
            f"'{where}/{found.name}': inbound_nodes is {shown(value)}; expected a list of calls."
        )
    place = f"{where}/{found.name}"
    calls = []
    for node in value:
        if isinstance(node, Mapping):
            arguments = revive(node.get("args", []), place)
            keywords = revive(node.get("kwargs", {}), place)
            if not isinstance(arguments, (list, tuple)) or not isinstance(keywords, dict):
                raise ModelFileError(f"'{place}': a call is {shown(node)}; expected args, kwargs.")
            calls.append(Invocation(arguments, keywords))
        elif isinstance(node, (list, tuple)):
            calls.append(_old_invocation(node, place))
        else:
            raise ModelFileError(f"'{place}': a call is {shown(node)}; expected args and kwargs.")
    return calls


def _old_invocation(node: Sequence[Any], place: str) -> Invocation:
    """A call in Keras 2: [[layer, call, output, keywords], ...]; its keywords are the first's."""
    if node and isinstance(node[0], str):
        node = [node]  # a single tensor, as some versions wrote it
    tensors: list[Any] = []
    keywords: dict[str, Any] = {}
    for index, item in enumerate(node):
        if not isinstance(item, (list, tuple)) or len(item) not in (3, 4):
            raise ModelFileError(f"'{place}': a call is {shown(node)}; expected its tensors.")
        tensors.append(read_reference(item[:3], place))
        if len(item) == 4 and isinstance(item[3], Mapping) and (index == 0 or not keywords):
            keywords = {key: _old_keyword(value, place) for key, value in item[3].items()}
    return Invocation([tensors[0] if len(tensors) == 1 else tensors], keywords)


def _old_keyword(value: Any, place: str) -> Any:
    """A keyword's value in Keras 2: tensors are [layer, call, output], also in lists."""
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return read_reference(value, place)
        return [_old_keyword(each, place) for each in value]
    return value


def revive(value: Any, place: str, depth: int = 0) -> Any:
    """An argument as Keras 3 writes it: tensors become References, constants arrays."""
    if depth > DEEPEST:
        raise ModelFileError(f"'{place}': a call's arguments are nested too deep.")
    if isinstance(value, (list, tuple)):
        return [revive(each, place, depth + 1) for each in value]
    if not isinstance(value, Mapping):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if not isinstance(kind, str) or "config" not in value:
        return {str(key): revive(each, place, depth + 1) for key, each in value.items()}
    if not isinstance(config, Mapping):
        config = {}
    if kind == "__keras_tensor__":
        return read_reference(config.get("keras_history"), place)
    if kind == "__slice__":
        parts = [config.get(name) for name in ("start", "stop", "step")]
        if not all(part is None or isinstance(part, int) for part in parts):
            raise ModelFileError(f"'{place}': a slice has parts {shown(parts)}.")
        return slice(*parts)
    if kind == "__ellipsis__":
        return Ellipsis
    if kind in ("__tensor__", "__numpy__"):
        return _constant(config, place)
    raise UnsupportedLayerError(
        f"Layer '{place}': an argument of its call is a {kind}, which the runtime does not read."
    )


def _constant(config: Mapping[str, Any], place: str) -> Any:
    try:
        array = np.asarray(config.get("value"))
    except (ValueError, OverflowError) as error:
        raise ModelFileError(f"'{place}': a constant is no array: {error}.") from None
    if array.dtype.kind not in "fiub" or array.size > _LARGEST_CONSTANT:
        raise ModelFileError(f"'{place}': a constant is {shown(config)}; expected numbers.")
    dtype = str(config.get("dtype"))
    if dtype.startswith(("float", "bfloat")):
        return array.astype(np.float32)
    return array


def read_reference(value: Any, place: str) -> Reference:
    """A tensor as configurations name it: [layer, call, output]."""
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 3
        or not isinstance(value[0], str)
        or not all(isinstance(n, int) and 0 <= n <= MOST_LAYERS for n in value[1:])
    ):
        raise ModelFileError(
            f"'{place}': a tensor is given as {shown(value)}; expected a layer's name, the number "
            "of its call and of its output."
        )
    return Reference(*value)
