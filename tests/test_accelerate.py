"""`recurra.enable` and `disable`: every way to Keras's recurrent classes, there and back."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import recurra
from recurra import layers
from recurra.accelerate import is_enabled, namespaces
from recurra.engine import Choice
from recurra.layers import usage

STOCK = namespaces.pairs()  # while nothing is enabled: Recurra's classes by stock classes
NAMES = sorted(cls.__name__ for cls in STOCK)
X = np.random.default_rng(0).standard_normal((3, 6, 4)).astype("float32")


@pytest.fixture(autouse=True)
def nothing_enabled() -> Iterator[None]:
    assert not is_enabled()
    yield
    recurra.disable()


@pytest.fixture
def module(request: pytest.FixtureRequest) -> Iterator[types.ModuleType]:
    """A program's module that has imported Keras's classes already."""
    made = types.ModuleType("a_program")
    made.__file__ = "/somewhere/a_program.py"
    sys.modules["a_program"] = made
    exec(
        textwrap.dedent("""
        import functools
        import keras
        from keras.layers import GRU, LSTM as Long
        from keras.layers import Dense

        TABLE = {"lstm": Long, "dense": Dense}
        LIST = [Dense, GRU]
        make = functools.partial(GRU, 4)

        class Mine(Long):
            pass

        class Holder:
            kind = GRU

            def build(self, kind=Long):
                return kind(4)
        """),
        vars(made),
    )
    yield made
    del sys.modules["a_program"]


def snapshot() -> dict[str, dict[str, Any]]:
    """Every global of every module that is a stock class or one of Recurra's."""
    wanted = {id(cls) for pair in STOCK.items() for cls in pair}
    found = {}
    for name, each in list(sys.modules.items()):
        if isinstance(each, types.ModuleType) and not name.startswith("recurra"):
            here = {key: value for key, value in list(vars(each).items()) if id(value) in wanted}
            if here:
                found[name] = here
    return found


def test_every_class_that_recurra_defines_is_covered() -> None:
    assert {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"} <= set(NAMES)
    for name, value in vars(layers).items():
        own = isinstance(value, type) and value.__module__.startswith("recurra.")
        if own and hasattr(keras.layers, name):
            assert STOCK[getattr(keras.layers, name)] is value


@pytest.mark.parametrize("name", NAMES)
def test_every_place_leads_to_recurra(name: str) -> None:
    stock = getattr(keras.layers, name)
    ours = getattr(layers, name)
    defining = sys.modules[stock.__module__]
    config = {"module": "keras.layers", "class_name": name, "registered_name": None}
    if name in ("Bidirectional", "TimeDistributed"):
        inner = keras.saving.serialize_keras_object(keras.layers.LSTM(2))
        config["config"] = {"layer": inner}
    elif name == "RNN":
        config["config"] = {"cell": keras.saving.serialize_keras_object(keras.layers.GRUCell(2))}
    elif name.startswith("Conv"):
        config["config"] = {"filters": 2, "kernel_size": 2}
    else:
        config["config"] = {"units": 2}
    with recurra.enable():
        import keras._tf_keras.keras.layers as tf_layers
        import keras.src.layers as src_layers

        for place in (keras.layers, src_layers, tf_layers, defining):
            assert getattr(place, name) is ours
        read = keras.saving.deserialize_keras_object(copy.deepcopy(config))
        assert type(read) is ours
        if name in ("Bidirectional", "TimeDistributed"):
            held = read.forward_layer if name == "Bidirectional" else read.layer
            assert type(held) is layers.LSTM
        assert type(copy.deepcopy(read)) is ours
        assert type(pickle.loads(pickle.dumps(read))) is ours
    for place in (keras.layers, src_layers, tf_layers, defining):
        assert getattr(place, name) is stock
    assert type(keras.saving.deserialize_keras_object(config)) is stock


def test_disable_puts_back_exactly(module: types.ModuleType) -> None:
    from keras.src import api_export

    before = snapshot()
    order = list(vars(module))
    table = dict(api_export.REGISTERED_NAMES_TO_OBJS)
    methods = {cls: dict(vars(cls)) for pair in STOCK.items() for cls in pair}
    kinds = {cls: type(cls) for cls in layers.__dict__.values() if isinstance(cls, type)}
    recurra.enable()
    assert vars(module)["Long"] is layers.LSTM
    assert vars(module)["GRU"] is layers.GRU
    assert snapshot() != before
    recurra.disable()
    assert snapshot() == before
    assert list(vars(module)) == order
    assert table == api_export.REGISTERED_NAMES_TO_OBJS
    assert list(table) == list(api_export.REGISTERED_NAMES_TO_OBJS)
    # Nothing is left on the classes but what functions find out lazily about them.
    for cls, attributes in methods.items():
        for name, value in attributes.items():
            if name not in ("__doc__", "__annotations__") and not name.startswith("_abc"):
                assert vars(cls)[name] is value
    assert kinds == {cls: type(cls) for cls in kinds}
    recurra.disable()  # nothing to do
    assert snapshot() == before


def test_a_place_that_was_given_something_else_keeps_it(module: types.ModuleType) -> None:
    recurra.enable()
    other = vars(module)["Long"] = object()
    recurra.disable()
    assert vars(module)["Long"] is other


def test_one_line_says_what_was_replaced(
    module: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    recurra.enable()
    recurra.enable()
    (record,) = [each for each in caplog.records if each.name == "recurra"]
    # Shown without any configuration of logging.
    assert record.levelno >= logging.WARNING
    line = record.getMessage()
    assert "\n" not in line
    for part in (
        *NAMES,
        "keras.layers and tensorflow.keras",
        "a_program.GRU",
        "a_program.Long",
        # What cannot be replaced is named.
        "a_program.Mine",
        "a_program.TABLE['lstm']",
        "a_program.LIST[1]",
        "a_program.make.func",
        "a_program.Holder.kind",
        "a_program.Holder.build (default LSTM)",
    ):
        assert part in line
    assert "Dense" not in line


def test_subclasses_are_of_what_stood_there(module: types.ModuleType) -> None:
    Before = vars(module)["Mine"]
    with recurra.enable():

        class After(keras.layers.LSTM):
            pass

        assert issubclass(After, layers.LSTM)
        assert not any(base.__module__.startswith("recurra") for base in Before.__mro__)
        assert np.array_equal(After(3)(X).shape, (3, 3))
    # Still a class that works, and is told apart again.
    assert After(3)(X).shape == (3, 3)
    assert not isinstance(After(3), Before)
    assert isinstance(After(3), keras.layers.LSTM)


def test_classes_answer_as_those_in_whose_places_they_stand() -> None:
    earlier = {name: getattr(keras.layers, name) for name in NAMES}
    stock = keras.layers.LSTM(2)
    asked = [(a, b) for a in NAMES for b in NAMES]
    expected = {(a, b): issubclass(earlier[a], earlier[b]) for a, b in asked}
    with recurra.enable():
        now = {name: getattr(keras.layers, name) for name in NAMES}
        assert {(a, b): issubclass(now[a], now[b]) for a, b in asked} == expected
        ours = keras.layers.LSTM(2)
        for layer in (stock, ours):
            assert isinstance(layer, keras.layers.LSTM)
            assert isinstance(layer, keras.layers.RNN)
            assert not isinstance(layer, keras.layers.GRU)
    assert not isinstance(stock, layers.LSTM)
    assert isinstance(ours, layers.LSTM)
    assert isinstance(ours, keras.layers.RNN)
    assert not isinstance(ours, layers.RNN)


def test_models_are_read_cloned_and_built_as_recurras(tmp_path: Path) -> None:
    def kinds(model: Any) -> set[str]:
        found = set()
        for each in model._flatten_layers(include_self=False):
            if isinstance(each, keras.layers.RNN):
                found.add(type(each).__module__.partition(".")[0])
        return found

    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True)),
            keras.layers.LSTM(2),
        ]
    )
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    expected = keras.ops.convert_to_numpy(model(X))
    read = (
        lambda: keras.models.load_model(tmp_path / "model.keras"),
        lambda: keras.models.load_model(tmp_path / "model.h5"),
        lambda: keras.models.model_from_json(model.to_json()),
        lambda: keras.Sequential.from_config(model.get_config()),
    )
    with recurra.enable(strict=True):
        for make in read:
            again = make()
            assert kinds(again) == {"recurra"}
            again.set_weights(model.get_weights())
            got = keras.ops.convert_to_numpy(again(X))
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert kinds(keras.models.clone_model(again)) == {"recurra"}
        assert kinds(model) == {"keras"}
        again.save(tmp_path / "ours.keras")
    for make in read:
        assert kinds(make()) == {"keras"}
    got = keras.ops.convert_to_numpy(keras.models.load_model(tmp_path / "ours.keras")(X))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_strict_refuses_what_is_not_on_the_engine() -> None:
    stock = keras.layers.SimpleRNN(2, name="made_before")
    recurra.enable(strict=True)
    keras.layers.LSTM(2)(X)
    keras.layers.LSTM(2, engine="keras", activation=lambda x: x)(X)
    with pytest.raises(ValueError, match="strict mode forbids.*choose one of .*engine='keras'"):
        keras.layers.LSTM(2, name="odd", activation=lambda x: x)(X)
    with pytest.raises(ValueError, match="'made_before'.*made before Recurra was enabled"):
        stock(X)
    recurra.enable()  # no longer strict
    keras.layers.LSTM(2, activation=lambda x: x)(X)
    stock(X)


def test_contexts_nest() -> None:
    with recurra.enable():
        assert not usage.is_strict()
        with recurra.enable(strict=True):
            assert usage.is_strict()
        assert is_enabled()
        assert not usage.is_strict()
        with pytest.raises(ZeroDivisionError), recurra.enable(strict=True):
            raise ZeroDivisionError
        with recurra.enable() as enabled:
            assert "are enabled" in repr(enabled)
    assert not is_enabled()
    assert not usage.is_strict()


def test_layers_report_what_they_did() -> None:
    lstm = layers.LSTM(2, name="plain")
    odd = layers.GRU(2, name="odd", activation=lambda x: x)
    both = layers.Bidirectional(layers.LSTM(2), name="both")
    stacked = layers.RNN([keras.layers.LSTMCell(2), keras.layers.GRUCell(3)], name="stacked")
    stock = keras.layers.LSTM(2, name="stock")
    with recurra.enable(), usage.watch() as seen:
        for layer in (lstm, lstm, odd, both, stacked, stock):
            layer(X)
    lstm(X)  # no longer watched
    rows = {row.name: row for row in seen.rows()}
    assert (rows["plain"].calls, rows["plain"].engine, rows["plain"].layer) == (2, "cpu", "LSTM")
    assert rows["odd"].engine == "keras"
    assert "is not compiled into the engine" in rows["odd"].reason
    assert "choose one of" in rows["odd"].advice
    assert rows["stacked"].layer == "RNN(LSTMCell, GRUCell)"
    assert rows["stacked"].engine == "cpu"
    assert (rows["stock"].engine, rows["stock"].calls) == ("keras", 1)
    assert all(row.engine == "cpu" for name, row in rows.items() if "lstm" in name)


def test_the_record_holds_no_layer() -> None:
    import gc
    import weakref

    with usage.watch() as seen:
        layer = layers.SimpleRNN(2, name="gone")
        layer(X)
        reference = weakref.ref(layer)
        del layer
        gc.collect()
        assert reference() is None
        assert [row.name for row in seen.rows()] == ["gone"]


def test_nothing_is_recorded_when_nobody_asks() -> None:
    layer, choice = layers.LSTM(2), Choice("cpu", "why")
    with usage.watch() as seen:
        usage.record(layer, choice)
    usage.record(layer, choice)
    assert [row.calls for row in seen.rows()] == [1]


def test_tensorflow_keras_imported_later(tmp_path: Path) -> None:
    """`tensorflow.keras` is modules of its own, which are imported when they are first needed."""
    pytest.importorskip("tensorflow")
    code = """
        import keras
        kept = [keras.layers.LSTM]  # a global of its own would be replaced
        import recurra
        recurra.enable()
        import tensorflow as tf
        from tensorflow.keras.layers import LSTM
        import tensorflow.keras.layers as later
        assert LSTM is later.LSTM is tf.keras.layers.LSTM is keras.layers.LSTM is not kept[0]
        assert LSTM.__module__ == "recurra.layers.lstm"
        recurra.disable()
        assert later.LSTM is tf.keras.layers.LSTM is keras.layers.LSTM is kept[0]
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        check=True,
        timeout=120,
    )


def test_reading_and_enabling_may_cross() -> None:
    """As when one thread reads a model while another enables: whoever is last puts back."""

    def is_read_as(cls: type) -> bool:
        config = keras.saving.serialize_keras_object(stock(2))
        return type(keras.saving.deserialize_keras_object(config)) is cls

    stock = keras.layers.LSTM
    reading = layers.recurra_classes()
    reading.__enter__()
    recurra.enable()
    reading.__exit__(None, None, None)
    assert is_read_as(layers.LSTM)
    reading = layers.recurra_classes()
    reading.__enter__()
    recurra.disable()
    assert is_read_as(layers.LSTM)
    reading.__exit__(None, None, None)
    assert is_read_as(stock)
    with layers.recurra_classes(), recurra.enable():
        pass
    assert is_read_as(stock)


def test_contexts_overlap() -> None:
    first = recurra.enable()
    second = recurra.enable(strict=True)
    with first:
        assert usage.is_strict()
    assert is_enabled()
    assert usage.is_strict()
    with second:
        assert recurra.enable(strict=True) is not second
    assert is_enabled()
    recurra.disable()
    assert not usage.is_strict()
    with second:  # once more
        third = recurra.enable().__enter__()
        assert usage.is_strict()
    assert is_enabled()
    assert not usage.is_strict()
    third.__exit__(None, None, None)
    third.__exit__(None, None, None)
    assert not is_enabled()


def test_a_context_that_was_closed_enables_again() -> None:
    enabled = recurra.enable()
    recurra.disable()
    with enabled:
        assert is_enabled()
        recurra.disable()
        kept = recurra.enable()
    assert is_enabled()  # that one is not ours to close
    kept.__exit__(None, None, None)
    assert not is_enabled()


def test_held_layers_are_shown_under_their_wrappers_names() -> None:
    both = layers.Bidirectional(layers.LSTM(2, name="inner"), name="both")
    each = layers.TimeDistributed(layers.GRU(2, name="inner"), name="each")
    nested = layers.TimeDistributed(
        layers.Bidirectional(layers.LSTM(2, name="inner"), name="two"), name="outer"
    )
    with usage.watch() as seen:
        both(X)
        each(X[:, None])
        nested(X[:, None])
    assert {row.name for row in seen.rows()} == {
        "both/forward_inner",
        "both/backward_inner",
        "each/inner",
        "outer/two/forward_inner",
        "outer/two/backward_inner",
    }
