"""What sessions carry and take: states by name, snapshots, copies, and arguments of every kind."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recurra.runtime.errors import SnapshotError
from recurra.runtime.graph import Graph
from recurra.runtime.model import Runtime
from runtime_graphs import Model
from session_models import begun, data_of, embedded, masked, piece, same, stacked, timed

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
