"""The ConvLSTM layers beside stock Keras's, and where stock is wrong, on any host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from beside_keras import MASK, STOCK, B, T, array, normal, same, tensor
from recurra import layers, models

FILTERS = 2
SPATIAL = {1: (5,), 2: (4, 3), 3: (3, 2, 2)}


def make(module: Any, rank: int, **options: Any) -> Any:
    options = {"padding": "same", **options}
    return getattr(module, f"ConvLSTM{rank}D")(FILTERS, 2, **options)


def images(rank: int) -> np.ndarray:
    return normal(B, T, *SPATIAL[rank], 2)


def twins(rank: int, **options: Any) -> tuple[Any, Any]:
    """Recurra's layer and the stock one with the same random weights."""
    pair = make(layers, rank, **options), make(STOCK, rank, **options)
    shape = images(rank).shape
    for layer in pair:
        layer.build(shape)
        layer.set_weights([normal(*v.shape, seed=i) / 2 for i, v in enumerate(layer.weights)])
    return pair


def states(rank: int) -> list[np.ndarray]:
    return [normal(B, *SPATIAL[rank], FILTERS, seed=i) for i in (3, 4)]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_equals_stock(rank: int) -> None:
    x = images(rank)
    ours, stock = twins(rank, return_sequences=rank == 2, return_state=True, go_backwards=rank > 1)
    given = states(rank) if rank < 3 else None
    got, expected = ours(x, initial_state=given), stock(x, initial_state=given)
    for a, b in zip(got, expected, strict=True):
        same(a, b)
    assert got._fields == ("output", "state_h", "state_c")
    assert ours.compute_output_shape(x.shape) == stock.compute_output_shape(x.shape)
    symbolic = ours(keras.Input(x.shape[1:]))
    assert type(symbolic) is type(got)
    assert [s.shape[1:] for s in symbolic] == [tuple(a.shape[1:]) for a in got]
    assert ours.get_config() == stock.get_config() | {"name": ours.name}


def test_dropout_is_stock_s() -> None:
    ours, stock = twins(1, dropout=0.3, recurrent_dropout=0.2, seed=5)
    x = images(1)
    ours(x)  # draws nothing
    same(ours(x, training=True), stock(x, training=True))
    assert np.abs(array(ours(x, training=True)) - array(ours(x))).max() > 1e-3


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_masks(zeros: bool, backwards: bool) -> None:
    """Rows with steps missing anywhere, beside runs of the kept steps alone."""
    options = {"return_sequences": True, "return_state": True, "go_backwards": backwards}
    ours = make(layers, 2, zero_output_for_mask=zeros, **options)
    x, start = images(2), states(2)
    mask = MASK.copy()
    mask[3] = [0, 1, 0, 0, 1, 0]
    output, *final = ours(x, initial_state=start, mask=tensor(mask))
    last = make(layers, 2, go_backwards=backwards)
    last.build(x.shape)
    last.set_weights(ours.get_weights())
    alone = make(STOCK, 2, **options)
    alone.build(x.shape)
    alone.set_weights(ours.get_weights())
    lasts = last(x, initial_state=start, mask=tensor(mask))
    for row in range(B):
        kept, *states_alone = alone(
            x[row : row + 1, mask[row]], initial_state=[s[row : row + 1] for s in start]
        )
        order = mask[row][::-1] if backwards else mask[row]
        kept = np.concatenate([np.zeros((1, *SPATIAL[2], FILTERS)), array(kept)[0]])
        expected = kept[np.cumsum(order)]
        if zeros:
            expected[~order] = 0
        same(output[row], expected)
        same(lasts[row], kept[-1])
        for got, state in zip(final, states_alone, strict=True):
            same(got[row], array(state)[0])


def test_no_time_steps() -> None:
    ours, x, start = make(layers, 2, return_state=True), images(2)[:, :0], states(2)
    for got, expected in zip(ours(x, initial_state=start), [start[0], *start], strict=True):
        same(got, expected)
    assert tuple(make(layers, 1, return_sequences=True)(images(1)[:, :0]).shape) == (
        B,
        0,
        *SPATIAL[1],
        FILTERS,
    )


def test_states_are_carried_and_trained() -> None:
    x = images(1)
    stateful, plain = make(layers, 1, stateful=True), make(layers, 1)
    model = keras.Sequential([keras.Input(batch_shape=(B, 3, *x.shape[2:])), stateful])
    plain.build(x.shape)
    plain.set_weights(model.get_weights())
    model.predict(x[:, :3], batch_size=B, verbose=0)
    same(model.predict(x[:, 3:], batch_size=B, verbose=0), plain(x))
    stateful.reset_state(states=states(1))
    same(model(x[:, :3]), plain(x[:, :3], initial_state=states(1)))
    stateful.reset_state()
    model.compile("sgd", "mse")
    target = np.zeros((B, *SPATIAL[1], FILTERS))
    losses = model.fit(x[:, :3], target, epochs=3, batch_size=B, shuffle=False, verbose=0)
    assert np.isfinite(losses.history["loss"]).all()


def test_masks_go_on_to_the_next_layer_and_through_files(tmp_path: Path) -> None:
    def build(m: Any) -> Any:
        inputs = keras.Input((None, 5, 2))
        mask = keras.Input((None,), dtype="bool")
        hidden = make(m, 1, return_sequences=True)(inputs, mask=mask)
        return keras.Model([inputs, mask], m.TimeDistributed(m.Flatten())(hidden))

    x = images(1)
    x[~MASK] = 9.0
    model = build(layers)
    recurrent = keras.Sequential([model, layers.GRU(3)])
    got = recurrent([x, MASK])
    for row in range(B):
        length = MASK[row].sum()
        if MASK[row, :length].all():
            short = [x[row : row + 1, :length], MASK[row : row + 1, :length]]
            same(got[row], recurrent(short)[0])
    path = str(tmp_path / "model.keras")
    model.save(path)
    for load, kind in ((keras.models.load_model, "keras"), (models.load_model, "recurra")):
        loaded = load(path)
        assert {type(layer).__module__.split(".")[0] for layer in loaded.layers[2:]} == {kind}
    same(loaded([x, MASK]), model([x, MASK]))
