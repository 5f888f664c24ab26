"""States that a recurrent layer is to start from, checked early, with errors that teach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.cells import CellSpec
from recurra.layers import provenance
from recurra.layers.checks import article


def check_initial_state(
    initial_state: Any, sequences: Any, units: int, spec: CellSpec, layer: str
) -> None:
    """Raise ValueError unless `initial_state` is one (batch, units) array per state."""
    if initial_state is None:
        return
    expected = ", ".join(spec.state_outputs)
    sequence = isinstance(initial_state, (list, tuple))
    if not sequence and getattr(initial_state, "shape", None) is None:
        raise ValueError(
            f"initial_state of layer {layer!r} is {_shown(initial_state)}; expected "
            f"[{expected}], a list of arrays of shape (batch, {units})."
        )
    states: Sequence[Any] = list(initial_state) if sequence else [initial_state]
    shape = getattr(sequences, "shape", None)
    batch = shape[0] if shape else None
    size = f"({'batch' if batch is None else batch}, {units})"
    if len(states) != len(spec.states):
        each = "one array" if len(spec.states) == 1 else f"{len(spec.states)} arrays"
        raise ValueError(
            f"initial_state of layer {layer!r} has {len(states)} "
            f"{'array' if len(states) == 1 else 'arrays'}; {article(spec.layer)} {spec.layer} "
            f"needs {each}: [{expected}], each of shape {size}."
            + _count_hint(states, sequences, units, spec)
        )
    for name, state in zip(spec.state_outputs, states, strict=True):
        got = getattr(state, "shape", None)
        if got is None:
            raise ValueError(
                f"initial_state[{name!r}] of layer {layer!r} is {_shown(state)}; expected an array "
                f"of shape {size}. "
                + (
                    "Give every state, or initial_state=None to start all from zeros."
                    if state is None
                    else f"States are given as arrays, in the order initial_state=[{expected}]."
                )
            )
        got = tuple(got)
        fits = len(got) == 2 and got[1] in (units, None)
        fits = fits and (batch is None or got[0] is None or got[0] == batch)
        if not fits:
            raise ValueError(
                f"initial_state[{name!r}] of layer {layer!r} has shape {got}; expected {size}: the "
                f"input's batch and this layer's units. {_state_hint(got, batch, units)}"
            )


def check_stacked_states(given: Sequence[Any], stack: Sequence[Any], layer: str) -> None:
    """Raise ValueError unless there is one (batch, units) array for every state of a stack.

    Args:
        given: the states, flat.
        stack: (definition, units) of every cell, from the input upwards.
        layer: the layer's name.
    """
    places = [
        (f"{name} of cell {index}" if len(stack) > 1 else name, units)
        for index, (spec, units) in enumerate(stack)
        for name in spec.state_outputs
    ]
    if len(given) != len(places):
        raise ValueError(
            f"initial_state of layer {layer!r} has {len(given)} "
            f"{'array' if len(given) == 1 else 'arrays'}; expected {len(places)}: "
            f"{', '.join(f'{name} (batch, {units})' for name, units in places)}."
        )
    for (name, units), state in zip(places, given, strict=True):
        shape = getattr(state, "shape", None)
        if shape is None:
            raise ValueError(
                f"initial_state of layer {layer!r}: {name} is {_shown(state)}; expected an array "
                f"of shape (batch, {units})."
            )
        if len(shape) != 2 or shape[1] not in (units, None):
            raise ValueError(
                f"initial_state of layer {layer!r}: {name} has shape {tuple(shape)}; expected "
                f"(batch, {units}). States are given from the lowest cell upwards."
            )


def _count_hint(states: Sequence[Any], sequences: Any, units: int, spec: CellSpec) -> str:
    """What a wrong number of states was most likely meant to be."""
    count, names = len(states), ", ".join(spec.state_outputs)
    made = provenance.maker(states[0]) if states else None
    if count == 1 and _may_be_mask(states[0], sequences):
        return " It looks like a mask: pass that by name, layer(x, mask=mask)."
    whole = (
        f" A layer with return_state=True returns (output, {names}): pass the states, result[1:]."
    )
    if made is not None and hasattr(made, "forward_layer"):
        if provenance.output_index(states[0]) == 0:
            return whole + _join_directions(made.forward_layer, spec)
        return _join_directions(made.forward_layer, spec)
    source = getattr(made, "cell_spec", None)
    if source is not None and source is not spec and count == len(source.states):
        return _other_cell(made, source, spec)
    if count == 2 * len(spec.states):
        return (
            whole if count == len(spec.states) + 1 else ""
        ) + f" If they are a Bidirectional layer's:{_join_directions(None, spec)}"
    return whole if count == len(spec.states) + 1 else ""


def _join_directions(one: Any, spec: CellSpec) -> str:
    """How a layer starts from what both directions of a Bidirectional layer came to."""
    joined = " and ".join(
        f"{name} = Concatenate()([forward_{name}, backward_{name}])" for name in spec.state_outputs
    )
    units = getattr(one, "units", None)
    size = "twice as many units" if units is None else f"{2 * units} units"
    returned = ", ".join(
        f"{direction}_{name}"
        for direction in ("forward", "backward")
        for name in spec.state_outputs
    )
    return (
        f" Bidirectional returns (output, {returned}). Join the directions, {joined}, and build "
        f"this layer with {size}."
    )


def _other_cell(made: Any, source: CellSpec, spec: CellSpec) -> str:
    name = provenance.described(made)
    has, wants = " and ".join(source.state_outputs), " and ".join(spec.state_outputs)
    if len(source.states) > len(spec.states):
        way = f"pass {wants} alone, or make both layers of one kind"
    else:
        start = ", ".join(
            each if each in source.state_outputs else "keras.ops.zeros_like(state_h)"
            for each in spec.state_outputs
        )
        way = f"make both layers of one kind, or start from [{start}]"
    return f" They come from {name}, which has {has}, and this layer has {wants}: {way}."


def _may_be_mask(state: Any, sequences: Any) -> bool:
    shape, full = getattr(state, "shape", None), getattr(sequences, "shape", None)
    boolean = "bool" in str(getattr(state, "dtype", ""))
    return boolean and shape is not None and full is not None and len(shape) == 2


def _state_hint(got: tuple[Any, ...], batch: int | None, units: int) -> str:
    if len(got) == 2 and got[1] != units:
        joined = (
            f" If it joins both directions' states of a Bidirectional layer, build this one with "
            f"{got[1]} units."
            if got[1] == 2 * units
            else ""
        )
        return (
            f"States come from a layer with the same number of units: build one of the two layers "
            f"with the other's number ({got[1]} and {units}).{joined}"
        )
    if len(got) == 2:
        return "Give every row of the batch its state."
    if len(got) == 3:
        return (
            "It looks like a sequence of outputs: pass the states of a layer with "
            "return_state=True, not its output."
        )
    return "Add the batch axis: state[None]."


def _shown(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
