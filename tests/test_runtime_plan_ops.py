"""The compiled plan's operations against NumPy, the recurrent ones against the scan's bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cases import VARIANTS
from programs_of_ops import FUNCTIONS, floats, random, recurrent, rows_equal
from recurra import _engine
from recurra.engine import Config, cpu

Array = NDArray[Any]


def one_op(op: dict[str, Any], x: Array, *, width: int) -> Array:
    """What an op makes of one steps tensor."""
    tensors = [("steps", x.shape[-1]), ("steps", width)]
    ports = {"sequence": 1} if op["op"] == "recurrent" else {"output": 1}
    return _engine.Plan(tensors, [{"input": 0, **ports, **op}], [0], [1]).run_batch(x)


@pytest.mark.parametrize(
    ("name", "parameters", "function"), FUNCTIONS, ids=[f"{f[0]}{f[1]}" for f in FUNCTIONS]
)
def test_activations(isa: str, name: str, parameters: list[float], function: Any) -> None:
    x = 2 * floats(2, 3, 37)
    op = {"op": "activation", "function": name, "parameters": parameters}
    expected = function(x.astype(np.float64))
    np.testing.assert_allclose(one_op(op, x, width=37), expected, rtol=2e-6, atol=2e-6)


def test_gelu_and_prelu(isa: str) -> None:
    x, slope = 2 * floats(2, 3, 19), floats(19)
    op = {"op": "activation", "function": "prelu", "parameters": slope}
    expected = np.where(x < 0, slope * x, x)
    np.testing.assert_array_equal(one_op(op, x, width=19), expected)
    gelu = one_op({"op": "activation", "function": "gelu"}, x, width=19)
    same = recurrent("simple_rnn", 19, 19, activation="gelu")
    same |= {"kernel": np.eye(19, dtype=np.float32), "bias": None}
    same["recurrent_kernel"] = np.zeros((19, 19), np.float32)
    np.testing.assert_array_equal(gelu, one_op(same, x, width=19))


@pytest.mark.parametrize("units", [1, 2, 3, 5, 8, 40, 129])
@pytest.mark.parametrize("bias", [True, False])
def test_dense(isa: str, units: int, bias: bool) -> None:
    x, kernel = floats(7, 11, 23), floats(23, units)
    b = floats(units) if bias else None
    expected = x.astype(np.float64) @ kernel + (0 if b is None else b)
    got = one_op({"op": "dense", "kernel": kernel, "bias": b}, x, width=units)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    row = _engine.Plan(
        [("row", 23), ("row", units)],
        [{"op": "dense", "input": 0, "output": 1, "kernel": kernel, "bias": b}],
        [0],
        [1],
    )
    np.testing.assert_array_equal(row.run_batch(np.ascontiguousarray(x[:, 3])), got[:, 3])


@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (2, 1), (3, 4), (5, 2)])
@pytest.mark.parametrize("units", [1, 12])
def test_causal_convolutions(isa: str, taps: int, dilation: int, units: int) -> None:
    x, kernel, bias = floats(3, 150, 4), floats(taps, 4, units), floats(units)
    op = {"op": "conv", "name": "c", "kernel": kernel, "bias": bias, "dilation": dilation}
    past = np.zeros((3, (taps - 1) * dilation, 4))
    padded = np.concatenate([past, x], 1).astype(np.float64)
    expected = sum(padded[:, k * dilation :][:, :150] @ kernel[k] for k in range(taps)) + bias
    np.testing.assert_allclose(one_op(op, x, width=units), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("centered", [True, False])
def test_layer_normalization(isa: str, groups: int, centered: bool) -> None:
    x, scale, offset = 3 + floats(2, 5, 33), floats(33), floats(33)
    op = {"op": "layer_norm", "groups": groups, "centered": centered, "epsilon": 0.01}
    g = x.astype(np.float64).reshape(2, 5, groups, -1)
    g = g - g.mean(-1, keepdims=True) if centered else g
    expected = (g / np.sqrt((g * g).mean(-1, keepdims=True) + 0.01)).reshape(x.shape)
    np.testing.assert_allclose(one_op(op, x, width=33), expected, rtol=1e-5, atol=1e-5)
    got = one_op({**op, "scale": scale, "offset": offset}, x, width=33)
    np.testing.assert_allclose(got, expected * scale + offset, rtol=1e-5, atol=1e-5)


def test_affine(isa: str) -> None:
    x, shift, scale, offset = floats(2, 5, 13), floats(13), floats(13), floats(13)
    op = {"op": "affine", "shift": shift, "scale": scale, "offset": offset}
    np.testing.assert_array_equal(one_op(op, x, width=13), (x - shift) * scale + offset)


MERGES: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "average": lambda a, b: (a + b) / np.float32(2),
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@pytest.mark.parametrize("function", MERGES)
def test_merges_and_concat(isa: str, function: str) -> None:
    a, b = floats(2, 5, 13), floats(2, 5, 13)
    tensors = [("steps", 13)] * 3 + [("steps", 39)]
    ops = [
        {"op": "merge", "function": function, "inputs": [0, 1], "output": 2},
        {"op": "concat", "inputs": [2, 0, 2], "output": 3},
    ]
    merged, joined = _engine.Plan(tensors, ops, [0, 1], [2, 3]).run_batch(a, b)
    np.testing.assert_array_equal(merged, MERGES[function](a, b))
    np.testing.assert_array_equal(joined, np.concatenate([merged, a, merged], -1))


def test_masks_choose_steps(isa: str) -> None:
    x, other = floats(2, 9, 4), floats(2, 9, 4)
    x[random.random((2, 9)) < 0.5] = 1.5
    given = random.random((2, 9)) < 0.5
    tensors = [
        *[("steps", 4)] * 2,
        ("mask", 1),
        ("steps", 4),
        *[("mask", 1)] * 3,
        *[("steps", 4)] * 3,
    ]
    ops = [
        {"op": "masking", "input": 0, "output": 3, "mask": 4, "value": 1.5},
        {"op": "mask_and", "inputs": [2, 4], "output": 5},
        {"op": "mask_or", "inputs": [2, 4], "output": 6},
        {"op": "where", "mask": 5, "input": 0, "other": 1, "output": 7},
        {"op": "where", "mask": 6, "input": 0, "value": -1.0, "output": 8},
        {"op": "where", "mask": 2, "input": 0, "value": -1.0, "output": 9},
    ]
    plan = _engine.Plan(tensors, ops, [0, 1, 2], [3, 7, 8, 9])
    kept = (x != 1.5).any(-1)[..., None]
    for mask in (given, None):
        m = np.ones((2, 9, 1), bool) if mask is None else mask[..., None]
        got = plan.run_batch(x, other, mask)
        expected = [
            np.where(kept, x, 0),
            np.where(kept & m, x, other),
            np.where(kept | m, x, -1),
            np.where(m, x, -1),
        ]
        rows_equal(got, expected, ...)


def test_last_steps_and_repeated_rows(isa: str) -> None:
    x, row = floats(2, 300, 3), floats(2, 5)
    tensors = [("steps", 3), ("row", 5), ("row", 3), ("steps", 5)]
    ops = [{"op": "last", "input": 0, "output": 2}, {"op": "repeat", "input": 1, "output": 3}]
    last, repeated = _engine.Plan(tensors, ops, [0, 1], [2, 3]).run_batch(x, row)
    np.testing.assert_array_equal(last, x[:, -1])
    np.testing.assert_array_equal(repeated, np.repeat(row[:, None], 300, 1))


@pytest.mark.parametrize("activations", [{}, {"activation": "relu"}])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("units", [5, 70])
def test_recurrent_layers_have_the_bits_of_the_scan(
    isa: str, variant: tuple[str, Any], activations: Any, masked: bool, units: int
) -> None:
    cell, options = variant
    rows, steps, features = 5, 40, 9
    op = recurrent(cell, features, units, **options, **activations)
    weights = {key: op[key] for key in ("kernel", "recurrent_kernel", "bias")}
    states = [floats(rows, units) for _ in range(1 + (cell == "lstm"))]
    x, mask = floats(rows, steps, features), random.random((rows, steps)) < 0.6
    mask[0, 3:] = mask[1] = False
    tensors: list[tuple[str, int]] = [
        ("steps", features),
        ("mask", 1),
        ("row", units),
        ("row", units),
    ]
    tensors += [("steps", units), ("row", units), ("row", units), ("row", units)]
    op |= {"input": 0, "mask": 1 if masked else -1, "sequence": 4, "last_output": 5, "state_h": 6}
    op |= {"initial": [2, 3][: len(states)]} | ({"state_c": 7} if cell == "lstm" else {})
    names = ["sequence", "last_output", *(f"state_{s}" for s in "hc"[: len(states)])]
    inputs = [0, *([1] if masked else []), *op["initial"]]
    plan = _engine.Plan(tensors, [op], inputs, [4, 5, 6, 7][: len(names)])
    config = Config.from_numbers(op["numbers"])
    expected = cpu.forward(
        config,
        x=x,
        **weights,
        mask=mask if masked else None,
        **dict(zip(("h0", "c0"), states, strict=False)),
    )
    got = plan.run_batch(x, *([mask] if masked else []), *states)
    rows_equal(got, [expected[name] for name in names], ...)

    session = _engine.StreamSession(plan, rows)
    for t in range(steps):
        step = [np.ascontiguousarray(x[:, t])]
        step += [np.ascontiguousarray(mask[:, t])] if masked else []
        # The initial states of later steps do not matter.
        out = session.step(*step, *(s if t == 0 else np.full_like(s, np.nan) for s in states))
        np.testing.assert_array_equal(out[0], expected["sequence"][:, t])
    rows_equal(out[1:], [expected[name] for name in names[1:]], ...)
