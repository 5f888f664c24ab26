"""RNN over Keras's cells, alone and stacked, and over cells of the user's, on any host.

Values and gradients (one step of plain gradient descent) beside stock Keras's, and by definition
where stock is wrong.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

import keras
import numpy as np
import pytest

from beside_keras import ANY, HOST, MASK, STOCK, B, F, Leaky, T, X, array, arrays, normal, same
from recurra import layers
from recurra.layers import cells, usage

Y = normal(B, 1, seed=9)

CELLS = {
    "lstm": lambda: STOCK.LSTMCell(5),
    "gru": lambda: STOCK.GRUCell(5),
    "gru, reset before": lambda: STOCK.GRUCell(3, reset_after=False),
    "simple": lambda: STOCK.SimpleRNNCell(4, use_bias=False),
    "relu": lambda: STOCK.LSTMCell(3, activation="relu", recurrent_activation="hard_sigmoid"),
    "stack": lambda: [STOCK.LSTMCell(5), STOCK.GRUCell(3)],
    "stack of three": lambda: [STOCK.GRUCell(2), STOCK.SimpleRNNCell(4), STOCK.LSTMCell(3)],
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"return_sequences": True},
    {"return_state": True, "go_backwards": True},
    {"return_sequences": True, "return_state": True, "unroll": True},
    {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True},
]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engine that each call of a layer chose."""
    chosen: list[str] = []
    monkeypatch.setattr(usage, "record", lambda layer, choice: chosen.append(choice.engine))
    return chosen


def trained(module: Any, make: Any, options: dict[str, Any], mask: Any) -> list[np.ndarray]:
    """Results of a layer, and the weights of a model around it after one step of descent."""
    keras.utils.set_random_seed(3)
    layer = module.RNN(make(), **options)
    x, m = keras.Input(batch_shape=(B, T, F)), keras.Input(batch_shape=(B, T), dtype="bool")
    result = layer(x, mask=m if mask is not None else None)
    results = keras.tree.flatten(result)
    flat = [keras.ops.reshape(each, (B, -1)) for each in results]
    together = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    model = keras.Model([x, m], [keras.layers.Dense(1)(together), *results])
    keep = np.ones((B, T), bool) if mask is None else mask
    found = arrays(model([X, keep]))
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(size=w.shape, scale=0.5) for w in model.get_weights()])
    found += arrays(model([X, keep]))
    trainer = keras.Model([x, m], model.outputs[0])
    trainer.compile(keras.optimizers.SGD(0.1), "mse")
    trainer.train_on_batch([X, keep], Y)
    return found + [array(weight) for weight in trainer.weights]


# Every cell, every option and both masks, in pairs: the matrix of the engine's own tests is whole.
COMBINATIONS = [
    (name, OPTIONS[(i + shift) % len(OPTIONS)], (i + shift) % 2 == 0)
    for i, name in enumerate(CELLS)
    for shift in (0, 3)
]


@pytest.mark.parametrize(("name", "options", "masked"), COMBINATIONS)
def test_known_cells_give_stocks_numbers_on_the_engine(
    name: str, options: dict[str, Any], masked: bool, engines: list[str]
) -> None:
    if masked and options.get("unroll") and HOST == "torch":
        pytest.skip("stock fails here: see test_right_where_keras_is_wrong.py")
    mask = None
    if masked:
        mask = MASK.copy()
        mask[:, 0] = mask[:, -1] = True  # before the first kept step the hosts of stock differ
    ours = trained(layers, CELLS[name], options, mask)
    assert set(engines) == {"cpu"}
    stock = trained(STOCK, CELLS[name], options, mask)
    assert len(ours) == len(stock)
    for a, b in zip(ours, stock, strict=True):
        same(a, b, atol=2e-5)


@pytest.mark.parametrize("name", ["lstm", "stack", "stack of three"])
def test_initial_states_nested_and_flat(name: str, engines: list[str]) -> None:
    layer = layers.RNN(CELLS[name](), return_state=True)
    stock = STOCK.RNN(CELLS[name](), return_state=True)
    stock(X)
    layer.build(X.shape)
    layer.set_weights(stock.get_weights())
    zeros = layer.get_initial_state(batch_size=B)
    flat = [normal(*each.shape, seed=i) for i, each in enumerate(keras.tree.flatten(zeros))]
    nested = keras.tree.pack_sequence_as(zeros, flat)
    expected = arrays(stock(X, initial_state=keras.tree.map_structure(keras.ops.array, nested)))
    for given in (nested, flat):
        for a, b in zip(arrays(layer(X, initial_state=given)), expected, strict=True):
            same(a, b)
    with pytest.raises(ANY, match=r"expected|needs"):
        layer(X, initial_state=[*flat, flat[0]])


def test_one_cell_in_a_list_returns_its_states_as_a_list() -> None:
    output, states = layers.RNN([STOCK.LSTMCell(5)], return_state=True)(X)
    assert [tuple(state.shape) for state in (output, *states)] == [(B, 5)] * 3
    same(output, states[0])


def test_stacked_states_follow_the_symbolic_ones() -> None:
    layer = layers.RNN([STOCK.GRUCell(3), STOCK.LSTMCell(5)], return_state=True)
    symbolic = layer(keras.Input((None, F)))
    found = layer(X)
    keras.tree.assert_same_structure(symbolic, found)
    for a, b in zip(keras.tree.flatten(symbolic), keras.tree.flatten(found), strict=True):
        assert tuple(a.shape)[1:] == tuple(b.shape)[1:]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_cells_of_the_users_run_in_keras_scan(
    wide: bool, options: dict[str, Any], masked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Against a loop in NumPy: h' = h / 2 + x W, output 5 - h' (and h' beside it)."""
    layer = layers.RNN(Leaky(3, wide=wide), **options)
    layer.build(X.shape)
    kernel = array(layer.cell.kernel)
    order = range(T)[::-1] if options.get("go_backwards") else range(T)
    mask = MASK if masked else np.ones((B, T), bool)
    h = np.zeros((B, 3))
    output = np.zeros((B, 6 if wide else 3))
    rows = []
    for t in order:
        keep = mask[:, t, None]
        new = 0.5 * h + X[:, t] @ kernel
        h = np.where(keep, new, h)
        shown = np.concatenate([5 - new, new], axis=-1) if wide else 5 - new
        output = np.where(keep, shown, output)
        zero = options.get("zero_output_for_mask", False)
        rows.append(np.where(keep, output, 0) if zero else output)
    expected = np.stack(rows, 1) if options.get("return_sequences") else output
    with caplog.at_level(logging.WARNING, "recurra"):
        for _ in range(2):
            result = layer(X, mask=MASK if masked else None)
    assert caplog.text.count("runs on Keras's own scan") == 1
    assert "Leaky" in caplog.text
    got = result if options.get("return_state") else (result, h)
    same(got[0], expected)
    same(got[1], h)


def test_no_time_steps_give_the_initial_state() -> None:
    state = [normal(B, 5, seed=1), normal(B, 5, seed=2)]
    for engine, return_sequences in itertools.product(("auto", "keras"), (False, True)):
        layer = layers.RNN(
            STOCK.LSTMCell(5), engine=engine, return_state=True, return_sequences=return_sequences
        )
        output, h, c = layer(X[:, :0], initial_state=state)
        assert tuple(output.shape) == ((B, 0, 5) if return_sequences else (B, 5))
        same(h, state[0])
        same(c, state[1])
        if not return_sequences:
            same(output, state[0])
    output = layers.RNN(Leaky(3))(X[:, :0])
    same(output, np.zeros((B, 3)))


def test_stateful_stacks_continue(engines: list[str]) -> None:
    cell = CELLS["stack of three"]
    layer = layers.RNN(cell(), return_sequences=True, stateful=True)
    layer.build((B, T, F))
    whole = layers.RNN(cell(), return_sequences=True)
    whole.build((B, T, F))
    whole.set_weights(layer.get_weights())
    pieces = [array(layer(X[:, :2])), array(layer(X[:, 2:]))]
    np.testing.assert_array_equal(np.concatenate(pieces, 1), array(whole(X)))
    layer.reset_state()
    np.testing.assert_array_equal(array(layer(X[:, :2])), pieces[0])


@pytest.mark.parametrize("dropouts", [(0.3, 0.0), (0.0, 0.3), (0.3, 0.4)])
def test_a_stack_drops_what_stock_drops(dropouts: tuple[float, float]) -> None:
    rates = dict(zip(("dropout", "recurrent_dropout"), dropouts, strict=True))

    def make() -> list[Any]:
        return [STOCK.GRUCell(4, seed=1, **rates), STOCK.LSTMCell(3, seed=2, **rates)]

    ours, stock = (
        layers.RNN(make(), return_sequences=True),
        STOCK.RNN(make(), return_sequences=True),
    )
    ours.build(X.shape)
    stock.build(X.shape)
    stock.set_weights(ours.get_weights())
    for _ in range(2):
        same(ours(X, training=True), stock(X, training=True))


def test_what_the_engine_does_not_know_is_named() -> None:
    class MyLSTMCell(STOCK.LSTMCell):
        pass

    assert cells.spec_of(MyLSTMCell(3)) is None
    with pytest.raises(ValueError, match="its cell is a MyLSTMCell.*choose one of LSTMCell"):
        layers.RNN([STOCK.GRUCell(2), MyLSTMCell(3)], engine="cpu")
    with pytest.raises(ValueError, match="return_trace=True was passed to RNN"):
        layers.RNN([STOCK.GRUCell(2), STOCK.GRUCell(3)], return_trace=True)


def test_a_cell_with_a_wrong_number_of_states_is_named() -> None:
    class Forgetful(keras.layers.Layer):
        state_size = (3, 3)

        def call(self, x: Any, states: Any) -> Any:
            return states[0], [states[0]]

    with pytest.raises(ANY, match="Forgetful, returned 1 states; its initial state has 2"):
        layers.RNN(Forgetful())(X)


def test_the_trace_of_a_single_cell(engines: list[str]) -> None:
    result = layers.RNN(STOCK.GRUCell(3), return_trace=True)(X)
    assert result._fields == ("output", "state_h", "trace")
    same(result.trace["hidden_state"][:, -1], result.output)
    assert engines == ["cpu"]


def test_a_layer_that_starts_elsewhere_than_from_zeros() -> None:
    class FromOnes(layers.GRU):
        def get_initial_state(self, batch_size: int) -> list[Any]:
            return [keras.ops.ones((batch_size, self.units))]

    layer = FromOnes(3)
    same(layer(X), layer(X, initial_state=[np.ones((B, 3), "float32")]))


class Projected(keras.layers.Layer):
    """A user's cell that does not tell the width of its output, which is not its state's."""

    state_size = 4

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")
        self.projection = self.add_weight(shape=(4, 7), name="projection")

    def call(self, x: Any, states: Any) -> Any:
        h = keras.ops.tanh(keras.ops.matmul(x, self.kernel) + states[0])
        return keras.ops.matmul(h, self.projection), [h]


def test_cells_that_do_not_tell_their_width_take_masks() -> None:
    layer = layers.RNN(Projected(), return_sequences=True)
    whole = array(layer(X))
    mask = np.arange(T) < np.array([[6], [4], [2], [1]])
    masked = array(layer(X, mask=mask))
    np.testing.assert_allclose(masked[mask], whole[mask], rtol=1e-6)
    np.testing.assert_array_equal(masked[3, 1:], np.repeat(masked[3, :1], T - 1, axis=0))
    assert tuple(layers.RNN(Projected())(X[:, :0]).shape) == (B, 7)


def test_no_time_steps_have_an_empty_trace() -> None:
    for engine in ("auto", "keras"):
        result = layers.LSTM(3, return_trace=True, engine=engine)(X[:, :0])
        assert {tuple(gate.shape) for gate in result.trace.values()} == {(B, 0, 3)}


def test_stacks_explain_what_does_not_fit() -> None:
    stack = layers.RNN([STOCK.LSTMCell(3), STOCK.GRUCell(2)])
    stack(X)
    with pytest.raises(ValueError, match=f"built for {F} features per step"):
        stack(np.zeros((B, T, F + 1), "float32"))
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        stack(X[:, 0])
    states = [np.zeros((B, 3), "float32")] * 3
    with pytest.raises(ANY, match=rf"state_h of cell 1 has shape \({B}, 3\)"):
        stack(X, initial_state=states)
    with pytest.raises(ValueError, match="empty list of cells"):
        layers.RNN([])
    with pytest.raises(ValueError, match="a GRU, which is a layer over whole"):
        layers.RNN(layers.GRU(3))
    with pytest.raises(ValueError, match="batch_shape="):
        keras.Sequential([keras.Input((T, F)), layers.RNN(STOCK.GRUCell(2), stateful=True)])
