"""`checkpoint_every` on whichever host Keras runs on: the same numbers, and only states kept."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from beside_keras import HOST, array
from recurra import layers
from recurra.layers import usage

# Many rows, so that the backward pass takes few steps at once and there are several segments.
BATCH, TIME_STEPS, FEATURES, UNITS = 70, 40, 5, 9

MODELS: dict[str, Callable[..., Any]] = {
    "lstm": lambda **k: layers.LSTM(UNITS, return_sequences=True, **k),
    "gru": lambda **k: layers.GRU(UNITS, go_backwards=True, recurrent_dropout=0.2, **k),
    "gru-before": lambda **k: layers.GRU(UNITS, reset_after=False, dropout=0.2, **k),
    "simple-rnn": lambda **k: layers.SimpleRNN(UNITS, zero_output_for_mask=True, **k),
    "cell": lambda **k: layers.RNN(layers.LSTMCell(UNITS), return_sequences=True, **k),
    "stack": lambda **k: layers.RNN([layers.GRUCell(UNITS), layers.LSTMCell(4)], **k),
    "both-ways": lambda **k: layers.Bidirectional(layers.GRU(UNITS, return_sequences=True, **k)),
    "items": lambda **k: layers.TimeDistributed(layers.LSTM(UNITS, **k)),
}


def data(name: str) -> Any:
    """Sequences padded with zeros; for "items" a batch of short ones."""
    rng = np.random.default_rng(0)
    shape = (BATCH, TIME_STEPS, FEATURES)
    x = rng.normal(size=shape).astype("float32")
    x[np.arange(TIME_STEPS) >= rng.integers(0, TIME_STEPS, size=(BATCH, 1))] = 0
    return x.reshape(BATCH // 10, 10, TIME_STEPS, FEATURES) if name == "items" else x


@functools.cache
def trained(name: str, **options: Any) -> list[np.ndarray]:
    """A model's weights after two steps of gradient descent."""
    keras.utils.set_random_seed(0)
    x = data(name)
    masking = [] if name == "items" else [keras.layers.Masking()]
    model = keras.Sequential([keras.Input(x.shape[1:]), *masking, MODELS[name](**options)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=HOST == "jax")
    y = np.full((x.shape[0], *model.output_shape[1:]), 0.3, "float32")
    for _ in range(2):
        model.train_on_batch(x, y)
    return [array(weight) for weight in model.trainable_variables]


@pytest.mark.parametrize("every", [3, "sqrt"])
@pytest.mark.parametrize("name", MODELS)
def test_training_changes_no_bit(
    name: str, every: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[str] = []
    monkeypatch.setattr(usage, "record", lambda layer, choice: engines.append(choice.engine))
    for got, expected in zip(trained(name, checkpoint_every=every), trained(name), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert set(engines) == {"cpu"}


def test_a_trace_holds_every_step_all_the_same() -> None:
    x = data("lstm")
    layer = layers.LSTM(UNITS, return_trace=True, checkpoint_every=3)
    result = layer(x)
    plain = layers.LSTM(UNITS, return_trace=True)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    for name, value in plain(x).trace.items():
        np.testing.assert_array_equal(array(result.trace[name]), array(value))


# --- What is kept from the forward to the backward pass ---


def layer_of(every: int | str | None) -> Any:
    layer = layers.LSTM(UNITS, return_sequences=True, checkpoint_every=every)
    layer.build((BATCH, TIME_STEPS, FEATURES))
    return layer


def kept_by(every: int | str | None) -> list[tuple[int, ...]]:
    """Shapes of the arrays that one call of a layer keeps for its gradient."""
    layer, x = layer_of(every), data("lstm")
    if HOST == "jax":
        import jax

        weights = [v.value for v in layer.trainable_variables]
        seeds = [v.value for v in layer.non_trainable_variables]

        def pullback(weights: Any, x: Any) -> Any:
            def call(weights: Any, x: Any) -> Any:
                return layer.stateless_call(weights, seeds, x)[0]

            return jax.vjp(call, weights, x)[1]

        return [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(pullback, weights, x))]
    if HOST == "torch":
        import torch

        kept: list[tuple[int, ...]] = []

        def keep(tensor: Any) -> Any:
            kept.append(tuple(tensor.shape))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(torch.from_numpy(x).requires_grad_())
        return kept
    import tensorflow as tf

    @tf.function
    def gradient(x: Any) -> Any:
        with tf.GradientTape() as tape:
            y = layer(x)
        return tape.gradient(y, [v.value for v in layer.trainable_variables])

    graph = gradient.get_concrete_function(tf.constant(x)).graph
    (backward,) = [op for op in graph.get_operations() if op.type == "RecurraBackward"]
    return [tuple(tensor.shape) for tensor in backward.inputs]


def test_only_checkpoints_are_kept() -> None:
    if HOST == "tensorflow":
        from recurra.hosts import tensorflow_op

        if tensorflow_op.load()[0] is None:
            pytest.skip("looks at the compiled operation")
    x_size = BATCH * TIME_STEPS * FEATURES
    each = BATCH * UNITS  # of a state
    for every, count in ((8, 5), ("sqrt", 6)):
        sizes = sorted(math.prod(shape) for shape in kept_by(every))
        # x, and of TensorFlow's operation the output's gradient, which it takes besides.
        besides = [BATCH * TIME_STEPS * UNITS] if HOST == "tensorflow" else []
        others = [size for size in sizes if size > 1000]
        states = {
            "jax": [count * each] * 2,
            "torch": [2 * count * each],
            "tensorflow": [4 * 2 * -(-count * each // 16) * 16],  # bytes, aligned
        }[HOST]
        assert others == sorted([x_size, *states, *besides])
    assert sum(math.prod(shape) for shape in kept_by(None)) > x_size + 6 * TIME_STEPS * each


@pytest.mark.skipif(HOST != "tensorflow", reason="time steps are unknown in its graphs alone")
@pytest.mark.parametrize("every", [3, "sqrt"])
def test_time_steps_may_be_unknown(every: int | str) -> None:
    import tensorflow as tf

    layer, plain = layer_of(every), layer_of(None)
    plain.set_weights(layer.get_weights())
    x = tf.constant(data("lstm"))

    def gradient(layer: Any, x: Any) -> Any:
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(y * tf.cos(y))
        return tape.gradient(loss, [v.value for v in layer.trainable_variables])

    unknown = tf.function(
        lambda x: gradient(layer, x), input_signature=[tf.TensorSpec((None, None, FEATURES))]
    )
    for time_steps in (40, 33, 1, 0):
        part = x[:, :time_steps]
        for got, expected in zip(unknown(part), gradient(plain, part), strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(HOST != "jax", reason="transformations of JAX")
@pytest.mark.parametrize("every", [3, "sqrt"])
def test_transformations_of_jax(every: int | str) -> None:
    import jax
    import jax.numpy as jnp

    layer, plain = layer_of(every), layer_of(None)
    weights = [v.value for v in plain.trainable_variables]
    seeds = [v.value for v in plain.non_trainable_variables]
    x = data("lstm")
    twice = np.stack([x, x[::-1]])

    def gradient(layer: Any, transform: Callable[..., Any], x: Any) -> Any:
        def loss(weights: Any, x: Any) -> Any:
            y = layer.stateless_call(weights, seeds, x)[0]
            return jnp.sum(y * jnp.cos(y))

        return transform(loss)(weights, x)

    transforms: list[tuple[Callable[..., Any], Any]] = [
        (lambda f: jax.grad(f, argnums=(0, 1)), x),
        (lambda f: jax.jit(jax.grad(f, argnums=(0, 1))), x),
        (lambda f: jax.vmap(jax.grad(f, argnums=(0, 1)), in_axes=(None, 0)), twice),
        (lambda f: jax.grad(jax.checkpoint(f), argnums=(0, 1)), x),
    ]
    for transform, inputs in transforms:
        jax.tree.map(
            np.testing.assert_array_equal,
            gradient(layer, transform, inputs),
            gradient(plain, transform, inputs),
        )

    def rows(layer: Any) -> Any:  # a cotangent with one axis more than what was kept
        def few(x: Any) -> Any:
            return layer.stateless_call(weights, seeds, x)[0][0, -1]

        return jax.jacrev(few)(x)

    np.testing.assert_array_equal(rows(layer), rows(plain))


@pytest.mark.skipif(HOST != "torch", reason="transformations of torch")
@pytest.mark.parametrize("every", [3, "sqrt"])
def test_transformations_of_torch(every: int | str) -> None:
    import torch

    layer, plain = layer_of(every), layer_of(None)
    plain.set_weights(layer.get_weights())
    x = torch.from_numpy(data("lstm"))

    def loss(layer: Any, x: Any) -> Any:
        y = layer(x)
        return (y * y.cos()).sum()

    expected = torch.func.grad(lambda x: loss(plain, x))(x)
    assert torch.equal(torch.func.grad(lambda x: loss(layer, x))(x), expected)
    mapped = torch.func.vmap(torch.func.grad(lambda x: loss(layer, x)))(x[None])
    assert torch.equal(mapped[0], expected)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: loss(layer, x), backend="aot_eager")
    for time_steps in (TIME_STEPS, 21):
        part = x[:, :time_steps].clone().requires_grad_()
        compiled(part).backward()
        (wanted,) = torch.autograd.grad(loss(plain, part), part)
        assert torch.equal(part.grad, wanted)
