"""What `Trace.plot` draws, by kind."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight import plotting_style as look
from recurra.insight.plotting_figure import make_figure
from recurra.insight.plotting_panels import Panel, heat_map, lines, scale_of
from recurra.insight.tracing import LayerTrace, Trace, statistics

Array = NDArray[Any]

_MOST_LINES = 8  # features up to which an input is drawn as curves
_DEFAULT_UNITS = 3


@dataclass(frozen=True)
class View:
    """What is to be drawn; the arguments of `plot`."""

    trace: Trace
    layers: Sequence[LayerTrace]
    row: int | None
    arrays: Sequence[str] | None
    units: Sequence[int] | None
    steps: Any
    order: str
    tokens: Sequence[str] | None

    def window(self, steps: int) -> slice:
        """The steps that are shown, of so many.

        Raises:
            ValueError: if there are none.
        """
        if self.steps is None:
            return slice(0, steps)
        given = self.steps if isinstance(self.steps, slice) else slice(*self.steps)
        start, stop, stride = given.indices(steps)
        if stride != 1 or stop <= start:
            raise ValueError(
                f"steps={self.steps!r} leaves nothing of {steps} time steps; pass (start, stop) "
                f"with 0 <= start < stop <= {steps}."
            )
        return slice(start, stop)

    def row_of(self, layer: LayerTrace) -> int:
        """The row that is shown.

        Raises:
            ValueError: if there is none of that number.
        """
        rows = len(layer.arrays["hidden_state"])
        row = 0 if self.row is None else int(self.row)
        if not -rows <= row < rows:
            raise ValueError(
                f"row={row}, and {layer.path!r} has {rows} {'row' if rows == 1 else 'rows'}: "
                f"pass a number from 0 to {rows - 1}."
            )
        return row % rows

    def units_of(self, layer: LayerTrace, width: int) -> list[int]:
        """The units that are shown.

        Raises:
            ValueError: for numbers that the layer does not have.
        """
        if self.units is None:
            return list(range(width))
        wrong = [unit for unit in self.units if not 0 <= unit < width]
        if wrong:
            raise ValueError(
                f"units={list(self.units)} names {wrong[0]}, and {layer.path!r} has {width} units, "
                f"numbered from 0 to {width - 1}."
            )
        return [int(unit) for unit in self.units]

    def names_of(self, layer: LayerTrace) -> list[str]:
        """The arrays that are shown, in the order of `_sequences`.

        Raises:
            ValueError: for names that the layer does not have.
        """
        there = _sequences(layer)
        if self.arrays is None:
            if len(self.layers) > 1:
                return ["hidden_state"]
            return [name for name in there if name != "input" and not name.startswith("d")]
        for name in self.arrays:
            if name not in there:
                hint = ""
                if name in ("dhidden_state", "dcell_state"):
                    hint = " Gradients need a loss: recurra.trace(model, x, loss=..., y=...)."
                if len(self.layers) > 1 and any(name in _sequences(each) for each in self.layers):
                    continue
                raise ValueError(
                    f"{layer.path!r} has no sequence {name!r}; it has {', '.join(there)}.{hint}"
                )
        return [name for name in self.arrays if name in there]

    def text(self, layer: LayerTrace) -> str:
        """What a layer is, in a few words."""
        kind = layer.info.get("class_name") or layer.cell or "RNN"
        units = int(np.prod(layer.arrays["hidden_state"].shape[2:]))
        backwards = ", read from right to left" if layer.go_backwards else ""
        return f"{layer.path}: {kind}, {units} units{backwards}"


def _sequences(layer: LayerTrace) -> list[str]:
    """Names of the arrays with a time axis, states first."""
    steps = layer.arrays["hidden_state"].shape[:2]
    there = [n for n, a in layer.arrays.items() if a.ndim >= 3 and a.shape[:2] == steps]
    first = [name for name in ("hidden_state", "cell_state") if name in there]
    return first + [name for name in there if name not in first]


def _values(view: View, layer: LayerTrace, name: str) -> tuple[Array, Array | None]:
    """(time_steps, units) of the row and steps that are shown, and what of it is real."""
    row = view.row_of(layer)
    array = statistics.sequence(layer, name)[row]
    window = view.window(len(array))
    array = array[window]
    mask = None if layer.mask is None else np.asarray(layer.mask[row][window], bool)
    return array, None if mask is None or mask.all() else mask


def _title(layer: LayerTrace, name: str) -> str:
    """An array's name with its symbol: "forget gate  f"."""
    spec = layer.spec
    symbols = {}
    if spec is not None:
        symbols = {gate.name: gate.symbol for gate in spec.gate_table}
        symbols |= {state.name: state.symbol for state in spec.state_table}
    readable = name.replace("_", " ")
    if name.startswith("d") and name[1:] in symbols:
        return f"gradient of the loss by the {readable[1:]}  ∂L/∂{symbols[name[1:]]}"
    return f"{readable}  {symbols[name]}" if name in symbols else readable


# --- Along time ---


def _heatmap(view: View, title: str | None, width: float) -> Any:
    panels: list[Panel] = _inputs(view)
    several = len(view.layers) > 1
    for layer in view.layers:
        order = _order(view, layer)
        for name in view.names_of(layer):
            values, mask = _values(view, layer, name)
            numbers = view.units_of(layer, values.shape[1])
            if order is not None and values.shape[1] == len(order):
                numbers = [unit for unit in order if unit in set(numbers)]
            real = values if mask is None else values[mask]
            scale = scale_of(layer, name, real)
            label = "feature" if name == "input" else "unit"
            prefix = f"{view.text(layer)}: " if several else ""
            panels.append(
                heat_map(
                    prefix + _title(layer, name),
                    values[:, numbers],
                    scale,
                    numbers,
                    mask,
                    label=label,
                    tokens=_tokens(view, layer),
                )
            )
    panels += _outputs(view)
    return make_figure(panels, title or _headline(view), width, _first_step(view))


def _lines(view: View, title: str | None, width: float) -> Any:
    panels = _inputs(view)
    several = len(view.layers) > 1
    for layer in view.layers:
        shown = view.units
        if shown is None:
            hidden, mask = _values(view, layer, "hidden_state")
            moves = (hidden if mask is None else hidden[mask]).std(axis=0)
            shown = sorted(int(unit) for unit in np.argsort(-moves)[:_DEFAULT_UNITS])
        here = replace(view, units=shown)
        prefix = f"{view.text(layer)}: " if several else ""
        names = here.names_of(layer)
        panels += _unit_panels(here, layer, names, prefix)
    panels += _outputs(view)
    return make_figure(panels, title or _headline(view), width, _first_step(view))


def _unit_panels(view: View, layer: LayerTrace, names: list[str], prefix: str) -> list[Panel]:
    """Curves of some units: a panel per array; of a single unit one for all that share a scale."""
    assert view.units is not None
    groups: list[list[str]] = [[name] for name in names]
    if len(view.units) == 1:
        kinds = {
            name: (scale.palette, scale.low, scale.high)
            for name in names
            for scale in [scale_of(layer, name, _values(view, layer, name)[0])]
        }
        groups = [
            [name for name in names if kinds[name] == kind]
            for kind in dict.fromkeys(kinds.values())
        ]
    panels = []
    for group in groups:
        curves = []
        for number, name in enumerate(group):
            values, mask = _values(view, layer, name)
            for place, unit in enumerate(view.units_of(layer, values.shape[1])):
                alone = len(view.units) == 1
                options = (
                    {"color": look.colour_of(name, number)} if alone else look.line_style(place)
                )
                label = _title(layer, name) if alone else f"unit {unit}"
                curves.append((label, values[:, unit], options))
        scale = scale_of(layer, group[0], values)
        limits = None if scale.note else (scale.low, scale.high)
        text = _title(layer, group[0])
        if len(view.units) == 1:
            text = f"unit {view.units[0]}" + (f": {text}" if len(group) == 1 else "")
        tokens = _tokens(view, layer)
        panels.append(lines(prefix + text, curves, len(values), mask, limits=limits, tokens=tokens))
    return panels


def _norms(view: View, title: str | None, width: float) -> Any:
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


def _gradients(view: View, title: str | None, width: float) -> Any:
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
            lines(text, curves, len(curves[0][1]), log=log, height=1.6, tokens=_texts(view))
            for curves in by_steps.values()
        ]
    which = "mean over all rows" if view.row is None else f"row {view.row}"
    return make_figure(panels, title or _headline(view, which), width, _first_step(view))


# --- By unit ---


def _saturation(view: View, title: str | None, width: float) -> Any:
    from recurra.insight.tracing.summary import summarize_layer

    gates: dict[str, list[tuple[LayerTrace, Any]]] = {}
    for layer in view.layers:
        for name, gate in summarize_layer(layer).gates.items():
            if gate.kind == "gate":
                gates.setdefault(name, []).append((layer, gate))
    if not gates:
        raise ValueError(
            "No layer here has gates between 0 and 1 (sigmoid or hard_sigmoid) that could be "
            "saturated."
        )
    order = [layer.path for layer in view.layers]

    def draw(axes: Any, name: str) -> None:
        from matplotlib.ticker import PercentFormatter

        for layer, gate in gates[name]:
            units = view.units_of(layer, len(gate.low))
            axes.scatter(
                gate.low[units],
                gate.high[units],
                s=22,
                color=look.LINES[1 + order.index(layer.path) % (len(look.LINES) - 1)],
                alpha=0.65,
                linewidths=0,
                label=layer.path,
                clip_on=False,
                zorder=3,
            )
        axes.plot([0, 1], [1, 0], color=look.HATCH, linewidth=0.8)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="closed (below 0.05)")
        axes.grid(color=look.FAINT, linewidth=0.6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
            axis.set_ticks([0, 0.25, 0.5, 0.75, 1])

    from recurra.insight.plotting_figure import make_row

    named = {name: _title(found[0][0], name) for name, found in gates.items()}
    return make_row(
        [(text, functools.partial(draw, name=name)) for name, text in named.items()],
        title or _headline(view, "share of real steps, a point per unit", row=False),
        width,
        label="open (above 0.95)",
        legend=len(view.layers) > 1,
    )


def _memory(view: View, title: str | None, width: float) -> Any:
    from recurra.insight.plotting_figure import make_row
    from recurra.insight.tracing.summary import summarize_layer

    curves = []
    longest = 1
    for number, layer in enumerate(view.layers):
        summary = summarize_layer(layer)
        if summary.memory is None:
            continue
        units = view.units_of(layer, len(summary.memory.steps))
        kept = np.sort(summary.memory.steps[units])[::-1]
        curves.append((number, layer.path, kept, summary.memory.gate))
        longest = max(longest, summary.time_steps)
    if not curves:
        raise ValueError(
            "No layer here has a gate that says how long it remembers: LSTM and GRU with a sigmoid "
            "as recurrent_activation have one."
        )

    def draw(axes: Any) -> None:
        from matplotlib.ticker import PercentFormatter

        for number, path, steps, gate in curves:
            places = np.arange(1, len(steps) + 1) / len(steps)
            options = look.line_style(number + 1)
            axes.plot(places, steps, label=path, marker="o", markersize=2.5, **options)
            axes.set_ylabel(f"steps until 1/e is left\n{_formula(gate)}", linespacing=1.4)
        axes.axhline(longest, color=look.MUTED, linewidth=0.8, linestyle=look.DASHES[1])
        axes.annotate(
            f"the sequence: {longest:,} {'step' if longest == 1 else 'steps'}",
            (1, longest),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=look.MUTED,
            fontsize=7.5,
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("share of units, the longest memory first")
        axes.grid(color=look.FAINT, linewidth=0.6)

    return make_row(
        [("memory length", draw)],
        title or _headline(view, row=False),
        width,
        legend=len(curves) > 1,
        height=2.6,
    )


def _formula(gate: str) -> str:
    return f"−1 / ln(mean {gate.replace('_', ' ')})"


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
        _, mask = _values(view, layer, "hidden_state")
        panels.append(_curves_or_map(f"{role}: {name}" if named else role, values, mask, view))
    return panels


def _own_input(view: View, layer: LayerTrace) -> list[Panel]:
    if len(view.layers) > 1 or "input" not in layer.arrays:
        return []
    values, mask = _values(view, layer, "input")
    return [_curves_or_map("input of the layer", values, mask, view)]


def _curves_or_map(title: str, values: Array, mask: Array | None, view: View) -> Panel:
    from recurra.insight.plotting_panels import Scale

    features = values.shape[1]
    tokens = _texts(view)
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


def _texts(view: View) -> list[str] | None:
    if view.tokens is None:
        return None
    tokens = [str(token) for token in view.tokens]
    return tokens[view.window(len(tokens))]


def _tokens(view: View, layer: LayerTrace) -> list[str] | None:
    """The tokens that stand along a layer's axis.

    Raises:
        ValueError: if they are more than the layer has steps.
    """
    if view.tokens is None:
        return None
    steps = layer.arrays["hidden_state"].shape[1]
    if len(view.tokens) > steps:
        raise ValueError(
            f"tokens has {len(view.tokens)} texts, and {layer.path!r} has {steps} time steps: pass "
            "those of one row, one per step."
        )
    padded = [*(str(token) for token in view.tokens), *[""] * (steps - len(view.tokens))]
    return padded[view.window(steps)]


def _order(view: View, layer: LayerTrace) -> list[int] | None:
    """Units by the step at which they are furthest from zero; None to leave them as they are."""
    if view.order == "unit":
        return None
    if view.order != "peak":
        raise ValueError(f"order={view.order!r}; expected 'unit' or 'peak'.")
    values, mask = _values(view, layer, "hidden_state")
    size = np.abs(values)
    if mask is not None:
        size = np.where(mask[:, np.newaxis], size, -1.0)
    return [int(unit) for unit in np.argsort(size.argmax(axis=0), kind="stable")]


def _first_step(view: View) -> int:
    return view.window(max(layer.arrays["hidden_state"].shape[1] for layer in view.layers)).start


def _headline(view: View, which: str = "", *, row: bool = True) -> str:
    name = view.text(view.layers[0]) if len(view.layers) == 1 else view.trace.structure.name
    parts = [name or "trace"]
    if which:
        parts.append(which)
    elif row and (view.trace.batch > 1 or view.row):
        parts.append(f"row {view.row or 0}")
    return "   ".join(parts)


DRAW: dict[str, Callable[[View, str | None, float], Any]] = {
    "heatmap": _heatmap,
    "lines": _lines,
    "norms": _norms,
    "gradients": _gradients,
    "saturation": _saturation,
    "memory": _memory,
}
