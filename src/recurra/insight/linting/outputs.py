"""Rules about a model's inputs and outputs, and about activations."""

from __future__ import annotations

from collections.abc import Iterator

from recurra.insight.linting.data import Data
from recurra.insight.linting.rules import Found, rule
from recurra.insight.linting.view import View, argument, kind, rank, shape_text, size_at
from recurra.insight.structure import Cell


@rule("R401", "warning", "an input of the model is not used", "use it, or leave it out")
def unused_input(view: View) -> Iterator[Found]:
    """Nothing on the way to the outputs reads this input.

    In an encoder-decoder that is what is left of an encoder whose states never reach the decoder.

        encoder_states = encoder(source);    decoded = decoder(target)
        decoded = decoder(target, initial_state=encoder_states)
    """
    if view.structure.gaps:
        return
    for tensor in view.structure.inputs:
        if not view.is_used(tensor):
            name = view.tensors[tensor].name
            yield Found(
                "",
                f"No output of the model depends on its input {name!r} "
                f"{shape_text(view.tensors[tensor])}.",
                "Whatever it is given there changes nothing, and layers on it are not trained.",
                f"Leave {name!r} out, or use what is computed from it: an encoder's states as the "
                "decoder's initial_state, for example.",
            )


@rule("R402", "error", "softmax over a single value", '`Dense(1, activation="sigmoid")`')
def softmax_of_one(view: View) -> Iterator[Found]:
    """Softmax divides by the sum over the last axis; over one value that is the value itself.

    The output is 1.0 whatever the input is, and nothing before it can learn.

        Dense(1, activation="softmax")
        Dense(1, activation="sigmoid")    # one probability, with binary_crossentropy
        Dense(2, activation="softmax")    # two that add up to 1
    """
    for node in view.nodes:
        softmax = argument(node, "activation") == "softmax" and node.recurrent is None
        softmax = softmax or (node.class_name == "Softmax" and argument(node, "axis") in (None, -1))
        output = view.output(node)
        if not softmax or output is None or output.shape is None or output.shape[-1] != 1:
            continue
        yield Found(
            node.path,
            f"{node.class_name} {node.path!r} takes softmax over a single value, "
            f"{shape_text(output)}.",
            "Its output is 1.0 for every input, and no gradient flows back through it.",
            'Use activation="sigmoid" for one probability, or as many units as there are classes.',
        )


_GATED = ("lstm", "gru")
_BOUNDED = {"tanh": "(-1, 1)", "sigmoid": "(0, 1)", "hard_sigmoid": "[0, 1]"}


def activation(cell: Cell) -> str:
    """The name of a cell's `activation`; "" where it is not known."""
    gates = [] if cell.spec is None else cell.spec.gate_table
    names = [cell.activations.get(gate.name, "") for gate in gates if gate.role == "activation"]
    return next(iter(names), "")


@rule("R403", "hint", "a recurrent layer of one unit is the output", "`Dense(1)` behind it")
def one_unit_output(view: View) -> Iterator[Found]:
    """`LSTM(1)` at the end of a forecaster has one unit of memory, and its output is bounded.

    With tanh it stays within (-1, 1), however the targets are scaled, and the last layer can carry
    a single number from step to step.

        Sequential([LSTM(32, return_sequences=True), LSTM(1)])
        Sequential([LSTM(32), Dense(1)])
    """
    for node, recurrent in view.recurrent():
        if recurrent.parts or not recurrent.cells or not node.outputs or not view.trains:
            continue
        cell = recurrent.cells[-1]
        bounds = _BOUNDED.get(activation(cell))
        if cell.units != 1 or bounds is None or node.outputs[0] not in view.structure.outputs:
            continue
        if any(view.is_used(tensor) for tensor in node.outputs[1:]):
            continue
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} with one unit is an output of the model.",
            f"Its values stay within {bounds}, and it has a single number to remember with.",
            "For a forecast use more units and put Dense(1) behind it, which can give any value.",
        )


@rule(
    "R404",
    "hint",
    "an LSTM or GRU with an unbounded activation",
    '`activation="tanh"`, the default',
)
def unbounded_activation(view: View) -> Iterator[Found]:
    """With `activation="relu"` states are no longer held within (-1, 1).

    An LSTM adds up in its cell state what the candidate gives, step after step; with relu that only
    ever grows by what the gates let in, and training tends to end in NaN on long sequences.

        LSTM(32, activation="relu")
        LSTM(32)
    """
    grows = {"relu", "linear", "elu", "selu", "exponential", "leaky_relu", "softplus"}
    for node in view.nodes:
        if node.recurrent is None or not view.trains or ":" in node.path:
            continue
        for path, layer in node.recurrent.leaves(node.path)[:1]:
            names = {activation(cell) for cell in layer.cells if cell.cell in _GATED}
            for name in sorted(names & grows):
                yield Found(
                    path,
                    f"{layer.class_name} {path!r} has activation={name!r}.",
                    "Its states have no bound, and can grow from step to step until training gives "
                    "NaN.",
                    'Keep the default, activation="tanh", unless this is meant; clipnorm in the '
                    "optimizer helps where it is.",
                )


@rule(
    "R405",
    "error",
    "a prediction for every step, and a target for each sequence",
    "no `return_sequences` in the last recurrent layer",
    needs="y",
)
def sequences_for_single_targets(view: View, data: Data) -> Iterator[Found]:
    """The model predicts (batch, time_steps, n), and the targets are (batch, n).

    Losses such as mse broadcast the one against the other without an error: every step is trained
    towards targets of other rows. The other way round, (batch, n) against targets for every step,
    is the same mistake.

        Sequential([LSTM(32, return_sequences=True), Dense(1)])    # with y of shape (batch, 1)
        Sequential([LSTM(32), Dense(1)])
    """
    for tensor, target in data.y.items():
        output, shape = view.tensors[tensor], tuple(target.shape)
        # (batch, time_steps) of class numbers fits (batch, time_steps, classes).
        single = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        if rank(output) == 3 and single and size_at(output, 1) != 1:
            advice = (
                "For one prediction per sequence leave return_sequences=True out of the last "
                "recurrent layer; for one per step give targets of shape (batch, time_steps, n)."
            )
        elif len(shape) == 3 and shape[1:] == (size_at(output, 1), 1):
            continue  # losses drop a last axis of 1 where the output has an axis less
        elif rank(output) == 2 and (
            len(shape) == 3 or (len(shape) == 2 and shape[1] > 1 and size_at(output, 1) == 1)
        ):
            advice = (
                "For one prediction per step build the last recurrent layer with "
                "return_sequences=True; for one per sequence give targets of shape "
                f"(batch, {size_at(output, 1)})."
            )
        else:
            continue
        yield Found(
            "",
            f"An output of the model, {view.label(tensor)}, is {shape_text(output)}, and its "
            f"targets are {shape}.",
            "Many losses broadcast one against the other without an error, and compare steps with "
            "targets that are not theirs.",
            advice,
        )
