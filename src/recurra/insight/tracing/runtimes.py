"""Tracing loaded models, without Keras: the graph runs call by call, and each scan is kept."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from recurra.insight.structure import Structure
from recurra.insight.structure.runtime import structure_of_runtime
from recurra.insight.tracing import names
from recurra.insight.tracing.described import described, in_order, names_of
from recurra.insight.tracing.result import Array, Trace
from recurra.insight.tracing.scan import Run, Scan, TracedCell, cell_paths, engine_run
from recurra.runtime.graph import Graph
from recurra.runtime.layer import Call, Layer
from recurra.runtime.layers.cells import Cell
from recurra.runtime.layers.model import ModelLayer
from recurra.runtime.layers.recurrent import Recurrent, initial_states, scan_mask
from recurra.runtime.layers.wrappers import Bidirectional, TimeDistributed


def trace_runtime(
    model: Any, x: Any, mask: Any = None, layers: Sequence[str] | None = None
) -> Trace:
    """`recurra.trace` of a `recurra.runtime.Runtime`."""
    wanted = names.wanted(layers, dict(_graph_leaves(model.graph)))
    watch = Watch(wanted=wanted)
    inputs, masks, outputs = model.watched(x, mask, watch)
    found = [each for one in watch.scans for each in one.traces()]
    structure = described(model, lambda: structure_of_runtime(model))
    traces = {each.path: each for each in found if names.plain(each.path) in wanted}
    listed = _names(model, structure, "input")
    return Trace(
        layers=in_order(traces, structure),
        structure=structure,
        inputs=dict(zip(listed, inputs, strict=True)),
        outputs=dict(zip(_names(model, structure, "output"), outputs, strict=True)),
        masks={n: each for n, each in zip(listed, masks, strict=True) if each is not None},
    )


def _names(model: Any, structure: Structure, kind: str) -> list[str]:
    """What the inputs or outputs are called: keys of a dict, or their layers."""
    nesting = model.nesting[0 if kind == "input" else 1]
    paths = dict(_paths(nesting, ()))
    if any(isinstance(step, str) for path in paths.values() for step in path):
        return ["/".join(map(str, paths[index])) for index in sorted(paths)]
    return names_of(structure, kind, len(paths))


def _paths(nesting: Any, path: tuple[Any, ...]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Where each of a model's inputs or outputs stands, by number."""
    if isinstance(nesting, int):
        yield nesting, path
        return
    items = nesting.items() if isinstance(nesting, Mapping) else enumerate(nesting)
    for key, each in items:
        yield from _paths(each, (*path, key))


def _graph_leaves(graph: Graph) -> list[tuple[str, str]]:
    return [leaf for node in graph.nodes for leaf in _leaves(node.layer.where, node.layer)]


def _leaves(path: str, layer: Layer) -> list[tuple[str, str]]:
    """Paths of the layers with cells inside of a layer, and those layers' own names."""
    if isinstance(layer, Bidirectional):
        return [
            leaf for part, inner in layer.directions for leaf in _leaves(f"{path}/{part}", inner)
        ]
    if isinstance(layer, TimeDistributed):
        if isinstance(layer.layer, ModelLayer):
            return _graph_leaves(layer.layer.graph)
        return _leaves(f"{path}/layer", layer.layer)
    if not isinstance(layer, Recurrent):
        return []
    return [(each, layer.name) for each in cell_paths(path, len(layer.cells))]


def _scans(path: str, layer: Layer, call: Call) -> list[Scan]:
    """What a layer's cells are given in a call."""
    if isinstance(layer, Bidirectional):
        sizes = [inner.state_sizes for _, inner in layer.directions]
        given = initial_states(layer, call, sizes[0] + sizes[1])
        halves = [given and given[: len(sizes[0])], given and given[len(sizes[0]) :]]
        return [
            _scan(f"{path}/{part}", inner, call, own)
            for (part, inner), own in zip(layer.directions, halves, strict=True)
        ]
    if isinstance(layer, TimeDistributed):
        return _distributed(path, layer, call)
    if isinstance(layer, Recurrent):
        return [_scan(path, layer, call, initial_states(layer, call, layer.state_sizes))]
    return []


def _scan(path: str, layer: Recurrent, call: Call, states: Sequence[Array] | None) -> Scan:
    return Scan(
        path,
        [_traced(layer, cell) for cell in layer.cells],
        np.asarray(call.inputs[0], np.float32),
        states,
        scan_mask(call),
        layer.go_backwards,
    )


def _distributed(path: str, layer: TimeDistributed, call: Call) -> list[Scan]:
    x, mask = call.inputs[0], call.masks[0]
    rows = x.shape[0] * x.shape[1]
    inner = None
    if mask is not None and mask.ndim > 2:
        inner = mask.reshape(rows, *mask.shape[2:])
    folded = Call([x.reshape(rows, *x.shape[2:])], [inner])
    if not isinstance(layer.layer, ModelLayer):
        return _scans(f"{path}/layer", layer.layer, folded)
    found = Watch(f"{path}/layer", layer.layer.where)
    layer.layer.watched(folded, found)
    return found.scans


class Watch:
    """Keeps what the recurrent layers of a graph are given while it runs.

    Args:
        path: of the graph, "" for the model itself; where: the same without numbers of calls.
        wanted: paths of cells, without numbers of calls; None for all.
    """

    def __init__(self, path: str = "", where: str = "", wanted: Collection[str] | None = None):
        self.scans: list[Scan] = []
        self._path, self._where, self._wanted = path, where, wanted
        self._counts: dict[str, int] = {}

    def __call__(self, layer: Layer, call: Call) -> None:
        """Keep a layer's call, if it is recurrent."""
        leaves = [path for path, _ in _leaves(layer.where, layer)]
        if not leaves or not (self._wanted is None or {*leaves} & {*self._wanted}):
            return
        number = self._counts[layer.where] = self._counts.get(layer.where, 0) + 1
        path = self._path + layer.where.removeprefix(self._where)
        self.scans += _scans(path if number == 1 else f"{path}:{number}", layer, call)


def _traced(layer: Recurrent, cell: Cell) -> TracedCell:
    config, run = cell.config, _numpy_run(cell)
    weights = {"kernel": cell.kernel, "recurrent_kernel": cell.recurrent_kernel, "bias": cell.bias}
    if config is not None:
        config = dataclasses.replace(config, go_backwards=False, zero_output_for_mask=False)
        run = engine_run(config, cell.kernel, cell.recurrent_kernel, cell.bias)
    functions = {"activation": cell.activation, "recurrent_activation": cell.recurrent_activation}
    info = {
        "class_name": layer.keras_class,
        "layer_name": layer.name,
        "cell_class": f"{cell.spec.layer}Cell",
        "units": cell.units,
        "features": int(cell.kernel.shape[0]),
        "activations": {gate.name: functions[gate.role].name for gate in cell.spec.gate_table},
        "options": cell.spec.choose(cell.reset_after),
        "dtype": "float32",
    }
    return TracedCell(cell.kind, run, len(cell.spec.states), info, config=config, weights=weights)


def _numpy_run(cell: Cell) -> Run:
    """The runtime's own scan, for activations that the engine does not have."""
    forwards = copy.copy(cell)
    forwards.go_backwards = forwards.zero_output_for_mask = False

    def run(x: Array, states: Sequence[Array] | None, mask: Array | None) -> dict[str, Array]:
        made = forwards.forward(x, states, mask, last_output=False, sequence=True, trace=True)
        try:
            next(made)
        except StopIteration as stop:
            found = stop.value
        spec = cell.spec
        return {n: found[n] for n in (*spec.trace_names, *spec.state_outputs, "sequence")}

    return run
