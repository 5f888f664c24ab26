"""Errors that teach: each says what was got, what was expected and what to change."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import keras
import numpy as np
import pytest

from recurra import layers
from recurra.layers import unpack

X = np.random.default_rng(0).standard_normal((3, 5, 2)).astype("float32")


@contextlib.contextmanager
def raises(*words: str, error: Any = ValueError) -> Iterator[None]:
    """Expect an error whose message contains all of the words."""
    with pytest.raises(error) as caught:
        yield
    for word in words:
        assert word in str(caught.value)


# --- Unpacking ---


def test_too_few_names_directly_and_later() -> None:
    layer = layers.LSTM(4, return_state=True)
    message = (
        "2 names on the left, but this LSTM returns 3 outputs",
        "output   (3, 4)",
        "state_h  (3, 4)",
        "Cell state after the last kept step.",
        "`output, state_h, state_c = layer(x)`",
        "return_state=True",
    )
    with raises(*message):
        _a, _b = layer(X)
    result = layer(X)
    with raises(*message):
        _a, _b = result
    with raises("4 names on the left", "return_trace=True"):
        _a, _b, _c, _d = layer(X)


def test_names_of_gru_and_trace() -> None:
    with raises("3 names", "GRU returns 2 outputs", "`output, state_h = layer(x)`"):
        _a, _b, _c = layers.GRU(4, return_state=True)(X)
    with raises("2 names", "returns 3 outputs", "trace", "dict of 4", "reset_gate"):
        _a, _b = layers.GRU(4, return_trace=True)(X)
    with raises("(3, 5, 4)", "every step (return_sequences=True)"):
        _a, _b = layers.LSTM(4, return_state=True, return_sequences=True)(X)


def test_symbolic_results() -> None:
    symbol = keras.Input((5, 2))
    with raises("2 names on the left, but this LSTM returns 3 outputs", "(None, 4)"):
        _a, _b = layers.LSTM(4, return_state=True)(symbol)
    with raises("3 names on the left, but this LSTM returns 1 output", "return_state=True"):
        _a, _b, _c = layers.LSTM(4)(symbol)


def test_a_single_tensor_that_would_unpack_by_rows(caplog: pytest.LogCaptureFixture) -> None:
    layer = layers.GRU(4)
    message = ("2 names on the left, but this GRU returns 1 output", "`output, state_h = layer(x)`")
    with raises(*message, "return_sequences=True changes the output's shape"):
        _a, _b = layer(X)

    class Holder:
        inner = None

        def __init__(self) -> None:
            self.inner = layer

        def use(self) -> Any:
            a, b = self.inner(X)
            return a, b

    with raises(*message):
        Holder().use()
    with raises(*message):
        _a, _b = layers.GRU(4)(X)
    with raises(*message):
        jax.jit(lambda x: unpack_in_two(layer, x))(X)

    # A batch of two does unpack into two names, so this may be meant.
    with caplog.at_level(logging.WARNING, "recurra"):
        first, _second = layer(X[:2])
    assert first.shape == (4,)
    assert "works only because the batch has 2" in caplog.text


def test_callees_from_containers() -> None:
    layer = layers.GRU(4)
    by_name, in_order = {"l": layer, "other": len}, [len, layer]
    message = "2 names on the left, but this GRU returns 1 output"
    with raises(message):
        _a, _b = by_name["l"](X)
    with raises(message):
        _a, _b = in_order[1](X)
    # Not worked out, so Python's own words.
    with raises("to unpack"):
        _a, _b = in_order[len(by_name) - 1](X)


def test_a_subclass_that_returns_a_list() -> None:
    class Twice(layers.GRU):
        def call(
            self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False
        ) -> Any:
            return [super().call(sequences, initial_state, mask, training)] * 2

    layer = Twice(4)
    a, b = layer(X)
    assert a.shape == b.shape == (3, 4)


def test_code_is_not_kept_alive() -> None:
    def known() -> set[str]:
        codes = [reference() for reference, _ in unpack._calls.values()]
        return {code.co_name for code in codes if code is not None}

    scope: dict[str, Any] = {"layer": layers.GRU(4), "x": X}
    exec("def made_here():\n    return layer(x)\nmade_here()", scope)
    assert "made_here" in known()
    scope.clear()
    gc.collect()
    assert "made_here" not in known()
    assert all(reference() is not None for reference, _ in unpack._calls.values())


def unpack_in_two(layer: Any, x: Any) -> Any:
    a, b = layer(x)
    return a + b


def test_correct_programs_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    layer, stateful = layers.GRU(4), layers.GRU(4, return_state=True)
    a, b = list(map(layer, [X, X]))
    assert a.shape == b.shape == (3, 4)
    a, b = [layer(x) for x in (X, X)]
    a, b = functools.partial(layer)(X[:2])
    rows = list(layer(X))
    assert len(rows) == 3
    output, *rest = stateful(X)
    (output,), state = stateful(X)[:1], stateful(X)[1]
    output, state = stateful(X)
    output, state = result = stateful(X)
    assert len(list(zip(*[result, result], strict=True))) == 2
    assert [v.shape for v in result] == [(3, 4)] * 2
    assert output.shape == state.shape == rest[0].shape
    assert not caplog.records


def test_unpacking_is_found_in_this_pythons_bytecode() -> None:
    """Guards against a Python whose bytecode the detection does not know."""
    seen: list[Any] = []

    class Asks:
        def __iter__(self) -> Any:
            seen.append(unpack.names_being_unpacked(sys._getframe(1)))
            return iter((1, 2, 3))

        def __call__(self) -> Any:
            seen.append(unpack.names_awaiting_call(sys._getframe(1), lambda o: o is self))
            return (1, 2, 3)

    asks = Asks()
    _a, _b, _c = asks
    _a, *_b = asks
    _a, _b, _c = asks()
    _a = asks()
    list(asks)
    assert seen == [3, None, 3, None, None]


# --- Inputs ---


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3,), ("found ndim=1", "x[None, :, None]")),
        ((3, 5), ("found ndim=2", "(3, 5)", "x[:, :, None]", "return_sequences=True")),
        ((3, 5, 2, 2), ("found ndim=4", "(3, 5, 2, 2)", "TimeDistributed")),
    ],
)
def test_wrong_number_of_dimensions(
    shape: tuple[int, ...], words: tuple[str, ...], symbolic: bool
) -> None:
    x = keras.Input(batch_shape=shape) if symbolic else np.zeros(shape)
    with raises("expected ndim=3", "(batch, time_steps, features)", *words):
        layers.LSTM(4)(x)


def test_layers_without_return_sequences_in_between() -> None:
    with raises("expected ndim=3, found ndim=2", "return_sequences=True"):
        keras.Sequential([keras.Input((5, 2)), layers.LSTM(4), layers.LSTM(4)])


@pytest.mark.parametrize("symbolic", [False, True])
def test_other_number_of_features_than_built_for(symbolic: bool) -> None:
    layer = layers.GRU(4)
    layer(X)
    with raises("built for 2 features", "so 3 features", "(batch, time_steps, 2)"):
        layer(keras.Input((5, 3)) if symbolic else np.zeros((3, 5, 3)))


def test_lists() -> None:
    with raises("rows differ in length", "pad_sequences"):
        layers.LSTM(4)([[[1.0], [2.0]], [[1.0]]])
    with raises("received 3 input tensors", "initial_state=[state_h, state_c]"):
        layers.LSTM(4)([X, X[:, 0], X[:, 0]])
    with raises("mask of layer 'short'", "rows differ in length"):
        layers.LSTM(4, name="short")(X, mask=[[True], [True, False], [True]])
    with raises("mask of layer 'short'", "(3, 2); expected (batch, time_steps) = (3, 5)"):
        layers.LSTM(4, name="short")(X, mask=[[True, False]] * 3)


def test_lists_of_numbers_are_arrays() -> None:
    lstm, gru = layers.LSTM(4), layers.GRU(4)
    h, c = np.random.default_rng(1).standard_normal((2, 3, 4)).astype("float32")
    mask = np.array([[True, True, False, True, False]] * 3)
    expected = lstm(X, initial_state=[h, c], mask=mask)
    for states in ([h.tolist(), c.tolist()], (h, c.tolist()), (h.tolist(), c)):
        got = lstm(X, initial_state=states, mask=mask.tolist())
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(lstm((X,), [h.tolist(), c.tolist()], mask.tolist()), expected)
    for state in (h.tolist(), [h.tolist()]):
        np.testing.assert_array_equal(gru(X, initial_state=state), gru(X, initial_state=h))


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([None, None], ("'state_h'", "is None", "initial_state=None")),
        ([np.zeros((3, 4)), None], ("'state_c'", "is None", "Give every state")),
        ("zeros", ("of type str", "[state_h, state_c]")),
        ({"h": 1}, ("of type dict", "[state_h, state_c]")),
        ([np.zeros((3, 4)), "zeros"], ("'state_c'", "of type str", "(3, 4)")),
    ],
)
def test_states_that_are_no_arrays(states: Any, words: tuple[str, ...]) -> None:
    with raises("initial_state", "layer 'l'", *words):
        layers.LSTM(4, name="l")(X, initial_state=states)


# --- States and masks ---


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("LSTM", [(3, 4)], ("has 1 array; an LSTM needs 2 arrays: [state_h, state_c]", "(3, 4)")),
        ("LSTM", [(3, 4)] * 3, ("has 3 arrays", "result[1:]")),
        ("GRU", [(3, 4)] * 2, ("has 2 arrays; a GRU needs one array: [state_h]", "result[1:]")),
        ("LSTM", [(3, 4), (3, 8)], ("'state_c'", "(3, 8); expected (3, 4)", "number of units")),
        ("GRU", [(2, 4)], ("'state_h'", "(2, 4); expected (3, 4)", "every row of the batch")),
        ("GRU", [(3, 5, 4)], ("(3, 5, 4); expected (3, 4)", "not its output")),
        ("GRU", [(4,)], ("(4,); expected (3, 4)", "state[None]")),
    ],
)
def test_initial_state(name: str, shapes: list[tuple[int, ...]], words: tuple[str, ...]) -> None:
    layer = getattr(layers, name)(4)
    with raises("initial_state", *words):
        layer(X, initial_state=[np.zeros(shape) for shape in shapes])
    with raises("initial_state", words[0].split(" ")[0]):
        layer(keras.Input(batch_shape=X.shape), [keras.Input(batch_shape=s) for s in shapes])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((3, 4), bool), ("(3, 4); expected (batch, time_steps) = (3, 5)", "True")),
        (np.ones((5, 3), bool), ("(5, 3); expected", "mask.T")),
        (np.ones((3, 5, 2), bool), ("(3, 5, 2); expected", "mask.any(axis=-1)")),
        (np.ones(5, bool), ("(5,); expected",)),
        (np.ones((3, 5), "complex64"), ("complex64", "bool (True = keep)")),
    ],
)
def test_mask(mask: Any, words: tuple[str, ...]) -> None:
    layer = layers.SimpleRNN(4, name="masked")
    with raises("mask of layer 'masked'", *words):
        layer(X, mask=mask)
    with raises("mask of layer 'masked'", *words[:1]):
        layer.build(X.shape)
        layer.stateless_call(layer.trainable_variables, layer.non_trainable_variables, X, mask=mask)


# --- Arguments ---


@pytest.mark.parametrize("units", [0, -3, 2.5, "8", None, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_units(name: str, units: Any) -> None:
    with raises("invalid value for argument `units`", "positive integer", repr(units)):
        getattr(layers, name)(units)
    assert getattr(layers, name)(np.int64(3)).units == 3


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("activation", "tahn", ("'tahn'", "Did you mean", "activation='tanh'")),
        ("activation", "Sigmoid", ("'Sigmoid'", "activation='sigmoid'")),
        ("recurrent_activation", "sigmod", ("recurrent_activation='sigmoid'", "hard_sigmoid")),
        ("activation", "no such thing", ("softplus",)),
        ("activation", 3, ("3", "function, None (linear), or a name")),
    ],
)
def test_unknown_activation(argument: str, value: Any, words: tuple[str, ...]) -> None:
    with raises(
        "Could not interpret activation function identifier",
        *words,
    ):
        layers.LSTM(4, **{argument: value})


def test_engine_name() -> None:
    with raises("engine='kears'", "Did you mean 'keras'?", "'auto'", "'cpu'"):
        layers.GRU(4, engine="kears")
    with pytest.raises(ValueError, match="engine='gpu' is not an engine. Expected"):
        layers.GRU(4, engine="gpu")


def test_wrong_keywords() -> None:
    with raises("'return_sequence'", "LSTM", "Did you mean 'return_sequences'?"):
        layers.LSTM(4, return_sequence=True)
    with raises("Did you mean 'return_trace'?"):
        layers.GRU(4, return_traces=True)
    with raises("no_such_thing", error=(ValueError, TypeError)):
        layers.LSTM(4, no_such_thing=True)
    assert layers.LSTM(4, input_shape=(5, 2), dtype="float32", trainable=False).units == 4


def test_bidirectional_of_a_trace_without_states() -> None:
    with raises("return_trace=True", "return_state=True"):
        layers.Bidirectional(layers.LSTM(4, return_trace=True))
    both = layers.Bidirectional(layers.LSTM(4, return_trace=True, return_state=True))
    assert [type(v) for v in both(X)][3::3] == [dict, dict]


def test_stock_bidirectional_is_told_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "recurra"):
        wrapped = layers.Bidirectional(layers.LSTM(4))
        wrapped.get_config()
        layers.LSTM(4).get_config()
        keras.layers.Bidirectional(keras.layers.LSTM(4))
        assert not caplog.records
        keras.layers.Bidirectional(layers.LSTM(4, name="mine"))
    assert len(caplog.records) == 1
    assert "'mine'" in caplog.text
    assert "recurra.layers.Bidirectional" in caplog.text


# --- Before Keras is imported ---

PROBE = "import recurra.layers, os; print(os.environ.get('KERAS_BACKEND'))"


def run(code: str, home: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name in ("PATH", "PYTHONPATH", "JAX_PLATFORMS")
        if (value := os.environ.get(name)) is not None
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_host_is_chosen(tmp_path: Any) -> None:
    for _ in range(2):  # the second time there is the file that Keras wrote, naming tensorflow
        result = run(PROBE, tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split() == ["jax"]
    assert "tensorflow" in (tmp_path / ".keras" / "keras.json").read_text()


def test_a_choice_is_never_overridden(tmp_path: Any) -> None:
    prepare = (
        "import os; from recurra import hosts; hosts.prepare_keras(); "
        "print(os.environ.get('KERAS_BACKEND'))"
    )
    assert run(prepare, tmp_path, KERAS_BACKEND="numpy").stdout.split() == ["numpy"]
    (tmp_path / "keras.json").write_text('{"backend": "openvino"}')
    assert run(prepare, tmp_path, KERAS_HOME=str(tmp_path)).stdout.split() == ["None"]
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert run(prepare, tmp_path, KERAS_HOME=str(tmp_path)).stdout.split() == ["None"]
    (tmp_path / "keras.json").write_text("not json")
    assert run(prepare, tmp_path, KERAS_HOME=str(tmp_path)).stdout.split() == ["jax"]


def test_the_file_that_keras_writes_is_no_choice(tmp_path: Any) -> None:
    """With TensorFlow installed too, the second run is on the framework of the first."""
    fake = tmp_path / "installed" / "tensorflow"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise ImportError('TensorFlow was chosen')")
    path = os.pathsep.join(filter(None, (str(fake.parent), os.environ.get("PYTHONPATH"))))
    for _ in range(2):
        result = run(PROBE, tmp_path, PYTHONPATH=path)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split() == ["jax"]
    file = tmp_path / ".keras" / "keras.json"
    assert "tensorflow" in file.read_text()
    # With anything changed by hand, it is the user's.
    file.write_text(file.read_text().replace("float32", "float64"))
    assert "TensorFlow was chosen" in run(PROBE, tmp_path, PYTHONPATH=path).stderr


def test_keras_backend_is_checked(tmp_path: Any) -> None:
    hidden = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'tensorflow' else find(name, *a)\n"
    )
    message = run(hidden + PROBE, tmp_path, KERAS_BACKEND="tensorflow").stderr
    assert "KERAS_BACKEND=tensorflow, but tensorflow is not installed: unset it" in message
    assert 'pip install "recurra[tensorflow]"' in message
    message = run(PROBE, tmp_path, KERAS_BACKEND="jaxx").stderr
    assert "KERAS_BACKEND=jaxx" in message
    assert "Did you mean jax?" in message
    assert "jax, torch, tensorflow, numpy, openvino" in message


def test_without_keras_the_extra_is_named(tmp_path: Any) -> None:
    result = run("import sys; sys.modules['keras'] = None; import recurra.layers", tmp_path)
    assert "ImportError" in result.stderr
    assert 'pip install "recurra[jax]"' in result.stderr


def test_backends_without_a_host_fall_back_to_keras(tmp_path: Any) -> None:
    code = (
        "import numpy as np; from recurra.layers import LSTM\n"
        "out = LSTM(4, return_state=True, return_trace=True)(np.zeros((2, 3, 1)))\n"
        "print(type(out.output.shape[0]).__module__, sorted(out.trace)[0])"
    )
    result = run(code, tmp_path, KERAS_BACKEND="numpy")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[:2] == ["builtins", "candidate"]
    assert "no host for the framework" in result.stderr
