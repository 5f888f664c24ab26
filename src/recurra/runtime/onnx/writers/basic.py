"""Masks, embeddings, Dense, activations, and layers that do nothing outside training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recurra.runtime.layers.core import UNCHANGING
from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.activations import write_activation
from recurra.runtime.onnx.writers.registry import Site, writes

MASKED = -1e9
"""What Keras puts in place of masked scores."""


@writes(*UNCHANGING, "WithMask")
def write_identity(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Nothing at all: the same tensors."""
    return site.inputs


@writes("Masking")
def write_masking(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A step is kept where any feature differs from the value."""
    x = site.x
    same = b.op("Equal", x.name, b.constant(layer.mask_value))
    differing = b.cast(b.op("Not", same), "float32")
    kept = b.op("ReduceMax", differing, axes=[-1], keepdims=1)
    mask = b.op("Squeeze", b.cast(kept, "bool"), b.ints(-1))
    b.mask_ranks[mask] = x.rank - 1
    return [replace(x, name=b.op("Mul", x.name, kept), mask=mask)]


@writes("Embedding")
def write_embedding(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Rows of the table; index 0 is masked where the layer says so."""
    indices = site.x.name
    mask = None
    if layer.mask_zero:
        zero = b.constant(0, site.x.dtype)
        mask = b.op("Not", b.op("Equal", indices, zero))
        b.mask_ranks[mask] = site.x.rank
    if site.x.dtype not in ("int32", "int64"):
        indices = b.cast(indices, "int64")
    name = b.op("Gather", b.variable(layer, "embeddings"), indices, axis=0)
    return [Value(name, site.shapes[0], mask=mask)]


@writes("Dense")
def write_dense(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A product, a bias, an activation."""
    y = b.op("MatMul", site.x.name, b.variable(layer, "kernel"))
    if layer.use_bias:
        y = b.op("Add", y, b.variable(layer, "bias"))
    return [Value(write_activation(b, layer.activation, y), site.shapes[0], mask=site.x.mask)]


@writes("EinsumDense")
def write_einsum_dense(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """ONNX's Einsum has Keras's equations; the bias broadcasts from the right as there."""
    y = b.op("Einsum", site.x.name, b.variable(layer, "kernel"), equation=layer.text)
    if layer.bias is not None:
        bias = b.variable(layer, "bias")
        shape = layer.bias.shape
        y = b.op("Add", y, b.reshape(bias, *shape))
    return [Value(write_activation(b, layer.activation, y), site.shapes[0])]


@writes("Activation", "ReLU", "ThresholdedReLU", "LeakyReLU", "ELU")
def write_activation_layer(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A function of every number."""
    y = write_activation(b, layer.activation, site.x.name)
    return [Value(y, site.shapes[0], mask=site.x.mask)]


@writes("PReLU")
def write_prelu(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A slope below 0 for each place."""
    y = b.op("PRelu", site.x.name, b.variable(layer, "alpha"))
    return [Value(y, site.shapes[0], mask=site.x.mask)]


@writes("Softmax")
def write_softmax(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Over one axis or several; 0 where the mask is False."""
    y = masked_softmax(b, site.x.name, site.x.mask, layer.axis)
    return [Value(y, site.shapes[0], mask=site.x.mask)]


def masked_softmax(b: Builder, x: str, mask: str | None, axes: Sequence[int]) -> str:
    """Softmax over axes of where the mask (which broadcasts to x) is True; 0 elsewhere."""
    if mask:
        x = b.op("Where", mask, x, b.constant(MASKED))
    if len(axes) == 1:
        y = b.op("Softmax", x, axis=axes[0])
    else:
        highest = b.op("ReduceMax", x, axes=list(axes), keepdims=1)
        e = b.op("Exp", b.op("Sub", x, highest))
        y = b.op("Div", e, b.op("ReduceSum", e, b.constant(axes, "int64"), keepdims=1))
    return b.op("Where", mask, y, b.constant(np.float32(0.0))) if mask else y
