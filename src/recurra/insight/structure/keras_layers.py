"""What is recurrent about a Keras layer, stock or Recurra's or a user's: cells, engine, options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from recurra.insight.structure.model import Cell, Recurrent
from recurra.insight.structure.telling import plain_value, telling
from recurra.layers.activations import engine_name
from recurra.layers.base import Recurrent as RecurraLayer
from recurra.layers.cells import cells_of, spec_of
from recurra.layers.usage import split_reason

_STOCK = "it is Keras's own layer"
_TAKE_OURS = (
    "import the layer from recurra.layers, or call recurra.enable() before the model is made"
)


def is_recurrent(layer: Any) -> bool:
    """Whether a layer reads sequences step by step, or is a wrapper around one that does."""
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        return True
    return isinstance(layer, keras.layers.TimeDistributed) and bool(inner_layers(layer.layer))


def holds_recurrent(layer: Any) -> bool:
    """Whether anything recurrent is inside of a layer or model."""
    return any(isinstance(each, keras.layers.RNN) for each in layer._flatten_layers())


def inner_layers(layer: Any, place: str = "layer") -> list[tuple[str, Any]]:
    """The outermost recurrent layers at or under a layer, by their place: "layer/lstm"."""
    if is_recurrent(layer):
        return [(place, layer)]
    if isinstance(layer, keras.Model) or type(layer).__module__.partition(".")[0] != "keras":
        parts = layer._flatten_layers(include_self=False, recursive=False)
        return [found for part in parts for found in inner_layers(part, f"{place}/{part.name}")]
    return []


def recurrent_of(layer: Any) -> Recurrent:
    """What is recurrent about a layer of which `is_recurrent` holds."""
    if isinstance(layer, keras.layers.Bidirectional):
        parts = (
            ("forward_layer", recurrent_of(layer.forward_layer)),
            ("backward_layer", recurrent_of(layer.backward_layer)),
        )
        return _wrapper(layer, parts, merge_mode=layer.merge_mode)
    if isinstance(layer, keras.layers.TimeDistributed):
        return _wrapper(
            layer, tuple((place, recurrent_of(each)) for place, each in inner_layers(layer.layer))
        )
    ours = isinstance(layer, RecurraLayer)
    return Recurrent(
        class_name=type(layer).__name__,
        library="recurra" if ours else "keras",
        layer_name=layer.name,
        cells=_cells(layer),
        **_flags(layer),
        **_engine(layer, ours),
        dtype=layer.compute_dtype or "float32",
    )


def _wrapper(
    layer: Any, parts: tuple[tuple[str, Recurrent], ...], merge_mode: str | None = None
) -> Recurrent:
    first = parts[0][1]
    slow = next((part for _, part in parts if part.engine != "cpu"), first)
    ours = type(layer).__module__.partition(".")[0] == "recurra"
    return Recurrent(
        class_name=type(layer).__name__,
        library="recurra" if ours else "keras",
        layer_name=layer.name,
        parts=parts,
        return_sequences=first.return_sequences,
        return_state=first.return_state,
        return_trace=first.return_trace,
        go_backwards=first.go_backwards,
        stateful=first.stateful,
        zero_output_for_mask=first.zero_output_for_mask,
        merge_mode=merge_mode,
        engine=slow.engine,
        reason=slow.reason,
        advice=slow.advice,
        dtype=layer.compute_dtype or "float32",
    )


def _flags(layer: Any) -> dict[str, Any]:
    names = (
        "return_sequences",
        "return_state",
        "return_trace",
        "go_backwards",
        "stateful",
        "zero_output_for_mask",
    )
    return {name: bool(getattr(layer, name, False)) for name in names}


def _engine(layer: Any, ours: bool) -> dict[str, Any]:
    if not ours:
        return {"engine": "keras", "reason": _STOCK, "advice": _TAKE_OURS}
    try:
        choice = layer._choose_engine()
    except ValueError as error:  # engine="cpu" where it cannot run
        reason, advice = split_reason(str(error))
        return {"engine": "", "reason": reason, "advice": advice}
    reason, advice = split_reason(choice.reason)
    return {"engine": choice.engine, "reason": reason, "advice": advice}


def _cells(layer: Any) -> tuple[Cell, ...]:
    stack = cells_of(layer)
    found: list[Cell] = []
    for index, cell in enumerate(stack):
        name = "cell" if len(stack) == 1 else f"cell_{index}"
        found.append(_cell(cell, name, found[-1].units if found else None))
    return tuple(found)


def _cell(cell: Any, name: str, below: int | None) -> Cell:
    spec = spec_of(cell)
    weights = _weights(cell, spec)
    kernel = weights.get("kernel", ())
    features = kernel[0] if spec is not None and kernel else below
    options: dict[str, bool] = {}
    activations: dict[str, str] = {}
    if spec is not None:
        options = spec.choose(getattr(cell, "reset_after", None))
        if not getattr(cell, "use_bias", True):
            options["use_bias"] = False
        activations = {
            gate.name: _function_name(getattr(cell, gate.role)) for gate in spec.gate_table
        }
    else:
        for role in ("activation", "recurrent_activation"):
            if callable(getattr(cell, role, None)):
                activations[role] = _function_name(getattr(cell, role))
    return Cell(
        name=name,
        class_name=type(cell).__name__,
        cell=None if spec is None else spec.name,
        units=_units(cell),
        features=features,
        activations=activations,
        options=options,
        weights=weights,
        state_sizes=_state_sizes(cell),
        dropout=_rate(cell, "dropout"),
        recurrent_dropout=_rate(cell, "recurrent_dropout"),
    )


def _weights(cell: Any, spec: Any) -> dict[str, tuple[int, ...]]:
    if not getattr(cell, "built", False):
        return {}
    if spec is not None:
        named = {n: getattr(cell, n, None) for n in ("kernel", "recurrent_kernel", "bias")}
        return {n: tuple(v.shape) for n, v in named.items() if v is not None}
    found: dict[str, tuple[int, ...]] = {}
    for variable in getattr(cell, "weights", ()):
        name = variable.name if variable.name not in found else variable.path
        found[name] = tuple(variable.shape)
    return found


def _units(cell: Any) -> int | None:
    for name in ("units", "output_size", "state_size", "filters"):
        try:
            size = getattr(cell, name, None)
        except (AttributeError, ValueError, TypeError):
            continue
        while isinstance(size, (list, tuple)) and size:
            size = size[0]
        if isinstance(size, int) and size > 0:
            return size
    return None


def _state_sizes(cell: Any) -> tuple[tuple[int, ...], ...]:
    try:
        sizes = cell.state_size
    except (AttributeError, ValueError, TypeError):
        return ()
    if isinstance(sizes, int):
        return ((sizes,),) if sizes > 0 else ()
    found: list[tuple[int, ...]] = []
    for size in sizes:
        whole = (size,) if isinstance(size, int) else tuple(size)
        if all(isinstance(n, int) for n in whole):
            found.append(whole)
    return tuple(found)


def _rate(cell: Any, name: str) -> float:
    rate = getattr(cell, name, 0.0)
    return float(rate) if isinstance(rate, (int, float)) else 0.0


def _function_name(function: Any) -> str:
    known = engine_name(function)
    if known is not None:
        return known
    named = getattr(function, "__name__", None) or getattr(function, "name", None)
    return str(named or type(function).__name__)


# --- Layers of all kinds ---


def parameters_of(layer: Any) -> int:
    """How many numbers its weights are, 0 before it is built."""
    return sum(int(_size(variable.shape)) for variable in getattr(layer, "weights", ()))


def _size(shape: Any) -> int:
    size = 1
    for n in shape:
        size *= int(n or 0)
    return size


def config_of(layer: Any) -> dict[str, Any]:
    """What else is worth telling about a layer."""
    own = type(layer).__module__.partition(".")[0] not in ("keras", "recurra")
    try:
        config: Mapping[str, Any] = layer.get_config()
    except Exception:  # a user's layer may not have one
        config = {}
    found = {} if is_recurrent(layer) else telling(config, own=own)
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = layer.layer
        found = {"layer": type(inner).__name__} | ({} if is_recurrent(layer) else config_of(inner))
    found.pop("layers", None)
    return {name: value for name, value in found.items() if plain_value(value) is not None}
