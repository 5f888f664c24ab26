"""The model's own input and output, along the axis of the states between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight.plotting import style as look
from recurra.insight.plotting.panels import Panel, Scale, heat_map, lines
from recurra.insight.plotting.view import View, tokens_of, values_of
from recurra.insight.tracing import LayerTrace

Array = NDArray[Any]

_MOST_LINES = 8  # features up to which an array is drawn as curves


def inputs(view: View) -> list[Panel]:
    """The model's input where it runs along the first layer's axis, else that layer's own."""
    if view.arrays is not None:
        return []  # what is drawn was asked for by name
    layer = view.layers[0]
    panels = _series(view, layer, view.trace.inputs, "input")
    if not panels and len(view.layers) == 1 and "input" in layer.arrays:
        values, mask = values_of(view, layer, "input")
        panels = [_curves_or_map("input of the layer", values, mask, tokens_of(view, layer))]
    return panels


def outputs(view: View) -> list[Panel]:
    """The model's outputs that run along the last layer's axis, or go on where it ends."""
    if view.arrays is not None:
        return []
    panels = _series(view, view.layers[-1], view.trace.outputs, "prediction")
    if view.forecast is True:
        panels += [_ahead(view, name) for name in _forecasts(view)]
    return panels


def steps_ahead(view: View) -> int:
    """How many steps the forecasts reach beyond the end."""
    if view.arrays is not None:
        return 0
    return max((view.trace.outputs[name].shape[1] for name in _forecasts(view)), default=0)


def _series(view: View, layer: LayerTrace, given: Mapping[str, Array], role: str) -> list[Panel]:
    rows, steps = layer.arrays["hidden_state"].shape[:2]
    panels: list[Panel] = []
    for name, array in given.items():
        if len(array) != rows or rows != view.trace.batch or array.ndim not in (2, 3):
            continue
        # Without an axis of features an output may be anything of that length, such as classes.
        if array.shape[1] != steps or (array.ndim == 2 and role != "input"):
            continue
        if role == "input" and np.issubdtype(array.dtype, np.integer) and view.tokens is not None:
            continue  # indices of the tokens that stand along the axis
        window = view.window(steps)
        values = np.asarray(array[view.row_of(layer)][window], np.float64)
        values = values.reshape(len(values), -1)
        _, mask = values_of(view, layer, "hidden_state")
        further = _continued(view, values) if role == "input" and not panels else []
        title = _named(role, name, given)
        if role == "input" and np.issubdtype(array.dtype, np.integer) and array.ndim == 2:
            # Indices, between which there is nothing.
            points = {"linestyle": "none", "marker": "s", "color": look.LINES[0]}
            curves = [(title, values[:, 0], points)]
            panels.append(lines(f"{title} (indices)", curves, len(values), mask))
            continue
        panels.append(_curves_or_map(title, values, mask, tokens_of(view, layer), further))
    return panels


def _named(role: str, name: str, among: Mapping[str, Array]) -> str:
    named = len(among) > 1 or name not in (role, "input", "output", "inputs", "outputs")
    return f"{role}: {name}" if named else role


def _curves_or_map(
    title: str,
    values: Array,
    mask: Array | None,
    tokens: list[str] | None,
    further: Any = (),
) -> Panel:
    features = values.shape[1]
    if features <= _MOST_LINES:
        word = "feature " if features <= 4 else ""
        named = [(f"{word}{i}" if features > 1 else title, i) for i in range(features)]
        curves = [(name, values[:, i], look.line_style(i)) for name, i in named]
        return lines(title, [*curves, *further], len(values), mask, tokens=tokens)
    real = values if mask is None else values[mask]
    known = np.isfinite(real)
    low = float(np.min(real, initial=np.inf, where=known))
    high = float(np.max(real, initial=-np.inf, where=known))
    if low >= 0 and high <= 1:
        scale = Scale("sequential", 0.0, 1.0)
    elif low >= 0:
        scale = Scale("sequential", 0.0, high, f"colours from 0 to {high:.3g}")
    else:
        largest = max(abs(low), abs(high)) if known.any() else 1.0
        scale = Scale(
            "diverging", -largest, largest, f"colours from −{largest:.3g} to {largest:.3g}"
        )
    return heat_map(title, values, scale, range(features), mask, label="feature", tokens=tokens)


# --- Forecasts: outputs that go on where the axis ends ---


def _forecasts(view: View) -> list[str]:
    """Outputs of shape (batch, steps ahead) or (batch, steps ahead, features).

    Raises:
        ValueError: if there are none, and some were asked for.
    """
    if view.forecast is False:
        return []
    steps = view.layers[-1].arrays["hidden_state"].shape[1]
    if view.window(steps).stop < steps:
        return []  # the end, where they begin, is not shown
    found = [
        name
        for name, array in view.trace.outputs.items()
        if array.ndim in (2, 3) and len(array) == view.trace.batch
    ]
    if not found:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in view.trace.outputs.items())
        raise ValueError(
            f"forecast={view.forecast!r}, and no output goes on where the input ends: expected "
            f"(batch, steps ahead) or (batch, steps ahead, features); the outputs are {shapes}."
        )
    return found


def _continued(view: View, values: Array) -> list[Any]:
    """The forecast as a curve that goes on with one of the input's.

    Raises:
        ValueError: if the input has no such feature.
    """
    if isinstance(view.forecast, bool):
        return []
    steps, features = values.shape
    if not 0 <= view.forecast < features:
        raise ValueError(
            f"forecast={view.forecast} names a feature that the input does not have: it has "
            f"{features}, numbered from 0 to {features - 1}. Pass forecast=True for a forecast of "
            "something else."
        )
    curves = []
    for name in _forecasts(view):
        ahead = view.trace.outputs[name][view.row or 0].reshape(-1)
        whole = np.full(steps + len(ahead), np.nan)
        whole[steps - 1], whole[steps:] = values[-1, view.forecast], ahead
        own = look.line_style(view.forecast)["color"]
        options = {"color": own, "linestyle": look.DASHES[1], "linewidth": 1.4}
        curves.append((_named("prediction", name, view.trace.outputs), whole, options))
    return curves


def _ahead(view: View, name: str) -> Panel:
    """A forecast of something that is not among the inputs: a panel of its own."""
    layer = view.layers[-1]
    window = view.window(layer.arrays["hidden_state"].shape[1])
    steps = window.stop - window.start
    values = np.asarray(view.trace.outputs[name][view.row or 0], np.float64)
    values = values.reshape(len(values), -1)[:, :_MOST_LINES]
    curves = [
        (
            f"feature {i}",
            np.concatenate([np.full(steps, np.nan), values[:, i]]),
            look.line_style(i),
        )
        for i in range(values.shape[1])
    ]
    _, mask = values_of(view, layer, "hidden_state")
    title = _named("prediction", name, view.trace.outputs)
    return lines(title, curves, steps, mask, tokens=tokens_of(view, layer))
