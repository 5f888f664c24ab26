"""`recurra explain`: models from files, without Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import insight_zoo
import quick_weights
import recurra
from command_line import call, in_terminal, start

no_random_weights = quick_weights.no_random_weights


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder of models and tables."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("forecaster", "masked_classifier", "backwards", "custom_cell"):
        insight_zoo.made(name).model.save(folder / f"{name}.keras")
    rows = np.random.default_rng(0).normal(size=(40, 3)).round(2)
    rows[7:10], rows[25:30] = 0, 0
    lines = [f"{'abcd'[i // 10]},{','.join(map(str, row))}" for i, row in enumerate(rows)]
    (folder / "padded.csv").write_text("\n".join(["shop,x,y,z", *lines, ""]))
    return folder


def test_text_json_and_page_say_what_python_does(models, tmp_path):
    path = models / "masked_classifier.keras"
    explanation = recurra.explain(str(path))
    assert call("explain", path).stdout == explanation.text(80) + "\n"
    data = json.loads(call("explain", path, "--json").stdout)
    assert data == json.loads(json.dumps(explanation.to_dict()))
    out = tmp_path / "page.html"
    assert call("explain", path, "--html", out).stdout == ""
    page = out.read_text()
    assert page == explanation.html()
    assert "<svg" in page
    assert call("explain", path, "--html", "-").stdout == page
    assert list(tmp_path.iterdir()) == [out]


def test_one_layer_and_more_or_less_of_it(models):
    path = models / "masked_classifier.keras"
    normal = call("explain", path, "lstm").stdout
    assert normal.startswith("lstm   LSTM, 4 units: (B, T, 3) → (B, T, 4)")
    assert "One step" in normal
    assert "One step" not in call("explain", path, "lstm", "--brief").stdout
    full = call("explain", path, "--full").stdout
    assert "last   SimpleRNN, 3 units: (B, T, 4) → (B, 3)" in full
    result = call("explain", path, "lst", code=1)
    assert result.stderr.endswith("No recurrent layer 'lst'; there are lstm, last.\n")
    data = json.loads(call("explain", path, "last", "--json").stdout)
    assert data["class"] == "SimpleRNN"


def test_lint_lists_mistakes_and_its_exit_code_says_whether_there_are(models):
    path = models / "backwards.keras"
    lines = call("explain", path, "--lint", code=1).stdout.splitlines()
    findings = recurra.explain(str(path)).findings
    assert lines == [line for finding in findings for line in str(finding).splitlines()]
    data = json.loads(call("explain", path, "--lint", "--json", code=1).stdout)
    assert data["findings"] == [finding.to_dict() for finding in findings]
    clean = call("explain", models / "masked_classifier.keras", "--lint")
    assert clean.stdout == "No common mistakes.\n"


def test_a_table_with_padding_that_no_mask_leaves_out_is_a_mistake(models):
    table = ["--data", models / "padded.csv", "--columns", "x,y,z", "--by", "shop"]
    masked = call("explain", models / "masked_classifier.keras", "--lint", *table)
    assert masked.stdout == "No common mistakes.\n"
    bare = models / "forecaster.keras"
    assert call("explain", bare, "--lint").stdout == "No common mistakes.\n"
    assert "padd" in call("explain", bare, "--lint", *table, code=1).stdout
    windows = call("explain", bare, "--lint", *table[:4], "--window", 5, code=1).stdout
    assert "of 8 rows" in windows


def test_files_that_only_keras_can_run_are_explained_as_far_as_possible(models):
    text = call("explain", models / "custom_cell.keras").stdout
    assert "own" in text
    assert "LSTM, 2 units" in text


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--brief", "--full"], 2, "opposite things"),
        (["--json", "--html", "a.html"], 2, "leave one out"),
        (["--lint", "--html", "a.html"], 2, "--html writes the whole explanation"),
        (["--by", "shop"], 2, "give --data too"),
        (["--data", "none.csv"], 1, "none.csv: no such file"),
        (["--html", "no/such/folder/page.html"], 1, "page.html"),
    ],
)
def test_options_that_do_not_go_together_are_told(models, options, code, words):
    result = call("explain", models / "forecaster.keras", *options, code=code)
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_model_is_not_written_over(models):
    path = models / "forecaster.keras"
    before = path.read_bytes()
    assert "overwritten" in call("explain", path, "--html", path, code=1).stderr
    assert path.read_bytes() == before


def test_no_framework_is_loaded(models):
    program = (
        "import sys\n"
        f"sys.argv[1:] = ['explain', {str(models / 'backwards.keras')!r}, '--full']\n"
        "from recurra.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('keras', 'jax', 'torch', 'tensorflow') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == b"[]"


def test_a_terminal_gets_colours(models):
    text = in_terminal("explain", models / "forecaster.keras", columns=100)
    assert "\x1b[1;36mlstm" in text
    assert "The data's way" in text


def test_streams_without_our_signs_get_others(models):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = start("explain", models / "backwards.keras", env=environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    text = out.decode("ascii")
    assert "LSTM, 3 units <- masking; initial_state <- start" in text
    assert "?" not in text
