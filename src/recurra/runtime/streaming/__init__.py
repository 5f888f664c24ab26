"""Running models step by step: lowering their graphs to the engine's compiled plans."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.runtime.graph import Graph
from recurra.runtime.streaming.program import Program

__all__ = ["Program", "program_of"]


def program_of(graph: Graph, names: Sequence[str] = ()) -> Program:
    """The program of a model.

    Args:
        graph: the model.
        names: what its users call its inputs, if not by their tensors' names.

    Raises:
        StreamingError: if it cannot run step by step, naming the layer and the reason.
    """
    return Program(graph, names)
