"""Lint: every mistake is found, its remedy is not, and right models are left alone."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import insight_zoo
import quick_weights
import recurra
from recurra import insight, layers
from recurra.insight.linting import SEVERITIES, Finding
from recurra.insight.linting.data import padding_of, runs
from recurra.insight.linting.rules import RULES
from recurra.insight.structure import Node, Structure, Tensor

T, F, B = 6, 3, 4
L = layers


no_random_weights = quick_weights.no_random_weights


def series() -> Any:
    return keras.Input((T, F), name="series")


def words() -> Any:
    return keras.Input((T,), dtype="int32", name="words")


def sequential(*stack: Any, shape: tuple[int | None, ...] = (T, F), **options: Any) -> Any:
    return keras.Sequential([keras.Input(shape, name="series", **options), *stack])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape or (B, T, F)).astype("float32")


def padded(value: float = 0.0, *, front: bool = False) -> np.ndarray:
    x = numbers()
    x[1, 4:], x[3, 2:] = value, value
    return x[:, ::-1].copy() if front else x


# --- What every rule finds, and what it does not: (code, model with the mistake, without) ---

Made = Callable[[], Any]
CASES: dict[str, list[tuple[Made, Made]]] = {}
"""For every code pairs of functions; each returns a model or (model, x) or (model, x, y)."""


def case(code: str) -> Callable[[Callable[[bool], Any]], Callable[[bool], Any]]:
    """A function of whether the mistake is made."""

    def keep(function: Callable[[bool], Any]) -> Callable[[bool], Any]:
        CASES.setdefault(code, []).append(
            (functools.partial(function, True), functools.partial(function, False))
        )
        return function

    return keep


@case("R101")
def stacked_without_sequences(wrong: bool) -> Any:
    lower = L.LSTM(4, return_sequences=not wrong, name="lower")
    return keras.Sequential([lower, L.Dropout(0.1), L.LSTM(4, name="upper"), L.Dense(1)])


@case("R101")
def bidirectional_without_sequences(wrong: bool) -> Any:
    return keras.Sequential(
        [L.Bidirectional(L.GRU(4, return_sequences=not wrong), name="lower"), L.GRU(4)]
    )


@case("R102")
def one_step(wrong: bool) -> Any:
    return sequential(L.LSTM(4), L.Dense(1), shape=(1, 60) if wrong else (60, 1))


@case("R102")
def one_step_with_a_state(wrong: bool) -> Any:
    x, h = keras.Input((1, F)), keras.Input((4,))
    y, state = L.GRU(4, return_state=True)(x, initial_state=None if wrong else h)
    return keras.Model([x] if wrong else [x, h], [y] if wrong else [y, state])


@case("R103")
def attention_over_nothing(wrong: bool) -> Any:
    x = series()
    y = L.LSTM(4, return_sequences=not wrong)(x)
    return keras.Model(x, L.MultiHeadAttention(2, 3)(y, y))


@case("R104")
def directions_by_hand(wrong: bool) -> Any:
    x = series()
    there = L.LSTM(4, return_sequences=True)(x)
    back = L.Dense(4)(L.LSTM(4, return_sequences=True, go_backwards=True, name="back")(x))
    return keras.Model(x, L.Add()([there, back if wrong else ops.flip(back, axis=1)]))


@case("R105")
def backwards_output(wrong: bool) -> Any:
    return sequential(L.LSTM(4, return_sequences=True, go_backwards=wrong), L.Dense(1))


@case("R106")
def last_step_of_both(wrong: bool) -> Any:
    x = series()
    both = L.Bidirectional(L.LSTM(4, return_sequences=wrong))(x)
    return keras.Model(x, L.Dense(1)(both[:, -1] if wrong else both))


@case("R106")
def last_step_of_one(wrong: bool) -> Any:
    x = series()
    y = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(
        x, (L.Bidirectional(L.LSTM(4, return_sequences=True))(x) if wrong else y)[:, -1, :]
    )


@case("R201")
def convolution_in_between(wrong: bool) -> Any:
    x = words()
    embedding = L.Embedding(9, 4, mask_zero=True, name="embedding")
    y = L.Conv1D(4, 3, padding="same", name="convolution")(embedding(x))
    return keras.Model(x, L.LSTM(4)(y, mask=None if wrong else embedding.compute_mask(x)))


@case("R201")
def plain_operation_in_between(wrong: bool) -> Any:
    x = series()
    y = L.Masking()(x)
    y = y + 1.0 if wrong else L.Rescaling(1.0, 1.0)(y)
    return keras.Model(x, L.Bidirectional(L.GRU(4))(L.Dropout(0.1)(y)))


@case("R202")
def states_without_mask(wrong: bool) -> Any:
    x, h = series(), keras.Input((4,))
    kept = L.Masking(name="masking")(x)
    mask = None if wrong else L.Masking().compute_mask(x)
    return keras.Model([x, h], L.GRU(4)(kept, initial_state=h, mask=mask))


@case("R203")
def decoder_without_mask(wrong: bool) -> Any:
    source, target = (keras.Input((T,), dtype="int32", name=name) for name in ("a", "b"))
    embedding = L.Embedding(9, 4, mask_zero=True)
    h = L.GRU(4)(embedding(source))
    mask = None if wrong else embedding.compute_mask(target)
    y = L.GRU(4, return_sequences=True)(embedding(target), initial_state=h, mask=mask)
    return keras.Model([source, target], L.Dense(9)(y))


@case("R204")
def pooled_with_padding(wrong: bool) -> Any:
    pooling = L.GlobalMaxPooling1D if wrong else L.GlobalAveragePooling1D
    return sequential(L.Masking(), L.LSTM(4, return_sequences=True), pooling(), L.Dense(1))


@case("R204")
def flattened_with_padding(wrong: bool) -> Any:
    start = L.Masking() if wrong else L.Dropout(0.1)
    return sequential(start, L.LSTM(4, return_sequences=True), L.Flatten(), L.Dense(1))


@case("R204")
def mean_with_padding(wrong: bool) -> Any:
    x = series()
    y = L.LSTM(4, return_sequences=True)(L.Masking()(x))
    return keras.Model(x, ops.mean(y, axis=1 if wrong else 2))


@case("R205")
def labels_without_mask(wrong: bool) -> Any:
    between = L.Conv1D(4, 3, padding="same") if wrong else L.LayerNormalization()
    return sequential(L.Masking(), L.LSTM(4, return_sequences=True), between, L.Dense(2))


@case("R206")
def padding_without_mask(wrong: bool) -> Any:
    first = [] if wrong else [L.Masking()]
    return sequential(*first, L.Dense(4), L.LSTM(4), L.Dense(1)), padded()


@case("R206")
def no_padding(wrong: bool) -> Any:
    x = padded() if wrong else numbers()
    x[2, 3] = 0 if not wrong else x[2, 3]  # a real step of zeros
    return sequential(L.LSTM(4), L.Dense(1)), x


@case("R206")
def padded_words(wrong: bool) -> Any:
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 1, 0, 0, 0, 0], [1, 1, 2, 3, 4, 5]])
    stack = [L.Embedding(9, 4, mask_zero=not wrong), L.LSTM(4)]
    return sequential(*stack, shape=(T,), dtype="int32"), x


@case("R206")
def padded_in_front_by_another_value(wrong: bool) -> Any:
    first = [] if wrong else [L.Masking(mask_value=-1.0)]
    x = np.abs(padded()) + 0.1
    x[1, 4:], x[3, 2:] = -1.0, -1.0
    return sequential(*first, L.Bidirectional(L.GRU(4))), x[:, ::-1]


@case("R207")
def masking_for_another_value(wrong: bool) -> Any:
    return sequential(L.Masking(-1.0 if wrong else 0.0), L.LSTM(4)), padded()


@case("R208")
def zeros_in_between(wrong: bool) -> Any:
    x = padded()
    x[2, 3] = 0 if wrong else x[2, 3]
    return sequential(L.Masking(), L.LSTM(4)), x


def translator(arrange: Callable[..., Any], **options: Any) -> Any:
    x, y = series(), keras.Input((None, F), name="target")
    _, h, c = L.LSTM(4, return_state=True, name="encoder")(x)
    states = arrange(L.Dropout(0.1)(h), c)
    return keras.Model([x, y], L.LSTM(4, name="decoder", **options)(y, initial_state=states))


@case("R301")
def swapped_states(wrong: bool) -> Any:
    return translator(lambda h, c: [c, h] if wrong else [h, c])


def both_ways(arrange: Callable[..., Any], decoder: Any) -> Any:
    x, y = series(), keras.Input((None, F), name="target")
    _, *states = L.Bidirectional(L.LSTM(4, return_state=True), name="encoder")(x)
    return keras.Model([x, y], decoder(y, initial_state=arrange(*states)))


@case("R302")
def two_of_four_states(wrong: bool) -> Any:
    join = L.Concatenate()
    if wrong:
        return both_ways(lambda fh, fc, bh, bc: [fh, bh], L.LSTM(4, name="decoder"))
    return both_ways(lambda fh, fc, bh, bc: [join([fh, bh]), join([fc, bc])], L.LSTM(8))


@case("R302")
def joined_by_direction(wrong: bool) -> Any:
    join = L.Concatenate()
    if wrong:
        return both_ways(lambda fh, fc, bh, bc: [join([fh, fc]), join([bh, bc])], L.LSTM(8))
    return both_ways(lambda fh, fc, bh, bc: [fh, fc], L.LSTM(4))


@case("R302")
def bidirectional_decoder(wrong: bool) -> Any:
    return both_ways(
        lambda fh, fc, bh, bc: [fh, bh, fc, bc] if wrong else [fh, fc, bh, bc],
        L.Bidirectional(L.LSTM(4)),
    )


@case("R302")
def directions_swapped(wrong: bool) -> Any:
    return both_ways(
        lambda fh, fc, bh, bc: [bh, bc, fh, fc] if wrong else [fh, fc, bh, bc],
        L.Bidirectional(L.LSTM(4)),
    )


@case("R302")
def directions_as_hidden_and_cell_state(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    _, forward, backward = L.Bidirectional(L.GRU(4, return_state=True))(x)
    states = [forward, backward] if wrong else [forward, forward]
    return keras.Model([x, y], L.LSTM(4)(y, initial_state=states))


@case("R303")
def hidden_state_twice(wrong: bool) -> Any:
    return translator(lambda h, c: [h, h] if wrong else [h, c])


@case("R303")
def cell_state_for_a_gru(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    _, h, c = L.LSTM(4, return_state=True)(x)
    return keras.Model([x, y], L.GRU(4)(y, initial_state=c if wrong else h))


@case("R303")
def states_of_a_gru_for_an_lstm(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    encoder = L.LSTM(4, return_state=True) if wrong else L.GRU(4, return_state=True)
    _, h, *_ = encoder(x)
    return keras.Model([x, y], L.LSTM(4)(y, initial_state=[h, h]))


@case("R304")
def states_for_nothing(wrong: bool) -> Any:
    x, y = series(), keras.Input((None, F))
    summary, h, c = L.LSTM(4, return_state=True)(x)
    decoded, *_ = L.LSTM(4, return_state=True)(y, initial_state=None if wrong else [h, c])
    return keras.Model([x, y], L.Concatenate()([summary, decoded]))


@case("R305")
def keeps_states(wrong: bool) -> Any:
    x = keras.Input(batch_shape=(B, T, F))
    return keras.Model(x, L.LSTM(4, stateful=wrong)(x))


@case("R306")
def keeps_states_of_the_end(wrong: bool) -> Any:
    x = keras.Input(batch_shape=(B, T, F))
    layer = L.LSTM(4, stateful=True)
    return keras.Model(x, (L.Bidirectional(layer) if wrong else layer)(x))


@case("R307")
def keeps_states_of_two(wrong: bool) -> Any:
    a, b = (keras.Input(batch_shape=(B, T, F)) for _ in "ab")
    one = L.LSTM(4, stateful=True)
    other = one if wrong else L.LSTM(4, stateful=True)
    return keras.Model([a, b], L.Add()([one(a), other(b)]))


@case("R401")
def forgotten_input(wrong: bool) -> Any:
    a, b = keras.Input((T, F), name="a"), keras.Input((T, F), name="b")
    y = L.LSTM(4)(a)
    return keras.Model([a, b], y if wrong else L.Add()([y, L.LSTM(4)(b)]))


@case("R402")
def softmax_of_one(wrong: bool) -> Any:
    return sequential(L.LSTM(4), L.Dense(1, activation="softmax" if wrong else "sigmoid"))


@case("R402")
def softmax_of_one_by_itself(wrong: bool) -> Any:
    return sequential(L.LSTM(4), L.Dense(1 if wrong else 2), L.Activation("softmax"))


@case("R403")
def one_unit(wrong: bool) -> Any:
    return sequential(L.LSTM(4, return_sequences=True), L.LSTM(1 if wrong else 2))


@case("R403")
def one_unit_without_bounds(wrong: bool) -> Any:
    return sequential(L.SimpleRNN(1, activation="tanh" if wrong else "linear"))


@case("R404")
def no_bounds(wrong: bool) -> Any:
    layer = L.GRU if wrong else L.SimpleRNN
    return sequential(L.Bidirectional(layer(4, activation="relu")), L.Dense(1))


@case("R405")
def a_prediction_per_step(wrong: bool) -> Any:
    model = sequential(L.LSTM(4, return_sequences=wrong), L.Dense(1))
    return model, numbers(), numbers(B, 1)


@case("R405")
def a_target_per_step(wrong: bool) -> Any:
    model = sequential(L.LSTM(4, return_sequences=not wrong), L.Dense(1))
    return model, numbers(), numbers(B, T, 1)


@case("R405")
def classes_per_step(wrong: bool) -> Any:
    model = sequential(L.LSTM(4, return_sequences=True), L.Dense(5, activation="softmax"))
    return model, numbers(), np.zeros((B,) if wrong else (B, T), int)


@case("R501")
def no_features(wrong: bool) -> Any:
    return sequential(L.LSTM(4), shape=(T, 1)), numbers(B, T) if wrong else numbers(B, T, 1)


@case("R501")
def swapped_axes(wrong: bool) -> Any:
    return sequential(L.LSTM(4)), numbers(B, F, T) if wrong else numbers()


@case("R502")
def nan(wrong: bool) -> Any:
    x = numbers()
    x[1, 2, 0] = np.nan if wrong else 0
    return sequential(L.LSTM(4)), x


@case("R503")
def prices(wrong: bool) -> Any:
    first = [] if wrong else [L.Normalization(mean=[1e3] * F, variance=[1e6] * F)]
    return sequential(*first, L.LSTM(4)), 1000 * (numbers() + 5)


@case("R504")
def words_too_many(wrong: bool) -> Any:
    x = np.random.default_rng(0).integers(1, 9, (B, T))
    x[0, 0] = 9 if wrong else 8
    return sequential(L.Embedding(9, 4), L.LSTM(4), shape=(T,), dtype="int32"), x


@case("R505")
def an_incomplete_batch(wrong: bool) -> Any:
    x = keras.Input(batch_shape=(2, T, F))
    return keras.Model(x, L.LSTM(4, stateful=True)(x)), numbers(3 if wrong else 4, T, F)


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
