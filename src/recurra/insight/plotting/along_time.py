"""Figures whose axis is time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight.plotting import style as look
from recurra.insight.plotting.figure import make_figure
from recurra.insight.plotting.panels import Panel, Scale, heat_map, lines, scale_of
from recurra.insight.plotting.view import (
    View,
    first_step,
    headline,
    order_of,
    texts_of,
    title_of,
    tokens_of,
    values_of,
)
from recurra.insight.tracing import LayerTrace, statistics

Array = NDArray[Any]

_MOST_LINES = 8  # features up to which an input is drawn as curves
_DEFAULT_UNITS = 3


def heatmap_figure(view: View, title: str | None, width: float) -> Any:
    panels: list[Panel] = _inputs(view)
    several = len(view.layers) > 1
    for layer in view.layers:
        order = order_of(view, layer)
        for name in view.names_of(layer):
            values, mask = values_of(view, layer, name)
            numbers = view.units_of(layer, values.shape[1])
            if order is not None and values.shape[1] == len(order):
                numbers = [unit for unit in order if unit in set(numbers)]
            real = values if mask is None else values[mask]
            scale = scale_of(layer, name, real)
            label = "feature" if name == "input" else "unit"
            prefix = f"{view.text(layer)}: " if several else ""
            panels.append(
                heat_map(
                    prefix + title_of(layer, name),
                    values[:, numbers],
                    scale,
                    numbers,
                    mask,
                    label=label,
                    tokens=tokens_of(view, layer),
                )
            )
    panels += _outputs(view)
    return make_figure(panels, title or headline(view), width, first_step(view))


def lines_figure(view: View, title: str | None, width: float) -> Any:
    panels = _inputs(view)
    several = len(view.layers) > 1
    for layer in view.layers:
        shown = view.units
        if shown is None:
            hidden, mask = values_of(view, layer, "hidden_state")
            moves = (hidden if mask is None else hidden[mask]).std(axis=0)
            shown = sorted(int(unit) for unit in np.argsort(-moves)[:_DEFAULT_UNITS])
        here = replace(view, units=shown)
        prefix = f"{view.text(layer)}: " if several else ""
        names = here.names_of(layer)
        panels += _unit_panels(here, layer, names, prefix)
    panels += _outputs(view)
    return make_figure(panels, title or headline(view), width, first_step(view))


def _unit_panels(view: View, layer: LayerTrace, names: list[str], prefix: str) -> list[Panel]:
    """Curves of some units: a panel per array; of a single unit one for all that share a scale."""
    assert view.units is not None
    groups: list[list[str]] = [[name] for name in names]
    if len(view.units) == 1:
        kinds = {
            name: (scale.palette, scale.low, scale.high)
            for name in names
            for scale in [scale_of(layer, name, values_of(view, layer, name)[0])]
        }
        groups = [
            [name for name in names if kinds[name] == kind]
            for kind in dict.fromkeys(kinds.values())
        ]
    panels = []
    for group in groups:
        curves = []
        for number, name in enumerate(group):
            values, mask = values_of(view, layer, name)
            for place, unit in enumerate(view.units_of(layer, values.shape[1])):
                alone = len(view.units) == 1
                options = (
                    {"color": look.colour_of(name, number)} if alone else look.line_style(place)
                )
                label = title_of(layer, name) if alone else f"unit {unit}"
                curves.append((label, values[:, unit], options))
        scale = scale_of(layer, group[0], values)
        limits = None if scale.note else (scale.low, scale.high)
        text = title_of(layer, group[0])
        if len(view.units) == 1:
            text = f"unit {view.units[0]}" + (f": {text}" if len(group) == 1 else "")
        tokens = tokens_of(view, layer)
        panels.append(lines(prefix + text, curves, len(values), mask, limits=limits, tokens=tokens))
    return panels


def norms_figure(view: View, title: str | None, width: float) -> Any:
    return _over_time(
        view,
        title,
        width,
        [
            ("hidden_state", "norm of the hidden state  ‖h‖"),
            ("cell_state", "norm of the cell state  ‖c‖"),
        ],
        log=False,
    )


def gradients_figure(view: View, title: str | None, width: float) -> Any:
    if not any("dhidden_state" in layer.arrays for layer in view.layers):
        raise ValueError(
            "The trace has no gradients: make it with a loss, recurra.trace(model, x, "
            'loss="mse", y=targets).'
        )
    return _over_time(
        view,
        title,
        width,
        [
            ("dhidden_state", "gradient by the hidden state  ‖∂L/∂h‖"),
            ("dcell_state", "gradient by the cell state  ‖∂L/∂c‖"),
        ],
        log=True,
    )


def _over_time(
    view: View, title: str | None, width: float, names: Sequence[tuple[str, str]], *, log: bool
) -> Any:
    """One curve per layer: norms over the units, of one row or as the mean over all."""
    panels = []
    for name, text in names:
        by_steps: dict[int, list[tuple[str, Array, dict[str, Any]]]] = {}
        for number, layer in enumerate(view.layers):
            if name not in layer.arrays:
                continue
            values = statistics.sequence(layer, name)
            keep = None if layer.mask is None else np.asarray(layer.mask, bool)
            by_row = statistics.norms(values, keep)
            curve = (
                statistics.mean_by_step(by_row) if view.row is None else by_row[view.row_of(layer)]
            )
            window = view.window(len(curve))
            options = look.line_style(number)
            by_steps.setdefault(len(curve), []).append((layer.path, curve[window], options))
        panels += [
            lines(text, curves, len(curves[0][1]), log=log, height=1.6, tokens=texts_of(view))
            for curves in by_steps.values()
        ]
    which = "mean over all rows" if view.row is None else f"row {view.row}"
    return make_figure(panels, title or headline(view, which), width, first_step(view))


# --- What stands around ---


def _inputs(view: View) -> list[Panel]:
    """The model's input where it runs along the first layer's axis, else that layer's own."""
    if view.arrays is not None:
        return []  # what is drawn was asked for by name
    layer = view.layers[0]
    return _series(view, layer, view.trace.inputs, "input") or _own_input(view, layer)


def _outputs(view: View) -> list[Panel]:
    """The model's outputs that run along a layer's axis."""
    if view.arrays is not None:
        return []
    return _series(view, view.layers[-1], view.trace.outputs, "prediction")


def _series(view: View, layer: LayerTrace, given: Any, role: str) -> list[Panel]:
    rows, steps = layer.arrays["hidden_state"].shape[:2]
    panels = []
    for name, array in given.items():
        if len(array) != rows or rows != view.trace.batch or array.ndim not in (2, 3):
            continue
        if array.shape[1] != steps or (array.ndim == 2 and steps == 1):
            continue
        window = view.window(steps)
        values = np.asarray(array[view.row_of(layer)][window], np.float64)
        values = values.reshape(len(values), -1)
        if role == "input" and np.issubdtype(array.dtype, np.integer) and view.tokens is not None:
            continue  # indices of the tokens that stand along the axis
        named = len(given) > 1 or name not in (role, "input", "output", "inputs", "outputs")
        _, mask = values_of(view, layer, "hidden_state")
        panels.append(_curves_or_map(f"{role}: {name}" if named else role, values, mask, view))
    return panels


def _own_input(view: View, layer: LayerTrace) -> list[Panel]:
    if len(view.layers) > 1 or "input" not in layer.arrays:
        return []
    values, mask = values_of(view, layer, "input")
    return [_curves_or_map("input of the layer", values, mask, view)]


def _curves_or_map(title: str, values: Array, mask: Array | None, view: View) -> Panel:
    features = values.shape[1]
    tokens = texts_of(view)
    if features <= _MOST_LINES:
        word = "feature " if features <= 4 else ""
        named = [(f"{word}{i}" if features > 1 else title, i) for i in range(features)]
        curves = [(name, values[:, i], look.line_style(i)) for name, i in named]
        return lines(title, curves, len(values), mask, tokens=tokens, height=0.95)
    real = values if mask is None else values[mask]
    low = float(np.min(real, initial=np.inf, where=np.isfinite(real)))
    if low >= 0:
        high = float(np.max(real, initial=0.0, where=np.isfinite(real))) or 1.0
        scale = Scale("sequential", 0.0, high, f"colours from 0 to {high:.3g}")
    else:
        high = float(np.max(np.abs(real), initial=0.0, where=np.isfinite(real))) or 1.0
        scale = Scale("diverging", -high, high, f"colours from −{high:.3g} to {high:.3g}")
    return heat_map(title, values, scale, range(features), mask, label="feature", tokens=tokens)
