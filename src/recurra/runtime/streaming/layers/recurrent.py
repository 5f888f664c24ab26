"""Lowering recurrent layers: a chain of the plan's recurrent operations, one for each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.layer import Layer
from recurra.runtime.layers.recurrent import Recurrent
from recurra.runtime.streaming.lowering import Lowering, Value, lowers, one_axis, refuse


@lowers(Recurrent)
def lower_recurrent(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """LSTM, GRU, SimpleRNN, and RNN over cells."""
    assert isinstance(layer, Recurrent)
    x, *initial = inputs
    _check(layer, x)
    initial += arguments.get("initial_state") or []
    _check_initial(layer, initial)

    # Keras hands an implicit mask over only where the sequence is the call's only tensor.
    mask = x.mask if arguments.get("mask") is not None or not initial else None
    states: list[Value] = []
    number = x.number
    for index, cell in enumerate(layer.cells):
        last = index == len(layer.cells) - 1
        given, initial = initial[: len(cell.spec.states)], initial[len(cell.spec.states) :]
        assert cell.config is not None  # without an obstacle there is one
        operation: dict[str, Any] = {
            "name": lowering.state_name(cell.where),
            "numbers": cell.config.numbers,
            "units": cell.units,
            "kernel": cell.kernel,
            "recurrent_kernel": cell.recurrent_kernel,
            "bias": cell.bias,
            "input": number,
            "mask": mask,
            "initial": [value.number for value in given],
            "sequence": lowering.tensor("steps", cell.units),
        }
        if last:
            operation["last_output"] = lowering.tensor("row", cell.units)
        for state in cell.spec.state_table:
            operation[state.output] = lowering.tensor("row", cell.units)
            states.append(Value(operation[state.output], "row", (cell.units,), running=True))
        lowering.add("recurrent", **operation)
        number = operation["sequence"]

    features = (layer.cells[-1].units,)
    if layer.return_sequences:
        output = Value(number, "steps", features, mask=x.mask)
    else:
        output = Value(operation["last_output"], "row", features, running=True)
    return [output, *states] if layer.return_state else [output]


def _check(layer: Recurrent, x: Value) -> None:
    if not x.has_time_axis:
        raise refuse(
            layer,
            "its input comes from values without a time axis, so its steps are not the stream's",
            "feed it from an input of shape (batch, time_steps, features)",
        )
    one_axis(layer, x)
    if layer.go_backwards:
        raise refuse(
            layer,
            "it goes backwards (go_backwards=True), starting from the sequence's end, which a "
            "stream does not have",
            "train it with go_backwards=False",
        )
    if layer.return_trace:
        raise refuse(
            layer,
            "it gives its gates as well (return_trace=True), which steps do not",
            "build the model without the trace",
        )
    for cell in layer.cells:
        if cell.obstacle is not None:
            raise refuse(
                layer, cell.obstacle, "train it with an activation that the compiled engine has"
            )


def _check_initial(layer: Recurrent, initial: Sequence[Value]) -> None:
    for value in initial:
        if value.timed or value.running:
            raise refuse(
                layer,
                "its initial state is computed from time steps, and is not known before the last "
                "of them",
                "split the model in two, run the part that makes the state with predict() and "
                "give its result to the other part as an input",
            )
