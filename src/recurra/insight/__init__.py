"""Understanding a model: what its outputs, states and gates are, in words, numbers and pictures.

    recurra.explain(model)              what comes out of each layer, and why
    recurra.trace(model, x)             every state and gate at every step, to look at and to plot
    recurra.insight.lint(model)         common mistakes in it
    recurra.insight.Trace.load(path)    a trace that was saved

Nothing here imports Keras unless it is given a Keras model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recurra.insight.explanation import Explanation as Explanation
    from recurra.insight.explanation import explain as explain
    from recurra.insight.linting import lint as lint
    from recurra.insight.structure import structure_of as structure_of
    from recurra.insight.tracing import LayerTrace as LayerTrace
    from recurra.insight.tracing import Trace as Trace
    from recurra.insight.tracing import trace as trace

_PLACES = {
    "Explanation": "explanation",
    "LayerTrace": "tracing",
    "Trace": "tracing",
    "explain": "explanation",
    "lint": "linting",
    "structure_of": "structure",
    "trace": "tracing",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"recurra.insight.{_PLACES[name]}"), name)
    raise AttributeError(
        f"module 'recurra.insight' has no attribute {name!r}; it has {', '.join(_PLACES)}."
    )


def __dir__() -> list[str]:
    return sorted(__all__)
