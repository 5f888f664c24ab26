"""Panels put together to a figure, without pyplot."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from recurra.insight.plotting import style as look
from recurra.insight.plotting.panels import Panel, hatch_padding, label_steps, literally

_BAR = 0.09  # inches: a colour bar's width
_DPI = 150


class TraceFigure(Figure):
    """A matplotlib figure that a notebook shows even where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def make_figure(
    panels: Sequence[Panel], title: str, width: float, first_step: int = 0, *, ahead: int = 0
) -> Figure:
    """Panels one below the other, along common time axes.

    Args:
        panels: at least one.
        title: above all.
        width: in inches.
        first_step: what the first column is called on the axis.
        ahead: how many steps the axes go on behind the last one, for forecasts.
    """
    gap = 0.3  # title of a panel
    heights = [panel.height for panel in panels]
    figure = _empty(width, sum(heights) + gap * len(panels) + 0.75, title)
    grid = figure.add_gridspec(
        len(panels), 2, width_ratios=[width - 1.1, _BAR], height_ratios=heights
    )
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[index, 0])
        axes.set_title(panel.title, parse_math=False)
        drawn = panel.draw(axes)
        if panel.steps is not None:
            axes.set_xlim(-0.5, panel.steps - 0.5 + ahead)
            hatch_padding(axes, panel.mask)
            if ahead:
                axes.axvline(
                    panel.steps - 0.5, color=look.MUTED, linewidth=0.8, linestyle=look.DASHES[2]
                )
            below = panels[index + 1] if index + 1 < len(panels) else None
            last = below is None or below.steps != panel.steps
            label_steps(axes, panel.tokens, panel.steps + ahead, last=last, first=first_step)
        if drawn is not None:
            _colour_bar(figure, grid[index, 1], drawn)
    figure.align_ylabels()
    return figure


def make_row(
    panels: Sequence[tuple[str, Callable[[Any], Any]]],
    title: str,
    width: float,
    *,
    label: str = "",
    legend: bool = False,
    height: float | None = None,
) -> Figure:
    """Panels side by side.

    Args:
        panels: titles, and what draws into given axes.
        label: of the first one's vertical axis.
        legend: whether the curves are named, below.
        height: of the panels in inches; None for squares.
    """
    squares = min(3.0, (width - 0.6) / len(panels) - 0.5)
    figure = _empty(width, (height or squares) + (1.05 if legend else 0.85), title)
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (text, draw) in zip(every, panels, strict=True):
        axes.set_title(text, parse_math=False)
        draw(axes)
    if label:
        every[0].set_ylabel(label)
    if legend:
        found: dict[str, Any] = {}
        for axes in every:
            found |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        legend_of = figure.legend(
            [*found.values()], [*found], loc="outside lower center", ncols=min(5, len(found))
        )
        literally(legend_of)
    return figure


def _empty(width: float, height: float, title: str) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.03, hspace=0.0, wspace=0.015)
    figure = TraceFigure(figsize=(width, height), dpi=_DPI, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="bold", parse_math=False)
    return figure


def _colour_bar(figure: Figure, place: Any, image: Any) -> None:
    from matplotlib.ticker import FixedLocator

    axes = figure.add_subplot(place)
    bar = figure.colorbar(image, cax=axes)
    low, high = image.get_clim()
    bar.ax.yaxis.set_major_locator(FixedLocator([low, (low + high) / 2, high]))
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
    bar.outline.set_edgecolor(look.HATCH)
    bar.outline.set_linewidth(0.4)
    axes.tick_params(length=2, labelsize=7)
