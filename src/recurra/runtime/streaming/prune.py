"""Leaving out what no output needs: calls of a graph, operations and tensors of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.streaming.lowering import Lowered, Op

_READS = ("input", "inputs", "other", "initial", "mask")
_WRITES = ("output", "sequence", "last_output", "state_h", "state_c")
_ALWAYS = ("output", "mask")  # written by operations that have them, read or not
_MAKES_MASK = ("masking", "mask_ids")


def needed_nodes(graph: Graph) -> Sequence[Node]:
    """The calls that the model's outputs depend on, in their order."""
    needed = {tensor.index for tensor in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if any(tensor.index in needed for tensor in node.outputs):
            kept.append(node)
            needed |= {tensor.index for tensor in node.inputs}
            needed |= {tensor.index for tensor in _tensors_in(list(node.arguments.values()))}
    return kept[::-1]


def _tensors_in(arguments: Any) -> Iterator[Tensor]:
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for argument in arguments:
            yield from _tensors_in(argument)


def prune(lowered: Lowered) -> Lowered:
    """The same plan without operations, outputs of operations, and tensors that nothing reads.

    What the plan computes at every step is what a model's user waits for.
    """
    needed = set(lowered.outputs)
    kept: list[Op] = []
    for op in reversed(lowered.ops):
        written = [name for name in _writes(op) if op.get(name) in needed]
        if not written:
            continue
        unread = [name for name in _writes(op) if name not in written and name not in _ALWAYS]
        kept.append({name: field for name, field in op.items() if name not in unread})
        needed |= set(_numbers(op, _reads(op)))
    needed |= set(lowered.inputs)

    kept.reverse()
    number = {old: new for new, old in enumerate(sorted(needed | _all_numbers(kept)))}
    return Lowered(
        [lowered.tensors[old] for old in number],
        [_renumbered(op, number) for op in kept],
        [number[old] for old in lowered.inputs],
        [number[old] for old in lowered.outputs],
    )


def _reads(op: Op) -> tuple[str, ...]:
    return _READS[:-1] if op["op"] in _MAKES_MASK else _READS


def _writes(op: Op) -> tuple[str, ...]:
    return (*_WRITES, "mask") if op["op"] in _MAKES_MASK else _WRITES


def _numbers(op: Op, names: Sequence[str]) -> list[int]:
    found: list[int] = []
    for name in names:
        field = op.get(name)
        found += [] if field is None else [field] if isinstance(field, int) else field
    return found


def _all_numbers(ops: Sequence[Op]) -> set[int]:
    return {number for op in ops for number in _numbers(op, (*_READS, *_WRITES))}


def _renumbered(op: Op, number: dict[int, int]) -> Op:
    changed = dict(op)
    for name in (*_READS, *_WRITES):
        field = op.get(name)
        if field is not None:
            changed[name] = number[field] if isinstance(field, int) else [number[n] for n in field]
    return changed
