"""The compiled plan and its sessions: bits that depend on nothing around them, and arrays."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from programs_of_ops import (
    floats,
    long_inputs,
    long_program,
    random,
    recurrent,
    rows_equal,
    small_plan,
)
from recurra import _engine

Array = NDArray[Any]

# --- Bits do not depend on what surrounds them ---


def test_splits_batches_and_threads_do_not_change_bits(
    isa: str, threads: Callable[[int], None]
) -> None:
    plan = _engine.Plan(*long_program())
    rows, steps = 61, 40
    x, ids = long_inputs(rows, steps)
    threads(1)
    whole = plan.run_batch(x, ids)
    for n in (2, 3):
        threads(n)
        rows_equal(plan.run_batch(x, ids), whole, ...)
    rows_equal(plan.run_batch(x[4:9], ids[4:9]), whole, slice(4, 9))

    cuts = [0, 1, 2, 9, 9, 26, 27, steps]
    batch = _engine.StreamSession(plan, rows)
    singles = [_engine.StreamSession(plan) for _ in range(3)]
    for begin, end in itertools.pairwise(cuts):
        if begin == end:
            continue
        part = slice(begin, end)
        got = batch.run(np.ascontiguousarray(x[:, part]), np.ascontiguousarray(ids[:, part]))
        np.testing.assert_array_equal(got[0], whole[0][:, part])
        for row, session in enumerate(singles):
            if end - begin == 1:
                one = session.step(x[row, begin], ids[row, begin:end].reshape(()))
                np.testing.assert_array_equal(one[0], whole[0][row, begin])
            else:
                one = session.run(x[row, part], ids[row, part])
                np.testing.assert_array_equal(one[3], whole[3][row, part])
    rows_equal(got[1:3], whole[1:3], ...)
    for row, session in enumerate(singles):
        np.testing.assert_array_equal(session.state_buffer(), batch.state_buffer()[row : row + 1])
    rows_equal(one[1:3], whole[1:3], row)


def test_long_sequences_and_large_batches_run_in_pieces(isa: str) -> None:
    plan = _engine.Plan(*long_program())
    x, ids = long_inputs(1, 700)
    whole = plan.run_batch(x, ids)
    session = _engine.StreamSession(plan)
    for t in range(700):
        out = session.step(x[0, t], ids[0, t : t + 1].reshape(()))
    rows_equal(out[1:3], whole[1:3], 0)
    many = plan.run_batch(np.repeat(x[:, :3], 300, 0), np.repeat(ids[:, :3], 300, 0))
    np.testing.assert_array_equal(many[0], np.repeat(whole[0][:, :3], 300, 0))


def test_step_many_is_as_each_alone(isa: str) -> None:
    plan = _engine.Plan(*long_program())
    x, ids = long_inputs(70, 6)
    together = [_engine.StreamSession(plan) for _ in range(70)]
    alone = [_engine.StreamSession(plan) for _ in range(70)]
    for t in range(6):
        chosen = random.permutation(70)[: random.integers(1, 70)]
        arrays = [np.ascontiguousarray(a[chosen, t]) for a in (x, ids)]
        got = _engine.step_many([together[i] for i in chosen], arrays)
        for k, i in enumerate(chosen):
            rows_equal(alone[i].step(x[i, t], ids[i, t : t + 1].reshape(())), got, k)


def test_lists_may_change_while_they_are_stepped() -> None:
    ops = [recurrent("lstm", 3, 300, input=0, sequence=1)]
    plan = _engine.Plan([("steps", 3), ("steps", 300)], ops, [0], [1])
    x, sessions, over = floats(40, 3), [], threading.Event()

    def clear() -> None:
        while not over.is_set():
            sessions.clear()

    other = threading.Thread(target=clear)
    other.start()
    for _ in range(50):
        sessions[:] = [_engine.StreamSession(plan) for _ in range(40)]
        with contextlib.suppress(ValueError):  # cleared before it was read
            _engine.step_many(sessions, [x])
    over.set()
    other.join()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_large_layers_share_units_over_threads(
    isa: str, threads: Callable[[int], None], cell: str
) -> None:
    units = 800
    op = recurrent(cell, 16, units, input=0, sequence=1)
    plan = _engine.Plan([("steps", 16), ("steps", units)], [op], [0], [1])
    x = floats(1, 3, 16)
    results = []
    for n in (1, 2, 5):
        threads(n)
        session = _engine.StreamSession(plan)
        stretch = session.run(x[0, :2])
        results.append([stretch, session.step(x[0, 2]), plan.run_batch(x)])
    for other in results[1:]:
        rows_equal(other, results[0], ...)


def test_sessions_on_several_threads_and_one_session_on_several() -> None:
    plan = _engine.Plan(*long_program())
    x, ids = long_inputs(4, 50)
    expected = plan.run_batch(x, ids)[1]
    shared = _engine.StreamSession(plan)
    last: dict[int, Array] = {}

    def work(row: int) -> None:
        session = _engine.StreamSession(plan)
        for t in range(50):
            out = session.step(x[row, t], ids[row, t : t + 1].reshape(()))
            shared.step(x[0, 0], ids[0, :1].reshape(()))
        last[row] = out[1]

    workers = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for row in range(4):
        np.testing.assert_array_equal(last[row], expected[row])
    once = _engine.StreamSession(plan)
    for _ in range(200):
        once.step(x[0, 0], ids[0, :1].reshape(()))
    np.testing.assert_array_equal(shared.state_buffer(), once.state_buffer())


# --- Sessions ---


def test_states_are_named_copied_and_set() -> None:
    plan = small_plan()
    assert [(name, shape, dtype) for name, _, shape, dtype in plan.state] == [
        ("lstm/hidden_state", (4,), "float32"),
        ("lstm/cell_state", (4,), "float32"),
    ]
    session, fork = _engine.StreamSession(plan, 2), _engine.StreamSession(plan, 2)
    buffer = session.state_buffer()
    assert buffer.shape == (2, plan.state_bytes)
    assert not buffer.any()
    x = floats(2, 3)
    first = session.step(x)
    assert buffer.any()
    fork.copy_from(session)
    np.testing.assert_array_equal(session.step(x), fork.step(x))
    buffer[:] = 0
    np.testing.assert_array_equal(session.step(x), first)
    with pytest.raises(ValueError, match="one plan and batch size"):
        fork.copy_from(_engine.StreamSession(plan, 3))


def test_parts_of_states_are_read_written_and_cleared() -> None:
    plan = small_plan()
    session, x = _engine.StreamSession(plan, 3), floats(3, 3)
    session.step(x)
    offset = plan.state[1][1]
    part = session.read_state(offset, 16)
    np.testing.assert_array_equal(part, session.state_buffer()[:, offset : offset + 16])
    whole = session.read_state(0, plan.state_bytes)
    rows = np.array([True, False, True])
    session.clear(rows)
    np.testing.assert_array_equal(session.state_buffer(), np.where(rows[:, None], 0, whole))
    session.write_state(0, whole, rows)
    np.testing.assert_array_equal(session.state_buffer(), whole)
    session.write_state(offset, np.zeros_like(part))
    assert not session.read_state(offset, 16).any()
    session.clear()
    assert not session.state_buffer().any()
    for wrong in (
        (-1, 4),
        (0, plan.state_bytes + 1),
        (plan.state_bytes, 1),
        (4, -1),
        (2**62, 2**62),
    ):
        with pytest.raises(ValueError, match="a row's state has"):
            session.read_state(*wrong)
    with pytest.raises(ValueError, match="a row's state has"):
        session.write_state(plan.state_bytes - 8, part)
    with pytest.raises(ValueError, match="3 rows, got 2"):
        session.write_state(0, part[:2])
    with pytest.raises(ValueError, match="3 flags, got 2"):
        session.clear(rows[:2])


def test_flags_are_fields_of_the_state() -> None:
    plan = _engine.Plan(*long_program())
    flags = {name for name, _, _, dtype in plan.state if dtype == "bool"}
    assert flags == {"lstm/began", "gru/began", "simple_rnn/began"}
    ends = [offset + 4 * int(np.prod(shape)) for _, offset, shape, _ in plan.state]
    assert max(ends) <= plan.state_bytes + 3


def test_an_empty_stretch_is_not_a_first_step() -> None:
    op = recurrent("gru", 3, 4, input=0, sequence=2, initial=[1])
    plan = _engine.Plan([("steps", 3), ("row", 4), ("steps", 4)], [op], [0, 1], [2])
    x, initial = floats(1, 1, 3), floats(1, 4)
    session = _engine.StreamSession(plan)
    assert session.run(floats(0, 3), floats(4)).shape == (0, 4)
    np.testing.assert_array_equal(session.run(x, initial), plan.run_batch(x, initial))


def test_shapes_follow_the_inputs() -> None:
    session, pair = _engine.StreamSession(small_plan()), _engine.StreamSession(small_plan(2), 2)
    assert session.step(floats(3)).shape == (2,)
    assert session.step(floats(1, 3)).shape == (1, 2)
    assert session.run(floats(5, 3)).shape == (5, 2)
    assert session.run(floats(1, 5, 3)).shape == (1, 5, 2)
    assert session.run(floats(0, 3)).shape == (0, 2)
    assert [a.shape for a in pair.step(floats(2, 3))] == [(2, 2), (2, 4)]
    assert [a.shape for a in pair.run(floats(2, 7, 3))] == [(2, 7, 2), (2, 7, 4)]


def test_outputs_into_given_arrays() -> None:
    session, other = (_engine.StreamSession(small) for small in [small_plan(2)] * 2)
    x, out = floats(3), [np.empty(2, np.float32), np.empty(4, np.float32)]
    got = session.step(x, out=out)
    assert got[0] is out[0]
    rows_equal(out, other.step(x), ...)
    both, apart = np.zeros(7, np.float32), np.zeros(5, np.float32)
    before = session.state_buffer().copy()
    for wrong, message in [
        (out[0], "2 arrays, got 1"),
        ([out[0], np.empty(3, np.float32)], r"out\[1\] must be .* shape \(4,\)"),
        ([out[0], np.empty(4)], "float32"),
        ([both[:2], both[2:6]], "share memory"),
        ([apart[:2], apart[1:5]], "share memory"),
    ]:
        with pytest.raises(ValueError, match=message):
            session.step(both[:3], out=wrong)
    np.testing.assert_array_equal(session.state_buffer(), before)


def test_an_output_may_be_an_input_or_come_twice() -> None:
    x = floats(2, 300, 3)
    op = {"op": "dense", "input": 0, "output": 1, "kernel": floats(3, 5)}
    plan = _engine.Plan([("steps", 3), ("steps", 5)], [op], [0], [1, 0, 1])
    y, same, again = plan.run_batch(x)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(y, again)


def test_python_prepares_what_does_not_fit() -> None:
    seen = []

    class Session(_engine.StreamSession):
        __slots__ = ()

        def _prepare(self, inputs: tuple[Any, ...], run: bool) -> list[Array]:
            seen.append(run)
            return [np.asarray(x, np.float32) for x in inputs]

    plan = small_plan()
    session, plain = Session(plan), _engine.StreamSession(plan)
    x = floats(3)
    np.testing.assert_array_equal(session.step(x.tolist()), plain.step(x))
    np.testing.assert_array_equal(session.run([x.tolist()] * 2), plain.run(np.stack([x, x])))
    session.step(x)
    assert seen == [False, True]
    with pytest.raises(ValueError, match=r"float32 \(\[1, \]3\), got .*float32 \(4,\)"):
        session.step([1, 2, 3, 4])
    with pytest.raises(ValueError, match="expected 1 arrays, got 2"):
        plain.step(x, x)
    with pytest.raises(ValueError, match="got list"):
        plain.step(x.tolist())
    with pytest.raises(TypeError, match="'out'"):
        plain.step(x, into=x)
    unready = Session.__new__(Session)
    with pytest.raises(RuntimeError, match="__init__"):
        unready.step(x)


@pytest.mark.skipif(_engine.allocations() < 0, reason="allocations are counted on Linux only")
def test_a_step_takes_nothing_from_the_heap(isa: str) -> None:
    plan = _engine.Plan(*long_program())
    session, (x, ids) = _engine.StreamSession(plan), long_inputs(1, 3)
    steps = [(x[0, t], ids[0, t : t + 1].reshape(())) for t in range(3)]
    out = session.step(*steps[0])
    before = _engine.allocations()
    assert before > 0
    for _ in range(100):
        for step in steps:
            session.step(*step, out=out)
            session.step(*step)
    assert _engine.allocations() == before
    _engine.StreamSession(plan)
    assert _engine.allocations() > before


def test_no_rows_and_no_steps() -> None:
    plan = _engine.Plan(*long_program())
    for rows, steps in [(0, 3), (2, 0), (0, 0)]:
        x, ids = long_inputs(rows, steps)
        shapes = [a.shape for a in plan.run_batch(x, ids)]
        assert shapes == [(rows, steps, 21), (rows, 2), (rows, 19), (rows, steps, 19)]
    x, ids = long_inputs(1, 0)
    with pytest.raises(ValueError, match="not 0 where an output is a last value"):
        _engine.StreamSession(plan).run(x[0], ids[0])


def test_importing_the_engine_does_not_import_numpy() -> None:
    program = "import sys, recurra._engine; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
