"""Shapes for people: numbers where they are known, and B, T, F, U where they are free."""

from __future__ import annotations

import re
from collections.abc import Sequence

Size = int | str
"""A number, or a symbol or product that stands for one: "T", "4·U"."""

SymbolicShape = tuple[Size, ...]

MEANINGS = {
    "B": "sequences in the batch",
    "N": "items of a sequence",
    "T": "time steps",
    "F": "features of a step",
    "U": "units",
}
"""What the letters stand for; other letters are sizes that the model leaves open."""


_LETTER = re.compile(r"[A-Z]\d*")


def symbolic(shape: Sequence[int | None] | None, letters: str = "BTF") -> SymbolicShape:
    """A shape with a letter for every size that is free.

    Args:
        shape: None where nothing is known of it.
        letters: for the axes, in order; further ones are "?".

    Example:
        >>> symbolic((None, None, 8))
        ('B', 'T', 8)
    """
    if shape is None:
        return ()
    padded = letters + "?" * len(shape)
    return tuple(
        letter if size is None else size for size, letter in zip(shape, padded, strict=False)
    )


def shape_text(shape: Sequence[Size]) -> str:
    """A shape as Python writes it, with its letters.

    Example:
        >>> shape_text(("B", "T", 64)), shape_text(("4·U",))
        ('(B, T, 64)', '(4·U,)')
    """
    inside = ", ".join(str(size) for size in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def times(factor: int, size: Size) -> Size:
    """A multiple of a size.

    Example:
        >>> times(4, 64), times(4, "U"), times(1, "U")
        (256, '4·U', 'U')
    """
    if isinstance(size, int):
        return factor * size
    return 0 if factor == 0 else size if factor == 1 else f"{factor}·{size}"


def plus(a: Size, b: Size) -> Size:
    """The sum of two sizes.

    Example:
        >>> plus(64, 32), plus("U", "U"), plus("U", 3)
        (96, '2·U', 'U+3')
    """
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return times(2, a) if a == b else f"{a}+{b}"


def columns(first: int, width: Size) -> str:
    """The slice of the block that begins after `first` blocks of a width.

    Example:
        >>> columns(1, 64), columns(0, "U"), columns(2, "U")
        ('64:128', '0:U', '2·U:3·U')
    """
    return f"{times(first, width)}:{times(first + 1, width)}"


def legend(*shapes: Sequence[Size]) -> list[str]:
    """What the letters of shapes stand for, in the order of `MEANINGS`.

    Example:
        >>> legend(("B", "T", 8), ("B", "T2", "2·U"))
        ['B sequences in the batch', 'T, T2 time steps', 'U units']
    """
    found = sorted({each for s in shapes for size in s for each in _LETTER.findall(str(size))})
    named = {
        letter: [each for each in found if each.rstrip("0123456789") == letter]
        for letter in MEANINGS
    }
    return [
        f"{', '.join(named[letter])} {MEANINGS[letter]}" for letter in MEANINGS if named[letter]
    ]
