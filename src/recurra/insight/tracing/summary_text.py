"""A summary for people: as a table in a terminal, as plain text, and for notebooks."""

from __future__ import annotations

import html as html_module
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.insight.tracing import statistics

if TYPE_CHECKING:
    from recurra.insight.tracing.summary import GateSummary, LayerSummary, Summary

_WIDTH = 80


def text(summary: Summary) -> str:
    """Without colours, as lines of at most 80 characters."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, highlight=False)
    console.print(rich(summary))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines)


def rich(summary: Summary) -> Any:
    """What rich prints."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text(headline(summary), style="bold")]
    for layer in summary.layers.values():
        title = Text.assemble(("\n" + layer.path, "bold cyan"), f"  {_sizes(layer)}")
        parts.append(title)
        if layer.gates:
            table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
            table.add_column("gate")
            for name in ("mean", "closed", "open", "saturated"):
                table.add_column(name, justify="right")
            for name, gate in layer.gates.items():
                table.add_row(name, *_gate_cells(gate))
            parts.append(Padding(table, (0, 0, 0, 2)))
        facts = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column()
        for name, value in _facts(layer):
            facts.add_row(name, Text(value))
        parts.append(Padding(facts, (0, 0, 0, 2)))
        for seen in layer.observations:
            style = "bold red" if seen.kind == "not_finite" else "yellow"
            row = Table.grid(padding=(0, 1, 0, 0))
            row.add_row(Text("!", style=style), Text(seen.text))
            parts.append(Padding(row, (0, 0, 0, 2)))
    parts.append(Text(f"\n{_LEGEND}", style="dim"))
    return Group(*parts)


def html(summary: Summary) -> str:
    """For a notebook: plain tables, in its own colours."""
    escape = html_module.escape
    blocks = [f"<strong>{escape(headline(summary))}</strong>"]
    right = ' style="text-align:right"'
    left = ' style="text-align:left"'
    for layer in summary.layers.values():
        block = [f"<p><code>{escape(layer.path)}</code> {escape(_sizes(layer))}</p>"]
        if layer.gates:
            names = ("mean", "closed", "open", "saturated")
            head = "".join(f"<th{right}>{name}</th>" for name in names)
            rows = "".join(
                f"<tr><th{left}>{escape(name)}</th>"
                + "".join(f"<td{right}>{escape(cell)}</td>" for cell in _gate_cells(gate))
                + "</tr>"
                for name, gate in layer.gates.items()
            )
            block.append(f"<table><tr><th{left}>gate</th>{head}</tr>{rows}</table>")
        facts = "".join(
            f"<tr><th{left}>{escape(name)}</th><td{left}>{escape(value)}</td></tr>"
            for name, value in _facts(layer)
        )
        block.append(f"<table>{facts}</table>")
        if layer.observations:
            seen = "".join(f"<li>{escape(seen.text)}</li>" for seen in layer.observations)
            block.append(f"<ul>{seen}</ul>")
        blocks.append("".join(block))
    blocks.append(f"<p><small>{escape(_LEGEND)}</small></p>")
    return f"<div>{''.join(blocks)}</div>"


_LEGEND = (
    f"closed: below {statistics.CLOSED}; open: above {statistics.OPEN}; saturated: beyond "
    f"±{statistics.SATURATED}. Shares of all units' real steps; padded steps count nowhere."
)


def headline(summary: Summary) -> str:
    """How much was traced, in a line."""
    rows = f"{summary.batch:,} {'row' if summary.batch == 1 else 'rows'}"
    layers = f"{len(summary)} recurrent {'layer' if len(summary) == 1 else 'layers'}"
    loss = "" if summary.loss is None else f", loss {summary.loss:.4g}"
    return f"Trace of {rows} through {layers}{loss}"


def _sizes(layer: LayerSummary) -> str:
    backwards = ", read backwards" if layer.go_backwards else ""
    rows = f"{layer.rows:,} {'row' if layer.rows == 1 else 'rows'}"
    steps = f"{layer.time_steps:,} {'step' if layer.time_steps == 1 else 'steps'}"
    padded = ""
    if layer.padded_steps:
        share = layer.padded_steps / (layer.padded_steps + layer.real_steps)
        padded = f", {_percent(share)} padded"
    return f"{layer.class_name}, {layer.units} units{backwards}; {rows} of {steps}{padded}"


def _gate_cells(gate: GateSummary) -> tuple[str, str, str, str]:
    mean = _number(float(np.mean(gate.mean)))
    if gate.low is None or gate.high is None:
        return mean, "", "", ""
    if gate.kind == "candidate":
        return mean, "", "", _percent(float(np.mean(gate.low + gate.high)))
    return mean, _percent(float(gate.low.mean())), _percent(float(gate.high.mean())), ""


def _facts(layer: LayerSummary) -> list[tuple[str, str]]:
    facts = []
    if layer.memory is not None:
        steps = layer.memory.steps
        facts.append(
            (
                "memory length",
                f"median {_steps(float(np.median(steps)))}, {_steps(float(steps.min()))} to "
                f"{_steps(float(steps.max()))} steps: -1/ln(mean "
                f"{layer.memory.gate.replace('_', ' ')})",
            )
        )
    for name, norms in layer.norms.items():
        known = norms[~np.isnan(norms)]
        if len(known):
            facts.append(
                (
                    f"norm of {name.replace('_', ' ')}",
                    f"mean {_number(float(known.mean()))}, from {_number(float(known.min()))} to "
                    f"{_number(float(known.max()))}",
                )
            )
    if layer.gradient is not None:
        flow = layer.gradient
        facts.append(
            (
                "gradient flow",
                f"{flow.verdict}: {_number(flow.first)} at the step read first, "
                f"{_number(flow.last)} at the last",
            )
        )
    return facts


def _steps(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{share:.1%}"
