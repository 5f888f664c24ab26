"""Places in layers: which row each thing stands in, in which order, and how far to the right.

The usual three steps: rows by the longest way from the top, orders in the rows by medians of the
neighbours until fewer wires cross, and distances that bring neighbours above each other.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

SIDE = 26.0
"""Between things in a row."""

_SWEEPS = 12


@dataclass(eq=False)
class Slot:
    """Something with a place: a box, a group, a port, or where a long wire passes a row.

    width, height: of it.
    fixed: -1 for the top row, 1 for the last, 0 for wherever it belongs.
    rigid: whether wires can be fastened at certain places of it only.
    row, x, y: its place, found here; x and y of its upper left corner.
    """

    width: float = 0.0
    height: float = 0.0
    fixed: int = 0
    rigid: bool = False
    row: int = 0
    x: float = 0.0
    y: float = 0.0
    ups: list[Link] = field(default_factory=list)
    downs: list[Link] = field(default_factory=list)

    @property
    def is_bend(self) -> bool:
        """Whether it is only a part of a wire."""
        return self.width == 0.0

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(eq=False)
class Link:
    """From a slot to one below it; offsets from their left edges say where it is fastened."""

    upper: Slot
    lower: Slot
    leaves: float = 0.0
    enters: float = 0.0

    @property
    def above(self) -> float:
        """Where the lower end should be, from the upper slot's left edge."""
        return self.leaves if self.upper.rigid else self.upper.width / 2

    @property
    def below(self) -> float:
        """Where the upper end should be, from the lower slot's left edge."""
        return self.enters if self.lower.rigid else self.lower.width / 2


def set_rows(slots: Sequence[Slot], links: Sequence[Link]) -> int:
    """Give every slot its row, by the longest way from the top; returns how many rows there are.

    Raises:
        ValueError: if links go round in a circle.
    """
    waiting = {slot: 0 for slot in slots}
    for link in links:
        waiting[link.lower] += 1
    ready = [slot for slot in slots if not waiting[slot]]
    order: list[Slot] = []
    for slot in slots:
        slot.row = 0
    first = 1 if any(slot.fixed < 0 for slot in slots) else 0
    while ready:
        slot = ready.pop(0)
        order.append(slot)
        slot.row = max(slot.row, 0 if slot.fixed < 0 else first)
        for link in slot.downs:
            link.lower.row = max(link.lower.row, slot.row + 1)
            waiting[link.lower] -= 1
            if not waiting[link.lower]:
                ready.append(link.lower)
    if len(order) != len(slots):
        raise ValueError("the links go round in a circle")
    last = max((slot.row for slot in slots), default=0)
    for slot in slots:
        if slot.fixed > 0:
            slot.row = max([last, *(link.upper.row + 1 for link in slot.ups)])
    last = max((slot.row for slot in slots), default=0)
    for slot in slots:
        if slot.fixed > 0:
            slot.row = last
    # What nothing leads to (inputs) stands right above its first user.
    for slot in reversed(order):
        if not slot.ups and slot.downs and not slot.fixed:
            slot.row = min(link.lower.row for link in slot.downs) - 1
    return last + 1


def with_bends(link: Link) -> list[Link]:
    """A link over several rows as links from row to row, with a bend in each row between."""
    found, upper, leaves = [], link.upper, link.leaves
    for row in range(link.upper.row + 1, link.lower.row):
        bend = Slot(row=row)
        found.append(Link(upper, bend, leaves, 0.0))
        upper, leaves = bend, 0.0
    found.append(Link(upper, link.lower, leaves, link.enters))
    return found


def order_rows(rows: list[list[Slot]]) -> None:
    """Order the slots in each row so that few links cross."""
    best = [list(row) for row in rows]
    fewest = _crossings(rows)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            _sort_by_neighbours(rows, row, down)
        _exchange(rows)
        crossings = _crossings(rows)
        if crossings < fewest:
            fewest, best = crossings, [list(row) for row in rows]
    for row, order in zip(rows, best, strict=True):
        row[:] = order


def _sort_by_neighbours(rows: Sequence[Sequence[Slot]], row: list[Slot], down: bool) -> None:
    keys = {}
    number = row[0].row + (-1 if down else 1) if row else -1
    other = rows[number] if 0 <= number < len(rows) else ()
    place = {each: index for index, each in enumerate(other)}
    for index, slot in enumerate(row):
        near = [_end(link, place, down) for link in (slot.ups if down else slot.downs)]
        keys[slot] = _median(sorted(near)) if near else float(index)
    row.sort(key=keys.__getitem__)


def _end(link: Link, place: dict[Slot, int], upper: bool) -> float:
    """Where a link ends in the row above, or below: the slot's number and a fraction."""
    slot, offset = (link.upper, link.leaves) if upper else (link.lower, link.enters)
    return place[slot] + offset / max(1.0, slot.width) * 0.99


def _exchange(rows: list[list[Slot]]) -> None:
    """Exchange neighbours in a row as long as that has fewer links cross."""
    for _ in range(4):
        changed = False
        for number, row in enumerate(rows):
            above = {s: i for i, s in enumerate(rows[number - 1])} if number else {}
            below = {s: i for i, s in enumerate(rows[number + 1])} if number + 1 < len(rows) else {}
            for index in range(len(row) - 1):
                one, other = row[index], row[index + 1]
                now, then = 0, 0
                for place, upper in ((above, True), (below, False)):
                    if not place:
                        continue
                    a = [_end(n, place, upper) for n in (one.ups if upper else one.downs)]
                    b = [_end(n, place, upper) for n in (other.ups if upper else other.downs)]
                    now += sum(x > y for x in a for y in b)
                    then += sum(y > x for x in a for y in b)
                if then < now:
                    row[index], row[index + 1] = other, one
                    changed = True
        if not changed:
            return


def _median(values: list[float]) -> float:
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    return (values[middle - 1] + values[middle]) / 2


def _crossings(rows: Sequence[Sequence[Slot]]) -> int:
    total = 0
    for upper_row, row in itertools.pairwise(rows):
        above = {slot: index for index, slot in enumerate(upper_row)}
        here = {slot: index for index, slot in enumerate(row)}
        places = [(_end(n, above, True), _end(n, here, False)) for slot in row for n in slot.ups]
        passed: list[float] = []
        for _, lower_place in sorted(places):
            total += len(passed) - bisect.bisect_right(passed, lower_place)
            bisect.insort(passed, lower_place)
    return total


def set_columns(rows: Sequence[Sequence[Slot]]) -> None:
    """Give every slot its x, in the order of its row, near to its neighbours'."""
    for row in rows:
        _place(row, [(0.0, 0.01)] * len(row))
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            _place(row, [_wanted(slot, down, both=sweep >= _SWEEPS) for slot in row])
    least = min((slot.x for row in rows for slot in row), default=0.0)
    for row in rows:
        for slot in row:
            slot.x -= least


def _wanted(slot: Slot, down: bool, *, both: bool) -> tuple[float, float]:
    """Where a slot would stand best, and how much that matters."""
    places: list[tuple[float, float]] = []
    if down or both:
        places += [
            (link.upper.x + link.above - link.below, _weight(link.upper, slot)) for link in slot.ups
        ]
    if not down or both:
        places += [
            (link.lower.x + link.below - link.above, _weight(link.lower, slot))
            for link in slot.downs
        ]
    if not places:
        return slot.x, 0.01
    total = sum(weight for _, weight in places)
    return sum(x * weight for x, weight in places) / total, total


def _weight(one: Slot, other: Slot) -> float:
    # Long wires should be straight before all else.
    return 8.0 if one.is_bend and other.is_bend else 0.7 if one.is_bend or other.is_bend else 1.0


def _place(row: Sequence[Slot], wanted: Sequence[tuple[float, float]]) -> None:
    """Put slots as near to their wanted places as their order and widths allow.

    Pool adjacent violators: neighbours that are too near become one block at their mean.
    """
    blocks: list[list[float]] = []  # mean, weight, count
    shift = 0.0
    shifts = []
    for index, (slot, (x, weight)) in enumerate(zip(row, wanted, strict=True)):
        if index:
            before = row[index - 1]
            narrow = before.is_bend or slot.is_bend
            shift += before.width + (SIDE * 0.7 if narrow else SIDE)
        shifts.append(shift)
        blocks.append([x - shift, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, heavy, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * heavy) / (last[1] + heavy)
            last[1] += heavy
            last[2] += count
    places = [block[0] for block in blocks for _ in range(int(block[2]))]
    for slot, place, offset in zip(row, places, shifts, strict=True):
        slot.x = place + offset
