"""What there is to tell about one recurrent layer or wrapper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurra.insight.explanation.cell_facts import CellFacts, cell_facts
from recurra.insight.explanation.results import Results, is_cell, results_of, wraps
from recurra.insight.explanation.sizes import SymbolicShape, shape_text
from recurra.insight.structure import Recurrent


@dataclass(frozen=True)
class LayerFacts:
    """A recurrent layer, with the input that it gets.

    path: its place in the model: "lstm", "bi/forward_layer".
    title: its class, with what it holds: "Bidirectional(LSTM)".
    shape: of its input.
    masked: whether a mask comes with the input.
    parts: of wrappers: the layers inside.
    call: the line of Python that unpacks what it returns.
    formula, numbers, parameters: how many parameters it has, in letters, in numbers, counted.
    starts: where its states come from: "zeros at every call".
    notes: what else one should know of this layer's settings, in sentences.
    options: (what to write, what one gets then).
    """

    path: str
    title: str
    layer: Recurrent
    shape: SymbolicShape
    masked: bool
    results: Results
    cells: tuple[CellFacts, ...]
    parts: tuple[LayerFacts, ...]
    call: str
    formula: str
    numbers: str
    parameters: int | None
    starts: str
    notes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]

    @property
    def leaf(self) -> LayerFacts:
        """The layer with the cells: itself, or the first of what the wrapper holds."""
        return self.parts[0].leaf if self.parts else self

    def unlike(self) -> list[LayerFacts]:
        """The layers with cells, those of other steps or sizes only.

        Example:
            >>> [part.path for part in facts_of_a_bidirectional_lstm_and_gru.unlike()]
            ['bi/forward_layer', 'bi/backward_layer']
        """
        if not self.parts:
            return [self]
        found: list[LayerFacts] = []
        for leaf in (leaf for part in self.parts for leaf in part.unlike()):
            if not any(leaf._computes() == each._computes() for each in found):
                found.append(leaf)
        return found

    def _computes(self) -> list[tuple[Any, ...]]:
        return [(cell.class_name, cell.units, cell.lines, cell.weights) for cell in self.cells]

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        layer = self.layer
        return {
            "path": self.path,
            "class": layer.class_name,
            "title": self.title,
            "library": layer.library,
            "input": {"shape": list(self.shape), "masked": self.masked},
            "call": self.call,
            "returns": [result.to_dict() for result in self.results.results],
            "equal": [equality.to_dict() for equality in self.results.equalities],
            "states": [state.to_dict() for state in self.results.states],
            "starts_from": self.starts,
            "cells": [cell.to_dict() for cell in self.cells],
            "parts": [part.to_dict() for part in self.parts],
            "parameters": {
                "formula": self.formula,
                "numbers": self.numbers,
                "count": self.parameters,
            },
            "settings": {
                "return_sequences": layer.return_sequences,
                "return_state": layer.return_state,
                "return_trace": layer.return_trace,
                "go_backwards": layer.go_backwards,
                "stateful": layer.stateful,
                "zero_output_for_mask": layer.zero_output_for_mask,
                "merge_mode": layer.merge_mode,
                "dtype": layer.dtype,
            },
            "engine": {"name": layer.engine, "reason": layer.reason, "advice": layer.advice},
            "notes": list(self.notes),
            "options": [{"write": write, "get": get} for write, get in self.options],
        }


def layer_facts(
    layer: Recurrent,
    path: str,
    shape: SymbolicShape,
    *,
    output: SymbolicShape = (),
    masked: bool | None = False,
    starts: str = "",
    parameters: int | None = None,
) -> LayerFacts:
    """What there is to tell about a recurrent layer.

    Args:
        layer: of a `Structure`.
        path: its place.
        shape: of its input.
        output: of its first result, where the model knows it.
        masked: whether a mask comes with the input; None where that depends on the call.
        starts: where its states come from, where the model says so.
        parameters: how many it has, where the cells do not tell.
    """
    results = results_of(layer, shape, output, masked)
    inner = (*shape[:1], *shape[2:]) if wraps(layer) == "items" else shape
    cells = tuple(cell_facts(cell) for cell in layer.cells)
    parts = tuple(
        layer_facts(part, f"{path}/{name}", inner, masked=masked) for name, part in layer.parts
    )
    formula, numbers, count = _count(cells, parts)
    call = "layer(x)"
    if is_cell(layer):
        call = f"cell(x, [{', '.join(state.symbol for state in cells[0].states)}])"
    return LayerFacts(
        path=path,
        title=_title(layer),
        layer=layer,
        shape=shape,
        masked=bool(masked),
        results=results,
        cells=cells,
        parts=parts,
        call=f"{', '.join(results.names)} = {call}",
        formula=formula,
        numbers=numbers,
        parameters=parameters if count is None else count,
        starts=starts or _starts(layer, parts),
        notes=tuple(_notes(layer, parts, bool(masked))),
        options=tuple(_options(layer, parts, shape, results)),
    )


def _title(layer: Recurrent) -> str:
    if wraps(layer) == "model":
        return f"{layer.class_name}(a model)"
    if layer.parts:
        inside = dict.fromkeys(_title(part) for _, part in layer.parts)
        return f"{layer.class_name}({', '.join(inside)})"
    names = [cell.class_name for cell in layer.cells]
    if is_cell(layer):
        return layer.class_name
    plain = len(names) == 1 and names[0] == f"{layer.class_name}Cell"
    if plain or not names or layer.class_name.startswith("ConvLSTM"):
        return layer.class_name
    return f"{layer.class_name}({', '.join(names)})"


def _count(
    cells: tuple[CellFacts, ...], parts: tuple[LayerFacts, ...]
) -> tuple[str, str, int | None]:
    if parts:
        counts = [part.parameters for part in parts]
        total = None if None in counts else sum(c for c in counts if c is not None)
        first = parts[0]
        alike = all(part.numbers == first.numbers for part in parts)
        if len(parts) == 2 and alike and first.numbers:
            formula = f"2·{_factor(first.formula)}" if first.formula else ""
            return formula, f"2·{_factor(first.numbers)}", total
        return (
            first.formula if len(parts) == 1 else "",
            " + ".join(part.numbers for part in parts),
            total,
        )
    counts = [cell.parameters for cell in cells]
    total = sum(c for c in counts if c is not None) if cells and None not in counts else None
    return (
        cells[0].formula if len(cells) == 1 else "",
        " + ".join(cell.numbers for cell in cells),
        total,
    )


def _factor(terms: str) -> str:
    """A sum or product as a factor: "4·(64+1)" as it is, "2·3+3" in parentheses."""
    depth, is_sum = 0, False
    for sign in terms:
        depth += (sign == "(") - (sign == ")")
        is_sum = is_sum or (sign == "+" and depth == 0)
    return f"({terms})" if is_sum else terms


def _starts(layer: Recurrent, parts: tuple[LayerFacts, ...]) -> str:
    stateful = layer.stateful or any(part.layer.stateful for part in parts)
    if stateful:
        return (
            "what the call before has left (stateful=True), row by row, until `layer.reset_state()`"
        )
    return "zeros at every call, unless `initial_state=` is given"


def _notes(layer: Recurrent, parts: tuple[LayerFacts, ...], masked: bool) -> list[str]:
    notes = []
    zero = layer.zero_output_for_mask or any(p.layer.zero_output_for_mask for p in parts)
    if masked:
        what = (
            "is 0"
            if zero or wraps(layer) == "directions"
            else "repeats the one before it (0 if there is none)"
        )
        inner = parts[0].leaf.layer if parts else layer
        where = f", and the output there {what}" if inner.return_sequences else ""
        if zero and layer.library == "keras" and not (parts or where):
            side = "begins" if layer.go_backwards else "ends"
            where = f", and the output of a row that {side} in padding is 0"
        notes.append(f"Padding: a masked step leaves the states as they are{where}.")
    if layer.go_backwards and not parts:
        turned = (
            " and returns its outputs in that order; `keras.ops.flip(output, axis=1)` turns them "
            "round"
            if layer.return_sequences
            else ""
        )
        notes.append(f"go_backwards=True: it reads the last step first{turned}.")
    rates = [
        f"{rate:g} of {of} ({name})"
        for cell in layer.cells
        for name, rate, of in (
            ("dropout", cell.dropout, "the inputs"),
            ("recurrent_dropout", cell.recurrent_dropout, "the previous hidden state"),
        )
        if rate
    ]
    if rates:
        shares = " and ".join(dict.fromkeys(rates))
        notes.append(f"In training, and only there, random values become 0: {shares}.")
    if layer.dtype not in ("float32", ""):
        notes.append(f"It computes in {layer.dtype}.")
    return notes


def _options(
    layer: Recurrent, parts: tuple[LayerFacts, ...], shape: SymbolicShape, results: Results
) -> list[tuple[str, str]]:
    inner = parts[0].leaf.layer if parts else layer
    output = results.results[0].shape
    steps = shape[1] if len(shape) > 1 else "T"
    found = []
    if wraps(layer) == "model" or layer.class_name.startswith("ConvLSTM") or is_cell(layer):
        return []
    if wraps(layer) != "items" and len(output) > 1:
        if inner.return_sequences:
            last = shape_text((output[0], *output[2:]))
            backwards = inner.go_backwards or wraps(layer) == "directions"
            what = "what is left at the end of reading" if backwards else "the last step alone"
            found.append(
                ("return_sequences=False", f"output {last}: {what}, for one answer per sequence.")
            )
        else:
            every = shape_text((output[0], steps, *output[1:]))
            found.append(
                (
                    "return_sequences=True",
                    f"output {every}: every step's, for an answer per step "
                    "or another recurrent layer.",
                )
            )
    if not (inner.return_state or inner.return_trace) and results.states:
        names = ", ".join(state.name for state in results.states)
        shapes = {shape_text(state.shape) for state in results.states}
        each = f" {shapes.pop()}" + (" each" if len(results.states) > 1 else "")
        found.append(
            (
                "return_state=True",
                f"also {names}{each if len(shapes) == 0 else ''}: the final "
                "states, to start another layer or the next call from.",
            )
        )
    if inner.return_trace or not inner.cells or inner.cells[-1].cell is None:
        return found
    if layer.library == "recurra" and len(layer.cells) == 1:
        found.append(
            ("return_trace=True", "also every gate and state of every step, from the same call.")
        )
    found.append(
        ("recurra.trace(model, x)", "every gate and state of every step, of the layer as it is.")
    )
    return found
