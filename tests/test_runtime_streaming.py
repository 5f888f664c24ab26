"""Which models stream: their plans against Keras, and the reasons of those that do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as k

import plan_oracle
import recurra
from recurra.runtime.errors import StreamingError
from recurra.runtime.layers.activations import FUNCTIONS
from recurra.runtime.model import Runtime
from recurra.runtime.streaming.lowering import lower
from runtime_graphs import Model as GraphModel

BATCH, TIME_STEPS = 2, 7

Made = tuple[Any, Any]
"""Inputs and outputs of a Keras model."""


@pytest.fixture(autouse=True)
def plain_initializers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights from NumPy: JAX compiles each of Keras's initializers for each shape."""
    rng = np.random.default_rng(0)

    def initialize(self: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        return rng.normal(0, 0.5, shape).astype(np.float32)

    for initializer in ("VarianceScaling", "Orthogonal", "RandomUniform"):
        monkeypatch.setattr(getattr(keras.initializers, initializer), "__call__", initialize)


def steps(features: int = 3) -> Any:
    return keras.Input((None, features))


def stacked() -> Made:
    x = steps()
    y = k.LSTM(4, return_sequences=True)(x)
    y = k.GRU(3, return_sequences=True, reset_after=False, use_bias=False)(y)
    return x, [k.Dense(2)(y), k.SimpleRNN(5, activation="relu")(y)]


def masked() -> Made:
    x, words = steps(), keras.Input((None,), dtype="int32")
    a = k.Masking(mask_value=2.0)(x)
    b = k.Embedding(5, 3, mask_zero=True)(words)
    y = k.Concatenate()([k.Add()([a, b]), k.Concatenate()([a, b])])
    y = k.BatchNormalization()(k.Dropout(0.2)(y))
    y = k.GRU(4, return_sequences=True, zero_output_for_mask=True)(y)
    return [x, words], [y, k.LSTM(3)(k.Dense(2)(y))]


def joined_under_masks() -> Made:
    x, words = steps(), keras.Input((None,), dtype="int32")
    a = k.Masking(mask_value=2.0)(x)
    b = k.Embedding(5, 3, mask_zero=True)(words)
    pairs = [[a, b], [b, x], [a, b, x]]
    joined = [layer()(p) for layer in (k.Multiply, k.Maximum, k.Minimum) for p in pairs]
    return [x, words], [k.SimpleRNN(2)(y) for y in joined] + joined


def partly_masked() -> Made:
    x, other = steps(), steps(2)
    y = k.Concatenate()([k.Masking(mask_value=2.0)(x), other])
    return [x, other], k.LSTM(3, return_sequences=True)(y)


def cells() -> Made:
    x = steps()
    stack = k.StackedRNNCells([k.LSTMCell(4), k.GRUCell(3), k.LSTMCell(2)])
    y = k.RNN(stack, return_sequences=True, return_state=True)(k.Masking(mask_value=2.0)(x))
    return x, [y[0], y[1][1], y[2], k.RNN(k.SimpleRNNCell(3))(y[0])]


def convolutions() -> Made:
    x = steps(4)
    y = k.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    y = k.Conv1D(4, 2, padding="causal", groups=2, use_bias=False)(y)
    y = k.Conv1D(5, 1, padding="same")(y)
    y = k.SeparableConv1D(3, 1, depth_multiplier=2)(k.DepthwiseConv1D(1)(y))
    return x, [y, k.LSTM(3)(y)]


def pointwise() -> Made:
    x = steps()
    y = k.LayerNormalization()(k.Rescaling(0.5, offset=1.0)(x))
    y = k.PReLU(shared_axes=[1], alpha_initializer="uniform")(k.Dense(3, "gelu")(y))
    y = k.LeakyReLU()(k.GaussianNoise(0.1)(k.Activation("mish")(y)))
    gate = k.Dense(1, activation="sigmoid")(x)
    y = k.Subtract()([k.Multiply()([y, gate]), k.Average()([x, y])])
    y = k.ReLU(max_value=1.0, negative_slope=0.1)(y)
    return x, [k.Softmax()(y), k.Activation("log_softmax")(y), k.ELU()(2.0 * y - x + 1)]


def distributed() -> Made:
    x = steps()
    y = k.TimeDistributed(k.Dense(4))(k.Masking(mask_value=2.0)(x))
    y = k.TimeDistributed(k.Flatten())(k.TimeDistributed(k.Reshape((2, 2)))(y))
    y = k.TimeDistributed(keras.Sequential([k.Dense(4, "relu"), k.LayerNormalization()]))(y)
    return x, k.GRU(3)(k.TimeDistributed(k.BatchNormalization(axis=1))(y))


def started() -> Made:
    x, start, kind = steps(), keras.Input((2,)), keras.Input((1,), dtype="int32")
    looked_up = k.Reshape((4,))(k.Embedding(3, 4)(kind))
    h = k.Dense(4, activation="tanh")(start)
    y, *states = k.LSTM(4, return_sequences=True, return_state=True)(
        k.Masking(mask_value=2.0)(x), initial_state=[h, looked_up]
    )
    last = k.GRU(4)(y, initial_state=h)
    return [x, start, kind], [y, *states, k.Concatenate()([last, looked_up])]


def nested() -> Made:
    x = steps()
    inner = keras.Sequential([steps(), k.LSTM(3, return_sequences=True), k.Dense(3)], name="inner")
    shared = k.GRU(3, return_sequences=True, name="shared")
    return x, k.Add()([shared(inner(x)), shared(x)])


def newest() -> Made:
    x = steps()
    return x, k.Dense(2)(k.GRU(4, return_sequences=True)(x)[:, -1])


def slices() -> Made:
    """What the newest measurement adds to a forecast, and layers that see some features."""
    x = steps()
    some = k.LSTM(2)(x[:, :, 1:3]) + x[:, -1, :2]
    backwards = k.GRU(2, return_sequences=True)(x[..., ::-1])
    return x, [some, backwards, k.LSTM(1)(x)[:, 0:1] + x[:, -1:, 1]]


BUILDERS: list[Callable[[], Made]] = [
    stacked,
    masked,
    joined_under_masks,
    partly_masked,
    cells,
    convolutions,
    pointwise,
    distributed,
    started,
    nested,
    newest,
    slices,
]


def arrays_for(inputs: Sequence[Any]) -> list[Any]:
    rng = np.random.default_rng(0)
    arrays: list[Any] = []
    for tensor in inputs:
        shape = tuple(TIME_STEPS if n is None else n for n in tensor.shape[1:])
        if tensor.dtype == "int32":
            arrays.append(rng.integers(0, 3, (BATCH, *shape)).astype(np.int32))
        else:
            arrays.append(rng.normal(size=(BATCH, *shape)).astype(np.float32))
            if len(shape) == 2:
                arrays[-1][rng.random((BATCH, TIME_STEPS)) < 0.4] = 2.0
    return arrays


def load(path: Path, inputs: Any, outputs: Any) -> tuple[Any, Runtime]:
    model = keras.Model(inputs, outputs)
    model.save(path / "model.keras")
    return model, recurra.load(path / "model.keras")


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize("build", BUILDERS)
def test_plans_compute_what_the_layers_compute(build: Callable[[], Made], tmp_path: Path) -> None:
    inputs, outputs = build()
    _, runtime = load(tmp_path, inputs, outputs)
    arrays = arrays_for(as_list(inputs))
    wanted = runtime._interpreter.run(arrays, [None] * len(arrays))

    lowered, _, _ = lower(runtime.graph)
    flat = [
        array.reshape(BATCH) if lowered.tensors[number][0] == "id_row" else array
        for array, number in zip(arrays, lowered.inputs, strict=True)
    ]
    streamed = as_list(runtime.open(batch=BATCH).run(*arrays))
    for plan, stream, value in zip(plan_oracle.run(lowered, flat), streamed, wanted, strict=True):
        np.testing.assert_allclose(plan, value, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(stream, value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [masked, joined_under_masks, partly_masked, started])
def test_masks_and_initial_states_are_kerass(build: Callable[[], Made], tmp_path: Path) -> None:
    inputs, outputs = build()
    model, runtime = load(tmp_path, inputs, outputs)
    arrays = arrays_for(as_list(inputs))
    wanted = as_list(model.predict(arrays, verbose=0))
    made = as_list(runtime.open(batch=BATCH).run(*arrays))
    for value, other in zip(made, wanted, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-5)


def test_every_activation_streams_as_the_layers_compute_it() -> None:
    model = GraphModel()
    x = model.input("x", (None, None, 6))
    names = sorted(set(FUNCTIONS) - {"glu", "sparsemax"})
    runtime = Runtime(model.graph([model("Activation", x, activation=name) for name in names]))
    given = (3 * model.rng.normal(size=(2, 8, 6))).astype(np.float32)
    wanted = runtime._interpreter.run([given], [None])
    for name, made, value in zip(names, runtime.open(batch=2).run(given), wanted, strict=True):
        np.testing.assert_allclose(made, value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("masks", list(itertools.product([True, False], repeat=2))[:3])
def test_masks_that_users_give(masks: tuple[bool, bool]) -> None:
    """As the layers' own code takes them, also where the model makes masks itself."""
    model = GraphModel()
    a, b = model.input("a", (None, None, 3)), model.input("b", (None, None, 3))
    y = model("LSTM", model("Add", [a, b]), units=4, return_sequences=True)
    y = model("Concatenate", [y, model("GRU", a, units=2, return_sequences=True)])
    runtime = Runtime(model.graph([y, model("SimpleRNN", y, units=2)]))
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=(2, 5, 3)).astype(np.float32) for _ in masks]
    given = [rng.random((2, 5)) < 0.6 if mask else None for mask in masks]
    for made, wanted in zip(
        runtime.predict(arrays, mask=given), runtime._interpreter.run(arrays, given), strict=True
    ):
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (
            stacked,
            ["lstm/hidden_state", "lstm/cell_state", "gru/hidden_state", "simple_rnn/hidden"],
        ),
        (cells, ["rnn/lstm_cell/cell_state", "rnn/gru_cell/hidden", "rnn/lstm_cell_1/", "/began"]),
        (convolutions, ["conv1d/history", "conv1d_1/history", "lstm/hidden_state"]),
        (started, ["lstm/hidden_state", "lstm/started", "gru/started"]),
        (nested, ["inner/lstm/hidden_state", "shared/hidden_state", "shared#2/hidden_state"]),
    ],
)
def test_states_are_named_by_their_place_in_the_model(
    build: Callable[[], Made], names: Sequence[str], tmp_path: Path
) -> None:
    keras.utils.clear_session()
    _, runtime = load(tmp_path, *build())
    found = " ".join(runtime.open().state)
    assert [name for name in names if name not in found] == []


def test_generators_with_one_index_a_step_stream() -> None:
    """An axis of 1 is time where a recurrent layer runs along it."""
    model = GraphModel()
    word = model.input("word", (1, 1), "int32")
    y = model("GRU", model("Embedding", word, input_dim=5, output_dim=3), units=4)
    session = Runtime(model.graph([y])).open()
    assert session.step(3).shape == (4,)
    assert session.run([1, 2, 3]).shape == (4,)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "int32"])
def test_indices_of_any_type(dtype: str, tmp_path: Path) -> None:
    """An input's type is float32 unless a model says something else, and Keras converts."""
    words = keras.Input((None,), dtype=dtype)
    y = k.GRU(2)(k.Embedding(5, 3, mask_zero=True)(words))
    _, runtime = load(tmp_path, words, y)
    given = np.array([[1, 2, 0, 4]])
    wanted = runtime.predict(given)
    for other in (np.float32, np.int64, np.uint8):
        np.testing.assert_array_equal(runtime.predict(given.astype(other)), wanted)
        np.testing.assert_array_equal(runtime.open().run(given[0].astype(other)), wanted[0])
    for wrong in (7, 2**40, -(2**40)):
        with pytest.raises(ValueError, match=str(wrong)):
            runtime.predict(np.array([[1, wrong]]))


def test_many_embedded_features_beside_a_generator() -> None:
    model = GraphModel()
    word = model.input("word", (None, 1), "int32")
    kinds = [model.input(f"kind{i}", (None, 1), "int32") for i in range(30)]
    rows = [model("Flatten", model("Embedding", kind, input_dim=3, output_dim=2)) for kind in kinds]
    y = model("GRU", model("Embedding", word, input_dim=5, output_dim=3), units=2)
    session = Runtime(model.graph([model("Add", [y, *rows])])).open()
    assert session.run([1, 2, 3], *[1] * 30).shape == (2,)


def test_models_without_time_step_too() -> None:
    model = GraphModel()
    x = model.input("x", (None, 3))
    runtime = Runtime(model.graph([model("Dense", x, units=2)]))
    given = np.ones((4, 3), np.float32)
    session = runtime.open()
    for row in range(4):
        np.testing.assert_array_equal(session.step(given[row]), runtime.predict(given)[row])
    assert dict(session.state) == {}
    assert len(runtime.restore(session.snapshot()).state) == 0


# --- Those that do not stream ---


def from_steps(*layers: Any) -> Callable[[], Made]:
    """A model of layers, one behind the other."""

    def build() -> Made:
        x = y = keras.Input((6, 4))
        for layer in layers:
            y = layer(y)
        return x, y

    return build


def attention() -> Made:
    x = steps()
    return x, k.MultiHeadAttention(1, 2)(x, x)


def encoder_and_decoder() -> Made:
    x, y = steps(), steps(2)
    _, h, c = k.LSTM(4, return_state=True)(x)
    return [x, y], k.LSTM(4, name="decoder")(y, initial_state=[h, c])


def row_and_steps() -> Made:
    x, row = steps(), keras.Input((3,))
    return [x, row], k.Add()([x, row])


def two_axes() -> Made:
    x = keras.Input((None, 3, 2))
    return x, k.TimeDistributed(k.Flatten())(x)


def no_features() -> Made:
    x = keras.Input((None,))
    return x, k.LSTM(2)(k.Reshape((-1, 1))(x))


def of_a_row() -> Made:
    x = keras.Input((6,))
    return x, k.LSTM(2)(k.Reshape((3, 2))(x))


def repeated() -> Made:
    x = steps()
    return x, k.LSTM(3, return_sequences=True)(k.RepeatVector(5)(k.LSTM(2)(x)))


REASONS = [
    (
        from_steps(k.Bidirectional(k.LSTM(2), name="both")),
        ["'both' (Bidirectional)", "backward layer", "forward layer alone"],
    ),
    (from_steps(k.LSTM(2, go_backwards=True, name="back")), ["'back' (LSTM)", "go_backwards=True"]),
    (
        from_steps(k.Conv1D(2, 3, padding="same", name="wide")),
        ["'wide' (Conv1D)", "padding='same'", 'padding="causal"'],
    ),
    (from_steps(k.Conv1D(2, 3, name="cut")), ["'cut' (Conv1D)", "padding='valid'"]),
    (from_steps(k.Conv1D(2, 3, padding="causal", strides=2)), ["strides=2", "fewer time steps"]),
    (from_steps(k.MaxPooling1D()), ["(MaxPooling1D)", "another number of time steps"]),
    (from_steps(k.GlobalAveragePooling1D()), ["(GlobalAverage", "return_sequences=False"]),
    (from_steps(k.Flatten()), ["(Flatten)", "one row of all time steps"]),
    (from_steps(k.Reshape((12, 2))), ["(Reshape)", "between time and features"]),
    (from_steps(k.Permute((2, 1))), ["(Permute)", "moves the time axis"]),
    (from_steps(k.Cropping1D(1)), ["(Cropping1D)", "drops time steps"]),
    (from_steps(k.ZeroPadding1D(1)), ["(ZeroPadding1D)", "pads by itself"]),
    (from_steps(k.UpSampling1D(2)), ["(UpSampling1D)", "another number of time steps"]),
    (from_steps(k.GroupNormalization(2)), ["(GroupNormalization)", "LayerNormalization"]),
    (from_steps(k.LayerNormalization(axis=1)), ["axis 1 goes over time", "axis=-1"]),
    (from_steps(k.BatchNormalization(axis=1)), ["(BatchNormalization)", "for each time step"]),
    (from_steps(k.Softmax(axis=1)), ["(Softmax)", "goes over time"]),
    (from_steps(k.PReLU()), ["(PReLU)", "shared_axes=[1]"]),
    (from_steps(k.Dense(2, activation="sparsemax")), ["(Dense)", "'sparsemax'"]),
    (from_steps(k.LSTM(2, activation="mish")), ["(LSTM)", "'mish'"]),
    (attention, ["(MultiHeadAttention)", "attends to the whole sequence"]),
    (encoder_and_decoder, ["'decoder' (LSTM)", "is computed from time steps", "Split the model"]),
    (row_and_steps, ["(Add)", "values that have none"]),
    (two_axes, ["2 feature axes", "flatten the features"]),
    (no_features, ["none for the features", "Input((None, 1))"]),
    (of_a_row, ["(LSTM)", "without a time axis"]),
    (repeated, ["(RepeatVector)", "fixed in the model"]),
]


@pytest.mark.parametrize(("build", "parts"), REASONS)
def test_models_that_cannot_stream_say_why(
    build: Callable[[], Made], parts: Sequence[str], tmp_path: Path
) -> None:
    model, runtime = load(tmp_path, *build())
    messages = set()
    for call in (runtime.open, runtime.open, runtime.program):
        with pytest.raises(StreamingError) as error:
            call()
        messages.add(str(error.value))
    (message,) = messages
    assert [part for part in parts if part not in message] == [], message
    assert "predict()" in message
    assert message.startswith(("Layer '", f"Input '{model.inputs[0]._keras_history[0].name}'"))


def test_groups_of_many_features_are_not_blown_up() -> None:
    model = GraphModel()
    x = model.input("x", (None, None, 2**13))
    y = model("Conv1D", x, filters=2**13, kernel_size=2, padding="causal", groups=2**13)
    runtime = Runtime(model.graph([y]))
    with pytest.raises(StreamingError, match="134217728 numbers"):
        runtime.open()
    assert runtime.predict(np.zeros((1, 2, 2**13), np.float32)).shape == (1, 2, 2**13)


def test_layers_that_no_output_needs_do_not_matter() -> None:
    model = GraphModel()
    x = model.input("x", (None, None, 3))
    model("GlobalAveragePooling1D", x)
    y, *_ = model("LSTM", x, units=2, return_state=True)
    session = Runtime(model.graph([y])).open()
    assert session.step([1.0, 2.0, 3.0]).shape == (2,)


def test_functions_of_users_do_not_stream(tmp_path: Path) -> None:
    x = steps()
    model = keras.Model(x, k.Lambda(lambda v: v * 2, name="double")(k.LSTM(2)(x)))
    model.save(tmp_path / "model.keras")
    runtime = recurra.load(tmp_path / "model.keras", custom={"double": lambda v, **_: v * 2})
    with pytest.raises(StreamingError, match=r"'double' .*Python function.*Keras's layers"):
        runtime.open()
