"""LSTM, GRU, SimpleRNN, RNN over their cells, and Bidirectional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from recurra.runtime.errors import StreamingError
from recurra.runtime.layers.cells import Cell
from recurra.runtime.layers.recurrent import Recurrent
from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.registry import Site, writes
from recurra.runtime.onnx.writers.scans import Lane, Outcome, alike, write_scan


class Made(NamedTuple):
    """What a recurrent layer gives: names of tensors.

    Args:
        output: at all steps (batch, time_steps, units), or the last (batch, units).
        states: (batch, units) each.
    """

    output: str
    states: Sequence[str]


@writes("LSTM", "GRU", "SimpleRNN", "RNN", "CuDNNLSTM", "CuDNNGRU")
def write_recurrent(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """One operator for each cell, from the input upwards."""
    made = _stack(b, layer, site.x.name, scan_mask(site), initial_state(site))
    if layer.return_sequences and layer.go_backwards:
        made = made._replace(output=b.flip(made.output, 1))
    names = [made.output, *made.states] if layer.return_state else [made.output]
    kept = site.x.mask if layer.return_sequences else None
    masks = [kept] + [None] * len(made.states)
    return [Value(name, s, mask=m) for name, s, m in zip(names, site.shapes, masks, strict=False)]


@writes("Bidirectional")
def write_bidirectional(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Both directions as one operator where that can be, and the merge."""
    if b.stateful:
        raise StreamingError(
            f"Layer '{layer.where}' (Bidirectional): it starts from the end of the sequence too, "
            "which a model that is called step by step does not have. Export without stateful."
        )
    for part, inner in layer.directions:
        b.inside(layer, part, inner)
    first, second = _both(b, layer, site)
    outputs = _merge(b, layer.merge_mode, first.output, second.output)
    states = [*first.states, *second.states] if layer.return_state else []
    kept = site.x.mask if layer.return_sequences else None
    masks = [kept] * len(outputs) + [None] * len(states)
    given = zip([*outputs, *states], site.shapes, masks, strict=True)
    return [Value(name, shape, mask=mask) for name, shape, mask in given]


def _both(b: Builder, layer: Any, site: Site) -> tuple[Made, Made]:
    """Both directions, with outputs at all steps in the input's order."""
    x, mask, given = site.x.name, scan_mask(site), initial_state(site)
    first, second = layer.forward_layer, layer.backward_layer
    count = len(first.state_sizes)
    starts = given[:count], given[count:]
    if len(first.cells) == len(second.cells) == 1 and alike(first.cells[0], second.cells[0]):
        _refuse_trace(first)
        lanes = [
            Lane(each, each.cells[0], start or None, None, each.return_sequences)
            for each, start in zip((first, second), starts, strict=True)
        ]
        turned = lanes[0].cell.go_backwards
        made = write_scan(b, lanes[::-1] if turned else lanes, x, mask)
        one, two = (_made(each) for each in (made[::-1] if turned else made))
    else:
        one, two = _stack(b, first, x, mask, starts[0]), _stack(b, second, x, mask, starts[1])
    if layer.return_sequences and first.go_backwards:
        # Keras turns the second output round, whichever layer goes backwards.
        one = one._replace(output=b.flip(one.output, 1))
        two = two._replace(output=b.flip(two.output, 1))
    return one, two


def _merge(b: Builder, mode: str | None, first: str, second: str) -> list[str]:
    if mode is None:
        return [first, second]
    if mode == "concat":
        return [b.op("Concat", first, second, axis=-1)]
    if mode == "mul":
        return [b.op("Mul", first, second)]
    total = b.op("Add", first, second)
    return [b.op("Mul", total, b.constant(0.5)) if mode == "ave" else total]


def _stack(b: Builder, layer: Recurrent, x: str, mask: str | None, given: Sequence[str]) -> Made:
    """The layer's cells on top of each other; outputs at all steps are in the input's order."""
    _refuse_trace(layer)
    states: list[str] = []
    outcome = None
    for index, cell in enumerate(layer.cells):
        start, given = given[: len(cell.spec.states)], given[len(cell.spec.states) :]
        sequence = layer.return_sequences or index < len(layer.cells) - 1
        field = layer.where if len(layer.cells) == 1 else f"{layer.where}/{index}"
        outcome = _scan(b, layer, cell, sequence, x, mask, start, field)
        states += outcome.states
        x = outcome.sequence or x
        if layer.go_backwards and index == 0 and len(layer.cells) > 1:
            # The cells above go through the first one's outputs in the order that it gave them.
            x, mask = b.flip(x, 1), b.flip(mask, 1) if mask else None
    assert outcome is not None
    if layer.return_sequences and layer.go_backwards and len(layer.cells) > 1:
        x = b.flip(x, 1)
    return Made(x if layer.return_sequences else outcome.last, states)


def _scan(
    b: Builder,
    layer: Recurrent,
    cell: Cell,
    sequence: bool,
    x: str,
    mask: str | None,
    start: Sequence[str],
    field: str,
) -> Outcome:
    """One cell; in a stateful model its states come and go by name."""
    numbers: list[int] = []
    previous = None
    if b.stateful:
        _refuse_stateful(layer, start)
        made = [b.state(f"{field}/{name}", (None, cell.units)) for name in cell.spec.states]
        start, numbers = [name for name, _ in made], [number for _, number in made]
        # A stream repeats its last output at masked steps, and that is its hidden state.
        previous = start[0]
    lane = Lane(layer, cell, start or None, previous, sequence)
    outcome = write_scan(b, [lane], x, mask)[0]
    if b.stateful:
        for number, state in zip(numbers, outcome.states, strict=True):
            b.give_state(number, state)
    return outcome


def _made(outcome: Outcome) -> Made:
    return Made(outcome.sequence or outcome.last, outcome.states)


def _refuse_trace(layer: Recurrent) -> None:
    if layer.return_trace:
        raise layer.unsupported(
            "return_trace=True: ONNX's operators do not give their gates. Export the model "
            "without it."
        )


def _refuse_stateful(layer: Recurrent, start: Sequence[str]) -> None:
    if layer.go_backwards:
        raise StreamingError(
            f"Layer '{layer.where}' ({layer.keras_class}): it goes backwards, from the end of the "
            "sequence, which a model that is called step by step does not have. Export without "
            "stateful."
        )
    if start:
        raise StreamingError(
            f"Layer '{layer.where}' ({layer.keras_class}): it starts from an initial_state of the "
            "model's own, and a stateful export starts every call from the states that it is "
            "given. Export without stateful: if the initial states are inputs of the model and "
            "return_state gives them back, it carries its states already."
        )


def initial_state(site: Site) -> list[str]:
    """Names of the states that the call starts from; none for zeros."""
    return [value.name for value in site.arguments.get("initial_state") or ()]


def scan_mask(site: Site) -> str | None:
    """The mask that a scan gets: with an initial state not the input's own, as in Keras."""
    arguments = site.arguments
    if arguments.get("initial_state") is not None and arguments.get("mask") is None:
        return None
    return site.x.mask
