"""`recurra.explain`: what it says is tried out on the layers and models themselves."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import insight_zoo
import quick_weights
import recurra
from recurra.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    ConvLSTM1D,
    GRUCell,
    LSTMCell,
    Masking,
    SimpleRNNCell,
    TimeDistributed,
)

BATCH, STEPS, FEATURES, ITEMS = 3, 6, 4, 2


def layers(L: Any) -> dict[str, Any]:
    """Recurrent layers of a library in many settings, all returning their states."""
    both = {"return_sequences": True, "return_state": True}
    return {
        "lstm": L.LSTM(5, return_state=True),
        "lstm sequences": L.LSTM(5, **both),
        "lstm backwards": L.LSTM(5, go_backwards=True, **both),
        "lstm zeros": L.LSTM(5, zero_output_for_mask=True, **both),
        "zeros last": L.LSTM(5, zero_output_for_mask=True, return_state=True),
        "backwards zeros": L.LSTM(5, zero_output_for_mask=True, go_backwards=True, **both),
        "backwards last": L.GRU(5, go_backwards=True, return_state=True),
        "gru": L.GRU(5, activation="relu", **both),
        "gru before": L.GRU(5, reset_after=False, use_bias=False, return_state=True),
        "rnn": L.SimpleRNN(5, **both),
        "cell": L.RNN(L.GRUCell(5), **both),
        "stack": L.RNN([L.LSTMCell(4), L.GRUCell(5), L.SimpleRNNCell(5)], **both),
        "two lstms": L.RNN([L.LSTMCell(4), L.LSTMCell(5)], return_state=True),
        "concat": L.Bidirectional(L.LSTM(5, return_state=True)),
        "concat sequences": L.Bidirectional(L.LSTM(5, **both)),
        "sum": L.Bidirectional(L.GRU(5, return_state=True), merge_mode="sum"),
        "ave": L.Bidirectional(L.GRU(5, return_state=True), merge_mode="ave"),
        "mul": L.Bidirectional(L.GRU(5, return_state=True), merge_mode="mul"),
        "apart": L.Bidirectional(L.SimpleRNN(5, **both), merge_mode=None),
        "turned": L.Bidirectional(
            L.GRU(5, go_backwards=True, **both), backward_layer=L.GRU(5, **both)
        ),
        "unlike": L.Bidirectional(
            L.LSTM(5, return_state=True),
            backward_layer=L.LSTM(3, return_state=True, go_backwards=True),
        ),
    }


LIBRARIES = {"recurra": recurra.layers, "keras": keras.layers}
TRIED = [
    *(("recurra", name) for name in layers(recurra.layers)),
    # Compiled by the host, one by one: slow.
    *(("keras", name) for name in ("lstm sequences", "zeros last", "stack", "concat sequences")),
]


no_random_weights = quick_weights.no_random_weights


def padded() -> np.ndarray:
    """Sequences of which one ends and one begins in padding, zeros."""
    x = np.random.default_rng(0).normal(size=(BATCH, STEPS, FEATURES)).astype("float32")
    x[1, 4:], x[2, :2] = 0, 0
    return x


def model_of(layer: Any, x: np.ndarray, *, masked: bool = True) -> Any:
    """A model of one layer behind a Masking, with random weights."""
    inputs = keras.Input((None, *x.shape[2:]))
    outputs = layer(Masking()(inputs) if masked else inputs)
    flat = keras.tree.flatten(outputs)
    random = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(random.normal(scale=0.6, size=tuple(weight.shape)).astype("float32"))
    return keras.Model(inputs, flat)


def returned(model: Any, layer: Any, x: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """What a layer's call is unpacked into, as arrays by the names that the explanation gives."""
    mask = model.layers[1].compute_mask(x) if len(model.layers) > 2 else None
    results = layer(x, mask=mask)
    results = [results] if hasattr(results, "shape") else list(results)
    assert len(results) == len(names)
    return dict(
        zip(names, keras.tree.map_structure(keras.ops.convert_to_numpy, results), strict=True)
    )


@pytest.fixture(scope="module")
def explained() -> dict[tuple[str, str], Any]:
    """For each layer its explanation inside of a masked model, and what it returns."""
    found: dict[tuple[str, str], Any] = {}
    x = padded()
    for library, namespace in LIBRARIES.items():
        for name, layer in layers(namespace).items():
            if (library, name) not in TRIED:
                continue
            model = model_of(layer, x)
            facts = recurra.explain(model)[layer.name].facts
            found[library, name] = facts, returned(model, layer, x, facts.results.names)
            found[library, f"{name}, alone"] = recurra.explain(layer).facts, found[library, name][1]
    return found


every_layer = pytest.mark.parametrize(("library", "name"), TRIED)


@every_layer
def test_results_have_the_names_and_shapes_that_are_told(explained, library, name):
    facts, values = explained[library, name]
    for result in facts.results.results:
        value = eval(result.name, {}, values)
        shape = [{"B": BATCH, "T": STEPS}.get(size, size) for size in result.shape]
        assert list(value.shape) == shape, result.name
    flat = [a for value in values.values() for a in keras.tree.flatten(value)]
    assert len(flat) == len(facts.results.results)


@pytest.mark.parametrize("alone", ["", ", alone"], ids=["in a model", "alone"])
@every_layer
def test_what_is_said_to_be_equal_is_equal_and_differs_only_where_it_is_said(
    explained, library, name, alone
):
    facts, values = explained[library, name + alone]
    for equality in facts.results.equalities:
        left, right = (eval(side, {}, values) for side in (equality.left, equality.right))
        same = np.isclose(left, right, atol=1e-6).reshape(BATCH, -1).all(axis=1)
        differs = {"": [], "ends": [1], "begins": [2]}[
            next((word for word in ("ends", "begins") if word in equality.unless), "")
        ]
        assert list(np.flatnonzero(~same)) == differs, (equality, same)


@every_layer
def test_padded_steps_give_what_is_told(explained, library, name):
    facts, values = explained[library, name]
    (note,) = [note for note in facts.notes if note.startswith("Padding")]
    output = values.get("output", values.get("forward_output"))
    assert (", and the output there" in note) == (output.ndim == 3)
    if output.ndim == 3:
        padded_at = slice(0, 2) if facts.layer.go_backwards else slice(4, 6)
        there = output[1, padded_at]
        if "is 0" in note:
            assert not there.any()
        elif facts.layer.go_backwards:
            assert not there.any()  # nothing was before
        else:
            assert "repeats the one before it" in note
            assert np.array_equal(there, np.stack([output[1, 3]] * 2))


def test_an_unmasked_model_says_nothing_of_padding():
    for name in ("lstm zeros", "concat sequences"):
        layer = layers(recurra.layers)[name]
        facts = recurra.explain(model_of(layer, padded(), masked=False))[layer.name].facts
        assert [equality.unless for equality in facts.results.equalities if equality.unless] == []


@pytest.mark.parametrize("name", ["lstm backwards", "backwards last", "concat", "turned"])
def test_states_are_told_to_be_those_after_the_step_that_is_read_last(explained, name):
    for of, real in (("", " real"), (", alone", "")):
        facts, _ = explained["recurra", name + of]
        backwards = {path or "": part.go_backwards for path, part in facts.layer.leaves("")}
        for state in facts.results.states:
            direction = f"/{state.name.partition('_')[0]}_layer" if facts.parts else ""
            end = (
                f"the first{real} step, which" if backwards[direction] else f"the last{real} step."
            )
            assert f"after {end}" in state.meaning


def test_layers_that_return_states_tell_what_is_equal(explained):
    for (library, name), (facts, _) in explained.items():
        both = name.partition(",")[0] in ("concat", "concat sequences", "apart", "turned", "unlike")
        assert len(facts.results.equalities) == (2 if both else 1), (library, name)


# --- The step, the weights and the count ---


@pytest.mark.parametrize("name", ["lstm", "gru", "gru before", "rnn"])
def test_the_printed_equations_with_the_printed_columns_compute_the_layer(name):
    layer = layers(recurra.layers)[name]
    x = padded()[:, :1]
    model_of(layer, x, masked=False)
    (cell,) = recurra.explain(layer).facts.cells
    arrays = dict(zip([w.name for w in cell.weights], layer.get_weights(), strict=True))
    values: dict[str, Any] = {
        "x": x[:, 0],
        "tanh": np.tanh,
        "relu": lambda v: np.maximum(v, 0),
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    }
    random = np.random.default_rng(2)
    states = [random.normal(size=(BATCH, 5)).astype("float32") for _ in cell.states]
    values |= {state.symbol: value for state, value in zip(cell.states, states, strict=True)}
    for block in cell.blocks:
        start, stop = map(int, block.columns.split(":"))
        for weight in cell.weights:
            array = arrays[weight.name][..., start:stop]
            letters = weight.letter.split(", ")
            for letter, part in zip(letters, array if len(letters) > 1 else [array], strict=True):
                values[f"{letter}_{block.symbol}"] = values[letter] = part
    for line in cell.lines:
        formula = line.formula.replace("·", "@").replace("∘", "*").replace("'", "_after")
        values[line.symbol.replace("'", "_after")] = eval(formula, {}, values)
        used = [n for n in line.needs if n.replace("'", "_after") in values]
        assert len(used) == len(line.needs) > 0
    results = layer(x, initial_state=states)
    for place, state in enumerate(cell.states, 1):
        mine = values[f"{state.symbol}_after"]
        assert np.allclose(results[place], mine, atol=1e-5), state


def test_a_bias_of_one_row_is_not_told_to_have_two():
    told = {
        reset_after: recurra.explain(GRU(3, reset_after=reset_after)).facts.cells[0].weights[-1]
        for reset_after in (True, False)
    }
    assert told[True].shape == (2, 9)
    assert "two rows" in told[True].meaning
    assert told[False].shape == (9,)
    assert "row" not in told[False].meaning


def test_directions_that_differ_are_told_one_by_one():
    layer = Bidirectional(LSTM(3), backward_layer=GRU(5, go_backwards=True), name="bi")
    text = recurra.explain(layer).text(100)
    assert "Bidirectional(LSTM, GRU), 3 and 5 units: (B, T, F) → (B, 8)" in text
    lstm, gru = text.split("One step of forward_layer (LSTM)")[1].split("One step of backward_")
    assert "each of the 3 units computes 4 values" in lstm
    assert gru.startswith("layer (GRU)")
    assert "each of the 5 units computes 3 values" in gru
    assert "  forward_layer: 4·(U·(F+U)+U) = 4·(3·(F+3)+3) parameters" in text
    assert "  backward_layer: 3·(U·(F+U)+2·U) = 3·(5·(F+5)+2·5) parameters" in text
    assert "[..., 0:3]" in text
    assert "[..., 0:5]" in text
    alike = recurra.explain(Bidirectional(LSTM(3, dropout=0.1))).text(100)
    assert "One step\n" in alike
    assert "_layer: " not in alike


@every_layer
def test_parameters_are_counted_as_the_formula_says(explained, library, name):
    facts, _ = explained[library, name]
    assert facts.parameters == eval(facts.numbers.replace("·", "*"))
    if facts.formula:
        leaf = facts.leaf.cells[0]
        count = eval(facts.formula.replace("·", "*"), {"U": leaf.units, "F": leaf.features})
        assert count == facts.parameters
    written = sum(
        w.count for part in (facts.parts or [facts]) for c in part.cells for w in c.weights
    )
    assert written == facts.parameters


def test_the_count_is_that_of_the_layer():
    layer = LSTM(64)
    layer.build((None, None, 8))
    text = recurra.explain(layer).text(80)
    assert "4·(U·(F+U)+U) = 4·(64·(8+64)+64) = 18,688 parameters" in text
    assert layer.count_params() == 18_688


def test_what_is_not_built_is_told_in_letters_and_with_data_in_numbers():
    layer = GRU(7, use_bias=False, name="gru")
    facts = recurra.explain(layer).facts
    assert facts.shape == ("B", "T", "F")
    assert facts.results.results[0].shape == ("B", 7)
    assert (facts.formula, facts.numbers, facts.parameters) == ("3·U·(F+U)", "3·7·(F+7)", None)
    assert [weight.shape for weight in facts.cells[0].weights] == [("F", 21), (7, 21)]
    assert "+ b" not in recurra.explain(layer).text()
    facts = recurra.explain(layer, np.zeros((2, 9, 3), "float32")).facts
    assert facts.shape == (2, 9, 3)
    assert facts.parameters == 3 * 7 * (3 + 7)
    assert not layer.built


@pytest.mark.parametrize("cell", [LSTMCell(3), GRUCell(3), SimpleRNNCell(3)])
def test_cells_are_explained(cell):
    explanation = recurra.explain(cell)
    facts = explanation.facts
    assert not cell.built
    assert facts.title == type(cell).__name__
    assert (facts.shape, facts.parameters) == (("B", "F"), None)
    assert [line.name for line in facts.cells[0].lines][-1] == "hidden_state"
    assert f"`RNN({facts.title}(...))`" not in explanation.text(80)
    assert f"RNN({facts.title}(...)) runs it over a sequence." in explanation.text(80)
    x = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
    output, states = cell(x, [np.ones((2, 3), "float32") for _ in facts.cells[0].states])
    values = {"output": np.asarray(output), "states": [np.asarray(state) for state in states]}
    for result in facts.results.results:
        assert eval(result.name, {}, values).shape == (2, 3)
    (equality,) = facts.results.equalities
    assert np.array_equal(eval(equality.left, {}, values), eval(equality.right, {}, values))
    assert recurra.explain(cell, x).facts.parameters == cell.count_params()


def test_custom_activations_are_named_where_they_are_used():
    def bent(x):
        return x / 2

    text = recurra.explain(LSTM(3, activation=bent, recurrent_activation="hard_sigmoid")).text(120)
    assert "bent(x·W_g + h·R_g + b_g)" in text
    assert "o ∘ bent(c')" in text
    assert "hard_sigmoid(x·W_i" in text
    assert "activation=bent is not compiled into the engine" in " ".join(text.split())


def test_a_cell_of_the_users_is_told_as_far_as_it_is_known():
    layer = RNN(insight_zoo.MinimalCell(4), return_state=True, name="own")
    layer.build((None, None, 3))
    explanation = recurra.explain(layer)
    assert explanation.facts.parameters == layer.count_params()
    assert explanation.facts.results.equalities == ()
    text = explanation.text(80)
    assert "Keras's own scan" in text
    assert "State 0 of MinimalCell" in text


def test_convolutions_have_their_own_shapes():
    layer = ConvLSTM1D(6, 3, return_state=True, name="conv")
    x = np.zeros((2, 7, 9, 1), "float32")
    facts = recurra.explain(keras.Model(i := keras.Input(x.shape[1:]), layer(i)))["conv"].facts
    values = [np.asarray(value) for value in layer(x)]
    shapes = [("B", *value.shape[1:]) for value in values]
    assert [result.shape for result in facts.results.results] == shapes
    assert facts.results.names == ("output", "state_h", "state_c")


def test_items_have_a_letter_of_their_own():
    layer = TimeDistributed(LSTM(3, return_state=True), name="items")
    inputs = keras.Input((None, None, FEATURES))
    facts = recurra.explain(keras.Model(inputs, list(layer(inputs))))["items"].facts
    assert facts.shape == ("B", "N", "T", FEATURES)
    x = np.random.default_rng(0).normal(size=(BATCH, ITEMS, STEPS, FEATURES)).astype("float32")
    values = dict(zip(facts.results.names, layer(x), strict=True))
    for result in facts.results.results:
        sizes = {"B": BATCH, "N": ITEMS}
        assert values[result.name].shape == tuple(sizes.get(s, s) for s in result.shape)
    assert [(e.left, e.right) for e in facts.results.equalities] == [("output", "state_h")]


def test_a_wrapper_of_a_wrapper_is_told_from_the_outside_in():
    layer = TimeDistributed(Bidirectional(LSTM(3, return_sequences=True)), name="deep")
    text = " ".join(recurra.explain(layer).text(80).split())
    assert "TimeDistributed(Bidirectional(LSTM)), 3 units: (B, N, T, F) → (B, N, T, 6)" in text
    assert "deep/layer is run on each of the N items" in text
    assert "backward_layer LSTM: reads from the last step to the first" in text


def test_states_that_stay_and_dropout_are_told():
    layer = LSTM(3, stateful=True, dropout=0.2, recurrent_dropout=0.1, dtype="bfloat16")
    text = " ".join(recurra.explain(layer).text(80).split())
    assert "At first, h and c: what the call before has left (stateful=True), row by row" in text
    assert "0.2 of the inputs (dropout) and 0.1 of the previous hidden state" in text
    assert "It computes in bfloat16." in text


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (LSTM(2, return_sequences=True), "one array, because return_state=False"),
        (LSTM(2, return_state=True), "3 arrays, because return_state=True"),
        (GRU(2, return_trace=True), "3 results, because return_trace=True"),
        (Bidirectional(GRU(2), merge_mode=None), "2 arrays, because merge_mode=None"),
        (
            Bidirectional(GRU(2, return_state=True), merge_mode=None),
            "4 arrays, because return_state=True and merge_mode=None",
        ),
    ],
)
def test_it_is_told_why_so_many_things_come(layer, words):
    assert f"Returns   {words}\n" in recurra.explain(layer).text(80)


def test_the_trace_is_among_the_results():
    layer = LSTM(3, return_trace=True)
    values = layer(padded())
    facts = recurra.explain(layer).facts
    assert facts.results.names == values._fields
    assert "forget_gate" in facts.results.results[-1].meaning
