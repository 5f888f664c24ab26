"""The cells' definitions: what they say, and that a wrong one does not get built."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from recurra.cells import ACTIVATIONS, CELLS, NEEDS_PRE_ACTIVATION, CellSpec
from recurra.cells.spec import Equation, Parameter, Saved
from recurra.reference import ACTIVATION_FUNCTIONS

LSTM_TRACE = (
    "input_gate",
    "forget_gate",
    "candidate",
    "output_gate",
    "cell_state",
    "hidden_state",
)


def test_order_of_cells_and_activations_is_the_engines() -> None:
    assert list(CELLS) == ["lstm", "gru", "simple_rnn"]
    assert (
        *("linear", "tanh", "sigmoid", "hard_sigmoid", "relu", "softsign"),
        *("elu", "selu", "gelu", "silu", "exponential", "softplus"),
    ) == ACTIVATIONS
    assert all(name == spec.name for name, spec in CELLS.items())


def test_public_names() -> None:
    lstm, gru, simple_rnn = CELLS.values()
    assert lstm.trace_names == LSTM_TRACE
    assert gru.trace_names == ("update_gate", "reset_gate", "candidate", "hidden_state")
    assert simple_rnn.trace_names == ("hidden_state",)
    assert lstm.state_outputs == ("state_h", "state_c")
    assert lstm.states == ("hidden_state", "cell_state")
    assert gru.options["reset_after"].default is True


@pytest.mark.parametrize(
    ("cell", "arguments", "extra"),
    [
        ("lstm", ("tanh", "sigmoid", True), ()),
        ("lstm", ("gelu", "sigmoid"), ("pre_candidate",)),
        ("lstm", ("tanh", "silu"), ("pre_input_gate", "pre_forget_gate", "pre_output_gate")),
        ("gru", ("tanh", "sigmoid"), ("recurrent_candidate",)),
        ("gru", ("tanh", "sigmoid", False), ()),
        ("gru", ("silu", "tanh", True), ("recurrent_candidate", "pre_candidate")),
        ("gru", ("tanh", "gelu", False), ("pre_update_gate", "pre_reset_gate")),
        ("simple_rnn", ("tanh",), ()),
        ("simple_rnn", ("gelu", "sigmoid", True), ("pre_candidate",)),
    ],
)
def test_slots(cell: str, arguments: tuple[Any, ...], extra: tuple[str, ...]) -> None:
    assert CELLS[cell].slots(*arguments) == CELLS[cell].trace_names + extra


@pytest.mark.parametrize("name", NEEDS_PRE_ACTIVATION)
def test_what_needs_its_pre_activation_is_not_monotonic(name: str) -> None:
    """...and the others are: their derivative follows from their value."""
    import numpy as np

    grid = np.linspace(-6, 6, 401)
    falls = {n for n, (f, _) in ACTIVATION_FUNCTIONS.items() if (np.diff(f(grid)) < 0).any()}
    assert falls == NEEDS_PRE_ACTIVATION


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_weight_shapes_are_those_of_keras(cell: str, reset_after: bool) -> None:
    keras = pytest.importorskip("keras")
    spec = CELLS[cell]
    for use_bias in (True, False):
        layer = getattr(keras.layers, spec.layer)(
            5, use_bias=use_bias, **spec.choose(reset_after=reset_after)
        )
        layer.build((2, 4, 3))
        expected = {weight.name: tuple(weight.shape) for weight in layer.weights[:3]}
        expected = {
            n: s for n, s in expected.items() if n in ("kernel", "recurrent_kernel", "bias")
        }
        assert spec.weight_shapes(3, 5, reset_after, use_bias) == expected


@pytest.mark.parametrize("cell", CELLS)
def test_defaults_are_those_of_keras(cell: str) -> None:
    keras = pytest.importorskip("keras")
    spec = CELLS[cell]
    config = getattr(keras.layers, spec.layer)(1).get_config()
    assert config["activation"] == spec.default_activation
    assert config.get("recurrent_activation") == spec.default_recurrent_activation
    for name, option in spec.options.items():
        assert config[name] == option.default


@pytest.mark.parametrize("cell", CELLS)
def test_everything_is_explained_in_one_sentence(cell: str) -> None:
    spec = CELLS[cell]
    names = {
        *spec.gates,
        *spec.states,
        *spec.state_outputs,
        *spec.slots("gelu", "gelu", True),
        *spec.weight_shapes(1, 1),
        *spec.options,
        "output",
    }
    for name in names:
        sentence = spec.meaning(name)
        assert sentence[0].isupper(), name
        assert sentence.endswith("."), name
        assert sentence.count(". ") == 0, name
    with pytest.raises(KeyError, match="has nothing named 'carry'; it has output"):
        spec.meaning("carry")
    for reset_after in (True, False):
        symbols = {line.split(" = ")[0].rstrip("'") for line in spec.equations(reset_after)}
        gates = (
            {gate.symbol for gate in spec.gate_table} if spec.uses_recurrent_activation else set()
        )
        assert symbols == gates | {state.symbol for state in spec.state_table}
    assert spec.source
    assert spec.summary


def test_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match="recurrent_activation='swish' is not an activation"):
        CELLS["lstm"].gate_activations("tanh", "swish")
    # SimpleRNN has no such argument, so whatever stands there does not matter.
    assert CELLS["simple_rnn"].gate_activations("tanh", "swish") == {"candidate": "tanh"}


def changed(cell: str, **fields: Any) -> CellSpec:
    return dataclasses.replace(CELLS[cell], **fields)


def test_definitions_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CELLS["gru"].name = "lstm"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cell", "fields", "message"),
    [
        ("lstm", {"gate_table": ()}, "has no gates"),
        ("lstm", {"gate_table": CELLS["lstm"].gate_table[:1] * 2}, "names are not unique"),
        ("lstm", {"state_table": CELLS["lstm"].state_table[::-1]}, "first state must be hidden"),
        ("lstm", {"trace_names": (*LSTM_TRACE, "peephole")}, "must be gates or states"),
        ("lstm", {"trace_names": LSTM_TRACE[:4]}, "must contain every state"),
        ("lstm", {"default_activation": "swish"}, "default activations do not fit"),
        ("simple_rnn", {"default_recurrent_activation": "tanh"}, "default activations do not fit"),
        ("gru", {"option_table": ()}, "step takes the options"),
        (
            "lstm",
            {"equation_table": (Equation("h", {"peephole": True}),)},
            "option that is not def",
        ),
        ("lstm", {"parameters": (Parameter("kernel", ("T",), "."),)}, "uses other terms"),
        ("lstm", {"parameters": CELLS["lstm"].parameters[:2]}, "expected kernel, recurrent_kernel"),
        ("lstm", {"saved_table": (Saved("extra", "."),)}, "step records"),
        ("lstm", {"gate_table": CELLS["lstm"].gate_table[:3]}, "must be gates or states"),
    ],
)
def test_a_wrong_definition_is_not_built(cell: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(cell, **fields)


def _forgets_a_state(gx: Any, state: Any, recurrent: Any, act: Any, rec: Any) -> Any:
    new_state, record = CELLS["lstm"].step(gx, state, recurrent, act, rec)
    return {"hidden_state": new_state["hidden_state"]}, record


def _multiplies_twice(gx: Any, state: Any, recurrent: Any, act: Any, rec: Any) -> Any:
    recurrent(state["hidden_state"], ("candidate",))
    return CELLS["lstm"].step(gx, state, recurrent, act, rec)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (_forgets_a_state, "step returns the states"),
        (_multiplies_twice, "expected every gate once"),
    ],
)
def test_a_wrong_step_is_not_built(step: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed("lstm", step=step)


def test_definitions_need_the_standard_library_only() -> None:
    program = (
        "import sys, recurra.cells;"
        "print([m for m in ('numpy', 'jax', 'keras', 'torch', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
