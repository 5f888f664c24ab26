"""What a recurrent cell is: data plus one pure function.

A `CellSpec` says everything the rest of Recurra needs to know about a cell, once:

    spec = CELLS["gru"]
    spec.gates            ("update_gate", "reset_gate", "candidate"): the weights' column blocks
    spec.states           ("hidden_state",): the carry, in Keras's order
    spec.state_outputs    ("state_h",): what a layer calls the returned states
    spec.trace_names      what `return_trace=True` shows, in order
    spec.options          {"reset_after": Option(...)}: structural choices, with their defaults
    spec.choose(reset_after=False)                   the options as keywords for `step`
    spec.gate_activations("tanh", "sigmoid")         {gate: activation name}
    spec.slots("tanh", "sigmoid", reset_after=True)  arrays saved per step, for the trace and for
                                                     the backward pass
    spec.weight_shapes(features, units, reset_after=True, use_bias=True)
                                                     {"kernel": (F, G*U), ...}
    spec.meaning("update_gate")                      one sentence; also on states, outputs, slots
    spec.equations(reset_after=True), spec.source    for people

and one time step as a pure function of things that support + - *:

    state, record = spec.step(gx, state, recurrent, activation, recurrent_activation, **options)

    gx          mapping gate -> (batch, units): x · kernel[gate] + bias[gate], the input's part of
                the pre-activation. Never pre-summed with the recurrent part: GRU with
                reset_after=True needs them apart.
    state       mapping state name -> (batch, units).
    recurrent   function (h, gates) -> mapping gate -> h · recurrent_kernel[gate], plus the
                recurrent bias where the cell has one. Called once per phase: LSTM has one phase,
                GRU with reset_after=False two. Dropout on the recurrent input is applied in it.
    activation, recurrent_activation      elementwise functions.
    returns     (new state, record). The record maps every gate, every "pre_<gate>" (the gate
                before its activation) and every saved extra to its value, for tracing.

The same step drives NumPy (`recurra.reference`) and the `keras.ops` scan. `CELLS` in
`recurra.cells` lists the specs; its order and the order of `ACTIVATIONS` are the numbers that the
compiled engine uses.

Imports nothing but the standard library, so that the runtime can read cell definitions without
any framework.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ACTIVATIONS: tuple[str, ...] = (
    "linear",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "relu",
    "softsign",
    "elu",
    "selu",
    "gelu",
    "silu",
    "exponential",
    "softplus",
)
"""Activations the engine compiles in; the index is the engine's number for it. Definitions are
Keras 3's by name: gelu is the exact one (erf), elu has alpha 1, hard_sigmoid is
clip(x / 6 + 1 / 2, 0, 1)."""

NEEDS_PRE_ACTIVATION: frozenset[str] = frozenset({"gelu", "silu"})
"""Activations that are not monotonic: their derivative does not follow from their output, so the
pre-activation is saved for the backward pass."""

Role = Literal["activation", "recurrent_activation"]
Step = Callable[..., tuple[dict[str, Any], dict[str, Any]]]

_DIMENSIONS = ("F", "U", "G*U", "2")


@dataclass(frozen=True)
class Gate:
    """One column block of the weights.

    role: which of the layer's two activation arguments the gate uses.
    symbol: the letter used in the equations.
    """

    name: str
    symbol: str
    role: Role
    meaning: str


@dataclass(frozen=True)
class State:
    """One element of the carry; `output` is what a layer with `return_state=True` calls it."""

    name: str
    symbol: str
    output: str
    meaning: str


@dataclass(frozen=True)
class Option:
    """A structural choice of the cell, made when it is built; `default` is Keras's."""

    name: str
    default: bool
    meaning: str


@dataclass(frozen=True)
class Parameter:
    """A weight array. `shape` is a formula of F (features), U (units), G (number of gates).

    when: the option values under which this shape holds; empty for always.
    """

    name: str
    shape: tuple[str, ...]
    meaning: str
    when: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A value of the step's record kept for the backward pass, but not in the public trace."""

    name: str
    meaning: str
    when: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Equation:
    """One line of the cell's mathematics; `when` as in `Parameter`."""

    text: str
    when: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CellSpec:
    """A cell's definition, which checks itself when built; the module's docstring is its manual.

    Raises:
        ValueError: if the definition contradicts itself, e.g. names a gate that the step ignores.
    """

    name: str
    layer: str
    gate_table: tuple[Gate, ...]
    state_table: tuple[State, ...]
    trace_names: tuple[str, ...]
    step: Step
    parameters: tuple[Parameter, ...]
    equation_table: tuple[Equation, ...]
    source: str
    summary: str
    default_activation: str = "tanh"
    default_recurrent_activation: str | None = None
    option_table: tuple[Option, ...] = ()
    saved_table: tuple[Saved, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        return f"CellSpec({self.name!r})"

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates, in the order of the weights' column blocks (Keras's)."""
        return tuple(gate.name for gate in self.gate_table)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the carry's elements, in Keras's order; the first is always "hidden_state"."""
        return tuple(state.name for state in self.state_table)

    @property
    def state_outputs(self) -> tuple[str, ...]:
        """What a layer calls its returned states, e.g. ("state_h", "state_c"), as in `states`."""
        return tuple(state.output for state in self.state_table)

    @property
    def options(self) -> dict[str, Option]:
        """The cell's structural options by name; empty for most cells."""
        return {option.name: option for option in self.option_table}

    @property
    def uses_recurrent_activation(self) -> bool:
        """Whether any gate uses the layer's `recurrent_activation`."""
        return any(gate.role == "recurrent_activation" for gate in self.gate_table)

    def choose(self, reset_after: bool | None = None) -> dict[str, bool]:
        """The options to call `step` with: the cell's own, at their defaults or as given.

        `reset_after` is accepted for every cell because the engine's interface carries it for every
        cell; a cell without that option ignores it.

        Example:
            >>> from recurra.cells import CELLS
            >>> CELLS["gru"].choose(reset_after=False)
            {'reset_after': False}
            >>> CELLS["lstm"].choose(reset_after=False)
            {}
        """
        given = {} if reset_after is None else {"reset_after": bool(reset_after)}
        return {o.name: given.get(o.name, o.default) for o in self.option_table}

    def gate_activations(
        self, activation: str, recurrent_activation: str | None = None
    ) -> dict[str, str]:
        """Which activation each gate uses, by name, in gate order.

        Raises:
            ValueError: for a name that is not in `ACTIVATIONS`.

        Example:
            >>> from recurra.cells import CELLS
            >>> CELLS["gru"].gate_activations("tanh", "sigmoid")
            {'update_gate': 'sigmoid', 'reset_gate': 'sigmoid', 'candidate': 'tanh'}
        """
        names = {"activation": activation}
        if self.uses_recurrent_activation:
            names["recurrent_activation"] = (
                recurrent_activation or self.default_recurrent_activation or "sigmoid"
            )
        for argument, name in names.items():
            if name not in ACTIVATIONS:
                raise ValueError(
                    f"{argument}={name!r} is not an activation of the engine; "
                    f"expected one of {', '.join(ACTIVATIONS)}."
                )
        return {gate.name: names[gate.role] for gate in self.gate_table}

    def slots(
        self,
        activation: str,
        recurrent_activation: str | None = None,
        reset_after: bool | None = None,
    ) -> tuple[str, ...]:
        """Names of the per-step arrays (batch, time_steps, units) that a forward pass can save.

        In order: the public trace, then extras that the backward pass needs, then "pre_<gate>" for
        every gate whose activation is in `NEEDS_PRE_ACTIVATION`.

        Example:
            >>> from recurra.cells import CELLS
            >>> CELLS["simple_rnn"].slots("gelu")
            ('hidden_state', 'pre_candidate')
        """
        options = self.choose(reset_after)
        extras = tuple(saved.name for saved in self.saved_table if _holds(saved.when, options))
        pre = tuple(
            f"pre_{gate}"
            for gate, name in self.gate_activations(activation, recurrent_activation).items()
            if name in NEEDS_PRE_ACTIVATION
        )
        return self.trace_names + extras + pre

    def weight_shapes(
        self,
        features: int,
        units: int,
        reset_after: bool | None = None,
        use_bias: bool = True,
    ) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, in Keras's order.

        Example:
            >>> from recurra.cells import CELLS
            >>> CELLS["gru"].weight_shapes(3, 4)
            {'kernel': (3, 12), 'recurrent_kernel': (4, 12), 'bias': (2, 12)}
        """
        options = self.choose(reset_after)
        size = {"F": features, "U": units, "G*U": len(self.gate_table) * units, "2": 2}
        return {
            parameter.name: tuple(size[dimension] for dimension in parameter.shape)
            for parameter in self.parameters
            if _holds(parameter.when, options) and (use_bias or parameter.name != "bias")
        }

    def equations(self, reset_after: bool | None = None) -> tuple[str, ...]:
        """The cell's mathematics, a line each, for the chosen options."""
        options = self.choose(reset_after)
        return tuple(line.text for line in self.equation_table if _holds(line.when, options))

    def meaning(self, name: str) -> str:
        """One sentence on a gate, state, output, slot, weight or option.

        Raises:
            KeyError: for a name that the cell does not have.

        Example:
            >>> from recurra.cells import CELLS
            >>> CELLS["lstm"].meaning("state_c")
            'Cell state after the last kept step.'
        """
        meanings = self._meanings()
        if name not in meanings:
            raise KeyError(
                f"The {self.layer} cell has nothing named {name!r}; it has {', '.join(meanings)}."
            )
        return meanings[name]

    def _meanings(self) -> dict[str, str]:
        table: dict[str, str] = {
            "output": "Hidden state of the last kept step, or of every step with return_sequences.",
        }
        for state in self.state_table:
            table[state.name] = state.meaning
            readable = state.name.replace("_", " ").capitalize()
            table[state.output] = f"{readable} after the last kept step."
        for gate in self.gate_table:
            table[gate.name] = gate.meaning
            readable = gate.name.replace("_", " ").capitalize()
            table[f"pre_{gate.name}"] = f"{readable} before its activation."
        documented: list[Saved | Parameter | Option] = [
            *self.saved_table,
            *self.parameters,
            *self.option_table,
        ]
        table |= {entry.name: entry.meaning for entry in documented}
        return table


def _holds(when: Mapping[str, bool], options: Mapping[str, bool]) -> bool:
    return all(options[name] == value for name, value in when.items())


def _check(spec: CellSpec) -> None:
    """Raise ValueError if the definition contradicts itself."""

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ValueError(f"Cell {spec.name!r}: {message}")

    names = [*spec.gates, *spec.states, *(saved.name for saved in spec.saved_table)]
    require(bool(spec.gates), "has no gates.")
    require(len(set(names)) == len(names), f"names are not unique: {names}.")
    require(
        spec.states[:1] == ("hidden_state",),
        f"the first state must be hidden_state, the output; got {spec.states}.",
    )
    require(
        {*spec.trace_names} <= {*spec.gates, *spec.states},
        f"trace_names {spec.trace_names} must be gates or states.",
    )
    require(
        {*spec.states} <= {*spec.trace_names},
        f"trace_names {spec.trace_names} must contain every state: the backward pass reads them.",
    )
    require(
        spec.default_activation in ACTIVATIONS
        and spec.uses_recurrent_activation == (spec.default_recurrent_activation in ACTIVATIONS),
        "the default activations do not fit the gates' roles.",
    )

    signature = inspect.signature(spec.step).parameters
    keywords = {n for n, p in signature.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    require(
        keywords == set(spec.options),
        f"step takes the options {sorted(keywords)}, the definition has {sorted(spec.options)}.",
    )
    conditional: list[Parameter | Saved | Equation] = [
        *spec.parameters,
        *spec.saved_table,
        *spec.equation_table,
    ]
    for entry in conditional:
        require(
            set(entry.when) <= set(spec.options),
            f"{entry} depends on an option that is not defined.",
        )
    for parameter in spec.parameters:
        require(
            all(dimension in _DIMENSIONS for dimension in parameter.shape),
            f"shape {parameter.shape} of {parameter.name} uses other terms than {_DIMENSIONS}.",
        )

    for values in itertools.product((False, True), repeat=len(spec.option_table)):
        options = dict(zip(spec.options, values, strict=True))
        shapes = [p.name for p in spec.parameters if _holds(p.when, options)]
        require(
            shapes == ["kernel", "recurrent_kernel", "bias"],
            f"with {options} the weights are {shapes}, expected kernel, recurrent_kernel, bias.",
        )
        _check_step(spec, options, require)


def _check_step(
    spec: CellSpec, options: Mapping[str, bool], require: Callable[[bool, str], None]
) -> None:
    """Take one step with plain numbers and look at what comes out."""
    asked: list[str] = []

    def recurrent(h: float, gates: tuple[str, ...]) -> dict[str, float]:
        asked.extend(gates)
        return {gate: 0.25 * h for gate in gates}

    state, record = spec.step(
        {gate: 0.5 for gate in spec.gates},
        {name: 0.5 for name in spec.states},
        recurrent,
        lambda value: value,
        lambda value: value,
        **options,
    )
    require(
        tuple(state) == spec.states, f"step returns the states {tuple(state)}, not {spec.states}."
    )
    require(
        sorted(asked) == sorted(spec.gates),
        f"step asks `recurrent` for {asked}; expected every gate once.",
    )
    expected = {*spec.gates, *(f"pre_{gate}" for gate in spec.gates)}
    expected |= {saved.name for saved in spec.saved_table if _holds(saved.when, options)}
    require(
        set(record) == expected,
        f"with {options} step records {sorted(record)}, expected {sorted(expected)}.",
    )
