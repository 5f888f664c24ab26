"""What a loaded model may be called with, what it gives, and what it says to what does not fit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import recurra
import runtime_zoo as zoo
from recurra.runtime import ModelFileError, UnsupportedLayerError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def saved(folder: Path, model: Any, name: str) -> Path:
    path = folder / f"{name}.keras"
    if not path.exists():
        model.save(path)
    return path


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    """(batch, time_steps, 3) -> (batch, 2), which streams."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 3), name="x"), layers.GRU(4), layers.Dense(2)])
    return recurra.load(saved(folder, model, "plain"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Any:
    """(batch, time_steps, 3) -> (batch, time_steps, 8), which does not stream."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.Dense(8),
        ]
    )
    return recurra.load(saved(folder, model, "whole"))


@pytest.fixture(scope="module")
def several(folder: Path) -> Any:
    """The inputs place, series and word in a dict; the outputs kind and level."""
    keras.utils.set_random_seed(0)
    return recurra.load(saved(folder, zoo.many_inputs_and_outputs(keras.layers)[0], "several"))


@pytest.mark.parametrize("kind", ["plain", "whole"])
def test_rows_do_not_depend_on_their_batch(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    x = np.random.default_rng(0).normal(size=(23, 6, 3)).astype("float32")
    wanted = model.predict(x)
    for batch_size in (1, 4, 23, 100):
        np.testing.assert_array_equal(model.predict(x, batch_size=batch_size), wanted)
    np.testing.assert_array_equal(model.predict(x[7:8]), wanted[7:8])
    assert model.predict(x[:0]).shape == (0, *wanted.shape[1:])
    assert model.predict(x[:0]).dtype == np.float32


def test_numbers_of_any_kind_are_taken(plain: Any) -> None:
    x = np.random.default_rng(0).integers(-3, 3, (2, 5, 3))
    wanted = plain.predict(x.astype("float32"))
    for given in (x, x.astype("float64"), x.astype("int8"), x.tolist(), [x], {"x": x}, x[:, ::1]):
        np.testing.assert_array_equal(plain.predict(given), wanted)
    np.testing.assert_array_equal(plain.predict(np.asfortranarray(x)), wanted)


@pytest.mark.parametrize("kind", ["plain", "whole"])
def test_views_of_any_layout_are_taken(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    wide = np.random.default_rng(0).normal(size=(9, 8, 6)).astype("float32")
    windows = np.lib.stride_tricks.sliding_window_view(wide[0, :, :3], 5, axis=0).swapaxes(1, 2)
    for view in (windows, wide[..., ::2], wide[::-1, ::2, 3:], wide.transpose(1, 0, 2)[..., :3]):
        assert not view.flags.c_contiguous
        np.testing.assert_array_equal(model.predict(view), model.predict(view.copy()))


def test_a_mask_is_that_of_a_masked_model(folder: Path) -> None:
    x = zoo.padded(7, 3)
    mask = (x != 0).any(-1)
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.LSTM(3, return_sequences=True), layers.GRU(2)]
    )
    masked = keras.Sequential([keras.Input((None, 3)), layers.Masking(), *model.layers])
    with_layer = recurra.load(saved(folder, masked, "masked")).predict(x)
    without = recurra.load(saved(folder, model, "unmasked"))
    np.testing.assert_allclose(without.predict(x, mask=mask), with_layer, atol=1e-6)
    np.testing.assert_allclose(without.predict(x, mask=mask.astype(int)), with_layer, atol=1e-6)
    assert np.abs(without.predict(x) - with_layer).max() > 1e-3
    with pytest.raises(ValueError, match=r"shape \(7, 6\); expected \(6, 7\).*mask\.T"):
        without.predict(x, mask=mask.T)
    with pytest.raises(ValueError, match="other than 0 and 1"):
        without.predict(x, mask=mask * 0.5)


def test_several_inputs_are_a_dict_or_a_list(several: Any) -> None:
    x = zoo.many_inputs_and_outputs(keras.layers)[1]
    wanted = several.predict(x)
    assert list(wanted) == ["level", "kind"]
    listed = several.predict([x["place"], x["series"], x["word"]])
    for name in wanted:
        np.testing.assert_array_equal(listed[name], wanted[name])
    assert [spec.name for spec in several.inputs] == ["place", "series", "word"]
    assert [spec.dtype for spec in several.inputs] == ["float32", "float32", "int32"]
    assert [spec.name for spec in several.outputs] == ["kind", "level"]
    assert repr(several.inputs[1]) == "<series: (batch, 7, 3), float32>"
    mask = np.ones((6, 7), bool)
    mask[:, 3:] = False
    shorter = several.predict(x, mask={"series": mask})
    assert np.abs(shorter["kind"] - wanted["kind"]).max() > 1e-4
    # Keras gives a layer with an initial state no mask but the one in its call.
    np.testing.assert_array_equal(shorter["level"], wanted["level"])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5, 4)), r"takes \(batch, time_steps, 3\); got shape \(2, 5, 4\).*3 features"),
        (np.zeros((5, 3)), r"For one row, add the batch: x\[np.newaxis\]"),
        (np.zeros((2, 3, 5)), "axes look swapped"),
        (np.zeros((2, 3)), "add the batch"),
        (np.zeros((2, 5, 3, 1, 1)), "It needs 3 axes, and has 5"),
        ([[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], "different lengths.*mask="),
        ({"y": np.zeros((2, 5, 3))}, r"keys 'y'; expected 'x'"),
    ],
)
def test_wrong_shapes_are_explained(plain: Any, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain.predict(x)


@pytest.mark.parametrize("x", [np.array([["a", "b"]]), np.zeros((2, 5, 3), complex)])
def test_what_is_no_number_is_refused(plain: Any, x: Any) -> None:
    with pytest.raises(TypeError, match="expected numbers"):
        plain.predict(x)


def test_wrong_numbers_of_inputs_are_explained(several: Any) -> None:
    x = zoo.many_inputs_and_outputs(keras.layers)[1]
    with pytest.raises(TypeError, match="3 inputs; pass a list in the order 'place', 'series'"):
        several.predict(x["series"])
    with pytest.raises(ValueError, match="has 2 arrays, and the model has 3 inputs"):
        several.predict([x["place"], x["series"]])
    with pytest.raises(ValueError, match="keys 'place', 'series'; expected 'place', 'series', 'w"):
        several.predict({"place": x["place"], "series": x["series"]})
    with pytest.raises(ValueError, match="'place' has 6, 'series' has 5, 'word' has 6"):
        several.predict({**x, "series": x["series"][:5]})
    with pytest.raises(ValueError, match="exactly 7 time steps"):
        several.predict({**x, "series": x["series"][:, :4]})
    with pytest.raises(ValueError, match="batch_size=0"):
        several.predict(x, batch_size=0)
    with pytest.raises(ValueError, match="no time steps"):
        several.predict(x, mask={"place": np.ones((6, 2), bool)})


def test_inputs_may_differ_in_length_where_the_model_lets_them(folder: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((None, 3), name=name) for name in ("a", "b")]
    apart = keras.Model(inputs, layers.Concatenate()([layers.GRU(2)(x) for x in inputs]))
    model = recurra.load(saved(folder, apart, "apart"))
    x = [zoo.numbers(7, 3), zoo.numbers(5, 3)]
    np.testing.assert_allclose(model.predict(x), apart.predict(x, verbose=0), atol=1e-5)
    assert model.open().step(x[0][0, 0], x[1][0, 0]).shape == (4,)
    together = keras.Model(inputs, layers.GRU(2)(layers.Add()(inputs)))
    model = recurra.load(saved(folder, together, "together"))
    with pytest.raises(ValueError, match=r"'add.*\(6, 7, 3\), \(6, 5, 3\)"):
        model.predict(x)


def test_indices_outside_of_the_table_are_named(folder: Path) -> None:
    model = keras.Sequential([layers.Embedding(5, 2), layers.Bidirectional(layers.GRU(2))])
    model.build((None, 4))
    loaded = recurra.load(saved(folder, model, "embedding"))
    assert loaded.inputs[0].dtype == "int32"
    assert loaded.predict([[0, 1, 2, 4]]).shape == (1, 4)
    assert loaded.predict(np.array([[0.0, 1, 2, 4]])).shape == (1, 4)
    with pytest.raises(ValueError, match=r"\(Embedding\) got index 5.*expected 0 to 4"):
        loaded.predict([[0, 5, 2, 4]])
    with pytest.raises(ValueError, match="beyond 32 bits"):
        loaded.predict([[0, 2**40, 2, 4]])
    with pytest.raises(ValueError, match="not finite"):
        loaded.predict(np.array([[0, np.nan, 2, 4]]))


def test_threads_may_share_a_model(whole: Any) -> None:
    xs = [np.random.default_rng(i).normal(size=(9, 5, 3)) for i in range(8)]
    wanted = [whole.predict(x) for x in xs]
    made: list[Any] = [None] * len(xs)

    def work(index: int) -> None:
        made[index] = whole.predict(xs[index], batch_size=2)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, two in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(one, two)


def test_progress_is_shown_on_stderr(whole: Any, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.zeros((10, 5, 3))
    np.testing.assert_array_equal(
        whole.predict(x, batch_size=3, progress=True), whole.predict(x, batch_size=3)
    )
    shown = capsys.readouterr()
    assert "predict" in shown.err
    assert shown.out == ""


def test_the_summary_names_layers_and_says_whether_it_streams(
    plain: Any, whole: Any, several: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plain.summary()
    text = capsys.readouterr().out
    assert "(batch, time_steps, 3)" in text
    assert "Parameters: 118 (472 bytes)" in text
    assert "Streams: yes" in text
    lines: list[str] = []
    whole.summary(lines.append)
    assert "Streams: no. Layer 'bidirectional" in lines[0]
    several.summary(lines.append)
    gru = next(line for line in lines[1].splitlines() if " GRU " in line)
    assert gru.endswith("series, initial_state=add") or "initial_state=add" in gru
    assert "[1]" in next(line for line in lines[1].splitlines() if line.startswith("level"))


def test_equal_models_have_equal_digests(folder: Path, plain: Any) -> None:
    again = recurra.load(folder / "plain.keras")
    assert again.digest == plain.digest
    assert len(plain.digest) == 64


# --- What the runtime has no code for ---


@keras.saving.register_keras_serializable("tests")
class Scale(keras.layers.Layer):
    """x · weight · factor."""

    def __init__(self, factor: float = 2.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.factor = factor
        self.supports_masking = True

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="w")
        self.built = True

    def call(self, x: Any) -> Any:
        return x * self.weight * self.factor

    def get_config(self) -> Any:
        return {**super().get_config(), "factor": self.factor}


def scale(x: Any, *, config: Any, weights: Any, mask: Any = None) -> Any:
    (weight,) = weights.values()
    return x * weight * config["factor"]


@pytest.fixture(scope="module")
def with_custom(folder: Path) -> Any:
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    inner_x = keras.Input((None, 3))
    inner = keras.Model(
        inner_x, Scale(3.0, name="scaled")(layers.Dense(3)(inner_x)), name="decoder"
    )
    y = layers.GRU(2)(inner(layers.Masking()(x)))
    y = layers.Lambda(lambda v: v * 2 + 1, name="twice", output_shape=(2,))(y)
    model = keras.Model(x, layers.Activation("tanh")(y))
    for ending in ("keras", "h5"):
        model.save(folder / f"custom.{ending}")
    x = zoo.padded(7, 3)
    return x, model.predict(x, verbose=0)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_functions_of_the_users_run(with_custom: Any, folder: Path, ending: str) -> None:
    x, wanted = with_custom
    model = recurra.load(
        folder / f"custom.{ending}",
        custom={"Scale": scale, "twice": lambda v, config, weights: v * 2 + 1},
    )
    np.testing.assert_allclose(model.predict(x), wanted, atol=1e-5)
    assert model.predict(x).dtype == np.float32


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_functions_of_the_users_run_in_wrappers(folder: Path, ending: str) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.TimeDistributed(Scale(name="inner")), layers.GRU(2)]
    )
    x = zoo.numbers(7, 3)
    wanted = model.predict(x, verbose=0)  # which builds the model
    path = folder / f"wrapped.{ending}"
    model.save(path)
    for name in ("Scale", "inner"):
        loaded = recurra.load(path, custom={name: scale})
        np.testing.assert_allclose(loaded.predict(x), wanted, atol=1e-5)


@keras.saving.register_keras_serializable("tests")
def crooked(x: Any) -> Any:
    return keras.ops.sign(x) * x * x


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_functions_of_the_users_are_activations(folder: Path, ending: str) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.GRU(3, activation=crooked),
            layers.Dense(2, activation=lambda x: x * 2, name="doubled"),
        ]
    )
    path = folder / f"activations.{ending}"
    model.save(path)
    with pytest.raises(UnsupportedLayerError, match=r"'tests>crooked'.*\{'crooked': function\}"):
        recurra.load(path)
    own: dict[str, Any] = {"crooked": lambda x: np.sign(x) * x * x}
    with pytest.raises(UnsupportedLayerError, match=r"is a lambda.*\{\"doubled/activation\": func"):
        recurra.load(path, custom=own)
    loaded = recurra.load(path, custom={**own, "doubled/activation": lambda x: 2 * x})
    x = zoo.numbers(7, 3)
    np.testing.assert_allclose(loaded.predict(x), model.predict(x, verbose=0), atol=1e-5)


def test_functions_can_be_registered(
    with_custom: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recurra.runtime import custom

    x, wanted = with_custom
    monkeypatch.setattr(custom, "_registered", {})
    recurra.runtime.register_layer("tests>Scale", scale)
    recurra.runtime.register_layer("Lambda", lambda v, config, weights: v * 2 + 1)
    model = recurra.load(folder / "custom.keras")
    np.testing.assert_allclose(model.predict(x), wanted, atol=1e-5)


def test_layers_without_code_are_named_with_their_place(with_custom: Any, folder: Path) -> None:
    with pytest.raises(
        UnsupportedLayerError,
        match=r"'decoder/scaled' \(Scale\), the 3rd layer of 'decoder', called on 'dense.*': it is "
        r"a class of your own \(tests>Scale\).*custom=\{\"scaled\": function\}",
    ):
        recurra.load(folder / "custom.keras")
    with pytest.raises(
        UnsupportedLayerError, match=r"'twice' \(Lambda\), the .* layer of 'functional.*never run"
    ):
        recurra.load(folder / "custom.keras", custom={"Scale": scale})


def test_functions_that_do_not_fit_are_explained(with_custom: Any, folder: Path) -> None:
    def load(function: Any) -> None:
        recurra.load(folder / "custom.keras", custom={"Scale": function, "Lambda": scale})

    with pytest.raises(ModelFileError, match="failed on zeros of shapes .*ZeroDivisionError"):
        load(lambda x, config, weights: 1 // 0)
    with pytest.raises(ModelFileError, match="expected the same batch first"):
        load(lambda x, config, weights: x[0])
    with pytest.raises(TypeError, match="Keras class"):
        load(Scale)
    with pytest.raises(TypeError, match="name and a function"):
        load(3)
    with pytest.raises(TypeError, match="not a dict"):
        recurra.load(folder / "custom.keras", custom=scale)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.keras"):
        recurra.load(tmp_path / "nothing.keras")
    path = tmp_path / "text.keras"
    path.write_text("no model")
    with pytest.raises(ModelFileError, match="text.keras"):
        recurra.load(path)
