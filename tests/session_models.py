"""Models that stream, and what they answer: shared by the tests of sessions."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings

from recurra.runtime.graph import Graph
from recurra.runtime.model import Runtime
from runtime_graphs import Model, stack

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TIME_STEPS = 9
ROWS = 3


def stacked() -> Graph:
    model = Model(1)
    x = model.input("x", (None, None, 3))
    y = model("LSTM", x, units=17, return_sequences=True)
    y = model("GRU", y, units=9, return_sequences=True, reset_after=False)
    return model.graph([model("Dense", y, units=2)])


def masked() -> Graph:
    model = Model(2)
    x = model.input("x", (None, None, 2))
    y = model("Masking", x, mask_value=2.0)
    y = model("LSTM", y, units=5, return_sequences=True, zero_output_for_mask=True)
    y = model("Dropout", y, rate=0.5)
    sequence, *states = model(
        "SimpleRNN", y, units=3, return_sequences=True, return_state=True, activation="gelu"
    )
    return model.graph(
        [sequence, model("Dense", model("GRU", sequence, units=4), units=2), *states]
    )


def convolved() -> Graph:
    model = Model(3)
    x = model.input("x", (None, None, 4))
    y = model("Conv1D", x, filters=6, kernel_size=3, padding="causal", dilation_rate=2, groups=2)
    y = model("LayerNormalization", y)
    y = model("Conv1D", y, filters=5, kernel_size=2, padding="causal", activation="relu")
    y = model("BatchNormalization", model("Conv1D", y, filters=5, kernel_size=1))
    y = model("GRU", y, units=8, return_sequences=True, activation="softsign")
    return model.graph([model("Dense", y, units=3, activation="softmax")])


def embedded() -> Graph:
    model = Model(4)
    words = model.input("words", (None, None), "int32")
    x = model.input("x", (None, None, 3))
    y = model("Embedding", words, input_dim=4, output_dim=5, mask_zero=True)
    y = model("LSTM", y, units=6, return_sequences=True)
    y = model("Concatenate", [y, model("Dense", x, units=2, activation="elu")])
    cell = stack(("LSTM", 4), ("GRU", 7), ("SimpleRNN", 3))
    y, *states = model("RNN", y, cell=cell, return_state=True)
    return model.graph([model("Dense", y, units=2), states[1]])


def begun() -> Graph:
    """With initial states from inputs that have no time."""
    model = Model(5)
    x = model.input("x", (None, None, 3))
    start = model.input("start", (None, 2))
    kind = model.input("kind", (None, 1), "int32")
    looked_up = model("Flatten", model("Embedding", kind, input_dim=3, output_dim=6))
    h = model("Dense", start, units=6, activation="tanh")
    y = model("LSTM", x, initial_state=[h, looked_up], units=6, return_sequences=True)
    y = model("GRU", y, initial_state=[h], units=6)
    return model.graph([model("Add", [y, looked_up])])


BUILDERS = {f.__name__: f for f in (stacked, masked, convolved, embedded, begun)}


@functools.cache
def runtime_of(name: str, isa: str) -> Runtime:
    """Of an instruction set: a plan's weights are packed for the one in use."""
    return Runtime(BUILDERS[name]())


@functools.cache
def data_of(name: str) -> list[Any]:
    """(ROWS, TIME_STEPS, features), (ROWS, TIME_STEPS), or without time, in the model's order."""
    rng = np.random.default_rng(0)
    arrays: list[Any] = []
    for tensor in BUILDERS[name]().inputs:
        shape = (ROWS, *(TIME_STEPS if size is None else size for size in tensor.shape[1:]))
        if tensor.dtype == "int32":
            arrays.append(rng.integers(0, 3, shape).astype(np.int32))
        else:
            arrays.append(rng.normal(size=shape).astype(np.float32))
    if name == "masked":
        arrays[0][rng.random((ROWS, TIME_STEPS)) < 0.4] = 2.0
        arrays[0][0, 0] = 2.0
    return arrays


def timed(name: str) -> list[bool]:
    return [None in tensor.shape[1:] for tensor in BUILDERS[name]().inputs]


def piece(name: str, row: int, start: int, stop: int) -> list[Any]:
    """One row's inputs from a step to another."""
    return [
        array[row, start:stop] if with_time else array[row]
        for array, with_time in zip(data_of(name), timed(name), strict=True)
    ]


@functools.cache
def expected(name: str, isa: str, row: int, steps: int) -> list[Any]:
    """What `predict` gives for the first steps of a row: the newest value of each output."""
    inputs = [
        array[row : row + 1, :steps] if with_time else array[row : row + 1]
        for array, with_time in zip(data_of(name), timed(name), strict=True)
    ]
    outputs = runtime_of(name, isa).predict(inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [output[0, -1] if output.ndim == 3 else output[0] for output in outputs]


def listed(outputs: Any) -> list[Any]:
    return outputs if isinstance(outputs, list) else [outputs]


def same(actual: Any, wanted: Any) -> None:
    """Bit for bit."""
    assert actual.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(actual.view(np.uint32), wanted.view(np.uint32))
