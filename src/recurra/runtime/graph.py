"""A loaded model as a list of calls: nested models are flattened, shared layers called twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recurra.runtime.layer import Layer, Shape


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model.

    Args:
        index: its number in the graph; also how arguments of calls refer to it.
        name: of the layer that makes it (an input's own name).
        shape: with the batch; None where it is free.
        dtype: "float32", or an integer type for inputs that are indices.
    """

    index: int
    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True)
class Node:
    """One call of a layer. In `arguments`, a `Tensor` stands for its value."""

    layer: Layer
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A model: calls in an order in which each finds its inputs."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    nodes: Sequence[Node]
    digest: str = ""
    """Of the configuration and all weights, hexadecimal."""
