"""Training with AVX2 alone: Recurra's dispatch forced to it, PyTorch held to it by its switches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from bench import CELL_TITLES, SIZES, Bench, Result, Table, at_least, milliseconds, sizes
from turns import Entry, medians, take_turns
from work import SHAPES, Work

NAME = "avx2"
TURN_SECONDS = 0.08
ROUNDS = 11
TARGET = 0.9
SWITCHES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""PyTorch's own, and those of the libraries that it multiplies with."""


def jobs(bench: Bench) -> Iterator[Callable[[], Result]]:
    for shape in bench.shapes:
        if shape in SHAPES and shape[1] > 1:
            for cell in bench.cells:
                yield functools.partial(measure, bench, Work(cell, *shape, mode="train"))


def measure(bench: Bench, work: Work) -> Result:
    entries = {
        "recurra": Entry(bench.process("recurra", environment={"RECURRA_ISA": "avx2"}), work),
        "torch": Entry(bench.process("torch", environment=SWITCHES), work),
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


def ratio(result: Result) -> float:
    return result["median"]["torch"] / result["median"]["recurra"]


def line(result: Result) -> str:
    own = milliseconds(result["median"]["recurra"])
    begin = f"train {result['cell']} {sizes(result['shape'])}"
    return f"{begin}: {own}, torch {at_least(ratio(result), TARGET)}"


def tables(results: list[Result]) -> list[Table]:
    rows = [
        [
            sizes(r["shape"]),
            CELL_TITLES[r["cell"]],
            milliseconds(r["median"]["recurra"]),
            milliseconds(r["median"]["torch"]),
            at_least(ratio(r), TARGET),
        ]
        for r in results
    ]
    headings = [SIZES, "cell", "Recurra", "PyTorch", "PyTorch / Recurra"]
    return [Table("Training with AVX2 alone", headings, rows)]


def targets_met(results: list[Result]) -> list[tuple[str, bool]]:
    return [
        (
            f"{CELL_TITLES[r['cell']]} {sizes(r['shape'])}: {at_least(ratio(r), TARGET)}",
            round(ratio(r), 2) >= TARGET,
        )
        for r in results
    ]
