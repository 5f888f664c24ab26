"""Traced gradients on each host, against the framework's own autodiff of an open loop.

The loop is written here, in `keras.ops`: every layer of a model runs its cells step by step, and
adds a change to every state at every step. The loss's derivative by these changes, at zero, is what
`recurra.trace(..., loss=...)` must give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops, tree
from keras.src import backend

import recurra
from insight_zoo import FEATURES, LIBRARIES, MODELS, STEPS, made, numbers, padded
from recurra import hosts
from recurra.engine import Config
from recurra.insight.tracing.backward import scan_gradients
from recurra.insight.tracing.keras_layers import leaves_of, roots_of
from recurra.layers.cells import cells_of

HOST = hosts.get(keras.backend.backend())
CLOSE = {"atol": 3e-5, "rtol": 2e-4}


@pytest.fixture(autouse=True, scope="module")
def _no_random_weights() -> Iterator[None]:
    """Every weight is set by the zoo, and JAX compiles each initializer for every shape."""

    def zeros(_: Any, shape: Any, dtype: Any = None) -> Any:
        return np.zeros(shape, dtype or "float32")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("GlorotUniform", "Orthogonal", "RandomUniform"):
            patch.setattr(getattr(keras.initializers, name), "__call__", zeros)
        yield


class Changes:
    """What is added to the states: zeros at first; found by going through the model once.

    Args:
        values: None the first time; then tensors in the order in which the loops ask for them.
    """

    def __init__(self, values: list[Any] | None = None) -> None:
        self.values = values
        self.names: list[tuple[str, str]] = []
        self.shapes: list[tuple[int, ...]] = []

    def of(self, path: str, name: str, like: Any, steps: int) -> Any:
        """(batch, time_steps, units) for one state of one layer, in the order of processing."""
        self.names.append((path, name))
        self.shapes.append((like.shape[0], steps, *like.shape[1:]))
        if self.values is None:
            return ops.zeros(self.shapes[-1])
        return self.values[len(self.names) - 1]


def lstm_step(cell: Any, x: Any, h: Any, c: Any, change: Any, keep: Any) -> tuple[Any, Any]:
    """One step, with the change added to the cell state before anything reads it."""
    if hasattr(cell, "input_conv"):  # of ConvLSTM
        pre = cell.input_conv(x, cell.kernel, padding=cell.padding)
        pre = pre + cell.recurrent_conv(h, cell.recurrent_kernel)
    else:
        pre = ops.matmul(x, cell.kernel) + ops.matmul(h, cell.recurrent_kernel)
    if cell.use_bias:
        pre = pre + cell.bias
    i, f, g, o = ops.split(pre, 4, axis=-1)
    i, f, o = (cell.recurrent_activation(each) for each in (i, f, o))
    new = f * c + i * cell.activation(g)
    c = (new if keep is None else ops.where(keep, new, c)) + change
    return o * cell.activation(c), c


def run_cell(path: str, cell: Any, x: Any, states: list[Any], mask: Any, changes: Changes) -> Any:
    """One cell over a sequence (batch, time_steps, features) in the order of processing."""
    steps = x.shape[1]
    h_changes = changes.of(path, "dhidden_state", states[0], steps)
    is_lstm = len(states) == 2
    c_changes = changes.of(path, "dcell_state", states[1], steps) if is_lstm else None
    output, shown = ops.zeros_like(states[0]), []
    for t in range(steps):
        keep = None if mask is None else mask[:, t, None]
        if is_lstm:
            h, c = lstm_step(cell, x[:, t], *states, c_changes[:, t], keep)
        else:
            h, _ = cell(x[:, t], [states[0]])
        kept = h if keep is None else ops.where(keep, h, states[0])
        output = (h if keep is None else ops.where(keep, h, output)) + h_changes[:, t]
        states = [kept + h_changes[:, t], *([c] if is_lstm else [])]
        shown.append(output)
    return output, shown, states


def open_call(path: str, layer: Any, changes: Changes, counts: dict[str, int]) -> Any:
    """What a layer's `call` is replaced by."""

    def call(x: Any, initial_state: Any = None, mask: Any = None, **_: Any) -> Any:
        number = counts[path] = counts.get(path, 0) + 1
        own = path if number == 1 else f"{path}:{number}"
        cells = cells_of(layer)
        start = tree.flatten(initial_state) if initial_state is not None else []
        if not start and hasattr(cells[0], "input_conv"):
            start = layer.get_initial_state(x.shape[0])
        elif not start:
            sizes = [size for cell in cells for size in tree.flatten(cell.state_size)]
            start = [ops.zeros((x.shape[0], size)) for size in sizes]
        if layer.go_backwards:
            x, mask = ops.flip(x, 1), None if mask is None else ops.flip(mask, 1)
        finals: list[Any] = []
        for index, cell in enumerate(cells):
            count = len(start) if len(cells) == 1 else len(tree.flatten(cell.state_size))
            inner = own if len(cells) == 1 else f"{own}/cell_{index}"
            given, start = start[:count], start[count:]
            output, shown, states = run_cell(inner, cell, x, given, mask, changes)
            x = ops.stack(shown, axis=1)
            finals.append(states)
        if layer.zero_output_for_mask and mask is not None:
            x = ops.where(mask[..., None], x, 0.0)
        result = x if layer.return_sequences else output
        if not layer.return_state:
            return result
        return (result, *(finals[0] if len(cells) == 1 else finals))

    return call


def autodiff(model: Any, x: Any, loss: Callable[[Any], Any]) -> tuple[float, dict[str, Any]]:
    """The loss and its gradients by every state at every step, {(path, name): array}."""
    leaves = {
        path.partition("/cell_")[0]: leaf
        for root_path, root in roots_of(model)
        for path, leaf in leaves_of(root_path, root)
    }

    def run(changes: Changes) -> Any:
        counts: dict[str, int] = {}
        with pytest.MonkeyPatch.context() as patch, backend.StatelessScope():
            for path, leaf in leaves.items():
                # Straight into __dict__: torch's and TensorFlow's __setattr__ would look at it.
                patch.setitem(vars(leaf), "call", open_call(path, leaf, changes, counts))
            return loss(model(x, training=False))

    first = Changes()
    run(first)
    zeros = [ops.zeros(shape) for shape in first.shapes]
    pull = HOST.pullback(lambda values: [run(Changes(values))])
    (value,), found = pull(zeros, [ops.ones(())])
    arrays = [np.asarray(backend.convert_to_numpy(each)) for each in found]
    return float(value), dict(zip(first.names, arrays, strict=True))


def loss_of(outputs: Any) -> Any:
    """A loss that every number of every output takes part in, each in its own way."""
    total = 0.0
    for output in tree.flatten(outputs):
        weights = np.cos(np.arange(np.prod(output.shape))).reshape(output.shape).astype("float32")
        total = total + ops.sum(ops.sin(output) * ops.convert_to_tensor(weights))
    return total


def compare(model: Any, x: Any, expected: tuple[float, dict[Any, Any]], **options: Any) -> None:
    """A trace's gradients with those of `autodiff`."""
    for layer in model._flatten_layers():  # models are shared with tests that leave states behind
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    trace = recurra.trace(model, x, **({"loss": loss_of} | options))
    value, gradients = expected
    assert trace.loss == pytest.approx(value, rel=1e-4, abs=1e-5)
    found = [
        (path, name) for path, layer in trace.items() for name in layer if name.startswith("d")
    ]
    assert sorted(found) == sorted(gradients)
    for (path, name), array in gradients.items():
        layer = trace[path]
        array = array[:, ::-1] if layer.go_backwards else array
        assert np.abs(array).max() > 1e-4, f"{path}: nothing to compare"
        np.testing.assert_allclose(layer.arrays[name], array, **CLOSE, err_msg=f"{path} {name}")


# JAX compiles everything that is new to it, which takes seconds per model.
IS_SLOW = keras.backend.backend() == "jax"
QUICK = ("cell_stack", "custom_cell", "masked_classifier", "translator")

# TimeDistributed calls the layer inside in ways of its own, which an open loop cannot stand in for.
OPEN = QUICK if IS_SLOW else tuple(name for name in MODELS if name != "documents")

# Keras runs the second call of the nested model before the first.
SWAPPED = {
    "nested_and_shared": {"encoder/lstm": "encoder/lstm:2", "encoder/lstm:2": "encoder/lstm"}
}


@pytest.mark.parametrize("name", OPEN)
def test_gradients_are_those_of_autodiff(name: str) -> None:
    case = made(name)
    x = tree.map_structure(ops.convert_to_tensor, case.x)
    value, found = autodiff(case.model, x, loss_of)
    called = SWAPPED.get(name, {})
    expected = value, {(called.get(path, path), kind): a for (path, kind), a in found.items()}
    compare(case.model, case.x, expected)
    if not IS_SLOW or name == "masked_classifier":
        stock = made(name, "keras")
        compare(stock.model, stock.x, expected)


def test_activations_that_the_engine_lacks() -> None:
    x = padded(4, FEATURES)
    layer = LIBRARIES["recurra"].LSTM(3, activation="softmax", recurrent_activation="log_sigmoid")
    inputs = keras.Input((4, FEATURES))
    model = keras.Model(inputs, layer(inputs, mask=ops.any(ops.not_equal(inputs, 0), -1)))
    set_weights(layer)
    compare(model, x, autodiff(model, ops.convert_to_tensor(x), loss_of))


@pytest.mark.parametrize("library", ["recurra"] if IS_SLOW else ["recurra", "keras"])
def test_convolutions(library: str) -> None:
    L = LIBRARIES[library]
    lower = L.ConvLSTM1D(2, 3, padding="same", return_sequences=True, name="lower")
    upper = L.ConvLSTM1D(3, 2, return_state=True, go_backwards=True, name="upper")
    inputs = keras.Input((3, 5, 1))
    model = keras.Model(inputs, list(upper(lower(inputs))))
    for layer in (lower, upper):
        set_weights(layer)
    x = numbers(3, 5, 1)
    compare(model, x, autodiff(model, ops.convert_to_tensor(x), loss_of))


def test_losses_of_gates() -> None:
    """With return_trace, gates are outputs too; a layer's own trace is in the order it reads."""
    L = LIBRARIES["recurra"]
    layer = L.GRU(3, return_trace=True, go_backwards=True)
    inputs = keras.Input((4, FEATURES))
    model = keras.Model(inputs, layer(inputs).trace["update_gate"])
    set_weights(layer)
    x = numbers(4, FEATURES)
    (found,) = recurra.trace(model, x, loss=loss_of).values()
    gates = found.arrays["update_gate"][:, ::-1]
    weights = np.cos(np.arange(gates.size)).reshape(gates.shape)
    kernel, recurrent_kernel, bias = (np.float64(each) for each in layer.get_weights())
    expected = scan_gradients(
        Config("gru"),
        kernel,
        recurrent_kernel,
        bias,
        x=np.float64(x[:, ::-1]),
        cotangents={"update_gate": np.cos(gates) * weights},
    )
    changes = expected.states["hidden_state"][:, ::-1]
    assert np.abs(changes).max() > 0.01
    np.testing.assert_allclose(found.arrays["dhidden_state"], changes, **CLOSE)


def set_weights(layer: Any) -> None:
    random = np.random.default_rng(4)
    for variable in layer.trainable_variables:
        variable.assign(random.normal(scale=0.5, size=variable.shape).astype("float32"))


@pytest.mark.parametrize("inside", ["layer", "model"])
def test_time_distributed_is_the_layer_on_every_item(inside: str) -> None:
    L = LIBRARIES["recurra"]
    x = numbers(2, STEPS, FEATURES)
    inner = L.LSTM(3)
    if inside == "model":
        given = keras.Input((STEPS, FEATURES))
        inner = keras.Model(given, L.LSTM(3, name="lstm")(given * 2.0))
    whole = L.TimeDistributed(inner)
    whole.build(x.shape)
    set_weights(inner)
    items = x.reshape(-1, STEPS, FEATURES)
    (found,) = recurra.trace(whole, x, loss=loss_of).values()
    (expected,) = recurra.trace(inner, items, loss=loss_of).values()
    for name in ("dhidden_state", "dcell_state"):
        assert found.arrays[name].shape == (8, STEPS, 3)
        np.testing.assert_allclose(found.arrays[name], expected.arrays[name], **CLOSE)


def test_losses_as_compile_takes_them() -> None:
    case = made("masked_classifier")
    y = np.array([0, 2, 1, 0])

    def by_hand(outputs: Any) -> Any:
        picked = ops.take_along_axis(outputs, ops.convert_to_tensor(y[:, None]), axis=-1)
        return -ops.mean(ops.log(picked))

    before = [np.asarray(backend.convert_to_numpy(v.value)) for v in case.model.weights]
    expected = recurra.trace(case.model, case.x, loss=by_hand)
    for loss in ("sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()):
        found = recurra.trace(case.model, case.x, loss=loss, y=y)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        for path in found:
            name = "dhidden_state"
            arrays = found[path].arrays[name], expected[path].arrays[name]
            np.testing.assert_allclose(*arrays, atol=1e-6, rtol=1e-4)
    compiled = keras.models.clone_model(case.model)
    compiled.set_weights(case.model.get_weights())
    compiled.compile(loss="sparse_categorical_crossentropy")
    assert recurra.trace(compiled, case.x, y=y).loss == pytest.approx(expected.loss, rel=1e-5)
    for weight, value in zip(case.model.weights, before, strict=True):
        np.testing.assert_array_equal(backend.convert_to_numpy(weight.value), value)


def test_losses_of_several_outputs_by_name() -> None:
    case = made("many_inputs")
    y = {"level": np.ones((4, 1)), "kind": np.array([0, 1, 2, 1])}
    both = {"level": "mse", "kind": "sparse_categorical_crossentropy"}
    trace = recurra.trace(case.model, case.x, loss=both, y=y)
    level = np.mean((trace.outputs["level"] - 1) ** 2)
    kind = -np.mean(np.log(trace.outputs["kind"][np.arange(4), y["kind"]]))
    assert trace.loss == pytest.approx(level + kind, rel=1e-5)
    assert np.abs(trace["reader"].arrays["dhidden_state"]).min() > 0


def test_stateful_models_keep_their_states() -> None:
    case = made("stateful")
    states = [v for layer in case.model.layers for v in getattr(layer, "states", None) or []]
    for state in states:
        state.assign(np.full(state.shape, 0.25, "float32"))
    loss = float(loss_of(ops.convert_to_tensor(recurra.trace(case.model, case.x).outputs["out"])))
    assert recurra.trace(case.model, case.x, loss=loss_of).loss == pytest.approx(loss, rel=1e-5)
    for state in states:
        assert np.all(np.asarray(backend.convert_to_numpy(state.value)) == 0.25)
        state.assign(np.zeros(state.shape, "float32"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": np.zeros(4)}, "was not compiled with one"),
        ({"loss": "mse"}, "was given without y"),
        ({"loss": keras.losses.MeanSquaredError()}, "was given without y"),
        (
            {"loss": "mse", "y": np.zeros((1, 3))},
            r"shape \(1, 3\); expected a target for each of the 4",
        ),
        ({"loss": lambda outputs: 1.5}, "loss gave a float; expected a tensor"),
        ({"loss": np.zeros((4, 3)), "y": "mse"}, "y is <U3 .str.; expected numbers, the targets"),
    ],
)
def test_a_loss_needs_what_it_compares(given: dict[str, Any], message: str) -> None:
    case = made("masked_classifier")
    with pytest.raises(ValueError, match=message):
        recurra.trace(case.model, case.x, **given)
