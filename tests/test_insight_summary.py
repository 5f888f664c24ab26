"""Summaries of traces and the way back through time, both on arrays that are made here."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from recurra import reference
from recurra.engine import Config
from recurra.insight import LayerTrace, Trace
from recurra.insight.structure import Structure
from recurra.insight.tracing.backward import scan_gradients
from recurra.insight.tracing.summary import summarize, summarize_layer
from report_cases import sample_trace

RANDOM = np.random.default_rng(2)


def layer_of(arrays: dict[str, Any], cell: str | None = "lstm", **options: Any) -> LayerTrace:
    activations = {"lstm": "input_gate forget_gate output_gate", "gru": "update_gate reset_gate"}
    functions = dict.fromkeys(activations.get(cell or "", "").split(), "sigmoid")
    functions["candidate"] = "tanh"
    info = {"class_name": "LSTM", "activations": functions} | options.pop("info", {})
    return LayerTrace("layer", cell, arrays, info=info, **options)


def lstm_arrays(batch: int = 2, steps: int = 20, units: int = 4) -> dict[str, Any]:
    gates = ("input_gate", "forget_gate", "output_gate")
    shape = (batch, steps, units)
    arrays = {name: np.full(shape, 0.5, "float32") for name in gates}
    arrays["candidate"] = np.zeros(shape, "float32")
    arrays["cell_state"] = RANDOM.normal(size=shape).astype("float32")
    arrays["hidden_state"] = RANDOM.uniform(-0.9, 0.9, shape).astype("float32")
    return arrays


def trace_of(layer: LayerTrace, loss: float | None = None) -> Trace:
    x = np.zeros((len(layer.arrays["hidden_state"]), 1))
    structure = Structure("model", "Functional", (), (), (), ())
    return Trace({layer.path: layer}, structure, {"x": x}, {}, loss=loss)


# --- What is counted ---


def test_saturation_counts_real_steps_only() -> None:
    arrays = lstm_arrays()
    mask = np.ones((2, 20), bool)
    mask[1, 10:] = False  # 30 real steps
    arrays["forget_gate"][0, :15, 1] = 0.99
    arrays["input_gate"][1, :3, 2] = 0.01
    arrays["candidate"][0, :3, 0] = 0.96
    arrays["candidate"][1, :3, 0] = -0.96
    for name in ("input_gate", "forget_gate", "output_gate", "candidate"):
        arrays[name][1, 10:] = 0  # as a trace has it, and as a closed gate looks
    summary = summarize_layer(layer_of(arrays, mask=mask))
    assert (summary.real_steps, summary.padded_steps) == (30, 10)
    forget, candidate = summary.gates["forget_gate"], summary.gates["candidate"]
    np.testing.assert_allclose(forget.high, [0, 0.5, 0, 0])
    np.testing.assert_allclose(forget.low, 0)
    np.testing.assert_allclose(summary.gates["input_gate"].low, [0, 0, 0.1, 0])
    np.testing.assert_allclose(forget.mean, [0.5, 0.5 + 0.49 / 2, 0.5, 0.5], rtol=1e-6)
    assert candidate.kind == "candidate"
    np.testing.assert_allclose(candidate.low, [0.1, 0, 0, 0])
    np.testing.assert_allclose(candidate.high, [0.1, 0, 0, 0])


def test_gates_without_bounds_are_not_said_to_be_saturated() -> None:
    info = {"activations": {"candidate": "relu", "forget_gate": "hard_sigmoid"}}
    summary = summarize_layer(layer_of(lstm_arrays(), info=info))
    assert summary.gates["candidate"].kind == "unbounded"
    assert summary.gates["candidate"].high is None
    assert summary.gates["forget_gate"].kind == "gate"
    assert summary.gates["input_gate"].kind == "unbounded"  # nobody says what it is


def test_dead_and_constant_units() -> None:
    arrays = lstm_arrays()
    hidden = arrays["hidden_state"]
    hidden[..., 1] = 0.004
    hidden[..., 2] = 0.7
    hidden[1, 5:, 3] = 0.3
    mask = np.ones((2, 20), bool)
    mask[1, 18:] = False
    hidden[1, 18:, 1] = 0.9  # padded: does not bring it to life
    summary = summarize_layer(layer_of(arrays, mask=mask))
    assert summary.dead == (1,)
    assert summary.constant == (2,)
    assert [seen.kind for seen in summary.observations[:2]] == ["dead_units", "constant_units"]
    assert "1 of 4 units is dead" in summary.observations[0].text
    assert summary.hidden.std[2] < 1e-7


def test_small_is_measured_by_the_scale_of_an_unbounded_layer() -> None:
    arrays = lstm_arrays()
    arrays["hidden_state"] *= 1000
    arrays["hidden_state"][..., 0] = 2.0
    info = {"activations": {"candidate": "relu"}}
    assert summarize_layer(layer_of(arrays, info=info)).dead == (0,)


def test_memory_is_that_of_a_gate_that_stays_at_its_mean() -> None:
    arrays = lstm_arrays()
    arrays["forget_gate"][:] = [0.5, 0.9, 0.99, 1.0]
    memory = summarize_layer(layer_of(arrays)).memory
    assert memory is not None
    assert memory.gate == "forget_gate"
    # What is left after that many steps of a gate that never changes is 1/e.
    np.testing.assert_allclose(
        np.array([0.5, 0.9, 0.99]) ** memory.steps[:3], np.exp(-1), rtol=1e-5
    )
    assert 1e7 < memory.steps[3] < 2e7  # finite, so that JSON can hold it
    shape = (2, 20, 4)
    gru = {name: np.full(shape, 0.8) for name in ("update_gate", "reset_gate", "hidden_state")}
    gru["candidate"] = np.zeros(shape)
    memory = summarize_layer(layer_of(gru, "gru")).memory
    assert memory is not None
    assert memory.gate == "update_gate"
    np.testing.assert_allclose(memory.steps, -1 / np.log(0.8))
    hidden = {"hidden_state": gru["hidden_state"]}
    assert summarize_layer(layer_of(hidden, "simple_rnn")).memory is None
    assert summarize_layer(layer_of(hidden, None)).memory is None


def test_norms_are_means_over_rows_that_have_the_step() -> None:
    arrays = lstm_arrays(steps=3, units=2)
    arrays["hidden_state"][:] = np.array([[[3, 4], [0, 0], [6, 8]], [[0, 0], [5, 12], [9, 9]]])
    mask = np.array([[True, True, False], [True, True, False]])
    norms = summarize_layer(layer_of(arrays, mask=mask)).norms
    np.testing.assert_allclose(norms["hidden_state"], [2.5, 6.5, np.nan])
    assert set(norms) == {"hidden_state", "cell_state"}


def gradient_layer(by_step: Any, **options: Any) -> LayerTrace:
    arrays = lstm_arrays(steps=len(by_step))
    arrays["dhidden_state"] = np.ones_like(arrays["hidden_state"])
    arrays["dhidden_state"] *= np.array(by_step)[:, None]
    return layer_of(arrays, **options)


@pytest.mark.parametrize(
    ("by_step", "backwards", "verdict"),
    [
        ([1e-6, 1e-3, 1.0], False, "vanishes"),
        ([1e-6, 1e-3, 1.0], True, "explodes"),
        ([0.5, 0.7, 1.0], False, "steady"),
        ([0.0, 0.0, 0.0], False, "none"),
        ([0.0, 0.0, 1.0], False, "vanishes"),
    ],
)
def test_gradient_flow(by_step: Any, backwards: bool, verdict: str) -> None:
    flow = summarize_layer(gradient_layer(by_step, go_backwards=backwards)).gradient
    assert flow is not None
    assert flow.verdict == verdict
    np.testing.assert_allclose(flow.norms["hidden_state"], np.array(by_step) * 2)


def test_gradient_flow_goes_from_real_step_to_real_step() -> None:
    mask = np.array([[True, True, True, False], [False, True, True, True]])
    flow = summarize_layer(gradient_layer([1e-9, 1.0, 2.0, 1e-9], mask=mask)).gradient
    assert flow is not None
    assert (flow.first, flow.last) == (pytest.approx(1.0, 1e-6), pytest.approx(2.0, 1e-6))


# --- What people and programs get ---


def test_everything_fits_into_json() -> None:
    trace = sample_trace(gradients=True, layers=2)
    data = summarize(trace).to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    layer = data["layers"]["lstm"]
    assert len(layer["norms"]["hidden_state"]) == layer["time_steps"] == 12
    assert layer["memory"]["formula"] == "-1 / ln(mean of the forget gate over all real steps)"
    assert layer["gradient"]["verdict"] == summarize(trace)["lstm"].gradient.verdict
    short = summarize(trace).to_dict(series=False)["layers"]["lstm"]
    assert short["norms"] is None
    assert "hidden_state" not in short["gradient"]
    assert short["gates"] == layer["gates"]


def test_a_row_per_unit() -> None:
    summary = summarize(sample_trace(units=5))["lstm"]
    table = summary.units_table()
    assert [row["unit"] for row in table] == [0, 1, 2, 3, 4]
    assert table[0]["dead"]
    assert table[1]["forget_gate_high"] == pytest.approx(summary.gates["forget_gate"].high[1])
    assert {"mean", "std", "max", "memory", "constant"} <= set(table[0])


def test_text_says_what_stands_out() -> None:
    trace = sample_trace(gradients=True, units=5, batch=4, time_steps=12)
    text = str(summarize(trace))
    assert max(map(len, text.splitlines())) <= 80
    assert "lstm  LSTM, 5 units; 4 rows of 12 steps" in text
    assert "1 of 5 units is dead" in text
    assert "memory length" in text
    assert text == str(trace.summary()) == repr(trace.summary())


def test_notebooks_get_text_not_markup() -> None:
    layer = layer_of(lstm_arrays(), info={"class_name": "<b>LSTM"})
    page = summarize(trace_of(layer))._repr_html_()
    assert "&lt;b&gt;LSTM" in page
    assert "<b>LSTM" not in page


def test_what_is_not_finite_is_told_with_its_place() -> None:
    arrays = lstm_arrays()
    arrays["hidden_state"][1, 7:, 2] = np.nan
    arrays["cell_state"][1, 6:, 2] = np.inf
    summary = summarize(trace_of(layer_of(arrays)))
    assert "cell state is no finite number from step 6 of row 1 on." in str(summary)
    arrays["cell_state"][1, :3, 2] = np.inf
    backwards = summarize_layer(layer_of(arrays, go_backwards=True))
    assert "from step 19 of row 1 back to the first." in backwards.observations[0].text
    json.dumps(summary.to_dict(), allow_nan=False)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 3)])
def test_nothing_but_padding(shape: Any) -> None:
    arrays = {name: np.zeros(shape) for name in lstm_arrays()}
    summary = summarize(trace_of(layer_of(arrays, mask=np.zeros(shape[:2], bool))))
    assert summary["layer"].real_steps == 0
    assert "nothing to sum up" in str(summary)
    json.dumps(summary.to_dict(), allow_nan=False)


def test_states_that_are_pictures_count_as_units() -> None:
    """ConvLSTM's hidden states: (batch, time_steps, height, width, filters)."""
    hidden = RANDOM.normal(size=(2, 3, 4, 4, 5))
    hidden[..., 2, 1, 3] = 0
    summary = summarize_layer(layer_of({"hidden_state": hidden, "state_0": hidden}, None))
    assert summary.units == 80
    assert summary.dead == ((2 * 4 + 1) * 5 + 3,)
    norm = np.sqrt((hidden**2).sum(axis=(2, 3, 4))).mean(axis=0)
    np.testing.assert_allclose(summary.norms["hidden_state"], norm)


# --- The way back through time ---

CASES = [
    ("lstm", True, "tanh", "sigmoid", False),
    ("lstm", True, "gelu", "hard_sigmoid", True),
    ("gru", True, "tanh", "sigmoid", False),
    ("gru", False, "relu", "sigmoid", True),
    ("simple_rnn", True, "softsign", None, False),
]


def problem(case: Any, batch: int, steps: int) -> tuple[Config, dict[str, Any], dict[str, Any]]:
    cell, reset_after, activation, recurrent_activation, zero = case
    config = Config(
        cell,
        reset_after=reset_after,
        activation=activation,
        recurrent_activation=recurrent_activation or "sigmoid",
        zero_output_for_mask=zero,
    )
    features, units = 4, 5
    weights = {
        name: RANDOM.normal(size=shape) * 0.6
        for name, shape in config.weight_shapes(features, units).items()
    }
    spec = config.spec
    cotangents = {
        name: RANDOM.normal(size=(batch, steps, units)) for name in ("sequence", *spec.trace_names)
    }
    for name in ("last_output", *spec.state_outputs):
        cotangents[name] = RANDOM.normal(size=(batch, units))
    return config, weights, cotangents


def reference_gradients(
    config: Config, weights: Any, cotangents: Any, x: Any, states: Any, mask: Any = None
) -> Any:
    named = dict(zip(("h0", "c0"), states, strict=False))
    return reference.backward(
        config.cell,
        x,
        **weights,
        **named,
        mask=mask,
        activation=config.activation,
        recurrent_activation=config.recurrent_activation,
        reset_after=config.reset_after,
        zero_output_for_mask=config.zero_output_for_mask,
        d_last=cotangents["last_output"],
        d_state_h=cotangents["state_h"],
        d_state_c=cotangents.get("state_c"),
        d_sequence=cotangents["sequence"],
        d_slots={name: cotangents[name] for name in config.spec.trace_names},
    )


@pytest.mark.parametrize("case", CASES)
def test_the_way_back_ends_where_the_references_does(case: Any) -> None:
    """By the input, with a mask, through every cotangent there is."""
    config, weights, cotangents = problem(case, 3, 7)
    x, mask = RANDOM.normal(size=(3, 7, 4)), RANDOM.random((3, 7)) > 0.35
    states = [RANDOM.normal(size=(3, 5)) for _ in config.spec.states]
    found = scan_gradients(
        config, **weights, x=x, states=states, mask=mask, cotangents=cotangents, wants_dx=True
    )
    expected = reference_gradients(config, weights, cotangents, x, states, mask)
    np.testing.assert_allclose(found.dx, expected.dx, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_every_state_gets_what_the_rest_of_the_sequence_costs(case: Any) -> None:
    """The gradient by a state at step t is the reference's by the initial state of what follows."""
    config, weights, cotangents = problem(case, 2, 6)
    x = RANDOM.normal(size=(2, 6, 4))
    states = [RANDOM.normal(size=(2, 5)) for _ in config.spec.states]
    found = scan_gradients(config, **weights, x=x, states=states, cotangents=cotangents)
    run = reference.forward(
        config.cell,
        x,
        **weights,
        **dict(zip(("h0", "c0"), states, strict=False)),
        activation=config.activation,
        recurrent_activation=config.recurrent_activation,
        reset_after=config.reset_after,
    )
    for t in range(5):
        after = {n: a[:, t + 1 :] if a.ndim == 3 else a for n, a in cotangents.items()}
        now = [run.slots[name][:, t] for name in config.spec.states]
        rest = reference_gradients(config, weights, after, x[:, t + 1 :], now)
        dh = rest.dh0 + cotangents["sequence"][:, t] + cotangents["hidden_state"][:, t]
        np.testing.assert_allclose(found.states["hidden_state"][:, t], dh, atol=1e-12)
        if config.cell == "lstm":
            _, slope = reference.ACTIVATION_FUNCTIONS[config.activation]
            shown = dh * run.slots["output_gate"][:, t] * slope(now[1])
            dc = rest.dc0 + cotangents["cell_state"][:, t] + shown
            np.testing.assert_allclose(found.states["cell_state"][:, t], dc, atol=1e-12)


def test_the_way_back_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from recurra.insight.tracing import backward

    config, weights, cotangents = problem(CASES[0], 2, 9)
    x = RANDOM.normal(size=(2, 9, 4))
    whole = scan_gradients(config, **weights, x=x, cotangents=cotangents, wants_dx=True)
    monkeypatch.setattr(backward, "_BLOCK", 2 * 2 * 5)
    cut = scan_gradients(config, **weights, x=x, cotangents=cotangents, wants_dx=True)
    np.testing.assert_allclose(cut.dx, whole.dx, atol=1e-13)
    for name, array in whole.states.items():
        np.testing.assert_allclose(cut.states[name], array, atol=1e-13)


@pytest.mark.parametrize("steps", [0, 1])
def test_the_way_back_through_next_to_nothing(steps: int) -> None:
    config, weights, cotangents = problem(CASES[2], 2, steps)
    x = RANDOM.normal(size=(2, steps, 4))
    found = scan_gradients(config, **weights, x=x, cotangents=cotangents, wants_dx=True)
    assert found.states["hidden_state"].shape == (2, steps, 5)
    assert found.dx is not None
    assert found.dx.shape == x.shape


def test_gates_of_convolutions_are_summed_up() -> None:
    """As an LSTM's: each filter at each place is a unit."""
    random = np.random.default_rng(0)
    names = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_state", "hidden_state")
    arrays = {name: random.uniform(0.5, 0.9, (2, 4, 3, 2)).astype("float32") for name in names}
    arrays["input_gate"][:, :, 0, 0] = 0.99
    arrays["forget_gate"][:] = 0.9
    gates = dict.fromkeys(names[:4], "sigmoid") | {"candidate": "tanh"}
    info = {"class_name": "ConvLSTM1D", "filters": 2, "activations": gates}
    summary = summarize_layer(
        LayerTrace("conv", None, {"input": np.zeros((2, 4, 5, 1), "float32"), **arrays}, info=info)
    )
    assert list(summary.gates) == list(names[:4])
    assert list(summary.gates["input_gate"].high) == [1, 0, 0, 0, 0, 0]
    assert summary.memory is not None
    assert summary.memory.gate == "forget_gate"
    assert len(summary.memory.steps) == 6
