"""Recording what goes on inside of a model: `recurra.trace`."""

from __future__ import annotations

from recurra.insight.tracing.trace import LayerTrace, Trace

__all__ = ["LayerTrace", "Trace"]
