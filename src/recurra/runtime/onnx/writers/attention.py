"""Attention: dot products, sums, several heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.basic import masked_softmax
from recurra.runtime.onnx.writers.registry import Site, writes

_HIDDEN = -0.7 * float(np.finfo(np.float32).max)
"""What stands for scores of masked keys where all heads are computed at once in Keras."""


def _numbers(b: Builder, value: str, axis: int) -> str:
    """0, 1, 2 ... as many as a tensor's size along an axis."""
    count = b.op("Squeeze", b.size(value, axis), b.ints(0))
    return b.op("Range", b.constant(0, "int64"), count, b.constant(1, "int64"))


def _places(b: Builder, queries: str, keys: str) -> tuple[str, str]:
    """The steps' numbers of queries (1, Q, 1) and keys (1, 1, K), from (batch, steps, ...)."""
    first = b.op("Unsqueeze", _numbers(b, queries, 1), b.ints(0, 2))
    return first, b.op("Unsqueeze", _numbers(b, keys, 1), b.ints(0, 1))


def _causal(b: Builder, queries: str, keys: str) -> str:
    """(1, Q, K): whether a query may see a key, which must not be later than it."""
    return b.op("GreaterOrEqual", *_places(b, queries, keys))


def _and(b: Builder, one: str | None, two: str | None) -> str | None:
    if one is None or two is None:
        return one or two
    return b.op("And", one, two)


@writes("Attention", "AdditiveAttention")
def write_attention(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """[query, value] or [query, value, key]."""
    query, value, *rest = site.inputs
    scores = _scores(b, layer, query.name, (rest[0] if rest else value).name)
    kept = b.op("Unsqueeze", value.mask, b.ints(1)) if value.mask else None
    if layer.causal or site.arguments.get("use_causal_mask"):
        kept = _and(b, kept, _causal(b, query.name, (rest[0] if rest else value).name))
    if kept is not None:
        lowered = b.op("Sub", scores, b.constant(1e9))
        scores = b.op("Where", kept, scores, lowered)
    weights = b.op("Softmax", scores, axis=-1)
    output = b.op("MatMul", weights, value.name)
    if query.mask is not None:
        shown = b.op("Unsqueeze", query.mask, b.ints(2))
        output = b.op("Where", shown, output, b.constant(0.0))
    values = [Value(output, site.shapes[0], mask=query.mask)]
    if site.arguments.get("return_attention_scores"):
        values.append(Value(weights, site.shapes[1]))
    return values


def _scores(b: Builder, layer: Any, query: str, key: str) -> str:
    """(batch, Q, K): how much each query asks for each key."""
    scale = b.variable(layer, "scale") if layer.use_scale else None
    if layer.keras_class == "Attention" and layer.mode == "dot":
        scores = b.op("MatMul", query, b.transpose(key, 0, 2, 1))
        return b.op("Mul", scores, scale) if scale else scores
    total = b.op("Add", b.op("Unsqueeze", query, b.ints(2)), b.op("Unsqueeze", key, b.ints(1)))
    inner = scale if layer.keras_class == "Attention" else None
    bent = b.op("Tanh", b.op("Mul", total, inner) if inner else total)
    if layer.keras_class == "AdditiveAttention":
        bent = b.op("Mul", bent, scale) if scale else bent
        return b.op("ReduceSum", bent, b.ints(-1), keepdims=0)
    scores = b.op("ReduceSum", bent, b.ints(-1), keepdims=0)
    return b.op("Mul", scores, b.variable(layer, "concat_score_weight"))


@writes("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention")
def write_heads(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Projected to heads, attended to, and projected back."""
    query, value = site.inputs[:2]
    key = site.inputs[2] if len(site.inputs) > 2 else value
    if query.rank != 3 or layer.attended != (1,):
        raise layer.unsupported(
            f"attention along axes {layer.attended} of a query of {query.rank} axes; (batch, "
            "time_steps, features) is what can be written. Reshape the inputs, or run the model "
            "in Recurra's runtime."
        )
    heads = _project(b, layer, "query", query.name)
    keys, values = _project(b, layer, "key", key.name), _project(b, layer, "value", value.name)
    repeats = layer.query_heads // layer.value_heads
    if repeats > 1:
        keys, values = (_repeated(b, layer, each, repeats) for each in (keys, values))
    scaled = b.op("Mul", b.transpose(heads, 0, 2, 1, 3), b.constant(1 / math.sqrt(layer.key_size)))
    scores = b.op("MatMul", scaled, b.transpose(keys, 0, 2, 3, 1))
    kept = _kept(b, layer, site, query, value, key)
    give_scores = bool(site.arguments.get("return_attention_scores"))
    if layer.dropout or give_scores:
        weights = masked_softmax(b, scores, kept, [3])
    else:
        hidden = b.op("Where", kept, scores, b.constant(_HIDDEN)) if kept else scores
        weights = b.op("Softmax", hidden, axis=-1)
    means = b.op("MatMul", weights, b.transpose(values, 0, 2, 1, 3))
    attended = b.transpose(means, 0, 2, 1, 3)
    if layer.use_gate:
        gate = b.op("Sigmoid", _project(b, layer, "gate", query.name))
        attended = b.op("Mul", attended, gate)
    flat = b.reshape(attended, 0, 0, layer.query_heads * layer.value_size)
    output = _product(b, layer, "output", flat, layer.query_heads * layer.value_size)
    if len(layer.configured_output) > 1:
        output = b.reshape(output, 0, 0, *layer.configured_output)
    written = [Value(output, site.shapes[0], mask=query.mask)]
    return [*written, Value(weights, site.shapes[1])] if give_scores else written


def _product(b: Builder, layer: Any, part: str, x: str, features: int) -> str:
    kernel = b.reshape(b.variable(layer, f"{part}/kernel"), features, -1)
    y = b.op("MatMul", x, kernel)
    if not layer.use_bias:
        return y
    return b.op("Add", y, b.reshape(b.variable(layer, f"{part}/bias"), -1))


def _project(b: Builder, layer: Any, part: str, x: str) -> str:
    """(batch, steps, heads, size)."""
    features, heads, size = layer.weights[f"{part}/kernel"].shape
    return b.reshape(_product(b, layer, part, x, features), 0, 0, heads, size)


def _repeated(b: Builder, layer: Any, x: str, repeats: int) -> str:
    """(batch, steps, heads, size) with each head several times."""
    each = b.op("Unsqueeze", x, b.ints(3))
    several = b.op("Expand", each, b.ints(1, 1, 1, repeats, 1))
    return b.reshape(several, 0, 0, layer.query_heads, layer.key_size)


def _kept(b: Builder, layer: Any, site: Site, query: Value, value: Value, key: Value) -> str | None:
    """Which query may see which key, (batch or 1, 1 or heads, Q, K)."""
    kept: str | None = None
    own = key.mask if len(site.inputs) > 2 else None
    for mask, name, axis in (
        (query.mask, "query_mask", -1),
        (value.mask, "value_mask", -2),
        (own, "key_mask", -2),
    ):
        given = site.arguments.get(name) if name != "query_mask" or layer.own_query_mask else None
        used = mask if given is None else _bool(b, given)
        if used is not None:
            kept = _and(b, kept, b.op("Unsqueeze", used, b.ints(axis)))
    if site.arguments.get("use_causal_mask"):
        kept = _and(b, kept, _causal(b, query.name, value.name))
    if layer.window is not None:
        apart = b.op("Abs", b.op("Sub", *_places(b, query.name, value.name)))
        kept = _and(b, kept, b.op("Less", apart, b.constant(layer.window, "int64")))
    wide = b.op("Unsqueeze", kept, b.ints(1)) if kept else None
    given = site.arguments.get("attention_mask")
    if given is None:
        return wide
    allowed = _bool(b, given)
    return _and(b, wide, b.op("Unsqueeze", allowed, b.ints(1)) if given.rank == 3 else allowed)


def _bool(b: Builder, value: Value) -> str:
    return value.name if value.dtype == "bool" else b.cast(value.name, "bool")
