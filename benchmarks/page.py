"""Fills docs/performance.md, the README's part on speed and the pictures from results/*.json.

    python benchmarks/page.py

Between `<!-- begin NAME -->` and `<!-- end NAME -->` everything is made here; the rest of these
documents is written by hand and stays.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import charts
from bench import times
from parts import avx2, options, padded, scaling, shapes, threads

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"

Report = dict[str, Any]
Reports = dict[str, Report]

PARTS = {part.NAME: part for part in (shapes, padded, options, threads, avx2, scaling)}
TABLES_OF_OTHERS = ("long_sequences", "bfloat16_error", "streaming", "start_up")
"""Results that come with their table: "notes" (sentences), "columns" and "rows" (text)."""

MODES = {"forward": "Forward", "train": "Training"}
WIDTH = 120
LANDMARK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def load(folder: Path = RESULTS) -> Reports:
    """The reports that are there, by name."""
    names = (*PARTS, *TABLES_OF_OTHERS)
    found = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def setting(report: Report) -> str:
    """Where, when and how a report was made."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    date = f" on {machine['date']}" if "date" in machine else ""
    used = f", {machine['threads']} threads" if "threads" in machine else ""
    return (
        f"Measured by `{report['command']}`{date}: {machine['processor']}, {machine['cores']} "
        f"cores{used}, {machine['dtype']}; {versions}."
    )


def met(found: list[tuple[str, bool]]) -> str:
    """How many targets are reached; the tables say which."""
    return f"{sum(reached for _, reached in found)} of {len(found)} targets are reached."


def refused(report: Report) -> list[str]:
    return [f"Not timed: {text}." for text in report.get("not timed", [])]


def block_of_part(name: str) -> Callable[[Reports], str]:
    """The text for a part: where it was measured, its tables, the targets that are missed."""

    def block(reports: Reports) -> str:
        if name not in reports:
            return "Not measured yet."
        report, part = reports[name], PARTS[name]
        made = [setting(report), *refused(report)]
        for table in part.tables(report["results"]):
            made += [f"{table.title}:", table.markdown()]
        if targets_met := getattr(part, "targets_met", None):
            made.append(met(targets_met(report["results"])))
        if name == "shapes":
            made += [peaks(report), noise(report), lost(report)]
        if name == "scaling":
            made[1:1] = [
                f"![{title}: time against time_steps, batch and units](images/scaling-{mode}.png)"
                for mode, title in MODES.items()
            ]
        if name == "avx2" and "shapes" in reports:
            made.append(chosen_kernels(reports["shapes"]))
        return "\n\n".join(made)

    return block


def chosen_kernels(shapes_report: Report) -> str:
    """What the engine chooses by itself on the machine."""
    isa = shapes_report["machine"]["versions"]["instruction set"]
    if isa == "avx2":
        return "This machine has AVX2 and no AVX-512: both sides run here what they always run."
    return f"Left to itself, Recurra's engine chooses its kernels for {isa} on this machine."


def noise(report: Report) -> str:
    spread = shapes.spread(report["results"])
    return (
        f"Each figure is a median of {report['rounds']} rounds; half of the single rounds' ratios "
        f"lie within {spread:.1%} of their median."
    )


def peaks(report: Report) -> str:
    """The peak that shares are of."""
    found = [shapes.share_of_peak(r)[1] for r in report["results"] if "flops" in r]
    if not found:
        return "The peak was not measured."
    low, high = (f"{each / 1e9:.0f}" for each in (min(found), max(found)))
    measured = low if low == high else f"{low} to {high}"
    return (
        "Shares are of what the same cores multiplied and added in a loop of fused multiply-adds "
        f"that took its turns in the same runs: {measured} GFLOP/s. Only the flops of "
        "the matrix products are counted: forward 2·B·T·(F + U)·G·U with G gates (4 in LSTM, 3 in "
        "GRU), in training three times that, since the gradients with respect to what is "
        "multiplied take two products of the same size each. Activations, and copies of the "
        "arrays, count as nothing but take their time."
    )


def lost(report: Report) -> str:
    """Where a peer is faster, in one paragraph."""
    found = shapes.losses(report["results"])
    if not found:
        return "No peer is faster at any of these shapes."
    by_peer: dict[str, list[str]] = {}
    for what, peer, ratio in found:
        by_peer.setdefault(peer, []).append(f"{what} ({times(ratio)})")
    said = ["; ".join(whats) for whats in by_peer.values()]
    return "Where a peer is faster, and how many times:\n\n" + "\n".join(
        f"- {peer}: {text}" for peer, text in zip(by_peer, said, strict=True)
    )


def block_of_table(name: str) -> Callable[[Reports], str]:
    """The text for results that come with their table."""

    def block(reports: Reports) -> str:
        if name not in reports:
            return "Not measured yet."
        report = reports[name]
        rows = [report["columns"], ["---"] * len(report["columns"]), *report["rows"]]
        table = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
        return "\n\n".join([setting(report), *report.get("notes", []), table])

    return block


def speed(reports: Reports) -> str:
    """The README's part."""
    if "shapes" not in reports:
        return "Not measured yet."
    report = reports["shapes"]
    found = shapes.targets_met(report["results"])
    reached = sum(ok for _, ok in found)
    return "\n\n".join(
        [
            "![A peer's time over Recurra's, for each shape, in training and forward]"
            "(docs/images/speed.png)",
            f"{setting(report)} {reached} of the {len(found)} targets that we set "
            "ourselves for these shapes are reached: "
            "[docs/performance.md](docs/performance.md) has the table, the targets, and what "
            "stands in the way of the others.",
            lost(report),
        ]
    )


BLOCKS: dict[str, Callable[[Reports], str]] = {
    "speed": speed,
    **{name: block_of_part(name) for name in PARTS},
    **{name: block_of_table(name) for name in TABLES_OF_OTHERS},
}


def wrapped(text: str) -> str:
    """The text with its sentences and items broken into lines; tables and pictures stay."""

    def lines(line: str) -> str:
        if line.startswith(("|", "!")):
            return line
        return textwrap.fill(
            line,
            WIDTH,
            subsequent_indent="  " if line.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )

    return "\n".join(lines(line) for line in text.split("\n"))


def filled(text: str, reports: Reports) -> str:
    """A document with the text between its landmarks made anew."""

    def made(match: re.Match[str]) -> str:
        return f"{match[1]}\n{wrapped(BLOCKS[match[2]](reports))}\n\n{match[3]}"

    return LANDMARK.sub(made, text)


def pictures(reports: Reports) -> list[Path]:
    """Draw what there are results for; the files."""
    drawn = []
    if "shapes" in reports:
        drawn.append(IMAGES / "speed.png")
        charts.draw_speed(drawn[-1], reports["shapes"])
    for mode in MODES:
        if any(r["mode"] == mode for r in reports.get("scaling", {}).get("results", [])):
            drawn.append(IMAGES / f"scaling-{mode}.png")
            charts.draw_scaling(drawn[-1], reports["scaling"], mode)
    return drawn


def write() -> list[Path]:
    """Make the documents and pictures; the files."""
    reports = load()
    for path in (PAGE, README):
        path.write_text(filled(path.read_text(), reports))
    return [PAGE, README, *pictures(reports)]


if __name__ == "__main__":
    for path in write():
        print(path.relative_to(ROOT))
