"""Old arguments, old files, and everything else of Keras around recurrent layers, on any host.

Where stock Keras reads or does the same, it is the reference; files go both ways.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from beside_keras import HOST, NAMES, STOCK, B, F, T, U, X, array, normal, oracle, same, sequential
from recurra import layers, models

# --- Old arguments ---

ALL = ("LSTM", "GRU", "SimpleRNN")
HARMLESS: list[dict[str, Any]] = [
    {"time_major": False},
    {"ragged": False},
    {"implementation": 0},
    {"implementation": 1},
    {"implementation": 2},
    {"use_cudnn": False},
    {"use_cudnn": "auto"},
    {"input_shape": (T, F)},
    {"input_dim": F},
    {"input_dim": F, "input_length": T},
    {"batch_input_shape": (None, T, F)},
    {"batch_input_shape": (B, T, F)},
    {"weights": None, "dynamic": False, "batch_size": None},
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input_shape.*")
        warnings.filterwarnings("ignore", message=".*HDF5.*")
        yield


@pytest.mark.parametrize("arguments", HARMLESS, ids=str)
@pytest.mark.parametrize("name", ALL)
def test_harmless_old_arguments_are_taken(name: str, arguments: dict[str, Any]) -> None:
    layer = getattr(layers, name)(U, **arguments)
    same(layer(X), oracle(layer, X).last_output)
    assert not {"time_major", "ragged", "batch_input_shape"} & set(layer.get_config())
    config = {**getattr(layers, name)(U).get_config(), **arguments}
    assert type(type(layer).from_config(config)) is type(layer)
    with layers.recurra_classes():
        again = keras.layers.deserialize({"class_name": name, "config": config})
    assert type(again) is type(layer)


def test_wrappers_and_other_layers_take_old_arguments() -> None:
    made = [
        layers.RNN(layers.LSTMCell(U, implementation=1), time_major=False, input_shape=(T, F)),
        layers.RNN([layers.GRUCell(U)], ragged=False, batch_input_shape=(None, T, F)),
        layers.Bidirectional(layers.LSTM(U, time_major=False), batch_input_shape=(None, T, F)),
        layers.TimeDistributed(layers.Dense(U), batch_input_shape=(None, T, F)),
    ]
    for layer in made:
        model = keras.Sequential([layer])
        assert model.built
        assert model(X).shape[0] == B
    layers.ConvLSTM2D(2, 2, time_major=False, ragged=False, batch_input_shape=(None, 2, 4, 4, 1))


def test_old_arguments_with_an_effect_are_explained() -> None:
    with pytest.raises(ValueError, match="swapaxes"):
        layers.LSTM(U, time_major=True)
    with pytest.raises(ValueError, match="pad_sequences"):
        layers.GRU(U, ragged=True)
    with pytest.raises(ValueError, match="set_weights"):
        layers.GRU(U, weights=[X])
    with pytest.raises(ValueError, match="Unrecognized keyword"):
        layers.LSTM(U, inner_init="orthogonal")


def test_a_stateful_layer_with_its_batch_in_an_old_argument() -> None:
    """Keras 2's way to fix the batch of a Sequential model; Keras 3 has no place for it."""
    for layer in (
        layers.LSTM(U, stateful=True, batch_input_shape=(B, T, F)),
        layers.Bidirectional(layers.LSTM(U, stateful=True), batch_input_shape=(B, T, F)),
        layers.Bidirectional(layers.GRU(U, stateful=True, batch_input_shape=(B, T, F))),
    ):
        model = keras.Sequential([layer])
        first = model.predict(X, verbose=0)
        assert np.abs(model.predict(X, verbose=0) - first).max() > 1e-4
        models.reset_states(model)
        same(model.predict(X, verbose=0), first)
    kept = keras.Sequential([layers.LSTM(U, stateful=True, batch_input_shape=(B, T, F))])
    again = models.clone_model(kept)
    again.predict(X, verbose=0)
    assert array(again.layers[0].states[0]).any()


# --- Old files ---


def keras2_config(name: str, **options: Any) -> dict[str, Any]:
    """A recurrent layer's configuration as tf.keras 2 wrote it."""
    config = {
        "name": name,
        "trainable": True,
        "dtype": "float32",
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "time_major": False,
        "units": U,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "recurrent_initializer": {
            "class_name": "Orthogonal",
            "config": {"gain": 1.0, "seed": None},
        },
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "implementation": 2,
    }
    return {**config, **options}


def entry(cls: str, config: dict[str, Any], inputs: list[Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"class_name": cls, "config": config}
    if inputs is not None:
        made |= {"name": config["name"], "inbound_nodes": inputs}
    return made


def write_h5(
    path: Path,
    model: dict[str, Any],
    weights: dict[str, dict[str, np.ndarray]],
    training: dict[str, Any] | None = None,
    version: str = "2.11.0",
) -> Path:
    """A file as Keras 2's model.save("model.h5") wrote it."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(model)
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = version.encode()
        for layer, values in weights.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in values]
            for name, value in values.items():
                inner.create_dataset(f"{layer}/{name}:0", data=value)
    return path


def random_weights(name: str, features: int = F, seed: int = 0) -> dict[str, np.ndarray]:
    layer = getattr(STOCK, name)(U)
    layer.build((None, None, features))
    names = ("kernel", "recurrent_kernel", "bias")
    return {
        n: normal(*w.shape, seed=seed + i) / 2
        for i, (n, w) in enumerate(zip(names, layer.weights, strict=True))
    }


@pytest.mark.parametrize("sequential_config", ["dict", "list"])
@pytest.mark.parametrize("name", ALL)
def test_keras_2_files_load(name: str, sequential_config: str, tmp_path: Path) -> None:
    extra: dict[str, Any] = {"batch_input_shape": [None, T, F]}
    if name == "GRU":
        extra["reset_after"] = True
    if name == "LSTM":
        extra["unit_forget_bias"] = True
    config = keras2_config("recurrent", **extra)
    if name == "SimpleRNN":
        del config["recurrent_activation"], config["implementation"]
    embedded = [entry(name, config), entry("Dense", {"name": "d", "units": 1, "use_bias": True})]
    if sequential_config == "dict":
        shape = {"batch_input_shape": [None, T, F], "dtype": "float32", "sparse": False}
        shape |= {"ragged": False, "name": "input_1"}
        inner: Any = {"name": "sequential", "layers": [entry("InputLayer", shape), *embedded]}
    else:
        inner = embedded
    weights = random_weights(name)
    dense = {"kernel": normal(U, 1), "bias": normal(1)}
    training = {
        "loss": "mse",
        "metrics": ["mae"],
        "weighted_metrics": None,
        "loss_weights": None,
        "optimizer_config": {
            "class_name": "Adam",
            "config": {"name": "Adam", "lr": 0.5, "decay": 0.0, "beta_1": 0.8, "amsgrad": False},
        },
    }
    path = write_h5(
        tmp_path / "old.h5",
        {"class_name": "Sequential", "config": inner},
        {"input_1": {}, "recurrent": weights, "d": dense},
        training,
        "2.11.0" if sequential_config == "dict" else "2.2.4",
    )
    with pytest.raises((ValueError, TypeError)):
        keras.models.load_model(path)
    model = models.load_model(path)
    layer = model.get_layer("recurrent")
    assert type(layer) is getattr(layers, name)
    for got, expected in zip(layer.weights, weights.values(), strict=True):
        np.testing.assert_array_equal(array(got), expected)
    last = oracle(layer, X).last_output
    same(model.predict(X, verbose=0), last @ dense["kernel"] + dense["bias"], atol=1e-5)
    assert float(array(model.optimizer.learning_rate)) == 0.5
    model.fit(X, np.zeros((B, 1)), verbose=0)
    assert path.stat().st_size > 0


def cudnn_layout(weights: dict[str, np.ndarray], gates: int, seed: int = 5) -> dict[str, Any]:
    """Weights as CuDNNLSTM and CuDNNGRU held them, and those of LSTM and GRU that compute the same.

    cuDNN reads every gate's matrix as (units, rows); the variables were declared as (rows, units).
    """

    def turned(kernel: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [
                np.ascontiguousarray(gate.T).reshape(gate.shape)
                for gate in np.split(kernel, gates, axis=1)
            ],
            axis=1,
        )

    biases = normal(2, gates * U, seed=seed) / 2
    return {
        "file": {
            "kernel": turned(weights["kernel"]),
            "recurrent_kernel": turned(weights["recurrent_kernel"]),
            "bias": biases.reshape(-1),
        },
        "layer": [
            weights["kernel"],
            weights["recurrent_kernel"],
            biases.sum(axis=0) if gates == 4 else biases,
        ],
    }


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "bidirectional"])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_cudnn_layers_of_old_files_load(name: str, wrapped: bool, tmp_path: Path) -> None:
    gates = 4 if name == "LSTM" else 3
    config = {
        "name": "recurrent",
        "trainable": True,
        "units": U,
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "time_major": False,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "batch_input_shape": [None, T, F],
    }
    if name == "LSTM":
        config["unit_forget_bias"] = True
    made = [cudnn_layout(random_weights(name, seed=s), gates, seed=s) for s in (0, 10)]
    if wrapped:
        inner = {k: v for k, v in config.items() if k != "batch_input_shape"}
        outer = {"name": "both", "merge_mode": "concat", "batch_input_shape": [None, T, F]}
        outer["layer"] = entry(f"CuDNN{name}", inner)  # type: ignore[assignment]
        model = {"name": "s", "layers": [entry("Bidirectional", outer)]}
        names = ("forward_recurrent", "backward_recurrent")
        weights = {
            f"{direction}/{key}": value
            for direction, each in zip(names, made, strict=True)
            for key, value in each["file"].items()
        }
        expected = [*made[0]["layer"], *made[1]["layer"]]
    else:
        model = {"name": "s", "layers": [entry(f"CuDNN{name}", config)]}
        weights, expected = made[0]["file"], made[0]["layer"]
    path = write_h5(
        tmp_path / "old.h5",
        {"class_name": "Sequential", "config": model},
        {"both" if wrapped else "recurrent": weights},
    )
    layer = models.load_model(path).layers[0]
    for got, want in zip(layer.weights, expected, strict=True):
        np.testing.assert_array_equal(array(got), want)
    inner = layer.forward_layer if wrapped else layer
    assert type(inner) is getattr(layers, name)


def test_initial_states_of_keras_2_functional_models(tmp_path: Path) -> None:
    """An encoder and a decoder, as the tutorials have it: states are further inputs of a node."""

    def symbol(name: str) -> dict[str, Any]:
        config = {"batch_input_shape": [None, None, F], "dtype": "float32", "name": name}
        return entry("InputLayer", config, [])

    encoder = keras2_config("encoder", return_state=True, unit_forget_bias=True)
    decoder = keras2_config("decoder", return_sequences=True, unit_forget_bias=True)
    model = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": [
                symbol("x"),
                symbol("y"),
                entry("LSTM", encoder, [[["x", 0, 0, {}]]]),
                entry(
                    "LSTM",
                    decoder,
                    [[["y", 0, 0, {}], ["encoder", 0, 1, {}], ["encoder", 0, 2, {}]]],
                ),
            ],
            "input_layers": [["x", 0, 0], ["y", 0, 0]],
            "output_layers": [["decoder", 0, 0]],
        },
    }
    weights = {"encoder": random_weights("LSTM"), "decoder": random_weights("LSTM", seed=4)}
    path = write_h5(tmp_path / "old.h5", model, {"x": {}, "y": {}, **weights})
    loaded = models.load_model(path)
    y = normal(B, 3, F, seed=8)
    states = oracle(loaded.get_layer("encoder"), X).states
    expected = oracle(
        loaded.get_layer("decoder"), y, **dict(zip(("h0", "c0"), states.values(), strict=True))
    ).sequence
    same(loaded.predict([X, y], verbose=0), expected)


def test_old_json_loads() -> None:
    config = keras2_config("recurrent", unit_forget_bias=True, batch_input_shape=[None, T, F])
    shape = {"batch_input_shape": [None, T, F], "dtype": "float32", "name": "i"}
    inner = {"name": "s", "layers": [entry("InputLayer", shape), entry("LSTM", config)]}
    text = json.dumps({"class_name": "Sequential", "config": inner, "keras_version": "2.11.0"})
    model = models.model_from_json(text)
    assert type(model.layers[-1]) is layers.LSTM
    assert model.predict(X, verbose=0).shape == (B, U)


# --- Files and configurations both ways, for every class ---


def surface() -> dict[str, Callable[[Any], Any]]:
    """Every recurrent class, each of them module -> layer for inputs (B, T, F)."""
    return {
        "LSTM": lambda m: m.LSTM(U, dropout=0.2, seed=1),
        "GRU": lambda m: m.GRU(U, reset_after=False, recurrent_dropout=0.2, seed=1),
        "SimpleRNN": lambda m: m.SimpleRNN(U, activation="relu", go_backwards=True),
        "RNN": lambda m: m.RNN(m.LSTMCell(U, use_bias=False), return_sequences=True),
        "RNN list": lambda m: m.RNN([m.GRUCell(4), m.SimpleRNNCell(U)]),
        "StackedRNNCells": lambda m: m.RNN(m.StackedRNNCells([m.LSTMCell(4), m.LSTMCell(U)])),
        "Bidirectional": lambda m: m.Bidirectional(m.GRU(U, return_sequences=True), "ave"),
        "backward_layer": lambda m: m.Bidirectional(
            m.LSTM(U), backward_layer=m.LSTM(3, go_backwards=True)
        ),
        "Bidirectional RNN": lambda m: m.Bidirectional(m.RNN([m.LSTMCell(4), m.GRUCell(3)])),
        "TimeDistributed": lambda m: m.TimeDistributed(m.Dense(U)),
        "stateful": lambda m: m.LSTM(U, stateful=True),
        "regularized": lambda m: m.LSTM(
            U, kernel_regularizer="l2", recurrent_constraint="unit_norm", bias_initializer="ones"
        ),
    }


def items() -> dict[str, Callable[[Any], Any]]:
    """The same for inputs (B, 2, 3, 4, 2)."""
    return {
        "ConvLSTM2D": lambda m: m.ConvLSTM2D(2, 2, return_sequences=True),
        "TimeDistributed RNN": lambda m: m.TimeDistributed(m.TimeDistributed(m.LSTM(U))),
    }


def model_of(kind: str, module: Any) -> tuple[Any, np.ndarray]:
    x = X if kind in surface() else normal(B, 2, 3, 4, 2)
    layer = (surface() | items())[kind](module)
    model = keras.Sequential([keras.Input(batch_shape=x.shape), layer])
    for i, weight in enumerate(model.weights):
        weight.assign(normal(*weight.shape, seed=i) / 2)
    return model, x


@pytest.mark.parametrize("kind", [*surface(), *items()])
def test_every_class_goes_both_ways(kind: str, tmp_path: Path) -> None:
    ours, x = model_of(kind, layers)
    stock, _ = model_of(kind, STOCK)
    expected = array(stock(x))
    same(ours(x), expected, atol=1e-5)
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in stock.weights]
    assert [w.path.split("/")[-1] for w in ours.weights] == [
        w.path.split("/")[-1] for w in stock.weights
    ]
    weights = ours.get_weights()

    def check(loaded: Any, module: str) -> None:
        assert type(loaded.layers[-1]).__name__ == type(ours.layers[-1]).__name__
        assert type(loaded.layers[-1]).__module__.startswith(module)
        for got, want in zip(loaded.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(got, want)

    for model in (ours, stock):
        for suffix in (".keras", ".h5"):
            path = tmp_path / f"model{suffix}"
            model.save(path)
            check(keras.models.load_model(path), "keras.")
            check(models.load_model(path), "recurra.")
        path = tmp_path / "model.weights.h5"
        model.save_weights(path)
        for target in (ours, stock):
            target.set_weights([0 * w for w in weights])
            target.load_weights(path)
            for got, want in zip(target.get_weights(), weights, strict=True):
                np.testing.assert_array_equal(got, want)
    copies = [
        models.clone_model(ours),
        models.model_from_json(ours.to_json()),
        models.model_from_json(stock.to_json()),
    ]
    with layers.recurra_classes():
        copies.append(keras.Sequential.from_config(ours.get_config()))
        copies.append(keras.models.clone_model(ours))
    for copied in copies:
        copied.set_weights(weights)
        check(copied, "recurra.")
    same(copies[0](x), expected, atol=1e-5)
    layer = ours.layers[-1]
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


# --- Precision, shapes, ways to run ---


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
@pytest.mark.parametrize("kind", ["GRU", "RNN list", "Bidirectional", "stateful"])
def test_dtype_policies(kind: str, policy: str) -> None:
    if policy == "float64" and HOST == "jax":
        import jax

        if not jax.config.jax_enable_x64:
            pytest.skip("float64 is an option of JAX")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        ours, x = model_of(kind, layers)
        compute = "float64" if policy == "float64" else policy.removeprefix("mixed_")
        variable = "float64" if policy == "float64" else "float32"
        got = ours(x)
        assert keras.backend.standardize_dtype(got.dtype) == compute
        assert {w.dtype for w in ours.weights} == {variable}
        keras.config.set_dtype_policy("float32")
        exact, _ = model_of(kind, layers)
        keras.config.set_dtype_policy(policy)
        tolerance = {"float64": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}[compute]
        np.testing.assert_allclose(array(ops.cast(got, "float32")), array(exact(x)), atol=tolerance)
        ours.compile("sgd", "mse")
        target = np.zeros(tuple(got.shape))
        assert np.isfinite(ours.fit(x, target, batch_size=B, verbose=0).history["loss"]).all()
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("kind", ["LSTM", "RNN list", "Bidirectional"])
def test_dynamic_batch_and_time_axes(kind: str) -> None:
    symbol = keras.Input((None, F))
    layer = surface()[kind](layers)
    model = keras.Model(symbol, layer(symbol))
    stock = surface()[kind](STOCK)
    stock(X)
    stock.set_weights(model.get_weights())
    for batch, length in ((B, 7), (2, 12), (1, 1)):
        x = normal(batch, length, F, seed=length)
        got = array(model(x))
        same(model.predict(x, verbose=0), got, atol=1e-5)
        if batch == 2:
            same(got, stock(x), atol=1e-5)
    model.compile("sgd", "mse")
    for length in (7, 12):
        x = normal(B, length, F)
        model.fit(x, np.zeros_like(array(model(x))), verbose=0)


@pytest.mark.parametrize("how", ["jit", "eagerly"])
@pytest.mark.parametrize("kind", ["GRU", "RNN list", "Bidirectional", "regularized"])
def test_every_way_to_run_trains_as_stock(kind: str, how: str) -> None:
    """Same seeds, same batches: the same weights after a few steps, dropout included."""

    def trained(module: Any) -> list[np.ndarray]:
        layer = surface()[kind](module)
        model = sequential(layer)
        for i, weight in enumerate(model.weights):
            weight.assign(normal(*weight.shape, seed=i) / 2)
        model.compile(
            keras.optimizers.SGD(0.1),
            "mse",
            jit_compile=how == "jit" and HOST == "jax",  # XLA draws other numbers on TensorFlow
            run_eagerly=how == "eagerly",
        )
        y = np.zeros(tuple(model.output_shape))
        keras.utils.set_random_seed(7)  # torch's unseeded dropout draws from the global generator
        model.fit(X, y, batch_size=B, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    for got, expected in zip(trained(layers), trained(STOCK), strict=True):
        same(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_dropout_as_stock(name: str) -> None:
    def run(module: Any) -> np.ndarray:
        layer = getattr(module, name)(U, dropout=0.4, recurrent_dropout=0.3, seed=11)
        layer.build(X.shape)
        for i, weight in enumerate(layer.weights):
            weight.assign(normal(*weight.shape, seed=i))
        keras.utils.set_random_seed(7)
        return array(layer(X, training=True))

    same(run(layers), run(STOCK), atol=1e-5)


def test_regularizers_constraints_and_initializers() -> None:
    options: dict[str, Any] = {
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "recurrent_regularizer": "l1",
        "bias_regularizer": "l2",
        "activity_regularizer": keras.regularizers.L1(0.01),
        "kernel_constraint": "max_norm",
        "bias_constraint": "non_neg",
        "kernel_initializer": keras.initializers.RandomNormal(seed=2),
        "recurrent_initializer": keras.initializers.Orthogonal(seed=3),
    }
    ours, stock = layers.GRU(U, **options), STOCK.GRU(U, **options)
    same(ours(X), stock(X))
    assert len(ours.losses) == len(stock.losses)
    for got, expected in zip(ours.losses, stock.losses, strict=True):
        np.testing.assert_allclose(array(got), array(expected), rtol=1e-4)


# --- Subclasses ---


def test_subclasses_of_layers_and_cells(tmp_path: Path) -> None:
    class Doubled(layers.LSTM):
        def call(
            self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False
        ) -> Any:
            return 2.0 * super().call(sequences, initial_state, mask, training)

    layer = Doubled(U)
    same(sequential(layer)(X), 2 * oracle_of(layers.LSTM(U), layer))

    class Shifted(layers.LSTMCell):
        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
            output, new = super().call(inputs, states, training=training)
            return output + 1.0, new

    rnn = layers.RNN(Shifted(U))
    model = sequential(rnn)
    same(model(X), 1 + oracle_of(layers.LSTM(U), rnn))
    model.save(tmp_path / "model.keras")
    again = models.load_model(tmp_path / "model.keras", custom_objects={"Shifted": Shifted})
    same(again(X), array(model(X)))

    class WithState(layers.GRU):
        def __init__(self, units: int, scale: float = 1.0, **kwargs: Any) -> None:
            super().__init__(units, **kwargs)
            self.scale = scale

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "scale": self.scale}

    made = WithState(U, scale=3.0, return_sequences=True)
    assert WithState.from_config(made.get_config()).scale == 3.0
    assert made(X).shape == (B, T, U)


def oracle_of(plain: Any, layer: Any) -> np.ndarray:
    plain.build(X.shape)
    plain.set_weights(layer.get_weights())
    return oracle(plain, X).last_output


# --- Export ---


@pytest.mark.parametrize("kind", ["LSTM", "RNN list", "Bidirectional", "TimeDistributed"])
def test_exported_models_compute_the_same(kind: str, tmp_path: Path) -> None:
    """Exported files run without Recurra, so they hold Keras's scan."""
    model, x = model_of(kind, layers)
    symbol = keras.Input((T, F))
    free = keras.Model(symbol, model.layers[-1](symbol))
    expected = array(free(x))
    if HOST == "tensorflow":
        import tensorflow

        free.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
        loaded = tensorflow.saved_model.load(str(tmp_path / "saved"))
        same(loaded.serve(x), expected, atol=1e-5)
        return
    pytest.importorskip("onnxscript" if HOST == "torch" else "tensorflow")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    free.export(path, format="onnx", verbose=False)
    session = runtime.InferenceSession(path)
    got = session.run(None, {session.get_inputs()[0].name: x})[0]
    same(got, expected, atol=1e-5)
