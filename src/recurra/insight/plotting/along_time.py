"""Figures whose axis is time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight.plotting import style as look
from recurra.insight.plotting.figure import make_figure
from recurra.insight.plotting.panels import Panel, heat_map, lines, scale_of
from recurra.insight.plotting.series import inputs, outputs, steps_ahead
from recurra.insight.plotting.view import (
    View,
    first_step,
    headline,
    order_of,
    title_of,
    tokens_of,
    values_of,
)
from recurra.insight.tracing import LayerTrace, statistics

Array = NDArray[Any]

_DEFAULT_UNITS = 3


def heatmap_figure(view: View, title: str | None, width: float) -> Any:
    panels: list[Panel] = inputs(view)
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
    panels += outputs(view)
    ahead = steps_ahead(view)
    return make_figure(panels, title or headline(view), width, first_step(view), ahead=ahead)


def lines_figure(view: View, title: str | None, width: float) -> Any:
    panels = inputs(view)
    several = len(view.layers) > 1
    for layer in view.layers:
        shown = view.units
        if shown is None:
            hidden, mask = values_of(view, layer, "hidden_state")
            real = hidden if mask is None else hidden[mask]
            moves = real.std(axis=0) if len(real) else np.zeros(hidden.shape[1])
            shown = sorted(int(unit) for unit in np.argsort(-moves)[:_DEFAULT_UNITS])
        here = replace(view, units=shown)
        prefix = f"{view.text(layer)}: " if several else ""
        names = here.names_of(layer)
        panels += _unit_panels(here, layer, names, prefix)
    panels += outputs(view)
    ahead = steps_ahead(view)
    return make_figure(panels, title or headline(view), width, first_step(view), ahead=ahead)


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
        tokens: dict[int, list[str] | None] = {}
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
            tokens.setdefault(len(curve), tokens_of(view, layer, all_rows=view.row is None))
        panels += [
            lines(text, curves, len(curves[0][1]), log=log, height=1.6, tokens=tokens[steps])
            for steps, curves in by_steps.items()
        ]
    which = "mean over all rows" if view.row is None else f"row {view.row}"
    return make_figure(panels, title or headline(view, which), width, first_step(view))
