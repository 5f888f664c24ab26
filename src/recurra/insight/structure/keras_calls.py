"""Calls as Keras's functional models record them: their order, their arguments."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree

from recurra.insight.structure.keras_layers import holds_recurrent, is_recurrent
from recurra.insight.structure.telling import plain_value, written_key


def is_open(layer: Any) -> bool:
    """Whether a layer is code of a user's with recurrent layers inside."""
    return isinstance(layer, keras.Layer) and not is_recurrent(layer) and holds_recurrent(layer)


def ordered(graph: Any) -> list[Any]:
    """The calls of a functional model so that each comes after those it needs.

    Among those that could come next, the one of the layer that stands first in the model does, as
    in a loaded model: so both number the calls of a shared layer alike. (Keras's own order where
    that makes a difference for the masks.)
    """
    by_depth = graph._nodes_by_depth
    nodes = [n for at in sorted(by_depth, reverse=True) for n in by_depth[at] if not n.is_input]
    if _takes_masks(graph):
        return nodes
    position = {id(operation): index for index, operation in enumerate(graph.operations)}
    keys = {
        id(node): (position[id(node.operation)], node.operation._inbound_nodes.index(node))
        for node in nodes
    }
    known = {id(t) for t in graph.inputs}
    makers = {id(t): node for node in nodes for t in node.outputs if id(t) not in known}
    waiting: dict[int, int] = {}
    later: dict[int, list[Any]] = {}
    ready: list[Any] = []
    by_key = {keys[id(node)]: node for node in nodes}
    for node in nodes:
        wants = {id(makers[id(t)]) for t in node.input_tensors if id(t) in makers}
        waiting[id(node)] = len(wants)
        for want in wants:
            later.setdefault(want, []).append(node)
        if not wants:
            ready.append(keys[id(node)])
    heapq.heapify(ready)
    order = []
    while ready:
        node = by_key[heapq.heappop(ready)]
        order.append(node)
        for each in later.get(id(node), ()):
            waiting[id(each)] -= 1
            if not waiting[id(each)]:
                heapq.heappush(ready, keys[id(each)])
    return order


def _takes_masks(graph: Any) -> bool:
    """Whether the order matters, as it does with layers that take masks away."""
    return any(
        isinstance(each, keras.layers.MultiHeadAttention) for each in graph._flatten_layers()
    )


def bound_arguments(
    operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """A call's arguments by name."""
    try:
        signature = inspect.signature(operation.call)
        bound = signature.bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {**{f"argument_{n}": value for n, value in enumerate(args)}, **kwargs}
    found: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


def tensors_in(value: Any) -> list[Any]:
    return [each for each in tree.flatten(value) if isinstance(each, keras.KerasTensor)]


def in_order(inner: Any, given: Any) -> list[Any]:
    """The tensors that a nested model is called on, in the order of its inputs."""
    if isinstance(given, Mapping) and not isinstance(inner._inputs_struct, Mapping):
        return [given[t.name] for t in inner.inputs]
    return tensors_in(given)


def constants(operation: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What an operation is called with that is no tensor, and what it was made with."""
    told: dict[str, Any] = {}
    own = {
        name: value
        for name, value in vars(operation).items()
        if not name.startswith("_") and name not in ("name", "built", "dtype_policy")
    }
    for name, value in (own | dict(arguments)).items():
        if name == "key":
            written = written_key(value)
            told |= {} if written is None else {"key": written}
        elif isinstance(value, (int, float, str, bool, list, tuple)) and not tensors_in(value):
            plain = plain_value(value)
            if name == "axis" and isinstance(plain, list) and len(plain) == 1:
                plain = plain[0]
            told |= {} if plain is None else {name: plain}
    return told


def dtype_of(tensor: Any) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)
