"""Common mistakes in a model with recurrent layers: `lint(model)`."""

from __future__ import annotations

from recurra.insight.linting.check import lint
from recurra.insight.linting.finding import SEVERITIES, Finding, Severity

__all__ = ["SEVERITIES", "Finding", "Severity", "lint"]
