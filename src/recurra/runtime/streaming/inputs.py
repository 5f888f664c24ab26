"""What a model's inputs are to a stream: which have a time axis, and which are indices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from recurra.runtime.errors import StreamingError
from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.streaming.lowering import Kind

Role = tuple[Kind, tuple[int, ...]]
"""Kind and features of an input."""


def input_kinds(graph: Graph, nodes: Sequence[Node]) -> Iterator[Sequence[Role]]:
    """The ways to read the model's inputs, the likeliest first.

    Shapes alone leave it open whether the axis of an input of indices (batch, 1) is time, as in
    generators that were trained one step at a time, or a feature that is embedded.

    Raises:
        StreamingError: if an input can be no stream's.
    """
    indices = _index_inputs(graph, nodes)
    roles = [_roles(tensor, tensor.index in indices) for tensor in graph.inputs]
    return itertools.product(*roles)


def _roles(tensor: Tensor, index: bool) -> Sequence[Role]:
    shape = tensor.shape[1:]
    if index:
        if len(shape) == 0:
            return [("id_row", ())]
        if len(shape) == 1:
            return [("ids", ()), ("id_row", (1,))] if shape[0] == 1 else [("ids", ())]
        problem = "indices with more axes than (batch, time_steps)"
    elif len(shape) == 1 and shape[0] is not None:
        return [("row", (shape[0],))]
    elif len(shape) == 2 and shape[1] is not None:
        return [("steps", (shape[1],))]
    elif len(shape) == 1:
        problem = (
            "a time axis but none for the features: build it with Input((None, 1)) instead of "
            "adding the axis inside the model"
        )
    elif len(shape) == 2:
        problem = "features whose number is not fixed"
    elif len(shape) == 0:
        problem = "no axis but the batch: build it with Input((1,))"
    else:
        problem = (
            f"{len(shape) - 1} feature axes, and a stream's steps have one: flatten the features "
            "before they enter the model"
        )
    raise StreamingError(
        f"Input '{tensor.name}' of shape {tensor.shape} cannot come step by step: it has "
        f"{problem}. Or use predict(), which runs whole sequences."
    )


def _index_inputs(graph: Graph, nodes: Sequence[Node]) -> set[int]:
    """Numbers of the inputs that an Embedding reads."""
    read = {
        tensor.index
        for node in nodes
        if node.layer.keras_class == "Embedding"
        for tensor in node.inputs
    }
    return {tensor.index for tensor in graph.inputs} & read
