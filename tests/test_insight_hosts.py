"""Tracing on each host: every model of the zoo, against a plain loop in NumPy over its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops, tree

import recurra
from insight_zoo import LOADS, MODELS, PATHS, made
from recurra.insight import Trace

# Of stock layers on JAX only some: it compiles each scan for half a second.
STOCK = list(MODELS)
if keras.backend.backend() == "jax":
    STOCK = ["translator", "cell_stack", "custom_cell", "nested_and_shared", "subclassed"]

LOADED = [name for name, loads in LOADS.items() if loads]

EXACT = {"atol": 3e-6, "rtol": 1e-5}


@pytest.fixture(autouse=True, scope="module")
def _no_random_weights() -> Iterator[None]:
    """Every weight is set here anyway, and JAX compiles each initializer for every shape."""

    def zeros(_: Any, shape: Any, dtype: Any = None) -> Any:
        return np.zeros(shape, dtype or "float32")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("GlorotUniform", "Orthogonal", "RandomUniform"):
            patch.setattr(getattr(keras.initializers, name), "__call__", zeros)
        yield


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """A trace warns where a layer gave something else than it shows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*did not return what its cell computes.*")
        yield


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda v: np.maximum(v, 0),
    "linear": lambda v: v,
    "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1),
}


def lstm_step(x: Any, h: Any, c: Any, w: Any, act: Any, gate: Any) -> dict[str, Any]:
    kernel, recurrent, bias = w
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
    i, f, g, o = gate(i), gate(f), act(g), gate(o)
    c = f * c + i * g
    return {
        "input_gate": i,
        "forget_gate": f,
        "candidate": g,
        "output_gate": o,
        "cell_state": c,
        "hidden_state": o * act(c),
    }


def gru_step(x: Any, h: Any, w: Any, act: Any, gate: Any) -> dict[str, Any]:
    kernel, recurrent, bias = w
    xz, xr, xh = np.split(x @ kernel + (bias[0] if bias.ndim == 2 else bias), 3, axis=-1)
    units = h.shape[-1]
    if bias.ndim == 2:  # reset_after
        hz, hr, hh = np.split(h @ recurrent + bias[1], 3, axis=-1)
        z, r = gate(xz + hz), gate(xr + hr)
        candidate = act(xh + r * hh)
    else:
        hz, hr = np.split(h @ recurrent[:, : 2 * units], 2, axis=-1)
        z, r = gate(xz + hz), gate(xr + hr)
        candidate = act(xh + (r * h) @ recurrent[:, 2 * units :])
    return {
        "update_gate": z,
        "reset_gate": r,
        "candidate": candidate,
        "hidden_state": z * h + (1 - z) * candidate,
    }


def plain_loop(cell: Any, x: Any, mask: Any, start: Any, backwards: bool) -> dict[str, Any]:
    """A cell over a sequence, one step after the other, in float64."""
    kind = type(cell).__name__
    w = [np.asarray(ops.convert_to_numpy(v.value), np.float64) for v in cell.weights]
    gates = {"LSTMCell": 4, "GRUCell": 3, "SimpleRNNCell": 1}[kind]
    if len(w) == 2:
        rows = (2,) if getattr(cell, "reset_after", False) else ()
        w.append(np.zeros((*rows, gates * cell.units)))
    act = ACTIVATIONS[cell.activation.__name__]
    batch, time_steps = x.shape[:2]
    zeros = np.zeros((batch, cell.units))
    h = np.asarray(start.get("state_h", zeros), np.float64)
    c = np.asarray(start.get("state_c", zeros), np.float64)
    rows: dict[int, dict[str, Any]] = {}
    for t in reversed(range(time_steps)) if backwards else range(time_steps):
        x_t = x[:, t].astype(np.float64)
        keep = np.ones((batch, 1), bool) if mask is None else mask[:, t, None]
        if kind == "LSTMCell":
            new = lstm_step(x_t, h, c, w, act, ACTIVATIONS[cell.recurrent_activation.__name__])
            c = np.where(keep, new["cell_state"], c)
        elif kind == "GRUCell":
            new = gru_step(x_t, h, w, act, ACTIVATIONS[cell.recurrent_activation.__name__])
        else:
            new = {"hidden_state": act(x_t @ w[0] + h @ w[1] + w[2])}
        h = np.where(keep, new["hidden_state"], h)
        rows[t] = {name: np.where(keep, value, 0) for name, value in new.items()}
        rows[t] |= {"hidden_state": h} | ({"cell_state": c} if "cell_state" in new else {})
    stacked = {n: np.stack([rows[t][n] for t in range(time_steps)], 1) for n in rows[0]}
    return stacked | {"state_h": h} | ({"state_c": c} if kind == "LSTMCell" else {})


def layer_at(model: Any, path: str) -> Any:
    """The layer that a trace's path stands for, and for cells of a stack which."""
    layer = model
    *parts, last = [part.partition(":")[0] for part in path.split("/")]
    for part in [*parts, last]:
        if part.startswith("cell_") and hasattr(layer, "cell"):
            return layer, layer.cell.cells[int(part.removeprefix("cell_"))]
        inner = getattr(layer, part, None)
        layers = layer.layers if isinstance(layer, keras.Model) else layer._layers
        layer = inner or next(each for each in layers if each.name == part)
    return layer, layer.cell


def assert_right(trace: Trace, model: Any) -> None:
    """Every array of every layer of Keras's own cells is what the plain loop gives."""
    for path, layer in trace.layers.items():
        if layer.cell is None:
            continue
        outer, cell = layer_at(model, path)
        assert layer.go_backwards == outer.go_backwards
        expected = plain_loop(
            cell, layer.arrays["input"], layer.mask, layer.initial, layer.go_backwards
        )
        assert list(layer.arrays) == ["input", *expected]
        for name, array in expected.items():
            np.testing.assert_allclose(layer.arrays[name], array, **EXACT, err_msg=f"{path} {name}")


def assert_same_outputs(trace: Trace, result: Any) -> None:
    """The traced outputs are the model's own, to the bit."""
    for given, tensor in zip(trace.outputs.values(), tree.flatten(result), strict=True):
        assert given.tobytes() == np.asarray(ops.convert_to_numpy(tensor)).tobytes()


def variables_of(model: Any) -> list[bytes]:
    return [np.asarray(ops.convert_to_numpy(v.value)).tobytes() for v in model.variables]


@pytest.mark.parametrize(
    ("name", "library"), [(n, "recurra") for n in MODELS] + [(n, "keras") for n in STOCK]
)
def test_trace_of_every_model(name: str, library: str) -> None:
    model, x, _ = made(name, library)
    before = variables_of(model)
    trace = recurra.trace(model, x)
    assert variables_of(model) == before
    assert sorted(trace) == sorted(PATHS[name])
    assert_right(trace, model)
    assert_same_outputs(trace, model(x))
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    places = [node.path for node in trace.structure.recurrent()]
    assert all(any(f"{path}/".startswith(f"{p}/") for p in places) for path in trace)
    assert {*places} <= {*recurra.explain(model)}


@pytest.mark.parametrize("name", LOADED)
def test_loaded_model_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    """To the bit wherever a layer's input is the same to the bit."""
    model, x, _ = made(name)
    model.save(tmp_path / "model.keras")
    loaded = recurra.load(tmp_path / "model.keras")
    trace, again = recurra.trace(model, x), recurra.trace(loaded, x)
    assert list(again) == list(trace)
    assert list(again.inputs) == list(trace.inputs)
    assert list(again.outputs) == list(trace.outputs)
    for output, predicted in zip(
        again.outputs.values(), tree.flatten(loaded.predict(x)), strict=True
    ):
        assert output.tobytes() == predicted.tobytes()
    for path, layer in trace.layers.items():
        other = again.layers[path]
        assert list(other.arrays) == list(layer.arrays)
        assert list(other.initial) == list(layer.initial)
        assert (other.mask is None) == (layer.mask is None)
        assert other.info == layer.info | {"class_name": other.info["class_name"]}
        same = layer.arrays["input"].tobytes() == other.arrays["input"].tobytes() and all(
            layer.initial[name].tobytes() == other.initial[name].tobytes() for name in layer.initial
        )
        for name, array in layer.arrays.items():
            np.testing.assert_allclose(other.arrays[name], array, **EXACT, err_msg=f"{path} {name}")
            if same:
                assert other.arrays[name].tobytes() == array.tobytes(), (path, name)


def random_weights(model: Any) -> Any:
    random = np.random.default_rng(7)
    for variable in model.trainable_variables:
        variable.assign(random.normal(scale=0.5, size=tuple(variable.shape)).astype("float32"))
    return model


def series(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def build(*layers: Any, shape: tuple[int | None, ...] = (5, 3)) -> Any:
    return random_weights(keras.Sequential([keras.Input(shape), *layers], name="model"))


LIBRARIES = pytest.mark.parametrize("L", [recurra.layers, keras.layers], ids=["recurra", "keras"])


@LIBRARIES
def test_states_of_stateful_layers_are_read_and_left(L: Any) -> None:
    x = keras.Input(batch_shape=(2, 5, 3))
    y = L.LSTM(3, stateful=True, return_sequences=True, name="lstm")(x)
    y = L.Bidirectional(L.GRU(2, stateful=True), name="bi")(y)
    model = random_weights(keras.Model(x, y))
    model(series(2, 5, 3))
    states = [np.asarray(ops.convert_to_numpy(v.value)) for v in model.get_layer("lstm").states]
    before = variables_of(model)
    trace = recurra.trace(model, series(2, 5, 3))
    assert variables_of(model) == before
    np.testing.assert_array_equal(trace["lstm"].initial["state_h"], states[0])
    np.testing.assert_array_equal(trace["lstm"].initial["state_c"], states[1])
    assert trace["backward_layer"].initial["state_h"].any()
    assert_right(trace, model)
    assert_same_outputs(trace, model(series(2, 5, 3)))


@LIBRARIES
def test_masks_that_are_given(L: Any) -> None:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = L.LSTM(2, name="lstm")

        def call(self, inputs: Any) -> Any:
            return self.lstm(inputs)

    subclassed = Subclassed()
    x, mask = series(2, 5, 3), np.array([[True] * 5, [True, False, True, False, False]])
    subclassed(x)
    for model in (build(L.LSTM(2, name="lstm")), random_weights(subclassed)):
        trace = recurra.trace(model, x, mask=mask.tolist())
        np.testing.assert_array_equal(trace["lstm"].mask, mask)
        [own] = trace.masks.values()
        np.testing.assert_array_equal(own, mask)
        hidden = trace["lstm"].arrays["hidden_state"]
        np.testing.assert_array_equal(hidden[1, 1], hidden[1, 0])
        np.testing.assert_array_equal(hidden[1, 3], hidden[1, 4])
        assert not trace["lstm"].arrays["forget_gate"][~mask].any()
        assert_right(trace, model)


@LIBRARIES
def test_zeros_at_masked_steps_are_no_reason_to_warn(L: Any) -> None:
    """Where the last step is masked, stock layers return zeros, and Recurra's the last state."""
    x, mask = series(2, 5, 3), np.array([[True] * 5, [True] * 3 + [False] * 2])
    model = build(L.GRU(2, zero_output_for_mask=True, name="gru"))
    assert_right(recurra.trace(model, x, mask=mask), model)


@LIBRARIES
def test_activations_that_the_engine_does_not_have(L: Any) -> None:
    def twice_tanh(v: Any) -> Any:
        return 2 * ops.tanh(v)

    leaky = keras.activations.leaky_relu
    model = build(
        L.GRU(3, activation=twice_tanh, return_sequences=True, name="gru"),
        L.LSTM(2, recurrent_activation=leaky, return_sequences=True, name="lstm"),
    )
    ACTIVATIONS["twice_tanh"] = lambda v: 2 * np.tanh(v)
    ACTIVATIONS["leaky_relu"] = lambda v: np.where(v > 0, v, 0.2 * v)
    trace = recurra.trace(model, series(2, 5, 3))
    assert trace["gru"].info["activations"]["candidate"] == "twice_tanh"
    assert trace["lstm"].info["activations"]["forget_gate"] == "leaky_relu"
    assert_right(trace, model)
    [output] = trace.outputs.values()
    np.testing.assert_allclose(output, trace["lstm"].arrays["hidden_state"], **EXACT)


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_float16", 2e-3), ("mixed_bfloat16", 2e-2), ("float64", 1e-6)]
)
@LIBRARIES
def test_other_precisions(L: Any, policy: str, tolerance: float) -> None:
    """A trace is in float32 at least, and near what a layer of half precision gives."""
    model = build(L.LSTM(3, return_sequences=True, dtype=policy, name="lstm"))
    x = series(2, 5, 3)
    trace = recurra.trace(model, x)
    hidden = trace["lstm"].arrays["hidden_state"]
    assert hidden.dtype == (np.float64 if policy == "float64" else np.float32)
    np.testing.assert_allclose(next(iter(trace.outputs.values())), hidden, atol=2 * tolerance)
    expected = plain_loop(model.layers[0].cell, x.astype(np.float64), None, {}, False)
    np.testing.assert_allclose(hidden, expected["hidden_state"], atol=tolerance)


@LIBRARIES
def test_layers_of_the_users_own(L: Any) -> None:
    """A warning where a class does more than its cell; an error leaves nothing behind."""

    class Doubled(L.LSTM):
        def call(
            self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False
        ) -> Any:
            return super().call(2.0 * sequences, initial_state, mask, training)

    class Failing(keras.layers.Layer):
        fails = False

        def call(self, inputs: Any) -> Any:
            if self.fails:
                raise ZeroDivisionError("on purpose")
            return inputs

    failing = Failing()
    model = build(Doubled(2, name="doubled"), failing)
    with pytest.warns(UserWarning, match="'doubled' .* did not return what its cell computes"):
        recurra.trace(model, series(2, 5, 3))
    failing.fails = True
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        recurra.trace(model, series(2, 5, 3))
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


@LIBRARIES
def test_tensors_without_numbers_are_refused(L: Any) -> None:
    class Vectorized(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = L.LSTM(2, name="lstm")

        def build(self, shape: Any) -> None:
            self.lstm.build(shape)

        def call(self, inputs: Any) -> Any:
            return ops.vectorized_map(lambda row: self.lstm(row[None])[0], inputs)

        def compute_output_shape(self, shape: Any) -> Any:
            return (shape[0], 2)

    model = build(Vectorized(), L.Dense(1))
    with pytest.raises(RuntimeError, match="/lstm' was called inside of a compiled or vec"):
        recurra.trace(model, series(2, 5, 3))
    assert not recurra.trace(model, series(2, 5, 3), layers=[])


@LIBRARIES
def test_convolutional_layers(L: Any) -> None:
    """ConvLSTM's gates against convolutions written out."""
    model = build(L.ConvLSTM1D(2, 3, return_sequences=True, name="conv"), shape=(4, 6, 1))
    x, mask = series(2, 4, 6, 1), np.array([[True] * 4, [True, True, False, False]])
    if L is keras.layers:
        mask[:] = True  # its masks fail on JAX
    trace = recurra.trace(model, x, mask=None if mask.all() else mask)
    kernel, recurrent, bias = (ops.convert_to_numpy(w.value) for w in model.layers[0].cell.weights)

    def convolution(v: Any, w: Any) -> Any:
        windows = [v[:, i : i + 3] for i in range(v.shape[1] - 2)]
        return np.stack([np.einsum("bkc,kcf->bf", part, w) for part in windows], axis=1)

    h = c = np.zeros((2, 4, 2))
    layer = trace["conv"]
    for t in range(4):
        pre = convolution(x[:, t], kernel) + bias
        pre = pre + convolution(np.pad(h, ((0, 0), (1, 1), (0, 0))), recurrent)
        i, f, g, o = np.split(pre, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        new = f * c + i * g
        keep = mask[:, t, None, None]
        np.testing.assert_allclose(layer.arrays["forget_gate"][:, t], np.where(keep, f, 0), **EXACT)
        c, h = np.where(keep, new, c), np.where(keep, o * np.tanh(new), h)
        np.testing.assert_allclose(layer.arrays["cell_state"][:, t], c, **EXACT)
        np.testing.assert_allclose(layer.arrays["hidden_state"][:, t], h, **EXACT)
    np.testing.assert_array_equal(layer.arrays["state_h"], layer.arrays["hidden_state"][:, -1])
