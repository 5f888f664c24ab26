"""What a model's inputs are to a stream: which have a time axis, and which are indices."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.runtime.errors import StreamingError
from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.streaming.lowering import Kind

Role = tuple[Kind, tuple[int, ...]]
"""Kind and features of an input."""


def input_kinds(graph: Graph, nodes: Sequence[Node]) -> Sequence[Sequence[Role]]:
    """The ways to read the model's inputs, the likeliest first.

    Shapes alone leave it open whether the axis of an input of indices (batch, 1) is time, as in
    generators that were trained one step at a time, or a feature that is embedded: then the latter
    where the embedding is flattened, and failing that the former for all.

    Raises:
        StreamingError: if an input can be no stream's.
    """
    indices = _index_inputs(graph, nodes)
    roles = [_roles(tensor, tensor.index in indices) for tensor in graph.inputs]
    likely = [
        each[-1] if len(each) > 1 and _is_flattened(tensor, nodes) else each[0]
        for tensor, each in zip(graph.inputs, roles, strict=True)
    ]
    ways = [likely, [each[0] for each in roles], [each[-1] for each in roles]]
    return [way for number, way in enumerate(ways) if way not in ways[:number]]


def _is_flattened(tensor: Tensor, nodes: Sequence[Node]) -> bool:
    """Whether what is made of an input meets a layer that has no place for time."""
    reached = {tensor.index}
    for node in nodes:
        if not any(each.index in reached for each in node.inputs):
            continue
        if node.layer.keras_class in ("Flatten", "Reshape", "Squeeze"):
            return True
        reached |= {each.index for each in node.outputs if len(each.shape) == 3}
    return False


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
