"""More models with a mistake and without it: results mistaken, masks and data (see lint_cases)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from lint_cases import B, F, T, both_ways, case, numbers, padded, sequential, series
from recurra import layers as L


@keras.saving.register_keras_serializable("lint_cases")
class Pooling(keras.Layer):
    """Attention pooling as people write it."""

    def call(self, y: Any) -> Any:
        weights = ops.softmax(ops.sum(y, axis=-1, keepdims=True), axis=1)
        return ops.sum(weights * y, axis=1)


@keras.saving.register_keras_serializable("lint_cases")
class MaskedPooling(keras.Layer):
    """The same with the mask."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def call(self, y: Any, mask: Any = None) -> Any:
        scores = ops.sum(y, axis=-1, keepdims=True)
        if mask is not None:
            scores = ops.where(ops.expand_dims(mask, -1), scores, -1e9)
        return ops.sum(ops.softmax(scores, axis=1) * y, axis=1)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None


@case("R107")
def first_step(wrong: bool) -> Any:
    x = series()
    y = L.Dropout(0.1)(L.LSTM(4, return_sequences=True)(x))
    return keras.Model(x, y[:, 0] if wrong else y[:, -1])


@case("R107")
def first_step_backwards(wrong: bool) -> Any:
    x = series()
    layer = L.GRU(4, return_sequences=True, go_backwards=True)
    y = layer(x) if wrong else L.Bidirectional(layer.__class__(4, return_sequences=True))(x)
    return keras.Model(x, y[:, 0, :])


@case("R106")
def last_step_of_the_backward_layer(wrong: bool) -> Any:
    x = series()
    there, back = L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode=None)(x)
    return keras.Model(x, L.Concatenate()([there[:, -1], back[:, -1 if wrong else 0]]))


def decoded(arrange: Any) -> Any:
    x, y = series(), keras.Input((None, F), name="target")
    results = L.LSTM(4, return_state=True, name="encoder")(x)
    return keras.Model([x, y], L.LSTM(4, name="decoder")(y, initial_state=arrange(*results)))


@case("R303")
def output_and_hidden_state_for_both_states(wrong: bool) -> Any:
    return decoded(lambda output, h, c: [output, h] if wrong else [output, c])


@case("R301")
def cell_state_and_output(wrong: bool) -> Any:
    return decoded(lambda output, h, c: [c, output] if wrong else [output, c])


@case("R301")
def joined_and_swapped(wrong: bool) -> Any:
    join = L.Concatenate()
    return both_ways(
        lambda fh, fc, bh, bc: [join([fc, bc]), join([fh, bh])][:: 1 if wrong else -1], L.LSTM(8)
    )


@case("R308")
def cell_state_as_the_answer(wrong: bool) -> Any:
    x = series()
    return keras.Model(x, L.Dense(1)(L.LSTM(4, return_state=True)(x)[2 if wrong else 0]))


@case("R308")
def everything_is_joined(wrong: bool) -> Any:
    x = series()
    _, h, c = L.LSTM(4, return_state=True)(x)
    return keras.Model(x, c if wrong else L.Concatenate()([h, c]))


@case("R309")
def twice_the_same(wrong: bool) -> Any:
    x = series()
    output, h, c = L.LSTM(4, return_state=True)(x)
    return keras.Model(x, L.Concatenate()([output, h, c] if wrong else [output, c]))


@case("R209")
def pooling_of_ones_own(wrong: bool) -> Any:
    pooling = Pooling() if wrong else MaskedPooling()
    return sequential(L.Masking(), L.LSTM(4, return_sequences=True), pooling, L.Dense(1))


@case("R206")
def padding_behind_a_convolution(wrong: bool) -> Any:
    stack = [L.Conv1D(4, 3), L.MaxPooling1D(2), L.LSTM(4), L.Dense(1)]
    return sequential(*stack), padded() if wrong else numbers()


@case("R206")
def padded_words_behind_a_convolution(wrong: bool) -> Any:
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 1, 0, 0, 0, 0], [1, 1, 2, 3, 4, 5]])
    stack = [L.Embedding(9, 4), L.Conv1D(4, 2), L.GRU(4)] if wrong else []
    right = [L.Embedding(9, 4, mask_zero=True), L.GRU(4)]
    return sequential(*(stack or right), shape=(T,), dtype="int32"), x


@case("R210")
def documents(wrong: bool) -> Any:
    """Sentences of words, padded in both directions."""
    embedding = L.Embedding(9, 4, mask_zero=True)
    first = keras.layers.TimeDistributed(embedding) if wrong else embedding
    stack = [first, L.TimeDistributed(L.LSTM(4)), L.LSTM(4)]
    return sequential(*stack, shape=(3, T), dtype="int32")


@case("R210")
def documents_by_one_library(wrong: bool) -> Any:
    wrapper = keras.layers.TimeDistributed if wrong else L.TimeDistributed
    return sequential(wrapper(L.Masking()), wrapper(L.GRU(4)), shape=(3, T, F))


@case("R506")
def data_of_one_step(wrong: bool) -> Any:
    model = sequential(L.LSTM(4), L.Dense(1), shape=(None, F))
    return model, numbers(B, 1, F) if wrong else numbers()


@case("R507")
def rows_without_targets(wrong: bool) -> Any:
    return sequential(L.LSTM(4), L.Dense(1)), numbers(6, T, F), numbers(5 if wrong else 6, 1)
