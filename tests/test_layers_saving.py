"""Files and configurations go both ways between Recurra and stock Keras."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from recurra import layers, models

NAMES = ("LSTM", "GRU", "SimpleRNN")
X = np.random.default_rng(0).standard_normal((3, 7, 5)).astype("float32")


def model_of(module: Any, compiled: bool = True) -> Any:
    """Every layer class, options that matter for files, and a wrapper around a recurrent layer."""
    symbol = keras.Input((7, 5))
    hidden = module.LSTM(6, return_sequences=True, unit_forget_bias=False, name="first")(symbol)
    hidden = module.Bidirectional(module.GRU(4, return_sequences=True), name="both")(hidden)
    hidden = module.GRU(5, reset_after=False, return_sequences=True, go_backwards=True)(hidden)
    hidden = module.SimpleRNN(3, activation="relu", dropout=0.1)(hidden)
    model = keras.Model(symbol, module.Dense(2)(hidden))
    if compiled:
        # An object: Keras cannot read the name "mse" back from an .h5 file.
        model.compile("adam", keras.losses.MeanSquaredError())
        model.fit(X, np.zeros((3, 2)), epochs=1, verbose=0)
    return model


def recurrent_layers(model: Any) -> list[Any]:
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN))
    ]


def is_recurra(layer: Any) -> bool:
    return type(layer).__module__.startswith("recurra.")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("writer", [layers, keras.layers], ids=["recurra", "stock"])
def test_files_load_in_both(writer: Any, suffix: str, tmp_path: Path) -> None:
    model = model_of(writer)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    expected = model.predict(X, verbose=0)
    stock, ours = keras.models.load_model(path), models.load_model(path)
    assert not any(is_recurra(layer) for layer in recurrent_layers(stock))
    assert all(is_recurra(layer) for layer in recurrent_layers(ours))
    assert len(recurrent_layers(ours)) == 5
    for loaded in (stock, ours):
        np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, atol=1e-5)
        if suffix == ".keras":  # Keras does not restore the optimizer from an .h5 file on JAX
            assert int(loaded.optimizer.iterations) == 1
            loaded.fit(X, np.zeros((3, 2)), epochs=1, verbose=0)
    assert [v.path for v in ours.weights] == [v.path for v in stock.weights]


def test_stock_keras_reads_a_file_without_recurra(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    model = model_of(layers)
    model.save(path)
    np.save(tmp_path / "x.npy", X)
    script = (
        "import sys, keras, numpy as np\n"
        f"model = keras.models.load_model({str(path)!r})\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, "
        f"model.predict(np.load({str(tmp_path / 'x.npy')!r}), verbose=0))\n"
        "assert 'recurra' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(X, verbose=0), atol=1e-5)


def test_weights_files_both_ways(tmp_path: Path) -> None:
    ours, stock = model_of(layers, compiled=False), model_of(keras.layers, compiled=False)
    for source, target in ((ours, stock), (stock, ours)):
        source.set_weights([np.random.default_rng(4).random(w.shape) for w in source.weights])
        source.save_weights(tmp_path / "model.weights.h5")
        target.load_weights(tmp_path / "model.weights.h5")
        for a, b in zip(source.get_weights(), target.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_legacy_h5_through_custom_objects(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    model_of(keras.layers).save(path)
    loaded = keras.models.load_model(path, custom_objects=layers.custom_objects())
    assert type(loaded.get_layer("first")) is layers.LSTM


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_copies_are_what_they_are_copies_of(copied: Any) -> None:
    def kinds(model: Any) -> list[type]:
        return [type(layer) for layer in recurrent_layers(model)]

    layer = layers.LSTM(4, return_trace=True, engine="keras")
    layer(X)
    again = copied(layer)
    assert type(again) is layers.LSTM
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again(X).output, layer(X).output)
    wrapped = copied(keras.layers.TimeDistributed(layers.GRU(4)))
    assert type(wrapped.layer) is layers.GRU
    assert type(copied(layers.Bidirectional(layers.GRU(4)).forward_layer)) is layers.GRU

    sequential = keras.Sequential([keras.Input((7, 5)), layers.GRU(3)])
    for model in (model_of(layers, compiled=False), sequential):
        again = copied(model)
        assert kinds(again) == kinds(model)
        np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    stock = model_of(keras.layers, compiled=False)
    assert kinds(copied(stock)) == kinds(stock)
    assert type(copied(keras.layers.LSTM(4))) is keras.layers.LSTM
    with layers.recurra_classes():
        again = keras.Sequential.from_config(sequential.get_config())
    assert kinds(again) == [layers.GRU]


@pytest.mark.parametrize("name", NAMES)
def test_configurations_are_the_same(name: str) -> None:
    ours, stock = (
        getattr(module, name)(4, name="x", return_sequences=True, dropout=0.25)
        for module in (layers, keras.layers)
    )
    assert ours.get_config() == stock.get_config()
    written = keras.saving.serialize_keras_object(ours)
    assert written == keras.saving.serialize_keras_object(stock)
    assert written["module"] == "keras.layers"
    assert written["class_name"] == name
    assert written["registered_name"] is None
    assert type(keras.saving.deserialize_keras_object(written)) is getattr(keras.layers, name)
    with layers.recurra_classes():
        again = keras.saving.deserialize_keras_object(written)
    assert type(again) is getattr(layers, name)
    assert type(keras.saving.deserialize_keras_object(written)) is getattr(keras.layers, name)
    assert again.get_config() == ours.get_config()


@pytest.mark.parametrize("name", NAMES)
def test_own_arguments_are_written_only_if_they_differ(name: str) -> None:
    layer = getattr(layers, name)(4, return_trace=True, engine="keras")
    config = layer.get_config()
    assert (config["return_trace"], config["engine"]) == (True, "keras")
    again = type(layer).from_config(config)
    assert (again.return_trace, again.engine) == (True, "keras")
    assert not {"return_trace", "engine"} & set(getattr(layers, name)(4).get_config())


@pytest.mark.parametrize("state", [False, True])
def test_models_with_a_trace_are_saved_and_loaded(state: bool, tmp_path: Path) -> None:
    symbol = keras.Input((7, 5))
    traced = layers.LSTM(4, return_trace=True, return_state=state, name="traced")(symbol)
    model = keras.Model(symbol, [layers.Dense(1)(traced.output), traced.trace["forget_gate"]])
    whole = keras.Model(symbol, traced)
    for each in (model, whole):
        each.save(tmp_path / "model.keras")
        loaded = models.load_model(tmp_path / "model.keras")
        got, expected = loaded.predict(X, verbose=0), each.predict(X, verbose=0)
        for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True):
            np.testing.assert_array_equal(a, b)
        assert loaded.get_layer("traced").return_trace


def test_clones_and_json_keep_recurra_inside_wrappers() -> None:
    model = model_of(layers, compiled=False)
    for made in (models.clone_model(model), models.model_from_json(model.to_json())):
        assert all(is_recurra(layer) for layer in recurrent_layers(made))
        assert type(made.get_layer("both").forward_layer) is layers.GRU


def test_custom_objects_of_the_caller_come_first(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("test_layers_saving")
    class Mine(layers.LSTM):
        pass

    model = keras.Sequential([keras.Input((7, 5)), Mine(3, return_sequences=True), Mine(2)])
    model.save(tmp_path / "model.keras")
    assert all(type(each) is Mine for each in models.load_model(tmp_path / "model.keras").layers)


def test_the_file_says_keras(tmp_path: Path) -> None:
    model_of(layers, compiled=False).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        text = archive.read("config.json").decode()
    assert "recurra" not in text
    assert json.loads(text)["module"].startswith("keras")
