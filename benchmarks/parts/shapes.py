"""The five shapes and a single step: Recurra beside its peers, forward and training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

from bench import CELL_TITLES, SIZES, Bench, Result, Table, at_least, milliseconds, sizes, times
from peers import PEERS, TITLES
from turns import Entry, medians, take_turns
from work import Work

NAME = "shapes"
TURN_SECONDS = 0.06
ROUNDS = 15

TARGETS: dict[tuple[int, ...], dict[tuple[str, str], float]] = {
    shape: dict(
        zip(
            (
                ("train", "torch"),
                ("train", "keras-jax"),
                ("forward", "torch"),
                ("forward", "onnxruntime"),
            ),
            targets,
            strict=True,
        )
    )
    for shape, targets in {
        (32, 30, 8, 64): (3, 4, 3, 2),
        (64, 100, 64, 128): (3, 5, 1.5, 2),
        (32, 100, 256, 512): (1.5, 3, 1.1, 1.3),
        (1, 100, 8, 64): (4, 4, 4, 2.5),
        (16, 1000, 32, 128): (4, 6, 2, 2.2),
    }.items()
}
"""By shape, then by mode and peer: how many times Recurra's time the peer's shall be."""

PEAK_SHAPE = (32, 100, 256, 512)
PEAK_SHARE = 0.75
"""The share of the cores' peak that the products shall reach at this shape."""

PEAK_FLOPS = 1e8
"""From so many flops on, a shape is measured beside the peak."""

COLUMNS = (
    ("train", "torch"),
    ("train", "keras-jax"),
    ("forward", "torch"),
    ("forward", "onnxruntime"),
    ("forward", "keras-jax"),
)


def jobs(bench: Bench) -> Iterator[Callable[[], Result]]:
    for mode in bench.modes:
        for shape in bench.shapes:
            for cell in bench.cells:
                yield functools.partial(measure, bench, Work(cell, *shape, mode=mode))


def measure(bench: Bench, work: Work) -> Result:
    entries = {
        name: Entry(bench.process(name), work) for name in bench.peers if PEERS[name].can(work)
    }
    alike = list(entries)
    if work.flops() >= PEAK_FLOPS:
        entries["peak"] = Entry(bench.process("peak"), work)
    found = take_turns(
        entries, bench.rounds or ROUNDS, [alike], turn_seconds=bench.turn_seconds or TURN_SECONDS
    )
    result: Result = {
        "cell": work.cell,
        "shape": work.shape,
        "mode": work.mode,
        "seconds": found,
        "median": medians(found),
    }
    if "peak" in entries:
        result["flops"] = work.flops()
        result["peak flops"] = entries["peak"].process.ask(do="flops")["flops"]
    return result


def share_of_peak(result: Result) -> tuple[float, float]:
    """Recurra's flops per second over the peak's, and the latter.

    The peak is that of the fastest turn: noise can only make the loop slower.
    """
    peak = result["peak flops"] / min(result["seconds"]["peak"])
    return result["flops"] / result["median"]["recurra"] / peak, peak


def line(result: Result) -> str:
    median = result["median"]
    own = median["recurra"]
    ratios = [f"{n} {times(median[n] / own)}" for n in median if n not in ("recurra", "peak")]
    if "peak" in median:
        ratios.append(f"{share_of_peak(result)[0]:.0%} of peak")
    return "  ".join(
        [
            f"{result['mode']} {result['cell']} {sizes(result['shape'])}: {milliseconds(own)}",
            *ratios,
        ]
    )


def by_row(results: list[Result]) -> dict[tuple[tuple[int, ...], str], dict[str, Result]]:
    """By shape and cell, then by mode."""
    rows: dict[tuple[tuple[int, ...], str], dict[str, Result]] = {}
    for result in results:
        rows.setdefault((tuple(result["shape"]), result["cell"]), {})[result["mode"]] = result
    return rows


def ratio(modes: dict[str, Result], mode: str, peer: str) -> float | None:
    """A peer's time over Recurra's; None if it was not measured."""
    median: dict[str, float] = modes[mode]["median"] if mode in modes else {}
    return median[peer] / median["recurra"] if peer in median else None


def tables(results: list[Result]) -> list[Table]:
    rows: list[list[str]] = []
    own: list[list[str]] = []
    for (shape, cell), modes in by_row(results).items():
        targets = TARGETS.get(shape, {})
        begin = [sizes(shape), CELL_TITLES[cell]]
        found = [(ratio(modes, *column), targets.get(column)) for column in COLUMNS]
        rows.append([*begin, *("–" if r is None else at_least(r, t) for r, t in found)])
        own.append([*begin, *(own_time(modes[mode]) if mode in modes else "–" for mode in MODES)])
    headings = [SIZES, "cell", *(f"{mode}: {TITLES[peer]}" for mode, peer in COLUMNS)]
    return [
        Table("A peer's time over Recurra's, and the target", headings, rows),
        Table("Recurra's own time, and its products' share of peak", [SIZES, "cell", *MODES], own),
    ]


MODES = ("train", "forward")


def own_time(result: Result) -> str:
    text = milliseconds(result["median"]["recurra"])
    if "peak" not in result["median"]:
        return text
    share = share_of_peak(result)[0]
    if tuple(result["shape"]) != PEAK_SHAPE:
        return f"{text}, {share:.0%}"
    return (
        f"{text}, {share:.0%} {'≥' if round(share, 2) >= PEAK_SHARE else '**<**'} {PEAK_SHARE:.0%}"
    )


def targets_met(results: list[Result]) -> list[tuple[str, bool]]:
    """Each target in words, and whether it is reached."""
    found: list[tuple[str, bool]] = []
    for (shape, cell), modes in by_row(results).items():
        begin = f"{CELL_TITLES[cell]} {sizes(shape)}"
        for (mode, peer), target in TARGETS.get(shape, {}).items():
            if (value := ratio(modes, mode, peer)) is not None:
                text = f"{begin}, {mode}, {TITLES[peer]}: {at_least(value, target)}"
                found.append((text, round(value, 2) >= target))
        for mode in MODES:
            if shape == PEAK_SHAPE and "peak" in modes.get(mode, {}).get("median", {}):
                share = share_of_peak(modes[mode])[0]
                text = f"{begin}, {mode}, share of peak: {own_time(modes[mode])}"
                found.append((text, round(share, 2) >= PEAK_SHARE))
    return found


def losses(results: list[Result]) -> list[tuple[str, str, float]]:
    """Where a peer is faster: what, the peer, and how many times faster."""
    return [
        (
            f"{result['mode']} {CELL_TITLES[result['cell']]} {sizes(result['shape'])}",
            TITLES[peer],
            result["median"]["recurra"] / result["median"][peer],
        )
        for result in results
        for peer in PEERS
        if result["median"].get(peer, math.inf) < result["median"]["recurra"]
    ]


def spread(results: list[Result]) -> float:
    """How far a ratio of two times in one round typically lies from the median of these ratios."""
    away: list[float] = []
    for result in results:
        own: Any = result["seconds"]["recurra"]
        for name, seconds in result["seconds"].items():
            if name not in ("recurra", "peak"):
                ratios = sorted(a / b for a, b in zip(seconds, own, strict=True))
                middle = ratios[len(ratios) // 2]
                away += [abs(r / middle - 1) for r in ratios]
    return sorted(away)[len(away) // 2] if away else 0.0
