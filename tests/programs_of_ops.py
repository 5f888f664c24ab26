"""Programs for the compiled plan, and what they compute, in float64 and step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra import _engine
from recurra.engine import Config

Array = NDArray[Any]
Op = dict[str, Any]
random = np.random.default_rng(5)


def floats(*shape: int, scale: float = 1.0) -> Array:
    """Random float32 numbers."""
    return (scale * random.normal(size=shape)).astype(np.float32)


def recurrent(
    cell: str, features: int, units: int, *, name: str = "", seed: int = 0, **options: Any
) -> Op:
    """A recurrent op with random weights; `options` are the Config's and the op's own."""
    config_options = {
        key: options.pop(key)
        for key in ("reset_after", "activation", "recurrent_activation", "zero_output_for_mask")
        if key in options
    }
    config = Config(cell, **config_options)
    shapes = config.weight_shapes(features, units)
    weights = {key: floats(*shape, scale=shape[0] ** -0.5) for key, shape in shapes.items()}
    numbers = list(config.numbers)
    return {
        "op": "recurrent",
        "name": name or cell,
        "numbers": numbers,
        "units": units,
        **weights,
        **options,
    }


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def expit(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def relu(x: Array, slope: float = 0, most: float = np.inf, threshold: float = 0) -> Array:
    y = np.clip(np.where(x > threshold, x, 0), None, most)
    return y - slope * np.maximum(threshold - x, 0) if slope else y


SELU = (1.0507009873554805, 1.6732632423543772)

FUNCTIONS: list[tuple[str, list[float], Callable[[Array], Array]]] = [
    ("linear", [], lambda x: x),
    ("tanh", [], np.tanh),
    ("sigmoid", [], expit),
    ("hard_sigmoid", [], lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    ("relu", [], relu),
    ("relu", [0.1], lambda x: relu(x, 0.1)),
    ("relu", [0.0, 1.5], lambda x: relu(x, 0, 1.5)),
    ("relu", [0.25, 1.5, 0.5], lambda x: relu(x, 0.25, 1.5, 0.5)),
    ("softsign", [], lambda x: x / (1 + abs(x))),
    ("elu", [1.5], lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    ("selu", [], lambda x: SELU[0] * np.where(x > 0, x, SELU[1] * np.expm1(x))),
    ("gelu_tanh", [], lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))),
    ("silu", [], lambda x: x * expit(x)),
    ("exponential", [], np.exp),
    ("softplus", [], softplus),
    ("leaky_relu", [0.3], lambda x: np.where(x < 0, 0.3 * x, x)),
    ("relu6", [], lambda x: np.clip(x, 0, 6)),
    ("celu", [1.5], lambda x: np.where(x > 0, x, 1.5 * np.expm1(x / 1.5))),
    ("threshold", [0.5, -2.0], lambda x: np.where(x > 0.5, x, -2)),
    ("soft_shrink", [0.4], lambda x: np.sign(x) * np.maximum(abs(x) - 0.4, 0)),
    ("hard_shrink", [0.4], lambda x: np.where(abs(x) > 0.4, x, 0)),
    ("squareplus", [3.0], lambda x: (x + np.sqrt(x * x + 3)) / 2),
    ("log_sigmoid", [], lambda x: -softplus(-x)),
    ("mish", [], lambda x: x * np.tanh(softplus(x))),
    ("hard_silu", [], lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    ("hard_tanh", [], lambda x: np.clip(x, -1, 1)),
    ("tanh_shrink", [], lambda x: x - np.tanh(x)),
    ("sparse_plus", [], lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4))),
    ("sparse_sigmoid", [], lambda x: np.clip((x + 1) / 2, 0, 1)),
    ("softmax", [], softmax),
    ("log_softmax", [], lambda x: np.log(softmax(x))),
]
"""Functions of the op "activation" with parameters, and what they are."""


def long_program() -> tuple[list[tuple[str, int]], list[Op], list[int], list[int]]:
    """Every op that carries a state or has weights, on a sequence and its indices, with masks."""
    tensors = [
        ("steps", 5),  # 0 in
        ("ids", 1),  # 1 in
        ("steps", 3),  # 2 embedded
        ("mask", 1),  # 3 of the indices
        ("steps", 5),  # 4 masked
        ("mask", 1),  # 5 of the values
        ("mask", 1),  # 6 of either
        ("steps", 8),  # 7 joined
        ("steps", 11),  # 8 convolved
        ("steps", 19),  # 9 lstm
        ("steps", 17),  # 10 gru
        ("steps", 17),  # 11 gru with reset before
        ("steps", 17),  # 12 sum
        ("steps", 17),  # 13 normalized
        ("steps", 21),  # 14 dense
        ("steps", 21),  # 15 softmax
        ("row", 9),  # 16 simple rnn's last output
        ("row", 2),  # 17 dense
        ("row", 19),  # 18 lstm's cell state
    ]
    ops: list[Op] = [
        {"op": "embedding", "name": "embedding", "input": 1, "output": 2, "table": floats(7, 3)},
        {"op": "mask_ids", "input": 1, "mask": 3},
        {"op": "masking", "input": 0, "output": 4, "mask": 5, "value": 0.0},
        {"op": "mask_or", "inputs": [3, 5], "output": 6},
        {"op": "concat", "inputs": [4, 2], "output": 7},
        {
            "op": "conv",
            "name": "conv",
            "input": 7,
            "output": 8,
            "kernel": floats(3, 8, 11, scale=0.3),
            "bias": floats(11),
            "dilation": 2,
        },
        recurrent("lstm", 11, 19, input=8, mask=6, sequence=9, state_c=18),
        recurrent("gru", 19, 17, input=9, mask=6, sequence=10, zero_output_for_mask=True),
        recurrent("gru", 19, 17, input=9, sequence=11, reset_after=False, name="before"),
        {"op": "merge", "function": "add", "inputs": [10, 11], "output": 12},
        {"op": "layer_norm", "input": 12, "output": 13, "scale": floats(17), "epsilon": 1e-3},
        {"op": "dense", "input": 13, "output": 14, "kernel": floats(17, 21), "bias": floats(21)},
        {"op": "activation", "function": "softmax", "input": 14, "output": 15},
        recurrent("simple_rnn", 17, 9, input=13, mask=6, last_output=16, activation="gelu"),
        {"op": "dense", "input": 16, "output": 17, "kernel": floats(9, 2), "bias": floats(2)},
    ]
    return tensors, ops, [0, 1], [15, 17, 18, 9]


def long_inputs(rows: int, steps: int) -> tuple[Array, Array]:
    """Inputs of the long program, with masked steps of either kind and of both."""
    x, ids = floats(rows, steps, 5), random.integers(0, 7, (rows, steps)).astype(np.int32)
    x[random.random((rows, steps)) < 0.4] = 0
    ids[random.random((rows, steps)) < 0.4] = 0
    return x, ids


def small_plan(outputs: int = 1) -> Any:
    """An LSTM and a dense layer; with two outputs the LSTM's sequence is the second."""
    ops = [
        recurrent("lstm", 3, 4, input=0, sequence=1),
        {"op": "dense", "input": 1, "output": 2, "kernel": floats(4, 2)},
    ]
    return _engine.Plan([("steps", 3), ("steps", 4), ("steps", 2)], ops, [0], [2, 1][:outputs])


def rows_equal(got: list[Array], expected: list[Array], rows: Any) -> None:
    """Check that arrays are others' rows, to the last bit."""
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b[rows])
