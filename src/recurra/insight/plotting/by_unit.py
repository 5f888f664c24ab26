"""Figures with a point per unit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from recurra.insight.plotting import style as look
from recurra.insight.plotting.figure import make_row
from recurra.insight.plotting.view import View, headline, title_of
from recurra.insight.tracing import LayerTrace
from recurra.insight.tracing.summary import summarize_layer


def saturation_figure(view: View, title: str | None, width: float) -> Any:
    gates: dict[str, list[tuple[LayerTrace, Any]]] = {}
    for layer in view.layers:
        for name, gate in summarize_layer(layer).gates.items():
            if gate.kind == "gate":
                gates.setdefault(name, []).append((layer, gate))
    if not gates:
        raise ValueError(
            "No layer here has gates between 0 and 1 (sigmoid or hard_sigmoid) that could be "
            "saturated."
        )
    order = [layer.path for layer in view.layers]

    def draw(axes: Any, name: str) -> None:
        from matplotlib.ticker import PercentFormatter

        for layer, gate in gates[name]:
            units = view.units_of(layer, len(gate.low))
            axes.scatter(
                gate.low[units],
                gate.high[units],
                s=22,
                color=look.LINES[1 + order.index(layer.path) % (len(look.LINES) - 1)],
                alpha=0.65,
                linewidths=0,
                label=layer.path,
                clip_on=False,
                zorder=3,
            )
        axes.plot([0, 1], [1, 0], color=look.HATCH, linewidth=0.8)
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xlabel="closed (below 0.05)" if len(gates) <= 3 else "closed",
        )
        axes.grid(color=look.FAINT, linewidth=0.6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
            axis.set_ticks([0, 0.25, 0.5, 0.75, 1] if len(gates) <= 3 else [0, 0.5, 1])

    named = {name: title_of(found[0][0], name) for name, found in gates.items()}
    return make_row(
        [(text, functools.partial(draw, name=name)) for name, text in named.items()],
        title or headline(view, "share of real steps, a point per unit", row=False),
        width,
        label="open (above 0.95)",
        legend=len(view.layers) > 1,
    )


def memory_figure(view: View, title: str | None, width: float) -> Any:
    curves = []
    longest = 1
    for number, layer in enumerate(view.layers):
        summary = summarize_layer(layer)
        if summary.memory is None:
            continue
        units = view.units_of(layer, len(summary.memory.steps))
        kept = np.sort(summary.memory.steps[units])[::-1]
        curves.append((number, layer.path, kept, summary.memory.gate))
        longest = max(longest, summary.time_steps)
    nothing = [layer.path for layer in view.layers if _no_numbers(layer)]
    if not curves and nothing:
        raise ValueError(
            f"{nothing[0]!r} has units without any gate value that is a finite number, so how long "
            "they remember is not known; print(trace.summary()) tells more."
        )
    if not curves:
        raise ValueError(
            "No layer here has a gate that says how long it remembers: LSTM and GRU with a sigmoid "
            "as recurrent_activation have one."
        )

    def draw(axes: Any) -> None:
        from matplotlib.ticker import PercentFormatter

        for number, path, steps, gate in curves:
            places = np.arange(1, len(steps) + 1) / len(steps)
            options = look.line_style(number + 1)
            axes.plot(places, steps, label=path, marker="o", markersize=2.5, **options)
            axes.set_ylabel(f"steps until 1/e is left\n{_formula(gate)}", linespacing=1.4)
        axes.axhline(longest, color=look.MUTED, linewidth=0.8, linestyle=look.DASHES[1])
        axes.annotate(
            f"the sequence: {longest:,} {'step' if longest == 1 else 'steps'}",
            (1, longest),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=look.MUTED,
            fontsize=7.5,
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("share of units, the longest memory first")
        axes.grid(color=look.FAINT, linewidth=0.6)

    return make_row(
        [("memory length", draw)],
        title or headline(view, row=False),
        width,
        legend=len(curves) > 1,
        height=2.6,
    )


def _no_numbers(layer: LayerTrace) -> bool:
    """Whether a layer has gates, and nothing in them at any real step."""
    gates = [gate for gate in summarize_layer(layer).gates.values() if gate.kind == "gate"]
    return any(bool(np.isnan(gate.mean).any()) for gate in gates)


def _formula(gate: str) -> str:
    return f"−1 / ln(mean {gate.replace('_', ' ')})"
