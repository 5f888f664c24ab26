"""What is to be drawn of a trace: layers, a row, arrays, units, steps, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight.tracing import LayerTrace, Trace, statistics

Array = NDArray[Any]


@dataclass(frozen=True)
class View:
    """What is to be drawn; the arguments of `plot`."""

    trace: Trace
    layers: Sequence[LayerTrace]
    row: int | None
    arrays: Sequence[str] | None
    units: Sequence[int] | None
    steps: slice | None
    order: str
    tokens: Sequence[str] | None
    forecast: bool | int = False

    def window(self, steps: int) -> slice:
        """The steps that are shown, of so many.

        Raises:
            ValueError: if there are none.
        """
        if self.steps is None:
            return slice(0, steps)
        start, stop, _ = self.steps.indices(steps)
        if stop <= start:
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
        """The arrays that are shown, in the order of `sequences`.

        Raises:
            ValueError: for names that the layer does not have.
        """
        there = sequences(layer)
        if self.arrays is None:
            if len(self.layers) > 1:
                return ["hidden_state"]
            return [name for name in there if name != "input" and not name.startswith("d")]
        for name in self.arrays:
            if name not in there:
                hint = ""
                if name in ("dhidden_state", "dcell_state"):
                    hint = " Gradients need a loss: recurra.trace(model, x, loss=..., y=...)."
                if len(self.layers) > 1 and any(name in sequences(each) for each in self.layers):
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


def sequences(layer: LayerTrace) -> list[str]:
    """Names of the arrays with a time axis, states first."""
    steps = layer.arrays["hidden_state"].shape[:2]
    there = [n for n, a in layer.arrays.items() if a.ndim >= 3 and a.shape[:2] == steps]
    first = [name for name in ("hidden_state", "cell_state") if name in there]
    return first + [name for name in there if name not in first]


def values_of(view: View, layer: LayerTrace, name: str) -> tuple[Array, Array | None]:
    """(time_steps, units) of the row and steps that are shown, and what of it is real."""
    row = view.row_of(layer)
    array = statistics.sequence(layer, name)[row]
    window = view.window(len(array))
    array = array[window]
    mask = None if layer.mask is None else np.asarray(layer.mask[row][window], bool)
    return array, None if mask is None or mask.all() else mask


def title_of(layer: LayerTrace, name: str) -> str:
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


def tokens_of(view: View, layer: LayerTrace, *, all_rows: bool = False) -> list[str] | None:
    """The tokens that stand along a layer's axis.

    As many as there are real steps are those steps' tokens: padding may stand before them.

    Args:
        view: what is to be drawn.
        layer: whose axis it is.
        all_rows: whether the figure is of all rows, so that none's padding matters.

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
    texts = [""] * steps
    places: Sequence[int] = range(steps)
    if layer.mask is not None and not all_rows and len(view.tokens) < steps:
        real = np.flatnonzero(layer.mask[view.row_of(layer)])
        if len(real) == len(view.tokens):
            places = real.tolist()
    for place, token in zip(places, view.tokens, strict=False):
        texts[place] = str(token)
    return texts[view.window(steps)]


def order_of(view: View, layer: LayerTrace) -> list[int] | None:
    """Units by the step at which they are furthest from zero; None to leave them as they are."""
    if view.order == "unit":
        return None
    values, mask = values_of(view, layer, "hidden_state")
    size = np.abs(values)
    if mask is not None:
        size = np.where(mask[:, np.newaxis], size, -1.0)
    return [int(unit) for unit in np.argsort(size.argmax(axis=0), kind="stable")]


def first_step(view: View) -> int:
    return view.window(max(layer.arrays["hidden_state"].shape[1] for layer in view.layers)).start


def headline(view: View, which: str = "", *, row: bool = True) -> str:
    name = view.text(view.layers[0]) if len(view.layers) == 1 else view.trace.structure.name
    parts = [name or "trace"]
    if which:
        parts.append(which)
    elif row and (view.trace.batch > 1 or view.row):
        parts.append(f"row {view.row or 0}")
    return "   ".join(parts)
