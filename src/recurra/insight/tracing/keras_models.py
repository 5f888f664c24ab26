"""Tracing Keras models: one forward call, watched, and each layer's scan made anew in the open."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.src import backend
from keras.src.backend.common import global_state

from recurra.insight.structure import Node, Structure
from recurra.insight.structure.calls import CELL_STATES
from recurra.insight.structure.keras_models import execution_paths, structure_of_keras
from recurra.insight.tracing import keras_layers, keras_scans, names
from recurra.insight.tracing.described import described, in_order, names_of
from recurra.insight.tracing.keras_cells import to_numpy
from recurra.insight.tracing.recording import Recorded, Recording, recording
from recurra.insight.tracing.result import Array, LayerTrace, Trace
from recurra.insight.tracing.scan import Scan
from recurra.layers import checks


@dataclass(frozen=True)
class RootCall:
    """One call of an outermost recurrent layer or wrapper.

    Args:
        path: with its number, if it is not the layer's first call.
        own: the layer's path, without the number of the call.
        recorded: the layer, its arguments and its raw result.
        scans: what its cells were given.
    """

    path: str
    own: str
    recorded: Recorded
    scans: Sequence[Scan]

    @property
    def layer(self) -> Any:
        """The layer."""
        return self.recorded.layer

    @property
    def result(self) -> Any:
        """What the layer returned, in tensors of the host."""
        return self.recorded.result


@dataclass(frozen=True)
class Captured:
    """One forward call of a model.

    Args:
        x, mask, result: what it was given and what it gave, in tensors of the host.
        calls: of its outermost recurrent layers, in order.
        wanted: paths of the cells to show.
    """

    x: Any
    mask: Any
    result: Any
    calls: Sequence[RootCall]
    wanted: set[str]


def trace_keras(
    model: Any,
    x: Any,
    mask: Any = None,
    layers: Any = None,
    loss: Any = None,
    y: Any = None,
) -> Trace:
    """`recurra.trace` of a Keras model or layer."""
    with _unchanged(model):
        captured = capture(model, x, mask, layers)
        traces: dict[str, LayerTrace] = {}
        for call in captured.calls:
            found = [each for scan in call.scans for each in scan.traces()]
            if isinstance(call.layer, keras.layers.RNN):
                keras_scans.compare(found[-1], call.recorded)
            traces |= {
                each.path: each
                for each in found
                if call.own + each.path.removeprefix(call.path) in captured.wanted
            }
    value = None
    with _unchanged(model):  # anew: a stateful model starts from the same states once more
        if loss is not None or y is not None:
            from recurra.insight.tracing.gradients import loss_gradients

            value, gradients = loss_gradients(
                model, captured.x, captured.mask, loss, y, captured.calls
            )
            traces = {
                path: replace(layer, arrays={**layer.arrays, **gradients.get(path, {})})
                for path, layer in traces.items()
            }
        structure = described(model, lambda: structure_of_keras(model, captured.x))
    alone = [node.path for node in structure.nodes if _is_cell(node) and ":" not in node.path]
    if alone and layers is None:
        warnings.warn(
            f"{', '.join(map(repr, alone))}: a cell that is called step by step by the model's own "
            "code is not traced; a layer RNN(cell) would be.",
            stacklevel=3,
        )
    return Trace(
        layers=in_order(traces, structure),
        structure=structure,
        inputs=_named(captured.x, structure, "input"),
        outputs=_named(captured.result, structure, "output"),
        masks=_named(captured.mask, structure, "input"),
        loss=value,
    )


def _is_cell(node: Node) -> bool:
    return node.recurrent is None and node.class_name in CELL_STATES


def capture(model: Any, x: Any, mask: Any = None, layers: Any = None, prefix: str = "") -> Captured:
    """Run a model once, and keep what its recurrent layers were given.

    Args:
        model: a built model or layer.
        x, mask, layers: as for `recurra.trace`.
        prefix: in front of the paths.
    """
    if not model.built:
        raise ValueError(
            f"{model.name!r} is not built: it has no weights yet that could be traced. Call it "
            "once on data, or load its weights, before you trace it."
        )
    roots = keras_layers.roots_of(model)
    leaves = {id(root): keras_layers.leaves_of(path, root) for path, root in roots}
    wanted = keras_layers.wanted_of(layers, [leaf for each in leaves.values() for leaf in each])
    watched = {
        id(root): (path, root)
        for path, root in roots
        if any(leaf in wanted for leaf, _ in leaves[id(root)])
    }
    tensors = tree.map_structure(_tensor, _arrays(x, model))
    masks = None if mask is None else tree.map_structure(_mask_tensor, _arrays(mask, model))
    watch = Recording([root for _, root in watched.values()], before=keras_scans.before)
    with recording(watch):
        result = call_model(model, tensors, masks)
    own = {key: path for key, (path, _) in watched.items()}
    paths = _paths_of_calls(model, tensors, [call.layer for call in watch.calls], roots)
    calls = [
        RootCall(
            prefix + path,
            prefix + own[id(call.layer)],
            call,
            keras_scans.scans_of_call(prefix + path, call),
        )
        for path, call in zip(paths, watch.calls, strict=True)
    ]
    return Captured(tensors, masks, result, calls, wanted)


def _paths_of_calls(
    model: Any, x: Any, called: Sequence[Any], roots: Sequence[tuple[str, Any]]
) -> list[str]:
    """The path of each call, numbered where a layer is called again.

    Args:
        model, x: what ran.
        called: the layer of each call, in the order of running.
        roots: the layers' paths.
    """
    own = {id(root): path for path, root in roots}
    counts: dict[int, int] = {}
    for layer in called:
        counts[id(layer)] = counts.get(id(layer), 0) + 1
    numbered = {
        key: [own[key] if i == 0 else f"{own[key]}:{i + 1}" for i in range(count)]
        for key, count in counts.items()
    }
    if any(count > 1 for count in counts.values()) or any(":" in path for path in own.values()):
        # Keras may run calls in another order than they are written in, which is what counts.
        with contextlib.suppress(Exception):
            for key, paths in execution_paths(model, x).items():
                same = key in own and all(names.plain(p) == names.plain(own[key]) for p in paths)
                if same and len(paths) == counts.get(key):
                    numbered[key] = list(paths)
    return [numbered[id(layer)].pop(0) for layer in called]


# --- What goes in ---


def _arrays(x: Any, model: Any) -> Any:
    """x with arrays in place of Python lists of numbers."""
    if checks.nested_numbers(x):
        return checks.array_from_numbers(x, model.name)
    if isinstance(x, Mapping):
        return {name: _arrays(each, model) for name, each in x.items()}
    if type(x) in (list, tuple):
        return type(x)(_arrays(each, model) for each in x)
    return x


def _tensor(value: Any) -> Any:
    if value is None or backend.is_tensor(value):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        return array  # text, for layers that read it
    if array.dtype == np.float64:  # NumPy's own, not a choice
        array = array.astype(keras.config.floatx())
    return ops.convert_to_tensor(array)


def _mask_tensor(mask: Any) -> Any:
    return None if mask is None else ops.cast(ops.convert_to_tensor(mask), "bool")


def call_model(model: Any, x: Any, mask: Any) -> Any:
    """Run a model as `recurra.trace` does.

    Args:
        model: a built model or layer.
        x, mask: tensors, nested as the model takes them; `Captured` has them.
    """
    with _plainly(model), _masked(model, x, mask) as arguments:
        return model(x, **arguments, training=False)


@contextlib.contextmanager
def _masked(model: Any, x: Any, mask: Any) -> Iterator[dict[str, Any]]:
    """Hand a mask to a model: as an argument if it takes one, else on the tensors themselves."""
    if mask is None or model._call_has_mask_arg:
        yield {} if mask is None else {"mask": mask}
        return
    tensors = tree.flatten(x)
    before = [backend.get_keras_mask(tensor) for tensor in tensors]
    try:
        for tensor, each in zip(tensors, tree.flatten(mask), strict=True):
            backend.set_keras_mask(tensor, each)
        yield {}
    finally:
        for tensor, each in zip(tensors, before, strict=True):
            backend.set_keras_mask(tensor, each)


@contextlib.contextmanager
def _plainly(model: Any) -> Iterator[None]:
    """Without rematerialization, which computes the same inside of a compiled function."""
    modes = [(each, each._remat_mode) for each in model._flatten_layers() if each._remat_mode]
    try:
        for layer, _ in modes:
            layer._remat_mode = None
        yield
    finally:
        for layer, mode in modes:
            layer._remat_mode = mode


_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Put back what running a model changes: states, seeds, counters.

    One thread at a time: another one's trace would begin with states that this one has moved on,
    and put those back. Models may share layers, so a lock for each would not do.
    """
    with _one_at_a_time:
        kept = _kept(model)
        try:
            yield
        finally:
            for variable, value in kept:
                now = np.asarray(ops.convert_to_numpy(variable.value))
                if now.tobytes() != value.tobytes():
                    variable.assign(value)


def _kept(model: Any) -> list[tuple[Any, Array]]:
    """The variables that running a model may change, with what they hold now."""
    variables = []
    for layer in model._flatten_layers():
        # Not those of `non_trainable_variables`: frozen weights are among them, and may be large.
        variables += layer._non_trainable_variables
        variables += [each.state for each in getattr(layer, "_seed_generators", ())]
        variables += tree.flatten(getattr(layer, "states", None))
    shared = global_state.get_global_attribute("global_seed_generator")
    variables += [] if shared is None else [shared.state]
    kept = {
        id(v): (v, np.array(ops.convert_to_numpy(v.value)))
        for v in variables
        if hasattr(v, "assign")
    }
    return [*kept.values()]


# --- Names of inputs and outputs ---


def _named(values: Any, structure: Structure, kind: str) -> dict[str, Array]:
    """Tensors by name, as arrays; None is left out.

    The names are a dict's keys, or those of the layers that make the tensors.

    Args:
        values: nested as the model has them.
        structure: the model's.
        kind: "input" or "output".
    """
    paths = tree.flatten_with_path(values) if values is not None else []
    keyed = any(isinstance(step, str) for path, _ in paths for step in path)
    listed = ["/".join(map(str, path)) for path, _ in paths]
    if not keyed:
        listed = names_of(structure, kind, len(paths))
    return {
        name: to_numpy(value)
        for name, (_, value) in zip(listed, paths, strict=True)
        if value is not None
    }
