"""Lowering models inside of wrappers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.layer import Layer
from recurra.runtime.layers.model import ModelLayer
from recurra.runtime.streaming.lowering import Lowering, Value, lowers
from recurra.runtime.streaming.prune import needed_nodes


@lowers(ModelLayer)
def lower_model(
    lowering: Lowering, layer: Layer, inputs: Sequence[Value], arguments: Mapping[str, Any]
) -> Sequence[Value]:
    """A model inside of a TimeDistributed."""
    assert isinstance(layer, ModelLayer)
    graph = layer.graph
    values = {tensor.index: value for tensor, value in zip(graph.inputs, inputs, strict=True)}
    lowering.calls(needed_nodes(graph), values)
    return [values[tensor.index].unmasked() for tensor in graph.outputs]
