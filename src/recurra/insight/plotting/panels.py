"""The panels that figures of traces are made of: heat maps, lines over time, padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recurra.insight.plotting import style as look
from recurra.insight.tracing import LayerTrace
from recurra.insight.tracing.statistics import BOUNDED, GATES

Array = NDArray[Any]

_FEW = 14  # units or steps that each get a label of their own
_MOST_COLUMNS = 2400
_MAX_TOKENS = 80  # steps up to which tokens are written along the axis


@dataclass(frozen=True)
class Scale:
    """How numbers become colours.

    palette: "diverging" or "sequential".
    low, high: the ends; what lies beyond has the ends' colours.
    note: for the title, where the ends are the array's own; "" where they are fixed.
    """

    palette: Literal["diverging", "sequential"]
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One row of a figure.

    draw: draws into given axes and returns what a colour bar is of, or None.
    steps: how many time steps its axis has; None for no time axis.
    mask: (time_steps,), True = real; None for all.
    height: in inches.
    """

    title: str
    draw: Callable[[Any], Any]
    height: float
    steps: int | None = None
    mask: Array | None = None
    tokens: Sequence[str] | None = None


def scale_of(layer: LayerTrace, name: str, values: Array) -> Scale:
    """Fixed at [0, 1] for gates and [-1, 1] for what tanh bounds; else symmetric about 0, its own.

    Args:
        values: what is drawn of it, (time_steps, units).
    """
    activations = layer.info.get("activations") or {}
    activation = activations.get(name)
    if name == "hidden_state" and layer.cell is not None:
        # A hidden state is bounded by what bounds the candidate: a mix of candidates, or a gated
        # activation.
        activation = activations.get("candidate")
    if activation in GATES and name != "hidden_state":
        return Scale("sequential", 0.0, 1.0)
    if activation in BOUNDED | GATES:
        return Scale("diverging", -1.0, 1.0)
    largest = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values))) or 1.0
    return Scale("diverging", -largest, largest, f"colours from −{largest:.3g} to {largest:.3g}")


def heat_map(
    title: str,
    values: Array,
    scale: Scale,
    numbers: Sequence[int],
    mask: Array | None = None,
    *,
    label: str = "unit",
    tokens: Sequence[str] | None = None,
) -> Panel:
    """Units x time.

    Args:
        values: (time_steps, units), as drawn from the bottom... to the top: the first unit on top.
        numbers: of the units, for the axis.
        mask: (time_steps,), True = real; None for all.
        tokens: one text per step, along the axis.
    """
    steps, units = values.shape
    pooled, each = _pooled(np.asarray(values, np.float32))
    shown = np.ma.masked_invalid(pooled.T)

    def draw(axes: Any) -> Any:
        image = axes.imshow(
            shown,
            aspect="auto",
            cmap=look.colormap(scale.palette),
            vmin=scale.low,
            vmax=scale.high,
            # Where several steps or units share a pixel, their mean.
            interpolation="nearest" if steps <= 1000 and units <= 400 else "antialiased",
            interpolation_stage="data",
            extent=(-0.5, each * len(pooled) - 0.5, units - 0.5, -0.5),
        )
        axes.spines[:].set_visible(False)
        _label_units(axes, numbers, label)
        return image

    height = float(np.clip(0.4 + 0.03 * units, 0.55, 1.5))
    note = f"   {scale.note}" if scale.note else ""
    return Panel(title + note, draw, height, steps, mask, tokens)


def _pooled(values: Array) -> tuple[Array, int]:
    """Means of neighbouring steps, and of how many: few columns, but more than there are pixels."""
    each = max(1, -(-len(values) // _MOST_COLUMNS))
    if each == 1:
        return values, 1
    starts = np.arange(0, len(values), each)
    counts = np.diff(np.append(starts, len(values)))
    sums = np.add.reduceat(values, starts, axis=0)
    return sums / counts[:, np.newaxis].astype(values.dtype), each


def lines(
    title: str,
    curves: Sequence[tuple[str, Array, Mapping[str, Any]]],
    steps: int,
    mask: Array | None = None,
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    label: str = "",
    tokens: Sequence[str] | None = None,
    height: float = 0.95,
) -> Panel:
    """Curves over time, with a legend where there is more than one.

    Args:
        curves: names, values (time_steps,) or more where they go on, and how they look.
        limits: of the values' axis; None to fit the curves.
        log: whether that axis is logarithmic.
    """

    def draw(axes: Any) -> None:
        for name, values, options in curves:
            there = np.array(values, np.float64)
            if mask is not None:
                there[:steps][~mask] = np.nan
            if log:
                there[~(there > 0)] = np.nan
            alone = np.count_nonzero(np.isfinite(there)) < 2
            marker = "o" if alone or steps <= 2 else None
            places = np.arange(len(there))
            axes.plot(
                places, there, **{"marker": marker, "markersize": 3, "label": name, **options}
            )
        if log:
            axes.set_yscale("log")
        if limits is not None:
            margin = 0.04 * (limits[1] - limits[0])
            axes.set_ylim(limits[0] - margin, limits[1] + margin)
            axes.set_yticks([limits[0], (limits[0] + limits[1]) / 2, limits[1]])
        axes.grid(axis="y", color=look.FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_ylabel(label)
        if len(curves) > 1:
            _name_curves(axes, title, [name for name, _, _ in curves])

    return Panel(title, draw, height, steps, mask, tokens)


def _name_curves(axes: Any, title: str, names: Sequence[str]) -> None:
    """A legend on the title's line, so that all panels stay equally wide, or else on the right."""
    letters = len(title) + sum(len(name) + 7 for name in names)
    if letters <= 15 * axes.figure.get_size_inches()[0]:
        legend = axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(names),
            handlelength=1.6,
            handletextpad=0.5,
            columnspacing=1.2,
            borderaxespad=0,
            borderpad=0.3,
        )
    else:
        legend = axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.005, 1.0),
            ncols=1 + (len(names) - 1) // 10,
            handlelength=1.6,
            labelspacing=0.25,
            borderaxespad=0,
        )
    literally(legend)


def literally(legend: Any) -> None:
    """Let names of layers be no formulas, whatever signs they hold."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def hatch_padding(axes: Any, mask: Array | None) -> None:
    """Hatch the steps that are no real ones."""
    if mask is None:
        return
    from matplotlib.patches import Rectangle

    for start, stop in look.spans(~np.asarray(mask, bool)):
        axes.add_patch(
            Rectangle(
                (start - 0.5, 0),
                stop - start,
                1,
                transform=axes.get_xaxis_transform(),
                facecolor=look.PADDING,
                edgecolor=look.HATCH,
                hatch="////",
                linewidth=0,
                zorder=3,
                gid="padded",
            )
        )


def label_steps(
    axes: Any, tokens: Sequence[str] | None, steps: int, *, last: bool, first: int = 0
) -> None:
    """Numbers of steps, or tokens, below the lowest of the panels that share an axis.

    Args:
        tokens: one text per step; None for numbers.
        last: whether this is the lowest panel.
        first: the first step's number.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if tokens is not None and steps <= _MAX_TOKENS:
        shown = [_readable(token) for token in tokens[:steps]]
        axes.set_xticks(range(len(shown)))
        width = axes.figure.get_size_inches()[0] * 62  # points, of what is left for the axis
        longest = max((len(text.replace("\\$", "$")) for text in shown), default=0)
        upright = (4.8 * longest + 2) * steps <= width
        axes.set_xticklabels(
            shown if last else [],
            rotation=0 if upright else 90,
            fontsize=7.5 if steps <= 50 else 6,
        )
        return
    if steps <= _FEW:
        axes.set_xticks(range(steps))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value + first:,.0f}"))
    axes.tick_params(labelbottom=last)
    if last:
        axes.set_xlabel("time step")


def _readable(token: str) -> str:
    shown = {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(token, token)
    # A lone dollar sign would start a formula.
    return shown.replace("$", r"\$").replace("\n", "⏎")


def _label_units(axes: Any, numbers: Sequence[int], label: str) -> None:
    from matplotlib.ticker import FixedLocator

    axes.set_ylabel(label)
    count = len(numbers)
    every = 1
    if count > _FEW // 2:
        every = next(
            e
            for e in (
                1,
                2,
                4,
                5,
                8,
                10,
                16,
                20,
                32,
                50,
                64,
                100,
                128,
                200,
                256,
                500,
                512,
                1000,
                1024,
                10**9,
            )
            if count / e <= 5
        )
    places = list(range(0, count, every))
    axes.yaxis.set_major_locator(FixedLocator(places))
    axes.set_yticklabels([str(numbers[place]) for place in places])
