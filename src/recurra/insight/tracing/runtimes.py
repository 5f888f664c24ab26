"""Tracing loaded models, without Keras: the graph runs call by call, and each scan is kept."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.insight.tracing import names, scan
from recurra.insight.tracing.scan import Run, TracedCell, engine_run
from recurra.insight.tracing.trace import Array, LayerTrace, Trace
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
    leaves = dict(_graph_leaves(model.graph))
    wanted = _wanted(layers, leaves)
    traces: dict[str, LayerTrace] = {}
    counts: dict[str, int] = {}

    def watch(layer: Layer, call: Call) -> None:
        own = [path for path, _ in _leaves(layer.where, layer)]
        if not any(path in wanted for path in own):
            return
        counts[layer.where] = counts.get(layer.where, 0) + 1
        number = counts[layer.where]
        path = layer.where if number == 1 else f"{layer.where}:{number}"
        for each in _traces(path, layer, call):
            if each.path.replace(path, layer.where, 1) in wanted:
                traces[each.path] = each

    inputs, masks, outputs = model.watched(x, mask, watch)
    from recurra.insight import structure

    make = getattr(structure, "structure_of", None)
    return Trace(
        layers=traces,
        structure=make(model)
        if make
        else structure.Structure(model.name, "Runtime", (), (), (), ()),
        inputs=dict(zip((spec.name for spec in model.inputs), inputs, strict=True)),
        outputs=dict(zip((spec.name for spec in model.outputs), outputs, strict=True)),
        masks={
            spec.name: each
            for spec, each in zip(model.inputs, masks, strict=True)
            if each is not None
        },
    )


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
    if len(layer.cells) == 1:
        return [(path, layer.name)]
    return [(f"{path}/cell_{index}", layer.name) for index in range(len(layer.cells))]


def _wanted(layers: Sequence[str] | None, leaves: Mapping[str, str]) -> set[str]:
    if layers is None:
        return {*leaves}
    found: set[str] = set()
    for each in [layers] if isinstance(layers, str) else layers:
        matches = names.candidates(str(each), leaves)
        if not matches:
            names.resolve(str(each), leaves, "The model")
        found |= {*matches}
    return found


def _traces(path: str, layer: Layer, call: Call) -> list[LayerTrace]:
    if isinstance(layer, Bidirectional):
        sizes = [inner.state_sizes for _, inner in layer.directions]
        given = initial_states(layer, call, sizes[0] + sizes[1])
        halves = [given and given[: len(sizes[0])], given and given[len(sizes[0]) :]]
        return [
            each
            for (part, inner), own in zip(layer.directions, halves, strict=True)
            for each in _scanned(f"{path}/{part}", inner, call, own)
        ]
    if isinstance(layer, TimeDistributed):
        return _distributed(path, layer, call)
    assert isinstance(layer, Recurrent)
    return _scanned(path, layer, call, initial_states(layer, call, layer.state_sizes))


def _scanned(
    path: str, layer: Recurrent, call: Call, states: Sequence[Array] | None
) -> list[LayerTrace]:
    return scan.trace_cells(
        path,
        [_traced(layer, cell) for cell in layer.cells],
        np.asarray(call.inputs[0], np.float32),
        states,
        scan_mask(call),
        go_backwards=layer.go_backwards,
    )


def _distributed(path: str, layer: TimeDistributed, call: Call) -> list[LayerTrace]:
    x, mask = call.inputs[0], call.masks[0]
    rows = x.shape[0] * x.shape[1]
    inner = None
    if mask is not None and mask.ndim > 2:
        inner = mask.reshape(rows, *mask.shape[2:])
    folded = Call([x.reshape(rows, *x.shape[2:])], [inner])
    if not isinstance(layer.layer, ModelLayer):
        return _traces(f"{path}/layer", layer.layer, folded)
    found: list[LayerTrace] = []

    def watch(each: Layer, given: Call) -> None:
        if _leaves(each.where, each):
            found.extend(_traces(each.where, each, given))

    layer.layer.watched(folded, watch)
    return found


def _traced(layer: Recurrent, cell: Cell) -> TracedCell:
    run: Run
    if cell.config is None:
        run = _numpy_run(cell)
    else:
        config = dataclasses.replace(cell.config, go_backwards=False, zero_output_for_mask=False)
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
    return TracedCell(cell.kind, run, len(cell.spec.states), info)


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
