"""Bidirectional and TimeDistributed beside stock Keras's, on any host."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from beside_keras import (
    HOST,
    MASK,
    NAMES,
    STOCK,
    B,
    F,
    T,
    U,
    X,
    array,
    arrays,
    normal,
    same,
    tensor,
)
from recurra import hosts, layers, models
from recurra.layers import rows

MERGES = ("concat", "sum", "mul", "ave", None)
STATES = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}


def pair(make: Callable[[Any], Any], x: np.ndarray) -> tuple[Any, Any]:
    """Recurra's layer and the stock one, built for the same input, with the same random weights."""
    ours, stock = make(layers), make(STOCK)
    for layer in (ours, stock):
        layer.build(x.shape)
    values = [normal(*v.shape, seed=i) / 2 for i, v in enumerate(stock.weights)]
    ours.set_weights(values)
    stock.set_weights(values)
    paths = [[re.sub(r"_\d+", "", v.path) for v in layer.weights] for layer in (ours, stock)]
    assert paths[0] == paths[1]
    return ours, stock


def all_same(got: Any, expected: Any, atol: float = 3e-6) -> None:
    got, expected = keras.tree.flatten(got), keras.tree.flatten(expected)
    for a, b in zip(got, expected, strict=True):
        same(a, b, atol=atol)


def gradients(layer: Any, x: np.ndarray, mask: Any) -> list[np.ndarray]:
    """Of a weighted sum of all results, with respect to the input and all weights."""

    def loss(results: Any) -> Any:
        parts = enumerate(keras.tree.flatten(results))
        return sum(ops.sum(r * tensor(normal(*r.shape, seed=90 + i))) for i, r in parts)

    if HOST == "jax":
        import jax

        def of(x: Any, weights: Any) -> Any:
            rest = [v.value for v in layer.non_trainable_variables]
            return loss(layer.stateless_call(weights, rest, x, mask=mask)[0])

        weights = [v.value for v in layer.trainable_variables]
        dx, dweights = jax.grad(of, argnums=(0, 1))(tensor(x), weights)
        return arrays([dx, *dweights])
    if HOST == "torch":
        inputs = tensor(x).requires_grad_()
        for variable in layer.trainable_variables:
            variable.value.grad = None
        loss(layer(inputs, mask=mask)).backward()
        return arrays([inputs.grad, *(v.value.grad for v in layer.trainable_variables)])
    import tensorflow as tf

    inputs = tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = loss(layer(inputs, mask=mask))
    variables = [v.value for v in layer.trainable_variables]
    return arrays([ops.convert_to_tensor(g) for g in tape.gradient(value, [inputs, *variables])])


@pytest.fixture
def engine_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For every call of the engine, how many scans it was given."""
    host = hosts.get(HOST)
    calls: list[int] = []
    scan, scan_many = host.scan, host.scan_many

    def one(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return scan(*args, **kwargs)

    def many(scans: Any) -> Any:
        calls.append(len(scans))
        return scan_many(scans)

    monkeypatch.setattr(host, "scan", one)
    monkeypatch.setattr(host, "scan_many", many)
    return calls


# --- Bidirectional: numbers ---


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("name", NAMES)
def test_bidirectional_equals_stock(name: str, merge: str | None) -> None:
    # Every pair of options with every cell and every merge mode would say no more.
    index = NAMES.index(name) + MERGES.index(merge)
    options = {"return_sequences": index % 2 == 0, "return_state": index % 3 == 0}
    ours, stock = pair(lambda m: m.Bidirectional(getattr(m, name)(U, **options), merge), X)
    for mask in (None, tensor(MASK)):
        got, expected = ours(X, mask=mask), stock(X, mask=mask)
        assert isinstance(got, tuple) == isinstance(expected, tuple)
        all_same(got, expected)
    assert ours.compute_output_shape(X.shape) == stock.compute_output_shape(X.shape)
    spec = ours.compute_output_spec(keras.KerasTensor(X.shape))
    assert type(spec) is type(got) or not isinstance(got, tuple)
    assert [tuple(s.shape) for s in keras.tree.flatten(spec)] == [a.shape for a in arrays(got)]


@pytest.mark.parametrize("name", NAMES)
def test_bidirectional_gradients_equal_stock(name: str) -> None:
    for sequences in (False, True):
        ours, stock = pair(
            lambda m, s=sequences: m.Bidirectional(
                getattr(m, name)(U, return_sequences=s, return_state=not s)
            ),
            X,
        )
        mask = tensor(MASK) if sequences else None
        got, expected = gradients(ours, X, mask), gradients(stock, X, mask)
        for a, b in zip(got, expected, strict=True):
            assert np.abs(b).max() > 1e-3
            same(a, b, atol=2e-5)


def test_both_directions_are_one_call_of_the_engine(engine_calls: list[int]) -> None:
    for inner, expected in (
        (layers.LSTM(U, return_state=True), [2]),
        (layers.GRU(U, recurrent_dropout=0.2), [2]),
        (layers.RNN([layers.LSTMCell(3), layers.GRUCell(U)]), [2, 2]),
    ):
        layer = layers.Bidirectional(inner)
        layer.build(X.shape)
        engine_calls.clear()
        layer(X, mask=tensor(MASK), training=True)
        assert engine_calls == expected


def test_dropout_of_both_directions_is_stock_s() -> None:
    ours, stock = pair(
        lambda m: m.Bidirectional(m.LSTM(U, dropout=0.3, recurrent_dropout=0.2, seed=4)), X
    )
    same(ours(X, training=True), stock(X, training=True))
    assert np.abs(array(ours(X, training=True)) - array(ours(X))).max() > 1e-3


def kinds() -> dict[str, Callable[[Any], Any]]:
    """Layers to be made bidirectional, of either module."""

    def subclass(m: Any) -> Any:
        class Mine(m.GRU):  # type: ignore[misc, name-defined]
            """A user's own."""

        return Mine(U, return_sequences=True)

    return {
        "stock layers": lambda m: STOCK.LSTM(U, return_sequences=True, return_state=True),
        "a user's subclass": subclass,
        "one cell": lambda m: m.RNN(m.LSTMCell(U), return_sequences=True),
        "stacked cells": lambda m: m.RNN([m.LSTMCell(3), m.GRUCell(U)], return_state=True),
        "another activation": lambda m: m.GRU(U, activation="log_sigmoid"),
        "convolutional": lambda m: m.ConvLSTM1D(2, 2, padding="same", return_state=True),
    }


@pytest.mark.parametrize("kind", list(kinds()))
def test_bidirectional_takes_any_layer(kind: str) -> None:
    x = normal(B, T, 4, 2) if kind == "convolutional" else X
    make = kinds()[kind]

    def wrap(module: Any) -> Any:
        inner = make(module)
        if kind == "a user's subclass":
            with keras.saving.custom_object_scope({"Mine": type(inner)}):
                return module.Bidirectional(inner)
        return module.Bidirectional(inner)

    ours, stock = pair(wrap, x)
    got, expected = ours(x), stock(x)
    all_same(got, expected)
    assert ours.compute_output_shape(x.shape) == stock.compute_output_shape(x.shape)
    if kind not in ("convolutional", "stacked cells"):  # stock stumbles there on JAX
        all_same(ours(x, mask=tensor(MASK)), stock(x, mask=tensor(MASK)))


def test_a_backward_layer_of_another_kind() -> None:
    def make(m: Any) -> Any:
        return m.Bidirectional(
            m.LSTM(U, return_state=True),
            backward_layer=m.GRU(3, go_backwards=True, return_state=True),
        )

    ours, stock = pair(make, X)
    all_same(ours(X), stock(X))
    assert ours.compute_output_shape(X.shape) == ((B, U + 3), (B, U), (B, U), (B, 3))
    # Stock cuts the list of three states in the middle.
    h, c, other = normal(B, U, seed=1), normal(B, U, seed=2), normal(B, 3, seed=3)
    result = ours(X, initial_state=[h, c, other])
    all_same(result[1:3], ours.forward_layer(X, initial_state=[h, c])[1:])
    all_same(result[3:], ours.backward_layer(X, initial_state=other)[1:])
    with pytest.raises(ValueError, match="same number of units"):
        layers.Bidirectional(
            layers.LSTM(4), merge_mode="sum", backward_layer=layers.LSTM(3, go_backwards=True)
        )(X)


# --- Bidirectional: states ---


@pytest.mark.parametrize("name", NAMES)
def test_initial_states_of_both_directions(name: str) -> None:
    count = 2 * STATES[name]
    states = [normal(B, U, seed=i) for i in range(count)]
    ours, stock = pair(lambda m: m.Bidirectional(getattr(m, name)(U, return_state=True)), X)
    expected = stock(X, initial_state=[tensor(s) for s in states])
    all_same(ours(X, initial_state=states), expected)
    all_same(ours(X, initial_state=[s.tolist() for s in states]), expected)

    symbolic = [keras.Input((T, F)), *(keras.Input((U,)) for _ in states)]
    outputs = ours(symbolic[0], initial_state=symbolic[1:])
    assert outputs._fields[0] == "output"
    model = keras.Model(symbolic, list(outputs))
    all_same(model([X, *states]), expected)
    all_same(models.clone_model(model)([X, *states])[1:2], [np.zeros((B, U))], atol=10)


def test_wrong_states_are_explained() -> None:
    layer = layers.Bidirectional(layers.LSTM(U, return_state=True), name="both")
    states = list(layer(X))[1:]
    with pytest.raises(ValueError, match=r"has 2 arrays; expected 4 states.*\[\*states, \*states"):
        layer(X, initial_state=states[:2])
    with pytest.raises(ValueError, match=r"has 5 arrays.*result\[1:\]"):
        layer(X, initial_state=list(layer(X)))
    with pytest.raises(ValueError, match="expected a list: 4 states, .forward_state_h"):
        layer(X, initial_state=states[0])
    with pytest.raises(ValueError, match="both/backward_both"):
        layers.Bidirectional(layers.LSTM(U, name="both"), name="both")(
            X, initial_state=[*states[:2], *(normal(B, 3) for _ in range(2))]
        )
    with pytest.raises(ValueError, match="expected ndim=3"):
        layer(X[0])
    with pytest.raises(ValueError, match="mask of layer 'both'"):
        layer(X, mask=tensor(MASK.T))


def test_states_of_a_stateful_wrapper() -> None:
    wrapped = layers.Bidirectional(layers.LSTM(U, stateful=True, return_state=True))
    alone = layers.Bidirectional(layers.LSTM(U, return_state=True))
    alone.build(X.shape)
    first = wrapped(X, mask=tensor(MASK))
    alone.set_weights(wrapped.get_weights())
    all_same(first, alone(X, mask=tensor(MASK)))
    all_same(wrapped.states, list(first)[1:])
    all_same(wrapped(X), alone(X, initial_state=list(first)[1:]))
    states = [normal(B, U, seed=i) for i in range(4)]
    wrapped.reset_state(states=states)
    all_same(wrapped(X), alone(X, initial_state=states))
    wrapped.reset_states()
    all_same(wrapped(X), alone(X))
    with pytest.raises(ValueError, match="states of layer .* has 3 arrays"):
        wrapped.reset_state(states=states[:3])
    with pytest.raises(AttributeError, match="must be stateful"):
        alone.reset_state()
    stock_inside = layers.Bidirectional(STOCK.GRU(U, stateful=True))
    stock_inside(X)
    stock_inside.reset_state(states=states[:2])
    all_same(stock_inside.states, states[:2])


# --- Bidirectional: results, files, arguments ---


def test_results_have_names() -> None:
    result = layers.Bidirectional(layers.LSTM(U, return_state=True))(X)
    assert result._fields == (
        "output",
        *(f"{d}_state_{s}" for d in ("forward", "backward") for s in "hc"),
    )
    apart = layers.Bidirectional(layers.GRU(U, return_state=True), merge_mode=None)(X)
    assert apart._fields[:3] == ("forward_output", "backward_output", "forward_state_h")
    same(apart.backward_state_h, apart.backward_output)
    for kept in (copy.copy(result), keras.tree.map_structure(lambda value: value, result)):
        assert type(kept) is type(result)
        assert isinstance(kept, tuple)
    numbers = keras.tree.map_structure(array, result)
    restored = pickle.loads(pickle.dumps(numbers))
    assert type(restored) is type(result)
    all_same(restored, result)


def test_unpacking_into_wrong_numbers_of_names_is_explained() -> None:
    layer = layers.Bidirectional(layers.LSTM(U, return_state=True))
    with pytest.raises(ValueError, match=r"Bidirectional\(LSTM\) returns 5 outputs"):
        _output, _h, _c = layer(X)
    output, *_states = layer(X)
    assert tuple(output.shape) == (B, 2 * U)
    with pytest.raises(ValueError, match="return_state=True to get the states of both"):
        _output, _h = layers.Bidirectional(layers.GRU(U))(X)
    with pytest.raises(ValueError, match="returns 2 outputs"):
        _a, _b, _c = layers.Bidirectional(layers.GRU(U), merge_mode=None)(X)


def test_masks_follow_outputs_that_go_backwards() -> None:
    wrapper = layers.Bidirectional(
        layers.LSTM(3, return_sequences=True, go_backwards=True),
        backward_layer=layers.LSTM(3, return_sequences=True),
    )
    model = keras.Sequential([keras.Input((None, 2)), layers.Masking(), wrapper, layers.LSTM(2)])
    padded = np.random.default_rng(0).normal(size=(2, 5, 2)).astype("float32")
    padded[:, 3:] = 0
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(padded)), ops.convert_to_numpy(model(padded[:, :3]))
    )


def test_calls_that_somebody_watches_go_through_the_layer() -> None:
    x = np.zeros((2, 4, 3), "float32")
    wrapper = layers.Bidirectional(layers.LSTM(3))
    wrapper(x)
    seen: list[Any] = []
    original = wrapper.forward_layer.call
    wrapper.forward_layer.call = lambda *a, **k: [seen.append(1), original(*a, **k)][1]
    wrapper(x)
    assert seen == [1]
    if keras.backend.backend() == "torch":
        wrapper.backward_layer.register_forward_hook(lambda *_: seen.append(2))
        wrapper(x)
        assert seen == [1, 1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Bidirectional(layers.Dense(3)), "a Dense; expected a recurrent layer"),
        (lambda: layers.Bidirectional(layers.LSTMCell(3)), r"Wrap the cell: Bidirectional\(RNN"),
        (lambda: layers.Bidirectional(layers.GRU(2, go_backwards=True)), "no backward_layer"),
    ],
)
def test_layers_that_have_no_two_directions(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_files_go_both_ways(tmp_path: Path) -> None:
    def make(m: Any) -> Any:
        inputs = keras.Input((None, 4, F))
        words = m.TimeDistributed(m.Bidirectional(m.GRU(3)), name="words")(inputs)
        both = m.Bidirectional(m.LSTM(U, return_state=True), merge_mode="sum", name="both")(words)
        return keras.Model(inputs, list(both))

    x = normal(2, 3, 4, F)
    for source, load, kind in (
        (layers, keras.models.load_model, "keras"),
        (STOCK, models.load_model, "recurra"),
    ):
        model = make(source)
        for index, ending in enumerate(("keras", "h5")):
            path = str(tmp_path / f"{kind}{index}.{ending}")
            model.save(path)
            loaded = load(path)
            both = loaded.get_layer("both")
            inner = loaded.get_layer("words").layer
            for layer in (both, both.forward_layer, inner, inner.backward_layer):
                assert type(layer).__module__.split(".")[0] == kind
            all_same(loaded(x), model(x))
            assert [v.name for v in loaded.weights] == [v.name for v in model.weights]
    for layer in (layers.Bidirectional(layers.GRU(2)), layers.TimeDistributed(layers.GRU(2))):
        copied = pickle.loads(pickle.dumps(layer))
        assert type(copied) is type(layer)
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


def test_given_weights() -> None:
    values = [normal(*v, seed=i) for i, v in enumerate([(F, 12), (3, 12), (12,)] * 2)]
    layer = layers.Bidirectional(layers.LSTM(3), weights=values)
    layer(X)
    all_same(layer.get_weights(), values)
    with pytest.raises(ValueError, match="weights= with 5 arrays; expected 6"):
        layers.Bidirectional(layers.LSTM(3), weights=values[:5])(X)


# --- TimeDistributed ---

ITEMS = 3
NESTED = normal(B, ITEMS, T, F)


def distributed() -> dict[str, tuple[Callable[[Any], Any], bool | None]]:
    """Layers to be distributed: how to make them, whether in one call (None: in inference)."""
    return {
        "LSTM": (lambda m: m.LSTM(U), True),
        "GRU, sequences": (lambda m: m.GRU(U, return_sequences=True, reset_after=False), True),
        "SimpleRNN with dropout": (lambda m: m.SimpleRNN(U, dropout=0.4, seed=1), None),
        "Bidirectional": (lambda m: m.Bidirectional(m.GRU(U)), True),
        "TimeDistributed": (lambda m: m.TimeDistributed(m.Dense(U)), True),
        "Dense": (lambda m: m.Dense(U, activation="softmax"), True),
        "Conv1D": (lambda m: m.Conv1D(2, 2, activation="relu"), True),
        "Sequential": (
            lambda m: keras.Sequential([m.Dense(3), m.GRU(U), m.Dropout(0.5, seed=2)]),
            None,
        ),
        "BatchNormalization": (lambda m: m.BatchNormalization(), None),
        "stateful": (lambda m: m.GRU(U, stateful=True), False),
        "Lambda": (lambda m: m.Lambda(lambda x: x - ops.mean(x, axis=0)), False),
    }


@pytest.mark.parametrize("kind", list(distributed()))
def test_time_distributed_equals_stock(kind: str) -> None:
    make, at_once = distributed()[kind]
    ours, stock = pair(lambda m: m.TimeDistributed(make(m)), NESTED)
    for training in (True, False):  # stock's inference draws random numbers too
        expected_at_once = at_once if at_once is not None else not training
        assert rows.independent(ours.layer, training) is expected_at_once
        all_same(ours(NESTED, training=training), stock(NESTED, training=training))
    all_same(ours.weights, stock.weights)
    if kind != "Lambda":
        assert ours.compute_output_shape(NESTED.shape) == stock.compute_output_shape(NESTED.shape)
    spec = ours.compute_output_spec(keras.KerasTensor(NESTED.shape))
    assert tuple(spec.shape) == tuple(ours(NESTED).shape)


def test_all_items_are_one_call_of_the_engine(engine_calls: list[int]) -> None:
    for inner, expected in (
        (layers.LSTM(U, return_state=True), [1]),
        (layers.Bidirectional(layers.GRU(U)), [2]),
        (layers.TimeDistributed(layers.GRU(U)), [1]),
    ):
        layer = layers.TimeDistributed(inner)
        x = normal(2, 2, 3, T, F) if isinstance(inner, layers.TimeDistributed) else NESTED
        layer.build(x.shape)
        engine_calls.clear()
        layer(x)
        assert engine_calls == expected


def test_time_distributed_gradients_equal_stock() -> None:
    ours, stock = pair(lambda m: m.TimeDistributed(m.LSTM(U)), NESTED)
    for a, b in zip(gradients(ours, NESTED, None), gradients(stock, NESTED, None), strict=True):
        same(a, b, atol=2e-5)


def test_results_apart() -> None:
    inner = layers.LSTM(U, return_state=True, return_sequences=True)
    layer = layers.TimeDistributed(inner)
    result = layer(NESTED)
    alone = [inner(NESTED[:, i]) for i in range(ITEMS)]
    assert type(result) is type(alone[0])
    all_same(result, [np.stack([array(r[k]) for r in alone], 1) for k in range(3)])
    shapes = layer.compute_output_shape(NESTED.shape)
    assert shapes == tuple(tuple(r.shape) for r in result)
    symbol = keras.Input((None, T, F))
    symbolic = layer(symbol)
    assert type(symbolic) is type(result)
    assert symbolic.state_c.shape == (None, None, U)
    all_same(keras.Model(symbol, list(symbolic))(NESTED), list(result))
    traced = layers.TimeDistributed(layers.GRU(U, return_trace=True))(NESTED)
    assert tuple(traced.trace["update_gate"].shape) == (B, ITEMS, T, U)
    with pytest.raises(ValueError, match="returns 3 outputs"):
        _output, _state = layer(NESTED)


def test_masks_of_items_and_of_steps() -> None:
    inner = layers.LSTM(U, return_sequences=True)
    layer = layers.TimeDistributed(inner)
    steps = np.stack([MASK, MASK[::-1], np.ones_like(MASK)], axis=1)
    got = layer(NESTED, mask=tensor(steps))
    for i in range(ITEMS):
        same(got[:, i], inner(NESTED[:, i], mask=tensor(steps[:, i])))
    # The mask goes on as it is where the result has steps, else as a mask of items.
    assert array(layer.compute_mask(NESTED, tensor(steps))).shape == (B, ITEMS, T)
    last = layers.TimeDistributed(layers.LSTM(U))
    assert array(last.compute_mask(NESTED, tensor(steps))).all()
    steps[1, 2] = False
    items = array(last.compute_mask(NESTED, tensor(steps)))
    assert items.shape == (B, ITEMS)
    assert not items[1, 2]
    assert items.sum() == B * ITEMS - 1
    # An item that is not real: nothing is read.
    same(last(NESTED, mask=tensor(items))[1, 2], np.zeros(U))
    with pytest.raises(ValueError, match="pass mask.T"):
        last(NESTED, mask=tensor(items.T))
    with pytest.raises(ValueError, match="at least 2"):
        last(NESTED, mask=tensor(items[0]))
    with pytest.raises(ValueError, match="reads sequences: expected an input of shape"):
        layers.TimeDistributed(layers.LSTM(U))(X)


def test_documents_of_sentences_of_words() -> None:
    """Masks of words and of sentences, from the embedding to the last layer, padded or not."""
    tokens = np.random.default_rng(1).integers(1, 9, (2, 3, 5))
    tokens[0, 1, 3:] = 0
    tokens[1, 2] = 0
    symbol = keras.Input((None, None), dtype="int32")
    words = layers.TimeDistributed(layers.Embedding(9, F, mask_zero=True))(symbol)
    words = layers.TimeDistributed(layers.Bidirectional(layers.GRU(3, return_sequences=True)))(
        words
    )
    sentences = layers.TimeDistributed(layers.LSTM(4))(words)
    document = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(sentences)
    model = keras.Model(symbol, layers.Dense(2)(layers.GRU(U)(document)))
    for i, weight in enumerate(model.weights):
        weight.assign(normal(*weight.shape, seed=i))
    padded = model(tokens)
    same(padded[1], model(tokens[1:, :2])[0], atol=1e-5)
    wider = np.zeros((2, 4, 7), tokens.dtype)
    wider[:, :3, :5] = tokens
    same(padded, model(wider), atol=1e-5)
    same(padded, model.predict(tokens, verbose=0), atol=1e-5)


def test_no_items() -> None:
    for inner, shapes in (
        (layers.LSTM(U, return_state=True), [(B, 0, U)] * 3),
        (layers.LSTM(U, stateful=True), [(B, 0, U)]),
    ):
        results = layers.TimeDistributed(inner)(NESTED[:, :0])
        assert [tuple(r.shape) for r in keras.tree.flatten(results)] == shapes


@pytest.mark.parametrize("training", [False, True])
def test_variable_numbers_of_items(training: bool) -> None:
    symbol = keras.Input((None, T, F))
    inner = layers.LSTM(U, dropout=0.5 if training else 0.0)
    model = keras.Model(symbol, layers.GRU(4)(layers.TimeDistributed(inner)(symbol)))
    model.compile("sgd", "mse")
    for items in (1, ITEMS):
        x = NESTED[:, :items]
        if training:
            model.fit(x, np.zeros((B, 4)), verbose=0)
        else:
            same(model.predict(x, verbose=0), model(x))


@pytest.mark.skipif(HOST != "torch", reason="torch.compile")
@pytest.mark.parametrize("kind", ["output", "states", "items"])
def test_wrappers_compile_without_a_graph_break(kind: str) -> None:
    import torch

    x = tensor(NESTED if kind == "items" else X)
    layer = {
        "output": lambda: layers.Bidirectional(layers.LSTM(U, return_sequences=True)),
        "states": lambda: layers.Bidirectional(layers.GRU(U, return_state=True)),
        "items": lambda: layers.TimeDistributed(layers.GRU(U)),
    }[kind]()
    expected = layer(x)
    got = torch.compile(layer, backend="eager", fullgraph=True)(x)
    assert type(got) is type(expected)
    all_same(got, expected)
