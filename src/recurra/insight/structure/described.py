"""What is recurrent about a layer of which only its description in a file is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurra.cells import CELLS
from recurra.insight.structure.model import Cell, Recurrent

_KINDS = {f"{spec.layer}Cell": name for name, spec in CELLS.items()}

_LAYERS = ("RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")

_FLAGS = (
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "zero_output_for_mask",
)


def described_recurrent(config: Mapping[str, Any], class_name: str, name: str) -> Recurrent | None:
    """What a configuration says about a recurrent layer of Keras's.

    Args:
        config: as `get_config` gives it.
        class_name: Keras's: "RNN", "Bidirectional", "ConvLSTM2D".
        name: the layer's own.

    Returns:
        None for a layer of another class.
    """
    if class_name == "Bidirectional":
        parts = _directions(config)
        if parts is None:
            return None
        flags: dict[str, Any] = {flag: getattr(parts[0][1], flag) for flag in _FLAGS}
        merge_mode = config.get("merge_mode", "concat")
        return Recurrent(
            class_name, "runtime", name, parts=parts, merge_mode=merge_mode, reason=_REASON, **flags
        )
    if class_name not in _LAYERS and f"{class_name}Cell" not in _KINDS:
        return None
    flags = {flag: bool(config.get(flag)) for flag in _FLAGS}
    cells = _cells(config, class_name)
    return Recurrent(class_name, "runtime", name, cells=cells, reason=_REASON, **flags)


_REASON = "the runtime has no code for it"


def _directions(config: Mapping[str, Any]) -> tuple[tuple[str, Recurrent], ...] | None:
    forward: Any = config.get("layer")
    backward: Any = config.get("backward_layer") or forward
    found = []
    for place, entry in (("forward_layer", forward), ("backward_layer", backward)):
        inner: Any = entry.get("config") if isinstance(entry, Mapping) else None
        if not isinstance(inner, Mapping):
            return None
        whole = dict(inner)
        if place == "backward_layer" and entry is forward:
            whole["go_backwards"] = not inner.get("go_backwards")
        part = described_recurrent(whole, str(entry.get("class_name")), str(inner.get("name", "")))
        if part is None:
            return None
        found.append((place, part))
    return tuple(found)


def _cells(config: Mapping[str, Any], class_name: str) -> tuple[Cell, ...]:
    if class_name != "RNN":
        return (_cell(config, f"{class_name}Cell", "cell", None),)
    entry: Any = config.get("cell")
    inner: Any = entry.get("config") if isinstance(entry, Mapping) else None
    stack: Any = inner.get("cells") if isinstance(inner, Mapping) else None
    listed: list[Any] = stack if isinstance(stack, list) and stack else [entry]
    found: list[Cell] = []
    for index, each in enumerate(listed):
        described: Mapping[str, Any] = each if isinstance(each, Mapping) else {}
        own = described.get("config")
        found.append(
            _cell(
                own if isinstance(own, Mapping) else {},
                str(described.get("class_name", "?")).rpartition(">")[2],
                "cell" if len(listed) == 1 else f"cell_{index}",
                found[-1].units if found else None,
            )
        )
    return tuple(found)


def _cell(config: Mapping[str, Any], class_name: str, name: str, features: int | None) -> Cell:
    kind = _KINDS.get(class_name)
    units = next((config[n] for n in ("units", "filters") if isinstance(config.get(n), int)), None)
    states: tuple[tuple[int, ...], ...] = ()
    if kind is not None and units is not None:
        states = tuple((units,) for _ in CELLS[kind].states)
    return Cell(name, class_name, kind, units, features, state_sizes=states)
