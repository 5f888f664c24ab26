"""Small models that are built in every way that people build them: what insight must understand.

    for name in MODELS:
        case = made(name)  # a model and inputs, from Recurra's layers
        case = made(name, "keras")  # the same from stock ones

Every model is written once, as a function of a namespace of layers, and returns the model, built
and with random weights, and inputs that it was not trained on. `PATHS` says what its recurrent
layers are called in `structure_of`, `trace` and `recurra.load`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import keras
import numpy as np
from keras import ops

import recurra.layers

LIBRARIES = {"keras": keras.layers, "recurra": recurra.layers}

BATCH, STEPS, FEATURES, WORDS = 4, 6, 3, 9


class Case(NamedTuple):
    """A model and what it is called with.

    loads: whether `recurra.load` reads it back from a .keras file.
    """

    model: Any
    x: Any
    loads: bool


MODELS: dict[str, Callable[[Any], Any]] = {}

PATHS: dict[str, tuple[str, ...]] = {}
"""For each model its recurrent layers with cells, in the order in which `structure_of` has them: a
wrapper's parts in the wrapper's place, not the wrapper itself."""

LOADS: dict[str, bool] = {}
"""Whether `recurra.load` reads each of them."""


def zoo(*paths: str, loads: bool = True) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Put a function of a namespace of layers into the zoo.

    Args:
        *paths: of its recurrent layers.
        loads: whether the runtime can load the model from a file.
    """

    def put(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        name = function.__name__
        MODELS[name], PATHS[name], LOADS[name] = function, paths, loads
        return function

    return put


@functools.cache
def made(name: str, library: str = "recurra") -> Case:
    """A model of the zoo with the same random weights each time, biases too; do not change it."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(5)
    with _without_initializers():
        model, x = MODELS[name](LIBRARIES[library])
    random = np.random.default_rng(6)
    for variable in model.weights:
        if variable.trainable:
            noise = random.normal(scale=0.4, size=tuple(variable.shape))
            variable.assign(np.asarray(noise, "float32"))
    return Case(model, x, LOADS[name])


@contextlib.contextmanager
def _without_initializers() -> Iterator[None]:
    """Weights begin as zeros, as they are set afterwards: JAX compiles each initializer."""

    def zeros(_: Any, shape: Any, dtype: Any = None) -> Any:
        return np.zeros(shape, dtype or "float32")

    with contextlib.ExitStack() as stack:
        for name in ("GlorotUniform", "Orthogonal", "RandomUniform"):
            kind = getattr(keras.initializers, name)
            stack.enter_context(mock.patch.object(kind, "__call__", zeros))
        yield


def numbers(*shape: int) -> np.ndarray:
    """(BATCH, *shape)."""
    return np.random.default_rng(len(shape)).normal(size=(BATCH, *shape)).astype("float32")


def padded(*shape: int) -> np.ndarray:
    """Sequences of which some end early, in zeros."""
    x = numbers(*shape)
    x[1, 4:], x[3, 2:] = 0, 0
    return x


def words(length: int = STEPS) -> np.ndarray:
    """(BATCH, length) indices of words, some rows padded with 0."""
    x = np.random.default_rng(1).integers(1, WORDS, (BATCH, length)).astype("int32")
    x[0, 5:], x[2, 1:] = 0, 0
    return x


@zoo("lstm")
def forecaster(L: Any) -> Any:
    """Sequential, one LSTM."""
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES), name="series"),
            L.LSTM(5, name="lstm"),
            L.Dense(4, activation="relu", name="hidden"),
            L.Dense(1, name="forecast"),
        ],
        name="forecaster",
    )
    return model, numbers(STEPS, FEATURES)


@zoo("lower", "middle", "upper")
def stacked(L: Any) -> Any:
    """Functional, several layers on top of each other, of three kinds."""
    x = keras.Input((STEPS, FEATURES), name="series")
    y = L.GRU(5, return_sequences=True, name="lower")(x)
    y = L.Dropout(0.2, name="dropout")(y)
    y = L.LayerNormalization(name="normalization")(y)
    y = L.SimpleRNN(4, return_sequences=True, activation="relu", name="middle")(y)
    y = L.GRU(3, reset_after=False, use_bias=False, name="upper")(y)
    return keras.Model(x, L.Dense(1, name="forecast")(y), name="stacked"), numbers(STEPS, FEATURES)


@zoo("read/forward_layer", "read/backward_layer", "again/forward_layer", "again/backward_layer")
def tagger(L: Any) -> Any:
    """Padded words, a mask from the Embedding, two directions, a label for every word."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="words"),
            L.Embedding(WORDS, 4, mask_zero=True, name="embedding"),
            L.Bidirectional(L.LSTM(3, return_sequences=True), name="read"),
            L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="sum", name="again"),
            L.TimeDistributed(L.Dense(3, activation="softmax"), name="label"),
        ],
        name="tagger",
    )
    return model, words()


@zoo("lstm", "last")
def masked_classifier(L: Any) -> Any:
    """Padded numbers, a mask from Masking that goes through two layers."""
    x = keras.Input((None, FEATURES), name="series")
    kept = L.Masking(name="masking")(x)
    y = L.LSTM(4, return_sequences=True, name="lstm")(kept)
    y = L.SimpleRNN(3, name="last")(y)
    kinds = L.Dense(3, activation="softmax", name="kinds")(y)
    return keras.Model(x, kinds, name="masked_classifier"), padded(STEPS, FEATURES)


@zoo(
    "sum/forward_layer",
    "sum/backward_layer",
    "mul/forward_layer",
    "mul/backward_layer",
    "ave/forward_layer",
    "ave/backward_layer",
    "both/forward_layer",
    "both/backward_layer",
    "states/forward_layer",
    "states/backward_layer",
)
def directions(L: Any) -> Any:
    """Bidirectional in every merge mode, and one with states and a layer of its own backwards."""
    x = keras.Input((None, FEATURES), name="series")
    kept = L.Masking(name="masking")(x)
    merged = [
        L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode=mode, name=mode)(kept)
        for mode in ("sum", "mul", "ave")
    ]
    both = L.Bidirectional(L.SimpleRNN(2), merge_mode=None, name="both")(kept)
    output, *states = L.Bidirectional(
        L.LSTM(2, return_state=True),
        backward_layer=L.LSTM(3, return_state=True, go_backwards=True),
        name="states",
    )(kept)
    joined = L.Concatenate(name="joined")([*both, output, *states])
    model = keras.Model(x, [L.Add(name="added")(merged), joined], name="directions")
    return model, padded(STEPS, FEATURES)


@zoo("encoder", "decoder")
def translator(L: Any) -> Any:
    """Encoder and decoder; the decoder starts from the encoder's states, one Embedding for both."""
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    embedding = L.Embedding(WORDS, 4, mask_zero=True, name="embedding")
    _, h, c = L.LSTM(5, return_state=True, name="encoder")(embedding(source))
    decoded, *_ = L.LSTM(5, return_sequences=True, return_state=True, name="decoder")(
        embedding(target), initial_state=[h, c]
    )
    logits = L.Dense(WORDS, activation="softmax", name="words")(decoded)
    model = keras.Model([source, target], logits, name="translator")
    return model, [words(), words()[::-1].copy()]


@zoo("encoder/forward_layer", "encoder/backward_layer", "decoder")
def attention(L: Any) -> Any:
    """Encoder in both directions, its states joined for the decoder, attention between them."""
    source = keras.Input((None, FEATURES), name="source")
    target = keras.Input((None, FEATURES), name="target")
    encoded, forward, backward = L.Bidirectional(
        L.GRU(2, return_sequences=True, return_state=True), name="encoder"
    )(source)
    start = L.Concatenate(name="start")([forward, backward])
    decoded = L.GRU(4, return_sequences=True, name="decoder")(target, initial_state=start)
    context = L.Attention(name="context")([decoded, encoded])
    joined = L.Concatenate(name="joined")([decoded, context])
    model = keras.Model([source, target], L.Dense(2, name="out")(joined), name="attention")
    return model, [numbers(STEPS, FEATURES), numbers(5, FEATURES)]


@zoo("stack/cell_0", "stack/cell_1", "stack/cell_2", "back")
def cell_stack(L: Any) -> Any:
    """RNN over stacked cells, and over a single cell that runs backwards."""
    cells = [L.LSTMCell(3), L.GRUCell(4, reset_after=False), L.SimpleRNNCell(2)]
    x = keras.Input((None, FEATURES), name="series")
    sequence = L.RNN(cells, return_sequences=True, name="stack")(L.Masking(name="masking")(x))
    last = L.RNN(L.GRUCell(3), go_backwards=True, name="back")(sequence)
    return keras.Model(x, last, name="cell_stack"), padded(STEPS, FEATURES)


@keras.saving.register_keras_serializable("insight_zoo")
class MinimalCell(keras.layers.Layer):
    """A cell of a user's: h' = tanh(x · kernel + a · h), a per unit."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.decay = self.add_weight(shape=(self.units,), name="decay")

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        h = ops.tanh(ops.matmul(inputs, self.kernel) + self.decay * states[0])
        return h, [h]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@zoo("own", "lstm", loads=False)
def custom_cell(L: Any) -> Any:
    """RNN over a cell of the user's."""
    x = keras.Input((None, FEATURES), name="series")
    y = L.RNN(MinimalCell(3), return_sequences=True, name="own")(x)
    return keras.Model(x, L.LSTM(2, name="lstm")(y), name="custom_cell"), numbers(STEPS, FEATURES)


@zoo("sentences/layer", "document")
def documents(L: Any) -> Any:
    """TimeDistributed(LSTM): a sequence of sequences."""
    model = keras.Sequential(
        [
            keras.Input((5, STEPS, FEATURES), name="documents"),
            L.TimeDistributed(L.LSTM(3), name="sentences"),
            L.GRU(3, name="document"),
            L.Dense(1, name="score"),
        ],
        name="documents",
    )
    return model, numbers(5, STEPS, FEATURES)


@zoo("encoder/lstm", "encoder/lstm:2", "last", "last:2")
def nested_and_shared(L: Any) -> Any:
    """A nested model that is called on two inputs, with a shared layer behind it."""
    a, b = (keras.Input((None, FEATURES), name=name) for name in "ab")
    inner_x = keras.Input((None, FEATURES), name="inner")
    inner_y = L.LSTM(4, return_sequences=True, name="lstm")(L.Masking(name="masking")(inner_x))
    squeeze = keras.Sequential([L.Dense(3, name="dense"), L.LayerNormalization()], name="squeeze")
    encoder = keras.Model(inner_x, squeeze(inner_y), name="encoder")
    last = L.GRU(3, name="last")
    both = L.Concatenate(name="both")([last(encoder(a)), last(encoder(b))])
    head = keras.Sequential([L.Dense(2, name="out")], name="head")
    model = keras.Model([a, b], head(both), name="nested_and_shared")
    return model, [padded(STEPS, FEATURES), numbers(STEPS, FEATURES)]


@zoo("lower", "upper")
def stateful(L: Any) -> Any:
    """States that are kept from call to call."""
    x = keras.Input(batch_shape=(BATCH, STEPS, FEATURES), name="series")
    y = L.LSTM(4, stateful=True, return_sequences=True, name="lower")(x)
    y = L.GRU(3, stateful=True, name="upper")(y)
    return keras.Model(x, L.Dense(2, name="out")(y), name="stateful"), numbers(STEPS, FEATURES)


@zoo("down", "up/forward_layer", "up/backward_layer", "zeros")
def backwards(L: Any) -> Any:
    """go_backwards, states from an input, states from one layer to the next, explicit zeros."""
    x = keras.Input((None, FEATURES), name="series")
    h0 = keras.Input((3,), name="start")
    kept = L.Masking(name="masking")(x)
    down, h, c = L.LSTM(
        3, go_backwards=True, return_sequences=True, return_state=True, name="down"
    )(kept, initial_state=[h0, h0])
    up = L.Bidirectional(L.GRU(3, return_sequences=True), name="up")(kept, initial_state=[h, c])
    zeros = L.SimpleRNN(3, return_sequences=True, zero_output_for_mask=True, name="zeros")(kept)
    model = keras.Model([x, h0], [down, up, zeros], name="backwards")
    return model, [padded(STEPS, FEATURES), numbers(3)]


@zoo("reader")
def many_inputs(L: Any) -> Any:
    """Inputs and outputs in dicts, an initial state computed from other inputs."""
    series = keras.Input((STEPS, FEATURES), name="series")
    place = keras.Input((2,), name="place")
    word = keras.Input((), name="word", dtype="int32")
    h = L.Dense(4, activation="tanh", name="start")(place)
    h = L.Add(name="add")([h, L.Embedding(WORDS, 4, name="embedding")(word)])
    sequence, state = L.GRU(4, return_sequences=True, return_state=True, name="reader")(
        series, initial_state=[h]
    )
    level = L.Dense(1, name="level")(state)
    pooled = L.GlobalAveragePooling1D(name="mean")(sequence)
    kind = L.Dense(3, activation="softmax", name="kind")(pooled)
    model = keras.Model(
        {"series": series, "place": place, "word": word},
        {"level": level, "kind": kind},
        name="many_inputs",
    )
    return model, {"series": numbers(STEPS, FEATURES), "place": numbers(2), "word": words()[:, 0]}


@zoo("lstm")
def operations(L: Any) -> Any:
    """keras.ops between the layers, and a mask that the model computes itself."""
    x = keras.Input((STEPS, FEATURES), name="series")
    mask = ops.any(ops.not_equal(x, 0.0), axis=-1)
    h = L.LSTM(4, return_sequences=True, name="lstm")(x, mask=mask)
    last = h[:, -1] * 2.0 - ops.mean(h, axis=1)
    weights = ops.softmax(L.Dense(1, name="weight")(h), axis=1)
    pooled = ops.squeeze(ops.matmul(ops.transpose(h, (0, 2, 1)), weights), axis=-1)
    joined = ops.concatenate([last, pooled], axis=-1)
    return keras.Model(x, L.Dense(2, name="out")(joined), name="operations"), padded(
        STEPS, FEATURES
    )


class Classifier(keras.Model):
    """A model whose call is Python."""

    def __init__(self, library: Any) -> None:
        super().__init__(name="subclassed")
        self.embedding = library.Embedding(WORDS, 4, mask_zero=True, name="embedding")
        self.lower = library.Bidirectional(library.LSTM(3, return_sequences=True), name="lower")
        self.upper = library.GRU(4, return_state=True, name="upper")
        self.out = library.Dense(2, name="out")

    def call(self, inputs: Any, training: bool = False) -> Any:
        sequence = self.lower(self.embedding(inputs), training=training)
        last, state = self.upper(sequence, training=training)
        return self.out(last + 0.5 * state)


@zoo("lower/forward_layer", "lower/backward_layer", "upper", loads=False)
def subclassed(L: Any) -> Any:
    """A subclass of keras.Model, built by a call."""
    model, x = Classifier(L), words()
    model(x)
    return model, x


@keras.saving.register_keras_serializable("insight_zoo")
class Residual(keras.layers.Layer):
    """A custom layer around an LSTM: x + LSTM(x), normalized."""

    def __init__(self, units: int, library: str = "recurra", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.library = units, library
        self.lstm = LIBRARIES[library].LSTM(units, return_sequences=True, name="lstm")
        self.normalization = LIBRARIES[library].LayerNormalization(name="normalization")
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self.lstm.build(input_shape)
        self.normalization.build(input_shape)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        return self.normalization(inputs + self.lstm(inputs, mask=mask))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "library": self.library}


@zoo("first/lstm", "second/lstm", "last", loads=False)
def custom_layers(L: Any) -> Any:
    """Layers of the user's with recurrent layers inside."""
    x = keras.Input((None, 4), name="series")
    library = "keras" if L is keras.layers else "recurra"
    y = Residual(4, library, name="first")(L.Masking(name="masking")(x))
    y = Residual(4, library, name="second")(y)
    y = L.LSTM(3, name="last")(y)
    return keras.Model(x, L.Dense(1, name="out")(y), name="custom_layers"), padded(STEPS, 4)


@zoo("cell_layer", "lstm")
def generator(L: Any) -> Any:
    """One vector made into a sequence, unrolled; convolutions and pooling on the way."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,), name="seed"),
            L.Dense(4, name="dense"),
            L.RepeatVector(STEPS, name="repeat"),
            L.RNN(L.LSTMCell(3), return_sequences=True, unroll=True, name="cell_layer"),
            L.Conv1D(4, 3, padding="causal", activation="silu", name="convolution"),
            L.MaxPooling1D(2, name="pooling"),
            L.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", name="lstm"),
        ],
        name="generator",
    )
    return model, numbers(FEATURES)
