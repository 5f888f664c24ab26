"""Places for a picture's boxes and ways for its wires, group by group from the inside."""

from __future__ import annotations

from collections.abc import Iterable

from recurra.insight.diagram.folding import folded
from recurra.insight.diagram.picture import Box, Group, Picture, Wire
from recurra.insight.diagram.places import HEAD, PAD, Placed, Way
from recurra.insight.diagram.ranks import (
    Link,
    Slot,
    order_rows,
    set_columns,
    set_rows,
    with_bends,
)

GAP, TIGHT_GAP = 40.0, 28.0
"""Between rows; the second in models of more than `_MANY` boxes."""

_MANY = 24
_PORT = 22.0
"""Between wires at a box."""


def lay_out(picture: Picture) -> Placed:
    """Places for everything; a tall and narrow picture is folded into columns."""
    many = sum(1 for _ in picture.root.boxes()) > _MANY
    gap = TIGHT_GAP if many else GAP
    return folded(_Level(picture.root, picture.wires, gap, framed=False).placed())


class _Level:
    """One group: its items in rows, groups in it as one item each."""

    def __init__(self, group: Group, wires: Iterable[Wire], gap: float, *, framed: bool) -> None:
        self.gap, self.framed = gap, framed
        self.slots: list[Slot] = []
        self.links: list[tuple[Wire, Link, int]] = []  # the wire, its link, its tensor's port
        self.inside: dict[Slot, Placed] = {}
        self.items: dict[Slot, Box | Group] = {}
        self.slot_of: dict[Box, Slot] = {}
        self.entries: dict[int, Slot] = {}
        self.exits: dict[int, Slot] = {}
        members = set(group.boxes())
        own = [w for w in wires if w.source in members or w.target in members]
        for item in group.items:
            if isinstance(item, Group):
                placed = _Level(item, own, gap, framed=True).placed()
                slot = Slot(placed.width, placed.height, rigid=True)
                self.inside[slot] = placed
                self.slot_of |= dict.fromkeys(item.boxes(), slot)
            else:
                slot = Slot(*item.size)
                self.slot_of[item] = slot
            self.items[slot] = item
            self.slots.append(slot)
        for wire in own:
            self._connect(wire, wire.source in members, wire.target in members)

    def _connect(self, wire: Wire, starts: bool, ends: bool) -> None:
        if starts and ends:
            upper, lower = self.slot_of[wire.source], self.slot_of[wire.target]
            if upper is lower:  # inside of a group in this one
                return
        elif ends:
            lower = self.slot_of[wire.target]
            upper = self._port(self.entries, wire.tensor, -1)
        else:
            upper = self.slot_of[wire.source]
            lower = self._port(self.exits, wire.tensor, 1)
        known = (
            (w, each)
            for w, each, _ in self.links
            if each.upper is upper and each.lower is lower and w.tensor == wire.tensor
        )
        shared = any(True for _ in known)
        if shared and (upper in self.inside or lower in self.inside or not (starts and ends)):
            return  # one way for all that use the tensor in there
        link = Link(upper, lower)
        upper.downs.append(link)
        lower.ups.append(link)
        self.links.append((wire, link, wire.tensor))

    def _port(self, ports: dict[int, Slot], tensor: int, fixed: int) -> Slot:
        if tensor not in ports:
            ports[tensor] = Slot(fixed=fixed)
            self.slots.append(ports[tensor])
        return ports[tensor]

    def placed(self) -> Placed:
        """The group with places."""
        count = set_rows(self.slots, [link for _, link, _ in self.links])
        chains = [(wire, with_bends(link)) for wire, link, _ in self.links]
        rows: list[list[Slot]] = [[] for _ in range(count)]
        for slot in self.slots:
            slot.ups, slot.downs = [], []
            rows[slot.row].append(slot)
        for _, chain in chains:
            for link in chain:
                link.upper.downs.append(link)
                link.lower.ups.append(link)
                if link is not chain[-1]:
                    rows[link.lower.row].append(link.lower)
        self._fasten_at_groups(chains)
        order_rows(rows)
        set_columns(rows)
        for _ in range(2):
            self._fasten(chains)
            set_columns(rows)
        return self._measured(rows, chains)

    def _fasten_at_groups(self, chains: list[tuple[Wire, list[Link]]]) -> None:
        for wire, chain in chains:
            first, last = chain[0], chain[-1]
            first.leaves = first.upper.width / 2
            last.enters = last.lower.width / 2
            if first.upper in self.inside:
                first.leaves = self.inside[first.upper].exits[wire.tensor]
            if last.lower in self.inside:
                last.enters = self.inside[last.lower].entries[wire.tensor]

    def _fasten(self, chains: list[tuple[Wire, list[Link]]]) -> None:
        """Spread the wires along the edges of their boxes, in the order of where they go."""
        tops: dict[Slot, list[Link]] = {}
        bottoms: dict[Slot, dict[tuple[int, str], list[Link]]] = {}
        for wire, chain in chains:
            first, last = chain[0], chain[-1]
            if last.lower not in self.inside and not last.lower.is_bend:
                tops.setdefault(last.lower, []).append(last)
            if first.upper not in self.inside and not first.upper.is_bend:
                key = (wire.tensor, "" if wire.flow != "order" else wire.flow)
                bottoms.setdefault(first.upper, {}).setdefault(key, []).append(first)
        for slot, links in tops.items():
            links.sort(key=lambda link: link.upper.x + link.leaves)
            for link, place in zip(links, _spread(slot.width, len(links)), strict=True):
                link.enters = place
        for slot, by_tensor in bottoms.items():
            groups = sorted(
                by_tensor.values(),
                key=lambda links: sum(n.lower.x + n.enters for n in links) / len(links),
            )
            for links, place in zip(groups, _spread(slot.width, len(groups)), strict=True):
                for link in links:
                    link.leaves = place

    def _measured(self, rows: list[list[Slot]], chains: list[tuple[Wire, list[Link]]]) -> Placed:
        x0 = PAD if self.framed else 0.0
        y = HEAD if self.framed else 0.0
        tops, bottoms = [], []
        for number, row in enumerate(rows):
            height = max((slot.height for slot in row), default=0.0)
            port_row = self.framed and all(slot.width == 0 and slot.height == 0 for slot in row)
            for slot in row:
                slot.x += x0
                slot.y = y + (height - slot.height) / 2
            tops.append(y)
            bottoms.append(y + height)
            y += height
            if number < len(rows) - 1:
                below = rows[number + 1]
                ports_below = self.framed and not any(slot.height for slot in below)
                at_edge = (port_row and number == 0) or (ports_below and number == len(rows) - 2)
                y += self.gap * (0.4 if at_edge else 1.0)
        right = max((slot.x + slot.width for row in rows for slot in row), default=0.0)
        has_exit_row = bool(self.exits)
        width = right + x0
        height = y + (0.0 if not self.framed or has_exit_row else PAD)
        made = Placed(width, height)
        for slot, item in self.items.items():
            if isinstance(item, Box):
                made.boxes[item] = (slot.x, slot.y)
            else:
                inner = self.inside[slot]
                made.frames.append((item, slot.x, slot.y, slot.width, slot.height))
                made.boxes |= {box: (slot.x + x, slot.y + y) for box, (x, y) in inner.boxes.items()}
                made.frames += [
                    (group, slot.x + x, slot.y + y, w, h) for group, x, y, w, h in inner.frames
                ]
                made.ways += [
                    Way(
                        way.wire,
                        [(slot.x + x, slot.y + y) for x, y in way.points],
                        way.first,
                        way.last,
                    )
                    for way in inner.ways
                ]
        for wire, chain in chains:
            if wire.flow != "order":
                made.ways.append(self._way(wire, chain, tops, bottoms, height))
        made.rows = list(zip(tops, bottoms, strict=True))
        made.entries = {tensor: slot.x for tensor, slot in self.entries.items()}
        made.exits = {tensor: slot.x for tensor, slot in self.exits.items()}
        return made

    def _way(
        self,
        wire: Wire,
        chain: list[Link],
        tops: list[float],
        bottoms: list[float],
        height: float,
    ) -> Way:
        first, last = chain[0], chain[-1]
        upper, lower = first.upper, last.lower
        begins = upper.y + upper.height if upper not in self.entries.values() else 0.0
        ends = lower.y if lower not in self.exits.values() else height
        points = [(upper.x + first.leaves, begins)]
        if begins < bottoms[upper.row] and upper not in self.entries.values():
            points += [points[0], (points[0][0], bottoms[upper.row])][1:]
        for link in chain[:-1]:
            bend = link.lower
            points += [(bend.x, tops[bend.row]), (bend.x, bottoms[bend.row])]
        end = (lower.x + last.enters, ends)
        if tops[lower.row] < ends and lower not in self.exits.values():
            points.append((end[0], tops[lower.row]))
        points.append(end)
        starts = upper not in self.entries.values() and upper not in self.inside
        stops = lower not in self.exits.values() and lower not in self.inside
        return Way(wire, points, starts, stops)


def _spread(width: float, count: int) -> list[float]:
    """Places for so many wires along an edge, around its middle."""
    step = min(_PORT, (width - 16.0) / max(1, count))
    return [width / 2 + (index - (count - 1) / 2) * step for index in range(count)]
