"""Every example runs and shows what it says; each asserts its own claims as it goes."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name):
    """The example's names after it has run in this process, as a script would."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_every_example_is_tested():
    here = Path(__file__).read_text()
    names = [path.stem for path in EXAMPLES.glob("*.py")]
    assert len(names) >= 8
    assert [name for name in names if f'"{name}"' not in here] == []


def test_outputs_and_states(capsys):
    names = run("a_outputs_and_states")
    assert names["output"].shape == (1, 1)
    assert names["sequence"].shape == (1, 3, 1)
    assert names["sequence"].dtype == np.float32
    assert names["predicted"][2].shape == (1, 1)
    out = capsys.readouterr().out
    assert "('output', 'state_h', 'state_c') [(1, 1), (1, 1), (1, 1)]" in out
    assert "('output', 'state_h', 'state_c') [(1, 3, 1), (1, 1), (1, 1)]" in out


def test_shapes(capsys):
    run("b_shapes")
    out = capsys.readouterr().out
    assert "LSTM(64, return_sequences=True) -> LSTM(32) (3, 32)" in out
    assert "LSTM with both flags: output (32, 10, 64), states (32, 64), (32, 64)" in out
    assert "GRU with both flags: output (32, 10, 64), states (32, 64)\n" in out


def test_forecaster():
    names = run("c_forecaster")
    assert names["forecast"].shape == (1, 1)
    assert names["error"] < 0.5 * names["naive"]
    np.testing.assert_allclose(names["forecasts"][0, -1], names["forecast"][0], rtol=1e-5)


def test_inside_other_layers():
    names = run("d_inside_other_layers")
    assert names["score"].shape == (4, 1)
    assert names["cell_state"].shape == (4, 8)
    assert names["losses"][-1] < names["losses"][0]


def test_classify_and_label():
    names = run("e_classify_and_label")
    assert names["probabilities"].shape == (100, 3)
    assert names["labels"].shape == (100, 15, 2)
    assert names["accuracy"] > 0.9


def test_encoder_decoder():
    names = run("f_encoder_decoder")
    assert names["right"].mean() > 0.9
    # The state alone carries what was read: with another one the same decoder writes nonsense.
    zeros = [np.zeros_like(state) for state in names["state"]]
    start = names["one_hot"][np.full((len(zeros[0]), 1), names["START"])]
    first = names["one_step"].predict([start, *zeros], verbose=0)[0].argmax(axis=-1)
    assert (first[:, 0] == names["expected"][:, 0]).mean() < 0.6


def test_inside_a_trained_model():
    names = run("g_inside_a_trained_model")
    trace = names["trace"]
    assert list(trace) == [
        "input_gate",
        "forget_gate",
        "candidate",
        "output_gate",
        "cell_state",
        "hidden_state",
    ]
    assert {tuple(value.shape) for value in trace.values()} == {(200, 12, 16)}
    # The twin is no new layer in the model: it has the same layers as before, without a trace.
    assert [layer.name for layer in names["model"].layers][1] == "memory"
    assert not names["layer"].return_trace


# What the reader needs to put the mistake right: what was got, what each output or axis is, and
# what to change.
FACTS = {
    "too_few_names": ("2 names", "3 outputs", "output", "state_h", "state_c", "return_state"),
    "too_many_names": ("3 names", "1 output", "return_state=True", "return_sequences"),
    "no_features_axis": (
        "(32, 5)",
        "(batch, time_steps, features)",
        "x[:, :, None]",
        "return_sequences",
    ),
    "one_axis_too_many": ("(32, 5, 2, 2)", "(batch, time_steps, features)", "TimeDistributed"),
    "state_of_another_size": ("initial_state", "(32, 8)", "(32, 4)", "units"),
    "mask_of_another_shape": ("mask", "(5, 32)", "(32, 5)", "(batch, time_steps)"),
    "stacked_without_sequences": ("'lower'", "LSTM(4, return_sequences=True)"),
    "states_in_a_sequential_model": ("(output, state_h, state_c)", "takes one tensor"),
    "states_of_both_directions": ("has 4 arrays", "Concatenate()", "8 units"),
    "misspelt_activation": ("`activation`", "than", "tanh", "sigmoid"),
}


@pytest.fixture(scope="module")
def messages():
    return run("h_errors_that_help")["messages"]


@pytest.mark.parametrize("mistake", FACTS)
def test_errors_that_help(messages, mistake):
    missing = [fact for fact in FACTS[mistake] if fact not in messages[mistake]]
    assert missing == [], messages[mistake]


def test_all_mistakes_are_checked(messages):
    assert messages.keys() == FACTS.keys()


def test_runs_as_a_script_without_any_configuration(tmp_path):
    """A newcomer's first run: KERAS_BACKEND unset and no Keras configuration."""
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    environment["KERAS_HOME"] = str(tmp_path / "keras")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "a_outputs_and_states.py")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "LSTM(1): one value, (1, 1)" in done.stdout


def test_states_that_stay(capsys):
    run("i_states_that_stay")
    out = capsys.readouterr().out
    assert "in pieces and at once: True" in out
    assert "after a restart:       True" in out
    assert "sensor 2: [0. 0. 0.]" in out


def test_stream_a_trained_model():
    """In a process of its own: it asserts that Keras was not imported."""
    name = "j_stream_a_trained_model"
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'lstm_1/cell_state': (1, 16)" in done.stdout
    assert "restored from" in done.stdout


# --- Real data. With --quick a program shows that it runs; how well it learns is for people. ---


@pytest.fixture
def quickly(monkeypatch, tmp_path):
    """Run an example on little data; gives its names and the report that it wrote."""

    def run_quickly(name, report):
        monkeypatch.setattr(sys, "argv", [name, "--quick", "--out", str(tmp_path)])
        names = run(name)
        page = (tmp_path / report).read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        return names

    return run_quickly


def test_forecasting_temperatures(quickly, capsys):
    names = quickly("k_forecast_temperature", "forecast.html")
    assert names["forecast"].shape[1:] == (1,)
    assert names["forecasts"].shape[1:] == (24,)
    assert names["single_naive"] < names["multi_naive"] < 5
    assert names["trace"]["lstm"].arrays["cell_state"].shape == (4, 72, 48)
    assert "the next 24 hours:  error" in capsys.readouterr().out


def test_recognizing_speakers(quickly):
    names = quickly("l_recognize_speakers", "speakers.html")
    assert (names["longest"], len(names["spoken"]), len(names["unheard"])) == (29, 270, 370)
    assert 0.85 < names["baseline"] < 0.95
    backward = names["trace"]["both_ways/backward_layer"]
    assert backward.go_backwards
    assert not backward.mask.all()


def test_labelling_tokens(quickly):
    names = quickly("m_label_tokens", "tokens.html")
    assert names["labelled"].shape == names["unseen_y"].shape
    assert 0.2 < names["baseline"] < 0.9
    source = Path(names["__file__"])
    kinds = {word: names["KINDS"][kind] for word, kind in names["tokens_of"](source)}
    assert kinds["parse_args"] == "call"
    assert kinds["tokens_of"] == "call"
    assert kinds["action"] == "keyword="


def test_writing_text(quickly):
    names = quickly("n_write_text", "text.html")
    assert len(names["written"]) == 300
    assert names["baseline"] < np.log2(names["size"])
    assert names["x"][0, 1:].tolist() == names["y"][0, :-1].tolist()


def test_translating_dates(quickly, capsys):
    names = quickly("o_translate_dates", "dates.html")
    assert names["first_guess"]("3 march 2026") == "2026-03-03"
    assert all(len(iso) == 10 for iso in names["written"])
    assert 0.3 < names["baseline"] < 0.8
    # What the decoder starts from is what the encoder ends with.
    trace = names["trace"]
    np.testing.assert_array_equal(
        trace["decoder"].initial["state_c"], trace["encoder"].arrays["state_c"]
    )
    assert "translated right" in capsys.readouterr().out
