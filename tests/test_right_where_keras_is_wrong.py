"""What Keras 3.15.1's recurrent layers get wrong, and Recurra's layers right.

Each test shows first that stock Keras fails, on the hosts where it does, and then that Recurra's
layer is right: beside the NumPy reference, runs of the unpadded sequences, or runs step by step.
States of stateful layers have their tests in test_states.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from beside_keras import (
    ANY,
    HOST,
    MASK,
    NAMES,
    STOCK,
    B,
    F,
    Leaky,
    T,
    U,
    X,
    array,
    arrays,
    normal,
    oracle,
    same,
    sequential,
    tensor,
)
from recurra import layers

# --- Options that stock Keras forgets ---


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_last_output_is_the_last_kept_one(name: str, unroll: bool) -> None:
    options = {"zero_output_for_mask": True, "unroll": unroll}
    stock = getattr(STOCK, name)(U, **options)
    ours = getattr(layers, name)(U, **options)
    if HOST != "jax" or not unroll:
        assert not array(stock(X, mask=tensor(MASK)))[[0, 2, 3]].any()
    got = ours(X, mask=tensor(MASK))
    expected = oracle(ours, X, mask=MASK, zero_output_for_mask=True)
    same(got, expected.last_output)
    assert expected.last_output.all()


@pytest.mark.parametrize("name", NAMES)
def test_unroll_honours_zero_output_for_mask(name: str) -> None:
    options = {"zero_output_for_mask": True, "unroll": True, "return_sequences": True}
    if HOST == "jax":
        assert array(getattr(STOCK, name)(U, **options)(X, mask=tensor(MASK)))[~MASK].any()
    ours = getattr(layers, name)(U, **options)
    got = array(ours(X, mask=tensor(MASK)))
    assert not got[~MASK].any()
    same(got, oracle(ours, X, mask=MASK, zero_output_for_mask=True).sequence)


@pytest.mark.parametrize("name", NAMES)
def test_unroll_with_a_mask_and_go_backwards(name: str) -> None:
    options = {"unroll": True, "go_backwards": True, "return_sequences": True}
    if HOST == "torch":
        with pytest.raises(AttributeError):
            getattr(STOCK, name)(U, **options)(X, mask=tensor(MASK))
    ours = getattr(layers, name)(U, **options)
    same(ours(X, mask=tensor(MASK)), oracle(ours, X, mask=MASK).sequence)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_implementation_1_with_dropout_trains(name: str) -> None:
    def fit(module: Any) -> Any:
        model = sequential(getattr(module, name)(U, implementation=1, dropout=0.4, seed=3))
        model.compile("sgd", "mse")
        return model.fit(X, np.zeros((B, U)), epochs=2, batch_size=B, verbose=0)

    with pytest.raises(ANY):
        fit(STOCK)
    assert np.isfinite(fit(layers).history["loss"]).all()
    # Without dropout, the two implementations are the same function.
    ours = getattr(layers, name)(U, implementation=1)
    same(ours(X), oracle(ours, X).last_output)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "initial_state"])
@pytest.mark.parametrize("name", NAMES)
def test_no_time_steps_give_the_initial_state(name: str, given: bool) -> None:
    def call(module: Any, sequences: bool) -> Any:
        layer = getattr(module, name)(U, return_state=True, return_sequences=sequences)
        count = 2 if name == "LSTM" else 1
        states = [normal(B, U, seed=i) for i in range(count)] if given else None
        return layer(np.zeros((B, 0, F), "float32"), initial_state=states), states

    with pytest.raises(ANY):
        call(STOCK, False)
    (output, *final), states = call(layers, False)
    states = states or [np.zeros((B, U))] * len(final)
    same(output, states[0])
    for got, expected in zip(final, states, strict=True):
        same(got, expected)
    (output, *final), _ = call(layers, True)
    assert tuple(output.shape) == (B, 0, U)
    for got, expected in zip(final, states, strict=True):
        same(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_inference_leaves_the_dropout_generator_alone(name: str) -> None:
    def advanced(module: Any) -> bool:
        layer = getattr(module, name)(U, dropout=0.3, recurrent_dropout=0.2, seed=3)
        layer(X)
        before = array(layer.cell.seed_generator.state).copy()
        layer(X)
        model = sequential(layer)
        model.predict(X, verbose=0)
        return bool((array(layer.cell.seed_generator.state) != before).any())

    assert advanced(STOCK)
    assert not advanced(layers)
    layer = getattr(layers, name)(U, dropout=0.3, recurrent_dropout=0.2, seed=3)
    one = array(layer(X, training=True))
    assert np.abs(one - array(layer(X, training=True))).max() > 1e-4


# --- Cells of every kind ---


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_a_list_of_one_cell(name: str) -> None:
    if HOST == "jax":
        with pytest.raises(TypeError, match="pytree"):
            STOCK.RNN([getattr(STOCK, name)(U)])(X)
    several = layers.RNN([getattr(layers, name)(U)], return_state=True, return_sequences=True)
    one = STOCK.RNN(getattr(STOCK, name)(U), return_state=True, return_sequences=True)
    output, *states = several(X)
    one(X)
    one.set_weights(several.get_weights())
    expected, *expected_states = one(X)
    same(output, expected)
    for got, want in zip(arrays(states), arrays(expected_states), strict=True):
        same(got, want)


@pytest.mark.parametrize("wide", [False, True], ids=["as wide as the state", "wider"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequence"])
def test_a_cell_whose_output_is_not_its_state_under_a_mask(wide: bool, sequences: bool) -> None:
    def expected(kernel: np.ndarray) -> np.ndarray:
        state, steps = np.zeros((B, U)), []
        previous = np.zeros((B, U * (2 if wide else 1)))
        for t in range(T):
            new = 0.5 * state + X[:, t] @ kernel
            output = np.concatenate([5 - new, new], axis=-1) if wide else 5 - new
            keep = MASK[:, t, None]
            state, previous = np.where(keep, new, state), np.where(keep, output, previous)
            steps.append(previous)
        return np.stack(steps, axis=1) if sequences else steps[-1]

    def run(module: Any) -> tuple[np.ndarray, np.ndarray]:
        layer = module.RNN(Leaky(U, wide), return_sequences=sequences)
        got = array(layer(X, mask=tensor(MASK)))
        return got, expected(array(layer.cell.kernel))

    if HOST == "jax" and wide:
        with pytest.raises(ValueError, match="Incompatible shapes"):
            run(STOCK)
    elif HOST == "jax":
        got, right = run(STOCK)
        assert np.abs(got - right).max() > 1
    got, right = run(layers)
    same(got, right, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2])
def test_convolutional_lstm_with_a_mask(rank: int) -> None:
    x = normal(B, T, *[5, 4, 3][:rank], 2)
    name = f"ConvLSTM{rank}D"

    def run(module: Any) -> tuple[Any, np.ndarray]:
        layer = getattr(module, name)(2, 2, return_sequences=True, padding="same")
        return layer, array(layer(x, mask=tensor(MASK)))

    def expected(layer: Any) -> np.ndarray:
        """Every row's kept steps alone, repeated where a step is masked."""
        alone = getattr(STOCK, name)(2, 2, return_sequences=True, padding="same")
        alone(x)
        alone.set_weights(layer.get_weights())
        result = np.zeros((B, T, *x.shape[2:-1], 2))
        for row in range(B):
            kept = array(alone(x[row : row + 1, MASK[row]]))[0]
            result[row] = kept[np.cumsum(MASK[row]) - 1]
        return result

    # Stock takes the batch's axis of the mask for the last axis but one of the images.
    if HOST == "jax":
        try:
            layer, got = run(STOCK)
        except ValueError:
            pass
        else:
            assert np.abs(got - expected(layer)).max() > 1e-3
    layer, got = run(layers)
    same(got, expected(layer), atol=1e-5)


# --- Masks on their way ---

TOKENS = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9], [1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]])
LENGTHS = (3, 6, 2, 1)


def recurrent_stacks() -> dict[str, Callable[[Any, Any], Any]]:
    """Models from embedded tokens, each of them (module, embedded) -> output."""
    return {
        "stacked": lambda m, x: m.LSTM(4)(m.GRU(4, return_sequences=True)(x)),
        "after a state": lambda m, x: m.LSTM(4)(
            m.LSTM(4, return_sequences=True, return_state=True)(x)[0]
        ),
        "bidirectional": lambda m, x: m.Bidirectional(m.LSTM(4))(x),
        "bidirectional sequences": lambda m, x: m.Bidirectional(m.GRU(4, return_sequences=True))(x),
        "two bidirectional": lambda m, x: m.Bidirectional(m.LSTM(4))(
            m.Bidirectional(m.LSTM(4, return_sequences=True), merge_mode="sum")(x)
        ),
        "bidirectional apart": lambda m, x: m.LSTM(3)(
            m.Concatenate()(m.Bidirectional(m.LSTM(4, return_sequences=True), merge_mode=None)(x))
        ),
        "bidirectional states": lambda m, x: m.Concatenate()(
            m.Bidirectional(m.LSTM(4, return_state=True))(x)
        ),
        "bidirectional, dense": lambda m, x: m.LSTM(4)(
            m.Dense(3)(m.Bidirectional(m.GRU(4, return_sequences=True))(x))
        ),
        "time distributed": lambda m, x: m.LSTM(4)(
            m.TimeDistributed(m.Dense(4))(m.LSTM(4, return_sequences=True)(x))
        ),
        "cells": lambda m, x: m.RNN([m.LSTMCell(3), m.GRUCell(4)], return_sequences=True)(x),
        "backwards": lambda m, x: m.LSTM(4)(m.LSTM(4, return_sequences=True, go_backwards=True)(x)),
    }


def padding_error(module: Any, make: Callable[[Any, Any], Any]) -> float:
    tokens = keras.Input((None,), dtype="int32")
    embedded = module.Embedding(12, 3, mask_zero=True, embeddings_initializer="normal")(tokens)
    model = keras.Model(tokens, make(module, embedded))
    for i, weight in enumerate(model.weights):
        weight.assign(normal(*weight.shape, seed=i))
    padded = array(model(TOKENS))
    error = 0.0
    for row, length in enumerate(LENGTHS):
        alone = array(model(TOKENS[row : row + 1, :length]))[0]
        found = padded[row][:length] if padded.ndim == 3 else padded[row]
        error = max(error, float(np.abs(alone - found).max()))
    return error


@pytest.mark.parametrize("kind", list(recurrent_stacks()))
def test_padding_changes_nothing(kind: str) -> None:
    make = recurrent_stacks()[kind]
    # A sequence that comes out backwards has its padding in front; stock leaves the mask as it was.
    # The others stock gets right; shown for one, as its eager calls on JAX take long.
    if kind == "backwards":
        assert padding_error(STOCK, make) > 1e-3
    if kind == "stacked":
        assert padding_error(STOCK, make) < 1e-5
    assert padding_error(layers, make) < 1e-5


def test_padding_inside_of_time_distributed_changes_nothing() -> None:
    """Documents of sentences of words: masks of words reach the inner layer."""
    words = np.random.default_rng(1).integers(1, 9, (2, 3, 5))
    words[0, 1, 3:] = 0
    words[1, 2, 2:] = 0

    def error(module: Any) -> float:
        symbol = keras.Input((3, None), dtype="int32")
        embedded = module.TimeDistributed(module.Embedding(9, 3, mask_zero=True))(symbol)
        model = keras.Model(symbol, module.TimeDistributed(module.LSTM(4))(embedded))
        for i, weight in enumerate(model.weights):
            weight.assign(normal(*weight.shape, seed=i))
        padded = array(model(words))
        short = array(model(np.repeat(words[:1, 1:2, :3], 3, axis=1)))
        return float(np.abs(padded[0, 1] - short[0, 0]).max())

    assert error(STOCK) > 1e-3
    assert error(layers) < 1e-5


def test_masked_items_of_time_distributed_recurrent_layers() -> None:
    """A mask of sentences, (batch, items), in front of a recurrent layer for each sentence."""
    x = normal(2, 5, T, F)
    keep = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    with pytest.raises(IndexError):
        STOCK.TimeDistributed(STOCK.LSTM(U))(x, mask=tensor(keep))
    inner = layers.LSTM(U)
    got = array(layers.TimeDistributed(inner)(x, mask=tensor(keep)))
    for item in range(5):
        rows = keep[:, item]
        same(got[rows, item], oracle(inner, x[rows, item]).last_output)


# --- TimeDistributed and states ---


@pytest.mark.parametrize("name", NAMES)
def test_time_distributed_never_stacks_states(name: str) -> None:
    x = normal(2, 5, T, F)
    count = 2 if name == "LSTM" else 1
    stock = STOCK.TimeDistributed(getattr(STOCK, name)(U, return_state=True))(x)
    assert tuple(stock.shape) == (1 + count, 5, 2, U)

    inner = getattr(layers, name)(U, return_state=True)
    result = layers.TimeDistributed(inner)(x)
    assert len(result) == 1 + count
    for item in range(5):
        expected = oracle(inner, x[:, item])
        same(result[0][:, item], expected.last_output)
        for got, state in zip(list(result)[1:], expected.states.values(), strict=True):
            same(got[:, item], state)


# --- Small calls ---


@pytest.mark.skipif(HOST != "jax", reason="stock Keras traces every eager call on JAX alone")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "cells", "bidirectional"])
def test_one_step_calls_do_not_trace_anew(kind: str) -> None:
    def build(module: Any) -> Any:
        layer = {
            "LSTM": lambda: module.LSTM(64),
            "GRU": lambda: module.GRU(64),
            "cells": lambda: module.RNN([module.LSTMCell(32), module.LSTMCell(32)]),
            "bidirectional": lambda: module.Bidirectional(module.LSTM(32)),
        }[kind]()
        return keras.Sequential([keras.Input((None, 8)), layer])

    import jax

    compiled: list[str] = []

    def listen(event: str, duration: float, **more: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    def compilations(model: Any) -> int:
        x = np.zeros((1, 1, 8), "float32")
        array(model(x))
        before = len(compiled)
        for _ in range(3):
            array(model(x))
        return len(compiled) - before

    jax.monitoring.register_event_duration_secs_listener(listen)
    assert compilations(build(STOCK)) >= 3
    assert compilations(build(layers)) == 0


# --- Wrong wiring ---


def test_unpacking_into_wrong_numbers_of_names_is_explained() -> None:
    with pytest.raises(ValueError, match="too many values"):
        _, _ = STOCK.LSTM(U)(X)
    with pytest.raises(ValueError, match="return_state=True"):
        _, _ = layers.LSTM(U)(X)
    with pytest.raises(ValueError, match="state_c"):
        _, _ = layers.LSTM(U, return_state=True)(X)
    with pytest.raises(ValueError, match="state_h"):
        _, _, _ = layers.GRU(U, return_state=True)(X)


def explained() -> dict[str, tuple[Callable[[Any], Any], str]]:
    def states_of_another_size(m: Any) -> Any:
        return m.LSTM(U)(X, initial_state=list(m.LSTM(4, return_state=True)(X))[1:])

    def one_state_for_two(m: Any) -> Any:
        return m.LSTM(U)(X, initial_state=[np.zeros((B, U), "float32")])

    def the_whole_result(m: Any) -> Any:
        return m.LSTM(U)(m.LSTM(4, return_sequences=True, return_state=True)(X))

    def the_output_as_state(m: Any) -> Any:
        return m.GRU(U)(X, initial_state=m.GRU(U, return_sequences=True)(X))

    def mask_with_features(m: Any) -> Any:
        return m.LSTM(U)(X, mask=tensor(np.ones((B, T, F), dtype=bool)))

    def no_time_axis(m: Any) -> Any:
        return m.LSTM(U)(m.LSTM(U)(X))

    def other_features(m: Any) -> Any:
        layer = m.LSTM(U)
        layer(X)
        return layer(normal(B, T, F + 1))

    return {
        "states of another size": (states_of_another_size, "units"),
        "one state for two": (one_state_for_two, "state_c"),
        "the whole result": (the_whole_result, "initial_state="),
        "the output as state": (the_output_as_state, "sequence of outputs"),
        "mask with features": (mask_with_features, "mask.any"),
        "no time axis": (no_time_axis, "return_sequences=True"),
        "other features": (other_features, f"built for {F} features"),
    }


@pytest.mark.parametrize("kind", list(explained()))
def test_wrong_wiring_is_explained(kind: str) -> None:
    wire, words = explained()[kind]
    said = ""
    try:
        wire(STOCK)
    except ANY as error:
        said = str(error)
    assert words not in said
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        wire(layers)
