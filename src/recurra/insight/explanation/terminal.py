"""A document in a terminal, by rich: with colours, in any width."""

from __future__ import annotations

import io
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text as Words

from recurra.insight.explanation.document import (
    Code,
    Content,
    Document,
    Gap,
    Part,
    Section,
    Table,
    Text,
    pieces,
)

_STYLES = {
    "name": "bold cyan",
    "shape": "green",
    "code": "cyan",
    "plain": "",
    "dim": "dim",
    "good": "green",
    "bad": "yellow",
    "error": "bold red",
    "rail": "dim",
}
_LEAST = 34
"""A last column with less room than this goes beneath the others, where it may."""

_NARROW = 12
"""No column is made narrower than this."""

_WIDEST = 120

_NO_BREAK = "\N{NO-BREAK SPACE}"
_TOGETHER = re.compile(r"\([\w·, ]{1,30}\)|`[^`]{1,40}`")


def text_of(document: Document, width: int | None = None, *, colour: bool = False) -> str:
    """A document as lines of text.

    Args:
        document: what to draw.
        width: columns; None for the terminal's, or 80 where there is none.
        colour: whether the text has a terminal's codes for colours in it.
    """
    width = width or min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(drawn(document, width))
    text = file.getvalue().replace(_NO_BREAK, " ")
    return "\n".join(line.rstrip() for line in text.splitlines())


def drawn(document: Document, width: int) -> Any:
    """A document for a rich console of a width."""
    return Group(*_parts(document, min(width, _WIDEST)))


def _parts(document: Document, width: int) -> Iterator[Any]:
    yield _heading(document.title, document.aside, width, "bold cyan")
    for section in document.sections:
        yield Words()
        yield from _section(section, width)
    if document.foot:
        yield Words()
        yield _words(document.foot, "dim")


def _section(section: Section, width: int) -> Iterator[Any]:
    if section.title:
        yield _heading(section.title, section.aside, width, "bold")
    for content in section.content:
        yield Padding(_content(content, width - 2), (0, 0, 0, 2))


def _heading(title: str, aside: str, width: int, style: str) -> Any:
    words = Words()
    words.append(title, style)
    if not aside:
        return words
    if cell_len(title) + 3 + cell_len(aside.replace("`", "")) <= width:
        return words + Words("   ") + _words(aside, "")
    return Group(words, Padding(_words(aside, ""), (0, 0, 0, 2)))


def _content(content: Content, width: int) -> Any:
    match content:
        case Text():
            return _words(content.text, content.kind)
        case Code():
            return Words(_wrapped(content.text, width), "cyan")
        case Gap():
            return Words()
        case Table():
            return _table(content, width)


def _unbroken(text: str) -> str:
    """Shapes and code with spaces at which no line ends."""
    return _TOGETHER.sub(lambda found: found[0].replace(" ", _NO_BREAK), text)


def _words(text: str, kind: str) -> Words:
    words = Words(overflow="fold")
    style = _STYLES.get(kind, kind if kind == "dim" else "")
    for piece, is_code in pieces(_unbroken(text)):
        words.append(piece, "cyan" if is_code else style)
    return words


def _wrapped(line: str, width: int) -> str:
    """A call and the names that it is unpacked into, in as many lines as it needs."""
    if cell_len(line) <= width or " = " not in line:
        return line
    names, _, call = line.partition(" = ")
    rows = textwrap.wrap(names, width - 2, break_long_words=False)
    end = f") = {call}"
    apart = cell_len(rows[-1]) + len(end) + 1 > width
    return "(" + "\n ".join(rows) + ("\n" if apart else "") + end


def _cell(cell: str | Part, kind: str) -> Words:
    return _words(cell.text, cell.kind) if isinstance(cell, Part) else _words(cell, kind)


def _table(table: Table, width: int) -> Any:
    if not table.rows:
        return Words()
    rows = [
        [_cell(cell, kind) for cell, kind in zip(row, table.kinds, strict=True)]
        for row in table.rows
    ]
    widths = [max(words.cell_len for words in column) for column in zip(*rows, strict=True)]
    if table.head:
        widths = [max(w, cell_len(head)) for w, head in zip(widths, table.head, strict=True)]
    gaps = 2 * (len(widths) - 1)
    left = width - gaps - sum(widths[:-1])
    hangs = table.hangs and widths[-1] > left and left < _LEAST
    count = len(widths) - hangs
    fitting = _fitting(widths[:count], width - 2 * (count - 1), table.hangs)
    grid = Grid(
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        show_header=bool(table.head),
        header_style="dim",
    )
    for index in range(count):
        justify: Any = "right" if table.kinds[index] == "number" else "left"
        wraps = index == count - 1 or fitting[index] < widths[index]
        grid.add_column(
            table.head[index] if table.head else "",
            overflow="fold",
            no_wrap=not wraps,
            justify=justify,
            width=fitting[index] if index < count - 1 else None,
        )
    if not hangs:
        for row in rows:
            grid.add_row(*row)
        return grid
    if count == 1:
        return Group(*(part for row in rows for part in (row[0], _beneath(row[1]))))
    # Beneath the last column that stays: its own column is as wide as there is room for.
    for row in rows:
        grid.add_row(*row[:-1])
        if row[-1].plain:
            grid.add_row(*[Words()] * (count - 1), _dimmed(row[-1]))
    return grid


def _beneath(words: Words) -> Any:
    return Padding(_dimmed(words), (0, 0, 0, 4))


def _fitting(widths: Sequence[int], width: int, hangs: bool) -> list[int]:
    """Widths of columns, the widest made narrower where a line is too short for all."""
    fitting = [*widths]
    fitting[-1] = min(fitting[-1], _NARROW if hangs else _LEAST)
    while sum(fitting) > width:
        widest = max(range(len(fitting)), key=fitting.__getitem__)
        if fitting[widest] <= _NARROW:
            break
        fitting[widest] -= 1
    return fitting


def _dimmed(words: Words) -> Words:
    words.stylize("dim")
    return words
