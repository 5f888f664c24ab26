"""What there is to tell about one cell: its step line by line, and its weights block by block.

Everything about a known cell follows from its `CellSpec`; of a cell of the user's only the shapes
are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recurra.cells import CellSpec
from recurra.insight.explanation.sizes import Size, SymbolicShape, columns, shape_text, times
from recurra.insight.structure import Cell

_LETTERS = {"kernel": "W", "recurrent_kernel": "R", "bias": "b"}
"""What the equations call the weights."""

_WORD = re.compile(r"[A-Za-z_]+'?(?!\w|\()")
"""Names in an equation, but not those of functions."""


@dataclass(frozen=True)
class Line:
    """One line of a step.

    symbol: what it computes, "f" or "c'".
    name: of the gate or state: "forget_gate", "cell_state".
    kind: "gate" or "state".
    formula: the right-hand side, with the activations by name.
    needs: symbols on the right-hand side, "x" for the step's input, in the formula's order.
    meaning: one sentence.
    """

    symbol: str
    name: str
    kind: str
    formula: str
    needs: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Block:
    """Columns of the weights that belong to one gate; `columns` is a slice: "64:128"."""

    gate: str
    symbol: str
    columns: str


@dataclass(frozen=True)
class Weight:
    """One array: `letter` is what the equations call it, `count` None where a size is free."""

    name: str
    shape: SymbolicShape
    letter: str
    meaning: str
    count: int | None


@dataclass(frozen=True)
class StateFact:
    """One state: `output` is what a layer calls it when it returns it ("state_h")."""

    name: str
    symbol: str
    output: str
    shape: SymbolicShape
    meaning: str


@dataclass(frozen=True)
class CellFacts:
    """What there is to tell about a cell.

    name: "cell", or its place in a stack: "cell_0".
    layer: "LSTM"; the class's name for a cell of the user's.
    known: whether there is a definition of it.
    gates: how many values a unit computes at each step, apart from its states.
    formula, numbers: the count of the parameters, as "4·(U·(F+U)+U)" and with its numbers.
    parameters: None where a size is free.
    """

    name: str
    class_name: str
    layer: str
    known: bool
    units: Size
    features: Size
    gates: int
    summary: str
    source: str
    lines: tuple[Line, ...]
    blocks: tuple[Block, ...]
    weights: tuple[Weight, ...]
    states: tuple[StateFact, ...]
    formula: str
    numbers: str
    parameters: int | None
    options: Mapping[str, bool]
    dropout: float
    recurrent_dropout: float

    def feeds(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """What goes into what: lines that need the same are told at once.

        Example:
            >>> cell_facts(lstm_cell).feeds()[0]
            (('x', 'h'), ('i', 'f', 'g', 'o'))
        """
        grouped: dict[tuple[str, ...], list[str]] = {}
        for line in self.lines:
            grouped.setdefault(line.needs, []).append(line.symbol)
        return [(needs, tuple(symbols)) for needs, symbols in grouped.items()]

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "name": self.name,
            "class": self.class_name,
            "layer": self.layer,
            "known": self.known,
            "units": self.units,
            "features": self.features,
            "summary": self.summary,
            "values_per_unit_and_step": self.gates,
            "step": [
                {
                    "symbol": line.symbol,
                    "name": line.name,
                    "kind": line.kind,
                    "formula": line.formula,
                    "needs": list(line.needs),
                    "meaning": line.meaning,
                }
                for line in self.lines
            ],
            "states": [
                {
                    "name": state.name,
                    "symbol": state.symbol,
                    "output": state.output,
                    "shape": list(state.shape),
                    "meaning": state.meaning,
                }
                for state in self.states
            ],
            "weights": [
                {
                    "name": weight.name,
                    "shape": list(weight.shape),
                    "letter": weight.letter,
                    "meaning": weight.meaning,
                    "parameters": weight.count,
                }
                for weight in self.weights
            ],
            "columns": {block.gate: block.columns for block in self.blocks},
            "parameters": {
                "formula": self.formula,
                "numbers": self.numbers,
                "count": self.parameters,
            },
            "options": dict(self.options),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "source": self.source,
        }


def cell_facts(cell: Cell) -> CellFacts:
    """What there is to tell about a cell of a `Structure`."""
    spec = cell.spec
    return _unknown(cell) if spec is None else _known(cell, spec)


def _known(cell: Cell, spec: CellSpec) -> CellFacts:
    units: Size = "U" if cell.units is None else cell.units
    features: Size = "F" if cell.features is None else cell.features
    biased = cell.options.get("use_bias", "bias" in cell.weights or not cell.weights)
    reset_after = cell.options.get("reset_after")
    sizes = {"F": features, "U": units, "G*U": times(len(spec.gates), units), "2": 2}
    weights = tuple(
        _weight(parameter.name, tuple(sizes[size] for size in parameter.shape), parameter.meaning)
        for parameter in spec.parameters
        if all(spec.choose(reset_after)[o] == v for o, v in parameter.when.items())
        and (biased or parameter.name != "bias")
    )
    formula, numbers = _formula(spec, weights, units, features)
    counts = [weight.count for weight in weights]
    return CellFacts(
        name=cell.name,
        class_name=cell.class_name,
        layer=spec.layer,
        known=True,
        units=units,
        features=features,
        gates=len(spec.gates),
        summary=spec.summary,
        source=spec.source,
        lines=_lines(spec, cell.activations, reset_after, biased),
        blocks=tuple(
            Block(gate.name, gate.symbol, columns(index, units))
            for index, gate in enumerate(spec.gate_table)
        ),
        weights=weights,
        states=tuple(
            StateFact(state.name, state.symbol, state.output, ("B", units), state.meaning)
            for state in spec.state_table
        ),
        formula=formula,
        numbers=numbers,
        parameters=sum(c for c in counts if c is not None) if None not in counts else None,
        options=spec.choose(reset_after),
        dropout=cell.dropout,
        recurrent_dropout=cell.recurrent_dropout,
    )


def _weight(name: str, shape: SymbolicShape, meaning: str) -> Weight:
    letter = "b, d" if name == "bias" and len(shape) == 2 else _LETTERS.get(name, "")
    return Weight(name, shape, letter, meaning, _count(shape))


def _count(shape: SymbolicShape) -> int | None:
    count = 1
    for size in shape:
        if not isinstance(size, int):
            return None
        count *= size
    return count


def _lines(
    spec: CellSpec, activations: Mapping[str, str], reset_after: bool | None, biased: bool
) -> tuple[Line, ...]:
    """The equations, with the layer's own activations in them and without what it does not have."""
    functions = {gate.role: activations.get(gate.name, "") for gate in spec.gate_table}
    functions = {role: "λ" if name == "<lambda>" else name for role, name in functions.items()}
    recurrent = functions.get("recurrent_activation") or spec.default_recurrent_activation or ""
    activation = functions.get("activation") or spec.default_activation
    gates = {gate.symbol: gate for gate in spec.gate_table}
    states = {state.symbol: state for state in spec.state_table}
    known = {"x", *gates, *states}
    lines = []
    for equation in spec.equations(reset_after):
        left, _, right = equation.partition(" = ")
        if not biased:
            right = re.sub(r" \+ [bd](_\w+)?\b", "", right)
        formula = right.replace("σ_r(", f"{recurrent}(").replace("σ(", f"{activation}(")
        words = dict.fromkeys(_WORD.findall(formula))
        needs = tuple(word for word in words if word.removesuffix("'") in known)
        # A gate may share its symbol with nothing; "h'" is the state h after the step.
        entry = gates.get(left) or states[left.removesuffix("'")]
        kind = "gate" if left in gates else "state"
        lines.append(Line(left, entry.name, kind, formula, needs, entry.meaning))
    return tuple(lines)


def _formula(
    spec: CellSpec, weights: tuple[Weight, ...], units: Size, features: Size
) -> tuple[str, str]:
    """The parameters' count in letters and in numbers: ("4·(U·(F+U)+U)", "4·(64·(8+64)+64)")."""
    bias = next((weight for weight in weights if weight.name == "bias"), None)
    rows = 0 if bias is None else 2 if len(bias.shape) == 2 else 1

    def text(u: Size, f: Size) -> str:
        product = f"{u}·({f}+{u})"
        inner = product if rows == 0 else f"{product}+{u if rows == 1 else f'{rows}·{u}'}"
        if len(spec.gates) == 1:
            return inner
        return f"{len(spec.gates)}·{inner}" if rows == 0 else f"{len(spec.gates)}·({inner})"

    return text("U", "F"), text(units, features)


def _unknown(cell: Cell) -> CellFacts:
    weights = tuple(_weight(name, shape, "") for name, shape in cell.weights.items())
    counts = [weight.count or 0 for weight in weights]
    products = "+".join("·".join(map(str, weight.shape)) or "1" for weight in weights)
    return CellFacts(
        name=cell.name,
        class_name=cell.class_name,
        layer=cell.class_name,
        known=False,
        units="U" if cell.units is None else cell.units,
        features="F" if cell.features is None else cell.features,
        gates=0,
        summary="",
        source="",
        lines=(),
        blocks=(),
        weights=weights,
        states=tuple(
            StateFact(f"state_{i}", f"s{i}", f"state_{i}", ("B", *size), "")
            for i, size in enumerate(cell.state_sizes)
        ),
        formula="",
        numbers=products,
        parameters=sum(counts) if weights else None,
        options=cell.options,
        dropout=cell.dropout,
        recurrent_dropout=cell.recurrent_dropout,
    )


def weights_line(weight: Weight) -> str:
    """A weight's shape as a product, for sums: "8·256"."""
    return "·".join(map(str, weight.shape)) or shape_text(())
