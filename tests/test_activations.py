"""The engine's activations are within a few units of the last place, over the whole range.

`make check-activations` compares them at every float32 number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recurra.cells import ACTIVATIONS
from recurra.engine import Config, cpu

ULP: dict[str, dict[str, float]] = {
    "float32": {"linear": 0, "relu": 0},
    "float64": {"linear": 0, "relu": 0, "tanh": 2.5, "selu": 3},
}
"""Units of the last place that a result may be off; what is not named: 2."""


def grid(dtype: str) -> Any:
    """Numbers of every exponent with random mantissas, powers of two, and a fine grid near zero."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    integer = {"float32": np.uint32, "float64": np.uint64}[dtype]
    exponents = np.arange(2**info.iexp - 1, dtype=integer)[:, None]
    per_exponent = {"float32": 300, "float64": 40}[dtype]
    mantissas = rng.integers(0, 2**info.nmant, (exponents.size, per_exponent), dtype=integer)
    mantissas[:, :3] = [0, 1, 2**info.nmant - 1]
    magnitudes = ((exponents << integer(info.nmant)) | mantissas).view(dtype).ravel()
    magnitudes = np.concatenate([magnitudes, np.linspace(0, 120, 60001, dtype=dtype)])
    return np.concatenate([magnitudes, -magnitudes, np.array([np.inf, -np.inf], dtype)])


def activated(activation: str, x: Any) -> Any:
    """The engine's: a SimpleRNN without recurrence is its activation."""
    one = np.ones((1, 1), x.dtype)
    config = Config("simple_rnn", activation=activation)
    got = cpu.forward(config, x=x[:, None, None], kernel=one, recurrent_kernel=0 * one)
    return got["last_output"][:, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_error_is_a_few_ulp_everywhere(isa: str, activation: str, dtype: str) -> None:
    x = grid(dtype)
    got = activated(activation, x)
    info = np.finfo(dtype)
    expected = exact_activation(activation, x.astype(np.longdouble))
    with np.errstate(over="ignore"):
        rounded = expected.astype(dtype)
    # Infinities and NaN where they belong; an overflow begins within the last unit.
    finite = np.isfinite(rounded) & np.isfinite(got)
    near_the_end = np.abs(expected) > np.longdouble(info.max) * (1 - 4 * np.longdouble(info.eps))
    np.testing.assert_array_equal(got[~finite & ~near_the_end], rounded[~finite & ~near_the_end])
    x, got, expected, rounded = x[finite], got[finite], expected[finite], rounded[finite]
    last_but_one = np.nextafter(info.max, info.dtype.type(0))
    ulp = np.spacing(np.minimum(np.abs(rounded), last_but_one)).astype(np.longdouble)
    allowed = ULP[dtype].get(activation, 2) * ulp
    if dtype == "float64" and activation == "gelu":
        # In float32 it is computed wider. Here a factor may be denormal, and the tail multiplies
        # the rounding of its argument by x^2.
        wide = np.abs(x).astype(np.longdouble)
        allowed += (2 + 2 * wide**2) * ulp + 2 * wide * info.smallest_subnormal
    error = np.abs(got.astype(np.longdouble) - expected)
    worst = int(np.argmax(error - allowed))
    assert error[worst] <= allowed[worst], f"{x[worst]!r}: {error[worst] / ulp[worst]:.2f} ulp"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [("tanh", -1, 1), ("sigmoid", 0, 1), ("hard_sigmoid", 0, 1), ("softsign", -1, 1)],
)
def test_no_value_leaves_the_range(
    isa: str, activation: str, low: float, high: float, dtype: str
) -> None:
    y = activated(activation, grid(dtype)[:-2])
    assert y.min() == low
    assert y.max() == high


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["tanh", "softsign"])
def test_odd_functions_are_odd(isa: str, activation: str, dtype: str) -> None:
    x = grid(dtype)[:-2]
    np.testing.assert_array_equal(activated(activation, -x), -activated(activation, x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_stays_nan(isa: str, activation: str) -> None:
    assert np.isnan(activated(activation, np.full(40, np.nan, np.float32))).all()


def exact_activation(name: str, x: Any) -> Any:
    """The activation in extended precision."""
    from math import erfc

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if name == "linear":
            return x
        if name == "tanh":
            return np.tanh(x)
        if name == "sigmoid":
            e = np.exp(-np.abs(x))
            return np.where(x < 0, e, 1) / (1 + e)
        if name == "hard_sigmoid":
            return np.clip(x / 6 + np.longdouble(0.5), 0, 1)
        if name == "relu":
            return np.maximum(x, 0)
        if name == "softsign":
            return x / (1 + np.abs(x))  # NaN at infinity: inf / inf
        if name == "elu":
            return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        if name == "selu":
            alpha = np.longdouble("1.6732632423543772848170429916717")
            scale = np.longdouble("1.0507009873554804934193349852946")
            return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
        if name == "gelu":
            argument = -x / np.sqrt(np.longdouble(2))
            near = argument.astype(np.float64)
            # erfc of the double next to the argument, and from there along the tangent.
            slope = -2 / np.sqrt(np.longdouble(np.pi)) * np.exp(-(near.astype(np.longdouble) ** 2))
            tail = np.array([erfc(v) for v in near], np.longdouble) + slope * (argument - near)
            return x * np.where(np.isinf(x), x > 0, tail / 2)  # NaN at -infinity
        if name == "silu":
            e = np.exp(-np.abs(x))
            return np.where(np.isneginf(x), 0, x * np.where(x < 0, e, 1) / (1 + e))
        if name == "exponential":
            return np.exp(x)
        if name == "softplus":
            return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    raise AssertionError(name)
