"""Keras models of every kind as calls: functional, Sequential, nested, with shared layers."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree

from recurra.insight.structure.calls import Call, Value, assemble
from recurra.insight.structure.keras_layers import (
    config_of,
    is_recurrent,
    parameters_of,
    recurrent_of,
)
from recurra.insight.structure.keras_masks import masks_of
from recurra.insight.structure.model import Structure
from recurra.insight.structure.telling import plain_value, written_key


def structure_of_keras(model: Any) -> Structure:
    """The structure of a Keras model or of a single layer."""
    reader = Reader()
    if not isinstance(model, keras.Model):
        return _single_layer(model, reader)
    graph = graph_of(model)
    if graph is None:
        raise ValueError(_unbuilt(model))
    reader.name_layers(graph, "")
    values = {id(t): Value(t.name, tuple(t.shape), _dtype(t)) for t in graph.inputs}
    inputs = [values[id(t)] for t in graph.inputs]
    reader.graph(graph, values, "")
    kind = "Sequential" if isinstance(model, keras.Sequential) else "Functional"
    outputs = [values[id(t)] for t in graph.outputs]
    return assemble(model.name, kind, reader.calls, inputs, outputs, gaps=reader.gaps)


def graph_of(model: Any) -> Any:
    """The functional model that a functional or Sequential model is; None if there is none."""
    if isinstance(model, keras.Sequential):
        return model._functional if model.built else None
    from keras.src.models.functional import Functional

    return model if isinstance(model, Functional) else None


def _unbuilt(model: Any) -> str:
    if isinstance(model, keras.Sequential):
        return (
            f"The Sequential model {model.name!r} is not built yet, so that the shapes in it are "
            "not known. Put keras.Input(shape) in front of its layers, as in "
            "keras.Sequential([keras.Input((None, 8)), ...]), or call model.build((None, None, 8))."
        )
    return f"The structure of the model {model.name!r} ({type(model).__name__}) is not known."


def _single_layer(layer: Any, reader: Reader) -> Structure:
    shape = _built_shape(layer)
    x = Value("input", shape)
    call = reader.call(layer, layer.name, [x])
    call.outputs = [Value(layer.name, s) for s in _output_shapes(layer, shape)]
    reader.calls.append(call)
    return assemble(layer.name, "Layer", reader.calls, [x], call.outputs)


def _built_shape(layer: Any) -> tuple[int | None, ...] | None:
    known = getattr(layer, "_build_shapes_dict", None) or {}
    for shape in known.values():
        if isinstance(shape, (tuple, list)) and all(n is None or isinstance(n, int) for n in shape):
            steps = None if is_recurrent(layer) and len(shape) == 3 else shape[1]
            return (None, steps, *shape[2:])
    return (None, None, None) if is_recurrent(layer) else None


def _output_shapes(layer: Any, shape: Any) -> list[Any]:
    try:
        with keras.StatelessScope():
            made = layer.compute_output_shape(shape)
    except Exception:
        return [None]
    if made and all(n is None or isinstance(n, int) for n in made):
        return [tuple(made)]
    flat: list[Any] = []

    def collect(each: Any) -> None:
        if isinstance(each, Mapping):
            for key in sorted(each):
                collect(each[key])
        elif all(n is None or isinstance(n, int) for n in each):
            flat.append(tuple(each))
        else:
            for inner in each:
                collect(inner)

    collect(made)
    return flat


class Reader:
    """Lists calls; one for a whole model with all that is nested in it.

    Attributes:
        calls, gaps: what was found so far.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gaps: list[str] = []
        self._paths: dict[int, str] = {}

    def name_layers(self, graph: Any, prefix: str) -> None:
        """Give every layer under a model its path; a shared one is where it stands first."""
        for operation in graph.operations:
            self._paths.setdefault(id(operation), prefix + operation.name)
            inner = graph_of(operation) if isinstance(operation, keras.Model) else None
            if inner is not None:
                self.name_layers(inner, f"{self._paths[id(operation)]}/")

    def graph(self, graph: Any, values: dict[int, Value], prefix: str) -> None:
        """List the calls of a functional model.

        Args:
            graph: the model.
            values: its input tensors by id; its other tensors are added.
            prefix: of paths.
        """
        for node in ordered(graph):
            self.node(node, values, prefix)

    def node(self, node: Any, values: dict[int, Value], prefix: str) -> None:
        """List one call of a functional model, or all that are in it."""
        operation = node.operation
        arguments = _bound(operation, node.arguments.args, node.arguments.kwargs)
        path = self._paths.setdefault(id(operation), prefix + operation.name)
        inner = graph_of(operation) if isinstance(operation, keras.Model) else None
        if inner is not None:
            given = [values[id(t)] for t in _in_order(inner, next(iter(arguments.values())))]
            own = {id(t): value for t, value in zip(inner.inputs, given, strict=True)}
            self.graph(inner, own, f"{path}/")
            for outside, inside in zip(node.outputs, inner.outputs, strict=True):
                value = values[id(outside)] = own[id(inside)]
                value.shape = tuple(outside.shape)
            return
        groups = {name: _tensors(value) for name, value in arguments.items()}
        found = {name: [values[id(t)] for t in group] for name, group in groups.items() if group}
        call = self.call(operation, path, [])
        if call.operation:
            call.inputs = [v for group in found.values() for v in group]
            call.config |= _constants(operation, arguments)
        else:
            first = next(iter(arguments), "")
            call.inputs = found.pop(first, [])
            if call.recurrent is not None:
                call.states = found.pop("initial_state", [])
            call.others = found
        call.outputs = [Value(path, tuple(t.shape), _dtype(t)) for t in node.outputs]
        values |= {id(t): v for t, v in zip(node.outputs, call.outputs, strict=True)}
        masks_of(operation, call)
        self.calls.append(call)

    def call(self, layer: Any, path: str, inputs: list[Value]) -> Call:
        """A call of a layer or operation, as far as the layer alone tells."""
        operation = not isinstance(layer, keras.Layer)
        call = Call(id(layer), path, type(layer).__name__, inputs, [], operation=operation)
        if not operation:
            call.parameters = parameters_of(layer)
            call.config = config_of(layer)
            call.recurrent = recurrent_of(layer) if is_recurrent(layer) else None
        return call


def ordered(graph: Any) -> list[Any]:
    """The calls of a functional model so that each comes after those it needs.

    Among those that could come next, the one of the layer that stands first in the model does, as
    in a loaded model: so both number the calls of a shared layer alike.
    """
    nodes = [node for at in graph._nodes_by_depth.values() for node in at if not node.is_input]
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


def _bound(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
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


def _tensors(value: Any) -> list[Any]:
    return [each for each in tree.flatten(value) if isinstance(each, keras.KerasTensor)]


def _in_order(inner: Any, given: Any) -> list[Any]:
    """The tensors that a nested model is called on, in the order of its inputs."""
    if isinstance(given, Mapping) and not isinstance(inner._inputs_struct, Mapping):
        return [given[t.name] for t in inner.inputs]
    return _tensors(given)


def _constants(operation: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
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
        elif isinstance(value, (int, float, str, bool, list, tuple)) and not _tensors(value):
            plain = plain_value(value)
            told |= {} if plain is None else {name: plain}
    return told


def _dtype(tensor: Any) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)
