"""`lint`: every rule over a model."""

from __future__ import annotations

import importlib
from typing import Any

from recurra.insight.linting.data import Data, data_of, padding_of
from recurra.insight.linting.finding import SEVERITIES, Finding
from recurra.insight.linting.rules import RULES
from recurra.insight.linting.unbuilt import is_unbuilt_sequential, structure_of_unbuilt
from recurra.insight.linting.view import View
from recurra.insight.structure import Structure, structure_of

for _name in ("time_axis", "masks", "states", "stateful", "outputs", "with_data", "with_shapes"):
    importlib.import_module(f"recurra.insight.linting.{_name}")


def lint(thing: Any, x: Any = None, y: Any = None) -> list[Finding]:
    """Common mistakes in a model with recurrent layers.

    Args:
        thing: whatever `recurra.insight.structure_of` accepts (a Keras model or layer, a Runtime,
            the path of a saved model), or its Structure; Sequential models that are not built yet
            too, as far as that goes.
        x: data for the model, as `predict` takes it: an array (batch, time_steps, features) or
            (batch, time_steps) of words, or arrays in a list or by the inputs' names. With it,
            padding that no mask leaves out is found too, and whatever else only data can tell.
        y: the targets, as `fit` takes them, likewise.

    Returns:
        What was found, errors first, then in the order of the model's calls; empty if nothing was.
        The codes are listed in docs/lint.md.

    Raises:
        ValueError: if x or y are not the model's inputs and outputs in number or name.

    Example:
        >>> for finding in recurra.insight.lint(model):
        ...     print(finding)
    """
    structure = thing if isinstance(thing, Structure) else _structure(thing)
    data = data_of(structure, x, y)
    view = View(structure, padded_at_end=_padded_at_end(data))
    given = {"model": True, "x": bool(data.x), "y": bool(data.y)}
    found = [
        finding
        for rule in RULES.values()
        if given[rule.needs]
        for finding in rule.findings(view, *_arguments(rule.needs, data))
    ]
    places = {node.path: index for index, node in enumerate(structure.nodes)}

    def order(finding: Finding) -> tuple[int, int, str]:
        place = places.get(finding.where, -1 if not finding.where else len(places))
        return SEVERITIES.index(finding.severity), place, finding.code

    return sorted(found, key=order)


def _padded_at_end(data: Data) -> bool:
    paddings = [padding for array in data.x.values() if (padding := padding_of(array))]
    return bool(paddings) and all(padding.at_end for padding in paddings)


def _arguments(needs: str, data: Data) -> tuple[Data, ...]:
    return () if needs == "model" else (data,)


def _structure(thing: Any) -> Structure:
    if is_unbuilt_sequential(thing):
        return structure_of_unbuilt(thing)
    return structure_of(thing)
