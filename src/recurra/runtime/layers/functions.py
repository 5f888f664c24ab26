"""Keras's activation functions on float32 arrays.

Each takes an array, then its parameters, and returns a new array (or the same one if nothing
changes). Numbers stay float32; nothing overflows on the way where the result itself is finite.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from recurra.runtime.layer import Array


def linear(x: Array) -> Array:
    return x


def relu(
    x: Array, negative_slope: float = 0.0, max_value: float = math.inf, threshold: float = 0.0
) -> Array:
    if threshold == 0.0:
        above = np.maximum(x, 0.0)
        below = np.minimum(x, 0.0)
    else:
        above = np.where(x > threshold, x, np.float32(0))
        below = np.minimum(x - threshold, 0.0)
    if max_value != math.inf:
        above = np.minimum(above, max_value)
    return above + negative_slope * below if negative_slope != 0.0 else above


def leaky_relu(x: Array, negative_slope: float = 0.2) -> Array:
    return np.where(x >= 0, x, negative_slope * x)


def relu6(x: Array) -> Array:
    return np.clip(x, 0.0, 6.0)


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: Array) -> Array:
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def celu(x: Array, alpha: float = 1.0) -> Array:
    return np.maximum(x, 0.0) + alpha * np.expm1(np.minimum(x, 0.0) / alpha)


def sigmoid(x: Array) -> Array:
    # exp of numbers below zero only, so that it never overflows.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, np.float32(1), e) / (1.0 + e)


def tanh(x: Array) -> Array:
    return np.tanh(x)


def exponential(x: Array) -> Array:
    return np.exp(x)


def softplus(x: Array) -> Array:
    return np.logaddexp(x, np.float32(0))


def softsign(x: Array) -> Array:
    return x / (1.0 + np.abs(x))


def squareplus(x: Array, b: float = 4.0) -> Array:
    return 0.5 * (x + np.sqrt(np.square(x) + b))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def mish(x: Array) -> Array:
    return x * np.tanh(softplus(x))


def hard_sigmoid(x: Array) -> Array:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


def hard_silu(x: Array) -> Array:
    return x * hard_sigmoid(x)


def hard_tanh(x: Array) -> Array:
    return np.clip(x, -1.0, 1.0)


def tanh_shrink(x: Array) -> Array:
    return x - np.tanh(x)


def hard_shrink(x: Array, threshold: float = 0.5) -> Array:
    return np.where(np.abs(x) > threshold, x, np.float32(0))


def soft_shrink(x: Array, threshold: float = 0.5) -> Array:
    shrunk = np.where(x < -threshold, x + threshold, np.float32(0))
    return np.where(x > threshold, x - threshold, shrunk)


def threshold(x: Array, threshold: float, default_value: float) -> Array:
    return np.where(x > threshold, x, np.float32(default_value))


def log_sigmoid(x: Array) -> Array:
    return -softplus(-x)


def sparse_sigmoid(x: Array) -> Array:
    return 0.5 * np.clip(x + 1.0, 0.0, 2.0)


def sparse_plus(x: Array) -> Array:
    curve = 0.25 * np.square(np.clip(x, -1.0, 1.0) + 1.0)
    return np.where(x >= 1.0, x, curve)


def gelu(x: Array, approximate: bool = False) -> Array:
    if approximate:
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
        return 0.5 * x * (1.0 + np.tanh(inner))
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


def softmax(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Array, axis: int = -1) -> Array:
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def sparsemax(x: Array, axis: int = -1) -> Array:
    x = np.moveaxis(x, axis, -1)
    falling = -np.sort(-x, axis=-1)
    total = np.cumsum(falling, axis=-1)
    count = np.arange(1, x.shape[-1] + 1, dtype=np.float32)
    support = falling - (total - 1.0) / count > 0
    k = np.sum(support, axis=-1, keepdims=True, dtype=np.float32)
    tau = (np.sum(np.where(support, total, np.float32(0)), axis=-1, keepdims=True) - 1.0) / k
    return np.moveaxis(np.maximum(x - tau, 0.0), -1, axis)


def glu(x: Array, axis: int = -1) -> Array:
    value, gate = np.split(x, 2, axis=axis)
    return value * sigmoid(gate)


ACTIVATIONS = (
    linear,
    relu,
    leaky_relu,
    relu6,
    elu,
    selu,
    celu,
    sigmoid,
    tanh,
    exponential,
    softplus,
    softsign,
    squareplus,
    silu,
    mish,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    tanh_shrink,
    hard_shrink,
    soft_shrink,
    threshold,
    log_sigmoid,
    sparse_sigmoid,
    sparse_plus,
    gelu,
    softmax,
    log_softmax,
    sparsemax,
    glu,
)
"""All of Keras's activations."""

_ERF_END = 4.0  # erf(4) is 1 in float32


@cache
def _erf_coefficients() -> Array:
    """Chebyshev coefficients of erf(x) / x over x * x in 0..16."""
    n = 32
    angles = np.pi * (np.arange(n) + 0.5) / n
    squares = 0.5 * _ERF_END**2 * (np.cos(angles) + 1.0)
    values = np.array([math.erf(math.sqrt(s)) / math.sqrt(s) for s in squares.tolist()])
    coefficients = 2.0 / n * np.cos(np.outer(np.arange(n), angles)) @ values
    coefficients[0] /= 2.0
    return coefficients


def erf(x: Array) -> Array:
    """The error function, within 1e-7 of the true one everywhere (NumPy has none)."""
    wide = np.clip(x.astype(np.float64), -_ERF_END, _ERF_END)
    t = 2.0 / _ERF_END**2 * np.square(wide) - 1.0
    last, one = np.zeros_like(t), np.zeros_like(t)
    for coefficient in _erf_coefficients()[:0:-1]:  # Clenshaw's recurrence
        last, one = one, coefficient + 2.0 * t * one - last
    value = wide * (_erf_coefficients()[0] + t * one - last)
    return np.where(np.abs(x) >= _ERF_END, np.sign(x), value).astype(np.float32)
