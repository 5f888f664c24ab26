"""The structure that goes with a trace, and what it says about the trace's names and order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recurra.insight.structure import Structure
from recurra.insight.tracing.result import LayerTrace


def described(model: Any, make: Callable[[], Structure]) -> Structure:
    """A model's structure; an empty one that says why, where a model resists it.

    A trace is worth having without its model's structure.

    Args:
        model: has a name.
        make: gives the structure.
    """
    try:
        return make()
    except Exception as error:
        text = " ".join(str(error).split())
        return Structure(
            name=str(model.name),
            kind=type(model).__name__,
            tensors=(),
            nodes=(),
            inputs=(),
            outputs=(),
            gaps=(f"The model's structure could not be read: {type(error).__name__}: {text}",),
        )


def in_order(traces: Mapping[str, LayerTrace], structure: Structure) -> dict[str, LayerTrace]:
    """Traces in the order in which the structure lists the calls; others come last."""
    places = [node.path for node in structure.recurrent()]

    def place(path: str) -> int:
        holders = (i for i, p in enumerate(places) if path == p or path.startswith(f"{p}/"))
        return next(holders, len(places))

    return {path: traces[path] for path in sorted(traces, key=place)}


def names_of(structure: Structure, kind: str, count: int) -> list[str]:
    """What a model's inputs or outputs are called.

    Args:
        structure: the model's.
        kind: "input" or "output".
        count: how many there are.
    """
    numbers = structure.inputs if kind == "input" else structure.outputs
    found: list[str] = []
    for number in numbers:
        name, again = structure.tensors[number].name, 1
        while name in found:
            again += 1
            name = f"{structure.tensors[number].name}:{again}"
        found.append(name)
    if len(found) == count:
        return found
    return [kind if count == 1 else f"{kind}_{index}" for index in range(count)]
