"""Who makes and who reads each tensor of a model, and the calls in an order easy to follow."""

from __future__ import annotations

import functools
import heapq

from recurra.insight.explanation.letters import shapes_of
from recurra.insight.explanation.sizes import SymbolicShape
from recurra.insight.structure import Node, Structure, Tensor


class Flow:
    """A structure with an index of what is connected to what."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.tensors: dict[int, Tensor] = {tensor.index: tensor for tensor in structure.tensors}
        self.shapes: dict[int, SymbolicShape] = shapes_of(structure)
        self._makers = {index: node for node in structure.nodes for index in node.outputs}
        self._users: dict[int, list[Node]] = {}
        for node in structure.nodes:
            for index in dict.fromkeys(reads(node)):
                self._users.setdefault(index, []).append(node)

    def maker(self, tensor: int) -> Node | None:
        """The call that makes a tensor; None for an input of the model."""
        return self._makers.get(tensor)

    def users(self, tensor: int) -> list[Node]:
        """The calls that are given a tensor, in any role."""
        return self._users.get(tensor, [])

    def place(self, tensor: int) -> str:
        """The path of a tensor's maker; the name of an input."""
        maker = self.maker(tensor)
        return self.tensors[tensor].name if maker is None else maker.path

    def is_masked(self, *tensors: int) -> bool:
        """Whether a mask comes with any of them."""
        return any(self.tensors[index].masked for index in tensors)

    @functools.cached_property
    def nodes(self) -> list[Node]:
        """The calls, each after what it reads, and if possible right after it.

        Keras sorts calls by their distance from the output, so that an encoder and a decoder come
        in turns.
        """
        nodes = self.structure.nodes
        places = {id(node): place for place, node in enumerate(nodes)}
        missing = [len({*reads(node)} & self._makers.keys()) for node in nodes]
        # What reads the newest result comes first; (-number of that result, place).
        ready = [(0, place) for place, count in enumerate(missing) if not count]
        told = [False] * len(nodes)
        ordered: list[Node] = []
        while len(ordered) < len(nodes):
            # What waits for itself is left as it stands.
            _, place = heapq.heappop(ready) if ready else (0, told.index(False))
            if told[place]:
                continue
            node = nodes[place]
            told[place] = True
            ordered.append(node)
            for user in dict.fromkeys(
                places[id(user)] for index in node.outputs for user in self.users(index)
            ):
                missing[user] -= len({*reads(nodes[user])} & {*node.outputs})
                if missing[user] <= 0 and not told[user]:
                    heapq.heappush(ready, (-len(ordered), user))
        return ordered


def reads(node: Node) -> tuple[int, ...]:
    """Every tensor that a call is given."""
    return (*node.inputs, *node.states, *(i for group in node.others.values() for i in group))
