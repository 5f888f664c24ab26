"""The order of a model's calls, and which call each tensor comes from."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, NamedTuple

from recurra.runtime.calls import Reference, references
from recurra.runtime.describe_model import Entry, Input, Model
from recurra.runtime.errors import ModelFileError
from recurra.runtime.graph import Tensor
from recurra.runtime.layers.config import shown
from recurra.runtime.order import keras_order


class Values(NamedTuple):
    """The results of a call: tensors in Keras's flat order, and how they are nested.

    `structure` has an index into `flat` where Keras has a tensor.
    """

    flat: list[Tensor]
    structure: Any = None


def in_order(model: Model, known: Mapping[tuple[str, int], Values]) -> list[tuple[Entry, int]]:
    """All calls of a model so that each comes after those it needs.

    Raises:
        ModelFileError: if there are cycles, or references to what does not exist.
    """
    names = {name: index for index, name in enumerate(model.entries)}
    waiting: dict[tuple[int, int], set[tuple[int, int]]] = {}
    parents: dict[tuple[int, int], list[tuple[int, int]]] = {}
    needed_by: dict[tuple[int, int], list[tuple[int, int]]] = {}
    entries = list(model.entries.values())
    for position, entry in enumerate(entries):
        for number, call in enumerate(entry.calls):
            if isinstance(entry.part, Input):
                raise ModelFileError(f"The input '{entry.name}' of '{model.where}' is called.")
            wants = []
            for reference in references([[*call.arguments], dict(call.keywords)]):
                source, count = _source(model, reference, f"{model.where}/{entry.name}")
                if (source.name, count) not in known:
                    wants.append((names[source.name], count))
            parents[position, number] = wants
            waiting[position, number] = set(wants)
            for want in set(wants):
                needed_by.setdefault(want, []).append((position, number))
    ready = [key for key, wants in waiting.items() if not wants]
    heapq.heapify(ready)
    order = []
    while ready:
        key = heapq.heappop(ready)
        order.append(key)
        for later in needed_by.get(key, ()):
            waiting[later].discard(key)
            if not waiting[later]:
                heapq.heappush(ready, later)
    if len(order) != len(waiting):
        left = [entries[p].name for (p, n), wants in waiting.items() if wants]
        raise ModelFileError(
            f"The layers of the model '{model.where}' wait for each other in a circle, or for an "
            f"input that is none: {shown(left[:5])}."
        )
    if _takes_masks(model):
        found = [
            _source(model, each, model.where, of_model=True) for each in references(model.outputs)
        ]
        keys = [(names[source.name], count) for source, count in found]
        owners = {key: key[0] for key in parents}
        first = keras_order(parents, owners, [key for key in keys if key in parents])
        needed = set(first)
        order = first + [key for key in order if key not in needed]
    return [(entries[position], number) for position, number in order]


def _takes_masks(model: Model) -> bool:
    """Whether the order of calls matters, as it does with layers that take masks away."""
    parts = [entry.part for entry in model.entries.values()]
    return any(
        _takes_masks(part) if isinstance(part, Model) else getattr(part, "takes_masks", False)
        for part in parts
    )


def _source(
    model: Model, reference: Reference, where: str, *, of_model: bool = False
) -> tuple[Entry, int]:
    """The entry that a reference is to, and the number of the call, counted from 0."""
    entry = model.entries.get(reference.layer)
    if entry is None:
        raise ModelFileError(
            f"'{where}' uses '{reference.layer}', but the model '{model.where}' has no such layer."
        )
    if isinstance(entry.part, Input):
        if reference.call:
            raise ModelFileError(f"'{where}' uses call {reference.call} of an input.")
        return entry, 0
    number = reference.call
    counted_from_one = entry.from_one
    if of_model and isinstance(entry.part, Model):
        # Keras 3 counts from 1 for functional models here, Keras 2 for all.
        counted_from_one |= (not entry.part.sequential) or number >= len(entry.calls)
    if counted_from_one and number > 0:
        number -= 1
    if number >= len(entry.calls):
        raise ModelFileError(
            f"'{where}' uses call {reference.call} of '{reference.layer}', which is called "
            f"{len(entry.calls)} times in the model '{model.where}'."
        )
    return entry, number


def value_of(
    model: Model,
    known: Mapping[tuple[str, int], Values],
    reference: Reference,
    *,
    of_model: bool = False,
) -> Tensor:
    """The tensor that a reference is to.

    Args:
        known: results by layer and number of the call.
        of_model: whether it is one of the model's outputs, which Keras counts otherwise.
    """
    entry, number = _source(model, reference, model.where, of_model=of_model)
    values = known.get((entry.name, number))
    if values is None:
        raise ModelFileError(
            f"The model '{model.where}' needs '{entry.name}', which is not among its inputs."
        )
    if reference.output >= len(values.flat):
        raise ModelFileError(
            f"The model '{model.where}' uses output {reference.output} of '{entry.name}', which "
            f"has {len(values.flat)}."
        )
    return values.flat[reference.output]
