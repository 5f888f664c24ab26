"""The structure that goes with a trace."""

from __future__ import annotations

from typing import Any

from recurra.insight import structure
from recurra.insight.structure import Structure


def described(model: Any) -> Structure:
    """`structure_of(model)`; an empty structure that says why, where a model resists it.

    A trace is worth having without its model's structure.
    """
    make = getattr(structure, "structure_of", None)
    if make is None:
        return empty(model, "")
    try:
        found: Structure = make(model)
    except Exception as error:
        return empty(model, f"The model's structure could not be read: {error}")
    return found


def empty(model: Any, gap: str) -> Structure:
    """A structure without any calls.

    Args:
        model: has a name.
        gap: why there are none.
    """
    return Structure(
        name=str(model.name),
        kind=type(model).__name__,
        tensors=(),
        nodes=(),
        inputs=(),
        outputs=(),
        gaps=(gap,) if gap else (),
    )
