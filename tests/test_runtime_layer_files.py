"""Every layer through both kinds of files: saved by stock Keras, loaded without it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import recurra
from runtime_layer_cases import CASES
from test_runtime_layers import pair_of, spread_over_parameters

UNMASKED = [number for number, case in enumerate(CASES) if not any(case.masks)]


def model_of(number: int) -> tuple[keras.Model, list[Any], list[Any]]:
    """A functional model of the case's layer, what to give it, and what it gives then."""
    case, pair = CASES[number], pair_of(number)
    given = list(pair.inputs)
    inputs = [keras.Input(shape) for shape in case.shapes]
    arguments: dict[str, Any] = {}
    for name, value in pair.arguments.items():
        arguments[name] = value
        if isinstance(value, np.ndarray):
            arguments[name] = keras.Input(value.shape[1:], name=name)
            given.append(value.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if spread_over_parameters(case.class_name):
            outputs = pair.keras(*inputs, **arguments)
        else:
            outputs = pair.keras(inputs if len(inputs) > 1 else inputs[0], **arguments)
    named = [value for value in arguments.values() if keras.backend.is_keras_tensor(value)]
    return keras.Model(inputs + named, outputs), given, pair.expected[0]


@pytest.mark.parametrize("number", UNMASKED, ids=[str(CASES[number]) for number in UNMASKED])
def test_layer_survives_files(number: int, tmp_path: Path) -> None:
    model, given, expected = model_of(number)
    for name in ("model.keras", "model.h5"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras would rather not write .h5
            model.save(tmp_path / name)
        loaded = recurra.load(tmp_path / name)
        found = loaded.predict(given if len(given) > 1 else given[0])
        found = list(found) if isinstance(found, (tuple, list)) else [found]
        assert len(found) == len(expected)
        for y, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)


def masked_model() -> keras.Model:
    """Layers that use masks or hand them on, with masks that come from layers of the model."""
    layers = keras.layers
    x, y = keras.Input((6, 4)), keras.Input((6, 4))
    left, right = layers.Masking()(x), layers.Masking()(y)
    outputs = [
        layers.GlobalAveragePooling1D()(layers.Dense(3)(left)),
        layers.GlobalAveragePooling1D()(layers.LayerNormalization()(layers.Dropout(0.5)(left))),
        layers.GlobalAveragePooling1D()(layers.Conv1D(3, 2, padding="causal")(left)),
        layers.Attention(use_scale=True)([left, right]),
        layers.AdditiveAttention()([left, right], use_causal_mask=True),
    ]
    for merge in ("Add", "Multiply", "Maximum", "Minimum", "Average", "Subtract", "Concatenate"):
        outputs.append(layers.GlobalAveragePooling1D()(getattr(layers, merge)()([left, right])))
        outputs.append(layers.GlobalAveragePooling1D()(getattr(layers, merge)()([left, y])))
    return keras.Model([x, y], outputs)


def taken_masks() -> keras.Model:
    """MultiHeadAttention, which in Keras takes the masks from what it is called on."""
    layers = keras.layers

    def attend(query: Any, value: Any) -> Any:
        return layers.MultiHeadAttention(2, 3)(query, value)

    x, y = keras.Input((6, 4)), keras.Input((6, 4))
    left, right = layers.Masking()(x), layers.Masking()(y)
    inner = keras.Input((6, 4))
    nested = keras.Model(inner, attend(inner, inner))
    once = layers.LayerNormalization()(
        layers.Add()([left, layers.Dropout(0.5)(attend(left, left))])
    )
    twice = layers.Add()([once, attend(once, once)])
    outputs = [
        layers.Attention()([left, right]),
        attend(left, right),
        attend(right, left),
        twice,
        attend(twice, right),
        layers.Multiply()([right, layers.Masking()(once)]),
        nested(layers.Dropout(0.5)(right)),
    ]
    return keras.Model([x, y], outputs)


@pytest.mark.parametrize(
    ("make", "name"),
    # Keras writes .h5 files of the first kind, but cannot read them either.
    [(masked_model, "model.keras"), (taken_masks, "model.keras"), (taken_masks, "model.h5")],
)
def test_masks_inside_of_models(make: Callable[[], keras.Model], name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    given = [rng.normal(size=(5, 6, 4)).astype(np.float32) for _ in range(2)]
    for x in given:
        x[rng.random((5, 6)) < 0.4] = 0.0
        x[:, 2] = 1.0  # every row keeps a step
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of masks that end in Conv1D
        model = make()
        for variable in model.variables:
            if "seed" not in variable.path:
                variable.assign(0.5 * rng.normal(size=variable.shape))
        model.save(tmp_path / name)
        expected = model.predict(given, verbose=0)
    found = recurra.load(tmp_path / name).predict(given)
    for y, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)


def test_overflow_is_no_warning(tmp_path: Path) -> None:
    """Numbers that overflow become infinite as in Keras, and unusual ones do not alarm anybody."""
    x = keras.Input((4, 3))
    attended = keras.layers.Attention()([x, x])
    pooled = keras.layers.AveragePooling1D(2, padding="same")(x)
    keras.Model(x, [attended, pooled, keras.layers.Add()([x, x])]).save(tmp_path / "model.keras")
    given = np.full((2, 4, 3), 3e38, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        *_, doubled = recurra.load(tmp_path / "model.keras").predict(given)
    assert np.isposinf(doubled).all()
