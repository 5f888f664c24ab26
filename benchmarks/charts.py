"""Pictures of results: the ratios of all shapes, and time against one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import CELL_TITLES, Result, sizes, times
from parts import scaling, shapes
from peers import TITLES

INK, FAINT, WEAK = "#24292f", "#d8dee4", "#57606a"
COLOURS = {
    "recurra": "#000000",
    "torch": "#d55e00",
    "keras-jax": "#0072b2",
    "onnxruntime": "#009e73",
}
"""Okabe and Ito's, which people with every kind of colour vision tell apart."""
MARKERS = {"recurra": "o", "torch": "s", "keras-jax": "^", "onnxruntime": "D"}
CLIP = (0.4, 12.0)
"""Longer bars end here; their labels say how long they are."""


def figure(width: float, height: float) -> Any:
    # Figure and canvas directly: pyplot would look for a screen and keep global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", dpi=130, facecolor="white")
    FigureCanvasAgg(made)
    return made


def where(machine: dict[str, Any]) -> str:
    """Hardware, versions and type in a line."""
    versions = machine["versions"]
    named = {"keras": "Keras", "jax": "JAX", "torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
    found = ", ".join(f"{title} {versions[n]}" for n, title in named.items() if n in versions)
    isa = versions.get("instruction set", "").upper()
    return (
        f"{machine['processor']} ({isa}), {machine['threads']} cores, {machine['dtype']}; {found}"
    )


def draw_speed(path: Path, report: dict[str, Any]) -> None:
    """Bars from 1x to each peer's time over Recurra's: to the right, Recurra is faster."""
    rows = list(shapes.by_row(report["results"]).items())
    panels = {"train": ("keras-jax", "torch"), "forward": ("keras-jax", "torch", "onnxruntime")}
    made = figure(10.5, 1.6 + 0.44 * len(rows))
    axes = made.subplots(1, 2, sharey=True)
    for ax, (mode, peers) in zip(axes, panels.items(), strict=True):
        thickness = 0.84 / len(peers)
        for row, (_, modes) in enumerate(rows):
            for place, peer in enumerate(peers):
                ratio = shapes.ratio(modes, mode, peer)
                if ratio is None:
                    continue
                end = min(max(ratio, CLIP[0]), CLIP[1])
                y = row + (place - (len(peers) - 1) / 2) * thickness
                lost = ratio < 1
                ax.barh(
                    y,
                    end - 1,
                    left=1,
                    height=0.9 * thickness,
                    color="white" if lost else COLOURS[peer],
                    edgecolor=COLOURS[peer],
                    hatch="/////" if lost else None,
                    linewidth=0.8,
                )
                ax.annotate(
                    times(ratio) + (" ▸" if ratio > CLIP[1] else ""),
                    (end, y),
                    xytext=(-3 if lost else 3, 0),
                    textcoords="offset points",
                    ha="right" if lost else "left",
                    va="center",
                    fontsize=6.5,
                    color=INK,
                )
        ax.set_xscale("log")
        ax.set_xlim(CLIP[0] * 0.75, CLIP[1] * 1.6)
        ticks = [0.5, 1, 2, 4, 8]
        ax.set_xticks(ticks, [f"{t:g}x" for t in ticks])
        ax.minorticks_off()
        ax.axvline(1, color=INK, linewidth=1)
        ax.grid(axis="x", color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_title("Training" if mode == "train" else "Forward", fontsize=11, color=INK)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    labels = [f"{sizes(shape)}   {CELL_TITLES[cell]}" for (shape, cell), _ in rows]
    axes[0].set_yticks(range(len(rows)), labels, fontsize=8)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    axes[0].set_ylabel("batch, time_steps, features, units", fontsize=8, color=WEAK)
    handles = [bar(COLOURS[p], None, TITLES[p]) for p in panels["forward"]]
    handles.append(bar("white", "/////", "hatched: the peer is faster", WEAK))
    made.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    made.supxlabel(
        "a peer's time over Recurra's, medians of one alternating run; log scale\n"
        + where(report["machine"]),
        fontsize=8,
        color=WEAK,
    )
    made.savefig(path, format="png")


def bar(colour: str, hatch: str | None, label: str, edge: str | None = None) -> Any:
    """A bar for the legend."""
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, hatch=hatch, edgecolor=edge or colour, label=label)


def draw_scaling(path: Path, report: dict[str, Any], mode: str) -> None:
    """Log-log: time against steps, rows and units, of each peer, with the products' slope."""
    results = [r for r in report["results"] if r["mode"] == mode]
    cells = [c for c in CELL_TITLES if any(r["cell"] == c for r in results)]
    made = figure(10.5, 0.9 + 3.1 * len(cells))
    axes = made.subplots(len(cells), len(scaling.VARIED), squeeze=False)
    for line, cell in zip(axes, cells, strict=True):
        for ax, varied in zip(line, scaling.VARIED, strict=True):
            here = [r for r in results if r["cell"] == cell and r["varied"] == varied]
            draw_curves(ax, here, varied)
            fixed = ", ".join(f"{k} {v}" for k, v in scaling.BASE.items() if k != varied)
            ax.set_title(f"{CELL_TITLES[cell]}; {fixed}", fontsize=8, color=INK)
    handles, labels = axes[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    what = "training (output and all gradients)" if mode == "train" else "forward"
    made.supxlabel(f"{what}; {where(report['machine'])}", fontsize=8, color=WEAK)
    made.savefig(path, format="png")


def draw_curves(ax: Any, here: Sequence[Result], varied: str) -> None:
    """One panel. here: results of one cell and mode in which `varied` varies."""
    peers = [p for p in TITLES if any(p in r["median"] for r in here)]
    for peer in peers:
        points = sorted((r["value"], r["median"][peer] * 1e3) for r in here if peer in r["median"])
        ax.plot(
            [value for value, _ in points],
            [time for _, time in points],
            color=COLOURS[peer],
            marker=MARKERS[peer],
            markersize=4.5 if peer == "recurra" else 3.5,
            linewidth=1.8 if peer == "recurra" else 1.0,
            zorder=3 if peer == "recurra" else 2,
            label=TITLES[peer],
        )
    if here:
        ordered = sorted(here, key=lambda r: r["value"])
        last = ordered[-1]
        per_flop = last["median"]["recurra"] * 1e3 / last["flops"]
        ax.plot(
            [r["value"] for r in ordered],
            [r["flops"] * per_flop for r in ordered],
            color=WEAK,
            linestyle="--",
            linewidth=1,
            zorder=1,
            label="slope of the products' flops",
        )
    ax.set_xscale("log", base=2 if varied != "time_steps" else 10)
    ax.set_yscale("log")
    values = scaling.VARIED[varied]
    ax.set_xticks(values, [str(v) for v in values], fontsize=7)
    ax.minorticks_off()
    ax.tick_params(axis="y", labelsize=7)
    ax.set_xlabel(varied, fontsize=8)
    ax.set_ylabel("ms", fontsize=8)
    ax.grid(color=FAINT, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
