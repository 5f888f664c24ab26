"""Lint: every mistake is found, its remedy is not, and right models are left alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import insight_zoo
import lint_cases_more  # noqa: F401  (more CASES)
import quick_weights
import recurra
from lint_cases import CASES, B, F, Made, T, both_ways, numbers, padded, series
from recurra import insight
from recurra import layers as L
from recurra.insight.linting import SEVERITIES, Finding
from recurra.insight.linting.data import padding_of, runs
from recurra.insight.linting.rules import RULES
from recurra.insight.structure import Node, Structure, Tensor
from right_models import RIGHT

no_random_weights = quick_weights.no_random_weights


def linted(made: Made) -> list[Finding]:
    given = made()
    return insight.lint(*(given if isinstance(given, tuple) else (given,)))


@pytest.mark.parametrize(
    ("code", "wrong", "right"),
    [
        pytest.param(code, *pair, id=f"{code}-{pair[0].func.__name__}")
        for code, pairs in CASES.items()
        for pair in pairs
    ],
)
def test_a_mistake_is_found_and_its_remedy_is_not(code: str, wrong: Made, right: Made) -> None:
    found = [finding for finding in linted(wrong) if finding.code == code]
    assert found
    for text in (found[0].problem, found[0].why, found[0].advice):
        assert text[0].isupper() or text[0] == "'" or text[0].isdigit()
        assert text.endswith(".")
        assert "  " not in text
    assert code not in [finding.code for finding in linted(right)]


def test_every_rule_is_tried() -> None:
    assert set(CASES) == set(RULES)
    assert all(rule.severity in SEVERITIES for rule in RULES.values())


# --- Right models are left alone ---

# Models of the zoo that do what a rule is about, on purpose.
_MEANT = {
    "stateful": {"R305"},
    "backwards": {"R105", "R202", "R303"},
    "operations": {"R204"},
    "generator": {"R404"},
}


@pytest.mark.parametrize("library", ["recurra", "keras"])
@pytest.mark.parametrize("name", list(insight_zoo.MODELS))
def test_no_false_alarms(name: str, library: str) -> None:
    model, x = insight_zoo.MODELS[name](insight_zoo.LIBRARIES[library])
    assert {finding.code for finding in insight.lint(model, x)} == _MEANT.get(name, set())


@pytest.mark.parametrize("name", list(RIGHT))
def test_nothing_is_said_of_right_models(name: str) -> None:
    model, x = RIGHT[name]()
    assert [str(finding) for finding in insight.lint(model, x)] == []


# --- What a finding says ---


def test_words_and_places() -> None:
    (found,) = [f for f in linted(CASES["R201"][0][0]) if f.code == "R201"]
    assert "'embedding'" in found.problem
    assert "Conv1D 'convolution'" in found.problem
    assert "mask = embedding.compute_mask(x)" in found.advice
    lines = str(found).split("\n  ")
    assert lines[0].startswith(f"R201 warning in {found.where}: The mask")
    assert lines[1:] == [f"note: {found.why}", f"help: {found.advice}"]
    assert Finding(**found.to_dict()) == found
    (found,) = linted(CASES["R101"][0][0])
    assert found.where == "upper"
    assert "LSTM(4, return_sequences=True)" in found.advice
    (found,) = linted(CASES["R301"][0][0])
    assert "starts from state_c of 'encoder', state_h of 'encoder'" in found.problem
    assert "initial_state=[state_h, state_c]" in found.advice


def test_states_in_the_wrong_order_are_told_once() -> None:
    found = linted(CASES["R301"][-1][0])
    assert [finding.code for finding in found] == ["R301"]
    (found_once,) = linted(CASES["R301"][-2][0])
    assert "state_c of 'encoder', output of 'encoder'" in found_once.problem


def test_padding_behind_a_convolution_is_told_of_with_what_helps_there() -> None:
    (found,) = linted(CASES["R206"][-2][0])
    assert "Convolutions and pooling hand no masks on" in found.advice
    assert "(B, 2, 4)" in found.advice


def test_one_mistake_in_the_order_of_states_is_told_once() -> None:
    join = L.Concatenate()

    def codes(arrange: Callable[..., Any]) -> list[str]:
        found = insight.lint(both_ways(arrange, L.LSTM(8)))
        return [each.code for each in found if each.code.startswith("R30")]

    assert codes(lambda fh, fc, bh, bc: [join([fc, bc]), join([fh, bh])]) == ["R301"]
    assert codes(lambda fh, fc, bh, bc: [join([fc, bc]), join([fh, fh])]) == ["R302"]
    assert codes(lambda fh, fc, bh, bc: [join([fh, bh]), join([fc, bc])]) == []


def test_a_single_step_made_by_the_model_is_not_the_datas_fault() -> None:
    stack = [L.LSTM(3), L.RepeatVector(1, name="repeat"), L.LSTM(3, name="decoder")]
    (found,) = insight.lint(keras.Sequential([keras.Input((T, F)), *stack]))
    assert (found.code, found.where) == ("R102", "decoder")
    assert "Let 'repeat' give as many steps" in found.advice
    assert "axis 1" not in found.advice


def test_errors_come_first_then_the_order_of_the_calls() -> None:
    x = keras.Input((1, F))
    y = L.LSTM(3, name="first", activation="relu")(x)
    y = L.LSTM(3, name="second", return_state=True)(L.RepeatVector(1)(y))[0]
    found = insight.lint(keras.Model(x, L.Dense(1, "softmax", name="third")(y)))
    assert [(f.code, f.where) for f in found] == [
        ("R402", "third"),
        ("R102", "first"),
        ("R102", "second"),
        ("R404", "first"),
        ("R304", "second"),
    ]


def test_files_and_runtimes(tmp_path: Path) -> None:
    model = CASES["R201"][0][0]()
    path = tmp_path / "model.keras"
    model.save(path)
    expected = [f.code for f in insight.lint(model)]
    assert expected == ["R201"]
    assert [f.code for f in insight.lint(path)] == expected
    assert [f.code for f in insight.lint(recurra.load(path))] == expected


def test_masks_that_a_saved_model_does_not_make(tmp_path: Path) -> None:
    """Recurra's TimeDistributed hands on the mask; it is saved as Keras's, which does not."""
    stack = [L.TimeDistributed(L.Embedding(9, 4, mask_zero=True)), L.TimeDistributed(L.GRU(4))]
    model = keras.Sequential([keras.Input((3, T), dtype="int32"), *stack])
    assert insight.lint(model) == []
    model.save(tmp_path / "model.keras")
    assert [f.code for f in insight.lint(tmp_path / "model.keras")] == ["R210"]


def test_no_targets_of_a_runtime_are_missed(tmp_path: Path) -> None:
    """What only matters in training isn't told of what cannot be trained."""
    model = CASES["R205"][0][0]()
    path = tmp_path / "model.keras"
    model.save(path)
    assert "R205" in [f.code for f in insight.lint(model)]
    assert insight.lint(recurra.load(path)) == []


def test_parts_of_models_may_return_states_for_nothing() -> None:
    x, y = series(), series()
    encoder = keras.Model(x, L.LSTM(4, return_state=True)(x), name="encoder")
    assert insight.lint(keras.Model(y, L.Dense(1)(encoder(y)[0]))) == []


def test_a_structure_by_hand() -> None:
    tensors = (Tensor(0, "x", (None, 5)), Tensor(1, "softmax", (None, 1)), Tensor(2, "y", None))
    nodes = (
        Node("softmax", "Dense", (0,), (1,), config={"activation": "softmax"}),
        Node("inside", "LSTM", (), ()),
    )
    structure = Structure("m", "Model", tensors, nodes, (0, 2), (1,), gaps=("Not followed.",))
    assert [finding.code for finding in insight.lint(structure)] == ["R402"]


# --- Data ---


def test_data_by_name_and_in_order() -> None:
    a, b = keras.Input((T, F), name="a"), keras.Input((T,), name="b")
    model = keras.Model([a, b], L.Concatenate()([L.LSTM(2)(a), b]))
    bad = np.full((B, T, F), np.nan, "float32")
    for x in ([bad, numbers(B, T)], {"a": bad, "b": numbers(B, T)}):
        (found,) = insight.lint(model, x)
        assert found.code == "R502"
        assert "'a'" in found.problem
    with pytest.raises(ValueError, match=r"x is 1 array; the model has 2.*'a', 'b'"):
        insight.lint(model, bad)
    with pytest.raises(ValueError, match="an array for 'aa'.*Did you mean 'a'"):
        insight.lint(model, {"aa": bad})
    with pytest.raises(ValueError, match=r"rows of different lengths.*pad_sequences"):
        insight.lint(model, [[[1.0, 2.0], [1.0]], numbers(B, T)])


@pytest.mark.parametrize("kind", [object, str, bytes])
def test_texts_are_data_like_any_other(kind: type) -> None:
    texts = np.array(["a b", "c"], kind)
    assert insight.lint(keras.Sequential([keras.Input((T, F)), L.LSTM(4)]), texts) == []
    a, b = keras.Input((T, F), name="a"), keras.Input((1,), name="b")
    model = keras.Model([a, b], L.Concatenate()([L.LSTM(2)(a), b]))
    found = insight.lint(model, [np.full((2, T, F), np.nan), texts], texts)
    assert [finding.code for finding in found] == ["R502"]


def test_data_without_steps_or_rows() -> None:
    model = keras.Sequential([keras.Input((None, F)), L.Masking(), L.LSTM(4)])
    assert insight.lint(model, np.zeros((2, 0, F))) == []
    assert insight.lint(model, np.zeros((0, T, F))) == []
    words = keras.Sequential(
        [keras.Input((None,), dtype="int32"), L.Embedding(9, 2, mask_zero=True), L.LSTM(4)]
    )
    assert insight.lint(words, np.zeros((2, 0), int)) == []


def test_the_side_of_the_padding_counts() -> None:
    model = CASES["R203"][0][0]()
    end = np.array([[1, 2, 3, 0, 0, 0], [4, 1, 0, 0, 0, 0], [1, 1, 2, 3, 4, 5]])
    assert [f.code for f in insight.lint(model)] == ["R203"]
    assert insight.lint(model, [end, end]) == []
    assert [f.code for f in insight.lint(model, [end, end[:, ::-1]])] == ["R203"]


def test_runs() -> None:
    same = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0], [1] * 6, [0, 0, 1, 0, 1, 1]], bool)
    assert [list(each) for each in runs(same)] == [[2, 0, 0, 0], [1, 0, 6, 2], [1, 0, 0, 1]]


def test_padding_is_told_from_data() -> None:
    found = padding_of(padded(front=True))
    assert found is not None
    assert (found.value, found.at_end, list(found.lengths)) == (0.0, False, [0, 2, 0, 4])
    rain = np.where(numbers(50, 30, 1) > 1, 1.0, 0.0)  # zeros everywhere, at the ends too
    assert padding_of(rain) is None
    one_length = numbers()
    one_length[:, 4:] = 0
    assert padding_of(one_length) is None
    assert padding_of(numbers()) is None
    assert padding_of(np.zeros((B, T, F))) is None


# --- The page ---


def test_the_page_of_the_rules_is_up_to_date() -> None:
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location("list_rules", root / "tools" / "list_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (root / "docs" / "lint.md").read_text("utf-8")
    assert page == module.page(), "python tools/list_rules.py"
