"""The mistakes that beginners make most, in every way of building models: what the errors say."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

import quick_weights
import recurra
from recurra import layers as L
from recurra.layers import provenance

B, T, F, U = 3, 5, 2, 4
X = np.random.default_rng(0).standard_normal((B, T, F)).astype("float32")
Y = np.zeros((B, 1), "float32")


no_random_weights = quick_weights.no_random_weights


@contextlib.contextmanager
def raises(*words: str, error: Any = ValueError) -> Iterator[None]:
    """Expect an error whose message contains all of the words."""
    with pytest.raises(error) as caught:
        yield
    for word in words:
        assert word in str(caught.value)


def series(name: str | None = None, features: int | None = F) -> Any:
    return keras.Input((T, features), name=name)


# --- The time axis got lost ---

KEEP = "which returns the last step only: build that one with return_sequences=True, "


def test_a_stack_names_the_layer_to_change() -> None:
    x = series()
    lower = L.LSTM(U, name="lower")(x)
    sure = ("expected ndim=3, found ndim=2", "(None, 4)", f"It comes from LSTM 'lower', {KEEP}")
    with raises(*sure, "LSTM(4, return_sequences=True)"):
        L.LSTM(U)(lower)
    with raises(*sure):
        L.Bidirectional(L.GRU(U))(L.Dropout(0.1)(L.Dense(U)(lower)))
    both = L.Bidirectional(L.GRU(U), name="both")(x)
    with raises("from Bidirectional 'both'", "Bidirectional(GRU(4, return_sequences=True))"):
        L.RNN(L.LSTMCell(U))(both)
    with raises("from RNN 'cells'", "RNN(..., return_sequences=True)"):
        L.LSTM(U)(L.RNN([L.LSTMCell(U), L.GRUCell(U)], name="cells")(x))


def stack(_: str = "") -> Any:
    return keras.Sequential([L.GRU(U, name="lower"), L.GRU(U, name="upper"), L.Dense(1)])


def test_sequential_models_when_they_are_built_and_in_fit() -> None:
    sure = ("layer 'upper'", f"It comes from GRU 'lower', {KEEP}GRU(4, return_sequences=True)")
    with raises(*sure):
        stack().build((None, T, F))
    with raises(*sure):
        stack()(X)
    model = stack()
    model.compile("sgd", "mse")
    with raises(*sure):
        model.fit(X, Y, verbose=0)


class Stack(keras.Model):
    def __init__(self, *more: Any) -> None:
        super().__init__()
        self.lower, self.upper, self.more = L.LSTM(U, name="lower"), L.LSTM(U), list(more)

    def call(self, inputs: Any) -> Any:
        return self.upper(self.lower(inputs))


def test_subclassed_models_have_their_likely_layer_named() -> None:
    likely = f"It looks like the output of LSTM 'lower', {KEEP}LSTM(4, return_sequences=True)"
    with raises(likely):
        Stack()(X)
    model = Stack()
    model.compile("sgd", "mse")
    with raises(likely):
        model.fit(X, np.zeros((B, U)), verbose=0)
    # Two that may be it: neither is named.
    with raises("Between layers, the one before must keep the time axis") as caught:
        Stack(L.GRU(U))(X)
    del caught


def test_arrays_in_variables() -> None:
    first = L.SimpleRNN(U, name="first")
    with raises("It looks like the output of SimpleRNN 'first'"):
        L.Bidirectional(L.LSTM(U))(first(X))
    with raises("x[:, :, None]"):
        L.LSTM(U)(np.zeros((B, U + 1)))


def test_time_distributed_without_time() -> None:
    sure = ("at least 3 dimensions", "'per_step' applies 'dense' to every step", "(None, 4)")
    with raises(*sure, f"It comes from LSTM 'lower', {KEEP}"):
        L.TimeDistributed(L.Dense(1, name="dense"), name="per_step")(
            L.LSTM(U, name="lower")(series())
        )
    with raises("Without time steps use Dense(...) by itself"):
        L.TimeDistributed(L.Dense(1))(np.zeros((B, F)))
    with raises("an LSTM reads sequences", "use the layer without TimeDistributed"):
        L.TimeDistributed(L.LSTM(U))(series())


def test_words_without_an_embedding() -> None:
    with raises("numbers of words, put Embedding(words, size) in front"):
        L.LSTM(U)(keras.Input((T,), dtype="int32"))


def test_a_free_number_of_features() -> None:
    with raises("Layer 'l'", "(None, None, None)", "keras.Input((None, features))"):
        L.LSTM(U, name="l")(keras.Input((None, None)))


def test_who_made_a_tensor_is_only_told_if_it_is_known() -> None:
    x = series()
    y = L.LSTM(U)(x)
    assert provenance.maker(x) is None
    assert provenance.maker(L.Add()([y, y])) is None
    assert provenance.advice_to_keep_time(L.Reshape((U,))(y), "l") == ""
    assert (
        provenance.advice_to_keep_time(L.Flatten()(L.LSTM(U, return_sequences=True)(x)), "l") == ""
    )


# --- Several results where one is expected ---


def test_whole_results_as_inputs() -> None:
    words = (
        "received 3 input tensors in a LSTMResult: (output, state_h, state_c)",
        "result.output",
    )
    for x in (X, series()):
        result = L.LSTM(U, return_state=True, return_sequences=True)(x)
        for layer in (L.GRU(U), L.Bidirectional(L.GRU(U)), L.TimeDistributed(L.Dense(1))):
            with raises(*words):
                layer(result)
    both = L.Bidirectional(L.GRU(U, return_state=True), merge_mode=None)(X)
    with raises("4 input tensors in a BidirectionalResult", "result.forward_output"):
        L.LSTM(U)(both)


def test_states_in_sequential_models() -> None:
    def model(*following: Any) -> Any:
        first = L.LSTM(U, return_state=True, return_sequences=True, name="first")
        return keras.Sequential([keras.Input((T, F)), first, *following])

    words = ("'first' returns (output, state_h, state_c)", "takes one tensor", "result.output")
    with raises(*words, "'next'", "build 'first' without return_state=True"):
        model(L.Dense(1, name="next"))
    with raises(*words):
        model(L.GRU(U))
    with raises("'both' returns (output, forward_state_h, backward_state_h)"):
        keras.Sequential(
            [L.Bidirectional(L.GRU(U, return_state=True), name="both"), L.Dense(1)]
        ).build((None, T, F))
    # Whoever takes several tensors may have them.
    assert model(L.Lambda(lambda result: result[0]), L.GRU(U)).output_shape == (None, U)
    assert len(model().outputs) == 3


def test_results_are_no_tensors() -> None:
    result = L.LSTM(U, return_state=True)(X)
    with raises(
        "'LSTMResult' object has no attribute 'shape'",
        "all that this LSTM returns, (output, state_h, state_c)",
        "result.output",
        error=AttributeError,
    ):
        _ = result.shape
    with raises("Take one of them: result.state_c", error=AttributeError):
        _ = result.cell_state_c
    assert not hasattr(result, "dtype")
    assert not hasattr(result, "__array__")
    both = L.Bidirectional(L.GRU(U, return_state=True))(X)
    with raises("this Bidirectional(GRU) returns", "backward_state_h", error=AttributeError):
        _ = both.numpy


# --- States for another layer ---


def states_of(layer: Any) -> list[Any]:
    return list(layer(series()))[1:]


def test_states_of_both_directions_for_a_plain_decoder() -> None:
    states = states_of(L.Bidirectional(L.LSTM(U, return_state=True)))
    words = (
        "has 4 arrays; an LSTM needs 2",
        "Bidirectional returns (output, forward_state_h, forward_state_c, backward_state_h",
        "state_c = Concatenate()([forward_state_c, backward_state_c])",
        "build this layer with 8 units",
    )
    with raises(*words):
        L.LSTM(U)(series(), initial_state=states)
    arrays = [np.zeros((B, U), "float32")] * 4
    with raises("If they are a Bidirectional layer's", "with twice as many units"):
        L.LSTM(U)(X, initial_state=arrays)
    joined = [np.zeros((B, 2 * U), "float32")] * 2
    with raises(
        "(3, 8); expected (3, 4)", "both directions' states", "build this one with 8 units"
    ):
        L.LSTM(U)(X, initial_state=joined)
    gru = states_of(L.Bidirectional(L.GRU(U, return_state=True)))
    with raises(
        "has 2 arrays; a GRU needs one", "Concatenate()([forward_state_h, backward_state_h])"
    ):
        L.GRU(U)(series(), initial_state=gru)
    with raises("expected 4 states", "[*states, *states]"):
        L.Bidirectional(L.LSTM(U))(series(), initial_state=states[:2])


def test_states_of_another_kind_of_layer() -> None:
    lstm, gru = L.LSTM(U, return_state=True, name="a"), L.GRU(U, return_state=True, name="b")
    with raises("from LSTM 'a', which has state_h and state_c", "pass state_h alone"):
        L.GRU(U)(series(), initial_state=states_of(lstm))
    with raises("from GRU 'b', which has state_h,", "[state_h, keras.ops.zeros_like(state_h)]"):
        L.LSTM(U)(series(), initial_state=states_of(gru))
    with raises("(output, state_h): pass the states, result[1:]"):
        L.GRU(U)(X, initial_state=gru(X))


def test_a_mask_in_the_place_of_the_states() -> None:
    with raises("It looks like a mask: pass that by name, layer(x, mask=mask)"):
        L.LSTM(U)(X, np.ones((B, T), bool))
    with raises("has shape (3, 5); expected (3, 4)"):
        L.GRU(U)(X, np.ones((B, T), bool))


def test_states_of_stacked_cells() -> None:
    stacked = L.RNN([L.LSTMCell(4), L.GRUCell(3)])
    words = ("state_h of cell 1 has shape", "expected (batch, 3)", "from the lowest cell upwards")
    with raises("has 2 arrays; expected 3: state_h of cell 0 (batch, 4)"):
        stacked(series(), initial_state=[keras.Input((4,)), keras.Input((4,))])
    with raises(*words):
        stacked(series(), initial_state=[keras.Input((4,)) for _ in range(3)])
    with raises(*words):
        stacked(X, initial_state=[[np.zeros((B, 4))] * 2, [np.zeros((B, 4))]])


# --- Cells and wrappers ---


def test_cells_and_layers() -> None:
    with raises("RNN got 4 for its cell", "RNN(LSTMCell(units))"):
        L.RNN(4)
    with raises("an LSTM, which is a layer over whole sequences", "stack layers instead of cells"):
        L.RNN(L.LSTM(U))
    with raises("an LSTMCell; expected a recurrent layer", "Bidirectional(RNN(LSTMCell(...)))"):
        L.Bidirectional(L.LSTMCell(U))


# --- Stateful layers ---


def test_stateful_layers_need_a_batch() -> None:
    with raises("batch size must be static", "batch_shape=(batch", "leave stateful=True out"):
        L.LSTM(U, stateful=True)(series())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({}, True), ({"shuffle": False}, False), ({"batch_size": 6}, False)],
    ids=["shuffled", "in order", "one batch"],
)
def test_a_fit_that_shuffles_stateful_layers(
    arguments: dict[str, Any], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    batch = arguments.get("batch_size", 3)
    x = keras.Input(batch_shape=(batch, T, F))
    model = keras.Model(x, L.Dense(1)(L.LSTM(U, stateful=True, name="memory")(x)))
    model.compile("sgd", "mse")
    with caplog.at_level(logging.WARNING, "recurra"):
        for _ in range(2):
            model.fit(
                np.repeat(X, 2, 0), np.repeat(Y, 2, 0), **{"batch_size": 3, **arguments}, verbose=0
            )
    messages = [r.getMessage() for r in caplog.records if "stateful" in r.getMessage()]
    assert len(messages) == told
    for message in messages:
        assert "'memory' is stateful" in message
        assert "fit(..., shuffle=False)" in message


def test_generators_are_never_shuffled(caplog: pytest.LogCaptureFixture) -> None:
    x = keras.Input(batch_shape=(B, T, F))
    model = keras.Model(x, L.Dense(1)(L.LSTM(U, stateful=True)(x)))
    model.compile("sgd", "mse")
    with caplog.at_level(logging.WARNING, "recurra"):
        model.fit(((X, Y) for _ in range(2)), steps_per_epoch=2, verbose=0)
    assert not [r for r in caplog.records if "stateful" in r.getMessage()]


# --- Keras programs on Recurra's layers ---


def beneath_enable(make: Callable[[], Any]) -> Any:
    recurra.enable()
    try:
        return make()
    finally:
        recurra.disable()


def test_programs_that_name_keras() -> None:
    def stacked() -> Any:
        return keras.Sequential(
            [keras.Input((T, F)), keras.layers.LSTM(U, name="lower"), keras.layers.LSTM(U)]
        )

    with raises(f"It comes from LSTM 'lower', {KEEP}LSTM(4, return_sequences=True)"):
        beneath_enable(stacked)

    def decoder() -> Any:
        encoder = keras.layers.Bidirectional(keras.layers.LSTM(U, return_state=True))
        return keras.layers.LSTM(U)(series(), initial_state=states_of(encoder))

    with raises("Join the directions", "build this layer with 8 units"):
        beneath_enable(decoder)

    def returns_states() -> Any:
        first = keras.layers.GRU(U, return_state=True, name="first")
        return keras.Sequential([keras.Input((T, F)), first, keras.layers.Dense(1)])

    with raises("'first' returns (output, state_h)"):
        beneath_enable(returns_states)
