"""A tall and narrow picture in columns side by side, to be read like a newspaper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from recurra.insight.diagram.places import Placed, Point, Way

_TALL = 1300.0
"""Pictures up to this height stay as they are."""

_GUTTER = 64.0
_RISE = 24.0
"""How far above and below its column a wire goes on its way to the next."""

_MOST_WIRES = 3
"""That may go from one column to the next."""


def folded(placed: Placed) -> Placed:
    """The picture, in columns if it is more than three times as high as wide."""
    if placed.height < _TALL or placed.height < 3 * placed.width:
        return placed
    columns = max(2, round(math.sqrt(placed.height / (placed.width + _GUTTER))))
    cuts = _cuts(placed, columns)
    return _in_columns(placed, cuts) if cuts else placed


def _cuts(placed: Placed, columns: int) -> list[float]:
    """Heights at which few wires are cut, near to equal parts."""
    possible: list[tuple[float, int]] = []
    for (_, bottom), (top, _) in itertools.pairwise(placed.rows):
        cut = (bottom + top) / 2
        crossing = [way for way in placed.ways if way.points[0][1] < cut < way.points[-1][1]]
        if len(crossing) <= _MOST_WIRES and all(way.last and way.first for way in crossing):
            possible.append((cut, len(crossing)))
    part = placed.height / columns
    found: list[float] = []
    for number in range(1, columns):
        ideal = part * number
        near = [
            (abs(cut - ideal) + part * 0.12 * wires, cut)
            for cut, wires in possible
            if abs(cut - ideal) < part * 0.35
        ]
        if near:
            found.append(min(near)[1])
    return found


def _in_columns(placed: Placed, cuts: Sequence[float]) -> Placed:
    tops = [0.0, *cuts]
    bottoms = [*cuts, placed.height]
    wide = placed.width + _GUTTER
    height = max(bottom - top for top, bottom in zip(tops, bottoms, strict=True)) + 2 * _RISE

    def moved(point: Point, column: int) -> Point:
        return point[0] + column * wide, point[1] - tops[column] + _RISE

    def column_of(y: float) -> int:
        return sum(cut < y for cut in cuts)

    made = Placed(wide * len(tops) - _GUTTER, height)
    made.boxes = {box: moved(place, column_of(place[1])) for box, place in placed.boxes.items()}
    for group, x, y, w, h in placed.frames:
        x, y = moved((x, y), column_of(y))
        made.frames.append((group, x, y, w, h))
    passed = [0] * len(tops)
    for way in placed.ways:
        first, last = column_of(way.points[0][1]), column_of(way.points[-1][1])
        if first == last:
            points = [moved(point, first) for point in way.points]
            made.ways.append(Way(way.wire, points, way.first, way.last))
            continue
        rest = list(way.points)
        for column in range(first, last):
            cut = cuts[column]
            here = [point for point in rest if point[1] <= cut]
            rest = [point for point in rest if point[1] > cut]
            end, begin = (here[-1][0], cut), (rest[0][0], cut)
            points = [moved(point, column) for point in [*here, end]]
            made.ways.append(Way(way.wire, points, column == first, last=False))
            channel = wide * (column + 1) - _GUTTER * 0.6
            head = moved(begin, column + 1)
            made.ways.append(_bridge(way, points[-1], head, channel, passed[column]))
            passed[column] += 1
            rest = [begin, *rest]
        points = [moved(point, last) for point in rest]
        made.ways.append(Way(way.wire, points, first=False, last=way.last))
    return made


def _bridge(way: Way, end: Point, begin: Point, channel: float, number: int) -> Way:
    """From the foot of a column through the gutter to the head of the next.

    Args:
        way: what goes on.
        end, begin: where it leaves the one column and comes into the other.
        channel: the middle of the gutter.
        number: how many wires go there already.
    """
    away = _RISE * (0.35 + 0.3 * number)
    x = channel + 9.0 * number
    points = [
        end,
        (end[0], end[1] + away),
        (x, end[1] + away),
        (x, begin[1] - away),
        (begin[0], begin[1] - away),
        begin,
    ]
    return Way(way.wire, points, first=False, last=False, square=True)
