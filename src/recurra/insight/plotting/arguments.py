"""The arguments of `plot`, checked before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np


def row_number(row: Any) -> int | None:
    """A row's number.

    Raises:
        ValueError: if it is none.
    """
    if row is None or _whole(row):
        return row if row is None else int(row)
    raise ValueError(f"row={row!r}; expected the number of a row, such as 0, or None.")


def array_names(arrays: Any) -> tuple[str, ...] | None:
    """Names of arrays; None for the usual ones.

    Raises:
        ValueError: if there are none.
    """
    if arrays is None:
        return None
    names = (arrays,) if isinstance(arrays, str) else _listed(arrays)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"arrays={arrays!r}; expected a name, such as 'hidden_state', or a list of at least "
            "one; leave it out to see the usual ones."
        )
    return names


def layer_names(layer: Any) -> tuple[str, ...] | None:
    """Names of layers; None for all.

    Raises:
        ValueError: if there are none.
    """
    if layer is None:
        return None
    names = (layer,) if isinstance(layer, str) else _listed(layer)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"layer={layer!r}; expected a layer's name, or a list of at least one; leave it out to "
            "see all."
        )
    return names


def unit_numbers(units: Any) -> tuple[int, ...] | None:
    """Numbers of units; None for all.

    Raises:
        ValueError: if there are none, or they are no whole numbers.
    """
    if units is None:
        return None
    numbers = (units,) if _whole(units) else () if isinstance(units, str) else _listed(units)
    if not numbers or not all(map(_whole, numbers)):
        raise ValueError(
            f"units={units!r}; expected a unit's number, or a list of at least one; leave it out "
            "to see all."
        )
    return tuple(map(int, numbers))


def part_of_steps(steps: Any) -> slice | None:
    """Part of the time axis; None for all of it.

    Raises:
        ValueError: if it is no such part.
    """
    if steps is None:
        return None
    if not isinstance(steps, slice):
        ends = _listed(steps)
        steps = slice(*ends) if len(ends) == 2 else steps
    wrong = not isinstance(steps, slice) or any(
        end is not None and not _whole(end) for end in (steps.start, steps.stop)
    )
    if wrong:
        raise ValueError(f"steps={steps!r}; expected (start, stop), as (10, 50), or a slice.")
    if steps.step not in (None, 1):
        raise ValueError(
            f"steps={steps!r} leaves steps out between others, which would not be seen in the "
            "figure; expected steps that follow each other, as (10, 50)."
        )
    return steps


def forecast_of(forecast: Any) -> bool | int:
    """Whether there is a forecast, or the number of the feature that goes on.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(forecast, bool | np.bool_):
        return bool(forecast)
    if _whole(forecast):
        return int(forecast)
    raise ValueError(
        f"forecast={forecast!r}; expected True, or the number of the input's feature that goes on, "
        "from 0."
    )


def inches(width: Any) -> float:
    """A figure's width.

    Raises:
        ValueError: if a figure cannot be so wide.
    """
    number = isinstance(width, int | float | np.number) and not isinstance(width, bool)
    if number and 2 <= width <= 100 and math.isfinite(width):
        return float(width)
    raise ValueError(f"width={width!r}; expected a number of inches from 2 to 100.")


def unit_order(order: Any) -> Any:
    """The units' order.

    Raises:
        ValueError: if it is no known one.
    """
    if order in ("unit", "peak"):
        return order
    raise ValueError(f"order={order!r}; expected 'unit' or 'peak'.")


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _listed(value: Any) -> tuple[Any, ...]:
    """What is in it, if anything can be."""
    return tuple(value) if isinstance(value, Iterable) else ()
