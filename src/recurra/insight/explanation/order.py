"""The calls of a model in an order that is easy to follow: chains are kept together."""

from __future__ import annotations

from recurra.insight.structure import Node, Structure


def chained(structure: Structure) -> list[Node]:
    """The calls, each after what it reads, and if possible right after it.

    Keras sorts calls by their distance from the output, so that an encoder and a decoder come in
    turns.
    """
    waiting = list(structure.nodes)
    makers = {index for node in waiting for index in node.outputs}
    made: set[int] = set()
    last: set[int] = set()
    ordered: list[Node] = []
    while waiting:
        ready = [node for node in waiting if all(i in made or i not in makers for i in reads(node))]
        # What waits for itself is left as it stands.
        best = next((node for node in ready if last.intersection(reads(node))), None)
        node = best or (ready or waiting)[0]
        waiting.remove(node)
        ordered.append(node)
        made.update(node.outputs)
        last = set(node.outputs)
    return ordered


def reads(node: Node) -> tuple[int, ...]:
    """Every tensor that a call is given."""
    return (*node.inputs, *node.states, *(i for group in node.others.values() for i in group))
