"""The fully connected recurrent cell: its output is its only state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recurra.cells.spec import CellSpec, Equation, Gate, Parameter, State


def step(
    gx: Mapping[str, Any],
    state: Mapping[str, Any],
    recurrent: Callable[[Any, tuple[str, ...]], Mapping[str, Any]],
    activation: Callable[[Any], Any],
    recurrent_activation: Callable[[Any], Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One SimpleRNN step; the interface is described in `recurra.cells.spec`."""
    pre = gx["candidate"] + recurrent(state["hidden_state"], ("candidate",))["candidate"]
    h = activation(pre)
    return {"hidden_state": h}, {"candidate": h, "pre_candidate": pre}


SIMPLE_RNN = CellSpec(
    name="simple_rnn",
    layer="SimpleRNN",
    summary="Feeds its own output back through one weight matrix; nothing gates what is kept.",
    gate_table=(
        Gate(
            "candidate",
            "g",
            "activation",
            "The new content, which is the new hidden state itself.",
        ),
    ),
    state_table=(
        State(
            "hidden_state",
            "h",
            "state_h",
            "The cell's output at each step, also fed back into the next step.",
        ),
    ),
    trace_names=("hidden_state",),
    step=step,
    parameters=(
        Parameter("kernel", ("F", "G*U"), "Weights of the input."),
        Parameter("recurrent_kernel", ("U", "G*U"), "Weights of the previous hidden state."),
        Parameter("bias", ("G*U",), "Added before the activation."),
    ),
    equation_table=(Equation("h' = σ(x·W + h·R + b)"),),
    source="Elman (1990), Finding Structure in Time.",
)
"""The SimpleRNN cell."""
