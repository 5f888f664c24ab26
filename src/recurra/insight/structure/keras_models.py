"""Keras models of every kind as calls: functional, Sequential, nested, with shared layers."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree
from keras.src.models.functional import Functional

from recurra.insight.structure.calls import Call, Value, assemble
from recurra.insight.structure.keras_calls import (
    bound_arguments,
    constants,
    dtype_of,
    in_order,
    is_open,
    ordered,
    tensors_in,
)
from recurra.insight.structure.keras_layers import (
    config_of,
    holds_recurrent,
    is_recurrent,
    parameters_of,
    recurrent_of,
)
from recurra.insight.structure.keras_masks import masks_of
from recurra.insight.structure.keras_single import single_layer
from recurra.insight.structure.keras_symbolic import follow, symbols_for
from recurra.insight.structure.model import Structure


def structure_of_keras(model: Any, x: Any = None) -> Structure:
    """The structure of a Keras model or of a single layer.

    Args:
        model: see `recurra.insight.structure_of`.
        x: inputs, for models that do not say what they take.
    """
    return _read(model, x)[0]


def execution_paths(model: Any, x: Any = None) -> dict[int, list[str]]:
    """The paths of every layer's calls in the order in which Keras runs them.

    `Structure` numbers the calls of a shared layer as they were written down; a functional model
    may run them in another order.

    Args:
        model, x: as for `structure_of_keras`.

    Returns:
        By id of the layer: ["lstm:2", "lstm"]. Layers whose calls could not be followed are left
        out.
    """
    found: dict[int, list[str]] = {}
    for call in _read(model, x)[1]:
        if call.shown and isinstance(call.layer, int):
            found.setdefault(call.layer, []).append(call.path)
    return found


_one_at_a_time = threading.RLock()
"""Reading a model swaps its layers' records of their calls for a while (`follow`): another thread
would take those for the model's, and put them back."""


def _read(model: Any, x: Any) -> tuple[Structure, list[Call]]:
    with _one_at_a_time:
        return _read_alone(model, x)


def _read_alone(model: Any, x: Any) -> tuple[Structure, list[Call]]:
    reader = Reader()
    graph = graph_of(model) if isinstance(model, keras.Model) else None
    if graph is not None:
        reader.name_layers(graph, "")
        values = _inputs_of(graph)
        inputs = [values[id(t)] for t in graph.inputs]
        run = reader.graph(graph, values, "")
        kind = "Sequential" if isinstance(model, keras.Sequential) else "Functional"
        outputs = [values[id(t)] for t in graph.outputs]
        _tell_indices(inputs, reader.calls)
        made = assemble(model.name, kind, reader.calls, inputs, outputs, gaps=reader.gaps)
        return made, run
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"The Sequential model {model.name!r} is not built yet, so that the shapes in it are "
            "not known. Put keras.Input(shape) in front of its layers, as in "
            "keras.Sequential([keras.Input((None, 8)), ...]), or call model.build((None, None, 8))."
        )
    if not isinstance(model, keras.Model) and (is_recurrent(model) or not holds_recurrent(model)):
        return single_layer(model, reader), reader.calls
    return _python(model, x, reader)


def graph_of(model: Any) -> Any:
    """The functional model that a functional or Sequential model is; None if there is none."""
    if isinstance(model, keras.Sequential):
        plain = type(model).call is keras.Sequential.call
        return model._functional if model.built and plain else None
    plain = isinstance(model, Functional) and type(model).call is Functional.call
    return model if plain else None


def _python(model: Any, x: Any, reader: Reader) -> tuple[Structure, list[Call]]:
    """A model, or a layer of a user's, whose call is Python."""
    kind = "Model" if isinstance(model, keras.Model) else "Layer"
    problem: Exception | None = None
    for arguments in symbols_for(model, x):
        tensors = tensors_in(arguments)
        values = {id(t): Value(t.name, tuple(t.shape), dtype_of(t)) for t in tensors}
        inputs = list(values.values())
        try:
            outputs, run = reader.follow(model, arguments, values, "")
        except Exception as error:
            problem = problem or error
            continue
        _tell_indices(inputs, reader.calls)
        if x is None and len(arguments) > 1 and len(model._build_shapes_dict) == 1:
            first, *others = arguments
            reader.gaps.append(
                f"Nothing says which shapes {', '.join(others)} have that {model.name!r} takes: "
                f"they are taken to be like {first}. To know better, hand x in."
            )
        made = assemble(model.name, kind, reader.calls, inputs, outputs, gaps=reader.gaps)
        return made, run
    assert problem is not None
    reader.list_inside(model, "")
    reader.gaps.append(
        f"The call of {model.name!r} ({type(model).__name__}) could not be followed on symbolic "
        f"tensors ({_short(problem)}), so its layers are listed without the way of the data "
        "between them."
        + (" Inputs like those that it is called on may help: hand x in." if x is None else "")
    )
    return assemble(model.name, kind, reader.calls, [], [], gaps=reader.gaps), []


def _inputs_of(graph: Any) -> dict[int, Value]:
    """The inputs of a functional model, by the names that its data go by."""
    named = {}
    if isinstance(graph._inputs_struct, Mapping):
        named = {id(t): str(name) for name, t in graph._inputs_struct.items()}
    return {
        id(t): Value(
            named.get(id(t)) or t._keras_history.operation.name, tuple(t.shape), dtype_of(t)
        )
        for t in graph.inputs
    }


def _tell_indices(inputs: Sequence[Value], calls: Sequence[Call]) -> None:
    """Give inputs that are only looked up in embeddings an integer type, whatever they say."""
    for value in inputs:
        users = [call for call in calls if value in call.given() and not call.operation]
        if users and all(call.class_name == "Embedding" for call in users):
            value.dtype = value.dtype if "int" in value.dtype else "int32"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:150]}{'...' if len(text) > 150 else ''}"


class Reader:
    """Lists calls; one for a whole model with all that is nested in it.

    Attributes:
        calls, gaps: what was found so far.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gaps: list[str] = []
        self._paths: dict[int, str] = {}
        self._counted: set[int] = set()
        self._kept: list[Any] = []  # ids of what is here stay its own

    def name_layers(self, graph: Any, prefix: str) -> None:
        """Give every layer under a model its path; a shared one is where it stands first."""
        for operation in graph.operations:
            self._paths.setdefault(id(operation), prefix + operation.name)
            inner = graph_of(operation) if isinstance(operation, keras.Model) else None
            if inner is not None:
                self.name_layers(inner, f"{self._paths[id(operation)]}/")

    def graph(self, graph: Any, values: dict[int, Value], prefix: str) -> list[Call]:
        """List the calls of a functional model.

        Args:
            graph: the model.
            values: its input tensors by id; its other tensors are added.
            prefix: of paths.

        Returns:
            The calls in the order in which Keras runs them.
        """
        made = {id(node): self.node(node, values, prefix) for node in ordered(graph)}
        by_depth = graph._nodes_by_depth
        return [
            call
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            for call in made.get(id(node), ())
        ]

    def follow(
        self, layer: Any, arguments: Mapping[str, Any], values: dict[int, Value], path: str
    ) -> tuple[list[Value], list[Call]]:
        """List the calls inside of a layer whose `call` is Python.

        Args:
            layer: a subclassed model or a layer of the user's.
            arguments: of its call, symbolic.
            values: its tensors by id; those inside are added.
            path: of the layer.

        Returns:
            Its outputs, and the calls.

        Raises:
            Exception: whatever its code raises; nothing is listed then.
        """
        before = len(self.calls), len(self.gaps), dict(values)
        try:
            followed = follow(layer, arguments, values)
            self._kept.append(followed)
            prefix = f"{path}/" if path else ""
            self._name_operations(followed.nodes, prefix)
            run = [call for node in followed.nodes for call in self.node(node, values, prefix)]
            return [values[id(t)] for t in followed.outputs], run
        except Exception:
            del self.calls[before[0] :], self.gaps[before[1] :]
            values.clear()
            values |= before[2]
            raise

    def _name_operations(self, nodes: Sequence[Any], prefix: str) -> None:
        """Number operations anew: Keras counts on with every call."""
        count: dict[str, int] = {}
        for node in nodes:
            if not isinstance(node.operation, keras.Layer):
                name = re.sub(r"_\d+$", "", node.operation.name)
                count[name] = n = count.get(name, -1) + 1
                self._paths[id(node.operation)] = f"{prefix}{name}_{n}" if n else prefix + name

    def list_inside(self, layer: Any, prefix: str) -> list[Call]:
        """List the layers in a layer, without tensors."""
        listed: list[Call] = []
        for part in layer._flatten_layers(include_self=False, recursive=False):
            path = self._paths.setdefault(id(part), prefix + part.name)
            if is_recurrent(part) or not holds_recurrent(part):
                listed.append(self.call(part, path, []))
                self.calls.append(listed[-1])
            else:
                listed += self.list_inside(part, f"{path}/")
        return listed

    def node(self, node: Any, values: dict[int, Value], prefix: str) -> list[Call]:
        """List one call of a functional model, or all that are in it; in the order of running."""
        operation = node.operation
        arguments = bound_arguments(operation, node.arguments.args, node.arguments.kwargs)
        path = self._paths.setdefault(id(operation), prefix + operation.name)
        inner = graph_of(operation) if isinstance(operation, keras.Model) else None
        if inner is not None:
            given = [values[id(t)] for t in in_order(inner, next(iter(arguments.values())))]
            own = {id(t): value for t, value in zip(inner.inputs, given, strict=True)}
            run = self.graph(inner, own, f"{path}/")
            for outside, inside in zip(node.outputs, inner.outputs, strict=True):
                value = values[id(outside)] = own[id(inside)]
                value.shape = tuple(outside.shape)
            return run
        if is_open(operation):
            try:
                return self._open(node, arguments, values, path)
            except Exception as error:
                call = self._closed(node, arguments, values, path)
                inside = self.list_inside(operation, f"{path}/")
                call.parameters -= sum(each.parameters for each in inside)
                self.gaps.append(
                    f"The layer {path!r} ({type(operation).__name__}) could not be followed on "
                    f"symbolic tensors ({_short(error)}), so the layers inside of it are listed "
                    "without the way of the data between them."
                )
                return [call, *inside]
        return [self._closed(node, arguments, values, path)]

    def _open(
        self, node: Any, arguments: Mapping[str, Any], values: dict[int, Value], path: str
    ) -> list[Call]:
        """The calls inside of a layer of the user's."""
        layer = node.operation
        outputs, run = self.follow(layer, arguments, values, path)
        if len(outputs) != len(node.outputs):
            raise ValueError(f"{len(outputs)} results, not {len(node.outputs)} as before")
        for outside, value in zip(node.outputs, outputs, strict=True):
            values[id(outside)] = value
            value.shape = tuple(outside.shape)
        given = [values[id(t)] for t in tensors_in(next(iter(arguments.values())))]
        whole = Call(object(), path, type(layer).__name__, given, outputs, shown=False)
        masks_of(layer, whole)
        self.calls.append(whole)
        return run

    def _closed(
        self, node: Any, arguments: Mapping[str, Any], values: dict[int, Value], path: str
    ) -> Call:
        """A call of a layer or operation as one."""
        operation = node.operation
        groups = {name: tensors_in(value) for name, value in arguments.items()}
        for tensor in (t for group in groups.values() for t in group):
            if id(tensor) not in values:  # made outside of what is followed
                values[id(tensor)] = Value(tensor.name, tuple(tensor.shape), dtype_of(tensor))
        found = {name: [values[id(t)] for t in group] for name, group in groups.items() if group}
        call = self.call(operation, path, [])
        if call.operation:
            call.inputs = [v for group in found.values() for v in group]
            call.config |= constants(operation, arguments)
            call.parameters = self._own_parameters(arguments)
        else:
            first = next(iter(arguments), "")
            call.inputs = found.pop(first, [])
            if call.recurrent is not None:
                call.states = found.pop("initial_state", [])
            call.others = found
        call.outputs = [Value(path, tuple(t.shape), dtype_of(t)) for t in node.outputs]
        values |= {id(t): v for t, v in zip(node.outputs, call.outputs, strict=True)}
        masks_of(operation, call)
        self.calls.append(call)
        return call

    def _own_parameters(self, arguments: Mapping[str, Any]) -> int:
        """The sizes of variables that an operation gets, where they come for the first time.

        So the weights of a user's layer are counted where it uses them, as in x * self.scale.
        """
        new = {
            id(each): each
            for each in tree.flatten(dict(arguments))
            if isinstance(each, keras.Variable) and id(each) not in self._counted
        }
        self._counted |= new.keys()
        return sum(math.prod(each.shape) for each in new.values())

    def call(self, layer: Any, path: str, inputs: list[Value]) -> Call:
        """A call of a layer or operation, as far as the layer alone tells."""
        operation = not isinstance(layer, keras.Layer)
        call = Call(id(layer), path, type(layer).__name__, inputs, [], operation=operation)
        if not operation:
            call.parameters = parameters_of(layer)
            call.config = config_of(layer)
            call.recurrent = recurrent_of(layer) if is_recurrent(layer) else None
        return call
