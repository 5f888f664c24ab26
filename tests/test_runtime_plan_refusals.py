"""What the compiled plan refuses: it is made from files that anybody may have written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from programs_of_ops import floats, long_inputs, long_program, recurrent, small_plan
from recurra import _engine
from recurra.engine import Config


def test_indices_beyond_a_table_leave_the_state_as_it_was() -> None:
    plan = _engine.Plan(*long_program())
    session, (x, ids) = _engine.StreamSession(plan), long_inputs(1, 4)
    session.run(x[0], ids[0])
    before = session.state_buffer().copy()
    for wrong in (7, -1, 2**31 - 1):
        ids[0, 2] = wrong
        with pytest.raises(ValueError, match=rf"'embedding'.* in 0\.\.6, got {wrong}"):
            session.run(x[0], ids[0])
        with pytest.raises(ValueError, match=str(wrong)):
            plan.run_batch(x, ids)
    np.testing.assert_array_equal(session.state_buffer(), before)


def test_step_many_refuses_sessions_that_do_not_fit() -> None:
    plan, x = small_plan(), floats(2, 3)
    first, second = _engine.StreamSession(plan), _engine.StreamSession(plan)
    for sessions, message in [
        ([first, first], "twice"),
        ([first, _engine.StreamSession(plan, 2)], "2 rows"),
        ([first, _engine.StreamSession(small_plan())], "another plan"),
        ([first, second, _engine.StreamSession(plan)], "expected"),
        ([], "no sessions"),
    ]:
        with pytest.raises(ValueError, match=message):
            _engine.step_many(sessions, x)
    with pytest.raises(TypeError, match="StreamSession"):
        _engine.step_many([first, None], x)


TENSORS = [("steps", 3), ("steps", 4), ("row", 4), ("mask", 1), ("ids", 1), ("steps", 3)]
LSTM = recurrent("lstm", 3, 4, input=0, sequence=1)
DENSE = {"op": "dense", "input": 0, "output": 1, "kernel": floats(3, 4)}
CONV = {"op": "conv", "name": "c", "input": 0, "output": 1, "kernel": floats(2, 3, 4)}
EMBEDDING = {"op": "embedding", "name": "e", "input": 4, "output": 1, "table": floats(5, 4)}


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ({**DENSE, "op": "lambda"}, "op must be recurrent"),
        ({**DENSE, "kernal": 1}, "unknown key 'kernal'"),
        ({**DENSE, "input": 17}, "below 6, got 17"),
        ({**DENSE, "input": -1}, "got -1"),
        ({**DENSE, "input": 5}, "neither an input nor written"),
        ({**DENSE, "input": 4}, "must be of kind 'steps', it is 'ids'"),
        ({**DENSE, "output": 0}, "tensor 0 is an input or written"),
        ({**DENSE, "output": 2}, "must be of kind 'steps', it is 'row'"),
        ({**DENSE, "kernel": floats(2, 4)}, r"kernel must have shape \(3, 4\), got \(2, 4\)"),
        ({**DENSE, "kernel": None}, "got none"),
        ({**DENSE, "kernel": np.zeros((3, 4), complex)}, "C-contiguous float32"),
        ({**DENSE, "bias": floats(3)}, r"bias must have shape \(4,\)"),
        ({**CONV, "dilation": 0}, "dilation must be"),
        ({**CONV, "dilation": 2**40}, "dilation must be"),
        ({**CONV, "dilation": 2**27 - 1}, "too large"),
        ({**CONV, "kernel": floats(0, 3, 4)}, "kernel must have shape"),
        ({**EMBEDDING, "table": floats(0, 4)}, "table must have shape"),
        ({**EMBEDDING, "table": floats(5, 3)}, "table must have shape"),
        ({**EMBEDDING, "input": 0}, "must be of kind 'ids'"),
        ({**LSTM, "units": 0}, "units must be"),
        ({**LSTM, "units": 2**40}, "units must be"),
        ({**LSTM, "units": 5}, r"kernel must have shape \(3, 20\)"),
        ({**LSTM, "recurrent_kernel": floats(16, 4)}, "recurrent_kernel must have shape"),
        ({**LSTM, "bias": floats(2, 16)}, "bias must have shape"),
        ({**LSTM, "numbers": [0] * 7}, "numbers must be 8"),
        ({**LSTM, "numbers": [9, *LSTM["numbers"][1:]]}, "cell must be in"),
        ({**LSTM, "numbers": Config("lstm", go_backwards=True).numbers}, "whole sequence"),
        ({**LSTM, "numbers": Config("lstm", bfloat16=True).numbers}, "float32"),
        ({**LSTM, "mask": 0}, "must be of kind 'mask'"),
        ({**LSTM, "initial": [2]}, "initial must be 2 tensors, got 1"),
        ({**LSTM, "initial": [2, 2]}, "neither an input"),
        ({**LSTM, "sequence": 5}, "must have width 4, it has 3"),
        ({"op": "activation", "function": "swoosh", "input": 0, "output": 5}, "got 'swoosh'"),
        (
            {"op": "activation", "function": "tanh", "parameters": [1], "input": 0, "output": 5},
            "0 parameters, got 1",
        ),
        ({"op": "layer_norm", "groups": 2, "input": 0, "output": 5}, "groups must divide"),
        ({"op": "layer_norm", "scale": floats(2), "input": 0, "output": 5}, "scale must have"),
        ({"op": "affine", "input": 0, "output": 5}, "shift must have shape"),
        ({"op": "merge", "function": "add", "inputs": [], "output": 5}, "0 inputs"),
        ({"op": "merge", "function": "and", "inputs": [0], "output": 5}, "got 'and'"),
        ({"op": "concat", "inputs": [0, 0], "output": 5}, "must have width 6"),
        ({"op": "mask_or", "inputs": [0], "output": 3}, "must be of kind 'mask'"),
        ("dense", "must be a dict"),
    ],
    ids=str,
)
def test_wrong_programs_are_refused(op: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _engine.Plan(TENSORS, [op], [0, 4], [1])


def test_wrong_inputs_outputs_and_tensors_are_refused() -> None:
    for tensors, inputs, outputs, message in [
        (TENSORS, [0, 0], [1], "twice"),
        (TENSORS, [99], [1], "got 99"),
        (TENSORS, [0], [5], "no operation writes tensor 5"),
        (TENSORS, [0], [-1], "no operation writes"),
        (TENSORS, [0], [], "one or more"),
        (TENSORS, [0, 4], [4], "'steps' or 'row'"),
        ([("steps", 3), ("steps", 0)], [0], [1], "width must be in"),
        ([("steps", 3), ("steps", 2**40)], [0], [1], "width must be in"),
        ([("steps", 3), ("stops", 4)], [0], [1], "got 'stops'"),
        ([("steps", 3), "steps"], [0], [1], r"\(kind, width\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            _engine.Plan(tensors, [DENSE], inputs, outputs)
    second = recurrent("lstm", 4, 3, input=1, sequence=5)
    with pytest.raises(ValueError, match="'lstm/hidden_state' already"):
        _engine.Plan(TENSORS, [LSTM, second], [0], [5])
    tensors = [("steps", 3), ("steps", 4), ("row", 4), ("row", 4), ("steps", 4)]
    first = {**LSTM, "state_h": 2, "state_c": 3}
    second = recurrent("lstm", 4, 4, name="next", input=1, sequence=4, initial=[2, 3])
    with pytest.raises(ValueError, match="depends on a sequence"):
        _engine.Plan(tensors, [first, second], [0], [4])
    ops = [LSTM | {"last_output": 2}, {"op": "repeat", "input": 2, "output": 4}]
    with pytest.raises(ValueError, match="whose end its first steps cannot know"):
        _engine.Plan(tensors, ops, [0], [4])
    doubled = [("steps", 2**24)] * 30
    ops = [{"op": "activation", "input": i, "output": i + 1, "function": "tanh"} for i in range(29)]
    with pytest.raises(ValueError, match="one step take more than"):
        _engine.Plan(doubled, ops, [0], [29])
    for batch in (0, -1, 2**62):
        with pytest.raises(ValueError, match="batch must be 1 or more"):
            _engine.StreamSession(small_plan(), batch)


def test_plans_have_at_most_64_inputs_and_outputs() -> None:
    tensors, arrays = [("steps", 3)] * 65, [floats(2, 5, 3) for _ in range(64)]
    plan = _engine.Plan(tensors, [], range(64), [0] * 64)
    assert all((y == arrays[0]).all() for y in plan.run_batch(*arrays))
    for inputs, outputs in [(range(65), [0]), ([0], [0] * 65)]:
        with pytest.raises(ValueError, match="at most 64 inputs"):
            _engine.Plan(tensors, [], inputs, outputs)
