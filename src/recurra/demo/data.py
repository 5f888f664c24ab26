"""A year of hourly weather, and the windows that a forecaster learns from.

The measurements are those of Greensboro, North Carolina (Piedmont Triad airport), in NREL's TMY3
collection (S. Wilcox and W. Marion, Users Manual for TMY3 Data Sets, NREL/TP-581-43156, 2008),
which the pvlib wheel ships. TMY3 puts a "typical" year together from twelve real months of
different years, so nothing here ever reaches across the end of a month.
"""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STATION = "Greensboro, North Carolina"
HISTORY = 72
"""Hours that the forecaster sees."""
HORIZON = 24
"""Hours that it forecasts."""
TRAINING_DAYS = 21
"""Days at the start of each month to learn from; the rest of the month is held out."""

_FILE = "723170TYA.CSV"
_HOURS = 8760


@dataclass(frozen=True)
class Weather:
    """Hourly measurements in physical units.

    time: (hours,) datetime64[h], local standard time.
    month: (hours,) 1 to 12; each month is in one piece.
    values: (hours, features) float32, the temperature (°C) first.
    names: a name for each feature.
    """

    time: NDArray[np.datetime64]
    month: NDArray[np.int64]
    values: NDArray[np.float32]
    names: tuple[str, ...]

    @property
    def temperature(self) -> NDArray[np.float32]:
        """(hours,) °C."""
        return self.values[:, 0]


@dataclass(frozen=True)
class Windows:
    """Pairs of what was seen and what came next.

    first: (batch,) index of the first hour to forecast, in the year.
    history: (batch, HISTORY, features), the hours before it.
    future: (batch, HORIZON), the temperatures from it on, °C.
    """

    first: NDArray[np.int64]
    history: NDArray[np.float32]
    future: NDArray[np.float32]


def load() -> Weather:
    """Read the year from the installed pvlib package (which is not imported: only its file counts).

    Raises:
        ModuleNotFoundError: if pvlib is not installed.
        ValueError: if its file is not the expected year of hours.
    """
    spec = importlib.util.find_spec("pvlib")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'pvlib'", name="pvlib")
    path = Path(spec.submodule_search_locations[0]) / "data" / _FILE
    with path.open(newline="") as file:
        next(file)  # The station's own line; the columns' names are in the second.
        rows = list(csv.DictReader(file))
    if len(rows) != _HOURS:
        raise ValueError(f"{path} has {len(rows)} rows; expected {_HOURS}, a year of hours.")

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) for row in rows])

    dates = [row["Date (MM/DD/YYYY)"] for row in rows]
    hours = np.array([int(row["Time (HH:MM)"][:2]) for row in rows])  # 1 to 24
    days = [np.datetime64(f"{date[6:]}-{date[:2]}-{date[3:5]}", "h") for date in dates]
    direction, speed = np.deg2rad(column("Wdir (degrees)")), column("Wspd (m/s)")
    time_of_day = 2 * np.pi * hours / 24
    time_of_year = 2 * np.pi * np.arange(_HOURS) / _HOURS
    columns = {
        "temperature": column("Dry-bulb (C)"),
        "dew point": column("Dew-point (C)"),
        "pressure": column("Pressure (mbar)"),
        "wind from the east": speed * np.sin(direction),
        "wind from the north": speed * np.cos(direction),
        "cloud cover": column("TotCld (tenths)"),
        "time of day (sine)": np.sin(time_of_day),
        "time of day (cosine)": np.cos(time_of_day),
        "time of year (sine)": np.sin(time_of_year),
        "time of year (cosine)": np.cos(time_of_year),
    }
    return Weather(
        time=np.array(days) + hours.astype("timedelta64[h]"),
        month=np.array([int(date[:2]) for date in dates]),
        values=np.stack(list(columns.values()), axis=1).astype("float32"),
        names=tuple(columns),
    )


def windows(weather: Weather, *, held_out: bool, every: int = 1) -> Windows:
    """Cut the year into windows, none of them across the end of a month.

    Args:
        weather: the year.
        held_out: windows whose future lies after each month's `TRAINING_DAYS`, else those whose
            future lies within them. No hour is in the futures of both.
        every: keep one window out of so many.

    Example:
        >>> windows(load(), held_out=True).history.shape[1:]
        (72, 10)
    """
    first: list[int] = []
    for month in range(1, 13):
        (hours,) = np.nonzero(weather.month == month)
        start, end = int(hours[0]), int(hours[-1]) + 1
        border = start + 24 * TRAINING_DAYS
        if held_out:
            first.extend(range(border, end - HORIZON + 1))
        else:
            first.extend(range(start + HISTORY, border - HORIZON + 1))
    chosen = np.array(first[::every])
    past, ahead = np.arange(-HISTORY, 0), np.arange(HORIZON)
    return Windows(
        first=chosen,
        history=weather.values[chosen[:, None] + past],
        future=weather.temperature[chosen[:, None] + ahead],
    )


def as_now(data: Windows) -> NDArray[np.float32]:
    """The naive forecast "it stays as it is": (batch, HORIZON), °C."""
    return np.repeat(data.history[:, -1:, 0], HORIZON, axis=1)


def as_yesterday(data: Windows) -> NDArray[np.float32]:
    """The naive forecast "the next day will be like the last one": (batch, HORIZON), °C."""
    return data.history[:, -24:, 0]
