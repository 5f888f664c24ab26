"""For every rule of lint, models with the mistake and the same models without it.

CASES[code] is a list of pairs of functions, (wrong, right), each of which returns a model,
(model, x) or (model, x, y).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from recurra import layers as L

T, F, B = 6, 3, 4


def series() -> Any:
    return keras.Input((T, F), name="series")


def words() -> Any:
    return keras.Input((T,), dtype="int32", name="words")


def sequential(*stack: Any, shape: tuple[int | None, ...] = (T, F), **options: Any) -> Any:
    return keras.Sequential([keras.Input(shape, name="series", **options), *stack])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape or (B, T, F)).astype("float32")


def padded(value: float = 0.0, *, front: bool = False) -> np.ndarray:
    x = numbers()
    x[1, 4:], x[3, 2:] = value, value
    return x[:, ::-1].copy() if front else x


# --- What every rule finds, and what it does not: (code, model with the mistake, without) ---

Made = Callable[[], Any]
CASES: dict[str, list[tuple[Made, Made]]] = {}
"""For every code pairs of functions; each returns a model or (model, x) or (model, x, y)."""


def case(code: str) -> Callable[[Callable[[bool], Any]], Callable[[bool], Any]]:
    """A function of whether the mistake is made."""

    def keep(function: Callable[[bool], Any]) -> Callable[[bool], Any]:
        CASES.setdefault(code, []).append(
            (functools.partial(function, True), functools.partial(function, False))
        )
        return function

    return keep


@case("R101")
def stacked_without_sequences(wrong: bool) -> Any:
    lower = L.LSTM(4, return_sequences=not wrong, name="lower")
    return keras.Sequential([lower, L.Dropout(0.1), L.LSTM(4, name="upper"), L.Dense(1)])


@case("R101")
def bidirectional_without_sequences(wrong: bool) -> Any:
    return keras.Sequential(
        [L.Bidirectional(L.GRU(4, return_sequences=not wrong), name="lower"), L.GRU(4)]
    )


@case("R102")
def one_step(wrong: bool) -> Any:
    return sequential(L.LSTM(4), L.Dense(1), shape=(1, 60) if wrong else (60, 1))


@case("R102")
def one_step_with_a_state(wrong: bool) -> Any:
    x, h = keras.Input((1, F)), keras.Input((4,))
    y, state = L.GRU(4, return_state=True)(x, initial_state=None if wrong else h)
    return keras.Model([x] if wrong else [x, h], [y] if wrong else [y, state])


@case("R103")
def attention_over_nothing(wrong: bool) -> Any:
    x = series()
    y = L.LSTM(4, return_sequences=not wrong)(x)
    return keras.Model(x, L.MultiHeadAttention(2, 3)(y, y))


@case("R104")
def directions_by_hand(wrong: bool) -> Any:
    x = series()
    there = L.LSTM(4, return_sequences=True)(x)
    back = L.Dense(4)(L.LSTM(4, return_sequences=True, go_backwards=True, name="back")(x))
    return keras.Model(x, L.Add()([there, back if wrong else ops.flip(back, axis=1)]))


@case("R105")
def backwards_output(wrong: bool) -> Any:
    return sequential(L.LSTM(4, return_sequences=True, go_backwards=wrong), L.Dense(1))


@case("R106")
def last_step_of_both(wrong: bool) -> Any:
    x = series()
    both = L.Bidirectional(L.LSTM(4, return_sequences=wrong))(x)
    return keras.Model(x, L.Dense(1)(both[:, -1] if wrong else both))


@case("R106")
def last_step_of_one(wrong: bool) -> Any:
    x = series()
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(
        x, (L.Bidirectional(L.LSTM(4, return_sequences=True))(x) if wrong else y)[:, -1, :]
    )


@case("R201")
def convolution_in_between(wrong: bool) -> Any:
    x = words()
    embedding = L.Embedding(9, 4, mask_zero=True, name="embedding")
    y = L.Conv1D(4, 3, padding="same", name="convolution")(embedding(x))
    return keras.Model(x, L.LSTM(4)(y, mask=None if wrong else embedding.compute_mask(x)))


@case("R201")
def plain_operation_in_between(wrong: bool) -> Any:
    x = series()
    y = L.Masking()(x)
    y = y + 1.0 if wrong else L.Rescaling(1.0, 1.0)(y)
    return keras.Model(x, L.Bidirectional(L.GRU(4))(L.Dropout(0.1)(y)))


@case("R202")
def states_without_mask(wrong: bool) -> Any:
    x, h = series(), keras.Input((4,))
    kept = L.Masking(name="masking")(x)
    mask = None if wrong else L.Masking().compute_mask(x)
    return keras.Model([x, h], L.GRU(4)(kept, initial_state=h, mask=mask))


@case("R203")
def decoder_without_mask(wrong: bool) -> Any:
    source, target = (keras.Input((T,), dtype="int32", name=name) for name in ("a", "b"))
    embedding = L.Embedding(9, 4, mask_zero=True)
    h = L.GRU(4)(embedding(source))
    mask = None if wrong else embedding.compute_mask(target)
    y = L.GRU(4, return_sequences=True)(embedding(target), initial_state=h, mask=mask)
    return keras.Model([source, target], L.Dense(9)(y))


@case("R204")
def pooled_with_padding(wrong: bool) -> Any:
    pooling = L.GlobalMaxPooling1D if wrong else L.GlobalAveragePooling1D
    return sequential(L.Masking(), L.LSTM(4, return_sequences=True), pooling(), L.Dense(1))


@case("R204")
def flattened_with_padding(wrong: bool) -> Any:
    start = L.Masking() if wrong else L.Dropout(0.1)
    return sequential(start, L.LSTM(4, return_sequences=True), L.Flatten(), L.Dense(1))


@case("R204")
def mean_with_padding(wrong: bool) -> Any:
    x = series()
    y = L.LSTM(4, return_sequences=True)(L.Masking()(x))
    return keras.Model(x, ops.mean(y, axis=1 if wrong else 2))


@case("R205")
def labels_without_mask(wrong: bool) -> Any:
    between = L.Conv1D(4, 3, padding="same") if wrong else L.LayerNormalization()
    return sequential(L.Masking(), L.LSTM(4, return_sequences=True), between, L.Dense(2))


@case("R206")
def padding_without_mask(wrong: bool) -> Any:
    first = [] if wrong else [L.Masking()]
    return sequential(*first, L.Dense(4), L.LSTM(4), L.Dense(1)), padded()


@case("R206")
def no_padding(wrong: bool) -> Any:
    x = padded() if wrong else numbers()
    x[2, 3] = 0 if not wrong else x[2, 3]  # a real step of zeros
    return sequential(L.LSTM(4), L.Dense(1)), x


@case("R206")
def padded_words(wrong: bool) -> Any:
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 1, 0, 0, 0, 0], [1, 1, 2, 3, 4, 5]])
    stack = [L.Embedding(9, 4, mask_zero=not wrong), L.LSTM(4)]
    return sequential(*stack, shape=(T,), dtype="int32"), x


@case("R206")
def padded_in_front_by_another_value(wrong: bool) -> Any:
    first = [] if wrong else [L.Masking(mask_value=-1.0)]
    x = np.abs(padded()) + 0.1
    x[1, 4:], x[3, 2:] = -1.0, -1.0
    return sequential(*first, L.Bidirectional(L.GRU(4))), x[:, ::-1]


@case("R207")
def masking_for_another_value(wrong: bool) -> Any:
    return sequential(L.Masking(-1.0 if wrong else 0.0), L.LSTM(4)), padded()


@case("R208")
def zeros_in_between(wrong: bool) -> Any:
    x = padded()
    x[2, 3] = 0 if wrong else x[2, 3]
    return sequential(L.Masking(), L.LSTM(4)), x


def translator(arrange: Callable[..., Any], **options: Any) -> Any:
    x, y = series(), keras.Input((None, F), name="target")
    _, h, c = L.LSTM(4, return_state=True, name="encoder")(x)
    states = arrange(L.Dropout(0.1)(h), c)
    return keras.Model([x, y], L.LSTM(4, name="decoder", **options)(y, initial_state=states))


@case("R301")
def swapped_states(wrong: bool) -> Any:
    return translator(lambda h, c: [c, h] if wrong else [h, c])


def both_ways(arrange: Callable[..., Any], decoder: Any) -> Any:
    x, y = series(), keras.Input((None, F), name="target")
    _, *states = L.Bidirectional(L.LSTM(4, return_state=True), name="encoder")(x)
    return keras.Model([x, y], decoder(y, initial_state=arrange(*states)))


@case("R302")
def two_of_four_states(wrong: bool) -> Any:
    join = L.Concatenate()
    if wrong:
        return both_ways(lambda fh, fc, bh, bc: [fh, bh], L.LSTM(4, name="decoder"))
    return both_ways(lambda fh, fc, bh, bc: [join([fh, bh]), join([fc, bc])], L.LSTM(8))


@case("R302")
def joined_by_direction(wrong: bool) -> Any:
    join = L.Concatenate()
    if wrong:
        return both_ways(lambda fh, fc, bh, bc: [join([fh, fc]), join([bh, bc])], L.LSTM(8))
    return both_ways(lambda fh, fc, bh, bc: [fh, fc], L.LSTM(4))


@case("R302")
def bidirectional_decoder(wrong: bool) -> Any:
    return both_ways(
        lambda fh, fc, bh, bc: [fh, bh, fc, bc] if wrong else [fh, fc, bh, bc],
        L.Bidirectional(L.LSTM(4)),
    )


@case("R302")
def directions_swapped(wrong: bool) -> Any:
    return both_ways(
        lambda fh, fc, bh, bc: [bh, bc, fh, fc] if wrong else [fh, fc, bh, bc],
        L.Bidirectional(L.LSTM(4)),
    )


@case("R302")
def directions_as_hidden_and_cell_state(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    _, forward, backward = L.Bidirectional(L.GRU(4, return_state=True))(x)
    states = [forward, backward] if wrong else [forward, forward]
    return keras.Model([x, y], L.LSTM(4)(y, initial_state=states))


@case("R303")
def hidden_state_twice(wrong: bool) -> Any:
    return translator(lambda h, c: [h, h] if wrong else [h, c])


@case("R303")
def cell_state_for_a_gru(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    _, h, c = L.LSTM(4, return_state=True)(x)
    return keras.Model([x, y], L.GRU(4)(y, initial_state=c if wrong else h))


@case("R303")
def states_of_a_gru_for_an_lstm(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    encoder = L.LSTM(4, return_state=True) if wrong else L.GRU(4, return_state=True)
    _, h, *_ = encoder(x)
    return keras.Model([x, y], L.LSTM(4)(y, initial_state=[h, h]))


@case("R304")
def states_for_nothing(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    summary, h, c = L.LSTM(4, return_state=True)(x)
    decoded, *_ = L.LSTM(4, return_state=True)(y, initial_state=None if wrong else [h, c])
    return keras.Model([x, y], L.Concatenate()([summary, decoded]))


@case("R305")
def keeps_states(wrong: bool) -> Any:
    x = keras.Input(batch_shape=(B, T, F))
    return keras.Model(x, L.LSTM(4, stateful=wrong)(x))


@case("R306")
def keeps_states_of_the_end(wrong: bool) -> Any:
    x = keras.Input(batch_shape=(B, T, F))
    layer = L.LSTM(4, stateful=True)
    return keras.Model(x, (L.Bidirectional(layer) if wrong else layer)(x))


@case("R307")
def keeps_states_of_two(wrong: bool) -> Any:
    a, b = (keras.Input(batch_shape=(B, T, F)) for _ in "ab")
    one = L.LSTM(4, stateful=True)
    other = one if wrong else L.LSTM(4, stateful=True)
    return keras.Model([a, b], L.Add()([one(a), other(b)]))


@case("R401")
def forgotten_input(wrong: bool) -> Any:
    a, b = keras.Input((T, F), name="a"), keras.Input((T, F), name="b")
    y = L.LSTM(4)(a)
    return keras.Model([a, b], y if wrong else L.Add()([y, L.LSTM(4)(b)]))


@case("R402")
def softmax_of_one(wrong: bool) -> Any:
    return sequential(L.LSTM(4), L.Dense(1, activation="softmax" if wrong else "sigmoid"))


@case("R402")
def softmax_of_one_by_itself(wrong: bool) -> Any:
    return sequential(L.LSTM(4), L.Dense(1 if wrong else 2), L.Activation("softmax"))


@case("R403")
def one_unit(wrong: bool) -> Any:
    return sequential(L.LSTM(4, return_sequences=True), L.LSTM(1 if wrong else 2))


@case("R403")
def one_unit_without_bounds(wrong: bool) -> Any:
    return sequential(L.SimpleRNN(1, activation="tanh" if wrong else "linear"))


@case("R404")
def no_bounds(wrong: bool) -> Any:
    layer = L.GRU if wrong else L.SimpleRNN
    return sequential(L.Bidirectional(layer(4, activation="relu")), L.Dense(1))


@case("R405")
def a_prediction_per_step(wrong: bool) -> Any:
    model = sequential(L.LSTM(4, return_sequences=wrong), L.Dense(1))
    return model, numbers(), numbers(B, 1)


@case("R405")
def a_target_per_step(wrong: bool) -> Any:
    model = sequential(L.LSTM(4, return_sequences=not wrong), L.Dense(1))
    return model, numbers(), numbers(B, T, 1)


@case("R405")
def a_target_per_step_ahead(wrong: bool) -> Any:
    """24 steps ahead by Dense(24), with targets of one feature: losses drop that axis."""
    model = sequential(L.LSTM(4), L.Dense(24))
    return model, numbers(), numbers(B, 23 if wrong else 24, 1)


@case("R405")
def classes_per_step(wrong: bool) -> Any:
    model = sequential(L.LSTM(4, return_sequences=True), L.Dense(5, activation="softmax"))
    return model, numbers(), np.zeros((B,) if wrong else (B, T), int)


@case("R501")
def no_features(wrong: bool) -> Any:
    return sequential(L.LSTM(4), shape=(T, 1)), numbers(B, T) if wrong else numbers(B, T, 1)


@case("R501")
def swapped_axes(wrong: bool) -> Any:
    return sequential(L.LSTM(4)), numbers(B, F, T) if wrong else numbers()


@case("R502")
def nan(wrong: bool) -> Any:
    x = numbers()
    x[1, 2, 0] = np.nan if wrong else 0
    return sequential(L.LSTM(4)), x


@case("R503")
def prices(wrong: bool) -> Any:
    first = [] if wrong else [L.Normalization(mean=[1e3] * F, variance=[1e6] * F)]
    return sequential(*first, L.LSTM(4)), 1000 * (numbers() + 5)


@case("R504")
def words_too_many(wrong: bool) -> Any:
    x = np.random.default_rng(0).integers(1, 9, (B, T))
    x[0, 0] = 9 if wrong else 8
    return sequential(L.Embedding(9, 4), L.LSTM(4), shape=(T,), dtype="int32"), x


@case("R505")
def an_incomplete_batch(wrong: bool) -> Any:
    x = keras.Input(batch_shape=(2, T, F))
    return keras.Model(x, L.LSTM(4, stateful=True)(x)), numbers(3 if wrong else 4, T, F)
