"""How wide a text is, without fonts at hand, and texts cut to a width."""

from __future__ import annotations

import unicodedata

_NARROW = frozenset("iIjlt.,:;!'|()[]{}/ f")
_WIDE = frozenset("mMwW@%")


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide a text is in a usual sans-serif font; rather too much than too little."""
    total = 0.0
    for letter in text:
        if letter in _NARROW:
            total += 0.36
        elif letter in _WIDE or unicodedata.east_asian_width(letter) in "WF":
            total += 1.0
        elif letter.isupper():
            total += 0.72
        else:
            total += 0.585
    return total * size * (1.06 if bold else 1.0)


def cut(text: str, most: int) -> str:
    """A text of at most so many letters, its middle left out.

    Example:
        >>> cut("bidirectional_encoder_17", 15)
        'bidirec…oder_17'
    """
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    if len(text) <= most:
        return text
    front = (most - 1) // 2
    return f"{text[:front]}…{text[len(text) - (most - 1 - front) :]}"
