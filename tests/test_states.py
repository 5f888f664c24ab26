"""Stateful layers: what they carry from batch to batch, how it is reset, saved and restored.

Where stock Keras 3.15.1 gets it wrong, a test shows that first, on the hosts where it does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
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
    if HOST == "torch" and name != "SimpleRNN":
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


def two_layers(names: tuple[str, str] = ("lower", "upper"), units: int = U) -> Any:
    both = layers.Bidirectional(layers.GRU(3, stateful=True, name="gru"), name=names[1])
    lower = layers.RNN(
        [layers.LSTMCell(4), layers.GRUCell(units)],
        stateful=True,
        return_sequences=True,
        name=names[0],
    )
    return keras.Sequential([keras.Input(batch_shape=(B, T, F)), lower, both])


def test_states_of_a_model_by_path(tmp_path: Path) -> None:
    model = two_layers()
    nested = keras.Sequential([keras.Input(batch_shape=(B, T, F)), model, layers.Dense(2)])
    nested.predict(X, verbose=0)
    kept = models.get_states(model)
    assert sorted(kept) == ["lower", "upper/backward_gru", "upper/forward_gru"]
    assert [f"{model.name}/{path}" for path in kept] == list(models.get_states(nested))
    assert [len(each) for each in kept["lower"]] in ([2, 1], [2])
    expected = nested.predict(X, verbose=0)

    models.save_states(model, tmp_path / "a.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    models.reset_states(nested)
    assert not any(state.any() for state in arrays(models.get_states(nested)))
    models.set_states(model, kept)
    same(nested.predict(X, verbose=0), expected)
    other = models.clone_model(model)
    models.load_states(other, tmp_path / "a.npz")
    for a, b in zip(
        arrays(models.get_states(other)), arrays(models.get_states(model)), strict=True
    ):
        assert a.shape == b.shape
    models.load_states(model, tmp_path / "a.npz")
    for a, b in zip(
        arrays(models.get_states(model)), arrays(models.get_states(other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_states_that_do_not_fit_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "states.npz"
    model = two_layers()
    model.predict(X, verbose=0)
    models.save_states(model, path)
    before = arrays(models.get_states(model))
    with pytest.raises(ValueError, match="no states for below"):
        models.load_states(two_layers(("below", "upper")), path)
    with pytest.raises(ValueError, match=r"shape \(4, 5\); expected \(4, 6\)"):
        models.load_states(two_layers(units=6), path)
    with pytest.raises(ValueError, match="stateful=True"):
        models.save_states(sequential(layers.LSTM(U)), tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError):
        models.load_states(model, tmp_path / "none.npz")
    whole = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:200] + b"x" + whole[201:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            models.load_states(model, path)
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(ValueError, match="something"):
        models.load_states(model, tmp_path / "other.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="damaged"):
        models.load_states(model, tmp_path / "one.npy")
    for a, b in zip(arrays(models.get_states(model)), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_reset_state_takes_any_arrays_that_fit() -> None:
    layer = layers.LSTM(U, stateful=True)
    layer.reset_state()  # as in Keras, nothing to do yet
    with pytest.raises(ValueError, match="not built"):
        layer.reset_state(states=[X[:, 0]])
    layer(X)
    h, c = normal(B, U), normal(B, U, seed=1)
    for given in ([h, c], (tensor(h), c), [h.tolist(), c.tolist()], [h.tolist(), c]):
        layer.reset_state()
        layer.reset_states(states=given)
        for got, expected in zip(layer.states, (h, c), strict=True):
            same(got, expected)
    same(layer(X), oracle(layer, X, h0=h, c0=c).last_output)
    one = layers.GRU(U, stateful=True)
    one(X)
    one.reset_state(h)
    same(one.states[0], h)
    for given, words in (
        ([h], "got 1 array; expected 2"),
        ([h, c[:2]], "built for a batch of 4"),
        ([h, c[:, :2]], r"states\[1\] has shape \(4, 2\)"),
        ([h, None], "expected"),
        (3, "got int"),
    ):
        with pytest.raises(ValueError, match=words):
            layer.reset_state(states=given)
    with pytest.raises(ValueError, match="initial_state"):
        layers.LSTM(U).reset_state(states=[h, c])


# --- What states are to Keras ---


def test_states_are_variables_and_no_weights(tmp_path: Path) -> None:
    ours, stock = (
        sequential(layers.LSTM(U, stateful=True)),
        sequential(STOCK.LSTM(U, stateful=True)),
    )
    layer = ours.layers[0]
    for state in layer.states:
        for owner in (ours, layer):
            assert any(v is state for v in owner.variables)
            assert any(v is state for v in owner.non_trainable_variables)
            assert not any(v is state for v in owner.trainable_variables)
            assert not any(v is state for v in owner.weights)
    assert ours.count_params() == stock.count_params()
    assert len(ours.get_weights()) == len(stock.get_weights()) == 3
    stock.set_weights(ours.get_weights())
    expected = array(stock(X))
    ours(X)
    for suffix in (".keras", ".weights.h5", ".h5"):
        file = tmp_path / f"a{suffix}"
        if suffix == ".weights.h5":
            for source, target in ((ours, stock), (stock, ours)):
                source.save_weights(file)
                target.load_weights(file)
            continue
        ours.save(file)
        loaded = keras.models.load_model(file)
        same(loaded(X), expected)
        again = models.load_model(file)
        assert type(again.layers[0]) is layers.LSTM
        same(again(X), expected)  # from its initial states
        stock.save(file)
        same(models.load_model(file)(X), array(keras.models.load_model(file)(X)))


def test_copies_have_states_of_their_own() -> None:
    model = sequential(layers.LSTM(U, stateful=True))
    model.predict(X, verbose=0)
    kept = models.get_states(model)
    for copied in (copy.deepcopy(model), models.clone_model(model)):
        copied.set_weights(model.get_weights())
        models.reset_states(copied)
        first = copied.predict(X, verbose=0)
        assert np.abs(copied.predict(X, verbose=0) - first).max() > 1e-4
        same(first, oracle(model.layers[0], X).last_output)
    for a, b in zip(arrays(kept), arrays(models.get_states(model)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_models_built_late_carry_states() -> None:
    """Keras builds these while it traces the model, when variables get no values yet."""
    whole, x = chunks()

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = layers.GRU(U, stateful=True)

        def call(self, inputs: Any) -> Any:
            return self.recurrent(inputs)

    for model in (keras.Sequential([layers.GRU(U, stateful=True)]), Subclassed()):
        got = model.predict(x, batch_size=B, verbose=0)
        expected = oracle(model.layers[0], whole)
        same(got, np.concatenate([expected.sequence[:, i * T + T - 1] for i in range(3)]))
    late = Subclassed()
    late.compile("sgd", "mse")
    late.fit(x, np.zeros((len(x), U)), batch_size=B, verbose=0)
    assert array(late.recurrent.states[0]).any()
    with pytest.raises(ValueError, match="must be static"):
        keras.Sequential([keras.Input((T, F)), layers.LSTM(U, stateful=True)])


@pytest.mark.parametrize("run", ["predict", "fit", "evaluate"])
def test_another_batch_is_explained_and_harms_nothing(run: str) -> None:
    model = sequential(layers.LSTM(U, stateful=True, name="kept"))
    model.compile("adam", "mse")
    model.fit(X, np.zeros((B, U)), batch_size=B, verbose=0)
    weights = model.get_weights()
    for count in (B + 2, 2):  # a rest as the last batch; a first batch that is too small
        x, y = normal(count, T, F), np.zeros((count, U))
        arguments = (x,) if run == "predict" else (x, y)
        with pytest.raises(ANY) as raised:
            getattr(model, run)(*arguments, batch_size=B, verbose=0)
        if HOST == "tensorflow" and "Graph execution error" in str(raised.value):
            # A graph for any batch: the engine finds out.
            assert "h0 has shape (4, 5); expected (2, 5)" in str(raised.value)
        else:
            assert "Expected batch size: 4" in str(raised.value)
            assert "'kept'" in str(raised.value)
        if run != "fit":
            for got, expected in zip(model.get_weights(), weights, strict=True):
                np.testing.assert_array_equal(got, expected)
        model.reset_metrics()
        assert np.isfinite(model.predict(X, batch_size=B, verbose=0)).all()
        model.fit(X, np.zeros((B, U)), batch_size=B, verbose=0)
        weights = model.get_weights()


def test_resets_during_fit() -> None:
    """A callback resets through its model at any time; elsewhere the states are out of reach."""
    _, x = chunks()
    model = sequential(layers.LSTM(U, stateful=True))
    layer = model.layers[0]
    seen = []

    class Reset(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            models.reset_states(self.model)
            seen.append(arrays(models.get_states(self.model))[0].any())

    model.compile(keras.optimizers.SGD(0.0), "mse")
    y = normal(len(x), U)
    got = model.fit(x, y, batch_size=B, shuffle=False, callbacks=[Reset()], verbose=0)
    assert seen == [False] * 3
    expected = np.mean((oracle(layer, x).last_output - y) ** 2)
    np.testing.assert_allclose(got.history["loss"][0], expected, rtol=1e-5)

    class OutOfReach(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            layer.reset_state()

    if HOST == "jax":
        with pytest.raises(RuntimeError, match="jax_state_sync"):
            model.fit(x, y, batch_size=B, callbacks=[OutOfReach()], verbose=0)
        assert np.isfinite(model.predict(x, batch_size=B, verbose=0)).all()


# --- Loops of the user's own ---


def test_states_in_custom_loops() -> None:
    whole, x = chunks()
    model = sequential(layers.LSTM(U, stateful=True))
    expected = oracle(model.layers[0], whole)
    batches = np.split(x, 3)
    outputs = []
    if HOST == "jax":
        import jax

        @jax.jit
        def step(trainable: Any, others: Any, batch: Any) -> Any:
            return model.stateless_call(trainable, others, batch)

        trainable = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]
        for batch in batches:
            output, others = step(trainable, others, batch)
            outputs.append(output)
        assert not any(state.any() for state in arrays(model.layers[0].states))
        for variable, value in zip(model.non_trainable_variables, others, strict=True):
            variable.assign(value)
        with pytest.raises(RuntimeError, match="stateless_call"):
            jax.jit(lambda v: model(v))(X)
    elif HOST == "tensorflow":
        step = tensorflow_function(model)
        outputs = [step(batch) for batch in batches]
    else:
        import torch

        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for batch in batches:
            output = model(batch)
            optimizer.zero_grad()
            output.sum().backward()
            optimizer.step()
            outputs.append(output.detach())
    for i, output in enumerate(outputs):
        same(output, expected.sequence[:, i * T + T - 1])
    for state, value in zip(model.layers[0].states, expected.states.values(), strict=True):
        same(state, value)


def tensorflow_function(model: Any) -> Callable[[Any], Any]:
    import tensorflow

    return tensorflow.function(lambda batch: model(batch))
