"""An explanation as a document: sections of text and tables, before it is drawn anywhere.

Terminal and HTML draw the same document. Text between backticks is code. Kinds of cells: "name",
"plain" (a name that matters less), "shape", "code", "text", "number", "dim", "good", "bad",
"error", "rail" (the line along which the data goes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Text of a kind, where a table's column does not say it."""

    text: str
    kind: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """Rows of cells; the last column is the one that wraps.

    kinds: of the columns.
    hangs: whether the last column goes beneath the others where the line is short of room.
    """

    rows: tuple[tuple[str | Part, ...], ...]
    kinds: tuple[str, ...]
    head: tuple[str, ...] = ()
    hangs: bool = False


@dataclass(frozen=True)
class Code:
    """A line of Python."""

    text: str


@dataclass(frozen=True)
class Gap:
    """An empty line."""


Content = Text | Table | Code | Gap


@dataclass(frozen=True)
class Section:
    """What stands under a heading; `aside` is said beside it."""

    title: str
    content: tuple[Content, ...]
    aside: str = ""


@dataclass(frozen=True)
class Document:
    """title: whose explanation it is; aside: its sizes, beside it."""

    title: str
    aside: str
    sections: tuple[Section, ...]
    foot: str = ""


def table(
    rows: Sequence[Sequence[str | Part]],
    *kinds: str,
    head: Sequence[str] = (),
    hangs: bool = False,
) -> Table:
    """A table of lists."""
    return Table(tuple(tuple(row) for row in rows), kinds, tuple(head), hangs)


def pieces(text: str) -> list[tuple[str, bool]]:
    """Text taken apart at its backticks: (piece, whether it is code).

    Example:
        >>> pieces("as `state_h` it comes")
        [('as ', False), ('state_h', True), (' it comes', False)]
    """
    return [(piece, index % 2 == 1) for index, piece in enumerate(text.split("`")) if piece]
