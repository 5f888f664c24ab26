"""Long short-term memory, with a forget gate and without peepholes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recurra.cells.spec import CellSpec, Equation, Gate, Parameter, State

LSTM_GATES = ("input_gate", "forget_gate", "candidate", "output_gate")


def step(
    gx: Mapping[str, Any],
    state: Mapping[str, Any],
    recurrent: Callable[[Any, tuple[str, ...]], Mapping[str, Any]],
    activation: Callable[[Any], Any],
    recurrent_activation: Callable[[Any], Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One LSTM step; the interface is described in `recurra.cells.spec`."""
    gh = recurrent(state["hidden_state"], LSTM_GATES)
    pre = {gate: gx[gate] + gh[gate] for gate in LSTM_GATES}
    i = recurrent_activation(pre["input_gate"])
    f = recurrent_activation(pre["forget_gate"])
    g = activation(pre["candidate"])
    o = recurrent_activation(pre["output_gate"])
    c = f * state["cell_state"] + i * g
    h = o * activation(c)
    record = {"input_gate": i, "forget_gate": f, "candidate": g, "output_gate": o}
    record |= {f"pre_{gate}": pre[gate] for gate in LSTM_GATES}
    return {"hidden_state": h, "cell_state": c}, record


LSTM = CellSpec(
    name="lstm",
    layer="LSTM",
    summary="Keeps a cell state that gates add to and take from, and shows a gated view of it.",
    gate_table=(
        Gate(
            "input_gate",
            "i",
            "recurrent_activation",
            "How much of the candidate is added to the cell state at this step.",
        ),
        Gate(
            "forget_gate",
            "f",
            "recurrent_activation",
            "How much of the previous cell state is kept at this step.",
        ),
        Gate(
            "candidate",
            "g",
            "activation",
            "The new content offered to the cell state, before the input gate scales it.",
        ),
        Gate(
            "output_gate",
            "o",
            "recurrent_activation",
            "How much of the activated cell state is shown as the hidden state.",
        ),
    ),
    state_table=(
        State(
            "hidden_state",
            "h",
            "state_h",
            "The cell's output at each step, also fed back into the gates of the next step.",
        ),
        State(
            "cell_state",
            "c",
            "state_c",
            "The running content that only the gates change; not part of the output.",
        ),
    ),
    trace_names=(*LSTM_GATES, "cell_state", "hidden_state"),
    step=step,
    parameters=(
        Parameter("kernel", ("F", "G*U"), "Weights of the input, a block of units per gate."),
        Parameter(
            "recurrent_kernel",
            ("U", "G*U"),
            "Weights of the previous hidden state, a block of units per gate.",
        ),
        Parameter("bias", ("G*U",), "Added to every gate before its activation."),
    ),
    equation_table=(
        Equation("i = σ_r(x·W_i + h·R_i + b_i)"),
        Equation("f = σ_r(x·W_f + h·R_f + b_f)"),
        Equation("g = σ(x·W_g + h·R_g + b_g)"),
        Equation("o = σ_r(x·W_o + h·R_o + b_o)"),
        Equation("c' = f ∘ c + i ∘ g"),
        Equation("h' = o ∘ σ(c')"),
    ),
    default_recurrent_activation="sigmoid",
    source=(
        "Hochreiter and Schmidhuber (1997), Long Short-Term Memory; forget gate: Gers, "
        "Schmidhuber and Cummins (2000), Learning to Forget: Continual Prediction with LSTM."
    ),
)
"""The LSTM cell."""
