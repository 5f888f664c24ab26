"""Writes docs/lint.md: the mistakes that `recurra.insight.lint` looks for.

python tools/list_rules.py
"""

from __future__ import annotations

from pathlib import Path

from recurra.insight import linting
from recurra.insight.linting.rules import RULES, Rule

PAGE = Path(__file__).resolve().parent.parent / "docs" / "lint.md"

GROUPS = {
    "1": "The axis of time",
    "2": "Masks and padding",
    "3": "States",
    "4": "Inputs, outputs, activations",
    "5": "The data",
}
"""What the rules are about, by the first digit of their codes."""

NEEDS = {"model": "", "x": "with x", "y": "with x and y"}

INTRODUCTION = """\
# Mistakes that `lint` finds

Written by `python tools/list_rules.py` from the rules themselves.

```
recurra explain model.keras --lint                     # of a saved model; Keras is not needed
recurra explain model.keras --lint --data table.csv    # with the data that it gets
```

In a program:

    for finding in recurra.insight.lint(model):        # a model, a layer, a Runtime, a file's path
        print(finding)

    recurra.insight.lint(model, x_train, y_train)      # what only data can tell

A finding has a `code`, a `severity`, the place (`where`), the `problem`, `why` it matters and
`advice`. Codes are never given a new meaning. An **error** cannot run or cannot learn; a
**warning** is almost always a mistake, and the model computes something other than what was meant;
a **hint** is worth knowing, and sometimes meant. `lint` says nothing where it is not sure.
"""


def page() -> str:
    """The page."""
    lines = [
        INTRODUCTION,
        "| code | severity | finds | write instead |",
        "|---|---|---|---|",
    ]
    for rule in sorted(RULES.values(), key=lambda rule: rule.code):
        needs = f" ({NEEDS[rule.needs]})" if NEEDS[rule.needs] else ""
        lines.append(
            f"| [{rule.code}](#{rule.code.lower()}) | {rule.severity} | {rule.title}{needs} "
            f"| {rule.instead} |"
        )
    for digit, title in GROUPS.items():
        lines += ["", f"## {title}"]
        for rule in sorted(RULES.values(), key=lambda rule: rule.code):
            if rule.code[1] == digit:
                lines += ["", *section(rule)]
    return "\n".join([*lines, ""])


def section(rule: Rule) -> list[str]:
    """What there is to say of a rule."""
    needs = f" Found {NEEDS[rule.needs]}." if NEEDS[rule.needs] else ""
    said = f"{rule.severity.capitalize()}: {rule.title}.{needs}"
    return [f"### {rule.code}", "", said, "", rule.text]


assert linting.lint  # the rules are read with it

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
