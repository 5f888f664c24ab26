"""Stateful layers: what they carry from batch to batch, how it is reset, saved and restored.

Where stock Keras 3.15.1 gets it wrong, a test shows that first, on the hosts where it does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from beside_keras import (
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
from recurra import layers, models

# --- Carried, and trained with ---


def chunks(count: int = 3, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A long sequence, (B, count * T, F), and its chunks as batches, (count * B, T, F)."""
    whole = normal(B, count * T, F, seed=seed)
    return whole, np.concatenate(np.split(whole, count, axis=1))


@pytest.mark.skipif(HOST != "jax", reason="stock Keras loses the states on JAX alone")
def test_stock_loses_the_states_on_jax() -> None:
    model = sequential(STOCK.LSTM(U, stateful=True))
    model.compile("sgd", "mse")
    first = model.predict(X, verbose=0)
    same(model.predict(X, verbose=0), first)
    model.fit(X, np.zeros((B, U)), batch_size=B, verbose=0)
    model.evaluate(X, np.zeros((B, U)), batch_size=B, verbose=0)
    assert not any(array(state).any() for state in model.layers[0].states)


@pytest.mark.parametrize("how", ["jit", "no jit", "eagerly"])
@pytest.mark.parametrize("name", NAMES)
def test_stateful_layers_carry_their_states(name: str, how: str) -> None:
    whole, x = chunks()
    layer = getattr(layers, name)(U, stateful=True)
    model = sequential(layer)
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        jit_compile=how == "jit" and HOST == "jax",
        run_eagerly=how == "eagerly",
    )
    expected = oracle(layer, whole)
    ends = np.concatenate([expected.sequence[:, i * T + T - 1] for i in range(3)])
    same(model.predict(x, batch_size=B, verbose=0), ends)
    for state, value in zip(layer.states, expected.states.values(), strict=True):
        same(state, value)

    y = normal(len(x), U, seed=2)
    for run in (
        lambda: model.evaluate(x, y, batch_size=B, verbose=0),
        lambda: model.fit(x, y, batch_size=B, shuffle=False, verbose=0).history["loss"][0],
    ):
        layer.reset_state()
        np.testing.assert_allclose(run(), np.mean((ends - y) ** 2), rtol=1e-5)
        for state, value in zip(layer.states, expected.states.values(), strict=True):
            same(state, value)


def stateful_variants() -> dict[str, Callable[[Any, bool], Any]]:
    """Recurrent layers of every kind with a state; `keeps` is stateful, else return_state."""

    def options(keeps: bool) -> dict[str, bool]:
        return {"stateful": True} if keeps else {"return_state": True}

    return {
        "rnn": lambda m, keeps: m.RNN(m.GRUCell(U), **options(keeps)),
        "cells": lambda m, keeps: m.RNN([m.LSTMCell(4), m.GRUCell(U)], **options(keeps)),
        "stack": lambda m, keeps: m.RNN(
            m.StackedRNNCells([m.LSTMCell(4), m.LSTMCell(U)]), **options(keeps)
        ),
        "bidirectional": lambda m, keeps: m.Bidirectional(m.LSTM(U, **options(keeps))),
        "custom": lambda m, keeps: m.RNN(Leaky(U), **options(keeps)),
    }


@pytest.mark.parametrize("kind", list(stateful_variants()))
def test_states_of_every_kind_are_carried(kind: str) -> None:
    make = stateful_variants()[kind]
    _, x = chunks()
    ours = make(layers, True)
    model = sequential(ours)
    # The same layer of stock Keras without stateful, handed its states by hand.
    plain = make(STOCK, False)
    plain(X)
    plain.set_weights(ours.get_weights())
    states, outputs = None, []
    for i in range(3):
        result = plain(x[i * B : i * B + B], initial_state=states)
        outputs.append(array(result[0]))
        states = list(result[1:])
    same(model.predict(x, batch_size=B, verbose=0), np.concatenate(outputs))
    for state, expected in zip(arrays(list(ours.states)), arrays(states), strict=True):
        same(state, expected)


@pytest.mark.parametrize("name", NAMES)
def test_stateful_layers_train(name: str) -> None:
    _, x = chunks()
    y = normal(len(x), U, seed=3)
    if HOST == "torch":
        model = sequential(getattr(STOCK, name)(U, stateful=True))
        model.compile("sgd", "mse")
        with pytest.raises(RuntimeError, match="inplace"):
            model.fit(x, y, batch_size=B, verbose=0)

    ours = getattr(layers, name)(U, stateful=True)
    model = sequential(ours)
    model.compile(keras.optimizers.SGD(0.5), "mse")

    # The same training with states given by hand: gradients end where a batch begins.
    plain = getattr(STOCK, name)(U, return_state=True)
    count = len(ours.states)
    symbols = [keras.Input(batch_shape=(B, T, F))]
    symbols += [keras.Input(batch_shape=(B, U)) for _ in range(count)]
    output, *final = plain(symbols[0], initial_state=symbols[1:])
    trained = keras.Model(symbols, output)
    reader = keras.Model(symbols, final)
    plain.set_weights(ours.get_weights())
    trained.compile(keras.optimizers.SGD(0.5), "mse")
    states = [np.zeros((B, U), "float32")] * count
    for _ in range(2):
        for i in range(3):
            batch = [x[i * B : i * B + B], *states]
            new = reader.predict_on_batch(batch)
            trained.train_on_batch(batch, y[i * B : i * B + B])
            states = list(new) if isinstance(new, (list, tuple)) else [new]

    model.fit(x, y, batch_size=B, epochs=2, shuffle=False, verbose=0)
    for got, expected in zip(ours.get_weights(), plain.get_weights(), strict=True):
        same(got, expected, atol=2e-5)
    for got, expected in zip(ours.states, states, strict=True):
        same(got, expected, atol=2e-5)


def test_stacked_stateful_layers_reset() -> None:
    stock = STOCK.RNN([STOCK.LSTMCell(4), STOCK.LSTMCell(U)], stateful=True)
    stock(X)
    with pytest.raises(AttributeError):
        stock.reset_state()

    ours = layers.RNN([layers.LSTMCell(4), layers.LSTMCell(U)], stateful=True)
    first = array(ours(X))
    assert np.abs(array(ours(X)) - first).max() > 1e-4
    ours.reset_state()
    assert not any(state.any() for state in arrays(ours.states))
    same(ours(X), first)
    ours.reset_states()
    same(ours(X), first)
    given = [normal(*state.shape, seed=7) for state in arrays(ours.states)]
    ours.reset_state(states=[given[:2], given[2:]])
    for got, expected in zip(arrays(ours.states), given, strict=True):
        same(got, expected)

    model = keras.Sequential(
        [
            keras.Input(batch_shape=(B, T, F)),
            layers.LSTM(U, stateful=True, return_sequences=True),
            layers.GRU(U, stateful=True),
        ]
    )
    first = model.predict(X, verbose=0)
    assert np.abs(model.predict(X, verbose=0) - first).max() > 1e-4
    models.reset_states(model)
    same(model.predict(X, verbose=0), first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("symbolic", [True, False], ids=["model", "call"])
def test_bidirectional_stateful_with_states_and_a_mask(name: str, symbolic: bool) -> None:
    def make(module: Any, stateful: bool) -> Any:
        inner = getattr(module, name)(U, stateful=stateful, return_state=True)
        return module.Bidirectional(inner)

    def call(layer: Any) -> Callable[[], Any]:
        if not symbolic:
            return lambda: layer(X, mask=tensor(MASK))
        x, m = keras.Input(batch_shape=(B, T, F)), keras.Input(batch_shape=(B, T), dtype="bool")
        model = keras.Model([x, m], layer(x, mask=m))
        return lambda: model([X, MASK])

    with pytest.raises(TypeError):
        call(make(STOCK, stateful=True))()
    ours = make(layers, stateful=True)
    run = call(ours)
    got = [arrays(run()), arrays(run())]
    plain = make(STOCK, stateful=False)
    plain(X)
    plain.set_weights(ours.get_weights())
    states = None
    for each in got:
        output, *states = plain(X, mask=tensor(MASK), initial_state=states)
        same(each[0], output)
        for a, b in zip(each[1:], states, strict=True):
            same(a, b)
    for a, b in zip(arrays(list(ours.states)), states, strict=True):
        same(a, b)


# --- Saved and restored ---


def test_states_are_saved_and_restored_on_request(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        STOCK.LSTM(U, stateful=True).reset_state(states=[X, X])

    layer = layers.LSTM(U, stateful=True, name="kept")
    model = sequential(layer)
    model.predict(X, verbose=0)
    before = models.get_states(model)
    models.save_states(model, tmp_path / "states.npz")
    expected = model.predict(X, verbose=0)
    models.set_states(model, before)
    same(model.predict(X, verbose=0), expected)
    models.reset_states(model)
    models.load_states(model, tmp_path / "states.npz")
    same(model.predict(X, verbose=0), expected)
    layer.reset_state(states=before["kept"])
    same(model.predict(X, verbose=0), expected)
