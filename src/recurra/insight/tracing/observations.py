"""What is worth a look in a layer's summary, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recurra.insight.tracing import statistics
from recurra.insight.tracing.summary import (
    MOSTLY,
    GateSummary,
    LayerSummary,
    Observation,
    flow_sentence,
)

if TYPE_CHECKING:
    from recurra.insight.tracing import LayerTrace

_SHOWN = 8  # numbers of units in a sentence
_SHORT = 0.1  # of the sequence: what no unit reaching is worth telling
_LONG_ENOUGH = 20  # steps from which on that is


def of(summary: LayerSummary, layer: LayerTrace) -> tuple[Observation, ...]:
    """What is worth a look, the most serious first.

    Args:
        summary: with everything but its observations.
        layer: what it is about.
    """
    return tuple(_all(summary, layer))


def _all(summary: LayerSummary, layer: LayerTrace) -> Iterator[Observation]:
    if summary.real_steps == 0:
        yield Observation("padded", "Every step is padded, so there is nothing to sum up.")
        return
    broken = statistics.first_not_finite(layer)
    if broken is not None:
        name, row, step = broken
        since = f"step {step} of row {row} {'back to the first' if layer.go_backwards else 'on'}"
        yield Observation(
            "not_finite",
            f"The {name.replace('_', ' ')} is no finite number from {since}. Such steps count as "
            "neither open nor closed, and their units have no mean and are neither dead nor "
            "constant here.",
        )
    if summary.dead:
        yield Observation(
            "dead_units",
            f"{_of(summary.dead, summary.units)} dead: below {_limit(summary)} in absolute value "
            f"at every real step ({listed(summary.dead)}).",
            summary.dead,
        )
    if summary.constant:
        yield Observation(
            "constant_units",
            f"{_of(summary.constant, summary.units)} constant: the hidden state moves by less than "
            f"{_limit(summary)} over all real steps ({listed(summary.constant)}).",
            summary.constant,
        )
    for name, gate in summary.gates.items():
        yield from _saturated(name, gate, summary.units)
    yield from _memory(summary)
    if summary.gradient is not None and summary.gradient.verdict != "steady":
        yield Observation("gradient", flow_sentence(summary.gradient))


def _saturated(name: str, gate: GateSummary, units: int) -> Iterator[Observation]:
    if gate.low is None or gate.high is None:
        return
    readable = name.replace("_", " ")
    if gate.kind == "candidate":
        found = np.flatnonzero(gate.low + gate.high >= MOSTLY)
        cases = [("saturated", f"beyond ±{statistics.SATURATED}", found)]
    else:
        cases = [
            ("closed", f"below {statistics.CLOSED}", np.flatnonzero(gate.low >= MOSTLY)),
            ("open", f"above {statistics.OPEN}", np.flatnonzero(gate.high >= MOSTLY)),
        ]
    for word, limit, where in cases:
        if len(where):
            numbers = tuple(int(unit) for unit in where)
            yield Observation(
                "saturated_gates",
                f"The {readable} of {len(numbers)} of {units} units is {word} ({limit}) at "
                f"{MOSTLY:.0%} of the real steps or more ({listed(numbers)}).",
                numbers,
            )


def _memory(summary: LayerSummary) -> Iterator[Observation]:
    if summary.memory is None:
        return
    steps = summary.memory.steps
    length = summary.real_steps / summary.rows
    if length >= _LONG_ENOUGH and steps.max() < _SHORT * length:
        yield Observation(
            "memory",
            f"No unit keeps its content for longer than {steps.max():.1f} steps, and a row has "
            f"{length:,.0f}: what has to be remembered for longer must go through the recurrent "
            "weights.",
        )


def _of(numbers: Sequence[int], units: int) -> str:
    return f"{len(numbers)} of {units} units {'is' if len(numbers) == 1 else 'are'}"


def _limit(summary: LayerSummary) -> str:
    return f"{statistics.STILL * summary.scale:.2g}"


def listed(numbers: Sequence[int]) -> str:
    """Numbers of units for a sentence: the first ones, and how many more there are."""
    shown = ", ".join(str(number) for number in numbers[:_SHOWN])
    more = len(numbers) - _SHOWN
    return ("unit " if len(numbers) == 1 else "units ") + shown + (f" and {more} more" * (more > 0))
