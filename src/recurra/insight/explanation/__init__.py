"""What a layer or a model is, in words: `explain`."""

from __future__ import annotations

from recurra.insight.explanation.asking import explain
from recurra.insight.explanation.explanation import Explanation

__all__ = ["Explanation", "explain"]
