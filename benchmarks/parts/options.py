"""What each option of a layer costs: Recurra's time with it over the plain layer's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from bench import CELL_TITLES, Bench, Result, Table, at_most, milliseconds, sizes, times
from turns import Entry, medians, take_turns
from work import OPTIONS, Shape, Work

NAME = "options"
ROUNDS = 9
TURN_SECONDS = 0.03
SHAPES: tuple[Shape, ...] = ((32, 30, 8, 64), (64, 100, 64, 128))
TARGET = 1.3


def jobs(bench: Bench) -> Iterator[Callable[[], Result]]:
    for shape in bench.shapes:
        if shape in SHAPES:
            for cell in bench.cells:
                for mode in bench.modes:
                    yield functools.partial(measure, bench, cell, shape, mode)


def measure(bench: Bench, cell: str, shape: Shape, mode: str) -> Result:
    """All options in one run of alternating turns; each compared with stock Keras's layer first.

    The plain layer has two turns in each round, since every ratio is to it.
    """
    own, stock = bench.process("recurra"), bench.process("keras-jax")
    chosen = [n for n, o in OPTIONS.items() if cell in o.cells and mode in o.modes]
    half = len(chosen) // 2
    entries: dict[str, Entry] = {}
    for name in [*chosen[:half], "plain again", *chosen[half:]]:
        option = name.removesuffix(" again")
        entries[name] = Entry(own, Work(cell, *shape, mode=mode, option=option))
    for name in chosen:
        entries[f"stock {name}"] = Entry(stock, entries[name].work, timed=False)
    alike = [(name, f"stock {name}") for name in chosen]
    found = take_turns(entries, bench.rounds or ROUNDS, alike, bench.turn_seconds or TURN_SECONDS)
    found["plain"] += found.pop("plain again")
    return {
        "cell": cell,
        "shape": shape,
        "mode": mode,
        "seconds": found,
        "median": medians(found),
    }


def ratios(result: Result) -> dict[str, float]:
    """By option: its time over the plain layer's; bidirectional, over two plain layers'."""
    median = result["median"]
    return {
        name: each / median["plain"] / (2 if OPTIONS[name].bidirectional else 1)
        for name, each in median.items()
        if name != "plain"
    }


def line(result: Result) -> str:
    found = sorted(ratios(result).items(), key=lambda item: -item[1])
    slow = [f"{name} {times(value)}" for name, value in found[:6]]
    begin = f"{result['mode']} {result['cell']} {sizes(result['shape'])}"
    return f"{begin}: plain {milliseconds(result['median']['plain'])}; dearest: {', '.join(slow)}"


def tables(results: list[Result]) -> list[Table]:
    made = []
    for shape in dict.fromkeys(tuple(r["shape"]) for r in results):
        here = [r for r in results if tuple(r["shape"]) == shape]
        columns = [(f"{CELL_TITLES[r['cell']]} {r['mode']}", ratios(r)) for r in here]
        rows = [
            [f"`{name}`", *(times_marked(found.get(name)) for _, found in columns)]
            for name in OPTIONS
            if any(name in found for _, found in columns)
        ]
        plain = [milliseconds(r["median"]["plain"]) for r in here]
        rows.insert(0, ["plain", *plain])
        title = f"({sizes(shape)}): time over the plain layer's, at most {TARGET:g}x"
        made.append(Table(title, ["option", *(heading for heading, _ in columns)], rows))
    return made


def times_marked(value: float | None) -> str:
    if value is None:
        return "–"
    return times(value) if round(value, 2) <= TARGET else f"**{times(value)}**"


def targets_met(results: list[Result]) -> list[tuple[str, bool]]:
    return [
        (
            f"{CELL_TITLES[r['cell']]} {sizes(r['shape'])}, {r['mode']}, `{name}`: "
            f"{at_most(value, TARGET)}",
            round(value, 2) <= TARGET,
        )
        for r in results
        for name, value in ratios(r).items()
    ]
