"""`recurra info`, `recurra export`, and the command line as a whole."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import recurra
from command_line import call, in_terminal, make_models, numbers
from recurra.cli import COMMANDS


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory)


def test_json_has_everything_a_program_wants_to_know(models):
    path = models / "steps.keras"
    facts = json.loads(call("info", path, "--json").stdout)
    runtime = recurra.load(path)
    assert facts["file"] == str(path)
    assert facts["file_bytes"] == path.stat().st_size
    assert facts["format"] == "Keras 3 (.keras)"
    assert facts["keras_version"].startswith("3.")
    assert facts["digest"] == runtime.digest
    (given,) = facts["inputs"]
    assert given["shape"] == [None, None, 3]
    assert given["dtype"] == "float32"
    assert [output["shape"] for output in facts["outputs"]] == [[None, None, 2]]
    assert [(layer["class"], layer["parameters"]) for layer in facts["layers"]] == [
        ("LSTM", 4 * 6 * (3 + 6 + 1)),
        ("Dense", 14),
    ]
    assert facts["parameters"] == 240 + 14
    assert facts["streams"] is True
    assert facts["reason"] is None
    assert facts["state_bytes"] == runtime.program().plan.state_bytes >= 2 * 6 * 4


def test_text_tells_shapes_by_name_and_why_a_model_does_not_stream(models):
    text = call("info", models / "both_sides.keras").stdout
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    assert lines["input"].endswith("(batch, time_steps, 3) float32")
    assert lines["streams"].startswith("no: Layer 'bidirectional")
    assert "its backward layer starts from the sequence's end" in lines["streams"]
    assert lines["format"].startswith("Keras 3 (.keras), Keras 3.")
    assert "Bidirectional  (batch, time_steps, 6)" in text
    assert not any(ord(character) > 127 or character == "\x1b" for character in text)


def test_a_terminal_gets_a_table(models):
    text = in_terminal("info", models / "steps.keras", columns=120)
    assert "┃ layer" in text.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "(batch, time_steps, 6)" in text


def test_old_files_say_so(models):
    facts = json.loads(call("info", models / "steps.h5", "--json").stdout)
    assert facts["format"] == "Keras HDF5 (.h5)"
    assert facts["parameters"] == 254


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("step.keras", "no such file; name a trained model. Did you mean"),
        ("notes.txt", "is not called as a model is; expected .keras, .h5"),
        ("-", "a model cannot be read from stdin"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(models, tmp_path, name, words):
    (tmp_path / "notes.txt").write_text("")
    path = {"step.keras": models / name, "notes.txt": tmp_path / name}.get(name, name)
    result = call("info", path, code=1)
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_export_writes_onnx_and_names_the_states(models, tmp_path):
    pytest.importorskip("onnx")
    out = tmp_path / "model.onnx"
    text = call("export", models / "steps.keras", out, "--stateful").stdout
    assert text.startswith(f"{out}: {out.stat().st_size:,} bytes, opset ")
    assert text.count("state: give ") == 2
    text = call("export", models / "steps.keras", out).stdout
    assert "state" not in text
    values = numbers(7)[None]
    expected = recurra.load(models / "steps.keras").predict(values)
    assert np.allclose(recurra.load(out).predict(values), expected, atol=1e-6)
    result = call("export", models / "both_sides.keras", out, "--stateful", code=1)
    assert "its backward layer starts from" in result.stderr
    assert "name the output model.onnx" in call("export", "a.keras", "b.keras", code=2).stderr


def test_export_without_onnx_says_what_to_install(models, tmp_path, monkeypatch):
    from recurra.runtime.onnx import package

    monkeypatch.setitem(sys.modules, "onnx", None)
    getattr(package.onnx, "cache_clear", lambda: None)()
    result = call("export", models / "steps.keras", tmp_path / "model.onnx", code=1)
    assert 'pip install "recurra[onnx]"' in result.stderr
    assert not list(tmp_path.iterdir())


def test_help_lists_every_command_and_each_has_its_own():
    text = call("--help").stdout
    assert all(f" {name} " in text for name in COMMANDS)
    for name in COMMANDS:
        assert f"recurra {name}" in call(name, "--help").stdout


def test_help_loads_no_framework_and_no_numpy():
    program = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from recurra.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('keras', 'jax', 'torch', 'tensorflow', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == b"[]"
