"""A layer's summary as a page's table: a line per unit, and what is worth a look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurra.cells import CellSpec

_MEANINGS = {
    "mean": ("mean h", "Mean of the unit's hidden state.", "number"),
    "std": ("spread of h", "Standard deviation of the unit's hidden state.", "number"),
    "max": ("largest |h|", "The hidden state's largest absolute value.", "number"),
    "dead": ("dead", "The hidden state stays close to 0: the unit does nothing.", "flag"),
    "constant": ("constant", "The hidden state hardly moves: it says the same always.", "flag"),
}


def table_of(summary: Mapping[str, Any], spec: CellSpec | None) -> dict[str, Any]:
    """One layer of `Summary.to_dict()` as the page's `summary`.

    Args:
        summary: the layer's part.
        spec: its cell's definition; None for a cell of the user's.
    """
    columns: list[dict[str, str]] = []
    units: dict[str, list[Any]] = {}
    total = int(summary["units"])

    def add(key: str, name: str, meaning: str, form: str, values: Any) -> None:
        columns.append({"key": key, "name": name, "meaning": meaning, "format": form})
        units[key] = list(values)

    memory = summary.get("memory")
    if memory is not None:
        meaning = (
            "Steps after which 1/e (37 %) of what the unit has stored is left: "
            f"{memory['formula']} ({memory['source'].rstrip('.')})."
        )
        add("memory", "memory, steps", meaning, "steps", memory["steps"])
    symbols = {} if spec is None else {gate.name: gate.symbol for gate in spec.gate_table}
    for gate, facts in summary.get("gates", {}).items():
        symbol = symbols.get(gate, gate)
        for end, values in (("low", facts["low"]), ("high", facts["high"])):
            if values is None:
                continue
            name, meaning = _saturation(gate, symbol, facts["kind"], end)
            add(f"{gate}_{end}", name, meaning, "share", values)
    hidden = summary["hidden"]
    for key in ("mean", "std", "max"):
        add(key, *_MEANINGS[key], hidden[key])
    for key in ("dead", "constant"):
        numbers = set(summary[key])
        add(key, *_MEANINGS[key], [number in numbers for number in range(total)])
    return {
        "sentences": [finding["text"] for finding in summary.get("findings", [])],
        "columns": columns,
        "units": units,
    }


def _saturation(gate: str, symbol: str, kind: str, end: str) -> tuple[str, str]:
    """Name and meaning of a share of saturated steps."""
    readable = gate.replace("_", " ")
    if kind == "gate":
        side = "closed (below 0.05)" if end == "low" else "open (above 0.95)"
        limit = "< 0.05" if end == "low" else "> 0.95"
    else:
        side = "at its lower end (below -0.95)" if end == "low" else "at its upper end (above 0.95)"
        limit = "< -0.95" if end == "low" else "> 0.95"
    return f"{symbol} {limit}", f"Share of the real steps at which the {readable} is {side}."
