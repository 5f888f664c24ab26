"""Attention between whole sequences: dot products, sums, several heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Result, Shape, Variable, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.functions import softmax, tanh


def causal(queries: int, keys: int) -> Array:
    """(1, queries, keys): whether a query may see a key, which must not be later than it."""
    return (np.arange(queries)[:, None] >= np.arange(keys))[None]


def wants(call_arguments: Mapping[str, Any], name: str) -> bool:
    """Whether a call's flag is set."""
    return bool(call_arguments.get(name))


class Attending(Layer):
    """What the layers of a list [query, value] or [query, value, key] share."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        # A flag of the layer in Keras 2; of its calls since.
        self.causal = read.boolean(config, "causal", where, default=False)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        if len(shapes) not in (2, 3):
            raise self.fail(
                f"it has {len(shapes)} inputs, but must have [query, value] or [query, value, key]."
            )
        for shape in shapes:
            read.rank(shape, self.where, least=3, most=3)
        return [(*shapes[0][:-1], shapes[1][-1])]

    def call_shapes(self, shapes: Sequence[Shape], arguments: Mapping[str, Any]) -> list[Shape]:
        found = self.output_shapes(shapes)
        if wants(arguments, "return_attention_scores"):
            found.append((*shapes[0][:-1], shapes[-1][-2]))
        return found

    def scores(self, query: Array, key: Array) -> Array:
        """(batch, queries, keys): how much each query asks for each key."""
        raise NotImplementedError

    def compute(self, call: Call) -> Result:
        query, value, *rest = call.inputs
        query_mask, value_mask = call.masks[:2]
        scores = self.scores(query, rest[0] if rest else value)
        kept = None if value_mask is None else value_mask[:, None, :]
        if self.causal or wants(call.arguments, "use_causal_mask"):
            ahead = causal(*scores.shape[1:])
            kept = ahead if kept is None else kept & ahead
        if kept is not None:
            # As Keras has it: in a row without any kept key the scores still matter a little.
            scores = np.where(kept, scores, scores - np.float32(1e9))
        weights = softmax(scores) if scores.size else scores
        output = np.matmul(weights, value)
        if query_mask is not None:
            output = np.where(query_mask[..., None], output, np.float32(0))
        outputs, masks = [output], [query_mask]
        if wants(call.arguments, "return_attention_scores"):
            outputs, masks = [output, weights], [query_mask, None]
        return Result(outputs, masks)


@register("Attention")
class Attention(Attending):
    """Dot products of queries and keys, or (score_mode "concat") sums of tanh of their sums.

    Attributes:
        factor: a trained factor of the scores, or of what tanh is taken of; 1 without.
        weight: a trained factor of the sums; "concat" only.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        modes = ("dot", "concat")
        self.mode = read.choice(config, "score_mode", where, modes, default="dot")
        self.use_scale = read.boolean(config, "use_scale", where, default=False)
        self.factor: Array | None = None
        self.weight: Array | None = None

    def variables(self) -> Sequence[Variable]:
        names = ["scale"] * self.use_scale + ["concat_score_weight"] * (self.mode == "concat")
        return [Variable(name, index=index) for index, name in enumerate(names)]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        self.output_shapes(shapes)
        if shapes[0][-1] != shapes[-1][-1]:
            raise self.fail(
                f"its query and key have {shapes[0][-1]} and {shapes[-1][-1]} features; they must "
                "have equally many."
            )
        if self.use_scale:
            self.factor = read.weight(weights, "scale", (), self.where)
        if self.mode == "concat":
            self.weight = read.weight(weights, "concat_score_weight", (), self.where)

    def scores(self, query: Array, key: Array) -> Array:
        if self.weight is None:
            scores = np.matmul(query, key.swapaxes(1, 2))
            return scores if self.factor is None else scores * self.factor
        return self.weight * tanh_sums(query, key, 1.0 if self.factor is None else self.factor)


@register("AdditiveAttention")
class AdditiveAttention(Attending):
    """Sums over the features of scale * tanh(query + key).

    Attributes:
        scale: (features,), or None without.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.use_scale = read.boolean(config, "use_scale", where, default=True)
        self.scale: Array | None = None

    def variables(self) -> Sequence[Variable]:
        return (Variable("scale"),) if self.use_scale else ()

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        self.output_shapes(shapes)
        features = read.size(shapes[0], -1, self.where, "features")
        if self.use_scale:
            self.scale = read.weight(weights, "scale", (features,), self.where)

    def scores(self, query: Array, key: Array) -> Array:
        return tanh_sums(query, key, 1.0, self.scale)


def tanh_sums(query: Array, key: Array, inner: float | Array, outer: Array | None = None) -> Array:
    """(batch, queries, keys): sums over features of outer * tanh(inner * (query + key)).

    One query at a time: all at once would be an array of queries * keys * features.
    """
    scores = np.empty((query.shape[0], query.shape[1], key.shape[1]), np.float32)
    for step in range(query.shape[1]):
        bent = tanh(inner * (query[:, step, None] + key))
        scores[:, step] = np.sum(bent if outer is None else outer * bent, axis=-1)
    return scores
