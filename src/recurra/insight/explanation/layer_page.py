"""The explanation of one layer as a document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from recurra.insight.explanation.cell_facts import CellFacts
from recurra.insight.explanation.document import (
    Code,
    Content,
    Document,
    Gap,
    Part,
    Section,
    Text,
    table,
)
from recurra.insight.explanation.findings import findings_section
from recurra.insight.explanation.layer_facts import LayerFacts
from recurra.insight.explanation.results import Equality, Result, is_cell, wraps
from recurra.insight.explanation.sizes import legend, shape_text
from recurra.insight.linting import Finding

Detail = Literal["brief", "normal", "full"]


_SIGNS = "∘ element by element, ' after the step"


def layer_document(facts: LayerFacts, detail: Detail, findings: Sequence[Finding] = ()) -> Document:
    """What there is to tell about a layer, in so much detail."""
    sections = [_returns(facts)]
    if detail != "brief":
        sections += _steps(facts)
    sections.append(_weights(facts, detail))
    if is_cell(facts.layer):
        runs = f"`RNN({facts.layer.class_name}(...))` runs it over a sequence."
        sections.append(Section("Engine", (Text(f"A cell computes one step. {runs}"),)))
    else:
        sections.append(engine_section([(facts.path, facts)]))
    if findings:
        sections.append(findings_section(findings))
    notes = [Text(note) for note in _notes(facts)]
    if notes:
        sections.append(Section("Good to know", tuple(notes)))
    if detail != "brief" and facts.options:
        rows = [(write, get) for write, get in facts.options]
        sections.append(
            Section("To get something else", (table(rows, "code", "text", hangs=True),))
        )
    if detail == "full":
        sources = [cell.source for cell in _all_cells(facts) if cell.source]
        if sources:
            content = tuple(Text(source) for source in dict.fromkeys(sources))
            sections.append(Section("Where the equations come from", content))
    return Document(facts.path, _aside(facts), tuple(sections), _legend(facts, detail))


def _aside(facts: LayerFacts) -> str:
    stacks = [", ".join(str(cell.units) for cell in leaf.cells) for leaf in facts.unlike()]
    units = " and ".join(dict.fromkeys(stacks))
    unit = "filters" if facts.leaf.layer.class_name.startswith("ConvLSTM") else "units"
    sizes = f", {units} {unit}" if units and units != "U" else ""
    arrow = f": {shape_text(facts.shape)} → {shape_text(facts.results.results[0].shape)}"
    return f"{facts.title}{sizes}{arrow}"


def _legend(facts: LayerFacts, detail: Detail) -> str:
    """What the letters in shapes and equations stand for."""
    shapes = [facts.shape, *(result.shape for result in facts.results.results)]
    letters = legend(*shapes, *(w.shape for cell in _all_cells(facts) for w in cell.weights))
    signs = [_SIGNS] if detail != "brief" and any(c.known for c in _all_cells(facts)) else []
    return "; ".join([*letters, *signs])


def _all_cells(facts: LayerFacts) -> list[CellFacts]:
    return [*facts.cells, *(cell for part in facts.parts for cell in _all_cells(part))]


# --- What comes out ---


def _returns(facts: LayerFacts) -> Section:
    results = facts.results.results
    content: list[Content] = [
        Code(facts.call),
        Gap(),
        table([_result(result) for result in results], "name", "shape", "text", hangs=True),
    ]
    equal = [_equality(equality) for equality in facts.results.equalities]
    others = _others(facts)
    if equal:
        content += [Gap(), table([*equal, *others], "code", "text", hangs=True)]
    return Section("Returns", tuple(content), _because(facts))


def _because(facts: LayerFacts) -> str:
    """How many things come, with the arguments that make it so."""
    layer = facts.leaf.layer
    if is_cell(layer):
        return "the output of one step, and the states for the next"
    count = len(facts.results.names)
    set_ = [f"{n}=True" for n in ("return_state", "return_trace") if getattr(layer, n)]
    if wraps(facts.layer) == "directions" and facts.layer.merge_mode is None:
        set_.append("merge_mode=None")
    things = "results" if layer.return_trace else "arrays"
    number = "one array" if count == 1 else f"{count} {things}"
    return f"{number}, because {' and '.join(set_) or 'return_state=False'}"


def _result(result: Result) -> tuple[str, str, str]:
    shape = shape_text(result.shape)
    return result.name, f"{shape} each" if result.kind == "trace" else shape, result.meaning


def _equality(equality: Equality) -> tuple[str, str]:
    why = equality.why
    if equality.unless:
        why = f"{why[:-1]}; not where {equality.unless}."
    return f"{equality.left} == {equality.right}", why


def _others(facts: LayerFacts) -> list[tuple[str, str]]:
    """Returned states that are in no output, of layers of one cell."""
    cells = facts.cells
    if len(cells) != 1 or not cells[0].known or "state_h" not in facts.results.names:
        return []
    return [
        (f"{state.output} != {cells[0].states[0].output}", state.meaning)
        for state in cells[0].states[1:]
    ]


# --- What happens in a step ---


def _steps(facts: LayerFacts) -> Iterator[Section]:
    sections: list[Section] = []
    if facts.parts:
        sections.append(Section("Inside", tuple(_inside(facts))))
    starts = "" if is_cell(facts.layer) else facts.starts
    leaves = facts.unlike()
    for leaf in leaves:
        of = _within(facts, leaf) if len(leaves) > 1 else ""
        sections += [_step(cell, leaf, starts, of) for cell in leaf.cells if cell.known]
    return iter(sections)


def _within(facts: LayerFacts, leaf: LayerFacts) -> str:
    """Where a layer is inside of the one that is explained: "forward_layer"."""
    return leaf.path.removeprefix(f"{facts.path}/")


def _inside(facts: LayerFacts) -> list[Content]:
    if wraps(facts.layer) == "model":
        names = ", ".join(f"`{part.path}` ({part.title})" for part in facts.parts)
        return [Text(f"A model is run on each item of axis 1. Recurrent in it: {names}.")]
    if len(facts.parts) == 1:
        part = facts.parts[0]
        items = facts.shape[1] if len(facts.shape) > 1 else "N"
        text = (
            f"`{part.path}` is run on each of the {items} items of axis 1, with the same weights: "
            f"{facts.shape[0]}·{items} sequences of shape {shape_text(part.shape[1:])}."
        )
        return [Text(text), *(_inside(part) if part.parts else [])]
    rows = []
    for (name, layer), reads in zip(facts.layer.parts, _directions(facts), strict=True):
        what = f"{layer.class_name}: reads {reads}, with weights and states of its own."
        rows.append((name, what))
    return [table(rows, "name", "text")]


def _directions(facts: LayerFacts) -> list[str]:
    ways = ("from the first step to the last", "from the last step to the first")
    return [ways[part.go_backwards] for _, part in facts.layer.parts]


def _step(cell: CellFacts, leaf: LayerFacts, starts: str, of: str = "") -> Section:
    rows = [(line.symbol, line.name, line.formula, line.meaning) for line in cell.lines]
    feeds = [(", ".join(needs), f"→ {', '.join(made)}") for needs, made in cell.feeds()]
    below = leaf.cells.index(cell)
    above = leaf.cells[below + 1 : below + 2]
    output = f"x of {above[0].name}" if above else "the output"
    for state in cell.states:
        goes = f"{output}, and" if state is cell.states[0] else "in no output, but"
        feeds.append((f"{state.symbol}'", f"→ {goes} {state.symbol} of the next step"))
    symbols = " and ".join(state.symbol for state in cell.states)
    content: list[Content] = [
        table(rows, "name", "name", "code", "text", hangs=True),
        Gap(),
        table(feeds, "name", "text"),
        *([Text(f"At first, {symbols}: {starts}.")] if starts else []),
    ]
    whose = "/".join([*([of] if of else []), *([cell.name] if len(leaf.cells) > 1 else [])])
    title = f"One step of {whose} ({cell.layer})" if whose else "One step"
    gates = [block.symbol for block in cell.blocks]
    values = "1 value" if len(gates) == 1 else f"{len(gates)} values ({', '.join(gates)})"
    x = "the step's x" if not below else f"the output of {leaf.cells[below - 1].name}, its x"
    return Section(
        title,
        tuple(content),
        f"each of the {cell.units} units computes {values} from {x} ({leaf.shape[0]}, "
        f"{cell.features}) and the previous step's {symbols} ({leaf.shape[0]}, {cell.units})",
    )


# --- Weights ---


def _weights(facts: LayerFacts, detail: Detail) -> Section:
    content: list[Content] = []
    if detail != "brief":
        leaves = facts.unlike()
        for leaf in leaves:
            if len(leaves) > 1:
                total = _total(leaf.formula, leaf.numbers, leaf.parameters)
                content.append(Text(f"{_within(facts, leaf)}: {total}"))
            for cell in leaf.cells:
                if len(leaf.cells) > 1:
                    total = _total(cell.formula, cell.numbers, cell.parameters)
                    content.append(Text(f"{cell.name}: {total}"))
                content += _arrays(cell)
    return Section(
        "Weights", tuple(content), _total(facts.formula, facts.numbers, facts.parameters)
    )


def _total(formula: str, numbers: str, count: int | None) -> str:
    terms = [term for term in dict.fromkeys((formula, numbers)) if term]
    if count is not None:
        terms.append(f"{count:,}")
    if not terms:
        return "known once the layer is built"
    return " = ".join(terms) + " parameters"


def _arrays(cell: CellFacts) -> list[Content]:
    rows = [
        (weight.name, shape_text(weight.shape), weight.letter, weight.meaning)
        for weight in cell.weights
    ]
    content: list[Content] = [table(rows, "name", "shape", "code", "text", hangs=True)]
    if len(cell.blocks) > 1:
        letters = [letter for weight in cell.weights for letter in weight.letter.split(", ")]
        content += [
            Text(
                f"{len(cell.blocks)}·{cell.units} columns: each gate has a block of "
                f"{cell.units} in every array."
            ),
            table(
                [
                    (
                        f"[..., {block.columns}]",
                        ", ".join(f"{letter}_{block.symbol}" for letter in letters),
                        block.gate,
                    )
                    for block in cell.blocks
                ],
                "code",
                "code",
                "name",
            ),
        ]
    return content


# --- Engine, notes ---


def engine_section(layers: Sequence[tuple[str, LayerFacts]]) -> Section:
    """Which engine runs each layer, and why."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for path, facts in layers:
        layer = facts.layer
        alike.setdefault((layer.engine, layer.reason, layer.advice), []).append(path)
    rows: list[tuple[str | Part, ...]] = []
    for (engine, reason, advice), paths in alike.items():
        who = "all of them" if len(alike) == 1 and len(paths) > 2 else ", ".join(paths)
        rows.append((Part(who, "name"), engine_part(engine), _sentence(reason)))
        if advice:
            rows.append(("", Part("for the fast one", "dim"), _sentence(advice)))
    if len(layers) == 1:
        rows = [row[1:] for row in rows]
        return Section("Engine", (table(rows, "text", "text"),))
    return Section("Engine", (table(rows, "name", "text", "text", hangs=True),))


def engine_part(engine: str) -> Part:
    """An engine's name, and whether it is the fast one."""
    if engine == "keras":
        return Part("Keras's own scan", "bad")
    if engine in ("cpu", "gpu"):
        return Part(f"Recurra's engine ({engine})", "good")
    if engine == "runtime":
        return Part("Recurra's runtime", "good")
    return Part(engine or "not known", "dim")


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    if re.match(r"\w+[=.(]", text):
        return f"{text}."  # begins with code
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _notes(facts: LayerFacts) -> list[str]:
    notes = list(facts.notes)
    for part in facts.parts:
        notes += [note for note in _notes(part) if not note.startswith(("Padding", "go_backwards"))]
    return list(dict.fromkeys(notes))
