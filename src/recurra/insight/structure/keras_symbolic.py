"""The inside of a layer or model whose call is Python: followed by calling it on symbols.

Layers that are called on Keras's symbolic tensors write down each call, as in a functional model.
That leaves traces in the layers; they are taken out again, so that the model stays as it was.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import keras
from keras import tree
from keras.src.backend import get_keras_mask


class Followed(NamedTuple):
    """What a call on symbols gave.

    Args:
        outputs: tensors, flat.
        nodes: Keras's records of the calls that led to them, each behind those it needs; of what
            made the tensors that were given, none.
    """

    outputs: list[Any]
    nodes: list[Any]


def follow(layer: Any, arguments: Mapping[str, Any], known: Collection[int]) -> Followed:
    """Call a layer's `call` on symbolic tensors.

    Args:
        layer: a layer or model, built.
        arguments: of the call, by name.
        known: ids of tensors to which the way is followed back.

    Raises:
        Exception: whatever the layer's code raises where it cannot work on symbols.
    """
    arguments = _with_context(layer, arguments)
    given = _tensors(arguments)
    inner = list(layer._flatten_layers(include_self=True))
    _refuse_unbuilt(inner)
    bare = [t for t in given if not hasattr(t, "_keras_history")]
    makers = [t._keras_history.operation for t in given if hasattr(t, "_keras_history")]
    with _noting([*inner, *(each for each in makers if each is not None)]) as called:
        try:
            with keras.StatelessScope():
                made = layer.call(**arguments)
            outputs = [each for each in tree.flatten(made) if each is not None]
            if not all(isinstance(each, keras.KerasTensor) for each in outputs):
                raise TypeError("its results do not depend on its input")
            # Layers in the order in which they were called; operations where they are needed.
            roots = [t for node in called for t in node.outputs]
            found = _behind([*roots, *outputs], {*known, *(id(t) for t in given)})
            return Followed(outputs, found)
        finally:
            for tensor in bare:
                vars(tensor).pop("_keras_history", None)


class _Noted(list[Any]):
    """A layer's list of its calls, which notes those that are added."""

    def __init__(self, nodes: list[Any], log: list[Any]) -> None:
        super().__init__(nodes)
        self._log = log

    def append(self, node: Any) -> None:
        self._log.append(node)
        super().append(node)


@contextlib.contextmanager
def _noting(operations: list[Any]) -> Iterator[list[Any]]:
    """Note the calls of layers; afterwards they have the lists that they had before."""
    log: list[Any] = []
    before = {id(each): (each, each._inbound_nodes, each._outbound_nodes) for each in operations}
    try:
        for each, calls, users in before.values():
            vars(each).update(_inbound_nodes=_Noted(calls, log), _outbound_nodes=list(users))
        yield log
    finally:
        for each, calls, users in before.values():
            vars(each).update(_inbound_nodes=calls, _outbound_nodes=users)


def _with_context(layer: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with what `__call__` adds: the masks of a single tensor."""
    accepted = inspect.signature(layer.call).parameters
    named = dict(arguments)
    tensors = {name: value for name, value in named.items() if _tensors(value)}
    if "mask" in accepted and named.get("mask") is None and len(tensors) == 1:
        named["mask"] = tree.map_structure(get_keras_mask, next(iter(tensors.values())))
    if "training" in accepted:
        named["training"] = False
    return named


def _refuse_unbuilt(layers: list[Any]) -> None:
    """Calling a layer builds it, and this must not change the model."""
    for layer in layers:
        if not layer.built and type(layer).build is not keras.Layer.build:
            raise ValueError(f"its layer {layer.name!r} is not built")


def _behind(tensors: list[Any], known: set[int]) -> list[Any]:
    """The calls that tensors come from, back to known ones, each behind those it needs."""
    finished: dict[int, Any] = {}
    path: list[Any] = []

    def maker(tensor: Any) -> Any:
        history = getattr(tensor, "_keras_history", None)
        if id(tensor) in known or history is None or history.operation is None:
            return None
        made = history.operation._inbound_nodes
        return made[history.node_index] if history.node_index < len(made) else None

    for tensor in tensors:
        path.append((maker(tensor), None))
        while path:
            node, waiting = path.pop()
            if node is None or id(node) in finished:
                continue
            if waiting is None:
                waiting = [maker(each) for each in node.input_tensors]
            while waiting and (waiting[0] is None or id(waiting[0]) in finished):
                waiting.pop(0)
            if waiting:
                path += [(node, waiting), (waiting[0], None)]
            else:
                finished[id(node)] = node
    return list(finished.values())


def _tensors(value: Any) -> list[Any]:
    return [each for each in tree.flatten(value) if isinstance(each, keras.KerasTensor)]


# --- The inputs of a subclassed model ---


def symbols_for(model: Any, x: Any = None) -> list[dict[str, Any]]:
    """Symbolic arguments for a subclassed model, the likeliest first.

    Args:
        model: built.
        x: inputs as for `model(x)`: arrays, or a dict or tuple of the call's several arguments;
            None for what the model was built on.

    Returns:
        Ways to call it, each with a free batch and with the sizes that were seen.

    Raises:
        ValueError: if nothing says what its inputs are.
    """
    accepted = inspect.signature(model.call).parameters
    names = [name for name, each in accepted.items() if each.kind in _NAMED and name not in _OTHERS]
    first = names[0] if names else "inputs"
    ways: list[dict[str, Any]] = []
    if x is not None:
        specs = tree.map_structure(lambda a: _Spec(tuple(a.shape), _dtype_of(a)), _arrays(x))
        if isinstance(x, Mapping) and set(x) <= set(names):
            ways.append(dict(specs))
        ways.append({first: specs})
        if isinstance(x, (list, tuple)) and 1 < len(x) <= len(names):
            ways.append(dict(zip(names, specs, strict=False)))
    else:
        known = getattr(model, "_build_shapes_dict", None) or {}
        if not known:
            raise ValueError(
                f"Nothing says what the inputs of the model {model.name!r} are: call it once on "
                "data (model(x)), so that it is built, and ask again; or hand x in."
            )
        shape = _with_dtype(next(iter(known.values())))
        if len(known) > 1:
            given = [name.removesuffix("_shape") for name in known]
            ways.append({n: _with_dtype(s) for n, s in zip(given, known.values(), strict=True)})
        ways.append({first: shape})
        if isinstance(shape, _Spec) and len(names) > 1:
            # Keras keeps the first argument's shape only; the others' are often like it.
            ways.append(dict.fromkeys(names, shape))
    return [
        {name: _made(spec, free, name) for name, spec in way.items()}
        for way in ways
        for free in (True, False)
    ]


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

_OTHERS = ("training", "mask", "initial_state")


def _arrays(x: Any) -> Any:
    import numpy as np

    return tree.map_structure(lambda a: a if hasattr(a, "shape") else np.asarray(a), x)


def _dtype_of(array: Any) -> str:
    name = keras.backend.standardize_dtype(array.dtype)
    return "float32" if name == "float64" else "int32" if name == "int64" else name


class _Spec(NamedTuple):
    shape: tuple[Any, ...]
    dtype: str


def _with_dtype(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_dtype(each) for key, each in value.items()}
    if all(n is None or isinstance(n, int) for n in value):
        return _Spec(tuple(value), "float32")
    return [_with_dtype(each) for each in value]


def _made(specs: Any, free: bool, name: str = "") -> Any:
    if isinstance(specs, Mapping):
        return {key: _made(each, free, str(key)) for key, each in specs.items()}
    if isinstance(specs, _Spec):
        shape, dtype = specs
        whole = (None, *shape[1:]) if free else shape
        return keras.KerasTensor(whole, dtype=dtype, name=name or None)
    return [_made(each, free, f"{name}_{n}") for n, each in enumerate(specs)]
