"""What the parts of the benchmark share: what was chosen, the processes, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from turns import PeerProcess, Processes, allowed_cpus
from work import SHAPES, Shape

Result = dict[str, Any]
"""What one part found out about one thing; all JSON."""


@dataclass
class Bench:
    """What to measure.

    rounds, turn_seconds: None for each part's own number and length.
    threads: for each peer.
    """

    cells: Sequence[str] = ("lstm", "gru")
    modes: Sequence[str] = ("forward", "train")
    shapes: Sequence[Shape] = SHAPES
    peers: Sequence[str] = ("recurra", "keras-jax", "torch", "onnxruntime")
    rounds: int | None = None
    turn_seconds: float | None = None
    threads: int = field(default_factory=lambda: len(allowed_cpus()))
    processes: Processes = field(default_factory=Processes)

    def process(self, name: str, **settings: Any) -> PeerProcess:
        """The process of one of the peers, with as many threads as were chosen."""
        return self.processes.get(name, self.threads, **settings)


@dataclass(frozen=True)
class Table:
    """A table for people. rows: text, in the headings' order."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [
            "| " + " | ".join(self.headings) + " |",
            "|" + "---|" * len(self.headings),
            *("| " + " | ".join(row) + " |" for row in self.rows),
        ]
        return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    """A time, in three significant digits."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:.0f} ms"


def times(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 9.995 else f"{ratio:.0f}x"


def at_least(ratio: float, target: float | None) -> str:
    """The ratio, and its target with a mark that says whether it is reached."""
    if target is None:
        return times(ratio)
    return f"{times(ratio)} {'≥' if round(ratio, 2) >= target else '**<**'} {target:g}x"


def at_most(ratio: float, target: float) -> str:
    return f"{times(ratio)} {'≤' if round(ratio, 2) <= target else '**>**'} {target:g}x"


def sizes(shape: Iterable[int]) -> str:
    return ", ".join(map(str, shape))


CELL_TITLES = {"lstm": "LSTM", "gru": "GRU"}
SIZES = "batch, time_steps, features, units"
