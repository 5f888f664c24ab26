"""Data for the report's page, made by hand: known numbers at known places."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"
"""What a name, a label or a token may be; no page may take it for markup."""


def blob(values: Any, low: float = -1, high: float = 1) -> dict[str, Any]:
    """(channels, columns) numbers as a report holds them; NaN is no value."""
    values = np.asarray(values, float)
    share = np.clip((values - low) / (high - low), 0, 1)
    codes = np.where(np.isfinite(values), np.rint(254 * np.nan_to_num(share)), 255)
    data = base64.b64encode(codes.astype(np.uint8).tobytes()).decode()
    return {"dtype": "uint8", "range": [low, high], "data": data}


def floats(values: Any) -> dict[str, Any]:
    """The same as float32."""
    data = np.asarray(values, "<f4").tobytes()
    return {"dtype": "float32", "data": base64.b64encode(data).decode()}


ROLES = {
    "hidden_state": ("h", "state", "diverging", [-1, 1]),
    "cell_state": ("c", "state", "symmetric", [-2, 2]),
    "input_gate": ("i", "gate", "unit", [0, 1]),
    "forget_gate": ("f", "gate", "unit", [0, 1]),
    "candidate": ("g", "candidate", "diverging", [-1, 1]),
}


def array(name: str, values: list[Any], **changes: Any) -> dict[str, Any]:
    """An array of a layer, from (units, columns) numbers for each row."""
    symbol, role, scale, ends = ROLES[name]
    return {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "symbol": symbol,
        "meaning": f"What {name} means.",
        "role": role,
        "scale": scale,
        "range": ends,
        "total": len(values[0]),
        "channel_index": None,
        "channel_names": None,
        "rows": [blob(row, *ends) for row in values],
        **changes,
    }


def layer(path: str, arrays: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A layer whose units are those of its first array."""
    units = arrays[0]["total"]
    return {
        "path": path,
        "node": path,
        "class_name": "LSTM",
        "cell": "lstm",
        "units": units,
        "features": 3,
        "unit_index": None,
        "unit_names": None,
        "axis": 0,
        "outer": 1,
        "go_backwards": False,
        "facts": [["Engine", "cpu"]],
        "initial": "",
        "equations": ["c' = f ∘ c + i ∘ g"],
        "source": "",
        "masks": [None] * len(arrays[0]["rows"]),
        "arrays": arrays,
        "curves": [],
        "summary": None,
        **changes,
    }


def series(name: str, role: str, rows: list[Any], **changes: Any) -> dict[str, Any]:
    """An input, an output or a target, from (channels, columns) numbers for each row."""
    channels, columns = np.shape(rows[0])
    return {
        "name": name,
        "role": role,
        "of": None,
        "kind": "numbers",
        "axis": 0,
        "start": 0,
        "columns": columns,
        "stride": 1,
        "names": None,
        "total": channels,
        "channel_index": None,
        "continues": None,
        "rows": [floats(values) for values in rows],
        **changes,
    }


def summary(units: int) -> dict[str, Any]:
    """A table: unit u remembers u steps, the last one is undefined; unit 0 is dead."""
    memory = [float(unit) for unit in range(units - 1)]
    return {
        "sentences": [f"1 of {units} units is dead."],
        "columns": [
            {"key": "memory", "name": "memory", "meaning": "Steps.", "format": "steps"},
            {"key": "open", "name": "f > 0.95", "meaning": "A share.", "format": "share"},
            {"key": "dead", "name": "dead", "meaning": "Never moves.", "format": "flag"},
        ],
        "units": {
            "memory": [*memory, None],
            "open": [0.5] * units,
            "dead": [unit == 0 for unit in range(units)],
        },
    }


DIAGRAM = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 60" width="300" height="60">
<script>document.title = "taken over"</script>
<g data-path="lower"><rect onclick="alert(1)" x="5" y="5" width="120" height="40"/></g>
<g data-path="upper"><rect x="150" y="5" width="120" height="40"/></g></svg>"""


def page_data(layers: list[dict[str, Any]], steps: int, **changes: Any) -> dict[str, Any]:
    """A report of these layers over one axis."""
    count = len(layers[0]["masks"]) // layers[0]["outer"] if layers else 1
    return {
        "format": "recurra-report",
        "version": 1,
        "title": "A report",
        "created": "2026-01-01 12:00",
        "recurra": "1.0",
        "notes": [],
        "batch": 40,
        "limits": {},
        "model": {
            "name": "model",
            "kind": "Functional",
            "source": "",
            "parameters": 1234,
            "gaps": [],
        },
        "diagram": "",
        "findings": [],
        "axes": [{"name": "time", "time_steps": steps, "columns": steps, "stride": 1}],
        "rows": [
            {"index": row, "label": None, "facts": [], "tokens": [], "tags": []}
            for row in range(count)
        ],
        "series": [],
        "layers": layers,
        **changes,
    }


def story(units: int = 6, steps: int = 40, always: float = 0) -> dict[str, Any]:
    """Two layers, two samples, tokens, a table: enough for most of what can be done with a page.

    In "lower", sample 0: unit 2 is 0.8 and unit 4 is -0.7 at steps 5 to 9 and again at 25 to 29,
    and nothing else moves but unit 1, a slow slope, and unit 5, which is `always` the same. Sample
    1 has it at steps 12 to 16, and begins it once more at step 27, but is padded from step 30 on.
    The gates of unit u are u / units throughout.
    """
    hidden = np.zeros((2, units, steps))
    hidden[:, 1] = np.linspace(-0.3, 0.3, steps)
    hidden[:, 5] = always
    for row, start in ((0, 5), (0, 25), (1, 12), (1, 27)):
        hidden[row, 2, start : start + 5] = 0.8
        hidden[row, 4, start : start + 5] = -0.7
    gate = np.repeat((np.arange(units) / units)[:, None], steps, axis=1)
    padded = "1" * 30 + "0" * (steps - 30)
    hidden[1, :, 30:] = np.nan
    arrays = [
        array("hidden_state", list(hidden)),
        array("cell_state", list(hidden * 2)),
        array("input_gate", [gate, gate]),
        array("forget_gate", [gate, gate]),
        array("candidate", list(hidden / 2)),
    ]
    norm = np.sqrt(np.nansum(hidden**2, axis=1, keepdims=True))
    curve = {
        "name": "hidden_state_norm",
        "title": "Length of h",
        "symbol": "‖h‖",
        "meaning": "How much the state holds.",
        "group": "norm",
        "log": False,
        "rows": [floats(row) for row in norm],
    }
    lower = layer("lower", arrays, masks=[None, padded], summary=summary(units), curves=[curve])
    above = hidden[:, ::-1] * 0.5
    upper = layer("upper", [array("hidden_state", list(above))], masks=[None, padded], cell=None)
    words = ["the", "cat", "sat", HOSTILE, " ", "\n", "on", "mats"]
    data = page_data([lower, upper], steps, title=f"Title {HOSTILE}", diagram=DIAGRAM)
    for row, entry in enumerate(data["rows"]):
        entry["label"] = ["first", HOSTILE][row]
        entry["facts"] = [["predicted", ["cat (0.93)", "dog (0.81)"][row]]]
        length = [steps, 30][row]
        items = [words[step % len(words)] for step in range(length)]
        entry["tokens"] = [{"axis": 0, "items": items}]
    wave = np.sin(np.arange(steps) / 3)[None]
    data["series"] = [
        series("inputs", "input", [wave, 2 * wave], names=["price"]),
        series("outputs", "output", [wave / 2, wave]),
        series("outputs, true", "target", [wave / 3, wave], of="outputs"),
    ]
    return data
