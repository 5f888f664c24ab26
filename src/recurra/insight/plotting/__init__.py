"""Figures of traces, for papers and notebooks: `Trace.plot`.

    trace.plot("lstm")                          input, states, gates and prediction along one axis
    trace.plot("lstm", kind="lines", units=[3, 17])    the same of single units, as curves
    trace.plot()                                every layer's hidden state
    trace.plot(kind="norms")                    how large the states are, over time
    trace.plot(kind="gradients")                how the loss's gradient travels back through time
    trace.plot(kind="saturation")               how often gates are open and closed, by unit
    trace.plot(kind="memory")                   how long units keep what they store

A figure is made without pyplot: no window, no state of its own, and it needs no screen. Save it by
`figure.savefig("lstm.pdf")`; a notebook shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from recurra.insight.tracing import LayerTrace, Trace
from recurra.insight.tracing.names import resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["heatmap", "lines", "norms", "gradients", "saturation", "memory"]


def plot(
    trace: Trace,
    layer: str | Sequence[str] | None = None,
    row: int | None = None,
    arrays: str | Sequence[str] | None = None,
    units: int | Sequence[int] | None = None,
    *,
    kind: Kind = "heatmap",
    steps: slice | tuple[int, int] | None = None,
    order: Literal["unit", "peak"] = "unit",
    tokens: Sequence[str] | None = None,
    forecast: bool | int = False,
    title: str | None = None,
    width: float = 8.0,
) -> Figure:
    """Draw a trace; the same as `trace.plot(...)`.

    Args:
        trace: of `recurra.trace`.
        layer: which one, or a list of several; None for all. The name of a wrapper or a stack
            stands for all layers in it. A single layer is drawn with all of its arrays, several
            with their hidden states.
        row: of the batch. None is the first one for "heatmap" and "lines", and the mean over all
            rows for "norms" and "gradients". "saturation" and "memory" are always of all rows.
        arrays: names, such as "forget_gate" or ["hidden_state", "cell_state"], which are then
            drawn alone; a layer's "input" is among them. None as above, between the model's input
            and its output as far as they run along the same time axis.
        units: numbers of units to show; None for all, and for "lines" the three that move most.
        kind: "heatmap": units x time. Gates have a palette fixed at [0, 1], what tanh bounds one
            fixed at [-1, 1]; others (cell states) one about 0 with ends of their own, which the
            title states. "lines": a curve per unit. "norms": the Euclidean norm of h and c over the
            units. "gradients": that of the loss's gradient by h and c, for traces with a loss.
            "saturation": for each unit the share of steps at which a gate is closed (below 0.05)
            and open (above 0.95). "memory": memory lengths, sorted.
        steps: part of the time axis, slice(10, 50) or (10, 50); None for all.
        order: of the units in heat maps: "unit", or "peak" to sort them by the step at which their
            hidden state is largest in absolute value, which shows who follows whom.
        tokens: a text for each step of the row, or for each real one, written along the axis (up
            to 80 of them).
        forecast: whether an output (batch, steps ahead) goes on where the input ends: True, or the
            number of the input's feature that it goes on with, in the same units.
        title: of the figure; None for one that says what is drawn.
        width: in inches; the height follows.

    Returns:
        A matplotlib figure. Padded steps are hatched.

    Raises:
        ImportError: if matplotlib is not installed.
        KeyError: if there is no such layer.
        ValueError: if there are no such arrays, rows, units or steps, or no gradients.

    Example:
        >>> recurra.trace(model, x).plot("lstm", row=2).savefig("lstm.png", dpi=200)

    Source of "saturation": Karpathy, Johnson and Fei-Fei (2015), Visualizing and understanding
    recurrent networks.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Trace.plot draws with matplotlib, which is not installed: "
            'pip install "recurra[plots]".'
        ) from error
    from recurra.insight.plotting import along_time, arguments, by_unit
    from recurra.insight.plotting.style import style
    from recurra.insight.plotting.view import View

    if kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(get_args(Kind))}.")
    width = arguments.inches(width)
    chosen = _layers(trace, arguments.layer_names(layer))
    for each in chosen:
        rows, length = each.arrays["hidden_state"].shape[:2]
        if not rows or not length:
            raise ValueError(
                f"{each.path!r} has {rows} rows of {length} time steps in this trace: there is "
                "nothing to draw. Trace at least one row of one step."
            )
    view = View(
        trace=trace,
        layers=chosen,
        row=arguments.row_number(row),
        arrays=arguments.array_names(arrays),
        units=arguments.unit_numbers(units),
        steps=arguments.part_of_steps(steps),
        order=arguments.unit_order(order),
        tokens=tokens,
        forecast=arguments.forecast_of(forecast),
    )
    with style():
        match kind:
            case "heatmap":
                return along_time.heatmap_figure(view, title, width)
            case "lines":
                return along_time.lines_figure(view, title, width)
            case "norms":
                return along_time.norms_figure(view, title, width)
            case "gradients":
                return along_time.gradients_figure(view, title, width)
            case "saturation":
                return by_unit.saturation_figure(view, title, width)
        return by_unit.memory_figure(view, title, width)


def _layers(trace: Trace, names: Sequence[str] | None) -> list[LayerTrace]:
    if not trace.layers:
        raise ValueError("The trace has no recurrent layers to draw.")
    if names is None:
        return list(trace.layers.values())
    own = {path: str(layer.info.get("layer_name", "")) for path, layer in trace.layers.items()}
    found: list[LayerTrace] = []
    for name in names:
        # Both directions for a wrapper's name, all cells for a stack's.
        several = [path for path in trace.layers if path.startswith(f"{name}/")]
        paths = [name] if name in trace.layers else several or [resolve(name, own)]
        found += [trace.layers[path] for path in paths]
    return found
