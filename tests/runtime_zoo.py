"""Small models of many architectures, trained for a moment: what people save and load again.

`trained(name, library)` gives a model and inputs that it was not trained on. Every architecture is
written once and built from Keras's or Recurra's layers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

import recurra.layers

LIBRARIES = {"keras": keras.layers, "recurra": recurra.layers}

BATCH, STEPS, FEATURES, WORDS = 6, 7, 3, 11


class Case(NamedTuple):
    """A model and what it is called with."""

    model: Any
    x: Any


ARCHITECTURES: dict[str, Callable[[Any], Any]] = {}


def architecture(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    ARCHITECTURES[function.__name__] = function
    return function


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=(BATCH, *shape)).astype("float32")


def padded(*shape: int) -> np.ndarray:
    """Sequences of which some end early, in zeros."""
    x = numbers(*shape)
    x[1, 4:], x[3, 2:] = 0, 0
    return x


def words(length: int = STEPS) -> np.ndarray:
    x = np.random.default_rng(1).integers(1, WORDS, (BATCH, length))
    x[0, 5:], x[2, 1:] = 0, 0
    return x


@functools.cache
def trained(name: str, library: str) -> Case:
    """An architecture, trained for two steps on random targets."""
    keras.utils.set_random_seed(3)
    made = ARCHITECTURES[name](LIBRARIES[library])
    model, x = made[:2]
    model.compile(optimizer=keras.optimizers.Adam(0.03), loss="mse", run_eagerly=len(made) > 2)
    targets = keras.tree.map_structure(
        lambda t: np.random.default_rng(4).normal(size=(BATCH, *_sizes(t.shape))).astype("float32"),
        model.outputs if isinstance(model, keras.Sequential) else model.output,
    )
    for _ in range(2):
        model.train_on_batch(x, targets)
    return Case(model, x)


def _sizes(shape: Any) -> list[int]:
    return [STEPS if size is None else size for size in shape[1:]]


@architecture
def forecaster(L: Any) -> Any:
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), L.LSTM(5), L.Dense(4, activation="relu"), L.Dense(1)]
    )
    return model, numbers(STEPS, FEATURES)


@architecture
def normalized_forecaster(L: Any) -> Any:
    normalization = L.Normalization()
    normalization.adapt(3 * numbers(STEPS, FEATURES) + 1)
    model = keras.Sequential(
        [
            keras.Input((STEPS, FEATURES)),
            normalization,
            L.GRU(5, return_sequences=True, recurrent_dropout=0.1),
            L.BatchNormalization(),
            L.Dropout(0.2),
            L.SimpleRNN(4, return_sequences=True, activation="relu"),
            L.LayerNormalization(),
            L.GRU(3, reset_after=False, use_bias=False),
            L.Dense(2),
            L.Rescaling(2.0, offset=0.5),
        ]
    )
    return model, numbers(STEPS, FEATURES)


@architecture
def masked_classifier(L: Any) -> Any:
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            L.Masking(),
            L.LSTM(5, return_sequences=True),
            L.GRU(4),
            L.Dense(3, activation="softmax"),
        ]
    )
    return model, padded(STEPS, FEATURES)


@architecture
def tagger(L: Any) -> Any:
    model = keras.Sequential(
        [
            L.Embedding(WORDS, 4, mask_zero=True),
            L.Bidirectional(L.LSTM(3, return_sequences=True)),
            L.Dropout(0.1),
            L.TimeDistributed(L.Dense(2, activation="softmax")),
        ]
    )
    model.build((None, STEPS))
    return model, words()


@architecture
def merged_directions(L: Any) -> Any:
    x = keras.Input((None, FEATURES), name="signal")
    kept = L.Masking()(x)
    modes = [
        L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode=mode)(kept)
        for mode in ("sum", "mul", "ave")
    ]
    both = L.Bidirectional(L.SimpleRNN(3), merge_mode=None)(kept)
    other = L.Bidirectional(
        L.LSTM(2, return_state=True), backward_layer=L.LSTM(2, return_state=True, go_backwards=True)
    )(kept)
    joined = L.Concatenate()([*both, *other])
    return keras.Model(x, [L.Add()(modes), joined]), padded(STEPS, FEATURES)


@architecture
def encoder_decoder(L: Any) -> Any:
    source = keras.Input((None,), name="source")
    target = keras.Input((None,), name="target")
    embedding = L.Embedding(WORDS, 4, mask_zero=True, name="shared_embedding")
    _, h, c = L.LSTM(5, return_state=True)(embedding(source))
    decoded, *_ = L.LSTM(5, return_sequences=True, return_state=True)(
        embedding(target), initial_state=[h, c]
    )
    logits = L.Dense(WORDS, activation="softmax")(decoded)
    return keras.Model([source, target], logits), [words(), words()[::-1].copy()]


@architecture
def attention_translator(L: Any) -> Any:
    source = keras.Input((None,), name="source")
    target = keras.Input((None,), name="target")
    encoded, h = L.GRU(4, return_sequences=True, return_state=True)(
        L.Embedding(WORDS, 4, mask_zero=True)(source)
    )
    decoded = L.GRU(4, return_sequences=True)(L.Embedding(WORDS, 4)(target), initial_state=h)
    context = L.Attention()([decoded, encoded])
    more = L.MultiHeadAttention(2, 3)(decoded, encoded)
    joined = L.Concatenate()([decoded, context, more])
    return keras.Model([source, target], L.Dense(2)(joined)), [words(), words()[::-1].copy()]


@architecture
def convolution_and_gru(L: Any) -> Any:
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="silu"),
            L.Conv1D(4, 2, padding="same"),
            L.MaxPooling1D(2),
            L.GRU(3),
            L.Dense(1),
        ]
    )
    return model, numbers(8, FEATURES)


@architecture
def frames(L: Any) -> Any:
    inner = keras.Sequential(
        [keras.Input((6, 2)), L.Conv1D(3, 3), L.GlobalMaxPooling1D(), L.Dense(4)], name="frame"
    )
    model = keras.Sequential(
        [keras.Input((None, 6, 2)), L.TimeDistributed(inner), L.LSTM(3), L.Dense(1)]
    )
    return model, numbers(STEPS, 6, 2)


@architecture
def sequences_of_sequences(L: Any) -> Any:
    model = keras.Sequential(
        [
            keras.Input((4, 6, 2)),
            L.TimeDistributed(L.LSTM(3)),
            L.GRU(3, return_sequences=True),
            L.Flatten(),
            L.Dense(2),
        ]
    )
    return model, numbers(4, 6, 2)


@architecture
def stacked_cells(L: Any) -> Any:
    cells = [L.LSTMCell(3), L.GRUCell(4, reset_after=False), L.SimpleRNNCell(2)]
    x = keras.Input((None, FEATURES))
    sequence = L.RNN(cells, return_sequences=True)(L.Masking()(x))
    last = L.RNN(L.GRUCell(3), go_backwards=True)(sequence)
    return keras.Model(x, last), padded(STEPS, FEATURES)


@architecture
def odd_activations(L: Any) -> Any:
    x = keras.Input((None, FEATURES))
    y = L.LSTM(3, activation="mish", recurrent_activation="hard_sigmoid", return_sequences=True)(
        L.Masking()(x)
    )
    y = L.GRU(3, activation="relu6", return_sequences=True)(y)
    y = L.Bidirectional(
        L.GRU(2, activation="leaky_relu", reset_after=False, return_sequences=True)
    )(y)
    y = L.SimpleRNN(3, activation="gelu", return_state=True)(y)
    return keras.Model(x, list(y)), padded(STEPS, FEATURES)


@architecture
def stateful(L: Any) -> Any:
    x = keras.Input(batch_shape=(BATCH, STEPS, FEATURES))
    y = L.LSTM(4, stateful=True, return_sequences=True)(x)
    return keras.Model(x, L.Dense(2)(L.GRU(3, stateful=True)(y))), numbers(STEPS, FEATURES)


@architecture
def many_inputs_and_outputs(L: Any) -> Any:
    series = keras.Input((STEPS, FEATURES), name="series")
    place = keras.Input((2,), name="place")
    word = keras.Input((), name="word", dtype="int32")
    h = L.Dense(4, activation="tanh", name="start")(place)
    h = L.Add()([h, L.Embedding(WORDS, 4)(word)])
    sequence, state = L.GRU(4, return_sequences=True, return_state=True)(series, initial_state=[h])
    level = L.Dense(1, name="level")(state)
    kind = L.Dense(3, activation="softmax", name="kind")(L.GlobalAveragePooling1D()(sequence))
    model = keras.Model(
        {"series": series, "place": place, "word": word}, {"level": level, "kind": kind}
    )
    x = {"series": numbers(STEPS, FEATURES), "place": numbers(2), "word": words()[:, 0]}
    return model, x


@architecture
def nested_and_shared(L: Any) -> Any:
    a, b = keras.Input((None, FEATURES), name="a"), keras.Input((None, FEATURES), name="b")
    inner_x = keras.Input((None, FEATURES))
    inner_y = L.LSTM(4, return_sequences=True)(L.Masking()(inner_x))
    deepest = keras.Sequential([L.Dense(3), L.LayerNormalization()], name="deepest")
    encoder = keras.Model(inner_x, [deepest(inner_y), inner_y], name="encoder")
    one, two = encoder(a), encoder(b)
    last = L.GRU(3)
    features = L.Concatenate()([last(one[0]), last(two[0]), L.LSTM(2)(two[1])])
    return keras.Model([a, b], keras.Sequential([L.Dense(2)], name="head")(features)), [
        padded(STEPS, FEATURES),
        numbers(STEPS, FEATURES),
    ]


@architecture
def operations(L: Any) -> Any:
    x = keras.Input((STEPS, FEATURES), name="x")
    mask = ops.any(ops.not_equal(x, 0.0), axis=-1)
    h = L.LSTM(4, return_sequences=True)(x, mask=mask)
    last = h[:, -1] * 2.0 - ops.mean(h, axis=1)
    mixed = ops.concatenate([last, ops.max(x, axis=1)], axis=-1)
    weights = ops.softmax(L.Dense(1)(h), axis=1)
    pooled = ops.squeeze(ops.matmul(ops.transpose(h, (0, 2, 1)), weights), axis=-1)
    shaped = ops.reshape(ops.expand_dims(ops.relu(mixed) / 3.0, 1), (-1, 7))
    return keras.Model(x, [shaped + 1.0, pooled]), padded(STEPS, FEATURES)


@architecture
def backwards_with_states(L: Any) -> Any:
    x = keras.Input((None, FEATURES))
    h0 = keras.Input((3,))
    kept = L.Masking()(x)
    down, h, c = L.LSTM(3, go_backwards=True, return_sequences=True, return_state=True)(
        kept, initial_state=[h0, h0]
    )
    states = L.Bidirectional(L.GRU(3, return_sequences=True))(kept, initial_state=[h, c])
    zeros = L.SimpleRNN(3, return_sequences=True, zero_output_for_mask=True)(kept)
    return keras.Model([x, h0], [down, states, zeros]), [padded(STEPS, FEATURES), numbers(3)]


@architecture
def deep_wrappers(L: Any) -> Any:
    x = keras.Input((4, 5, 2))
    kept = L.Masking()(x)
    one = L.TimeDistributed(L.Bidirectional(L.GRU(2)))(kept)
    cells = [L.GRUCell(3), L.LSTMCell(2)]
    two, *states = L.Bidirectional(L.RNN(cells, return_state=True))(one)
    three = L.TimeDistributed(L.TimeDistributed(L.Dense(3, activation="tanh")))(x)
    four = L.Flatten()(L.TimeDistributed(L.Flatten())(three))
    joined = L.Concatenate()([two, *keras.tree.flatten(states), four])
    x_data = numbers(4, 5, 2)
    x_data[1, 2:], x_data[2, :, 3:], x_data[3] = 0, 0, 0
    return keras.Model(x, joined), x_data


@architecture
def shared_between_models(L: Any) -> Any:
    """A layer in two nested models: written once, read twice."""
    shared = L.LSTM(3, name="shared")
    models = []
    for name, units in (("left", 2), ("right", 4)):
        x = keras.Input((None, FEATURES))
        models.append(keras.Model(x, L.Dense(units)(shared(x)), name=name))
    x = keras.Input((None, FEATURES))
    y = L.Concatenate()([model(x) for model in models] + [shared(x)])
    return keras.Model(x, y), numbers(STEPS, FEATURES)


@architecture
def generator(L: Any) -> Any:
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            L.Dense(4),
            L.RepeatVector(STEPS),
            L.GRU(3, return_sequences=True, unroll=True),
            L.Permute((2, 1)),
            L.ZeroPadding1D(1),
            L.Cropping1D((1, 0)),
            L.UpSampling1D(2),
            L.Reshape((-1, 4)),
            L.SimpleRNN(3),
        ]
    )
    return model, numbers(FEATURES)


@architecture
def half_precision(L: Any) -> Any:
    policy = keras.DTypePolicy("float32")
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES), dtype="float64"),
            L.LSTM(4, dtype="float64", return_sequences=True),
            L.TimeDistributed(L.Dense(3, dtype=policy)),
            L.ELU(alpha=0.7),
            L.GlobalMaxPooling1D(),
            L.UnitNormalization(),
        ]
    )
    return model, numbers(STEPS, FEATURES)
