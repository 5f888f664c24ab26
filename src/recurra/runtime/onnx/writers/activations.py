"""Keras's activation functions as ONNX operators, and as options of the recurrent operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from recurra.runtime.layers.activations import Activation
from recurra.runtime.onnx.builder import Builder


class RecurrentActivation(NamedTuple):
    """An activation inside ONNX's LSTM, GRU and RNN: its name, alpha and beta if it has them."""

    name: str
    alpha: float | None = None
    beta: float | None = None


RECURRENT = (
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "relu",
    "leaky_relu",
    "elu",
    "softsign",
    "softplus",
    "linear",
)
"""Keras's names of the activations that the recurrent operators have."""


def recurrent_activation(function: Activation) -> RecurrentActivation | None:
    """What the recurrent operators call an activation; None if they do not have it.

    Example:
        >>> recurrent_activation(Activation("tanh"))
        RecurrentActivation(name='Tanh', alpha=None, beta=None)
    """
    name, parameters = function.name, function.parameters
    if name == "relu":
        slope, highest, threshold = parameters or (0.0, math.inf, 0.0)
        if highest != math.inf or (slope and threshold):
            return None
        if threshold:
            return RecurrentActivation("ThresholdedRelu", threshold)
        return RecurrentActivation("LeakyRelu", slope) if slope else RecurrentActivation("Relu")
    alpha = parameters[0] if parameters else None
    return {
        "tanh": RecurrentActivation("Tanh"),
        "sigmoid": RecurrentActivation("Sigmoid"),
        "hard_sigmoid": RecurrentActivation("HardSigmoid", 1 / 6, 0.5),
        "linear": RecurrentActivation("Affine", 1.0, 0.0),
        "leaky_relu": RecurrentActivation("LeakyRelu", 0.2 if alpha is None else alpha),
        "elu": RecurrentActivation("Elu", 1.0 if alpha is None else alpha),
        "softsign": RecurrentActivation("Softsign"),
        "softplus": RecurrentActivation("Softplus"),
    }.get(name)


def write_activation(b: Builder, function: Activation, x: str) -> str:
    """The operators of an activation; the name of the result."""
    if function.name == "linear":
        return x
    simple = _SIMPLE.get(function.name)
    if simple is not None:
        return b.op(simple, x)
    return _WRITERS[function.name](b, x, *function.parameters)


_SIMPLE = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exponential": "Exp",
    "softplus": "Softplus",
    "softsign": "Softsign",
}


def _clip(b: Builder, x: str, low: float, high: float) -> str:
    return b.op("Clip", x, b.constant(low), b.constant(high))


def _relu(
    b: Builder, x: str, slope: float = 0.0, highest: float = math.inf, threshold: float = 0.0
) -> str:
    if threshold == 0.0:
        above = b.op("Relu", x)
    else:
        over = b.op("Greater", x, b.constant(threshold))
        above = b.op("Where", over, x, b.constant(0.0))
    if highest != math.inf:
        above = b.op("Min", above, b.constant(highest))
    if slope == 0.0:
        return above
    shifted = b.op("Sub", x, b.constant(threshold)) if threshold else x
    below = b.op("Min", shifted, b.constant(0.0))
    return b.op("Add", above, b.op("Mul", b.constant(slope), below))


def _expm1_below(b: Builder, x: str) -> str:
    """exp(min(x, 0)) - 1."""
    lowered = b.op("Min", x, b.constant(0.0))
    return b.op("Elu", lowered, alpha=1.0)


def _celu(b: Builder, x: str, alpha: float = 1.0) -> str:
    scaled = b.op("Div", x, b.constant(alpha))
    below = b.op("Mul", b.constant(alpha), _expm1_below(b, scaled))
    return b.op("Add", b.op("Relu", x), below)


def _squareplus(b: Builder, x: str, square: float = 4.0) -> str:
    root = b.op("Sqrt", b.op("Add", b.op("Mul", x, x), b.constant(square)))
    return b.op("Mul", b.op("Add", x, root), b.constant(0.5))


def _gelu(b: Builder, x: str, approximate: float = 0.0) -> str:
    if approximate:
        cube = b.op("Mul", b.op("Mul", x, x), x)
        inner = b.op("Add", x, b.op("Mul", cube, b.constant(0.044715)))
        bent = b.op("Tanh", b.op("Mul", inner, b.constant(math.sqrt(2.0 / math.pi))))
    else:
        bent = b.op("Erf", b.op("Mul", x, b.constant(math.sqrt(0.5))))
    return b.op("Mul", b.op("Mul", x, b.constant(0.5)), b.op("Add", bent, b.constant(1.0)))


def _hard_sigmoid(b: Builder, x: str) -> str:
    return b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _threshold(b: Builder, x: str, threshold: float, default: float) -> str:
    return b.op("Where", b.op("Greater", x, b.constant(threshold)), x, b.constant(default))


def _hard_shrink(b: Builder, x: str, threshold: float = 0.5) -> str:
    large = b.op("Greater", b.op("Abs", x), b.constant(threshold))
    return b.op("Where", large, x, b.constant(0.0))


def _soft_shrink(b: Builder, x: str, threshold: float = 0.5) -> str:
    return b.op("Shrink", x, bias=threshold, lambd=threshold)


def _sparse_plus(b: Builder, x: str) -> str:
    raised = b.op("Add", _clip(b, x, -1.0, 1.0), b.constant(1.0))
    curve = b.op("Mul", b.op("Mul", raised, raised), b.constant(0.25))
    return b.op("Where", b.op("GreaterOrEqual", x, b.constant(1.0)), x, curve)


def _softmax(kind: str) -> Callable[..., str]:
    return lambda b, x, axis=-1.0: b.op(kind, x, axis=int(axis))


def _glu(b: Builder, x: str, axis: float = -1.0) -> str:
    value, gate = b.ops("Split", [x], 2, axis=int(axis))
    return b.op("Mul", value, b.op("Sigmoid", gate))


def _sparsemax(b: Builder, x: str, axis: float = -1.0) -> str:
    """What is above a threshold that Keras finds from the sorted numbers and their sums."""
    place = int(axis)
    count = b.op("Shape", x)
    along = b.op("Gather", count, b.ints(place), axis=0)
    falling, _ = b.ops("TopK", [x, along], 2, axis=place, largest=1, sorted=1)
    total = b.op("CumSum", falling, b.constant(place, "int64"))
    ones = b.op("ConstantOfShape", count, value=_one())
    k = b.op("CumSum", ones, b.constant(place, "int64"))
    margin = b.op("Sub", falling, b.op("Div", b.op("Sub", total, b.constant(1.0)), k))
    support = b.op("Greater", margin, b.constant(0.0))
    size = b.op("ReduceSum", b.cast(support, "float32"), b.ints(place), keepdims=1)
    kept = b.op("Where", support, total, b.constant(0.0))
    over = b.op("Sub", b.op("ReduceSum", kept, b.ints(place), keepdims=1), b.constant(1.0))
    return b.op("Relu", b.op("Sub", x, b.op("Div", over, size)))


def _one() -> object:
    import numpy as np

    from recurra.runtime.onnx.package import onnx

    return onnx().numpy_helper.from_array(np.ones(1, np.float32))


_WRITERS: dict[str, Callable[..., str]] = {
    "relu": _relu,
    "leaky_relu": lambda b, x, slope=0.2: b.op("LeakyRelu", x, alpha=slope),
    "relu6": lambda b, x: _clip(b, x, 0.0, 6.0),
    "elu": lambda b, x, alpha=1.0: b.op("Elu", x, alpha=alpha),
    "selu": lambda b, x: b.op("Selu", x),
    "celu": _celu,
    "squareplus": _squareplus,
    "silu": lambda b, x: b.op("Mul", x, b.op("Sigmoid", x)),
    "mish": lambda b, x: b.op("Mul", x, b.op("Tanh", b.op("Softplus", x))),
    "gelu": _gelu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda b, x: b.op("Mul", x, _hard_sigmoid(b, x)),
    "hard_tanh": lambda b, x: _clip(b, x, -1.0, 1.0),
    "tanh_shrink": lambda b, x: b.op("Sub", x, b.op("Tanh", x)),
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "threshold": _threshold,
    "log_sigmoid": lambda b, x: b.op("Neg", b.op("Softplus", b.op("Neg", x))),
    "sparse_sigmoid": lambda b, x: b.op(
        "Mul", _clip(b, b.op("Add", x, b.constant(1.0)), 0.0, 2.0), b.constant(0.5)
    ),
    "sparse_plus": _sparse_plus,
    "softmax": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"),
    "sparsemax": _sparsemax,
    "glu": _glu,
}
