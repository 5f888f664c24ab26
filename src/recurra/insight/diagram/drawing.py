"""A placed picture as SVG text."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from recurra.insight.diagram.picture import (
    LABEL_SIZE,
    LINE_SIZE,
    NAME_SIZE,
    Box,
    Group,
    Picture,
)
from recurra.insight.diagram.places import HEAD, Placed, Point, Way
from recurra.insight.diagram.text import width_of

_MARGIN = 16.0
_LEGEND = 26.0

_ON_ROOT = ".recurra-model"

_PLAIN = {
    "ink": "#1b1e23",
    "muted": "#5d626b",
    "paper": "#ffffff",
    "accent": "#0a66b5",
    "state": "#a46011",
    "mask": "#127e73",
    "warn": "#9a4b00",
}
"""For programs that do not know CSS's variables."""

_LIGHT = {
    "ink": "var(--ink,var(--jp-content-font-color1,var(--vscode-editor-foreground,#1b1e23)))",
    "muted": "var(--muted,var(--jp-content-font-color2,#5d626b))",
    "paper": "var(--paper,var(--jp-layout-color0,var(--vscode-editor-background,#ffffff)))",
    "accent": "var(--accent,#0a66b5)",
    "state": "color-mix(in srgb,#d97a0a 72%,var(--rm-ink))",
    "mask": "color-mix(in srgb,#0fa392 72%,var(--rm-ink))",
    "warn": "var(--warn,#9a4b00)",
}

_DARK = {
    "ink": "var(--ink,var(--jp-content-font-color1,var(--vscode-editor-foreground,#eceef1)))",
    "muted": "var(--muted,var(--jp-content-font-color2,#a0a6b0))",
    "paper": "var(--paper,var(--jp-layout-color0,var(--vscode-editor-background,#171a1f)))",
    "accent": "var(--accent,#6bb6f2)",
    "warn": "var(--warn,#f0b062)",
}
"""Colours follow the page's own (--ink, --muted, --paper, --accent, --warn), a notebook's, or the
light or dark that the reader prefers; those of states and masks follow the ink."""

_RULES = {
    "": (
        'font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",'
        "sans-serif"
    ),
    ".rm-paper": "fill:var(--rm-paper)",
    "text": "fill:var(--rm-ink)",
    ".rm-name": "font-weight:600",
    ".rm-line": "fill:var(--rm-muted)",
    ".rm-label": (
        "fill:var(--rm-muted);stroke:var(--rm-paper);stroke-width:4px;paint-order:stroke;"
        "stroke-linejoin:round"
    ),
    "rect": "stroke-width:1.2",
    ".rm-back": "fill:var(--rm-paper);stroke:none",
    ".rm-box": "fill:var(--rm-ink);fill-opacity:.045;stroke:var(--rm-ink);stroke-opacity:.38",
    ".rm-recurrent .rm-box": (
        "fill:var(--rm-accent);fill-opacity:.13;stroke:var(--rm-accent);stroke-opacity:1;"
        "stroke-width:1.6"
    ),
    ".rm-operation .rm-box": "fill-opacity:.03;stroke-opacity:.25",
    ".rm-input .rm-box": "fill-opacity:.1;stroke:none",
    ".rm-output .rm-box": "fill-opacity:.1;stroke:none",
    ".rm-unknown .rm-box": "fill:none;stroke:var(--rm-warn);stroke-dasharray:4 3",
    ".rm-frame": (
        "fill:var(--rm-ink);fill-opacity:.028;stroke:var(--rm-ink);stroke-opacity:.3;"
        "stroke-dasharray:1.5 3;stroke-linecap:round"
    ),
    ".rm-wire": "fill:none;stroke:var(--rm-ink);stroke-opacity:.62;stroke-width:1.4",
    ".rm-head": "fill:var(--rm-ink);fill-opacity:.72",
    ".rm-masked .rm-wire": "stroke:var(--rm-mask);stroke-opacity:1;stroke-dasharray:6 3",
    ".rm-masked .rm-head": "fill:var(--rm-mask);fill-opacity:1",
    ".rm-mask .rm-wire": (
        "stroke:var(--rm-mask);stroke-opacity:1;stroke-dasharray:1.5 3.5;stroke-linecap:round"
    ),
    ".rm-mask .rm-head": "fill:var(--rm-mask);fill-opacity:1",
    ".rm-state .rm-wire": "stroke:var(--rm-state);stroke-opacity:1;stroke-width:2",
    ".rm-state .rm-head": "fill:var(--rm-state);fill-opacity:1",
    ".rm-state .rm-label": "fill:var(--rm-state)",
    "tspan.rm-says": "fill:var(--rm-mask)",
    "tspan.rm-warns": "fill:var(--rm-warn);font-weight:600",
}


def _style() -> str:
    def colours(table: Mapping[str, str]) -> str:
        return ";".join(f"--rm-{name}:{value}" for name, value in table.items())

    def both(rule: str) -> str:
        """Every colour plainly too, for those who pass over what they do not know."""
        plain = re.sub(r"var\(--rm-(\w+)\)", lambda found: _PLAIN[found[1]], rule)
        return rule if plain == rule else f"{plain};{rule}"

    rules = [f"{_ON_ROOT} {place}".strip() + f"{{{both(rule)}}}" for place, rule in _RULES.items()]
    dark = f"@media (prefers-color-scheme:dark){{{_ON_ROOT}{{{colours(_DARK)}}}}}"
    return "\n".join([f"{_ON_ROOT}{{{colours(_LIGHT)}}}", dark, *rules])


STYLE = _style()


def svg(picture: Picture, placed: Placed, *, ids: bool = False) -> str:
    """The SVG of a picture.

    Args:
        picture: what is drawn.
        placed: where.
        ids: whether the boxes of layers get ids: "layer-1" and so on, in the model's order.
    """
    legend = _legend(picture)
    legend_width = sum(width for _, _, width in legend)
    labels = [*_labels(placed)]
    beyond_left = max([0.0, *(-area[0] for _, area in labels)])
    right = max([placed.width, *(area[2] for _, area in labels)])
    inner = beyond_left + right
    width = max(inner, legend_width) + 2 * _MARGIN
    height = placed.height + 2 * _MARGIN + (_LEGEND if legend else 0.0)
    left = (width - inner) / 2 + beyond_left
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="recurra-model" role="img" '
        f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'aria-label="{_text(picture.description)}">',
        f"<title>{_text(picture.title)}</title>",
        f"<desc>{_text(picture.description)}</desc>",
        f"<style>{STYLE}</style>",
        f'<rect class="rm-paper" width="{_n(width)}" height="{_n(height)}" rx="8"/>',
        f'<g transform="translate({_n(left)} {_n(_MARGIN)})">',
        *(_frame(*frame) for frame in placed.frames),
        *(_wire(way) for way in placed.ways),
        *_boxes(placed, ids=ids),
        *(text for text, _ in labels),
        "</g>",
        *_drawn_legend(legend, (width - legend_width) / 2, height - _MARGIN / 2 - 6),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


def _frame(group: Group, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<g class="rm-group"><title>{_text(group.path)}</title>'
        f'<rect class="rm-frame" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" '
        f'height="{_n(height)}" rx="10"/>'
        f'<text class="rm-line" x="{_n(x + 10)}" y="{_n(y + 15)}" font-size="{LINE_SIZE:g}">'
        f"{_text(group.name)}</text></g>"
    )


# --- Wires ---


def _wire(way: Way) -> str:
    wire = way.wire
    kind = wire.flow if wire.flow != "data" else "masked" if wire.masked else "data"
    head = _head(way.points[-1]) if way.last else ""
    return (
        f'<g class="rm-{kind}"><title>{_text(wire.tip)}</title>'
        f'<path class="rm-wire" d="{_path(way)}"/>{head}</g>'
    )


def _path(way: Way) -> str:
    """Straight where a wire goes straight down, and soft curves from there to there."""
    points = way.points
    if way.square:
        return _square_path(points)
    said = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for index, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(points)):
        if way.last and index == len(points) - 2:
            y1 -= 5.0  # the arrow's head
        if abs(x0 - x1) < 0.5:
            said.append(f"L{_n(x1)} {_n(y1)}")
        else:
            middle = (y0 + y1) / 2
            said.append(f"C{_n(x0)} {_n(middle)} {_n(x1)} {_n(middle)} {_n(x1)} {_n(y1)}")
    return "".join(said)


def _square_path(points: Sequence[Point]) -> str:
    """Straight lines with round corners."""
    said = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        enter, leave = _towards(corner, before), _towards(corner, after)
        said.append(f"L{_n(enter[0])} {_n(enter[1])}Q{_n(corner[0])} {_n(corner[1])} ")
        said.append(f"{_n(leave[0])} {_n(leave[1])}")
    said.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    return "".join(said)


def _towards(corner: Point, other: Point) -> Point:
    """A point a little way from a corner."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max(1e-9, abs(dx) + abs(dy))
    part = min(8.0, length / 2) / length
    return corner[0] + dx * part, corner[1] + dy * part


def _head(point: Point) -> str:
    x, y = point
    return (
        f'<path class="rm-head" d="M{_n(x)} {_n(y)}L{_n(x - 4)} {_n(y - 8)}'
        f'L{_n(x)} {_n(y - 6)}L{_n(x + 4)} {_n(y - 8)}Z"/>'
    )


_MOST_CROSSED = 6
"""Points of wires, some 5 pixels apart, that a label may cover; else it is left to the pointer."""

Area = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _labels(placed: Placed) -> Iterator[tuple[str, Area]]:
    """Shapes beside the wires, once for each tensor, where there is room; and what they cover."""
    taken = [(x, y, x + box.size[0], y + box.size[1]) for box, (x, y) in placed.boxes.items()]
    taken += [(x, y, x + w, y + HEAD - 6) for _, x, y, w, _ in placed.frames]
    points = sorted((y, x) for way in placed.ways for x, y in _trace(way))
    written: set[tuple[int, str]] = set()
    for way in placed.ways:
        wire = way.wire
        key = (wire.tensor, wire.flow)
        if not way.first or key in written or not wire.label or wire.flow == "mask":
            continue
        label = wire.label
        found = _room(way, width_of(label, LABEL_SIZE), taken, points)
        if found is None and not label.startswith("("):
            label = label[label.rindex("(") :]
            found = _room(way, width_of(label, LABEL_SIZE), taken, points)
        if found is None:
            continue
        written.add(key)
        (x, y), area = found
        taken.append(area)
        text = (
            f'<g class="rm-{wire.flow}"><text class="rm-label" x="{_n(x)}" y="{_n(y)}" '
            f'font-size="{LABEL_SIZE:g}">{_text(label)}</text></g>'
        )
        yield text, area


def _trace(way: Way) -> Iterator[Point]:
    """Points along a way, near enough to each other that no label slips between."""
    for (x0, y0), (x1, y1) in itertools.pairwise(way.points):
        count = max(2, int(abs(x1 - x0) / 5), int(abs(y1 - y0) / 6))
        for index in range(count):
            yield _along(x0, y0, x1, y1, index / count)


def _along(x0: float, y0: float, x1: float, y1: float, part: float) -> Point:
    """A point of the curve between two points: a cubic with vertical ends."""
    return x0 + (x1 - x0) * (3 * part**2 - 2 * part**3), y0 + (y1 - y0) * (
        1.5 * part - 1.5 * part**2 + part**3
    )


def _room(
    way: Way, width: float, taken: Sequence[Area], points: Sequence[Point]
) -> tuple[Point, Area] | None:
    """Where a label can stand beside a way: on no box or label, over as few wires as can be.

    Args:
        way, width: of the label.
        taken: by boxes and labels.
        points: (y, x) along all wires, sorted.
    """
    height = LABEL_SIZE + 2
    best: tuple[int, Point, Area] | None = None
    for (x0, y0), (x1, y1) in itertools.pairwise(way.points):
        if y1 - y0 < height:
            continue
        near = points[bisect.bisect(points, (y0,)) : bisect.bisect(points, (y1,))]
        for part in (0.5, 0.35, 0.65, 0.25, 0.75):
            x, y = _along(x0, y0, x1, y1, part)
            for left in (x + 7, x - 7 - width):
                area = (left, y - height / 2, left + width, y + height / 2)
                if any(_cover(area, other) for other in taken):
                    continue
                crossed = sum(area[0] < px < area[2] and area[1] < py < area[3] for py, px in near)
                if crossed <= _MOST_CROSSED and (best is None or crossed < best[0]):
                    best = crossed, (left, y + LABEL_SIZE * 0.36), area
        if best is not None and not best[0]:
            break
    return None if best is None else best[1:]


def _cover(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


# --- Boxes ---


def _boxes(placed: Placed, *, ids: bool) -> Iterator[str]:
    layers = 0
    for box, (x, y) in placed.boxes.items():
        layers += bool(box.path)
        name = f' id="layer-{layers}"' if ids and box.path else ""
        linked = f' data-path="{_text(box.path)}"' if box.kind == "recurrent" else ""
        width, height = box.size
        round_corners = height / 2 if box.kind in ("input", "output", "operation") else 7
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        yield (
            f'<g class="rm-{box.kind}"{name}{linked}><title>{_text(box.tip)}</title>'
            f'<rect class="rm-back" {place} rx="{_n(round_corners)}"/>'
            f'<rect class="rm-box" {place} rx="{_n(round_corners)}"/>'
            f"{_box_text(box, x + width / 2, y)}</g>"
        )


def _box_text(box: Box, middle: float, y: float) -> str:
    if box.size[1] < 30:
        size = LINE_SIZE if box.kind == "operation" else NAME_SIZE - 1
        line = f'<tspan class="rm-line"> {_text(box.line)}</tspan>' if box.line else ""
        return _line(f"{_text(box.name)}{line}", middle, y + 16, size)
    says = ""
    if box.mark:
        says = f'<tspan class="{"rm-warns" if box.warns else "rm-says"}">{_text(box.mark)}</tspan>'
        says = f" · {says}" if box.line else says
    return _line(_text(box.name), middle, y + 19, NAME_SIZE, "rm-name") + _line(
        f"{_text(box.line)}{says}", middle, y + 35, LINE_SIZE, "rm-line"
    )


def _line(markup: str, x: float, y: float, size: float, look: str = "") -> str:
    named = f' class="{look}"' if look else ""
    return (
        f'<text{named} x="{_n(x)}" y="{_n(y)}" font-size="{size:g}" '
        f'text-anchor="middle">{markup}</text>'
    )


# --- The legend ---

_EXPLAINED = (
    ("masked", "with a mask"),
    ("mask", "a mask"),
    ("state", "initial states"),
)


def _legend(picture: Picture) -> list[tuple[str, str, float]]:
    """What the kinds of wires mean: kind, text and width, of those that there are."""
    kinds = {
        wire.flow if wire.flow != "data" else "masked" if wire.masked else "data"
        for wire in picture.wires
    }
    return [
        (kind, text, 46.0 + width_of(text, LABEL_SIZE))
        for kind, text in _EXPLAINED
        if kind in kinds
    ]


def _drawn_legend(legend: Sequence[tuple[str, str, float]], x: float, y: float) -> Iterator[str]:
    for kind, text, width in legend:
        yield (
            f'<g class="rm-{kind}"><path class="rm-wire" d="M{_n(x)} {_n(y)}h26"/>'
            f'<text class="rm-line" x="{_n(x + 32)}" y="{_n(y + 4)}" font-size="{LABEL_SIZE:g}">'
            f"{_text(text)}</text></g>"
        )
        x += width


def _n(number: float) -> str:
    """A coordinate, short."""
    return f"{number:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    """Text for XML: escaped, and without what XML cannot hold."""
    kept = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
    return escape(kept.encode("utf-8", "replace").decode("utf-8"), quote=True)
