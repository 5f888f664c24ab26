"""Cells over a sequence as ONNX's LSTM, GRU and RNN, masks included.

ONNX has no masks but `sequence_lens`: how many steps at the front of each row count. A mask may be
anything, so the steps that are kept are moved to the front (in their order), the operator runs over
these alone, and every step then reads the output that Keras has there: at a masked step the last
one before it. For masks of steps at the end, the common case, moving changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recurra import weights as layouts
from recurra.runtime.layers.cells import Cell
from recurra.runtime.layers.recurrent import Recurrent
from recurra.runtime.onnx.builder import Builder, Stored
from recurra.runtime.onnx.writers.activations import RECURRENT, recurrent_activation

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "RNN"}
"""ONNX's operators by the names of `recurra.cells`."""


class Lane(NamedTuple):
    """One direction of one operator.

    Args:
        layer: the recurrent layer that has the cell.
        cell: whose `go_backwards` says in which direction.
        start: its states (batch, units) before the first step, all or none.
        previous: what masked steps before the first kept one give; None for zeros.
        sequence: whether the outputs at all steps are wanted.
    """

    layer: Recurrent
    cell: Cell
    start: Sequence[str] | None
    previous: str | None
    sequence: bool


def alike(first: Cell, second: Cell) -> bool:
    """Whether two cells can be the two directions of one operator."""
    kinds = [(c.kind, c.units, c.reset_after, c.bias is None) for c in (first, second)]
    return kinds[0] == kinds[1]


class Outcome(NamedTuple):
    """What one direction gives.

    Args:
        sequence: (batch, time_steps, units), in the order of the input also if it goes backwards;
            None unless wanted.
        last: (batch, units).
        states: (batch, units) each.
    """

    sequence: str | None
    last: str
    states: Sequence[str]


class Kept(NamedTuple):
    """A mask, as the operators need it: names of tensors.

    Args:
        mask: (batch, time_steps), bool.
        order: (batch, time_steps, 1): the steps' numbers, kept ones first.
        number: (batch,), int32: how many are kept.
        none: (batch, 1), bool: whether none is.
        upto: (batch, time_steps), int64: how many are kept up to and with each step.
    """

    mask: str
    order: str
    number: str
    none: str
    upto: str


def kept(b: Builder, mask: str) -> Kept:
    """What scans need of a mask; written once for each mask."""
    if mask not in b.masks:
        number = b.cast(mask, "int64")
        time_steps = b.size(mask, 1)
        ones = b.op("Expand", b.ints(1), time_steps)
        place = b.op("CumSum", ones, b.constant(0, "int64"))
        # Kept steps come first, both kinds in their order: no two keys are equal.
        first = b.op("Mul", number, time_steps)
        keys = b.op("Sub", first, place)
        _, order = b.ops("TopK", [keys, time_steps], 2, axis=1, largest=1, sorted=1)
        upto = b.op("CumSum", number, b.constant(1, "int64"))
        count = b.op("ReduceSum", b.cast(mask, "int32"), b.ints(1), keepdims=0)
        none = b.op("Unsqueeze", b.op("Equal", count, b.constant(0, "int32")), b.ints(1))
        b.masks[mask] = Kept(mask, b.op("Unsqueeze", order, b.ints(2)), count, none, upto)
    found: Kept = b.masks[mask]
    return found


def write_scan(b: Builder, lanes: Sequence[Lane], x: str, mask: str | None) -> list[Outcome]:
    """One operator over a sequence, in one direction or in both.

    Args:
        lanes: one; or two that are `alike`, the second going backwards.
        x: (batch, time_steps, features).
        mask: (batch, time_steps), bool; None to keep all.

    Raises:
        UnsupportedLayerError: if ONNX's operators do not have an activation.
    """
    info = kept(b, mask) if mask else None
    if info:
        x = b.op("GatherND", x, info.order, batch_dims=1)
    outputs = _operator(b, lanes, b.transpose(x, 1, 0, 2), info)
    results = []
    for index, lane in enumerate(lanes):
        states = [_direction(b, each, index, len(lanes), 0) for each in outputs[1:]]
        last = states[0]
        if info:
            zeros = b.zeros_like(last)
            last = b.op("Where", info.none, lane.previous or zeros, last)
            start = lane.start or [zeros] * len(states)
            states = [
                b.op("Where", info.none, s, state) for s, state in zip(start, states, strict=True)
            ]
        sequence = None
        if lane.sequence:
            sequence = b.transpose(_direction(b, outputs[0], index, len(lanes), 1), 1, 0, 2)
            if info:
                sequence = _spread(b, lane, sequence, info)
        results.append(Outcome(sequence, last, states))
    return results


def _operator(b: Builder, lanes: Sequence[Lane], x: str, info: Kept | None) -> list[str]:
    """The operator's outputs: Y (T, D, B, U), then the states (D, B, U)."""
    cell = lanes[0].cell
    inputs = [x, *_weights(b, lanes)]
    # ONNX does not say what no step at all is; the rows without any are mended afterwards.
    inputs.append(b.op("Max", info.number, b.constant(1, "int32")) if info else "")
    for number in range(len(cell.spec.states)):
        starts = [lane.start[number] if lane.start else None for lane in lanes]
        inputs.append(_stacked(b, starts))
    directions = ["reverse" if lane.cell.go_backwards else "forward" for lane in lanes]
    names, alphas, betas = _activations(lanes)
    wanted = [any(lane.sequence for lane in lanes), *[True] * len(cell.spec.states)]
    return b.ops(
        OPERATORS[cell.kind],
        inputs,
        wanted,
        hidden_size=cell.units,
        direction="bidirectional" if len(lanes) == 2 else directions[0],
        activations=names,
        activation_alpha=alphas or None,
        activation_beta=betas or None,
        linear_before_reset=int(cell.reset_after) if cell.kind == "gru" else None,
    )


def _weights(b: Builder, lanes: Sequence[Lane]) -> list[str]:
    """W, R and B ("" without biases) of all directions."""
    found = []
    for cell in (lane.cell for lane in lanes):
        given = {"kernel": cell.kernel, "recurrent_kernel": cell.recurrent_kernel}
        if cell.bias is not None:
            given["bias"] = cell.bias
        found.append(layouts.to_onnx(cell.kind, given, reset_after=cell.reset_after))
    owner = lanes[0].cell.where
    if len(lanes) == 2:
        owner = lanes[0].layer.where.rpartition("/")[0]
    names = {
        name: b.weight(f"{owner}/{name}", np.concatenate([each[name] for each in found]))
        for name in found[0]
    }
    for direction, lane in enumerate(lanes):
        how = {
            "cell": lane.cell.kind,
            "tensors": names,
            "linear_before_reset": lane.cell.reset_after,
            "direction": direction,
        }
        for name, variable in _variables(lane).items():
            b.remember(lane.layer, variable, Stored(name, (), how))
    return [names["W"], names["R"], names.get("B", "")]


def _variables(lane: Lane) -> dict[str, str]:
    """The layer's names of the cell's variables, by the cell's names of them."""
    cells, listed = lane.layer.cells, lane.layer.variables()
    before = sum(len(each.variables()) for each in cells[: cells.index(lane.cell)])
    own = [variable.name for variable in lane.cell.variables()]
    return {name: listed[before + index].name for index, name in enumerate(own)}


def _stacked(b: Builder, starts: Sequence[str | None]) -> str:
    """Initial states of all directions as (D, B, U); "" for zeros."""
    if None in starts:
        return ""
    each = [b.op("Unsqueeze", start, b.ints(0)) for start in starts if start]
    return each[0] if len(each) == 1 else b.op("Concat", *each, axis=0)


def _activations(lanes: Sequence[Lane]) -> tuple[list[str], list[float], list[float]]:
    """Names, alphas and betas in the operators' order; all directions one after the other."""
    found = []
    for lane in lanes:
        cell = lane.cell
        gates, own = cell.recurrent_activation, cell.activation
        order = {"lstm": (gates, own, own), "gru": (gates, own), "simple_rnn": (own,)}[cell.kind]
        for function in order:
            known = recurrent_activation(function)
            if known is None:
                raise lane.layer.unsupported(
                    f"its activation {function.name} is none of those "
                    f"that ONNX's {OPERATORS[cell.kind]} has ({', '.join(RECURRENT)}). Train with "
                    "one of these, or run the model in Recurra's runtime."
                )
            found.append(known)
    return (
        [each.name for each in found],
        [each.alpha for each in found if each.alpha is not None],
        [each.beta for each in found if each.beta is not None],
    )


def _direction(b: Builder, value: str, index: int, count: int, axis: int) -> str:
    """One direction of an output, without the axis of directions."""
    if count == 1:
        return b.op("Squeeze", value, b.ints(axis))
    return b.op("Gather", value, b.constant(index, "int64"), axis=axis)


def _spread(b: Builder, lane: Lane, sequence: str, info: Kept) -> str:
    """The outputs at all steps, from those at the kept ones, which stand at the front."""
    zeros = b.zeros_like(b.slice(sequence, 1, 0, 1))
    before = b.op("Unsqueeze", lane.previous, b.ints(1)) if lane.previous else zeros
    if lane.cell.go_backwards:
        # Of the kept steps from here on, the first: the last one that was computed.
        after = b.op("Sub", info.upto, b.cast(info.mask, "int64"))
        count = b.op("Unsqueeze", b.cast(info.number, "int64"), b.ints(1))
        place = b.op("Where", b.op("Less", after, count), after, b.size(sequence, 1))
        padded = b.op("Concat", sequence, before, axis=1)
    else:
        place, padded = info.upto, b.op("Concat", before, sequence, axis=1)
    spread = b.op("GatherND", padded, b.op("Unsqueeze", place, b.ints(2)), batch_dims=1)
    if not lane.cell.zero_output_for_mask:
        return spread
    keep = b.op("Unsqueeze", info.mask, b.ints(2))
    return b.op("Where", keep, spread, b.constant(0.0))
