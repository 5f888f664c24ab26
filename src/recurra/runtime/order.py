"""The order in which Keras runs a functional model's calls.

Most models give the same in any order in which every call finds its inputs. Not those with
MultiHeadAttention: in Keras it takes the masks away from the tensors that it is called on, and
layers that get the same tensors later see none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def keras_order(
    parents: Mapping[K, Sequence[K]], owners: Mapping[K, Hashable], outputs: Sequence[K]
) -> list[K]:
    """The calls that outputs need, as Keras orders them: by their distance from the outputs.

    Args:
        parents: for every call those whose results it gets, in the order of its arguments. There
            are no cycles.
        owners: the layer of every call; several calls of one layer count as equally far.
        outputs: the calls that make the model's outputs, in their order.

    Example:
        >>> parents = {"in": [], "a": ["in"], "b": ["in"], "sum": ["a", "b"]}
        >>> keras_order(parents, {key: key for key in parents}, ["sum"])
        ['in', 'b', 'a', 'sum']
    """
    depths: dict[K, int] = {}
    deepest: dict[Hashable, int] = {}
    for key in reversed(_inputs_first(parents, outputs)):
        depth = max(depths.setdefault(key, 0), deepest.get(owners[key], 0))
        deepest[owners[key]] = depths[key] = depth
        for parent in parents[key]:
            depths[parent] = max(depth + 1, depths.get(parent, 0))
    # Among equally far calls, those come first that were first met from the outputs.
    return sorted(depths, key=lambda key: -depths[key])


def _inputs_first(parents: Mapping[K, Sequence[K]], outputs: Sequence[K]) -> list[K]:
    """What the outputs need, depth first: each call behind those it needs."""
    finished: dict[K, None] = {}
    for output in outputs:
        path: list[tuple[K, Iterator[K]]] = [(output, iter(parents[output]))]
        while path:
            key, rest = path[-1]
            following = None if key in finished else next(rest, None)
            if following is None:
                finished.setdefault(key)
                path.pop()
            elif following not in finished:
                path.append((following, iter(parents[following])))
    return list(finished)
