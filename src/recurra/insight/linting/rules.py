"""What a rule is, and the list of all of them.

A rule is a code, a few words and one function that looks at a model and yields what it finds. Its
docstring tells users what the mistake is; docs/lint.md is made of these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from recurra.insight.linting.finding import Finding, Severity
from recurra.insight.linting.view import View

Needs = Literal["model", "x", "y"]
"""What a rule looks at besides the model: nothing, the inputs, or the inputs' targets too."""


@dataclass(frozen=True)
class Found:
    """A finding before it has its code: see `Finding` for the fields."""

    where: str
    problem: str
    why: str
    advice: str


Check = Callable[..., Iterator[Found]]


@dataclass(frozen=True)
class Rule:
    """One thing that is checked.

    code, severity: as in `Finding`.
    title: the mistake in a few words.
    instead: what to write, in a few words.
    needs: see `Needs`.
    check: called with the View, and the Data where it needs any.
    """

    code: str
    severity: Severity
    title: str
    instead: str
    needs: Needs
    check: Check

    @property
    def text(self) -> str:
        """What the mistake is, for users: the check's docstring."""
        return inspect.cleandoc(self.check.__doc__ or "")

    def findings(self, view: View, *data: Any) -> Iterator[Finding]:
        """What the rule finds in a model."""
        for found in self.check(view, *data):
            yield Finding(
                self.code, self.severity, found.where, found.problem, found.why, found.advice
            )


RULES: dict[str, Rule] = {}


def rule(
    code: str, severity: Severity, title: str, instead: str, *, needs: Needs = "model"
) -> Callable[[Check], Check]:
    """Put a function among the rules; see `Rule` for the arguments."""

    def keep(check: Check) -> Check:
        assert code not in RULES, f"{code} is taken"
        RULES[code] = Rule(code, severity, title, instead, needs, check)
        return check

    return keep
