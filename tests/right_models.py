"""Models as tutorials and papers build them, all of them right: lint must say nothing.

RIGHT[name]() gives (model, x), where x may be None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from recurra import layers as L

RIGHT: dict[str, Callable[[], Any]] = {}

B, T, F, WORDS = 4, 8, 3, 20


def right(function: Callable[[], Any]) -> Callable[[], Any]:
    RIGHT[function.__name__] = function
    return function


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(B, *shape)).astype("float32")


def words(*, padded: bool = False) -> np.ndarray:
    x = np.random.default_rng(0).integers(1, WORDS, (B, T))
    if padded:
        x[1, 5:], x[2, 2:] = 0, 0
    return x


@right
def weather() -> Any:
    return keras.Sequential([keras.Input((T, F)), L.LSTM(8), L.Dense(1)]), numbers(T, F)


@right
def one_value_per_step() -> Any:
    x = numbers(T, 1)
    x[0, 3], x[2, 5] = 0, 0
    return keras.Sequential([keras.Input((None, 1)), L.GRU(8), L.Dense(4)]), x


@right
def series_that_happens_to_end_in_zeros() -> Any:
    """Rain: most values are zero, at the ends too."""
    x = np.where(numbers(T, 1) > 0.8, 1, 0).astype("float32")
    return keras.Sequential([keras.Input((None, 1)), L.LSTM(8), L.Dense(1)]), x


@right
def reviews() -> Any:
    """Padded in front without a mask, as many tutorials do: nothing can be known without data."""
    stack = [
        L.Embedding(WORDS, 8),
        L.Bidirectional(L.LSTM(4, return_sequences=True)),
        L.Bidirectional(L.LSTM(4)),
        L.Dense(1, activation="sigmoid"),
    ]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *stack]), None


@right
def entities() -> Any:
    stack = [
        L.Embedding(WORDS, 8, mask_zero=True),
        L.SpatialDropout1D(0.1),
        L.Bidirectional(L.LSTM(4, return_sequences=True, recurrent_dropout=0.1)),
        L.TimeDistributed(L.Dense(5, activation="softmax")),
    ]
    return keras.Sequential([keras.Input((T,), dtype="int32"), *stack]), words(padded=True)


@right
def addition() -> Any:
    stack = [L.LSTM(8), L.RepeatVector(3), L.LSTM(8, return_sequences=True)]
    model = keras.Sequential([keras.Input((T, 12)), *stack, L.Dense(12, activation="softmax")])
    return model, np.eye(12, dtype="float32")[np.random.default_rng(0).integers(0, 12, (B, T))]


@right
def translation() -> Any:
    source, target = keras.Input((None, F)), keras.Input((None, F))
    _, h, c = L.LSTM(8, return_state=True)(source)
    decoder = L.LSTM(8, return_sequences=True, return_state=True)
    outputs, _, _ = decoder(target, initial_state=[h, c])
    return keras.Model([source, target], L.Dense(F, activation="softmax")(outputs)), None


@right
def translation_of_padded_words() -> Any:
    """Padded at the end: a decoder needs no mask then."""
    source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    _, h, c = L.LSTM(8, return_state=True)(L.Embedding(WORDS, 8, mask_zero=True)(source))
    decoded = L.LSTM(8, return_sequences=True)(
        L.Embedding(WORDS, 8, mask_zero=True)(target), initial_state=[h, c]
    )
    model = keras.Model([source, target], L.Dense(WORDS, activation="softmax")(decoded))
    return model, [words(padded=True), words(padded=True)[::-1]]


@right
def encoder_of_a_translation() -> Any:
    source = keras.Input((None, F))
    return keras.Model(source, list(L.LSTM(8, return_state=True)(source)[1:])), None


@right
def decoder_of_a_translation() -> Any:
    """One step at a time, states in and out."""
    word, h, c = keras.Input((1,), dtype="int32"), keras.Input((8,)), keras.Input((8,))
    y, *states = L.LSTM(8, return_sequences=True, return_state=True)(
        L.Embedding(WORDS, 8)(word), initial_state=[h, c]
    )
    return keras.Model([word, h, c], [L.Dense(WORDS, activation="softmax")(y), *states]), None


@right
def attention_translation() -> Any:
    source, target = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    encoded, *states = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True))(
        L.Embedding(WORDS, 8, mask_zero=True)(source)
    )
    fh, fc, bh, bc = states
    embedding = L.Embedding(WORDS, 8, mask_zero=True)
    decoded = L.LSTM(8, return_sequences=True)(
        embedding(target),
        initial_state=[L.Concatenate()([fh, bh]), L.Concatenate()([fc, bc])],
        mask=embedding.compute_mask(target),
    )
    context = L.Attention()([decoded, encoded])
    joined = L.Concatenate()([decoded, context])
    return keras.Model([source, target], L.Dense(WORDS, activation="softmax")(joined)), None


@right
def projected_states() -> Any:
    """Both directions' states through a Dense layer each, as some papers do."""
    source, target = keras.Input((None, F)), keras.Input((None, F))
    _, fh, fc, bh, bc = L.Bidirectional(L.LSTM(4, return_state=True))(source)
    h = L.Dense(6, activation="tanh")(L.Concatenate()([fh, bh]))
    c = L.Dense(6)(L.Concatenate()([fc, bc]))
    return keras.Model([source, target], L.LSTM(6)(target, initial_state=[h, c])), None


@right
def caption() -> Any:
    """An image's features for both states."""
    image, target = keras.Input((10,)), keras.Input((None,), dtype="int32")
    start = L.Dense(8, activation="relu")(image)
    y = L.LSTM(8, return_sequences=True)(
        L.Embedding(WORDS, 8)(target), initial_state=[start, start]
    )
    return keras.Model([image, target], L.Dense(WORDS, activation="softmax")(y)), None


@right
def video() -> Any:
    frames, mask = keras.Input((T, 16)), keras.Input((T,), dtype="bool")
    y = L.GRU(8, return_sequences=True)(frames, mask=mask)
    y = L.Dropout(0.4)(L.GRU(4)(y))
    return keras.Model([frames, mask], L.Dense(3, activation="softmax")(y)), None


@right
def frames() -> Any:
    convolution = keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(2, 3), L.Flatten()])
    stack = [L.TimeDistributed(convolution), L.LSTM(4), L.Dense(2, activation="softmax")]
    return keras.Sequential([keras.Input((None, 8, 8, 1)), *stack]), None


@right
def speech() -> Any:
    spectrum = keras.Input((None, 16))
    y = L.Reshape((-1, 16, 1))(spectrum)
    y = L.Conv2D(4, 3, strides=(1, 2), padding="same", use_bias=False)(y)
    y = L.ReLU()(L.BatchNormalization()(y))
    y = L.Reshape((-1, 8 * 4))(y)
    for _ in range(2):
        y = L.Bidirectional(L.GRU(4, return_sequences=True, reset_after=True))(y)
        y = L.Dropout(0.5)(y)
    return keras.Model(spectrum, L.Dense(12, activation="softmax")(y)), None


@right
def convolutions_and_lstm_side_by_side() -> Any:
    """As LSTM-FCN: the LSTM reads the transposed series."""
    x = keras.Input((T, 1))
    left = L.Dropout(0.8)(L.LSTM(4)(L.Permute((2, 1))(L.Concatenate()([x, x]))))
    right = L.GlobalAveragePooling1D()(L.Conv1D(4, 3, padding="same")(x))
    return keras.Model(x, L.Dense(2, activation="softmax")(L.Concatenate()([left, right]))), None


@right
def siamese() -> Any:
    a, b = (keras.Input((None,), dtype="int32") for _ in "ab")
    embedding, encoder = L.Embedding(WORDS, 8, mask_zero=True), L.LSTM(4)
    apart = ops.abs(encoder(embedding(a)) - encoder(embedding(b)))
    return keras.Model([a, b], L.Dense(1, activation="sigmoid")(apart)), None


@right
def attention_pooling() -> Any:
    x = keras.Input((T, F))
    y = L.GRU(8, return_sequences=True)(x)
    weights = L.Softmax(axis=1)(L.Dense(1)(y))
    return keras.Model(x, L.Dense(2)(ops.sum(y * weights, axis=1))), numbers(T, F)


@right
def directions_by_hand() -> Any:
    x = keras.Input((None, F))
    there = L.LSTM(4, return_sequences=True)(x)
    back = L.LSTM(4, return_sequences=True, go_backwards=True)(x)
    both = L.Concatenate()([there, ops.flip(back, axis=1)])
    return keras.Model(x, L.Dense(2, activation="softmax")(both)), None


@right
def backwards_encoder() -> Any:
    """Reading the source in reverse, as the first translators did."""
    source, target = keras.Input((None, F)), keras.Input((None, F))
    _, h, c = L.LSTM(4, go_backwards=True, return_state=True)(source)
    return keras.Model([source, target], L.LSTM(4)(target, initial_state=[h, c])), None


@right
def deep_with_residuals() -> Any:
    x = keras.Input((None, F))
    y = L.LSTM(4, return_sequences=True)(L.Masking()(x))
    y = L.LayerNormalization()(L.Add()([y, L.LSTM(4, return_sequences=True)(y)]))
    y, h, _ = L.LSTM(4, return_sequences=True, return_state=True)(y)
    pooled = L.GlobalAveragePooling1D()(y)
    return keras.Model(x, L.Dense(1)(L.Concatenate()([pooled, h]))), None


@right
def last_step_by_index() -> Any:
    x = keras.Input((T, F))
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(x, L.Dense(1)(y[:, -1])), None


@right
def several_steps_by_index() -> Any:
    x = keras.Input((T, F))
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(x, L.Dense(1)(L.Concatenate()([y[:, 0], y[:, -1]]))), None


@right
def both_ends_of_directions_apart() -> Any:
    x = keras.Input((T, F))
    there, back = L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode=None)(x)
    return keras.Model(x, L.Concatenate()([L.Dropout(0.1)(there)[:, -1], back[:, 0]])), None


@right
def both_ends_of_directions_joined() -> Any:
    x = keras.Input((T, F))
    y = L.Bidirectional(L.GRU(4, return_sequences=True))(x)
    first, last = y[:, 0], y[:, -1]
    return keras.Model(x, L.Concatenate()([last[:, :4], first[:, 4:]])), None


@right
def images_over_time() -> Any:
    stack = [L.ConvLSTM2D(2, 3, padding="same", return_sequences=True), L.BatchNormalization()]
    stack += [L.ConvLSTM2D(2, 3, padding="same"), L.Conv2D(1, 3, padding="same")]
    return keras.Sequential([keras.Input((None, 6, 6, 1)), *stack]), None


@right
def several_steps_ahead() -> Any:
    stack = [L.LSTM(8), L.Dense(12 * F), L.Reshape((12, F))]
    return keras.Sequential([keras.Input((T, F)), *stack]), numbers(T, F)


@right
def scaled_prices() -> Any:
    scale = L.Normalization(mean=[100.0] * F, variance=[25.0] * F)
    return keras.Sequential([keras.Input((T, F)), scale, L.GRU(4), L.Dense(1)]), 100 + numbers(T, F)
