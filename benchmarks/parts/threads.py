"""One thread and two: small work is to be no slower on two, one row of a big layer faster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from bench import CELL_TITLES, SIZES, Bench, Result, Table, milliseconds, sizes, times
from turns import Entry, allowed_cpus, medians, take_turns
from work import SHAPES, Shape, Work

NAME = "threads"
ROUNDS = 11
TURN_SECONDS = 0.03
SMALL: tuple[Shape, ...] = ((1, 1, 8, 16), (1, 10, 8, 32), (4, 10, 8, 32), (8, 20, 16, 32))
"""Beside those of the other parts: work for which a second thread may not be worth its waking."""
BIG: tuple[Shape, ...] = ((1, 20, 64, 512), (1, 20, 64, 1024), (1, 20, 64, 2048))
"""One sequence."""
HOSTS = {"recurra": "JAX", "recurra-torch": "PyTorch"}
THREADS = 2
NOISE = 0.05
"""A speed-up that is less than 1 by no more than this is taken for the machine's noise."""


def jobs(bench: Bench) -> Iterator[Callable[[], Result]]:
    if len(allowed_cpus()) < THREADS:
        return
    chosen = [*SMALL, *SHAPES, *BIG] if tuple(bench.shapes) == SHAPES else list(bench.shapes)
    for shape in chosen:
        for cell in bench.cells:
            for mode in bench.modes:
                yield functools.partial(measure, bench, Work(cell, *shape, mode=mode))


def measure(bench: Bench, work: Work) -> Result:
    """All processes may use the same CPUs; they differ in the threads they are told to use."""
    entries = {
        f"{name} {threads}": Entry(bench.processes.get(name, threads, cpus=THREADS), work)
        for name in HOSTS
        for threads in (1, THREADS)
    }
    found = take_turns(
        entries, bench.rounds or ROUNDS, turn_seconds=bench.turn_seconds or TURN_SECONDS
    )
    return {
        "cell": work.cell,
        "shape": work.shape,
        "mode": work.mode,
        "seconds": found,
        "median": medians(found),
    }


def speed_up(result: Result, host: str) -> float:
    median = result["median"]
    return median[f"{host} 1"] / median[f"{host} {THREADS}"]


def line(result: Result) -> str:
    begin = f"{result['mode']} {result['cell']} {sizes(result['shape'])}"
    found = [
        f"{title}: {milliseconds(result['median'][f'{host} 1'])}, on two "
        f"{times(speed_up(result, host))} as fast"
        for host, title in HOSTS.items()
    ]
    return f"{begin}: {'; '.join(found)}"


def wanted(result: Result, host: str) -> bool:
    """Whether two threads do what is asked of them."""
    value = speed_up(result, host)
    return value > 1 if tuple(result["shape"]) in BIG else value >= 1 - NOISE


def tables(results: list[Result]) -> list[Table]:
    rows = []
    for r in results:
        cells = []
        for host in HOSTS:
            value = times(speed_up(r, host))
            cells += [
                milliseconds(r["median"][f"{host} 1"]),
                value if wanted(r, host) else f"**{value}**",
            ]
        rows.append([sizes(r["shape"]), f"{CELL_TITLES[r['cell']]} {r['mode']}", *cells])
    headings = [SIZES, ""]
    for title in HOSTS.values():
        headings += [f"{title}: one thread", f"{title}: speed-up of two"]
    return [Table("One thread and two", headings, rows)]


def targets_met(results: list[Result]) -> list[tuple[str, bool]]:
    return [
        (
            f"{CELL_TITLES[r['cell']]} {sizes(r['shape'])}, {r['mode']}, on {title}: two threads "
            f"are {times(speed_up(r, host))} as fast as one",
            wanted(r, host),
        )
        for r in results
        for host, title in HOSTS.items()
    ]
