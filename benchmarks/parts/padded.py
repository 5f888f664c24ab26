"""Padded batches, half padding on average: their time over the full batch's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from bench import CELL_TITLES, SIZES, Bench, Result, Table, at_most, milliseconds, sizes, times
from peers import PEERS
from turns import Entry, medians, take_turns
from work import PADDINGS, Shape, Work

NAME = "padded"
ROUNDS = 9
TURN_SECONDS = 0.05
SHAPES: tuple[Shape, ...] = (
    (32, 30, 8, 64),
    (64, 100, 64, 128),
    (32, 100, 256, 512),
    (16, 1000, 32, 128),
)
TARGET = 0.6
TIMED = {
    "recurra": ("none", *PADDINGS),
    "keras-jax": ("none", "right"),
    "torch": ("none", "right"),
}
"""Of each peer. Keras's time does not depend on where the padding is; PyTorch packs right padding
only."""


def jobs(bench: Bench) -> Iterator[Callable[[], Result]]:
    for shape in bench.shapes:
        if shape in SHAPES:
            for cell in bench.cells:
                for mode in bench.modes:
                    yield functools.partial(measure, bench, cell, shape, mode)


def measure(bench: Bench, cell: str, shape: Shape, mode: str) -> Result:
    """One run of turns; every kind of padding is compared with the peers that have it."""
    entries: dict[str, Entry] = {}
    alike: list[list[str]] = []
    for padding in ("none", *PADDINGS):
        work = Work(cell, *shape, mode=mode, padding=padding)
        group = [n for n in TIMED if n in bench.peers and PEERS[n].can(work)]
        for name in group:
            timed = padding in TIMED[name]
            entries[f"{name} {padding}"] = Entry(bench.process(name), work, timed)
        alike.append([f"{name} {padding}" for name in group])
    found = take_turns(entries, bench.rounds or ROUNDS, alike, bench.turn_seconds or TURN_SECONDS)
    kept = {p: Work(cell, *shape, mode=mode, padding=p).mask() for p in PADDINGS}
    return {
        "cell": cell,
        "shape": shape,
        "mode": mode,
        "kept": {p: float(m.mean()) for p, m in kept.items() if m is not None},
        "seconds": found,
        "median": medians(found),
    }


def over_full(result: Result, peer: str = "recurra") -> dict[str, float]:
    """By kind of padding: a peer's time over its own for the full batch."""
    median = result["median"]
    return {
        p: median[f"{peer} {p}"] / median[f"{peer} none"]
        for p in PADDINGS
        if f"{peer} {p}" in median
    }


def line(result: Result) -> str:
    begin = f"{result['mode']} {result['cell']} {sizes(result['shape'])}"
    own = ", ".join(f"{p} {times(r)}" for p, r in over_full(result).items())
    peers = [
        f"{n} right {times(over_full(result, n)['right'])} of its own, {times(r)} Recurra's"
        for n, r in against(result).items()
    ]
    return "; ".join(
        [f"{begin}: full {milliseconds(result['median']['recurra none'])}, {own}", *peers]
    )


def against(result: Result) -> dict[str, float]:
    """By peer: its time with right padding over Recurra's."""
    median = result["median"]
    names = [n for n in TIMED if n != "recurra" and f"{n} right" in median]
    return {n: median[f"{n} right"] / median["recurra right"] for n in names}


def tables(results: list[Result]) -> list[Table]:
    rows = []
    for r in results:
        own, peers = over_full(r), against(r)
        rows.append(
            [
                sizes(r["shape"]),
                f"{CELL_TITLES[r['cell']]} {r['mode']}",
                *(at_most(own[p], TARGET) for p in PADDINGS),
                *(
                    f"{times(over_full(r, n)['right'])}; {times(peers[n])}" if n in peers else "–"
                    for n in ("torch", "keras-jax")
                ),
            ]
        )
    headings = [
        SIZES,
        "",
        *(f"{p}: padded / full" for p in PADDINGS),
        "PyTorch, packed: padded / full; peer / Recurra",
        "Keras-JAX, masked: padded / full; peer / Recurra",
    ]
    return [Table("Time of a batch that is half padding over the full batch's", headings, rows)]


def targets_met(results: list[Result]) -> list[tuple[str, bool]]:
    return [
        (
            f"{CELL_TITLES[r['cell']]} {sizes(r['shape'])}, {r['mode']}, padding {p}: "
            f"{at_most(value, TARGET)}",
            round(value, 2) <= TARGET,
        )
        for r in results
        for p, value in over_full(r).items()
    ]
