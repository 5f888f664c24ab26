"""Where things are: the result of a layout."""

from __future__ import annotations

from dataclasses import dataclass, field

from recurra.insight.diagram.picture import Box, Group, Wire

PAD, HEAD = 14.0, 24.0
"""Inside of a frame, at its sides and at its top."""

Point = tuple[float, float]


@dataclass(eq=False)
class Way:
    """One stretch of a wire: points from above to below, for each bend where it enters and leaves.

    first, last: whether it begins at the wire's source, ends at its target.
    square: whether its lines meet in right angles, as between columns.
    """

    wire: Wire
    points: list[Point]
    first: bool = True
    last: bool = True
    square: bool = False


@dataclass(eq=False)
class Placed:
    """A group with places, relative to its own upper left corner."""

    width: float
    height: float
    boxes: dict[Box, Point] = field(default_factory=dict)
    frames: list[tuple[Group, float, float, float, float]] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    entries: dict[int, float] = field(default_factory=dict)
    exits: dict[int, float] = field(default_factory=dict)
    """Where, from the left, each tensor comes in at the top and goes out at the bottom."""
    rows: list[tuple[float, float]] = field(default_factory=list)
    """Top and bottom of each row."""
