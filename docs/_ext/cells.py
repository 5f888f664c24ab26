"""The directive `cell`: a cell's gates, states, parameters and equations, from its definition."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from recurra.cells import CELLS


def _table(*columns: str, rows: list[tuple[str, ...]], code: int) -> nodes.table:
    """A table whose first `code` columns are code."""
    group = nodes.tgroup(cols=len(columns))
    group += [nodes.colspec(colwidth=1) for _ in columns]

    def row(texts: tuple[str, ...], head: bool = False) -> nodes.row:
        made = nodes.row()
        for index, text in enumerate(texts):
            inline = (
                nodes.Text(text)
                if head or index >= code
                else nodes.literal("", text)
            )
            made += nodes.entry("", nodes.paragraph("", "", inline))
        return made

    group += nodes.thead("", row(columns, head=True))
    group += nodes.tbody("", *(row(texts) for texts in rows))
    return nodes.table("", group)


def _when(options: Any) -> str:
    return "".join(f" ({name}={value})" for name, value in options.items())


def _shape(sizes: tuple[str, ...]) -> str:
    text = ", ".join(sizes).replace("*", "·")
    return f"({text},)" if len(sizes) == 1 else f"({text})"


class Cell(SphinxDirective):
    """What a cell is."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        spec = CELLS[self.arguments[0]]
        equations = "\n".join(
            equation.text
            + (f"      {_when(equation.when).strip()}" if equation.when else "")
            for equation in spec.equation_table
        )
        made: list[nodes.Node] = [
            nodes.paragraph("", spec.summary),
            nodes.literal_block(equations, equations, language="text"),
        ]
        named = [(gate.symbol, gate.name, gate.meaning) for gate in spec.gate_table]
        named += [
            (s.symbol, f"{s.name}, {s.output}", s.meaning) for s in spec.state_table
        ]
        made.append(_table("symbol", "name", "meaning", rows=named, code=2))
        weights = [
            (p.name, _shape(p.shape), p.meaning + _when(p.when))
            for p in spec.parameters
        ]
        made.append(_table("weight", "shape", "meaning", rows=weights, code=2))
        made.append(nodes.paragraph("", f"Source: {spec.source}"))
        return made


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("cell", Cell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
