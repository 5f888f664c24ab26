"""Time against the number of steps, of rows and of units: one size varies, the others stay."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from bench import CELL_TITLES, Bench, Result, Table, milliseconds, times
from peers import PEERS, TITLES
from turns import Entry, medians, take_turns
from work import Work

NAME = "scaling"
ROUNDS = 5
TURN_SECONDS = 0.04
BASE = {"batch": 16, "time_steps": 30, "features": 32, "units": 128}
VARIED: dict[str, tuple[int, ...]] = {
    "time_steps": (1, 3, 10, 30, 100, 300, 1000, 3000),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "units": (8, 16, 32, 64, 128, 256, 512, 1024),
}


def jobs(bench: Bench) -> Iterator[Callable[[], Result]]:
    for mode in bench.modes:
        for cell in bench.cells:
            for size, values in VARIED.items():
                for value in values:
                    yield functools.partial(measure, bench, cell, mode, size, value)


def measure(bench: Bench, cell: str, mode: str, size: str, value: int) -> Result:
    work = Work(cell=cell, mode=mode, **{**BASE, size: value})
    entries = {
        name: Entry(bench.process(name), work) for name in bench.peers if PEERS[name].can(work)
    }
    found = take_turns(
        entries, bench.rounds or ROUNDS, turn_seconds=bench.turn_seconds or TURN_SECONDS
    )
    return {
        "cell": cell,
        "mode": mode,
        "varied": size,
        "value": value,
        "flops": work.flops(),
        "seconds": found,
        "median": medians(found),
    }


def line(result: Result) -> str:
    median = result["median"]
    own = median["recurra"]
    ratios = [f"{n} {times(each / own)}" for n, each in median.items() if n != "recurra"]
    begin = f"{result['mode']} {result['cell']} {result['varied']}={result['value']}"
    return "  ".join([f"{begin}: {milliseconds(own)}", *ratios])


def tables(results: list[Result]) -> list[Table]:
    """Where a peer is faster than Recurra, and by how much."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for r in results:
        own = r["median"]["recurra"]
        for peer, each in r["median"].items():
            if each < own:
                key = (TITLES[peer], CELL_TITLES[r["cell"]], r["mode"], r["varied"])
                rows.setdefault(key, []).append(f"{r['value']} ({times(own / each)})")
    headings = ["faster peer", "cell", "mode", "varied", "where (how many times faster)"]
    made = [[*key, ", ".join(where)] for key, where in rows.items()]
    return [Table("Where a peer is faster", headings, made)] if made else []
