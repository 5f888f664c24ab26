"""LSTM, GRU and SimpleRNN on whichever host Keras runs on, against the NumPy reference.

Every array that can have a gradient is a weight of a small model, so one step of gradient descent
with rate 1 by Keras's own trainer tells all gradients, on every host in the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from beside_keras import HOST, array, arrays
from cases import Case, make_case
from recurra import layers, reference
from recurra.layers import usage

CLASSES = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}

CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"return_sequences": True}),
    ({"mask": "right"}, {"return_state": True}),
    ({"mask": "left"}, {"return_sequences": True, "return_state": True}),
    ({"mask": "holes", "zero_output_for_mask": True}, {"return_sequences": True}),
    ({"mask": "row", "go_backwards": True}, {"return_sequences": True, "return_state": True}),
    ({"mask": "all"}, {"return_state": True}),
    ({"time_steps": 1, "batch": 1, "units": 1, "features": 1}, {"return_state": True}),
    ({"units": 17, "features": 63, "use_bias": False}, {"return_sequences": True}),
    ({"initial_state": False, "go_backwards": True}, {"return_state": True, "unroll": True}),
    ({"activation": "relu", "recurrent_activation": "hard_sigmoid"}, {"return_state": True}),
    ({"activation": "gelu", "mask": "holes"}, {"return_sequences": True}),
    ({"batch": 2, "time_steps": 63}, {"return_sequences": True, "return_state": True}),
]
VARIANTS = [("lstm", {}), ("gru", {}), ("gru", {"reset_after": False}), ("simple_rnn", {})]


class Everything(keras.Model):
    """A layer whose input and initial states are weights; its results as one (batch, n) array."""

    def __init__(self, layer: Any, case: Case) -> None:
        super().__init__()
        self.layer, self.mask = layer, case["mask"]
        self.given = {
            name: self.add_weight(
                name=name, shape=case[name].shape, initializer=keras.initializers.Constant(0.0)
            )
            for name in ("x", "h0", "c0")
            if case[name] is not None
        }
        layer.build(case["x"].shape)
        for name, variable in self.given.items():
            variable.assign(case[name])
        layer.set_weights([case[n] for n in self.weight_names() if case[n] is not None])

    def weight_names(self) -> tuple[str, ...]:
        return ("kernel", "recurrent_kernel", "bias")

    def call(self, inputs: Any) -> Any:
        states = [self.given[name] for name in ("h0", "c0") if name in self.given]
        mask = None if self.mask is None else keras.ops.convert_to_tensor(self.mask)
        result = self.layer(
            keras.ops.convert_to_tensor(self.given["x"]),
            initial_state=[keras.ops.convert_to_tensor(state) for state in states] or None,
            mask=mask,
        )
        batch = self.given["x"].shape[0]
        flat = [keras.ops.reshape(each, (batch, -1)) for each in keras.tree.flatten(result)]
        return keras.ops.concatenate([*flat, 0 * inputs], axis=-1)


@pytest.fixture(params=["float64", "float32"])
def floatx(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything, the trainer too, in one precision."""
    wide = contextlib.nullcontext()
    if HOST == "jax":
        from jax import enable_x64

        wide = enable_x64(request.param == "float64")
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    with wide:
        keras.config.set_floatx(request.param)
        keras.config.set_dtype_policy(request.param)
        yield request.param
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("index", range(len(CASES)))
def test_values_and_gradients(
    variant: tuple[str, dict[str, bool]],
    index: int,
    floatx: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if floatx == "float32" and index % 3:
        pytest.skip("every third in float32; all in float64")
    engines: list[str] = []
    monkeypatch.setattr(usage, "record", lambda layer, choice: engines.append(choice.engine))
    cell, choice = variant
    given, options = CASES[index]
    case = make_case(cell, **{"seed": index, **choice, **given})
    names = ("activation", "recurrent_activation")[: 1 if cell == "simple_rnn" else 2]
    layer = CLASSES[cell](
        case["recurrent_kernel"].shape[0],
        **choice,
        **{name: case[name] for name in names},
        use_bias=case["bias"] is not None,
        go_backwards=case["go_backwards"],
        zero_output_for_mask=case["zero_output_for_mask"],
        **options,
    )
    model = Everything(layer, case)
    batch = case["x"].shape[0]
    nothing = np.zeros((batch, 1), floatx)
    found = arrays(model(nothing))[0]

    # The cotangents of the layer's results, by the reference's names, and as the model's target.
    rng = np.random.default_rng(index)
    expected = reference.forward(**case)
    output = "d_sequence" if options.get("return_sequences") else "d_last"
    results = {output: expected.sequence if output == "d_sequence" else expected.last_output}
    if options.get("return_state"):
        symbols = ("d_state_h", "d_state_c")
        results |= dict(zip(symbols, expected.states.values(), strict=False))
    cotangents = {name: rng.normal(size=value.shape) for name, value in results.items()}
    gradients = reference.backward(**case, **cotangents)

    def together(values: dict[str, Any]) -> np.ndarray:
        flat = [np.reshape(value, (batch, -1)) for value in values.values()]
        return np.concatenate([*flat, np.zeros((batch, 1))], axis=1)

    tolerance = 1e-11 if floatx == "float64" else 2e-5

    def close(got: Any, wanted: Any, name: str) -> None:
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        assert np.abs(np.asarray(got) - wanted).max(initial=0.0) <= tolerance * scale, name

    close(found, together(results), "results")

    def loss(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.sum(y_true * y_pred)

    model.compile(keras.optimizers.SGD(1.0), loss)
    weights = dict(zip(model.weight_names(), layer.weights, strict=False)) | model.given
    before = {name: array(variable) for name, variable in weights.items()}
    model.train_on_batch(nothing, together(cotangents).astype(floatx))
    for name, variable in weights.items():
        moved = before[name].astype("float64") - array(variable)
        close(moved, getattr(gradients, f"d{name}"), f"d{name}")
    assert set(engines) == {"cpu"}


@pytest.mark.skipif(HOST == "torch", reason="Keras compiles torch models by torch.compile")
def test_compiled_training_runs_on_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[str] = []
    monkeypatch.setattr(usage, "record", lambda layer, choice: engines.append(choice.engine))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5, 3)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")
    losses = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((None, 3)),
                layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
                layers.RNN([keras.layers.GRUCell(3), keras.layers.LSTMCell(2)]),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse", jit_compile=jit_compile)
        losses.append(model.fit(x, y, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert set(engines) == {"cpu"}


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_layers_in_bfloat16_multiply_bfloat16_numbers(cell: str, options: dict[str, Any]) -> None:
    """And round nothing else within a call: what they give is nearly always the nearest number."""
    case = make_case(cell, batch=9, time_steps=12, units=17, initial_state=False, **options)
    layer = CLASSES[cell](
        17, dtype="mixed_bfloat16", return_sequences=True, engine="cpu", **options
    )
    layer.build(case["x"].shape)
    layer.set_weights([case[name] for name in ("kernel", "recurrent_kernel", "bias")])
    x = reference.to_bfloat16(case["x"])
    got = layer(x)
    assert keras.backend.standardize_dtype(got.dtype) == "bfloat16"
    given = {**case, "x": x}
    rounded, exact = (
        reference.to_bfloat16(reference.forward(**given, bfloat16=choice).sequence)
        for choice in (True, False)
    )
    values = array(keras.ops.cast(got, "float32"))
    assert np.mean(values == rounded) > 0.98
    assert np.mean(values == exact) < 0.9
