"""Recurra's layers beside stock Keras's: values, gradients, options, results, trace."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import ops

from recurra import layers
from recurra.cells import ACTIVATIONS, CELLS
from recurra.engine import choose
from recurra.hosts import jax as host
from recurra.layers.activations import engine_name

NAMES = ("LSTM", "GRU", "SimpleRNN")
B, T, F, U = 3, 7, 5, 17


@pytest.fixture
def x64() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


# On JAX, Keras's own tanh and exponential return float32 for float64. With JAX's functions, which
# Recurra recognises, stock Keras is a reference in float64.
IN_FLOAT64 = {"tanh": jnp.tanh, "exponential": jnp.exp}


@pytest.fixture
def engine_calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configurations that the engine was called with."""
    calls: list[Any] = []
    scan = host.scan

    def counted(config: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(config)
        return scan(config, *args, **kwargs)

    scan_many = host.scan_many

    def counted_many(scans: Any) -> Any:
        calls.extend(config for config, _ in scans)
        return scan_many(scans)

    monkeypatch.setattr(host, "scan", counted)
    monkeypatch.setattr(host, "scan_many", counted_many)
    return calls


def spec_of(name: str) -> Any:
    return next(spec for spec in CELLS.values() if spec.layer == name)


def inputs(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape or (B, T, F)).astype(dtype)


def make_mask(kind: str | None) -> np.ndarray | None:
    if kind is None:
        return None
    mask = np.random.default_rng(5).random((B, T)) < 0.6
    mask[:, [0, -1]] = True  # see test_zeros_before_the_first_kept_step
    return mask


def states_of(name: str, seed: int = 9) -> list[np.ndarray]:
    return [inputs(B, U, seed=seed + i) for i in range(len(spec_of(name).states))]


def pair(name: str, **arguments: Any) -> tuple[Any, Any]:
    """A Recurra layer and a stock one with the same random weights, in float64."""
    arguments = {"units": U, "dtype": "float64", "seed": 1, "activation": "tanh", **arguments}
    for argument in {"activation", "recurrent_activation"} & set(arguments):
        arguments[argument] = IN_FLOAT64.get(arguments[argument], arguments[argument])
    ours, stock = getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)
    for layer in (ours, stock):
        layer.build((B, T, F))
    rng = np.random.default_rng(2)
    # Random biases too: zeros would hide a swapped gate.
    weights = [rng.standard_normal(w.shape) * 0.4 for w in stock.weights if w.trainable]
    for layer in (ours, stock):
        for variable, value in zip(layer.trainable_weights, weights, strict=True):
            variable.assign(value)
    return ours, stock


def flat(result: Any) -> list[np.ndarray]:
    return [np.asarray(v) for v in keras.tree.flatten(result)]


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    actual, expected = flat(actual), flat(expected)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        assert float(np.max(np.abs(a - b), initial=0.0)) <= tolerance * scale


def values_and_gradients(layer: Any, x: Any, states: Any, mask: Any, training: bool) -> Any:
    """Outputs, and gradients of a weighted sum of all of them for x, the states and the weights."""
    trainable = [w.value for w in layer.trainable_variables]
    fixed = [v.value for v in layer.non_trainable_variables]

    def loss(trainable: Any, x: Any, states: Any) -> Any:
        out, _ = layer.stateless_call(
            trainable, fixed, x, initial_state=states, mask=mask, training=training
        )
        out = keras.tree.flatten(out)
        rng = np.random.default_rng(7)
        return sum(jnp.sum(v * rng.standard_normal(v.shape)) for v in out), out

    wanted = (0, 1) if states is None else (0, 1, 2)
    (_, out), gradients = jax.jit(jax.value_and_grad(loss, argnums=wanted, has_aux=True))(
        trainable, x, states
    )
    return out, gradients


# With a mask there is an initial state as well.
OPTIONS: dict[str, tuple[dict[str, Any], str | None]] = {
    "plain": ({}, None),
    "both": ({"return_sequences": True, "return_state": True}, None),
    "masked": ({}, "holes"),
    "both-masked": ({"return_sequences": True, "return_state": True}, "holes"),
    "no-bias": ({"use_bias": False}, "holes"),
    "backwards": ({"go_backwards": True, "return_sequences": True}, "holes"),
    "zero-output": ({"zero_output_for_mask": True, "return_sequences": True}, "holes"),
    "unroll": ({"unroll": True, "return_state": True}, "holes"),
    "recurrent-dropout": ({"recurrent_dropout": 0.4, "return_sequences": True}, None),
    "both-dropouts": ({"dropout": 0.3, "recurrent_dropout": 0.4}, "holes"),
    "dropout": ({"dropout": 0.3, "return_sequences": True}, None),
    "dropout-all": ({"dropout": 1.0, "return_sequences": True}, None),
    "dropout-all-masked": ({"dropout": 1.0, "return_sequences": True}, "holes"),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", [*NAMES, "GRU-reset-before"])
def test_values_and_gradients_are_those_of_stock_keras(
    name: str, option: str, x64: None, engine_calls: list[Any]
) -> None:
    arguments, mask = OPTIONS[option]
    if name == "GRU-reset-before":
        name, arguments = "GRU", {**arguments, "reset_after": False}
    ours, stock = pair(name, **arguments)
    run = (inputs(), states_of(name) if mask else None, make_mask(mask), True)
    got, expected = values_and_gradients(ours, *run), values_and_gradients(stock, *run)
    assert engine_calls
    assert_close(got, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_activation(name: str, activation: str, x64: None, engine_calls: list[Any]) -> None:
    both = spec_of(name).uses_recurrent_activation
    arguments = {"activation": activation}
    arguments |= {"recurrent_activation": activation} if both else {}
    # Activations without bounds grow from step to step.
    x = inputs(B, 2, F) * 0.2
    ours, stock = pair(name, **arguments, return_sequences=True)
    weights = [0.2 * weight for weight in ours.get_weights()]
    for layer in (ours, stock):
        layer.set_weights(weights)
    assert_close(ours(x), stock(x))
    assert np.isfinite(ours(x)).all()
    assert engine_calls


def test_zeros_before_the_first_kept_step(x64: None) -> None:
    """As Keras's unrolled scan gives them; its rolled one repeats h0 there, on JAX only."""
    ours, _ = pair("LSTM", return_sequences=True)
    _, stock = pair("LSTM", return_sequences=True, unroll=True)
    mask = make_mask("holes")
    mask[:, :2] = False
    run = (inputs(), states_of("LSTM"), mask, False)
    assert_close(values_and_gradients(ours, *run), values_and_gradients(stock, *run))
    assert (
        np.asarray(ours(inputs(), initial_state=states_of("LSTM"), mask=mask))[:, :2] == 0
    ).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dropouts", [{"dropout": 0.5}, {"dropout": 0.5, "recurrent_dropout": 0.5}])
@pytest.mark.parametrize("engine", ["auto", "keras"])
def test_the_seed_advances_in_training_only(
    name: str, dropouts: dict[str, float], engine: str, x64: None
) -> None:
    ours, stock = pair(name, **dropouts)
    ours.engine = engine
    for _ in range(3):
        assert_close(ours(inputs(), training=True), stock(inputs(), training=True))
        before = np.asarray(ours.cell.seed_generator.state.value)
        ours(inputs(), training=False)
        np.testing.assert_array_equal(ours.cell.seed_generator.state.value, before)


@pytest.mark.parametrize("name", NAMES)
def test_stateful(name: str, x64: None, engine_calls: list[Any]) -> None:
    ours, stock = pair(name, stateful=True, return_sequences=True)
    for seed in range(3):
        assert_close(ours(inputs(seed=seed)), stock(inputs(seed=seed)))
    assert_close([s.value for s in ours.states], [s.value for s in stock.states])
    ours.reset_state()
    stock.reset_state()
    assert_close(ours(inputs()), stock(inputs()))
    assert len(engine_calls) == 4
    with pytest.raises(ValueError, match="batch size"):
        ours(inputs(B + 1, T, F))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_dtype_policies(name: str, policy: str, engine_calls: list[Any]) -> None:
    # Keras has no orthogonal initializer in bfloat16 on JAX.
    arguments = {"units": U, "dtype": policy, "recurrent_initializer": "glorot_uniform"}
    arguments |= {"return_sequences": True, "return_state": True}
    ours, stock = getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)
    stock.build((B, T, F))
    ours.build((B, T, F))
    ours.set_weights([np.asarray(w.value) for w in stock.weights][: len(ours.weights)])
    got, expected = ours(inputs()), stock(inputs())
    compute = keras.dtype_policies.get(policy).compute_dtype
    tolerance = {"float32": 1e-6, "float16": 5e-3, "bfloat16": 4e-2}[compute]
    for a, b in zip(got, expected, strict=True):
        assert keras.backend.standardize_dtype(a.dtype) == compute
        np.testing.assert_allclose(
            np.asarray(a, "float32"), np.asarray(b, "float32"), atol=tolerance
        )
    assert engine_calls


@pytest.mark.parametrize("name", NAMES)
def test_training_through_fit_is_stock_training(name: str, engine_calls: list[Any]) -> None:
    x, y = inputs(32, T, F, dtype="float32"), inputs(32, 1, seed=1, dtype="float32")
    losses = []
    for module in (layers, keras.layers):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((T, F)),
                module.Masking(),
                getattr(module, name)(8, return_sequences=True, dropout=0.2),
                getattr(module, name)(4, kernel_regularizer="l2"),
                module.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        losses.append(model.fit(x, y, epochs=3, batch_size=8, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert engine_calls


# --- What comes out ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("engine", ["auto", "keras"])
def test_structure_eager_symbolic_and_predicted(
    name: str, sequences: bool, state: bool, trace: bool, engine: str
) -> None:
    layer = getattr(layers, name)(
        U, return_sequences=sequences, return_state=state, return_trace=trace, engine=engine
    )
    symbol = keras.Input((T, F))
    symbolic = layer(symbol)
    eager = layer(inputs(dtype="float32"))
    model = keras.Model(symbol, symbolic)
    predicted = model.predict(inputs(dtype="float32"), verbose=0)
    spec = spec_of(name)
    output_shape = (B, T, U) if sequences else (B, U)
    for result in (eager, predicted):
        if not (state or trace):
            assert result.shape == output_shape
            continue
        assert isinstance(result, tuple)
        fields = ("output", *spec.state_outputs, *(["trace"] if trace else []))
        assert result._fields == fields
        assert result[0] is result.output
        assert result.output.shape == output_shape
        assert all(result[i + 1].shape == (B, U) for i in range(len(spec.states)))
        if trace:
            assert sorted(result.trace) == sorted(spec.trace_names)
            assert {v.shape for v in result.trace.values()} == {(B, T, U)}
    assert_close(predicted, eager, 1e-6)
    keras.tree.assert_same_structure(symbolic, eager)
    shapes = [tuple(v.shape) for v in keras.tree.flatten(symbolic)]
    expected = keras.tree.map_structure(lambda v: (None, *v.shape[1:]), eager)
    computed = layer.compute_output_shape((None, T, F))
    assert tuple(computed) == tuple(expected)
    assert shapes == [(None, *v.shape[1:]) for v in keras.tree.flatten(eager)]


@pytest.mark.parametrize("name", NAMES)
def test_results_are_tuples(name: str) -> None:
    result = getattr(layers, name)(U, return_state=True)(inputs())
    first, *rest = result
    assert first is result[0] is result.output
    assert rest == list(result[1:])
    assert tuple(result) == tuple(iter(result)) == (first, *rest)
    assert type(result[1:]) is tuple
    (again, *_), copied = result, result._replace(output=None)
    assert again is first
    assert copied.output is None
    assert len(result) == 1 + len(spec_of(name).states)
    np.testing.assert_array_equal(result.output, result.state_h)


@pytest.mark.parametrize(("sequences", "mask"), [(True, None), (True, "holes"), (False, "holes")])
@pytest.mark.parametrize("name", [*NAMES, "GRU-reset-before"])
def test_trace_and_its_gradients_are_those_of_the_plain_scan(
    name: str, sequences: bool, mask: str | None, x64: None, engine_calls: list[Any]
) -> None:
    """The same definition run step by step with keras.ops is differentiated by JAX itself."""
    options = {"return_trace": True, "return_sequences": sequences, "go_backwards": True}
    options |= {"units": U, "dtype": "float64", "bias_initializer": "random_normal"}
    options |= {"activation": jnp.tanh}
    if name == "GRU-reset-before":
        name, options["reset_after"] = "GRU", False
    ours, plain = getattr(layers, name)(**options), getattr(layers, name)(**options, engine="keras")
    for layer in (ours, plain):
        layer.build((B, T, F))
    plain.set_weights(ours.get_weights())
    run = (inputs(), states_of(name), make_mask(mask), False)
    assert_close(values_and_gradients(ours, *run), values_and_gradients(plain, *run))
    assert len(engine_calls) == 1


def test_the_trace_explains_the_output(x64: None) -> None:
    layer = layers.LSTM(U, return_sequences=True, return_trace=True, dtype="float64")
    output, _, state_c, trace = layer(inputs())
    np.testing.assert_allclose(
        trace["output_gate"] * np.tanh(trace["cell_state"]), output, atol=1e-14
    )
    np.testing.assert_array_equal(trace["cell_state"][:, -1], state_c)
    np.testing.assert_array_equal(trace["hidden_state"], output)


@pytest.mark.parametrize("sequences", [False, True])
def test_activity_regularizer_leaves_the_trace_out(sequences: bool) -> None:
    arguments = {"return_state": True, "return_sequences": sequences, "activity_regularizer": "l2"}
    ours = layers.LSTM(U, **arguments, return_trace=True)
    stock = keras.layers.LSTM(U, **arguments)
    stock.build((B, T, F))
    ours.build((B, T, F))
    ours.set_weights(stock.get_weights())
    ours(inputs())
    stock(inputs())
    np.testing.assert_allclose(np.sum(ours.losses), np.sum(stock.losses), rtol=1e-5)
    assert ours.activity_regularizer is not None


def test_activity_regularizer_in_concurrent_calls() -> None:
    """Calls do not change the layer, so one thread's call cannot disturb another's."""
    x, regularizer = inputs(), keras.regularizers.L2()
    inside, leave = threading.Event(), threading.Event()
    seen: list[Any] = []

    class Waits(layers.GRU):
        def call(self, sequences: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                seen.append(self.activity_regularizer)
                inside.set()
                assert leave.wait(30)
            return super().call(sequences, **kwargs)

    layer = Waits(U, return_trace=True, activity_regularizer=regularizer)
    layer.build(x.shape)
    other = threading.Thread(target=lambda: layer(x))
    other.start()
    assert inside.wait(30)
    try:
        assert layer.activity_regularizer is regularizer
        layer(x)
        assert len(layer.losses) == 2  # of the output and of the state
    finally:
        leave.set()
        other.join()
    assert seen == [None]
    assert layer.activity_regularizer is regularizer


def test_masks_go_on_to_the_next_layer() -> None:
    tokens = np.array([[1, 2, 0, 0], [3, 0, 4, 5]])
    for trace in (False, True):
        embedding = layers.Embedding(6, F, mask_zero=True)
        embedded = embedding(tokens)
        result = layers.GRU(U, return_sequences=True, return_trace=trace)(embedded)
        output = result.output if trace else result
        np.testing.assert_array_equal(output._keras_mask, tokens != 0)
        last = layers.GRU(U, return_trace=trace)(embedded)
        assert getattr(last.output if trace else last, "_keras_mask", None) is None


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_masks_of_numbers_mean_what_they_mean_in_keras(dtype: str) -> None:
    layer = layers.LSTM(U)
    mask = make_mask("holes")
    expected = layer(inputs(), mask=mask)
    np.testing.assert_array_equal(layer(inputs(), mask=mask.astype(dtype)), expected)
    np.testing.assert_array_equal(layer(inputs(), mask=mask.astype(dtype)[..., None]), expected)


def test_python_lists_and_float64_arrays_are_inputs() -> None:
    layer = layers.LSTM(1)
    expected = layer(np.array([[[0.1], [0.2], [0.3]]], "float32"))
    for x in ([[[0.1], [0.2], [0.3]]], np.array([[[0.1], [0.2], [0.3]]])):
        np.testing.assert_array_equal(layer(x), expected)
        assert layer(x).shape == (1, 1)


def test_initial_state_symbolic_and_as_a_tuple() -> None:
    encoder = layers.LSTM(U, return_state=True)
    decoder = layers.LSTM(U, return_sequences=True)
    a, b = keras.Input((T, F)), keras.Input((4, 2))
    _, *states = encoder(a)
    model = keras.Model([a, b], decoder(b, initial_state=states))
    x, y = inputs(dtype="float32"), inputs(B, 4, 2, dtype="float32")
    expected = decoder(y, initial_state=encoder(x)[1:])
    np.testing.assert_allclose(model.predict([x, y], verbose=0), expected, atol=1e-6)
    gru = layers.GRU(U)
    state = inputs(B, U, dtype="float32")
    np.testing.assert_array_equal(gru(x, initial_state=state), gru(x, initial_state=[state]))


def test_a_layer_inside_other_layers_and_jit() -> None:
    class Wrapped(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = layers.LSTM(U, return_state=True)

        def call(self, x: Any) -> Any:
            output, state_h, _ = self.lstm(x)
            return output, state_h

    wrapped = Wrapped()
    symbol = keras.Input((T, F))
    model = keras.Model(symbol, wrapped(symbol))
    picked = keras.Sequential([wrapped.lstm, keras.layers.Lambda(lambda result: result[0])])
    x = inputs(dtype="float32")
    eager = wrapped(x)
    assert_close(model.predict(x, verbose=0), eager, 1e-6)
    assert_close(picked(x), eager[0], 1e-6)
    assert_close(jax.jit(wrapped.lstm)(x).output, eager[0], 1e-6)


def test_bidirectional_keeps_recurra(x64: None, engine_calls: list[Any]) -> None:
    wrapped = layers.Bidirectional(layers.LSTM(U, return_sequences=True, dtype="float64"))
    stock = keras.layers.Bidirectional(keras.layers.LSTM(U, return_sequences=True, dtype="float64"))
    mask = make_mask("holes")
    for layer in (wrapped, stock):
        layer.build((B, T, F))
    stock.set_weights(wrapped.get_weights())
    assert_close(wrapped(inputs(), mask=mask), stock(inputs(), mask=mask), 1e-6)
    assert len(engine_calls) == 2
    assert type(wrapped.backward_layer) is layers.LSTM
    assert type(wrapped.from_config(wrapped.get_config()).forward_layer) is layers.LSTM
    assert type(layers.Bidirectional(keras.layers.LSTM(2)).forward_layer) is keras.layers.LSTM


def test_remat_recomputes_on_the_engine(engine_calls: list[Any]) -> None:
    x = inputs(dtype="float32")
    with keras.RematScope(mode="full"):
        layer = layers.LSTM(U)
    plain = layers.LSTM(U)
    for each in (layer, plain):
        each.build((B, T, F))
    plain.set_weights(layer.get_weights())
    gradients = [
        jax.grad(lambda v, each=each: jnp.sum(each(v)))(jnp.asarray(x)) for each in (layer, plain)
    ]
    assert_close(gradients[0], gradients[1], 1e-6)


# --- Which engine ---


def scaled_tanh(x: Any) -> Any:
    return 1.7159 * ops.tanh(x)


def test_custom_activation_falls_back_and_says_so(
    caplog: pytest.LogCaptureFixture, engine_calls: list[Any]
) -> None:
    layer = layers.LSTM(U, activation=scaled_tanh, name="mine", return_state=True)
    stock = keras.layers.LSTM(U, activation=scaled_tanh, return_state=True)
    stock.build((B, T, F))
    layer.build((B, T, F))
    layer.set_weights(stock.get_weights())
    with caplog.at_level(logging.WARNING, "recurra"):
        first, second = layer(inputs()), layer(inputs())
    assert_close(first, tuple(stock(inputs())), 1e-6)
    assert type(second).__name__ == "LSTMResult"
    assert not engine_calls
    assert len(caplog.records) == 1
    for words in ("mine", "Keras's own scan", "activation=scaled_tanh", "softplus"):
        assert words in caplog.text
    with pytest.raises(ValueError, match="engine='cpu' was asked for, but activation=scaled_tanh"):
        layers.LSTM(U, activation=scaled_tanh, engine="cpu")


def test_engine_argument(caplog: pytest.LogCaptureFixture, engine_calls: list[Any]) -> None:
    with caplog.at_level(logging.INFO, "recurra"):
        layers.GRU(U, engine="keras")(inputs())
        assert not engine_calls
        layers.GRU(U, engine="cpu")(inputs())
        assert len(engine_calls) == 1
    assert not caplog.records


def test_keras_engine_has_all_derivatives() -> None:
    layer = layers.GRU(2, engine="keras")
    x = jnp.asarray(inputs(1, 3, 2, dtype="float32"))
    layer(x)
    hessian = jax.hessian(lambda v: jnp.sum(layer(v)))(x)
    assert np.abs(hessian).max() > 0


def test_overridden_parts_are_respected(caplog: pytest.LogCaptureFixture) -> None:
    class Doubling(layers.GRU):
        def inner_loop(self, *args: Any, **kwargs: Any) -> Any:
            last, sequence, states = super().inner_loop(*args, **kwargs)
            return 2 * last, sequence, states

    plain, doubling = layers.GRU(U), Doubling(U)
    plain.build((B, T, F))
    doubling.build((B, T, F))
    plain.set_weights(doubling.get_weights())
    with caplog.at_level(logging.WARNING, "recurra"):
        assert_close(doubling(inputs()), 2 * plain(inputs()), 1e-6)
    assert "Doubling overrides inner_loop" in caplog.text

    layer = layers.SimpleRNN(U)
    layer.cell = type("MyCell", (keras.layers.SimpleRNNCell,), {})(U)
    layer(inputs())
    assert "its cell is a MyCell" in caplog.text


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (None, "linear"),
        ("swish", "silu"),
        (keras.activations.gelu, "gelu"),
        (keras.ops.tanh, "tanh"),
        (jax.nn.sigmoid, "sigmoid"),
        (jnp.tanh, "tanh"),
        (keras.ops.gelu, None),
        (jax.nn.gelu, None),
        (keras.activations.leaky_relu, None),
        ([], None),
    ],
)
def test_recognised_activations(function: Any, name: str | None) -> None:
    made = keras.activations.get(function) if function != [] else function
    assert engine_name(made) == name


def test_recognised_functions_compute_what_the_engine_computes(x64: None) -> None:
    from recurra.layers.activations import _known

    x = np.linspace(-6, 6, 101)
    for function, name in _known().items():
        expected = IN_FLOAT64.get(name, getattr(keras.activations, name))(x)
        # Keras's own tanh and exponential round to float32.
        tolerance = 1e-14 if function(jnp.asarray(x)).dtype == np.float64 else 1e-6
        np.testing.assert_allclose(function(jnp.asarray(x)), expected, rtol=tolerance)


def test_choice_of_engine_explains_itself() -> None:
    from recurra.engine import Config

    config = Config("lstm")
    assert choose(config, dtype="float32", host="jax").engine == "cpu"
    for arguments, words in (
        ({"dtype": "float32", "host": None}, "no host"),
        ({"dtype": "float32", "host": "jax", "platform": "gpu"}, "on the CPU"),
        ({"dtype": "int8", "host": "jax"}, "int8"),
    ):
        choice = choose(config, **arguments)
        assert (choice.engine, words in choice.reason) == ("keras", True)
        with pytest.raises(ValueError, match=words):
            choose(config, **arguments, engine="cpu")


# --- Drop-in ---


@pytest.mark.parametrize("name", NAMES)
def test_constructors_are_keras_with_three_arguments_more(name: str) -> None:
    ours = inspect.signature(getattr(layers, name).__init__).parameters
    stock = inspect.signature(getattr(keras.layers, name).__init__).parameters
    own = [n for n in ours if n not in stock]
    assert own == ["return_trace", "engine", "checkpoint_every"]
    assert [n for n in ours if n in stock] == list(stock)
    assert all(ours[n] == stock[n] for n in stock)
    assert all(ours[n].kind is inspect.Parameter.KEYWORD_ONLY for n in own)
    positional = getattr(layers, name)(4, "relu", *(["sigmoid"] if name != "SimpleRNN" else []))
    assert positional.activation is keras.activations.relu


def test_every_name_of_keras_layers_and_models_is_handed_on() -> None:
    from recurra import models

    for ours, theirs in ((layers, keras.layers), (models, keras.models)):
        public = {name for name in dir(theirs) if not name.startswith("_")}
        assert public <= set(dir(ours))
        assert public <= set(ours.__all__)
        assert all(hasattr(ours, name) for name in public)
        with pytest.raises(AttributeError, match="NoSuchThing"):
            _ = ours.NoSuchThing
    assert layers.Dense is keras.layers.Dense
    assert models.Sequential is keras.models.Sequential
    for name in NAMES:
        assert issubclass(getattr(layers, name), getattr(keras.layers, name))
