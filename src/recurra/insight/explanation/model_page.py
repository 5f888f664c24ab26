"""The explanation of a model as a document."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.insight.explanation.document import Content, Document, Part, Section, Text, table
from recurra.insight.explanation.findings import findings_section
from recurra.insight.explanation.layer_page import Detail, engine_section
from recurra.insight.explanation.model_facts import Made, ModelFacts, Step, shown
from recurra.insight.explanation.sizes import legend, shape_text
from recurra.insight.linting import Finding

_MANY = 30
"""Steps of the way; longer ones are told without the layers that only hand on."""

_LONG = 24
"""Letters of a sum that are shown in a table."""


def model_document(
    facts: ModelFacts, detail: Detail, findings: Sequence[Finding] = (), *, below: bool = False
) -> Document:
    """What there is to tell about a model, in so much detail.

    Args:
        facts: of the model.
        detail: how much to tell.
        findings: what lint has found.
        below: whether the layers' own documents follow.
    """
    sections = [_way(facts, detail)]
    if facts.masks or (facts.layers and detail != "brief"):
        masks = facts.masks or ("None: every step of every sequence counts as a real one.",)
        sections.append(Section("Mask", tuple(Text(sentence) for sentence in masks)))
    if facts.states:
        sections.append(Section("States", tuple(Text(sentence) for sentence in facts.states)))
    if facts.layers and detail != "brief":
        sections.append(_layers(facts, below))
        sections.append(engine_section([(layer.path, layer) for layer in facts.layers]))
    sections.append(findings_section(findings, all_clear=True))
    if facts.gaps:
        sections.append(Section("Not followed", tuple(Text(gap) for gap in facts.gaps)))
    count = len(facts.layers)
    number = f"{count} recurrent layer{'' if count == 1 else 's'}"
    kind = [] if facts.kind == "Runtime" else [facts.kind]
    source = [f"from {facts.source}"] if facts.source else []
    aside = ", ".join([*kind, number, f"{facts.parameters:,} parameters", *source])
    return Document(facts.name, aside, tuple(sections), _foot(facts))


def _foot(facts: ModelFacts) -> str:
    return "; ".join(legend(*(made.shape for step in facts.steps for made in step.made)))


# --- The way ---


def _way(facts: ModelFacts, detail: Detail) -> Section:
    steps = list(facts.steps)
    if detail != "full" and (len(steps) > _MANY or detail == "brief"):
        steps = _shortened(steps)
    rows: list[tuple[str | Part, ...]] = []
    masked = False
    for place, step in enumerate(steps):
        following = steps[place + 1] if place + 1 < len(steps) else None
        rows += _step_rows(step, following)
        masked = masked or any(made.masked for made in step.made)
    aside = "┆ where a mask comes with the data" if masked else ""
    return Section("The data's way", (table(rows, "name", "text"),), aside)


def _step_rows(step: Step, following: Step | None) -> list[tuple[str | Part, ...]]:
    title = step.title
    if step.reads and not step.follows:
        title += f" ← {', '.join(step.reads)}"
    if step.note:
        title += f"; {step.note}"
    kind = "name" if step.recurrent else "plain"
    name = f"… {step.count} layers" if step.count > 1 else step.path
    rows: list[tuple[str | Part, ...]] = [(Part(name, kind), title)]
    width = max((len(made.name) for made in step.made), default=0)
    for made in step.made:
        label = f"{made.name:<{width}}  " if width else ""
        line = f"{'┆' if made.masked else '│'} {label}{shown(made.shape)}"
        rows.append((Part(line, "rail"), Part(_goes(made, step, following), "dim")))
    return rows


def _goes(made: Made, step: Step, following: Step | None) -> str:
    parts = [made.meaning.rstrip(".")] if made.meaning else []
    next_only = following is not None and made.users == (following.path,) and following.follows
    if made.leaves:
        parts.append("an output of the model")
    if made.users and not next_only and not (following and step.count > 1):
        parts.append(f"→ {', '.join(made.users)}")
    if not made.users and not made.leaves:
        parts.append("unused")
    return "; ".join(parts)


def _shortened(steps: Sequence[Step]) -> list[Step]:
    """Runs of layers that only hand on to the next are told as one."""
    shortened: list[Step] = []
    run: list[Step] = []

    def finish() -> None:
        if len(run) > 2:
            names = ", ".join(dict.fromkeys(step.title for step in run))
            shortened.append(
                Step(run[0].path, names, False, (), True, run[-1].made, count=len(run))
            )
        else:
            shortened.extend(run)
        run.clear()

    for step in steps:
        plain = step.follows and not step.recurrent and not step.note and len(step.made) == 1
        if not plain:
            finish()
            shortened.append(step)
            continue
        run.append(step)
        if len(step.made[0].users) != 1 or step.made[0].leaves:
            finish()
    finish()
    return shortened


# --- The layers ---


def _layers(facts: ModelFacts, below: bool) -> Section:
    shared = {node.path for node in facts.structure.recurrent() if not node.parameters}
    rows: list[tuple[str | Part, ...]] = []
    for layer in facts.layers:
        count = "" if layer.parameters is None else f"{layer.parameters:,}"
        if layer.path in shared:
            count = "shared"
        output = shape_text(layer.results.results[0].shape)
        numbers = layer.numbers if len(layer.numbers) <= _LONG else ""
        rows.append((layer.path, layer.title, output, count, numbers))
    content: list[Content] = [
        table(
            rows,
            "name",
            "text",
            "shape",
            "number",
            "dim",
            head=("layer", "class", "output", "parameters", ""),
        )
    ]
    first = facts.layers[0].path
    more = f"`explanation[{first!r}]`, or detail='full'"
    if facts.source:
        more = f"`recurra explain {facts.source} {first}`, or --full"
    content.append(Text("More on each below." if below else f"More on each: {more}.", "dim"))
    return Section("Recurrent layers", tuple(content))
