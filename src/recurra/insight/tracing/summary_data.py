"""A summary as plain data: for JSON, and a table by unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.insight.tracing import statistics
from recurra.insight.tracing.statistics import Array
from recurra.insight.tracing.summary import MEMORY_SOURCE, MOSTLY, flow_sentence

if TYPE_CHECKING:
    from recurra.insight.tracing.summary import LayerSummary, Summary


def summary_dict(summary: Summary, series: bool) -> dict[str, Any]:
    """`Summary.to_dict`."""
    return {
        "version": 1,
        "batch": summary.batch,
        "loss": None if summary.loss is None else _plain(summary.loss),
        "thresholds": {
            "closed": statistics.CLOSED,
            "open": statistics.OPEN,
            "saturated": statistics.SATURATED,
            "dead": statistics.STILL,
            "constant": statistics.STILL,
            "share": MOSTLY,
        },
        "layers": {path: layer_dict(layer, series) for path, layer in summary.layers.items()},
    }


def units_table(layer: LayerSummary) -> list[dict[str, Any]]:
    """`LayerSummary.units_table`."""
    columns: dict[str, Any] = {
        "unit": range(layer.units),
        "mean": layer.hidden.mean,
        "std": layer.hidden.std,
        "max": layer.hidden.size,
    }
    if layer.memory is not None:
        columns["memory"] = layer.memory.steps
    for name, gate in layer.gates.items():
        if gate.low is not None and gate.high is not None:
            columns[f"{name}_low"], columns[f"{name}_high"] = gate.low, gate.high
    dead, constant = set(layer.dead), set(layer.constant)
    return [
        {name: _plain(column[unit]) for name, column in columns.items()}
        | {"dead": unit in dead, "constant": unit in constant}
        for unit in range(layer.units)
    ]


_FACTS = (
    "path",
    "class_name",
    "cell",
    "units",
    "time_steps",
    "rows",
    "real_steps",
    "padded_steps",
    "go_backwards",
)


def layer_dict(layer: LayerSummary, series: bool) -> dict[str, Any]:
    """`LayerSummary.to_dict`."""

    def lists(arrays: Mapping[str, Array]) -> dict[str, Any] | None:
        return {name: _list(array) for name, array in arrays.items()} if series else None

    result: dict[str, Any] = {name: getattr(layer, name) for name in _FACTS}
    result["gates"] = {
        name: {
            "activation": gate.activation,
            "kind": gate.kind,
            "mean": _list(gate.mean),
            "low": _list(gate.low),
            "high": _list(gate.high),
            "low_share": None if gate.low is None else _plain(gate.low.mean()),
            "high_share": None if gate.high is None else _plain(gate.high.mean()),
        }
        for name, gate in layer.gates.items()
    }
    result["hidden"] = {
        "mean": _list(layer.hidden.mean),
        "std": _list(layer.hidden.std),
        "max": _list(layer.hidden.size),
    }
    result |= {"dead": [*layer.dead], "constant": [*layer.constant], "memory": None}
    if layer.memory is not None:
        steps = layer.memory.steps
        result["memory"] = {
            "gate": layer.memory.gate,
            "steps": _list(steps),
            "median": _plain(np.median(steps)),
            "min": _plain(steps.min()),
            "max": _plain(steps.max()),
            "formula": layer.memory.formula,
            "source": MEMORY_SOURCE,
        }
    result |= {"norms": lists(layer.norms), "gradient": None}
    if layer.gradient is not None:
        flow = layer.gradient
        result["gradient"] = {
            **(lists(flow.norms) or {}),
            "first": _plain(flow.first),
            "last": _plain(flow.last),
            "peak": _plain(flow.peak),
            "ratio": None if flow.ratio is None else _plain(flow.ratio),
            "verdict": flow.verdict,
            "text": flow_sentence(flow),
        }
    result["findings"] = [
        {"kind": seen.kind, "text": seen.text, "units": [*seen.units]}
        for seen in layer.observations
    ]
    return result


def _plain(value: Any) -> Any:
    """A number as JSON can hold it, with as many digits as mean anything."""
    if isinstance(value, (int, np.integer)):
        return int(value)
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _list(array: Array | None) -> list[float | None] | None:
    return None if array is None else [_plain(value) for value in array.tolist()]
