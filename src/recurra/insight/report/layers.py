"""A traced layer as a page shows it: heat maps, curves, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.cells import CELLS, CellSpec
from recurra.insight.report.axes import Axes
from recurra.insight.report.encoding import Columns, bytes_blob, floats_blob
from recurra.insight.report.sizes import Sizes, most_active
from recurra.insight.structure import Recurrent
from recurra.insight.tracing import LayerTrace

Array = NDArray[Any]

_GRADIENTS = {
    "dhidden_state": (
        "Gradient of h",
        "dh",
        "How the loss changes with the hidden state of a step.",
    ),
    "dcell_state": ("Gradient of c", "dc", "How the loss changes with the cell state of a step."),
}

_SLACK = 1e-6
"""How far rounding may take an activation out of its range."""

_OTHER_SIZES = 16
"""How many times the usual range of a feature all features together have, where one palette for
all of them would show nothing of most."""


def shown_arrays(layer: LayerTrace) -> list[str]:
    """Names of the arrays that a page has heat maps of: states, gates, gradients, then the input.

    Final states are those of the last step, and stand in the sequences.
    """
    time_steps = layer.arrays["hidden_state"].shape[1]
    spec = layer.spec or _like(layer)
    states = list(spec.states) if spec else [n for n in layer.arrays if n != "input"]
    first = ["hidden_state", *(name for name in states if name != "hidden_state")]
    rest = [name for name in layer.arrays if name not in (*first, "input")]
    return [
        name
        for name in (*first, *rest, "input")
        if name in layer.arrays
        and layer.arrays[name].ndim >= 3
        and layer.arrays[name].shape[1] == time_steps
        and not name.startswith("state_h")
    ]


def layer_data(
    layer: LayerTrace,
    path: str,
    axes: Axes,
    sizes: Sizes,
    outer: int,
    summary: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """One entry of the page's `layers`.

    Args:
        layer: to be shown.
        path: of it.
        axes: of the trace.
        sizes: what of it is shown.
        outer: its rows for each of the trace's.
        summary: the layer's part of `recurra.insight.report.tables`; None without one.
    """
    node = axes.node(path)
    recurrent = None if node is None or node.recurrent is None else node.recurrent
    leaf = None if recurrent is None or node is None else _leaf(recurrent, node.path, path)
    hidden = layer.arrays["hidden_state"]
    units = math.prod(hidden.shape[2:])
    columns = sizes.of(hidden.shape[1])
    numbers = [row * outer + k for row in sizes.rows for k in range(outer)]
    reals = [None if layer.mask is None else np.asarray(layer.mask[n], bool) for n in numbers]
    kept = _kept(layer, "hidden_state", units, sizes)
    spec = layer.spec
    options = layer.info.get("options")
    reset_after = options.get("reset_after") if isinstance(options, Mapping) else None
    return {
        "path": path,
        "node": path if node is None else node.path,
        "class_name": str(layer.info.get("class_name", "") or (spec.layer if spec else "RNN")),
        "cell": layer.cell,
        "units": units,
        "features": math.prod(layer.arrays["input"].shape[2:]) if "input" in layer.arrays else None,
        "unit_index": None if kept is None else kept.tolist(),
        "unit_names": _places(hidden.shape[2:], kept),
        "axis": axes.of(path),
        "outer": outer,
        "go_backwards": layer.go_backwards,
        "facts": _facts(layer, leaf, recurrent),
        "initial": _initial(layer),
        "equations": list(spec.equations(reset_after)) if spec else [],
        "source": spec.source if spec else "",
        "masks": [columns.mask_text(real) for real in reals],
        "arrays": [
            _array(layer, name, numbers, reals, columns, sizes) for name in shown_arrays(layer)
        ],
        "curves": _curves(layer, numbers, reals, columns),
        "summary": summary,
    }


def _array(
    layer: LayerTrace,
    name: str,
    numbers: Sequence[int],
    reals: Sequence[Array | None],
    columns: Columns,
    sizes: Sizes,
) -> dict[str, Any]:
    values = layer.arrays[name]
    shape = values.shape[2:]
    total = math.prod(shape)
    title, symbol, meaning, role = _words(layer, name)
    # Units are the same in all arrays of the layer; features are others.
    same = total == math.prod(layer.arrays["hidden_state"].shape[2:]) and role != "input"
    kept = _kept(layer, "hidden_state" if same else name, total, sizes)
    chosen = [_channels(values[number], kept) for number in numbers]
    scale, ends = _scale(role, name, chosen, reals)
    blob = floats_blob if sizes.exact else bytes_blob
    return {
        "name": name,
        "title": title,
        "symbol": symbol,
        "meaning": meaning,
        "role": role,
        "scale": scale,
        "range": list(ends) if isinstance(ends, tuple) else None,
        "total": total,
        "channel_index": None if kept is None else kept.tolist(),
        "channel_names": _places(shape, kept),
        "rows": [blob(part, real, columns, ends) for part, real in zip(chosen, reals, strict=True)],
    }


def _channels(values: Array, kept: Array | None) -> Array:
    flat = values.reshape(len(values), -1)
    return flat if kept is None else flat[:, kept]


def _kept(layer: LayerTrace, name: str, total: int, sizes: Sizes) -> Array | None:
    if sizes.units is None or total <= sizes.units:
        return None
    return most_active(layer, name, sizes.units)


def _places(shape: tuple[int, ...], kept: Array | None) -> list[str] | None:
    """Names of channels that have several dimensions, as an image's."""
    if len(shape) < 2:
        return None
    places = [f"({', '.join(map(str, place))})" for place in np.ndindex(*shape)]
    return places if kept is None else [places[number] for number in kept]


def _words(layer: LayerTrace, name: str) -> tuple[str, str, str, str]:
    """Title, symbol, meaning and role of an array."""
    title = name.replace("_", " ").capitalize()
    spec = layer.spec or _like(layer)
    if name == "input":
        return title, "x", "What the layer was given at each step.", "input"
    if name in _GRADIENTS:
        return *_GRADIENTS[name], "gradient"
    if spec is None:
        meaning = (
            "What the cell gave out at each step."
            if name == "hidden_state"
            else "A state of the cell after each step."
        )
        return title, "h" if name == "hidden_state" else "", meaning, "state"
    for state in spec.state_table:
        if state.name == name:
            return title, state.symbol, state.meaning, "state"
    for gate in spec.gate_table:
        if gate.name == name:
            role = "gate" if gate.role == "recurrent_activation" else "candidate"
            return title, gate.symbol, gate.meaning, role
    return title, "", spec.meaning(name), "state"


def _like(layer: LayerTrace) -> CellSpec | None:
    """The cell that a layer's arrays are called after, as those of a convolutional LSTM."""
    for spec in CELLS.values():
        if len(spec.trace_names) > 1 and {*spec.trace_names} <= {*layer.arrays}:
            return spec
    return None


def _scale(
    role: str, name: str, chosen: Sequence[Array], reals: Sequence[Array | None]
) -> tuple[str, tuple[float, float] | Array]:
    """The palette's kind, and its ends or those of each channel."""
    ends = _ends(chosen, reals)
    known = ends[ends[:, 0] <= ends[:, 1]]
    if not len(known):
        return ("unit", (0.0, 1.0)) if role == "gate" else ("diverging", (-1.0, 1.0))
    least, most = float(known[:, 0].min()), float(known[:, 1].max())
    if role == "gate" and least >= -_SLACK and most <= 1 + _SLACK:
        return "unit", (0.0, 1.0)
    bounded = role == "candidate" or (role == "state" and name != "cell_state")
    if bounded and max(-least, most) <= 1 + _SLACK:
        return "diverging", (-1.0, 1.0)
    if role == "input" and len(ends) > 1:
        spans = known[:, 1] - known[:, 0]
        spread = spans[spans > 0]
        if len(spread) and most - least > _OTHER_SIZES * float(np.median(spread)):
            return "range", np.where(ends[:, :1] <= ends[:, 1:], ends, 0.0)
    if role == "input" and least >= 0:
        return "range", (0.0, _rounded_up(most) or 1.0)
    end = _rounded_up(max(-least, most)) or 1.0
    return "symmetric", (-end, end)


def _ends(chosen: Sequence[Array], reals: Sequence[Array | None]) -> Array:
    """(channels, 2): the least and greatest value of each; inf and -inf if there is none."""
    parts = []
    for values, real in zip(chosen, reals, strict=True):
        known = np.isfinite(values)
        if real is not None:
            known &= real[:, None]
        least = np.min(values, axis=0, where=known, initial=np.inf)
        parts.append((least, np.max(values, axis=0, where=known, initial=-np.inf)))
    least = np.min([part[0] for part in parts], axis=0)
    return np.stack([least, np.max([part[1] for part in parts], axis=0)], axis=1).astype(float)


def _rounded_up(value: float) -> float:
    """A number of two digits that is not below: an end of a palette to be read."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.6g}") or value


def _curves(
    layer: LayerTrace, numbers: Sequence[int], reals: Sequence[Array | None], columns: Columns
) -> list[dict[str, Any]]:
    curves = []
    for name in ("hidden_state", "cell_state", "dhidden_state", "dcell_state"):
        if name not in layer.arrays or layer.arrays[name].ndim < 3:
            continue
        gradient = name in _GRADIENTS
        symbol = _words(layer, name)[1]
        norms = [_norm(layer.arrays[name][number]) for number in numbers]
        if gradient:
            with np.errstate(divide="ignore"):
                norms = [np.log10(norm) for norm in norms]
        readable = name.removeprefix("d").replace("_", " ")
        meaning = (
            f"How strongly the loss depends on the {readable} of each step: the length of its "
            "gradient's vector. Where it is tiny, training learns nothing from that step."
            if gradient
            else f"The length of the {readable}'s vector: how much it holds, over all units."
        )
        curves.append(
            {
                "name": f"{name}_norm",
                "title": f"Length of {symbol}",
                "symbol": f"‖{symbol}‖",
                "meaning": meaning,
                "group": "gradient" if gradient else "norm",
                "log": gradient,
                "rows": [
                    floats_blob(norm[:, None], real, columns)
                    for norm, real in zip(norms, reals, strict=True)
                ],
            }
        )
    return curves


def _norm(values: Array) -> Array:
    """(time_steps, ...) to (time_steps,)."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    return np.sqrt(np.einsum("tu,tu->t", flat, flat))


def _leaf(recurrent: Recurrent, node: str, path: str) -> Recurrent:
    """The part of a wrapper that a path means; the whole if none does."""
    for name, part in recurrent.leaves(node):
        if path == name or path.startswith(f"{name}/"):
            return part
    return recurrent


def _facts(layer: LayerTrace, leaf: Recurrent | None, whole: Recurrent | None) -> list[list[str]]:
    hidden = layer.arrays["hidden_state"]
    facts = [["Units", " × ".join(f"{size:,}" for size in hidden.shape[2:])]]
    if "input" in layer.arrays:
        sizes = layer.arrays["input"].shape[2:]
        facts.append(["Features of a step", " × ".join(f"{size:,}" for size in sizes)])
    if layer.go_backwards:
        facts.append(["Direction", "reads the last step first; shown in the input's order"])
    activations = layer.info.get("activations")
    if isinstance(activations, Mapping) and activations:
        by_name: dict[str, list[str]] = {}
        for gate, name in activations.items():
            by_name.setdefault(str(name), []).append(str(gate).replace("_", " "))
        text = "; ".join(f"{name}: {', '.join(gates)}" for name, gates in by_name.items())
        facts.append(["Activations", text])
    if leaf is not None:
        returns = "its output at every step" if leaf.return_sequences else "its last output only"
        facts.append(["Returns", returns + (", and its final states" if leaf.return_state else "")])
        if leaf.stateful:
            facts.append(["Stateful", "each batch goes on where the one before has ended"])
        reason = f" ({leaf.reason})" if leaf.reason else ""
        if leaf.engine:
            facts.append(["Engine", f"{leaf.engine}{reason}"])
    if whole is not None and whole.merge_mode and whole.parts:
        facts.append(["Merged with the other direction by", str(whole.merge_mode)])
    if layer.mask is not None:
        real = int(np.count_nonzero(layer.mask))
        facts.append(["Real steps", f"{real:,} of {layer.mask.size:,}; the others are padding"])
    return facts


def _initial(layer: LayerTrace) -> str:
    if not layer.initial:
        return ""
    names = " and ".join(layer.initial)
    return f"Starts from given states ({names}), not from zeros."
