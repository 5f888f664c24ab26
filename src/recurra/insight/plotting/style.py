"""Colours and habits of Recurra's figures: the ones of the report's page, in matplotlib.

Blue and orange stay apart for every kind of colour vision, and so do the lines' colours, which
dashes tell apart as well. Zero has the colour of the paper.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

INK, MUTED, FAINT, HATCH = "#1b1e23", "#5d626b", "#e2e3e1", "#b9bcc0"
PADDING = "#f1f1ef"
NO_VALUE = "#e0489f"

LINES = ("#1b1e23", "#0072b2", "#d55e00", "#008562", "#b0568c", "#b07900", "#3d8fc4", "#6b6f76")
"""After Okabe and Ito (2008), Color Universal Design; darkened to be read on white."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

_SYMBOL_COLOURS = {
    "hidden_state": LINES[0],
    "cell_state": LINES[4],
    "input_gate": LINES[1],
    "forget_gate": LINES[2],
    "output_gate": LINES[3],
    "candidate": LINES[5],
    "update_gate": LINES[2],
    "reset_gate": LINES[1],
}

# Lightness, chroma and hue in OKLab, at even distances from low to high.
# OKLab: Ottosson (2020), A perceptual color space for image processing.
_ANCHORS = {
    "diverging": (
        (0.36, 0.13, 262),
        (0.56, 0.14, 252),
        (0.79, 0.075, 245),
        (0.985, 0.0, 250),
        (0.8, 0.095, 62),
        (0.6, 0.145, 48),
        (0.41, 0.115, 38),
    ),
    "sequential": (
        (0.985, 0.004, 110),
        (0.88, 0.065, 150),
        (0.72, 0.095, 185),
        (0.53, 0.1, 225),
        (0.37, 0.1, 262),
        (0.24, 0.075, 285),
    ),
}


@functools.cache
def colormap(kind: str) -> Any:
    """The "diverging" or the "sequential" palette as a matplotlib colormap."""
    from matplotlib.colors import ListedColormap

    anchors = np.array([_lab(*anchor) for anchor in _ANCHORS[kind]])
    place = np.linspace(0, len(anchors) - 1, 255)
    mixed = [np.interp(place, np.arange(len(anchors)), anchors[:, axis]) for axis in range(3)]
    found = ListedColormap(_rgb(np.stack(mixed, axis=1)), name=f"recurra_{kind}")
    return found.with_extremes(bad=NO_VALUE)


def colour_of(name: str, number: int) -> str:
    """The colour of an array's line; arrays without one of their own are numbered."""
    return _SYMBOL_COLOURS.get(name, LINES[number % len(LINES)])


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of one of several lines that are told apart by number."""
    return {
        "color": LINES[number % len(LINES)],
        "linestyle": DASHES[number // len(LINES) % len(DASHES)],
    }


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings while a figure is made; the user's own stay as they are."""
    import matplotlib

    settings: dict[str, Any] = {
        "font.size": 8.5,
        "axes.titlesize": 8.5,
        "axes.titlelocation": "left",
        "axes.titlepad": 4,
        "axes.titleweight": "normal",
        "axes.labelsize": 8.5,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": HATCH,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.1,
        "legend.fontsize": 7.5,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "savefig.facecolor": "white",
    }
    with matplotlib.rc_context(settings):
        yield


def _lab(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    angle = np.deg2rad(hue)
    return lightness, chroma * float(np.cos(angle)), chroma * float(np.sin(angle))


def _rgb(lab: NDArray[np.floating]) -> NDArray[np.floating]:
    """OKLab (n, 3) as sRGB in [0, 1]."""
    L, a, b = lab.T
    long = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (L - 0.0894841775 * a - 1.291485548 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
        ],
        axis=1,
    ).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def spans(padded: NDArray[np.bool_] | Sequence[bool]) -> list[tuple[int, int]]:
    """Where a run of True begins and where it has ended: [(start, stop), ...].

    Example:
        >>> spans([False, True, True, False, True])
        [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(padded, int), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
