"""What a check of a model finds: what is wrong, where, why it matters and what to write instead."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "hint"]
"""error: raises, or computes something other than what was meant; warning: almost always a mistake;
hint: worth knowing, and sometimes meant."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "hint")


@dataclass(frozen=True)
class Finding:
    """One likely mistake in a model.

    code: stable, such as "R101": docs/lint.md has a table of them.
    severity: "error", "warning" or "hint", see `Severity`.
    where: path of the call that it is about, as in `recurra.insight.structure.Node`; "" for the
        model as a whole.
    problem: what was found, in one or two sentences, with names and shapes.
    why: what it does to the model's results, in one sentence.
    advice: what to write instead, in one or two sentences.

    Example:
        >>> print(recurra.insight.lint(model)[0])
        R402 error in score: Dense 'score' takes softmax over a single value, (B, 1).
          note: Its output is 1.0 for every input, and no gradient flows back through it.
          help: Use activation="sigmoid" for one probability, or as many units as ...
    """

    code: str
    severity: Severity
    where: str
    problem: str
    why: str
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        return (
            f"{self.code} {self.severity}{place}: {self.problem}\n"
            f"  note: {self.why}\n"
            f"  help: {self.advice}"
        )
