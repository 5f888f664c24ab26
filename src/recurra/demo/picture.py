"""The demo's picture: forecasts beside what came, and how the error grows with the hours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.demo import data
from recurra.demo.data import HORIZON, Weather, Windows

_TRUTH, _MODEL, _NAIVE, _SHADE = "#24292f", "#d1495b", "#8d99a6", "#e9eef4"


def draw(path: Path, weather: Weather, held_out: Windows, forecast: NDArray[np.float32]) -> str:
    """Write the picture to `path` as PNG and say in a sentence what it shows.

    Above: the month whose forecast error is the median of all months, from a few days before its
    held-out part on; every midnight a forecast of the next 24 hours. Below: the mean error by hours
    ahead, over all held-out windows of all months.
    """
    # Figure and canvas directly: pyplot would look for a screen and keep global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=[1.7, 1])
    month = _median_month(weather, held_out, forecast)
    when = _days(above, weather, held_out, forecast, month)
    _errors(below, held_out, forecast)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#d8dee4", linewidth=0.6)
    figure.savefig(path, format="png")
    return (
        f"Above, the held-out days of {when}, the month with the median error; below, the error "
        "by hours ahead, over the held-out days of all months."
    )


def _median_month(weather: Weather, held_out: Windows, forecast: NDArray[np.float32]) -> int:
    error = np.abs(forecast - held_out.future).mean(axis=1)
    months = weather.month[held_out.first]
    by_error = sorted(range(1, 13), key=lambda month: float(error[months == month].mean()))
    return by_error[len(by_error) // 2]


def _days(
    axes: Any, weather: Weather, held_out: Windows, forecast: NDArray[np.float32], month: int
) -> str:
    from matplotlib import dates

    time = weather.time.astype("datetime64[s]")
    # An hour's stamp is its end: forecasts from midnight on start with the hour that ends at 1:00.
    midnight = (weather.time[held_out.first] - weather.time[held_out.first].astype("M8[D]")).astype(
        int
    ) == 1
    (rows,) = np.nonzero((weather.month[held_out.first] == month) & midnight)
    border = int(held_out.first[rows[0]])
    shown = slice(border - 3 * 24, int(held_out.first[rows[-1]]) + HORIZON)

    axes.axvspan(time[border - 1], time[shown.stop - 1], color=_SHADE, zorder=0, linewidth=0)
    for i, row in enumerate(rows):
        hours = slice(int(held_out.first[row]), int(held_out.first[row]) + HORIZON)
        axes.plot(
            time[hours],
            data.as_yesterday(held_out)[row],
            color=_NAIVE,
            linewidth=1.2,
            linestyle=(0, (3, 2)),
            label="naive: as yesterday" if i == 0 else None,
        )
    axes.plot(time[shown], weather.temperature[shown], color=_TRUTH, label="measured")
    for i, row in enumerate(rows):
        first = int(held_out.first[row])
        hours = slice(first - 1, first + HORIZON)
        axes.plot(
            time[hours],
            [weather.temperature[first - 1], *forecast[row]],
            color=_MODEL,
            linewidth=2,
            label="forecast, made at midnight" if i == 0 else None,
        )
        axes.plot(
            time[first - 1], weather.temperature[first - 1], "o", color=_MODEL, markersize=4.5
        )
    low, high = axes.get_ylim()
    top = high + 0.1 * (high - low)  # Room for the words above the curves.
    axes.set_ylim(low, top)
    axes.annotate(
        "held out: never trained on",
        (time[border - 1], top),
        xytext=(6, -4),
        textcoords="offset points",
        va="top",
        color="#57606a",
    )
    when = str(np.datetime_as_string(weather.time[border], unit="M"))
    name = np.datetime64(when, "M").astype(object).strftime("%B %Y")
    axes.set_xlim(time[shown.start], time[shown.stop - 1])
    axes.xaxis.set_major_locator(dates.DayLocator(interval=2))
    axes.xaxis.set_minor_locator(dates.DayLocator())
    axes.xaxis.set_major_formatter(dates.DateFormatter("%d %b"))
    axes.set_ylabel("air temperature (°C)")
    axes.set_xlabel(f"local standard time, {name}")
    axes.set_title(
        f"The next {HORIZON} hours of temperature, {data.STATION}", loc="left", weight="bold"
    )
    axes.legend(loc="upper center", ncols=3, frameon=False, bbox_to_anchor=(0.5, -0.16))
    return name


def _errors(axes: Any, held_out: Windows, forecast: NDArray[np.float32]) -> None:
    ahead = np.arange(1, HORIZON + 1)
    lines = (
        ("naive: as now", data.as_now(held_out), _NAIVE, (0, (1, 1.5))),
        ("naive: as yesterday", data.as_yesterday(held_out), _NAIVE, (0, (3, 2))),
        ("forecast", forecast, _MODEL, "-"),
    )
    for label, values, color, style in lines:
        error = np.abs(values - held_out.future).mean(axis=0)
        axes.plot(ahead, error, color=color, linestyle=style, linewidth=2, label=label)
    axes.set_xlim(1, HORIZON)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # Room for the legend.
    axes.set_xticks([1, *range(3, HORIZON + 1, 3)])
    axes.set_xlabel("hours ahead")
    axes.set_ylabel("mean absolute error (°C)")
    axes.legend(frameon=False, loc="upper left", ncols=3)
