"""Streams: in whatever order steps, stretches, forks and restores come, predict's bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra import _engine
from recurra.runtime.model import Runtime
from runtime_graphs import Model, stack
from session_models import (
    BUILDERS,
    ROWS,
    TIME_STEPS,
    data_of,
    expected,
    listed,
    piece,
    quick,
    runtime_of,
    same,
    stacked,
    timed,
)


class Stream:
    """A session that knows which row it has seen how far, and checks what it gives."""

    def __init__(self, name: str, isa: str, row: int, session: Any, position: int = 0) -> None:
        self.name, self.isa, self.row = name, isa, row
        self.session, self.position = session, position

    def check(self, outputs: Any) -> None:
        for output, wanted in zip(
            listed(outputs), expected(self.name, self.isa, self.row, self.position), strict=True
        ):
            same(output, wanted)

    def inputs(self) -> list[Any]:
        """The next step's."""
        return [
            part[0] if with_time else part
            for part, with_time in zip(
                piece(self.name, self.row, self.position, self.position + 1),
                timed(self.name),
                strict=True,
            )
        ]

    def step(self) -> None:
        inputs = self.inputs()
        self.position += 1
        self.check(self.session.step(*inputs))

    def run(self, length: int) -> None:
        start = self.position
        outputs = listed(self.session.run(*piece(self.name, self.row, start, start + length)))
        self.position += length
        self.check([output[-1] if output.ndim == 2 else output for output in outputs])
        for step in range(length):
            wanted = expected(self.name, self.isa, self.row, start + step + 1)
            for output, value in zip(outputs, wanted, strict=True):
                if output.ndim == 2:
                    same(output[step], value)

    def with_session(self, session: Any) -> Stream:
        return Stream(self.name, self.isa, self.row, session, self.position)

    @property
    def left(self) -> int:
        return TIME_STEPS - self.position


def act(streams: list[Stream], runtime: Runtime, action: str, which: int, amount: int) -> None:
    stream = streams[which % len(streams)]
    if action == "open":
        row = amount % ROWS
        streams.append(Stream(stream.name, stream.isa, row, runtime.open()))
    elif action == "fork":
        streams.append(stream.with_session(stream.session.fork()))
    elif action == "restore":
        data = stream.session.snapshot()
        streams.append(stream.with_session(runtime.restore(data)))
        stream.session.restore(data)
    elif action == "state":
        other = runtime.open()
        other.state = dict(stream.session.state)
        streams.append(stream.with_session(other))
    elif action == "reset":
        stream.session.reset()
        stream.position = 0
    elif action == "many":
        chosen = [s for s in streams[: 1 + amount] if s.left]
        if chosen:
            columns = [
                np.stack(values) for values in zip(*(s.inputs() for s in chosen), strict=True)
            ]
            outputs = listed(
                runtime.step_many(
                    [s.session for s in chosen],
                    columns[0] if len(columns) == 1 else tuple(columns),
                )
            )
            for index, each in enumerate(chosen):
                each.position += 1
                each.check([output[index] for output in outputs])
    elif stream.left:
        stream.step() if action == "step" else stream.run(1 + amount % stream.left)


ACTIONS = st.tuples(
    st.sampled_from(
        ["step", "step", "run", "run", "fork", "many", "restore", "state", "open", "reset"]
    ),
    st.integers(0, 5),
    st.integers(0, 8),
)


@pytest.mark.parametrize("name", BUILDERS)
@quick
@given(script=st.lists(ACTIONS, min_size=1, max_size=25))
def test_any_interleaving_of_any_sessions_gives_the_bits_of_predict(
    isa: str, name: str, script: Sequence[tuple[str, int, int]]
) -> None:
    runtime = runtime_of(name, isa)
    streams = [Stream(name, isa, 0, runtime.open())]
    for action, which, amount in script:
        act(streams, runtime, action, which, amount)
    for stream in streams:  # what came last changed nothing in the others
        while stream.left:
            stream.step()


@pytest.mark.parametrize("name", BUILDERS)
@quick
@given(cuts=st.sets(st.integers(1, TIME_STEPS - 1)), single=st.booleans())
def test_batches_give_the_bits_of_rows(isa: str, name: str, cuts: set[int], single: bool) -> None:
    session = runtime_of(name, isa).open(batch=ROWS)
    start = 0
    for stop in [*sorted(cuts), TIME_STEPS]:
        inputs = [
            array[:, start:stop] if with_time else array
            for array, with_time in zip(data_of(name), timed(name), strict=True)
        ]
        if single and stop - start == 1:
            inputs = [
                part[:, 0] if with_time else part
                for part, with_time in zip(inputs, timed(name), strict=True)
            ]
            outputs = listed(session.step(*inputs))
        else:
            outputs = [o[:, -1] if o.ndim == 3 else o for o in listed(session.run(*inputs))]
        for row in range(ROWS):
            for output, wanted in zip(outputs, expected(name, isa, row, stop), strict=True):
                same(output[row], wanted)
        start = stop


LAYERS = st.sampled_from(
    [
        ("LSTM", {"units": 7, "return_sequences": True}),
        ("LSTM", {"units": 4, "return_sequences": True, "activation": "elu"}),
        ("GRU", {"units": 9, "return_sequences": True, "recurrent_activation": "hard_sigmoid"}),
        ("GRU", {"units": 5, "return_sequences": True, "reset_after": False}),
        ("SimpleRNN", {"units": 6, "return_sequences": True, "activation": "silu"}),
        ("RNN", {"cell": stack(("GRU", 3), ("LSTM", 8)), "return_sequences": True}),
        ("Masking", {}),
        ("Conv1D", {"filters": 5, "kernel_size": 3, "padding": "causal"}),
        ("Conv1D", {"filters": 8, "kernel_size": 2, "padding": "causal", "dilation_rate": 3}),
        ("Dense", {"units": 11, "activation": "relu"}),
        ("Dense", {"units": 2, "activation": "log_softmax"}),
        ("Activation", {"activation": "gelu"}),
        ("BatchNormalization", {}),
        ("LayerNormalization", {}),
        ("Rescaling", {"scale": 0.5, "offset": -1.0}),
    ]
)


@settings(quick, max_examples=100)
@given(
    chosen=st.lists(LAYERS, min_size=1, max_size=5),
    seed=st.integers(0, 100),
    features=st.integers(1, 20),
    rows=st.integers(1, 6),
    cuts=st.sets(st.integers(1, TIME_STEPS - 1)),
)
def test_any_model_of_these_layers(
    isa: str, chosen: Any, seed: int, features: int, rows: int, cuts: set[int]
) -> None:
    model = Model(seed)
    y = model.input("x", (None, None, features))
    for class_name, config in chosen:
        y = model(class_name, y, **config)
    runtime = Runtime(model.graph([y, model("GRU", y, units=3)]))
    given_x = model.rng.normal(size=(rows, TIME_STEPS, features)).astype(np.float32)
    given_x[model.rng.random((rows, TIME_STEPS)) < 0.2] = 0.0

    sequence, last = runtime.predict(given_x)
    computed = runtime._interpreter.run([given_x], [None])
    np.testing.assert_allclose(sequence, computed[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last, computed[1], rtol=1e-4, atol=1e-5)

    session, start = runtime.open(batch=rows), 0
    alone = runtime.open()
    for stop in [*sorted(cuts), TIME_STEPS]:
        stretch, newest = session.run(given_x[:, start:stop].copy())
        same(stretch, sequence[:, start:stop].copy())
        for step in range(start, stop):
            output, newest_alone = alone.step(given_x[-1, step])
            same(output, sequence[-1, step])
        same(newest_alone, newest[-1])
        start = stop
    same(newest, last)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_same_bits_with_any_threads_and_batch(
    isa: str, threads: Callable[[int], None], name: str
) -> None:
    runtime = runtime_of(name, isa)
    wanted = [expected(name, isa, row, TIME_STEPS) for row in range(ROWS)]
    for count in (1, 2):
        threads(count)
        for batch_size in (None, 1, 2):
            outputs = listed(runtime.predict(data_of(name), batch_size=batch_size))
            for row in range(ROWS):
                for output, value in zip(outputs, wanted[row], strict=True):
                    same(output[row, -1] if output.ndim == 3 else output[row], value)


def test_large_layers_give_the_same_bits_with_any_threads(threads: Callable[[int], None]) -> None:
    """Threads share out their units in every step."""
    model = Model(6)
    x = model.input("x", (None, None, 40))
    y = model("LSTM", x, units=330, return_sequences=True)
    runtime = Runtime(model.graph([model("GRU", y, units=500, return_sequences=True)]))
    inputs = model.rng.normal(size=(3, 6, 40)).astype(np.float32)
    threads(1)
    wanted = runtime.predict(inputs)
    for count in (1, 2):
        threads(count)
        session = runtime.open()
        steps = [session.step(x)[np.newaxis] for x in inputs[0, :3]]
        same(np.concatenate([*steps, session.run(inputs[0, 3:])]), wanted[0])
        sessions = [runtime.open() for _ in range(3)]
        for time in range(6):
            same(runtime.step_many(sessions, inputs[:, time].copy()), wanted[:, time].copy())


def test_rows_are_reset_by_themselves() -> None:
    runtime = Runtime(stacked())
    x = data_of("stacked")[0]
    session = runtime.open(batch=ROWS)
    session.run(x)
    for rows, chosen in [
        (1, [1]),
        (-1, [2]),
        ([0, 2], [0, 2]),
        (slice(1), [0]),
        (np.array([True, False, True]), [0, 2]),
        ([], []),
        (None, [0, 1, 2]),
    ]:
        other = session.fork()
        other.reset(rows)
        for name, array in other.state.items():
            before = session.state[name]
            for row in range(ROWS):
                same(array[row], np.zeros_like(array[row]) if row in chosen else before[row])
    with pytest.raises(IndexError, match="row 3; this session has batch=3"):
        session.reset(3)
    with pytest.raises(ValueError, match=r"bools of shape \(2,\); expected \(3,\)"):
        session.reset([True, False])
    with pytest.raises(TypeError, match="expected a row's number"):
        session.reset(1.5)  # type: ignore[arg-type]


# --- Threads ---


def together(count: int, work: Callable[[int], None]) -> None:
    """Run work(0), work(1), ... at the same time."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(index: int) -> None:
        try:
            barrier.wait()
            work(index)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


def test_sessions_on_many_threads_give_what_they_give_alone() -> None:
    runtime = Runtime(stacked())
    x = np.random.default_rng(0).normal(size=(8, 200, 3)).astype(np.float32)
    wanted = runtime.predict(x)

    def work(index: int) -> None:
        for _ in range(3):
            session = runtime.open()
            given = np.concatenate([session.step(v)[np.newaxis] for v in x[index, :100]])
            same(given, wanted[index, :100])
            same(session.fork().run(x[index, 100:]), wanted[index, 100:])

    together(8, work)


def test_one_session_on_many_threads_is_taken_in_turns() -> None:
    """Each call adds up its own ones, however the threads follow each other, in two layers."""
    model = Model()
    x = model.input("x", (None, None, 64))
    eye = np.eye(64, dtype=np.float32)
    sums = [model("SimpleRNN", x, units=64, activation="linear") for _ in range(2)]
    for node in model.nodes:
        weights = {"kernel": eye, "recurrent_kernel": eye, "bias": np.zeros(64, np.float32)}
        node.layer.build(weights, [x.shape])
    session = Runtime(model.graph([model("Add", sums)])).open()
    ones = np.ones(64, np.float32)
    stretch = np.ones((200, 64), np.float32)
    done: list[int] = []

    def work(index: int) -> None:
        if index < 2:
            try:
                for _ in range(150):
                    output = session.step(ones) if index else session.run(stretch)
                    assert (output == output[0]).all()
            finally:
                done.append(index)
            return
        while len(done) < 2:
            for each in (session.state, session.fork().state):
                first, second = each.values()
                assert (first == first[0, 0]).all()
                assert (second == first).all()

    together(3, work)
    for state in session.state.values():
        np.testing.assert_array_equal(state, [[150 * 201.0] * 64])


# --- Memory ---


def as_the_engine_takes_them(name: str, arrays: Sequence[Any]) -> list[Any]:
    """Inputs for which no conversion is needed."""
    return [
        array[..., 0] if array.dtype == np.int32 and not with_time else array
        for array, with_time in zip(arrays, timed(name), strict=True)
    ]


@pytest.mark.skipif(_engine.allocations() < 0, reason="allocations are not counted here")
@pytest.mark.parametrize("name", BUILDERS)
def test_steps_take_no_memory_from_the_heap(isa: str, name: str) -> None:
    runtime = runtime_of(name, isa)
    alone, several = runtime.open(), runtime.open(batch=ROWS)
    step = as_the_engine_takes_them(name, Stream(name, isa, 0, alone).inputs())
    stretch = as_the_engine_takes_them(name, piece(name, 0, 0, 5))
    wide = as_the_engine_takes_them(
        name,
        [
            array[:, 0].copy() if with_time else array
            for array, with_time in zip(data_of(name), timed(name), strict=True)
        ],
    )

    def counted() -> int:
        before = _engine.allocations()
        for _ in range(50):
            alone.step(*step)
            several.step(*wide)
            alone.run(*stretch)
        return _engine.allocations() - before

    counted()
    assert counted() == 0
    assert _engine.allocations() > 0
