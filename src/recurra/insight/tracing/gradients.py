"""The gradients of a loss by every traced layer's states, at every step.

A second forward call of the model adds zeros to what its recurrent layers return; the loss's
gradient by these zeros, which any host's autodiff gives, is what the layers' results cost. From
there each layer's way back through time is walked on NumPy arrays (`backward`), or, for cells that
the engine does not compute, step by step on the host (`step_backward`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops, tree
from keras.src import backend

from recurra import hosts
from recurra.insight.tracing import losses
from recurra.insight.tracing.backward import Pulled, scan_gradients
from recurra.insight.tracing.keras_cells import to_numpy
from recurra.insight.tracing.keras_layers import is_root
from recurra.insight.tracing.recording import Recording, recording
from recurra.insight.tracing.result import Array, LayerTrace
from recurra.insight.tracing.scan import Scan, TracedCell, state_names
from recurra.insight.tracing.step_backward import step_gradients

if TYPE_CHECKING:
    from recurra.insight.tracing.keras_models import RootCall

Gradients = dict[str, dict[str, Array]]
"""{path: {"dhidden_state": (batch, time_steps, units), "dcell_state": ...}}, in input order."""


def loss_gradients(
    model: Any, x: Any, mask: Any, loss: Any, y: Any, calls: Sequence[RootCall]
) -> tuple[float, Gradients]:
    """A loss, and its gradients by the states of traced layers.

    Args:
        model: a Keras model.
        x, mask: what it was traced on, in tensors of the host.
        loss: as `Model.compile` takes it, or a function of the outputs alone if y is None; None for
            the loss that the model was compiled with.
        y: the targets; None if the loss needs none.
        calls: of the model's outermost recurrent layers, in order.

    Returns:
        The loss and the gradients of all calls, by the paths of their cells.

    Raises:
        ValueError: if loss and y do not fit each other or the model's outputs, or the loss is no
            tensor.
    """
    from recurra.insight.tracing.keras_models import call_model

    evaluate = losses.evaluator(model, loss, y)

    def value_of(replaced: Recording) -> list[Any]:
        with backend.StatelessScope(), recording(replaced):
            outputs = call_model(model, x, mask)
        return [evaluate(outputs)]

    (value,), costs = _costs(value_of, calls, None)
    found: Gradients = {}
    for call, cost in zip(calls, costs, strict=True):
        found |= _gradients(cost, iter(call.scans))
    return float(to_numpy(value)), found


def _costs(
    function: Callable[[Recording], list[Any]],
    calls: Sequence[RootCall],
    cotangents: Sequence[Any] | None,
) -> tuple[list[Any], list[_Cost]]:
    """Gradients by the results of recorded calls.

    Args:
        function: runs what makes these calls while a recording is on; gives tensors.
        calls: in order.
        cotangents: of the function's results; None for ones.

    Returns:
        The function's results, and what the results of each call cost.
    """
    host = hosts.get(backend.backend())
    if host is None:
        raise NotImplementedError(
            f"Keras runs on {backend.backend()!r} here, which differentiates nothing. Set "
            "KERAS_BACKEND to jax, torch or tensorflow to trace gradients, or leave loss= and y= "
            "out."
        )
    places = [
        (number, index, tensor)
        for number, call in enumerate(calls)
        for index, tensor in enumerate(tree.flatten(call.result))
        if backend.is_float_dtype(backend.standardize_dtype(tensor.dtype))
    ]
    layers = list({id(call.layer): call.layer for call in calls}.values())

    def moved(changes: list[Any]) -> list[Any]:
        by_place = {
            (number, index): change
            for (number, index, _), change in zip(places, changes, strict=True)
        }

        def replace_result(number: int, layer: Any, result: Any) -> Any:
            flat = [
                tensor + by_place[number, index] if (number, index) in by_place else tensor
                for index, tensor in enumerate(tree.flatten(result))
            ]
            return tree.pack_sequence_as(result, flat)

        return function(Recording(layers, replace=replace_result))

    zeros = [ops.zeros(tuple(tensor.shape), dtype=tensor.dtype) for _, _, tensor in places]
    ones = [ops.ones((), dtype="float32")] if cotangents is None else list(cotangents)
    results, gradients = host.pullback(moved)(zeros, ones)
    flat = [[np.zeros(0) for _ in tree.flatten(call.result)] for call in calls]
    for (number, index, _), gradient in zip(places, gradients, strict=True):
        flat[number][index] = to_numpy(gradient)
    costs = []
    for call, arrays in zip(calls, flat, strict=True):
        first, *_ = call.recorded.arguments.values()
        mask = next(
            (m for m in tree.flatten(call.recorded.arguments.get("mask")) if m is not None), None
        )
        keep = None if mask is None else to_numpy(mask).astype(bool)
        results_cost = tree.pack_sequence_as(call.result, arrays)
        costs.append(_Cost(call.layer, to_numpy(first), keep, results_cost))
    return list(results), costs


# --- From what a layer's results cost to what its cells' results cost ---


@dataclass(frozen=True)
class _Cost:
    """What the results of one layer's call cost.

    layer: the layer.
    x, mask: what it was given.
    results: arrays, nested as its result.
    """

    layer: Any
    x: Array
    mask: Array | None
    results: Any

    @property
    def parts(self) -> list[Any]:
        """Its results, one by one."""
        if isinstance(self.results, (tuple, list)):
            return [self.results[index] for index in range(len(self.results))]
        return [self.results]


def _gradients(cost: _Cost, scans: Iterator[Scan]) -> Gradients:
    """The gradients by the states of all cells under a layer, whose scans come next."""
    layer = cost.layer
    if isinstance(layer, keras.layers.TimeDistributed):
        return _of_items(cost, scans)
    if isinstance(layer, keras.layers.Bidirectional):
        return _of_directions(cost, scans)
    if not isinstance(layer, keras.layers.RNN):
        return {}  # a layer of the user's in a Bidirectional
    return _of_cells(cost, next(scans))


def _of_cells(cost: _Cost, scan: Scan) -> Gradients:
    layer, (output, *rest) = cost.layer, cost.parts
    shown = rest.pop() if rest and isinstance(rest[-1], Mapping) else {}
    finals = tree.flatten(rest)
    traces = scan.traces()
    found: Gradients = {}
    above: Array | None = None  # what the sequence costs that the next cell reads
    for index in range(len(scan.cells) - 1, -1, -1):
        cell, trace, is_last = scan.cells[index], traces[index], above is None
        cotangents: dict[str, Array] = dict(shown) if is_last else {}
        if is_last:
            cotangents["sequence" if layer.return_sequences else "last_output"] = output
        elif above is not None:
            cotangents["sequence"] = above
        if finals:
            own = [finals.pop() for _ in range(cell.states)][::-1]
            cotangents |= dict(
                zip(state_names(cell.kind, cell.states, cell.final), own, strict=True)
            )
        pulled = _of_cell(
            cell,
            trace,
            cotangents,
            zero_output_for_mask=is_last and bool(layer.zero_output_for_mask),
            wants_dx=index > 0,
        )
        above = pulled.dx
        found[trace.path] = {
            f"d{name}": _turned(array, scan.go_backwards) for name, array in pulled.states.items()
        }
    return found


def _of_cell(
    cell: TracedCell,
    trace: LayerTrace,
    cotangents: dict[str, Array],
    *,
    zero_output_for_mask: bool,
    wants_dx: bool,
) -> Pulled:
    x = _turned(trace.arrays["input"], trace.go_backwards)
    mask = None if trace.mask is None else _turned(trace.mask, trace.go_backwards)
    states = [*trace.initial.values()] or None
    if cell.config is None:
        return step_gradients(
            cell,
            x=x,
            states=states,
            mask=mask,
            cotangents=cotangents,
            zero_output_for_mask=zero_output_for_mask,
        )
    weights: dict[str, Any] = dict(cell.weights)
    return scan_gradients(
        replace(cell.config, zero_output_for_mask=zero_output_for_mask),
        **weights,
        x=x,
        states=states,
        mask=mask,
        cotangents=cotangents,
        wants_dx=wants_dx,
    )


def _of_directions(cost: _Cost, scans: Iterator[Scan]) -> Gradients:
    """A Bidirectional's costs, taken apart into those of its two layers."""
    wrapper = cost.layer
    layers = (wrapper.forward_layer, wrapper.backward_layer)
    own: list[list[Scan]] = []
    for layer in layers:
        count = 1 if isinstance(layer, keras.layers.RNN) else 0
        own.append([next(scans) for _ in range(count)])
    outputs, rest = cost.parts[:1], cost.parts[1:]
    if wrapper.merge_mode is None:
        outputs, rest = cost.parts[:2], cost.parts[2:]
    elif wrapper.merge_mode == "mul" and not all(own):
        return {}  # what one direction costs depends on the other's output, which nobody has kept
    else:
        outputs = _unmerged(wrapper, outputs[0], own)
    if wrapper.return_sequences:
        outputs = [outputs[0], outputs[1][:, ::-1]]  # the wrapper turned it to the input's order
    first = _length_of_first(layers[0], rest, own[0])
    found: Gradients = {}
    for layer, output, states, scan in zip(
        layers, outputs, (rest[:first], rest[first:]), own, strict=True
    ):
        found |= _gradients(
            _Cost(layer, cost.x, cost.mask, [output, *states]),
            iter(scan),
        )
    return found


def _unmerged(wrapper: Any, cost: Array, scans: Sequence[Sequence[Scan]]) -> list[Array]:
    """What the two directions' outputs cost, as they are merged: both in the input's order."""
    if wrapper.merge_mode == "concat":
        widths = [each[0].traces()[-1].arrays["hidden_state"].shape[-1] for each in scans if each]
        first = widths[0] if scans[0] else cost.shape[-1] - sum(widths)
        return [cost[..., :first], cost[..., first:]]
    if wrapper.merge_mode == "mul":
        values = [_output(wrapper, layer_scans[0]) for layer_scans in scans]
        return [cost * values[1], cost * values[0]]
    share = cost / 2 if wrapper.merge_mode == "ave" else cost
    return [share, share]


def _output(wrapper: Any, scan: Scan) -> Array:
    """A direction's output, as it is merged with the other's."""
    top = scan.traces()[-1]
    sequence = top.arrays["hidden_state"]
    if wrapper.return_sequences:
        return sequence if top.mask is None else np.where(top.mask[..., np.newaxis], sequence, 0)
    last = sequence[:, 0] if scan.go_backwards else sequence[:, -1]
    return last if top.mask is None else np.where(np.any(top.mask, axis=1, keepdims=True), last, 0)


def _length_of_first(layer: Any, rest: Sequence[Any], scans: Sequence[Scan]) -> int:
    """How many of the results behind the outputs are the first layer's: its states, its trace."""
    if not scans:
        return len(rest) // 2
    tensors = sum(cell.states for cell in scans[0].cells)
    count = 0
    while count < len(rest) and tensors > 0:
        tensors -= len(tree.flatten(rest[count]))
        count += 1
    return count + bool(getattr(layer, "return_trace", False) and rest)


def _of_items(cost: _Cost, scans: Iterator[Scan]) -> Gradients:
    """A TimeDistributed's costs: batch and items become one axis, as in its trace."""
    inner = cost.layer.layer
    rows = cost.x.shape[0] * cost.x.shape[1]

    def fold(array: Array) -> Array:
        return array.reshape(rows, *array.shape[2:])

    results = tree.map_structure(fold, cost.results)
    x, mask = fold(cost.x), None if cost.mask is None else fold(cost.mask)
    if is_root(inner):
        return _gradients(_Cost(inner, x, mask, results), scans)
    from recurra.insight.tracing.keras_models import call_model, capture

    # A model or layer with recurrent layers somewhere inside: a model of its own, which costs what
    # the outer one says. Its scans have come along, in the order of its calls.
    given = mask if mask is not None and mask.ndim > 1 else None
    captured = capture(inner, x, given)

    def run(replaced: Recording) -> list[Any]:
        with backend.StatelessScope(), recording(replaced):
            return tree.flatten(call_model(inner, captured.x, captured.mask))

    dtypes = [tensor.dtype for tensor in tree.flatten(captured.result)]
    cotangents = [
        ops.convert_to_tensor(np.ascontiguousarray(array), dtype=dtype)
        for array, dtype in zip(tree.flatten(results), dtypes, strict=True)
    ]
    _, costs = _costs(run, captured.calls, cotangents)
    found: Gradients = {}
    for each in costs:
        found |= _gradients(each, scans)
    return found


def _turned(array: Array, go_backwards: bool) -> Array:
    """Between the input's order of steps and the order of processing."""
    return array[:, ::-1] if go_backwards else array
