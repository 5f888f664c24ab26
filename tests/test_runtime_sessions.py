"""Streams: in whatever order steps, stretches, forks and restores come, predict's bits."""

from __future__ import annotations

import copy
import functools
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recurra import _engine
from recurra.runtime.errors import SnapshotError
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


# --- State ---


def test_states_have_names_and_are_read_only_copies() -> None:
    session = Runtime(embedded()).open()
    assert {name: array.shape for name, array in session.state.items()} == {
        "lstm/hidden_state": (1, 6),
        "lstm/cell_state": (1, 6),
        "lstm/began": (1,),
        "rnn/lstm_cell/hidden_state": (1, 4),
        "rnn/lstm_cell/cell_state": (1, 4),
        "rnn/gru_cell/hidden_state": (1, 7),
        "rnn/simple_rnn_cell/hidden_state": (1, 3),
    }
    before = session.state["rnn/gru_cell/hidden_state"]
    session.step(np.int32(1), np.ones(3, np.float32))
    assert not before.any()
    assert session.state["rnn/gru_cell/hidden_state"].any()
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 1.0
    picture = session.state
    taken = {name: array.copy() for name, array in picture.items()}
    session.step(np.int32(2), np.ones(3, np.float32))
    for name, array in picture.items():
        np.testing.assert_array_equal(array, taken[name])
    picture["lstm/cell_state"] = np.ones((1, 6))
    assert picture["lstm/cell_state"].all()
    assert session.state["lstm/cell_state"].all()
    assert "rnn/lstm_cell/cell_state" in repr(session)
    assert "'lstm/began': bool (1,)" in repr(session.state)


def test_states_are_set_one_by_one_or_all_at_once() -> None:
    runtime = Runtime(stacked())
    x = data_of("stacked")[0]
    session, other = runtime.open(), runtime.open()
    session.run(x[0])
    for name in session.state:
        other.state[name] = session.state[name].astype(np.float64)
    same(other.step(x[1, 0]), session.fork().step(x[1, 0]))
    other.reset()
    other.state = session.state
    assert other.snapshot() == session.snapshot()
    other.state["gru/hidden_state"] = np.arange(9)  # without the batch of 1
    np.testing.assert_array_equal(other.state["gru/hidden_state"], [np.arange(9)])


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (
            "lstm/hidden",
            np.zeros((1, 17)),
            KeyError,
            "no state 'lstm/hidden'; this session has lstm/",
        ),
        ("lstm/cell_state", np.zeros((1, 16)), ValueError, r"shape \(1, 16\); expected \(1, 17\)"),
        ("lstm/cell_state", np.zeros((2, 17)), ValueError, r"shape \(2, 17\); expected \(1, 17\)"),
        ("lstm/cell_state", 0.0, ValueError, r"shape \(\); expected \(1, 17\)"),
        ("lstm/cell_state", [["a"] * 17], TypeError, "expected float32"),
        ("lstm/cell_state", np.zeros((1, 17), complex), TypeError, "array of complex128"),
        ("lstm/cell_state", [[1.0], [1.0, 2.0]], ValueError, "got no array"),
    ],
)
def test_states_that_do_not_fit(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    session = Runtime(stacked()).open()
    session.step(np.ones(3))
    before = session.snapshot()
    with pytest.raises(error, match=message):
        session.state[name] = value
    whole = {**session.state, name: value}
    with pytest.raises(ValueError if error is KeyError else error):
        session.state = whole
    assert session.snapshot() == before


def test_whole_states_must_be_whole() -> None:
    session = Runtime(stacked()).open()
    with pytest.raises(ValueError, match="Missing: lstm/cell_state, gru/hidden_state"):
        session.state = {"lstm/hidden_state": np.zeros((1, 17))}
    with pytest.raises(TypeError, match="got int; expected a mapping of names"):
        session.state = 3
    with pytest.raises(TypeError, match="reset"):
        del session.state["lstm/hidden_state"]


def test_a_state_set_by_hand_stands_before_the_initial_state() -> None:
    runtime = Runtime(begun())
    inputs = [
        part[0] if with_time else part
        for part, with_time in zip(piece("begun", 0, 0, 1), timed("begun"), strict=True)
    ]
    session = runtime.open()
    assert not session.state["lstm/started"].any()
    wanted = session.fork()
    wanted.state = {name: np.ones_like(array) for name, array in wanted.state.items()}
    for name, array in session.state.items():
        if array.dtype == np.float32:
            session.state[name] = np.ones_like(array)
    same(session.step(*inputs), wanted.step(*inputs))


# --- Snapshots, copies ---


def test_equal_states_have_equal_snapshots_and_the_format_is_as_described() -> None:
    runtime = Runtime(masked())
    session = runtime.open(batch=2)
    session.run(data_of("masked")[0][:2])
    data = session.snapshot()
    assert data == session.fork().snapshot() == runtime.restore(data).snapshot()
    assert data[:8] == b"RECURRA\n"
    assert int.from_bytes(data[8:12], "little") == 1
    assert int.from_bytes(data[12:16], "little") == 2
    assert int.from_bytes(data[48:52], "little") == len(session.state)
    name = "lstm/hidden_state"
    assert next(iter(session.state)) == name
    start = data.index(name.encode()) + len(name)
    assert data[start : start + 6] == b"f\x01\x05\x00\x00\x00"
    stored = np.frombuffer(data, "<f4", 10, start + 6).reshape(2, 5)
    np.testing.assert_array_equal(stored, session.state[name])


def test_damaged_and_foreign_snapshots_are_refused() -> None:
    runtime = Runtime(masked())
    session = runtime.open()
    session.step(np.ones(2))
    data, other = session.snapshot(), Runtime(stacked()).open()
    session.step(np.ones(2))
    state = session.snapshot()

    def refused(data: Any, match: str, error: type[Exception] = SnapshotError) -> None:
        with pytest.raises(error, match=match):
            session.restore(data)
        assert session.snapshot() == state

    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        refused(bytes(damaged), "snapshot")
    for length in range(0, len(data), 7):
        refused(data[:length], "snapshot")
    refused(data + b"x", "damaged")
    refused(b"", "0 bytes are no snapshot")
    refused(b"GIF89a" + data, "do not begin as")
    refused(data[:40], "cut off after 40 bytes")
    refused(data[:-1], "damaged: its checksum")
    refused(data[:8] + b"\2" + data[9:], "version 2 of the format, .* reads version 1")
    refused("text", "got str", TypeError)
    refused(
        runtime.open(batch=2).snapshot(), r"batch=2, and this one has batch=1\. .*open\(batch=2\)"
    )
    refused(other.snapshot(), "of another model|carry here")


def test_snapshots_are_of_one_model() -> None:
    graph = stacked()
    twin = Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, digest="4567")
    with pytest.raises(SnapshotError, match="of another model than 'model'"):
        Runtime(twin).restore(Runtime(graph).open().snapshot())


def test_copies_are_forks_and_pickling_says_what_to_do() -> None:
    session = Runtime(stacked()).open()
    session.step(np.ones(3))
    for made in (copy.copy(session), copy.deepcopy(session)):
        assert made.snapshot() == session.snapshot()
        made.step(np.ones(3))
        assert made.snapshot() != session.snapshot()
    with pytest.raises(TypeError, match=r"session\.snapshot\(\).*Runtime\.restore"):
        pickle.dumps(session)


# --- Arguments ---


def test_inputs_of_many_kinds_are_the_same_step() -> None:
    session = Runtime(stacked()).open()
    x = np.array([0.5, -1.0, 2.0], np.float32)
    wanted = session.fork().step(x)
    for step in (
        [0.5, -1, 2],
        x.astype(np.float64),
        np.array([0, 0.5, 0, -1, 0, 2], np.float32)[1::2],
        x.astype(">f4"),
        {"x": x},
    ):
        same(session.fork().step(step), wanted)
    same(session.fork().step(x[np.newaxis]), wanted[np.newaxis])
    same(session.fork().step([[0.5, -1, 2]]), wanted[np.newaxis])
    same(session.fork().run([x])[0], wanted)
    same(session.fork().run(x[np.newaxis, np.newaxis])[0, 0], wanted)
    same(session.fork().run(np.asfortranarray(np.stack([x] * 4)))[0], wanted)
    whole = session.fork().step(np.array([1, 0, 2]))
    same(session.fork().step(np.array([1, 0, 2], np.uint8)), whole)
    same(session.fork().step(np.array([1.0, 0.0, 2.0])), whole)


def test_several_inputs_come_in_order_or_by_name() -> None:
    session = Runtime(embedded()).open()
    x = [1.0, 2.0, 3.0]
    wanted = session.fork().step(np.int32(2), np.array(x, np.float32))
    for outputs in (
        session.fork().step(2, x),
        session.fork().step(2.0, x),
        session.fork().step([2, x]),
        session.fork().step({"x": x, "words": 2}),
        session.fork().run([2], [x]),
        session.fork().run({"words": np.array([2]), "x": np.array([x])}),
    ):
        for output, value in zip(outputs, wanted, strict=True):
            same(output, value)
    outputs = session.fork().step([2], [x])
    assert [output.shape for output in outputs] == [(1, 2), (1, 4)]


def test_a_single_feature_may_be_a_number() -> None:
    model = Model()
    x = model.input("x", (None, None, 1))
    session = Runtime(model.graph([model("GRU", x, units=2)])).open()
    same(session.fork().step(0.5), session.fork().step(np.array([0.5], np.float32)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: s.step(np.zeros(4)),
            r"step\(\) got shape \(4,\) for input 'x'; expected \(3,\) or \(1, 3\)",
        ),
        (lambda s: s.step(np.zeros((5, 3))), r"shape \(5, 3\).*run\(\) several; open\(batch=...\)"),
        (lambda s: s.step(np.zeros((1, 5, 3))), r"one time step; run\(\) takes several"),
        (
            lambda s: s.run(np.zeros(3)),
            r"run\(\) got shape \(3,\).*expected \(time_steps, 3\) or \(1, time_steps, 3\)\."
            r".*step\(\) takes one",
        ),
        (lambda s: s.run(np.zeros((2, 5, 3))), r"shape \(2, 5, 3\)"),
        (lambda s: s.step(), r"got 0 inputs; 'model' has 1: x"),
        (lambda s: s.step(np.zeros(3), np.zeros(3)), r"got 2 inputs; 'model' has 1: x"),
        (lambda s: s.step({"y": np.zeros(3)}), r"inputs by the names y; expected x"),
        (lambda s: s.step([[1.0], [1.0, 2.0]]), "differ in length"),
    ],
)
def test_shapes_that_do_not_fit(call: Callable[[Any], Any], message: str) -> None:
    session = Runtime(stacked()).open()
    session.step(np.ones(3))
    before = session.snapshot()
    with pytest.raises(ValueError, match=message):
        call(session)
    assert session.snapshot() == before


def test_things_that_are_no_numbers() -> None:
    session = Runtime(stacked()).open()
    for value in ("abc", None, ["a", "b", "c"], np.zeros(3, complex), object()):
        with pytest.raises(TypeError, match="for input 'x'; expected numbers"):
            session.step(value)


def test_indices_are_whole_numbers_inside_the_table() -> None:
    session = Runtime(embedded()).open()
    x = np.zeros(3)
    session.step(1, x)
    before = session.snapshot()
    with pytest.raises(ValueError, match="got 1.5 for input 'words', which takes indices"):
        session.step(1.5, x)
    with pytest.raises(ValueError, match="beyond 32 bits"):
        session.step(2**40, x)
    with pytest.raises(TypeError, match="expected whole numbers"):
        session.step("one", x)
    for wrong in (4, -1):
        with pytest.raises(ValueError, match=str(wrong)):
            session.step(wrong, x)
    with pytest.raises(ValueError, match="different numbers of time steps: 'words' 2, 'x' 3"):
        session.run([1, 2], np.zeros((3, 3)))
    assert session.snapshot() == before


def test_no_time_steps_change_nothing() -> None:
    session = Runtime(stacked()).open()
    session.step(np.ones(3))
    before = session.snapshot()
    assert session.run(np.zeros((0, 3))).shape == (0, 2)
    assert session.run(np.zeros((1, 0, 3))).shape == (1, 0, 2)
    assert session.snapshot() == before
    with pytest.raises(ValueError, match="no time steps, .* newest step's alone"):
        Runtime(begun()).open().run(np.zeros((0, 3)), np.zeros(2), 1)


@pytest.mark.parametrize("batch", [0, -1, 2**40])
def test_batches_are_counted_from_one(batch: int) -> None:
    with pytest.raises(ValueError, match=f"open\\(batch={batch}\\)"):
        Runtime(stacked()).open(batch)


@pytest.mark.parametrize("batch", [1.0, True, "1", None])
def test_batches_are_whole_numbers(batch: Any) -> None:
    with pytest.raises(TypeError, match="no whole number"):
        Runtime(stacked()).open(batch)


def test_many_sessions_must_be_different_ones_of_this_runtime() -> None:
    runtime = Runtime(stacked())
    a, b, x = runtime.open(), runtime.open(), np.ones((2, 3), np.float32)
    wanted = runtime.step_many([a.fork(), b.fork()], x)
    same(runtime.step_many((a.fork(), b.fork()), [[1, 1, 1], [1.0, 1, 1]]), wanted)
    same(runtime.step_many([a.fork(), b.fork()], {"x": x.astype(np.float64)}), wanted)
    before = a.snapshot()
    for sessions, error, message in [
        ([a, a], ValueError, r"one session twice, as sessions\[0\] and sessions\[1\]"),
        ([a, Runtime(stacked()).open()], ValueError, r"sessions\[1\] of another runtime"),
        ([a, runtime.open(batch=2)], ValueError, r"sessions\[1\] with batch=2"),
        ([a, 3], TypeError, r"got int as sessions\[1\]"),
        ([], ValueError, "no sessions"),
        ([a], ValueError, r"shape \(2, 3\) for its steps; expected \(1, 3\)"),
    ]:
        with pytest.raises(error, match=message):
            runtime.step_many(sessions, x)
    assert a.snapshot() == before


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
