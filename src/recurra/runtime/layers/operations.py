"""Functions of keras.ops that a model calls on its tensors: x + y, x[:, -1], ops.mean(x, axis=1).

Keras writes them into a model as operations: objects without variables, called with tensors and
constants. Each row of the batch has to be computed by itself, so what mixes rows is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurra.runtime.create import Description
from recurra.runtime.custom import filled
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.layer import Array, Call, Layer, Result, Shape
from recurra.runtime.layers import activations
from recurra.runtime.layers.config import LARGEST_ROW, shown

Function = Callable[..., Any]

_FREE = ((3, 4), (5, 7))
"""Sizes that stand for the batch and for other free axes when a shape is looked up."""


class Slot(NamedTuple):
    """Stands for a call's tensor of that number in its arguments."""

    number: int


class Operation(Layer):
    """A call of a function of keras.ops."""

    def __init__(self, found: Description, where: str, function: Function, shape: Function) -> None:
        super().__init__(found.config, where)
        self.keras_class = found.class_name
        self._function, self._shape = function, shape
        self.arguments: Sequence[Any] = ()
        self.keywords: Mapping[str, Any] = {}

    def called_with(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Operation:
        """The operation with the arguments of one call, in which Slots stand for tensors."""
        made = Operation.__new__(Operation)
        made.__dict__.update(self.__dict__)
        made.arguments, made.keywords = arguments, keywords
        return made

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Looked up for two sizes of every free axis."""
        small, large = (self._try(shapes, size) for size in _FREE)
        return [tuple(a if a == b else None for a, b in zip(small, large, strict=True))]

    def _try(self, shapes: Sequence[Shape], free: tuple[int, int]) -> tuple[int, ...]:
        zero = np.float32(0)
        sizes = [filled(shape, free) for shape in shapes]
        inputs = [np.broadcast_to(zero, size) for size in sizes]
        try:
            found = self._shape(*self._filled(inputs), config=self.config, **self._named(inputs))
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            raise self.fail(
                f"it does not fit its inputs of shapes {shown(shapes)}: {str(error)[:200]}."
            ) from None
        if not found or found[0] != sizes[0][0]:
            raise self.unsupported(
                "it does not keep the rows of a batch apart, and the runtime computes each by "
                "itself. Do this outside of the model."
            )
        if np.prod(found[1:], dtype=np.float64) > LARGEST_ROW:
            raise self.fail(f"its output would have shape {shown(found)}, which is too large.")
        return tuple(int(n) for n in found)

    def compute(self, call: Call) -> Result:
        """The function's result; masks end here, as in Keras."""
        with np.errstate(all="ignore"):
            made = self._function(
                *self._filled(call.inputs), config=self.config, **self._named(call.inputs)
            )
        array = np.asarray(made)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return Result([array], [None])

    def _filled(self, inputs: Sequence[Array]) -> list[Any]:
        return [_fill(each, inputs) for each in self.arguments]

    def _named(self, inputs: Sequence[Array]) -> dict[str, Any]:
        return {name: _fill(each, inputs) for name, each in self.keywords.items()}


def make_operation(found: Description, where: str) -> Operation:
    """The operation that a description stands for.

    Raises:
        UnsupportedLayerError: if the runtime has no code for it.
    """
    pair = OPERATIONS.get(found.class_name)
    if pair is None:
        raise UnsupportedLayerError(
            f"Operation '{where}' (keras.ops, {found.class_name}): the runtime has no code for it; "
            "it has "
            f"{', '.join(sorted(OPERATIONS))}. Write it with these, or put it into a layer of your "
            "own and give a NumPy function for that."
        )
    return Operation(found, where, *pair)


def _fill(value: Any, inputs: Sequence[Array]) -> Any:
    if isinstance(value, Slot):
        return inputs[value.number]
    if isinstance(value, (list, tuple)):
        return [_fill(each, inputs) for each in value]
    if isinstance(value, float):
        return np.float32(value)
    return value


# --- Elementwise ---


def _elementwise(function: Function) -> tuple[Function, Function]:
    def compute(*values: Any, config: Mapping[str, Any], **keywords: Any) -> Array:
        return function(*values, *keywords.values())

    def shape(*values: Any, config: Mapping[str, Any], **keywords: Any) -> tuple[int, ...]:
        return np.broadcast_shapes(*(np.shape(v) for v in (*values, *keywords.values())))

    return compute, shape


def _same_shape(function: Function) -> tuple[Function, Function]:
    """Of one array and the configuration, with a result of the same shape."""

    def compute(x: Array, config: Mapping[str, Any], **keywords: Any) -> Array:
        return function(x, config)

    def shape(x: Array, config: Mapping[str, Any], **keywords: Any) -> tuple[int, ...]:
        if "axis" in config and config["axis"] is not None and x.ndim:
            axes = config["axis"] if isinstance(config["axis"], list) else [config["axis"]]
            if 0 in [axis % x.ndim for axis in axes]:
                return ()
        return x.shape

    return compute, shape


def _activation(name: str, *parameters: str) -> tuple[Function, Function]:
    def function(x: Array, config: Mapping[str, Any]) -> Array:
        given = {key: config[key] for key in parameters if config.get(key) is not None}
        return activations.make(name, **given)(x.astype(np.float32, copy=False))

    return _same_shape(function)


def _power(x: Any, y: Any) -> Any:
    return np.power(x, y)


# --- Reductions ---


def _reduction(function: Function) -> tuple[Function, Function]:
    def options(x: Array, config: Mapping[str, Any]) -> tuple[tuple[int, ...], bool]:
        axis = config.get("axis")
        listed = range(x.ndim) if axis is None else axis if isinstance(axis, list) else [axis]
        for each in listed:
            if not -x.ndim <= each < x.ndim:
                raise ValueError(f"axis {each} of an array of {x.ndim}")
        return tuple(each % x.ndim for each in listed), bool(config.get("keepdims", False))

    def compute(x: Array, config: Mapping[str, Any], **keywords: Any) -> Array:
        axes, keep = options(x, config)
        return function(x, axis=axes, keepdims=keep)

    def shape(x: Array, config: Mapping[str, Any], **keywords: Any) -> tuple[int, ...]:
        axes, keep = options(x, config)
        if 0 in axes:
            return ()
        kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
        return tuple(n for i, n in enumerate(kept) if keep or i not in axes)

    return compute, shape


# --- Shapes ---


def _view(function: Function) -> tuple[Function, Function]:
    """Of functions that make no new numbers: tried on an array that takes no memory."""

    def compute(x: Array, *more: Any, config: Mapping[str, Any], **keywords: Any) -> Array:
        return function(x, *more, config=config, **keywords)

    def shape(x: Array, *more: Any, config: Mapping[str, Any], **keywords: Any) -> tuple[int, ...]:
        made = function(x, *more, config=config, **keywords)
        # Rows that are turned round or moved would keep the shape; a view of them shows it.
        count = np.arange(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))
        rows = function(np.broadcast_to(count, x.shape), *more, config=config, **keywords)
        kept = rows.ndim > 0 and (
            rows.size == 0
            or np.array_equal(rows[(slice(None), *[0] * (rows.ndim - 1))], count.ravel())
        )
        return made.shape if kept else ()

    return compute, shape


def _get_item(x: Array, key: Any, *, config: Mapping[str, Any]) -> Array:
    parts = key if isinstance(key, list) else [key]
    for part in parts:
        if not (part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice))):
            raise TypeError(f"an index of {shown(part)}")
    return x[tuple(parts)]


def _reshape(x: Array, *, config: Mapping[str, Any]) -> Array:
    target = config.get("newshape", config.get("shape"))
    sizes = [-1 if n is None else n for n in target]
    row, known = math.prod(x.shape[1:]), math.prod(n for n in sizes[1:] if n != -1)
    open_sizes = sizes[1:].count(-1)
    fits = known == row if open_sizes == 0 else open_sizes == 1 and known and row % known == 0
    if sizes[0] != -1 or not fits:
        raise ValueError(f"the shape {shown(target)} does not keep each row by itself")
    return x.reshape(x.shape[0], *sizes[1:])


def _squeeze(x: Array, *, config: Mapping[str, Any]) -> Array:
    axis = config.get("axis")
    if axis is None:
        raise ValueError("squeeze without an axis, which may take the batch away")
    return np.squeeze(x, tuple(axis) if isinstance(axis, list) else axis)


def _expand_dims(x: Array, *, config: Mapping[str, Any]) -> Array:
    axis = config["axis"]
    return np.expand_dims(x, tuple(axis) if isinstance(axis, list) else axis)


def _flip(x: Array, *, config: Mapping[str, Any]) -> Array:
    axis = config.get("axis")
    return np.flip(x, tuple(axis) if isinstance(axis, list) else axis)


def _transpose(x: Array, *, config: Mapping[str, Any]) -> Array:
    return np.transpose(x, config.get("axes"))


def _swapaxes(x: Array, *, config: Mapping[str, Any]) -> Array:
    return np.swapaxes(x, config["axis1"], config["axis2"])


def _moveaxis(x: Array, *, config: Mapping[str, Any]) -> Array:
    return np.moveaxis(x, config["source"], config["destination"])


# --- Several arrays ---


def _concatenate(xs: Sequence[Array], *, config: Mapping[str, Any]) -> Array:
    return np.concatenate(xs, axis=config.get("axis", -1))


def _concatenated(xs: Sequence[Array], *, config: Mapping[str, Any]) -> tuple[int, ...]:
    sizes = [x.shape for x in xs]
    axis = config.get("axis", -1) % len(sizes[0])
    total = list(sizes[0])
    total[axis] = sum(size[axis] for size in sizes)
    if axis == 0 or any(len(size) != len(total) for size in sizes):
        return ()
    return tuple(total)


def _stack(xs: Sequence[Array], *, config: Mapping[str, Any]) -> Array:
    return np.stack(xs, axis=config.get("axis", 0))


def _stacked(xs: Sequence[Array], *, config: Mapping[str, Any]) -> tuple[int, ...]:
    axis = config.get("axis", 0) % (xs[0].ndim + 1)
    sizes = list(xs[0].shape)
    return () if axis == 0 else (*sizes[:axis], len(xs), *sizes[axis:])


def _matmul(a: Array, b: Array, *, config: Mapping[str, Any]) -> Array:
    return np.matmul(a, b)


def _matmul_shape(a: Array, b: Array, *, config: Mapping[str, Any]) -> tuple[int, ...]:
    if np.ndim(a) < 2 or np.ndim(b) < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError("the matrices do not fit")
    # Two matrices of two axes are one product of the whole batch.
    if a.ndim == 2 and b.ndim == 2 and b.shape[0] in [batch for batch, _ in _FREE]:
        return ()
    return (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])


def _cast(x: Array, config: Mapping[str, Any]) -> Array:
    dtype = str(config.get("dtype"))
    if dtype.startswith(("float", "bfloat")):
        return x.astype(np.float32)
    if dtype not in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"):
        raise ModelFileError(f"A cast to {shown(dtype)} is not known.")
    return x.astype(dtype)


def _cast_if_asked(x: Array, config: Mapping[str, Any]) -> Array:
    return x if config.get("dtype") is None else _cast(x, config)


def _zeros_like(x: Array, config: Mapping[str, Any]) -> Array:
    return _cast_if_asked(np.zeros_like(x), config)


def _ones_like(x: Array, config: Mapping[str, Any]) -> Array:
    return _cast_if_asked(np.ones_like(x), config)


def _as_it_is(x: Array, config: Mapping[str, Any]) -> Array:
    return x


def _clip(x: Array, config: Mapping[str, Any]) -> Array:
    return np.clip(x, config.get("x_min"), config.get("x_max"))


def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


_ELEMENTWISE: Mapping[str, Function] = {
    "Add": np.add,
    "Subtract": np.subtract,
    "Multiply": np.multiply,
    "Divide": np.true_divide,
    "TrueDivide": np.true_divide,
    "FloorDivide": np.floor_divide,
    "Mod": np.mod,
    "Power": _power,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not,
    "Where": np.where,
    "Negative": np.negative,
    "Absolute": np.abs,
    "Abs": np.abs,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Rsqrt": _rsqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Log1p": np.log1p,
    "Expm1": np.expm1,
    "Sin": np.sin,
    "Cos": np.cos,
    "Sign": np.sign,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "IsFinite": np.isfinite,
    "IsNan": np.isnan,
}

_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Relu": ("relu",),
    "Relu6": ("relu6",),
    "LeakyRelu": ("leaky_relu", "negative_slope"),
    "Elu": ("elu", "alpha"),
    "Selu": ("selu",),
    "Celu": ("celu", "alpha"),
    "Gelu": ("gelu", "approximate"),
    "Silu": ("silu",),
    "Sigmoid": ("sigmoid",),
    "Tanh": ("tanh",),
    "Softplus": ("softplus",),
    "Softsign": ("softsign",),
    "HardSigmoid": ("hard_sigmoid",),
    "HardSilu": ("hard_silu",),
    "HardTanh": ("hard_tanh",),
    "LogSigmoid": ("log_sigmoid",),
    "Softmax": ("softmax", "axis"),
    "LogSoftmax": ("log_softmax", "axis"),
}

_REDUCTIONS: Mapping[str, Function] = {
    "Mean": np.mean,
    "Sum": np.sum,
    "Max": np.max,
    "Min": np.min,
    "Prod": np.prod,
    "Any": np.any,
    "All": np.all,
    "Std": np.std,
    "Var": np.var,
}

_VIEWS: Mapping[str, Function] = {
    "GetItem": _get_item,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "ExpandDims": _expand_dims,
    "Flip": _flip,
    "Transpose": _transpose,
    "Swapaxes": _swapaxes,
    "Moveaxis": _moveaxis,
}

OPERATIONS: Mapping[str, tuple[Function, Function]] = {
    **{name: _elementwise(given) for name, given in _ELEMENTWISE.items()},
    **{name: _activation(*given) for name, given in _ACTIVATIONS.items()},
    **{name: _reduction(given) for name, given in _REDUCTIONS.items()},
    **{name: _view(given) for name, given in _VIEWS.items()},
    "Concatenate": (_concatenate, _concatenated),
    "Stack": (_stack, _stacked),
    "Matmul": (_matmul, _matmul_shape),
    "Cast": _same_shape(_cast),
    "ConvertToTensor": _same_shape(_cast_if_asked),
    "ZerosLike": _same_shape(_zeros_like),
    "OnesLike": _same_shape(_ones_like),
    "StopGradient": _same_shape(_as_it_is),
    "Copy": _same_shape(_as_it_is),
    "Clip": _same_shape(_clip),
}
"""Of each operation, by Keras's class: the function, and the shape of what it gives."""
