"""Operators that compute, but for the recurrent ones: products, activations, normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array
from recurra.runtime.onnx.reading import Node, Reader
from recurra.runtime.onnx.reading_shapes import arithmetic
from recurra.runtime.onnx.views import Known, LayoutError, View, as_numbers

_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Selu": "selu",
    "Exp": "exponential",
    "Mish": "mish",
}
_MERGES = {
    "Add": "Add",
    "Sub": "Subtract",
    "Mul": "Multiply",
    "Max": "Maximum",
    "Min": "Minimum",
}


def _features_last(view: View, axis: int) -> None:
    """Refuse an axis that is not the features'."""
    if view.axes[axis] != view.base[-1] or len(view.base) < 2:
        raise LayoutError("it works on an axis that is not the features'")


def _dense(reader: Reader, x: View, kernel: Array, bias: Array | None) -> View:
    weights = {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}
    config = {"units": kernel.shape[1], "use_bias": bias is not None}
    details = {"weights": weights, "x": x, "source": x.source}
    source = reader.drafts.layer("Dense", config, [x.source], weights, "dense", details)
    return x.like(source, (*x.base[:-1], (reader.atom("units", kernel.shape[1]),)))


def gemm(reader: Reader, node: Node) -> Sequence[Known]:
    x, kernel = reader.view(node, 0), reader.constant(node, 1, "matrix")
    if int(node.get("transA", 0)) or len(x.axes) != 2 or kernel.ndim != 2:
        raise node.unsupported("it is not the product of (batch, features) and a matrix.")
    _features_last(x, 1)
    kernel = kernel.T if int(node.get("transB", 0)) else kernel
    kernel = np.ascontiguousarray(kernel * np.float32(node.get("alpha", 1.0)))
    bias = None
    if len(node.inputs) > 2 and node.inputs[2]:
        given = reader.constant(node, 2, "bias") * np.float32(node.get("beta", 1.0))
        bias = np.ascontiguousarray(np.broadcast_to(given.reshape(-1), (kernel.shape[1],)))
    return [_dense(reader, x, kernel, bias)]


def matmul(reader: Reader, node: Node) -> Sequence[Known]:
    x, kernel = reader.view(node, 0), reader.constant(node, 1, "second matrix")
    if kernel.ndim != 2:
        raise node.unsupported(f"its second matrix has {kernel.ndim} axes; it must have 2.")
    _features_last(x, -1)
    return [_dense(reader, x, kernel, None)]


def binary(reader: Reader, node: Node) -> Sequence[Known]:
    """Two tensors, a tensor and constants, or constants alone."""
    found = arithmetic(reader, node) if node.kind in ("Add", "Sub", "Mul", "Div") else None
    if found is not None:
        return [found]
    values = [reader.value(name) for name in node.inputs]
    constants = [value for value in values if isinstance(value, np.ndarray)]
    if len(values) != 2 or (node.kind not in _MERGES and not constants):
        raise node.unsupported("it has operands that are not read.")
    if constants:
        return [_affine(reader, node, isinstance(values[0], np.ndarray), constants[0])]
    one, two = reader.view(node, 0), reader.view(node, 1)
    if one.places() != two.places() or len(one.base) != len(two.base):
        raise LayoutError("its operands are turned round in different ways")
    sources = [one.source, two.source]
    kind = "merge" if one.dims() == two.dims() else "other"
    return [one.like(reader.drafts.layer(_MERGES[node.kind], {}, sources, kind=kind), one.base)]


def _affine(reader: Reader, node: Node, first: bool, number: Array) -> View:
    """A tensor and numbers, one for all or one for each feature."""
    x = reader.view(node, 1 if first else 0)
    if number.size > 1:
        if number.size != number.shape[-1] or number.ndim > len(x.axes):
            raise node.unsupported(f"its constant has shape {number.shape}.")
        _features_last(x, -1)
    flat = number.reshape(-1).astype(np.float32)
    draft = reader.drafts.makers.get(x.source)
    units = x.dims()[-1].known()
    if node.kind == "Add" and draft is not None and draft.kind == "dense" and flat.size == units:
        weights: Mapping[str, Array] = draft.details["weights"]
        if "bias" not in weights:
            given: View = draft.details["x"]
            again = View(draft.inputs[0], given.base, given.axes)
            made = _dense(reader, again, weights["kernel"], flat)
            return x.like(made.source, x.base)
    scale: Array = np.ones_like(flat)
    offset: Array = np.zeros_like(flat)
    if node.kind == "Add":
        offset = flat
    elif node.kind == "Sub":
        scale, offset = (-scale, flat) if first else (scale, -flat)
    elif node.kind == "Mul":
        scale = flat
    elif node.kind == "Div" and not first:
        scale = np.float32(1) / flat
    else:
        raise node.unsupported("a constant among its operands.")
    config: dict[str, Any] = {"scale": scale.tolist(), "offset": offset.tolist()}
    if flat.size == 1:
        config = {"scale": float(scale[0]), "offset": float(offset[0])}
    return x.like(reader.drafts.layer("Rescaling", config, [x.source], kind="pointwise"), x.base)


def activation(reader: Reader, node: Node) -> Sequence[Known]:
    """A function of every number, or softmax over the features."""
    x = reader.view(node, 0)
    name: Any = _ACTIVATIONS.get(node.kind)
    class_name, config = "Activation", {"activation": name}
    if node.kind == "LeakyRelu":
        class_name, config = "LeakyReLU", {"negative_slope": float(node.get("alpha", 0.01))}
    elif node.kind == "Elu":
        class_name, config = "ELU", {"alpha": float(node.get("alpha", 1.0))}
    elif node.kind == "HardSigmoid":
        given = [float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))]
        if not np.allclose(given, [1 / 6, 0.5], rtol=1e-6):
            raise node.unsupported(f"alpha and beta {given}; Keras's function has 1/6 and 0.5.")
        config = {"activation": "hard_sigmoid"}
    elif node.kind == "HardSwish":
        config = {"activation": "hard_silu"}
    elif node.kind == "Gelu":
        if node.get("approximate", "none") != "none":
            raise node.unsupported("approximate='tanh'; use torch.nn.GELU() as it is.")
        config = {"activation": "gelu"}
    elif node.kind in ("Softmax", "LogSoftmax"):
        _features_last(x, int(node.get("axis", -1)))
        config = {"activation": "softmax" if node.kind == "Softmax" else "log_softmax"}
    source = reader.drafts.layer(class_name, config, [x.source], kind="pointwise")
    return [x.like(source, x.base)]


def layer_normalization(reader: Reader, node: Node) -> Sequence[Known]:
    x = reader.view(node, 0)
    if int(node.get("axis", -1)) % len(x.axes) != len(x.axes) - 1:
        raise node.unsupported("it normalizes several axes; the features alone can be read.")
    _features_last(x, -1)
    weights = {"gamma": reader.constant(node, 1, "scale").reshape(-1)}
    if len(node.inputs) > 2 and node.inputs[2]:
        weights["beta"] = reader.constant(node, 2, "bias").reshape(-1)
    config = {"axis": -1, "epsilon": float(node.get("epsilon", 1e-5)), "center": "beta" in weights}
    source = reader.drafts.layer("LayerNormalization", config, [x.source], weights, "pointwise")
    return [x.like(source, x.base)]


def batch_normalization(reader: Reader, node: Node) -> Sequence[Known]:
    x = reader.view(node, 0)
    if int(node.get("training_mode", 0)):
        raise node.unsupported("training_mode=1. Export the model after model.eval().")
    _features_last(x, 1)
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {name: reader.constant(node, 1 + n, name) for n, name in enumerate(names)}
    config = {"axis": -1, "epsilon": float(node.get("epsilon", 1e-5))}
    source = reader.drafts.layer("BatchNormalization", config, [x.source], weights, "pointwise")
    return [x.like(source, x.base)]


def convolution(reader: Reader, node: Node) -> Sequence[Known]:
    """One over time, of (batch, features, time_steps)."""
    x, kernel = reader.view(node, 0), reader.constant(node, 1, "kernel")
    if kernel.ndim != 3 or len(x.base) != 3 or x.axes != (x.base[0], x.base[2], x.base[1]):
        raise LayoutError("its input is not (batch, features, time_steps)")
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.unsupported("auto_pad. Export with explicit padding.")
    size, filters = kernel.shape[2], kernel.shape[0]
    stride = int((node.get("strides") or [1])[0])
    dilation = int((node.get("dilations") or [1])[0])
    before, after = (int(n) for n in node.get("pads") or (0, 0))
    source, padding = x.source, "valid"
    if (before, after) == ((size - 1) * dilation, 0) and before:
        padding = "causal"
    elif before or after:
        config = {"padding": [before, after]}
        source = reader.drafts.layer("ZeroPadding1D", config, [source])
    weights = {"kernel": np.ascontiguousarray(kernel.transpose(2, 1, 0))}
    if len(node.inputs) > 2 and node.inputs[2]:
        weights["bias"] = reader.constant(node, 2, "bias")
    options = {
        "filters": filters,
        "kernel_size": size,
        "strides": stride,
        "dilation_rate": dilation,
        "groups": int(node.get("group", 1)),
        "padding": padding,
        "use_bias": "bias" in weights,
    }
    made = reader.drafts.layer("Conv1D", options, [source], weights)
    length = x.dims()[2].known()
    if length is not None:
        length = (length + before + after - (size - 1) * dilation - 1) // stride + 1
    steps, new = (reader.atom("steps", length),), (reader.atom("filters", filters),)
    return [View(made, (x.batch, steps, new), (x.batch, new, steps))]


def reduction(reader: Reader, node: Node) -> Sequence[Known]:
    """A mean or maximum over time."""
    x = reader.view(node, 0)
    axes = node.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = as_numbers(reader.value(node.inputs[1]))
    if axes is None or len(axes) != 1 or len(x.base) != 3:
        raise node.unsupported("it reduces other axes than time alone.")
    place = int(axes[0]) % len(x.axes)
    if x.axes[place] != x.base[1]:
        raise node.unsupported("it reduces another axis than time.")
    kind = "Average" if node.kind == "ReduceMean" else "Max"
    source = reader.drafts.layer(f"Global{kind}Pooling1D", {}, [x.source])
    rest = tuple(axis for n, axis in enumerate(x.axes) if n != place)
    view = View(source, (x.base[0], x.base[2]), rest)
    return [view.unsqueezed([place]) if int(node.get("keepdims", 1)) else view]


OPERATORS = {
    "Gemm": gemm,
    "MatMul": matmul,
    **{kind: binary for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
    **{kind: activation for kind in _ACTIVATIONS},
    **{
        kind: activation
        for kind in (
            "LeakyRelu",
            "Elu",
            "HardSigmoid",
            "HardSwish",
            "Gelu",
            "Softmax",
            "LogSoftmax",
        )
    },
    "LayerNormalization": layer_normalization,
    "BatchNormalization": batch_normalization,
    "Conv": convolution,
    "ReduceMean": reduction,
    "ReduceMax": reduction,
}
"""How each operator is read."""
