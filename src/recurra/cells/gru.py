"""Gated recurrent unit, with the reset gate applied after or before the recurrent product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recurra.cells.spec import CellSpec, Equation, Gate, Option, Parameter, Saved, State

GRU_GATES = ("update_gate", "reset_gate", "candidate")


def step(
    gx: Mapping[str, Any],
    state: Mapping[str, Any],
    recurrent: Callable[[Any, tuple[str, ...]], Mapping[str, Any]],
    activation: Callable[[Any], Any],
    recurrent_activation: Callable[[Any], Any],
    *,
    reset_after: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One GRU step; the interface is described in `recurra.cells.spec`.

    With reset_after=False the candidate's recurrent product needs the reset gate first, hence a
    second phase.
    """
    h = state["hidden_state"]
    gh = recurrent(h, GRU_GATES if reset_after else GRU_GATES[:2])
    pre_z = gx["update_gate"] + gh["update_gate"]
    pre_r = gx["reset_gate"] + gh["reset_gate"]
    z = recurrent_activation(pre_z)
    r = recurrent_activation(pre_r)
    record = {"update_gate": z, "reset_gate": r, "pre_update_gate": pre_z, "pre_reset_gate": pre_r}
    if reset_after:
        record["recurrent_candidate"] = gh["candidate"]
        pre_g = gx["candidate"] + r * gh["candidate"]
    else:
        pre_g = gx["candidate"] + recurrent(r * h, GRU_GATES[2:])["candidate"]
    g = activation(pre_g)
    record |= {"candidate": g, "pre_candidate": pre_g}
    return {"hidden_state": z * h + (1 - z) * g}, record


GRU = CellSpec(
    name="gru",
    layer="GRU",
    summary="Blends the previous hidden state with a candidate, by a gate computed at every step.",
    gate_table=(
        Gate(
            "update_gate",
            "z",
            "recurrent_activation",
            "How much of the previous hidden state is kept; the rest comes from the candidate.",
        ),
        Gate(
            "reset_gate",
            "r",
            "recurrent_activation",
            "How much of the previous hidden state the candidate sees.",
        ),
        Gate(
            "candidate",
            "g",
            "activation",
            "The new content, before it is blended with the previous hidden state.",
        ),
    ),
    state_table=(
        State(
            "hidden_state",
            "h",
            "state_h",
            "The cell's output at each step, also fed back into the gates of the next step.",
        ),
    ),
    trace_names=(*GRU_GATES, "hidden_state"),
    step=step,
    option_table=(
        Option(
            "reset_after",
            True,
            "Whether the reset gate scales the candidate's recurrent product (True) or the hidden "
            "state before that product (False).",
        ),
    ),
    saved_table=(
        Saved(
            "recurrent_candidate",
            "The candidate's recurrent product, before the reset gate scales it.",
            {"reset_after": True},
        ),
    ),
    parameters=(
        Parameter("kernel", ("F", "G*U"), "Weights of the input, a block of units per gate."),
        Parameter(
            "recurrent_kernel",
            ("U", "G*U"),
            "Weights of the previous hidden state, a block of units per gate.",
        ),
        Parameter(
            "bias",
            ("2", "G*U"),
            "Added to every gate before its activation; of two rows, the first is added to the "
            "input's products and the second to the recurrent ones.",
            {"reset_after": True},
        ),
        Parameter(
            "bias",
            ("G*U",),
            "Added to every gate before its activation.",
            {"reset_after": False},
        ),
    ),
    equation_table=(
        Equation("z = σ_r(x·W_z + b_z + h·R_z + d_z)", {"reset_after": True}),
        Equation("r = σ_r(x·W_r + b_r + h·R_r + d_r)", {"reset_after": True}),
        Equation("g = σ(x·W_g + b_g + r ∘ (h·R_g + d_g))", {"reset_after": True}),
        Equation("z = σ_r(x·W_z + h·R_z + b_z)", {"reset_after": False}),
        Equation("r = σ_r(x·W_r + h·R_r + b_r)", {"reset_after": False}),
        Equation("g = σ(x·W_g + (r ∘ h)·R_g + b_g)", {"reset_after": False}),
        Equation("h' = z ∘ h + (1 - z) ∘ g"),
    ),
    default_recurrent_activation="sigmoid",
    source=(
        "Cho et al. (2014), Learning Phrase Representations using RNN Encoder-Decoder for "
        "Statistical Machine Translation, arXiv:1406.1078 (version 3 for reset_after=False, "
        "version 1 for reset_after=True)."
    ),
)
"""The GRU cell."""
