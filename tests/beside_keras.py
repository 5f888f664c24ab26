"""What the tests of Recurra's layers beside stock Keras's share, for any host."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from recurra import reference
from recurra.cells import CELLS

HOST = keras.backend.backend()
STOCK = keras.layers
NAMES = ("LSTM", "GRU", "SimpleRNN")
B, T, F, U = 4, 6, 3, 5
MASK = np.array(
    [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0]], dtype=bool
)

# What a call with wrong shapes raises is each host's own.
ANY: tuple[type[Exception], ...]
ANY = (ValueError, TypeError, IndexError, AttributeError, RuntimeError, ArithmeticError)
if HOST == "tensorflow":
    import tensorflow

    ANY = (*ANY, tensorflow.errors.InvalidArgumentError)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


X = normal(B, T, F)


def array(value: Any) -> np.ndarray:
    """A tensor or variable of the host as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(value))


def arrays(value: Any) -> list[np.ndarray]:
    """The tensors in any nest, as NumPy arrays."""
    return [array(each) for each in keras.tree.flatten(value)]


def tensor(value: Any) -> Any:
    """An array as the host's tensor."""
    return ops.convert_to_tensor(value)


def same(got: Any, expected: Any, atol: float = 2e-6) -> None:
    """Assert that two arrays are equal but for rounding."""
    np.testing.assert_allclose(array(got), array(expected), atol=atol, rtol=2e-6)


def oracle(layer: Any, x: np.ndarray, **arguments: Any) -> reference.Forward:
    """The reference's result with the weights of one of Recurra's layers."""
    spec = next(spec for spec in CELLS.values() if spec.layer == type(layer).__name__)
    names = ["activation"] + ["recurrent_activation"] * spec.uses_recurrent_activation
    arguments |= {name: getattr(layer, name).__name__ for name in names}
    if spec.name == "gru":
        arguments["reset_after"] = layer.reset_after
    weights = dict(
        zip(("kernel", "recurrent_kernel", "bias"), map(array, layer.weights), strict=False)
    )
    return reference.forward(spec, x, **weights, go_backwards=layer.go_backwards, **arguments)


def sequential(layer: Any, batch: int = B, time_steps: int | None = T) -> Any:
    """A model of one layer, with a fixed batch."""
    return keras.Sequential([keras.Input(batch_shape=(batch, time_steps, F)), layer])


class Leaky(keras.layers.Layer):
    """A user's cell whose output is not its state: h' = h / 2 + x W, output 5 - h'."""

    def __init__(self, units: int, wide: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.wide = units, wide
        self.state_size, self.output_size = units, units * (2 if wide else 1)

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, x: Any, states: Any) -> Any:
        h = 0.5 * states[0] + ops.matmul(x, self.kernel)
        return (ops.concatenate([5 - h, h], axis=-1) if self.wide else 5 - h), [h]
