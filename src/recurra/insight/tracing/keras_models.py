"""Tracing Keras models: one forward call, watched, and each layer's scan made anew in the open."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.src import backend

from recurra.insight.tracing import names, scan
from recurra.insight.tracing.keras_cells import computing, rounded, to_numpy, traced_cells
from recurra.insight.tracing.recording import Recorded, Recording, recording
from recurra.insight.tracing.trace import Array, LayerTrace, Trace
from recurra.layers import checks


def trace_keras(model: Any, x: Any, mask: Any = None, layers: Sequence[Any] | None = None) -> Trace:
    """`recurra.trace` of a Keras model or layer."""
    if not model.built:
        raise ValueError(
            f"{model.name!r} is not built: it has no weights to trace yet. Call it once, "
            "model(x), or load its weights."
        )
    roots = roots_of(model)
    leaves = {path: leaf for root_path, root in roots for path, leaf in leaves_of(root_path, root)}
    wanted = _wanted(layers, leaves)
    watched = [
        (path, root)
        for path, root in roots
        if any(name in wanted for name, _ in leaves_of(path, root))
    ]
    tensors = tree.map_structure(_tensor, _arrays(x, model))
    masks = tree.map_structure(lambda m: None if m is None else np.asarray(m, bool), mask)
    found = Recording([root for _, root in watched], before=_before)
    paths = {id(root): path for path, root in watched}
    traces: dict[str, LayerTrace] = {}
    with _unchanged(model):
        with recording(found):
            result = _call(model, tensors, masks)
        counts: dict[str, int] = {}
        for call in found.calls:
            path = paths[id(call.layer)]
            counts[path] = counts.get(path, 0) + 1
            name = path if counts[path] == 1 else f"{path}:{counts[path]}"
            for each in _traces(name, call):
                if _plain(each.path) in wanted:
                    traces[each.path] = each
    return Trace(
        layers=traces,
        structure=_structure(model),
        inputs=_named(tensors, _input_names(model, tensors)),
        outputs=_named(result, _output_names(model, result)),
        masks={
            name: value
            for name, value in _named(masks, _input_names(model, tensors)).items()
            if value is not None
        },
    )


# --- Which layers there are ---


def roots_of(model: Any) -> list[tuple[str, Any]]:
    """The outermost recurrent layers and wrappers of a model, by path, each once."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def visit(layer: Any, path: str) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if _is_root(layer):
            key, count = path, 1
            while key in found:
                count += 1
                key = f"{path}#{count}"
            found[key] = layer
            return
        for each in _children(layer):
            visit(each, f"{path}/{each.name}" if path else each.name)

    visit(model, model.name if _is_root(model) else "")
    return list(found.items())


def leaves_of(path: str, root: Any) -> list[tuple[str, Any]]:
    """The layers with cells inside of an outermost one, by path; of a stack each cell's path."""
    if isinstance(root, keras.layers.Bidirectional):
        return [
            leaf
            for part in ("forward_layer", "backward_layer")
            for leaf in leaves_of(f"{path}/{part}", getattr(root, part))
        ]
    if isinstance(root, keras.layers.TimeDistributed):
        return _inner_leaves(f"{path}/layer", root.layer)
    stack = traced_stack(root)
    if len(stack) == 1:
        return [(path, root)]
    return [(f"{path}/cell_{index}", root) for index in range(len(stack))]


def traced_stack(layer: Any) -> list[Any]:
    """A recurrent layer's cells."""
    from recurra.layers.cells import cells_of

    return cells_of(layer)


def _inner_leaves(path: str, layer: Any) -> list[tuple[str, Any]]:
    if _is_root(layer):
        return leaves_of(path, layer)
    return [leaf for inner, root in roots_of(layer) for leaf in leaves_of(f"{path}/{inner}", root)]


def _is_root(layer: Any) -> bool:
    if isinstance(layer, keras.layers.TimeDistributed):
        return _is_root(layer.layer) or any(_is_root(v) for v in layer.layer._flatten_layers())
    return isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))


def _children(layer: Any) -> list[Any]:
    return list(layer.layers if isinstance(layer, keras.Model) else layer._layers)


def _wanted(layers: Sequence[Any] | None, leaves: Mapping[str, Any]) -> set[str]:
    """The paths that `layers=` asks for; all without."""
    if layers is None:
        return {*leaves}
    own = {path: leaf.name for path, leaf in leaves.items()}
    found: set[str] = set()
    for each in [layers] if isinstance(layers, (str, keras.Layer)) else layers:
        given = each.name if isinstance(each, keras.Layer) else str(each)
        if isinstance(each, keras.Layer) and any(leaf is each for leaf in leaves.values()):
            found |= {path for path, leaf in leaves.items() if leaf is each}
            continue
        matches = names.candidates(_plain(given), own)
        if not matches:
            names.resolve(given, own, "The model")
        found |= {*matches}
    return found


def _plain(path: str) -> str:
    """A path without the numbers of further calls."""
    return "/".join(part.partition(":")[0] for part in path.split("/"))


# --- Running it ---


def _arrays(x: Any, model: Any) -> Any:
    """x with arrays in place of Python lists of numbers."""
    if checks.nested_numbers(x):
        return checks.array_from_numbers(x, model.name)
    if isinstance(x, Mapping):
        return {name: _arrays(each, model) for name, each in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(_arrays(each, model) for each in x) if type(x) in (list, tuple) else x
    return x


def _tensor(value: Any) -> Any:
    if backend.is_tensor(value):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(keras.config.floatx()) if array.dtype == np.float64 else array
    return ops.convert_to_tensor(array)


def _call(model: Any, x: Any, mask: Any) -> Any:
    if mask is None:
        return model(x, training=False)
    if model._call_has_mask_arg:
        return model(x, mask=tree.map_structure(_mask_tensor, mask), training=False)
    for tensor, each in zip(tree.flatten(x), tree.flatten(mask), strict=True):
        backend.set_keras_mask(tensor, _mask_tensor(each))
    return model(x, training=False)


def _mask_tensor(mask: Any) -> Any:
    return None if mask is None else ops.convert_to_tensor(mask)


@contextlib.contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Put back what running a model changes: states, seeds, counters."""
    variables = {id(v): v for v in model.non_trainable_variables}
    for layer in [model, *model._flatten_layers()]:
        states = getattr(layer, "states", None)
        variables |= {id(v): v for v in tree.flatten(states) if hasattr(v, "assign")}
        for generator in getattr(layer, "_seed_generators", ()):
            variables[id(generator.state)] = generator.state
    before = [(v, np.array(ops.convert_to_numpy(v.value))) for v in variables.values()]
    try:
        yield
    finally:
        for variable, value in before:
            now = np.asarray(ops.convert_to_numpy(variable.value))
            if now.tobytes() != value.tobytes():
                variable.assign(value)


def _before(layer: Any, arguments: Mapping[str, Any]) -> list[Array] | None:
    """The states that a call of a stateful layer starts from."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return None
    states = layer.states if layer.stateful else None
    return None if states is None else [to_numpy(v.value) for v in tree.flatten(states)]


# --- From a call to its traces ---


def _traces(path: str, call: Recorded) -> list[LayerTrace]:
    first, *_ = call.arguments.values()
    given = call.arguments.get("initial_state")
    states = call.kept if given is None else [to_numpy(s) for s in tree.flatten(given)]
    mask = next((m for m in tree.flatten(call.arguments.get("mask")) if m is not None), None)
    keep = None if mask is None else to_numpy(mask).astype(bool)
    found = layer_traces(path, call.layer, to_numpy(first), states, keep)
    if isinstance(call.layer, keras.layers.RNN):
        _compare(found[-1], call)
    return found


def layer_traces(
    path: str, layer: Any, x: Array, states: Sequence[Array] | None, mask: Array | None
) -> list[LayerTrace]:
    """The traces of a layer that was given these arrays, from the first cell to the last.

    Args:
        path: the layer's.
        layer: a recurrent layer or a wrapper.
        x, mask: what it was given.
        states: to start from, flat; None for its own.
    """
    if isinstance(layer, keras.layers.TimeDistributed):
        return _distributed(path, layer, x, mask)
    if isinstance(layer, keras.layers.Bidirectional):
        parts = [(part, getattr(layer, part)) for part in ("forward_layer", "backward_layer")]
        halves: list[Sequence[Array] | None] = [None, None]
        if states is not None:
            half = len(states) - _state_count(parts[1][1], len(states))
            halves = [states[:half], states[half:]]
        return [
            each
            for (part, inner), own in zip(parts, halves, strict=True)
            for each in layer_traces(f"{path}/{part}", inner, x, own, mask)
        ]
    if mask is not None and mask.ndim == 3:
        mask = mask[:, :, 0]
    return scan.trace_cells(
        path,
        traced_cells(layer),
        rounded(x, layer.compute_dtype),
        None if states is None else [s.astype(computing(layer.compute_dtype)) for s in states],
        mask,
        go_backwards=layer.go_backwards,
    )


def _state_count(layer: Any, both: int) -> int:
    cells = traced_cells(layer) if isinstance(layer, keras.layers.RNN) else []
    return sum(cell.states for cell in cells) or both // 2


def _distributed(path: str, layer: Any, x: Array, mask: Array | None) -> list[LayerTrace]:
    """A layer for every item of a sequence of items: batch and items become one axis."""
    batch, items = x.shape[:2]
    folded = x.reshape(batch * items, *x.shape[2:])
    inner = None if mask is None else mask.reshape(batch * items, *mask.shape[2:])
    if isinstance(layer.layer, (keras.layers.RNN, keras.layers.Bidirectional)) or _is_root(
        layer.layer
    ):
        if inner is not None and not isinstance(layer.layer, keras.layers.TimeDistributed):
            inner = np.broadcast_to(inner.reshape(len(inner), -1), folded.shape[:2]).copy()
        return layer_traces(f"{path}/layer", layer.layer, folded, None, inner)
    found = trace_keras(
        layer.layer, folded, inner if inner is not None and inner.ndim > 1 else None
    )
    return [
        dataclasses.replace(each, path=f"{path}/layer/{name}")
        for name, each in found.layers.items()
    ]


def _compare(trace: LayerTrace, call: Recorded) -> None:
    """Warn where a layer gave something else than its trace: it does more than run its cell."""
    layer = call.layer
    first = call.result[0] if isinstance(call.result, (tuple, list)) else call.result
    given = to_numpy(first)
    hidden = trace.arrays["hidden_state"]
    if not hidden.shape[1]:
        return
    if layer.return_sequences:
        expected = hidden[:, ::-1] if trace.go_backwards else hidden
        if trace.mask is not None:
            keep = trace.mask[:, ::-1] if trace.go_backwards else trace.mask
            expected, given = (
                expected[keep],
                given[keep] if given.shape == expected.shape else given,
            )
    else:
        expected = hidden[:, 0 if trace.go_backwards else -1]
        if trace.mask is not None:
            real = trace.mask.any(axis=1)
            expected, given = expected[real], given[real]
    if given.shape == expected.shape:
        close = 0.1 if layer.compute_dtype in ("float16", "bfloat16") else 1e-2
        scale = max(1.0, float(np.max(np.abs(given), initial=0.0)))
        difference = float(np.max(np.abs(given - expected), initial=0.0))
        if difference <= close * scale:
            return
    warnings.warn(
        f"Layer {trace.path!r} ({type(layer).__name__}) did not return what its cell computes from "
        "its input: its class changes the input or the output, or drops out. Its trace shows the "
        "cell, on the input that the layer was given.",
        stacklevel=2,
    )


# --- Names ---


def _structure(model: Any) -> Any:
    from recurra.insight import structure

    make: Callable[[Any], Any] | None = getattr(structure, "structure_of", None)
    if make is None:
        return structure.Structure(model.name, type(model).__name__, (), (), (), ())
    return make(model)


def _input_names(model: Any, x: Any) -> list[str]:
    if isinstance(x, Mapping):
        return list(x)
    count = len(tree.flatten(x))
    return _keras_names(getattr(model, "_inputs", None), count) or _numbered("input", count)


def _output_names(model: Any, y: Any) -> list[str]:
    if isinstance(y, Mapping):
        return list(y)
    count = len(tree.flatten(y))
    return _keras_names(getattr(model, "_outputs", None), count) or _numbered("output", count)


def _numbered(name: str, count: int) -> list[str]:
    return [name if count == 1 else f"{name}_{index}" for index in range(count)]


def _keras_names(tensors: Any, count: int) -> list[str]:
    """Names of the layers that make a functional model's tensors, each once."""
    made: list[str] = []
    for tensor in tensors or ():
        history = getattr(tensor, "_keras_history", None)
        if history is None:
            return []
        name, number = history.operation.name, 1
        while name in made:
            number += 1
            name = f"{history.operation.name}:{number}"
        made.append(name)
    return made if len(made) == count else []


def _named(values: Any, listed: Sequence[str]) -> dict[str, Any]:
    flat = list(values.values()) if isinstance(values, Mapping) else tree.flatten(values)
    return {
        name: None if value is None else to_numpy(value)
        for name, value in zip(listed, flat, strict=False)
    }
