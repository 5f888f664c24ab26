"""Trained models, saved by Keras and loaded without it: the same numbers as Keras's predict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import pytest

import recurra
import runtime_zoo as zoo

NAMES = sorted(zoo.ARCHITECTURES)

ALSO_STOCK = ("encoder_decoder", "forecaster", "masked_classifier", "stacked_cells", "tagger")
"""Trained with stock Keras's layers too, which takes longer."""

STOCK_CANNOT = ("deep_wrappers", "shared_between_models")
"""Stock Keras fails with masks in wrappers of wrappers, and reading what two models share."""


def assert_same(made: Any, wanted: Any) -> None:
    """Equal structure, shapes and, within 1e-5, numbers."""
    assert keras.tree.map_structure(np.shape, made) == keras.tree.map_structure(np.shape, wanted)
    for one, two in zip(keras.tree.flatten(made), keras.tree.flatten(wanted), strict=True):
        assert np.asarray(one).dtype == np.float32
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation() -> Iterator[None]:
    """Compiling takes longer than everything else here."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def keras_predict(model: Any, x: Any) -> Any:
    """One batch from the zero state, which a stateful model is set back to."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    return model.predict(x, batch_size=zoo.BATCH, verbose=0)


@pytest.mark.parametrize(
    ("name", "library"),
    [(name, "recurra") for name in NAMES] + [(name, "keras") for name in ALSO_STOCK],
)
def test_predict_is_that_of_keras(name: str, library: str, tmp_path: Path) -> None:
    case = zoo.trained(name, library)
    wanted = keras_predict(case.model, case.x)
    for ending in ("keras", "h5"):
        path = tmp_path / f"model.{ending}"
        case.model.save(path)
        model = recurra.load(path)
        assert_same(model.predict(case.x), wanted)
        # The very bits, whatever rows a row is computed with.
        one, two = model.predict(case.x), model.predict(case.x, batch_size=4)
        for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(two), strict=True):
            np.testing.assert_array_equal(a, b)
    if name not in (*ALSO_STOCK, *STOCK_CANNOT):
        stock = keras.models.load_model(tmp_path / "model.keras")
        assert_same(model.predict(case.x), keras_predict(stock, case.x))


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_traces_of_saved_layers_are_outputs(ending: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    y = recurra.layers.LSTM(4, return_trace=True)(recurra.layers.Masking()(x))
    gru = recurra.layers.GRU(2, return_sequences=True, return_trace=True)(y.trace["forget_gate"])
    outputs = [y.output, y.state_c, *y.trace.values(), gru.trace["reset_gate"], gru.output]
    model = keras.Model(x, outputs)
    model.save(tmp_path / f"model.{ending}")
    data = zoo.padded(6, 3)
    loaded = recurra.load(tmp_path / f"model.{ending}")
    assert_same(loaded.predict(data), model.predict(data, verbose=0))


def test_engine_and_checkpoints_change_nothing(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            recurra.layers.LSTM(4, return_sequences=True, engine="cpu", checkpoint_every="sqrt"),
            recurra.layers.GRU(4, engine="keras", implementation=1, use_cudnn=False),
        ]
    )
    model.save(tmp_path / "model.keras")
    data = zoo.numbers(6, 3)
    assert_same(
        recurra.load(tmp_path / "model.keras").predict(data), model.predict(data, verbose=0)
    )
