"""Attention with several heads: MultiHeadAttention and GroupedQueryAttention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Mask, Result, Shape, Variable, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.activation_layers import masked_softmax
from recurra.runtime.layers.attention import causal, wants
from recurra.runtime.layers.functions import sigmoid, softmax
from recurra.runtime.layers.product import Packed, pack, product

_HIDDEN = np.float32(-0.7 * float(np.finfo(np.float32).max))
"""What stands for scores of masked keys where all heads are computed at once in Keras."""


class Heads(Layer):
    """Queries, keys and values are projected to heads, attended to, and projected back.

    Attributes:
        query_heads, value_heads: how many; each head of keys and values serves equally many.
        key_size, value_size: numbers of a head's query or key, and of its value.
        attended: axes that attention runs along, counted from the front, batch included.
    """

    parameters = (
        "query",
        "value",
        "key",
        "query_mask",
        "value_mask",
        "key_mask",
        "attention_mask",
        "return_attention_scores",
        "training",
        "use_causal_mask",
    )
    operands = 3
    query_heads: int
    value_heads: int
    key_size: int
    value_size: int
    configured_output: tuple[int, ...] = ()
    own_query_mask = False
    paths: ClassVar[Mapping[str, str]]

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.use_bias = read.boolean(config, "use_bias", where, default=True)
        self.use_gate = read.boolean(config, "use_gate", where, default=False)
        self.window = read.optional_integer(config, "sliding_window", where)
        self.dropout = read.number(config, "dropout", where, least=0.0, default=0.0)
        self.attended: tuple[int, ...] = (1,)
        self._packed: dict[str, Packed] = {}
        self._tails: dict[str, tuple[int, ...]] = {}

    def parts(self) -> Sequence[str]:
        """The projections, in the order of their variables."""
        return ["query", "key", *["gate"] * self.use_gate, "value", "output"]

    def variables(self) -> Sequence[Variable]:
        names = ("kernel", "bias")[: 1 + self.use_bias]
        return [
            Variable(f"{part}/{name}", (self.paths[part],), index)
            for part in self.parts()
            for index, name in enumerate(names)
        ]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        query, value, key = self._three(shapes)
        features = {
            name: read.size(shape, -1, self.where, f"features ({name})")
            for name, shape in (("query", query), ("value", value), ("key", key))
        }
        output = self.configured_output or (features["query"],)
        heads = {
            "query": (features["query"], self.query_heads, self.key_size),
            "key": (features["key"], self.value_heads, self.key_size),
            "gate": (features["query"], self.query_heads, self.value_size),
            "value": (features["value"], self.value_heads, self.value_size),
            "output": (self.query_heads, self.value_size, *output),
        }
        for part in self.parts():
            shape = heads[part]
            inputs = 2 if part == "output" else 1
            kernel = read.weight(weights, f"{part}/kernel", shape, self.where)
            bias = None
            if self.use_bias:
                found = read.weight(weights, f"{part}/bias", shape[inputs:], self.where)
                bias = found.reshape(-1)
            self._packed[part] = pack(kernel.reshape(math.prod(shape[:inputs]), -1), bias)
            self._tails[part] = shape[inputs:]

    def _three(self, shapes: Sequence[Shape]) -> tuple[Shape, Shape, Shape]:
        if len(shapes) not in (2, 3):
            raise self.fail(
                f"it has {len(shapes)} inputs, but must have query and value (and key)."
            )
        query, value = shapes[:2]
        key = shapes[2] if len(shapes) == 3 else value
        for shape in (query, value, key):
            read.rank(shape, self.where, least=3, most=20)
        pairs = zip(value[1:-1], key[1:-1], strict=False)
        if not len(query) == len(value) == len(key) or any(
            a != b for a, b in pairs if None not in (a, b)
        ):
            raise self.fail(f"its query {query}, value {value} and key {key} do not fit.")
        return query, value, key

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        query, _, _ = self._three(shapes)
        return [(*query[:-1], *(self.configured_output or query[-1:]))]

    def call_shapes(self, shapes: Sequence[Shape], arguments: Mapping[str, Any]) -> list[Shape]:
        found = self.output_shapes(shapes)
        if wants(arguments, "return_attention_scores"):
            query, _, key = self._three(shapes)
            free = [query[n] for n in range(len(query) - 1) if n not in self.attended]
            along = [shape[n] for shape in (query, key) for n in self.attended]
            found.append((*free, self.query_heads, *along))
        return found

    def _project(self, part: str, x: Array) -> Array:
        """(batch, ..., heads, size)."""
        return product(x, self._packed[part]).reshape(*x.shape[:-1], *self._tails[part])

    def _mask(self, call: Call, query: Array, value: Array) -> Mask:
        """Which query may see which key: (batch or 1, queries, keys), or as the caller gave it."""
        arguments, masks = call.arguments, call.masks
        key_mask = masks[2] if len(masks) > 2 else None
        kept: Mask = None
        for mask, name, axis in (
            (masks[0], "query_mask", -1),
            (masks[1], "value_mask", -2),
            (key_mask, "key_mask", -2),
        ):
            given = arguments.get(name) if name != "query_mask" or self.own_query_mask else None
            used = mask if given is None else np.asarray(given).astype(bool)
            if used is not None:
                wide = np.expand_dims(used, axis)
                kept = wide if kept is None else kept & wide
        queries, keys = query.shape[1], value.shape[1]
        if wants(arguments, "use_causal_mask"):
            kept = causal(queries, keys) if kept is None else kept & causal(queries, keys)
        if self.window is not None:
            apart = np.abs(np.arange(queries)[:, None] - np.arange(keys))
            near = (apart < self.window)[None]
            kept = near if kept is None else kept & near
        given = arguments.get("attention_mask")
        if given is not None:
            allowed = np.asarray(given).astype(bool)
            kept = allowed if kept is None else kept & allowed
        return kept

    def compute(self, call: Call) -> Result:
        query, value = call.inputs[:2]
        key = call.inputs[2] if len(call.inputs) > 2 else value
        give_scores = wants(call.arguments, "return_attention_scores")
        kept = self._mask(call, query, value)
        heads = self._project("query", query)
        keys, values = self._project("key", key), self._project("value", value)
        repeats = self.query_heads // self.value_heads
        if repeats > 1:
            keys, values = np.repeat(keys, repeats, axis=2), np.repeat(values, repeats, axis=2)
        # Keras computes attention in two ways; they differ in rows of which no key is kept.
        at_once = not self.dropout and not give_scores and heads.ndim == 4
        attended, scores = self._attend(heads, keys, values, kept, at_once)
        if self.use_gate:
            attended = attended * sigmoid(self._project("gate", query))
        flat = attended.reshape(*attended.shape[:-2], -1 if attended.size else 0)
        output = self._project("output", flat) if attended.size else self._nothing(query)
        if give_scores:
            # Keras leaves on the scores the mask that they were computed with.
            wide = None if kept is None else self._wide(kept, scores.ndim)
            return Result([output, scores], [call.masks[0], wide])
        return Result([output], [call.masks[0]])

    def _nothing(self, query: Array) -> Array:
        return np.zeros((*query.shape[:-1], *self._tails["output"]), np.float32)

    def _attend(
        self, query: Array, key: Array, value: Array, kept: Mask, at_once: bool
    ) -> tuple[Array, Array]:
        """Means of values, (batch, ..., heads, size), and the scores that weigh them."""
        rank, along = query.ndim, self.attended
        free = [n for n in range(rank - 1) if n not in along]  # the batch and the heads among them
        order = (*free, *along, rank - 1)

        def flat(x: Array) -> Array:
            moved = x.transpose(order)
            steps = math.prod(moved.shape[len(free) : -1])
            return moved.reshape(*moved.shape[: len(free)], steps, moved.shape[-1])

        queries = flat(query) * np.float32(1.0 / math.sqrt(self.key_size))
        scores = np.matmul(queries, flat(key).swapaxes(-1, -2))
        shape = [query.shape[n] for n in free]
        shape += [x.shape[n] for x in (query, key) for n in along]
        if kept is not None:
            kept = self._spread(kept, shape).reshape(scores.shape)
        with np.errstate(all="ignore"):
            if not scores.size:
                weights = scores
            elif at_once:
                weights = softmax(scores if kept is None else np.where(kept, scores, _HIDDEN))
            else:
                weights = masked_softmax(scores, kept, -1)
        means = np.matmul(weights, flat(value))
        moved = means.reshape(*(query.shape[n] for n in (*free, *along)), means.shape[-1])
        back = np.argsort(order)
        return moved.transpose(back), weights.reshape(shape)

    def _wide(self, kept: Array, rank: int) -> Array:
        """A mask of `rank` axes: they are added before those of queries and keys."""
        place = kept.ndim - 2 * len(self.attended)
        if place < 0 or kept.ndim > rank:
            return kept
        return kept.reshape(*kept.shape[:place], *(1,) * (rank - kept.ndim), *kept.shape[place:])

    def _spread(self, kept: Array, shape: Sequence[int]) -> Array:
        """A mask for scores of this shape."""
        try:
            return np.broadcast_to(self._wide(kept, len(shape)), shape)
        except ValueError:
            raise ValueError(
                f"Layer '{self.where}': a mask of shape {kept.shape}, all masks taken together, "
                f"does not fit scores of shape {tuple(shape)}."
            ) from None


@register("MultiHeadAttention")
class MultiHeadAttention(Heads):
    """Attention whose heads all have keys and values of their own."""

    takes_masks = True
    paths: ClassVar[Mapping[str, str]] = {
        "query": "query_dense",
        "key": "key_dense",
        "gate": "_gate_dense",
        "value": "value_dense",
        "output": "output_dense",
    }

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.query_heads = self.value_heads = read.integer(config, "num_heads", where)
        self.key_size = read.integer(config, "key_dim", where)
        self.value_size = read.optional_integer(config, "value_dim", where) or self.key_size
        if config.get("output_shape"):
            self.configured_output = read.integers(config, "output_shape", where)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        rank = len(self._three(shapes)[0])
        given = self.config.get("attention_axes")
        # Axes of the projected tensors without the heads: those of the inputs.
        self.attended = tuple(range(1, rank - 1))
        if given is not None:
            listed = given if isinstance(given, (list, tuple)) else [given]
            self.attended = tuple(
                read.axis(axis, rank, self.where, "attention_axes") for axis in listed
            )
        if (
            not self.attended
            or len(set(self.attended)) != len(self.attended)
            or not all(0 < axis < rank - 1 for axis in self.attended)
        ):
            raise read.wrong(
                self.where, "attention_axes", given, "axes between the batch and the features"
            )
        if self.window is not None and rank != 3:
            raise self.unsupported(
                f"its sliding_window is for inputs of 3 axes, but its query has {rank}."
            )
        super().build(weights, shapes)


@register("GroupedQueryAttention", "GroupQueryAttention")
class GroupedQueryAttention(Heads):
    """Attention in which several heads of queries share one of keys and values."""

    own_query_mask = True
    paths: ClassVar[Mapping[str, str]] = {
        "query": "_query_dense",
        "key": "_key_dense",
        "gate": "_gate_dense",
        "value": "_value_dense",
        "output": "_output_dense",
    }

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.key_size = self.value_size = read.integer(config, "head_dim", where)
        self.query_heads = read.integer(config, "num_query_heads", where)
        self.value_heads = read.integer(config, "num_key_value_heads", where)
        if self.query_heads % self.value_heads:
            raise self.fail(
                f"its {self.query_heads} heads of queries cannot share {self.value_heads} heads."
            )

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        for shape in shapes:
            read.rank(shape, self.where, least=3, most=3)
        super().build(weights, shapes)
