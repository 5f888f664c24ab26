"""What a recurrent layer returns: names, shapes and meanings, and which of it is equal.

The left and right sides of an `Equality` are Python expressions over the names that the call is
unpacked into, so that anybody can try them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from recurra.insight.explanation.cell_facts import CellFacts, StateFact, cell_facts
from recurra.insight.explanation.sizes import Size, SymbolicShape, plus
from recurra.insight.structure import Recurrent


@dataclass(frozen=True)
class Result:
    """One thing that a layer returns.

    name: "output", "state_h"; "states_0[1]" where a result is a list.
    kind: "output", "state" or "trace".
    """

    name: str
    shape: SymbolicShape
    kind: str
    meaning: str

    @property
    def brief(self) -> str:
        """The meaning without the arguments that make it so, for the way of the data."""
        return re.sub(r" \(return_sequences=\w+\)", "", self.meaning)

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "kind": self.kind,
            "meaning": self.meaning,
        }


@dataclass(frozen=True)
class Equality:
    """Two things that hold the same numbers.

    left, right: Python expressions over the results' names.
    why: one sentence.
    unless: when they differ, as a clause ("the row ends in padding"); "" for never.
    """

    left: str
    right: str
    why: str
    unless: str = ""

    def to_dict(self) -> dict[str, str]:
        """As what JSON can hold."""
        return {"left": self.left, "right": self.right, "why": self.why, "unless": self.unless}


@dataclass(frozen=True)
class Results:
    """All that a layer returns.

    names: what its call is unpacked into: ("output", "state_h", "state_c").
    states: the final states, whether they are returned or not, in the order of `initial_state`.
    """

    names: tuple[str, ...]
    results: tuple[Result, ...]
    equalities: tuple[Equality, ...]
    states: tuple[Result, ...]


def results_of(
    layer: Recurrent,
    shape: SymbolicShape,
    output: SymbolicShape = (),
    masked: bool | None = False,
) -> Results:
    """What a layer returns for an input.

    Args:
        layer: what is recurrent about it.
        shape: of its input, with the batch.
        output: of its output, where the model knows it and the layer's cells do not tell.
        masked: whether a mask comes with the input; None where that depends on the call.
    """
    if is_cell(layer):
        return _of_cell(layer, shape)
    match wraps(layer):
        case "directions":
            found = _bidirectional(layer, shape, masked)
        case "items":
            found = _time_distributed(layer, shape, output, masked)
        case _:
            found = _plain(layer, shape, output, masked)
    batch = shape[0] if shape else "B"

    def known(result: Result) -> Result:
        return replace(result, shape=(batch, *result.shape[1:]) if result.shape else ())

    return replace(
        found, results=tuple(map(known, found.results)), states=tuple(map(known, found.states))
    )


def is_cell(layer: Recurrent) -> bool:
    """Whether it is a cell by itself, which computes one step, and no layer."""
    return len(layer.cells) == 1 and layer.class_name == layer.cells[0].class_name


def wraps(layer: Recurrent) -> Literal["", "directions", "items", "model"]:
    """What kind of a wrapper a layer is; "" for none, "model" for one around a whole model."""
    names = [name for name, _ in layer.parts]
    if names == ["forward_layer", "backward_layer"]:
        return "directions"
    if names == ["layer"]:
        return "items"
    return "model" if names else ""


# --- One layer, one cell ---


def _of_cell(layer: Recurrent, shape: SymbolicShape) -> Results:
    (cell,) = map(cell_facts, layer.cells)
    batch = shape[0] if shape else "B"
    output = Result("output", (batch, cell.units), "output", "The cell's output of the step.")
    states = tuple(
        Result(
            f"states[{place}]",
            (batch, *state.shape[1:]),
            "state",
            f"{state.name.replace('_', ' ').capitalize()} {state.symbol} after the step."
            if cell.known
            else f"State {place} after the step; the cell's own code defines it.",
        )
        for place, state in enumerate(cell.states)
    )
    same: tuple[Equality, ...] = ()
    if cell.known:
        symbol = cell.states[0].symbol
        same = (Equality("output", "states[0]", f"The hidden state {symbol} is the output."),)
    return Results(("output", "states"), (output, *states), same, states)


def _plain(
    layer: Recurrent, shape: SymbolicShape, output: SymbolicShape, masked: bool | None
) -> Results:
    if wraps(layer) == "model":
        result = Result("output", output, "output", "What the model inside gives for each item.")
        return Results(("output",), (result,), (), ())
    stack = [cell_facts(cell) for cell in layer.cells]
    steps = shape[1] if len(shape) > 1 else "T"
    if not output:
        units: Size = stack[-1].units if stack else "U"
        output = ("B", steps, units) if layer.return_sequences else ("B", units)
    last = _last(layer, masked)
    top = stack[-1].states if stack else ()
    symbol = f" {top[0].symbol}" if stack and stack[-1].known else ""
    what = f"Hidden state{symbol}" if symbol or "LSTM" in layer.class_name else "The cell's output"
    meaning = f"{what} of every step" if layer.return_sequences else f"{what} after {last}"
    if layer.return_sequences and layer.go_backwards:
        meaning += ", in the order of reading: `output[:, 0]` is the input's last step"
    meaning += f" (return_sequences={layer.return_sequences})"
    results = [Result("output", output, "output", f"{meaning}.")]
    states = _states(layer, stack, output, last)
    names: tuple[str, ...] = ("output",)
    if layer.return_state or layer.return_trace:
        results += states
        names += tuple(dict.fromkeys(state.name.partition("[")[0] for state in states))
    if layer.return_trace and stack and stack[-1].known:
        results.append(_trace(layer, ("B", steps, stack[-1].units)))
        names += ("trace",)
    same: list[Equality] = []
    known = layer.class_name.startswith("ConvLSTM") or (stack and stack[-1].known)
    if names[1:] and states and known:
        first = next(s for s in states if s.name.partition("[")[0] == _top(states))
        # Stock layers give 0 without return_sequences too; all others give the last real output.
        zero = layer.zero_output_for_mask and (layer.return_sequences or layer.library == "keras")
        padding = f"{_padding(layer)}, where this layer's output is 0"
        same.append(
            Equality(
                "output[:, -1]" if layer.return_sequences else "output",
                first.name,
                f"Both are the hidden state after {last}; as `{first.name}` it comes by itself, "
                "for another layer to start from.",
                padding if zero and masked is not False else "",
            )
        )
    return Results(names, tuple(results), tuple(same), tuple(states))


def _top(states: Sequence[Result]) -> str:
    return states[-1].name.partition("[")[0] if "[" in states[-1].name else states[0].name


def _last(layer: Recurrent, masked: bool | None) -> str:
    """The step that a layer reads last."""
    real = " real" if masked else ""
    if layer.go_backwards:
        return f"the first{real} step, which it reads last"
    return f"the last{real} step"


def _padding(layer: Recurrent) -> str:
    """The rows whose last step, in the order of reading, is padding."""
    return f"a row {'begins' if layer.go_backwards else 'ends'} in padding"


def _states(
    layer: Recurrent, stack: Sequence[CellFacts], output: SymbolicShape, last: str
) -> list[Result]:
    if layer.class_name.startswith("ConvLSTM"):
        step = output[2 if layer.return_sequences else 1 :]
        return [
            Result(name, ("B", *step), "state", f"{what} after {last}.")
            for name, what in (("state_h", "Hidden state h"), ("state_c", "Cell state c"))
        ]
    found = []
    for index, cell in enumerate(stack):
        for place, state in enumerate(cell.states):
            found.append(
                Result(
                    f"states_{index}[{place}]" if len(stack) > 1 else state.output,
                    state.shape,
                    "state",
                    _state_meaning(cell, state, place, len(stack), last),
                )
            )
    return found


def _state_meaning(cell: CellFacts, state: StateFact, place: int, stacked: int, last: str) -> str:
    of = f" of {cell.name} ({cell.layer})" if stacked > 1 else ""
    what = f"{state.name.replace('_', ' ').capitalize()} {state.symbol}"
    if not cell.known:
        return f"State {place} of {cell.class_name} after {last}; the cell's own code defines it."
    return f"{what}{of} after {last}."


def _trace(layer: Recurrent, shape: SymbolicShape) -> Result:
    spec = layer.cells[-1].spec
    names = ", ".join(spec.trace_names) if spec else ""
    meaning = f"Every gate and state of every step, by name: {names}."
    if layer.go_backwards:
        meaning += " In the order of reading, the input's last step first."
    return Result("trace", shape, "trace", meaning)


# --- Wrappers ---


def _bidirectional(layer: Recurrent, shape: SymbolicShape, masked: bool | None) -> Results:
    parts = [part for _, part in layer.parts]
    inner = [results_of(part, shape, masked=masked) for part in parts]
    forward = parts[0]
    sequences = forward.return_sequences
    mode = layer.merge_mode
    each = inner[0].results[0].shape
    width = each[-1]
    results: list[Result] = []
    if mode is None:
        results = [
            Result(
                f"{name}_output",
                part_results.results[0].shape,
                "output",
                f"Hidden state {'of every step' if sequences else f'after {_last(part, masked)}'}, "
                f"read {'backwards' if part.go_backwards else 'forwards'}.",
            )
            for name, part, part_results in zip(("forward", "backward"), parts, inner, strict=True)
        ]
    else:
        total = plus(width, inner[1].results[0].shape[-1]) if mode == "concat" else width
        meaning = _merged(mode, width, total, sequences)
        meaning = f"{meaning[:-1]} (return_sequences={sequences})."
        results = [Result("output", (*each[:-1], total), "output", meaning)]
    states = [
        replace(
            state,
            name=f"{direction}_{state.name}",
            meaning=f"{direction.capitalize()} layer: {_lowered(state.meaning)}",
        )
        for direction, each_inner in zip(("forward", "backward"), inner, strict=True)
        for state in each_inner.states
    ]
    names = [result.name for result in results]
    if forward.return_state:
        results += states
        for direction, each_inner in zip(("forward", "backward"), inner, strict=True):
            names += [f"{direction}_{name}" for name in each_inner.names[1:]]
    traces = [r for r in inner[0].results if r.kind == "trace"]
    if forward.return_state and traces:
        results = [r for r in results if r.kind == "output"]
        for direction, each_inner in zip(("forward", "backward"), inner, strict=True):
            results += [s for s in states if s.name.startswith(direction)]
            results += [
                replace(r, name=f"{direction}_trace")
                for r in each_inner.results
                if r.kind == "trace"
            ]
    same = _bidirectional_equalities(layer, width, inner, masked)
    return Results(
        tuple(names), tuple(results), tuple(same if forward.return_state else ()), tuple(states)
    )


def _merged(mode: str, width: Size, total: Size, sequences: bool) -> str:
    when = "of every step" if sequences else "after the last step that each direction reads"
    if mode == "concat":
        return (
            f"Hidden states {when}, side by side (columns 0:{width} forward, "
            f"{width}:{total} backward)."
        )
    how = {"sum": "added up", "mul": "multiplied", "ave": "averaged"}.get(mode, mode)
    return f"Hidden states {when}, both directions' {how}."


def _lowered(sentence: str) -> str:
    return f"{sentence[0].lower()}{sentence[1:]}"


def _bidirectional_equalities(
    layer: Recurrent, width: Size, inner: Sequence[Results], masked: bool | None
) -> list[Equality]:
    if any(not each.equalities for each in inner) or not inner[0].states:
        return []
    mode, parts = layer.merge_mode, [part for _, part in layer.parts]
    sequences = parts[0].return_sequences
    h = [each.equalities[0].right for each in inner]
    forward, backward = f"forward_{h[0]}", f"backward_{h[1]}"
    ends = ["first" if part.go_backwards else "last" for part in parts]
    why = [
        f"The {name} layer is done at the {end} step."
        for name, end in zip(("forward", "backward"), ends, strict=True)
    ]
    # Where it returns sequences, the wrapper makes each layer's output 0 at padded steps.
    zero = sequences and masked is not False
    unless = [_padding(part) if zero else "" for part in parts]
    last, first = ("[:, -1", "[:, 0") if sequences else ("[:", "[:")
    if mode == "concat":
        left = [f"output{last}, :{width}]", f"output{first}, {width}:]"]
    elif mode is None:
        left = [f"forward_output{last}]", f"backward_output{first}]"]
        if not sequences:
            left = ["forward_output", "backward_output"]
    elif sequences:
        return []  # each end of the output mixes a final state with one that is not returned
    else:
        right = {
            "sum": f"{forward} + {backward}",
            "mul": f"{forward} * {backward}",
            "ave": f"({forward} + {backward}) / 2",
        }.get(mode)
        return [] if right is None else [Equality("output", right, "Each direction's last state.")]
    return [Equality(*each) for each in zip(left, (forward, backward), why, unless, strict=True)]


def _time_distributed(
    layer: Recurrent, shape: SymbolicShape, output: SymbolicShape, masked: bool | None
) -> Results:
    (_, part), items = layer.parts[0], shape[1] if len(shape) > 1 else "N"
    inner = results_of(part, (*shape[:1], *shape[2:]), (*output[:1], *output[2:]), masked)

    def spread(result: Result) -> Result:
        meaning = f"{result.meaning[:-1]}, for every item."
        return replace(result, shape=(*result.shape[:1], items, *result.shape[1:]), meaning=meaning)

    return Results(
        inner.names,
        tuple(spread(result) for result in inner.results),
        tuple(replace(e, left=e.left.replace("[:,", "[:, :,")) for e in inner.equalities),
        tuple(spread(state) for state in inner.states),
    )
