"""What a trace is, in Python and in files; tracing one's own cells, wrappers and odd models."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import recurra
from recurra import reference
from recurra.cells import CELLS
from recurra.engine import Config
from recurra.insight import LayerTrace, Trace
from recurra.insight.structure import Structure
from recurra.insight.tracing import names, result, saving
from recurra.insight.tracing.scan import Scan, TracedCell, engine_run, step_run
from recurra.layers import GRU, LSTM, RNN, Bidirectional, Dense, GRUCell, LSTMCell, TimeDistributed

RANDOM = np.random.default_rng(3)


@pytest.fixture(autouse=True, scope="module")
def _no_random_weights() -> Iterator[None]:
    """Weights are set here where they matter, and JAX compiles each initializer for every shape."""

    def some(_: Any, shape: Any, dtype: Any = None) -> Any:
        return np.random.default_rng(8).normal(scale=0.4, size=shape).astype(dtype or "float32")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("GlorotUniform", "Orthogonal"):
            patch.setattr(getattr(keras.initializers, name), "__call__", some)
        yield


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype("float32")


def weights(kind: str, features: int, units: int, reset_after: bool = True) -> dict[str, Any]:
    shapes = CELLS[kind].weight_shapes(features, units, reset_after)
    return {name: 0.5 * numbers(*shape) for name, shape in shapes.items()}


# --- Scans ---


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("kind", "reset_after"),
    [("lstm", None), ("gru", True), ("gru", False), ("simple_rnn", None)],
)
def test_scan_is_the_reference_in_the_inputs_order(
    kind: str, reset_after: bool | None, backwards: bool
) -> None:
    """With a mask and states to start from, on the engine and step by step."""
    spec, x = CELLS[kind], numbers(3, 7, 4)
    w = weights(kind, 4, 5, bool(reset_after))
    mask = np.ones((3, 7), bool)
    mask[0, 3:], mask[2, 1] = False, False
    states = [numbers(3, 5) for _ in spec.states]
    start = {f"{s.symbol}0": a for s, a in zip(spec.state_table, states, strict=True)}
    choice = {} if reset_after is None else {"reset_after": reset_after}
    expected = reference.forward(
        kind, x, **w, **start, mask=mask, go_backwards=backwards, reset_after=reset_after
    )
    act, gate = (reference.ACTIVATION_FUNCTIONS[name][0] for name in ("tanh", "sigmoid"))
    runs = {
        "engine": engine_run(Config(kind, **choice), **w),
        "step": step_run(kind, **w, activation=act, recurrent_activation=gate, **choice),
    }
    for name, run in runs.items():
        cell = TracedCell(kind, run, len(states))
        [trace] = Scan("rnn", [cell], x, states, mask, backwards).traces()
        assert list(trace) == ["input", *spec.trace_names, *spec.state_outputs], name
        assert trace.go_backwards is backwards
        np.testing.assert_array_equal(trace.arrays["input"], x)
        assert list(trace.initial) == list(spec.state_outputs)
        for slot in spec.trace_names:
            array = expected.slots[slot]
            array = array[:, ::-1] if backwards else array
            np.testing.assert_allclose(trace.arrays[slot], array, atol=3e-6, err_msg=slot)
        for state in spec.state_table:
            np.testing.assert_allclose(
                trace.arrays[state.output], expected.states[state.name], atol=3e-6
            )


def test_stack_reads_what_the_cell_below_wrote() -> None:
    lower, upper = weights("lstm", 3, 4), weights("gru", 4, 2)
    cells = [
        TracedCell("lstm", engine_run(Config("lstm"), **lower), 2),
        TracedCell("gru", engine_run(Config("gru"), **upper), 1),
    ]
    states = [numbers(2, 4), numbers(2, 4), numbers(2, 2)]
    first, second = Scan("rnn", cells, numbers(2, 5, 3), states, None, True).traces()
    assert (first.path, second.path) == ("rnn/cell_0", "rnn/cell_1")
    np.testing.assert_array_equal(second.arrays["input"], first.arrays["hidden_state"])
    np.testing.assert_array_equal(second.initial["state_h"], states[2])


def test_states_of_zeros_are_no_states() -> None:
    cell = TracedCell("gru", engine_run(Config("gru"), **weights("gru", 3, 2)), 1)
    [trace] = Scan("gru", [cell], numbers(2, 4, 3), [np.zeros((2, 2), "float32")]).traces()
    assert trace.initial == {}


# --- Names ---

PATHS = {
    "lstm": "lstm",
    "bi/forward_layer": "forward_gru",
    "bi/backward_layer": "backward_gru",
    "encoder/lstm": "lstm",
    "encoder/top": "top",
    "encoder/top:2": "top",
}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("lstm", "lstm"),
        ("encoder/lstm", "encoder/lstm"),
        ("backward_layer", "bi/backward_layer"),
        ("forward_gru", "bi/forward_layer"),
        ("top", "encoder/top"),
        ("top:2", "encoder/top:2"),
    ],
)
def test_names_that_are_clear(name: str, path: str) -> None:
    assert names.resolve(name, PATHS) == path


def test_names_that_are_not() -> None:
    with pytest.raises(KeyError, match="'bi' stands for 2 layers.*'bi/forward_layer', 'bi/back"):
        names.resolve("bi", PATHS)
    with pytest.raises(KeyError, match="no layer 'lstn'; it has 'lstm', "):
        names.resolve("lstn", PATHS)
    with pytest.raises(KeyError, match="no recurrent layers at all"):
        names.resolve("lstm", {})
    with pytest.raises(KeyError, match="finds layers by name, and 0 is none; it has 'lstm', "):
        names.resolve(0, PATHS)


def test_wanted_layers() -> None:
    assert names.wanted(None, PATHS) == {*PATHS}
    assert names.wanted("bi", PATHS) == {"bi/forward_layer", "bi/backward_layer"}
    assert names.wanted(["encoder/lstm:2", "top:2"], PATHS) == {"encoder/lstm", "encoder/top:2"}
    with pytest.raises(KeyError, match="The model has no layer 'nothing'"):
        names.wanted(["nothing"], PATHS)
    for wrong in (0, [0]):
        with pytest.raises(KeyError, match="and 0 is none; it has 'lstm', "):
            names.wanted(wrong, PATHS)


# --- Models ---


@pytest.fixture(scope="module")
def model() -> Any:
    x = keras.Input((None, 3), name="series")
    y = Bidirectional(LSTM(2, return_sequences=True, name="both"), name="bi")(x)
    y = GRU(4, name="top")(y)
    return keras.Model(x, Dense(1, name="forecast")(y), name="small")


@pytest.fixture(scope="module")
def trace(model: Any) -> Trace:
    x = numbers(2, 5, 3)
    x[1, 3:] = 0
    return recurra.trace(model, x, mask=np.array([[True] * 5, [True] * 3 + [False] * 2]))


def test_layers_and_arrays_are_found(trace: Trace) -> None:
    assert list(trace) == ["bi/forward_layer", "bi/backward_layer", "top"]
    assert trace["backward_both"] is trace.layers["bi/backward_layer"]
    assert "top" in trace
    assert "backward_both" in trace
    assert "bi" not in trace  # stands for two
    assert trace.get("nothing") is None
    assert trace.batch == 2
    assert list(trace.inputs) == ["series"]
    assert list(trace.outputs) == ["forecast"]
    assert trace.structure.name == "small"
    with pytest.raises(KeyError, match="'top' has no array 'hiden_state'. Did you mean 'hidden_s"):
        trace["top"]["hiden_state"]
    with pytest.raises(KeyError, match="'top' has no array 0. It has input, update_gate, "):
        trace["top"][0]
    assert (
        "'top' (GRU): input, update_gate, reset_gate, candidate, hidden_state (2, 5, 4); state_h"
        in repr(trace)
    )


def test_arrays_have_named_axes_where_xarray_is_installed(trace: Trace) -> None:
    pytest.importorskip("xarray")
    gate = trace["top"]["update_gate"]
    assert gate.dims == ("batch", "time_steps", "units")
    assert gate.name == "update_gate"
    assert gate.attrs["long_name"] == CELLS["gru"].meaning("update_gate")
    assert trace["top"]["input"].dims == ("batch", "time_steps", "features")
    assert trace["top"]["state_h"].dims == ("batch", "units")
    assert type(trace["top"].arrays["update_gate"]) is np.ndarray


def test_arrays_are_plain_without_xarray(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "_xarray", lambda: None)
    assert trace["top"]["update_gate"] is trace["top"].arrays["update_gate"]


def test_only_some_layers(model: Any) -> None:
    x, bi = numbers(2, 5, 3), model.get_layer("bi")
    for layers, paths in [
        ("top", ["top"]),
        (["bi"], ["bi/forward_layer", "bi/backward_layer"]),
        (["backward_layer", model.get_layer("top")], ["bi/backward_layer", "top"]),
        (bi, ["bi/forward_layer", "bi/backward_layer"]),
        ([bi.forward_layer], ["bi/forward_layer"]),
        ([], []),
    ]:
        assert list(recurra.trace(model, x, layers=layers)) == paths
    with pytest.raises(KeyError, match="The model has no layer 'tob'; it has 'top', "):
        recurra.trace(model, x, layers=["tob"])
    with pytest.raises(KeyError, match="The model finds layers by name, and 0 is none; it has "):
        recurra.trace(model, x, layers=0)


def test_inputs_of_every_kind(model: Any) -> None:
    x = numbers(2, 5, 3)
    expected = recurra.trace(model, x)["top"].arrays["hidden_state"].tobytes()
    for given in (x.tolist(), x.astype("float64"), ops.convert_to_tensor(x), [x], {"series": x}):
        assert recurra.trace(model, given)["top"].arrays["hidden_state"].tobytes() == expected


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_nothing_to_trace(model: Any, shape: tuple[int, ...]) -> None:
    assert recurra.trace(model, numbers(*shape))["top"].arrays["hidden_state"].shape == (
        *shape[:2],
        4,
    )


def test_single_layers_and_lazily_built_models() -> None:
    x, layer = numbers(2, 4, 3), LSTM(2, name="alone")
    model = keras.Sequential([layer], name="lazy")
    for unbuilt in (layer, model):
        with pytest.raises(ValueError, match="is not built"):
            recurra.trace(unbuilt, x)
    output = np.asarray(model(x))
    for traced in (layer, model):
        trace = recurra.trace(traced, x)
        np.testing.assert_array_equal(trace["alone"].arrays["state_h"], output)
        assert list(trace) == ["alone"]


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got LSTMCell 'alone', a cell.*RNN\(cell\)"):
        recurra.trace(LSTMCell(2, name="alone"), numbers(2, 3))
    with pytest.raises(TypeError, match="expected a Keras model or layer.* got int"):
        recurra.trace(3, numbers(2, 4, 3))
    with pytest.raises(FileNotFoundError, match="nothing.keras"):
        recurra.trace(tmp_path / "nothing.keras", numbers(2, 4, 3))


def test_gradients_of_a_loaded_model_are_refused(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "model.keras")
    x = numbers(2, 5, 3)
    with pytest.raises(NotImplementedError, match="a loaded model only runs forwards"):
        recurra.trace(tmp_path / "model.keras", x, loss="mse", y=np.zeros((2, 1)))
    assert list(recurra.trace(tmp_path / "model.keras", x, layers="top")) == ["top"]


def test_names_of_inputs_and_outputs(tmp_path: Path) -> None:
    """Several of one layer, and dicts in lists; the same of a loaded model."""
    x = keras.Input((4, 3), name="series")
    both = Bidirectional(LSTM(2), merge_mode=None, name="both")(x)
    state = LSTM(2, return_state=True, name="last")(x)[1]
    listed = keras.Model(x, [*both, state])
    keyed = keras.Model({"a": x}, {"both": both, "state": state})
    expected = {
        "listed": (["series"], ["both", "both:backward_output", "last:state_h"]),
        "keyed": (["a"], ["both/0", "both/1", "state"]),
    }
    for name, model, given in (("listed", listed, x), ("keyed", keyed, {"a": x})):
        data = numbers(2, 4, 3)
        data = {"a": data} if isinstance(given, dict) else data
        trace = recurra.trace(model, data)
        assert (list(trace.inputs), list(trace.outputs)) == expected[name]
        model.save(tmp_path / f"{name}.keras")
        again = recurra.trace(tmp_path / f"{name}.keras", data)
        assert (list(again.inputs), list(again.outputs)) == expected[name]


def test_threads_trace_side_by_side(model: Any) -> None:
    """Each records its own calls, and plain calls go on meanwhile."""
    inputs = [numbers(2, 5, 3) for _ in range(4)]
    expected = [recurra.trace(model, x)["top"].arrays["hidden_state"].tobytes() for x in inputs]
    found: dict[int, list[bool]] = {}

    def run(number: int) -> None:
        found[number] = []
        for _ in range(5):
            trace = recurra.trace(model, inputs[number])
            model(inputs[number])
            same = trace["top"].arrays["hidden_state"].tobytes() == expected[number]
            found[number].append(same and len(trace) == 3)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [True] * 5 for number in range(len(inputs))}
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_threads_leave_a_stateful_model_as_it_is() -> None:
    x = keras.Input(batch_shape=(2, 5, 3))
    y = LSTM(4, stateful=True, return_sequences=True, name="lower")(x)
    stateful = keras.Model(x, GRU(3, stateful=True, name="upper")(y))
    values = numbers(2, 5, 3)
    stateful(values)
    before = [np.array(variable) for variable in stateful.non_trainable_variables]
    expected = np.asarray(recurra.trace(stateful, values)["upper"].arrays["hidden_state"])
    found: list[np.ndarray] = []

    def run() -> None:
        found.extend(
            recurra.trace(stateful, values)["upper"].arrays["hidden_state"] for _ in range(4)
        )

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(before) >= 3
    for variable, value in zip(stateful.non_trainable_variables, before, strict=True):
        assert np.array_equal(np.asarray(variable), value)
    assert len(found) == 16
    assert all(np.array_equal(each, expected) for each in found)


def test_rematerialized_layers() -> None:
    """JAX computes them inside of a compiled function, where there are no numbers to keep."""
    with keras.RematScope(mode="full"):
        model = keras.Sequential([keras.Input((4, 3)), LSTM(2, name="lstm")])
    x = numbers(2, 4, 3)
    trace = recurra.trace(model, x)
    np.testing.assert_allclose(trace["lstm"].arrays["state_h"], np.asarray(model(x)), atol=1e-6)
    assert model.layers[0]._remat_mode.mode == "full"


class Counting(keras.layers.Layer):
    """A cell of a user's: two states, the second counts; an output that is neither."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.state_size, self.output_size = units, [units, 1], units + 1

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.out = self.add_weight(shape=(self.units, self.units + 1), name="out")

    def get_initial_state(self, batch_size: int | None = None) -> Any:
        return [ops.zeros((batch_size, self.units)), ops.full((batch_size, 1), 10.0)]

    def call(self, inputs: Any, states: Any) -> Any:
        h, count = states
        h = ops.tanh(ops.matmul(inputs, self.kernel) + h)
        return ops.matmul(h, self.out), [h, count + 1]


def test_cells_of_the_users_between_known_ones() -> None:
    rnn = RNN([LSTMCell(2), Counting(3), GRUCell(2)], return_sequences=True, name="rnn")
    x, mask = numbers(2, 4, 3), np.array([[True] * 4, [False, True, False, True]])
    rnn(x)
    trace = recurra.trace(rnn, x, mask=mask)
    assert [layer.cell for layer in trace.values()] == ["lstm", None, "gru"]
    own = trace["rnn/cell_1"]
    assert list(own) == ["input", "hidden_state", "state_0", "state_1"]
    assert own.arrays["state_1"][:, :, 0].tolist() == [[11, 12, 13, 14], [10, 11, 11, 12]]
    np.testing.assert_array_equal(
        own.arrays["input"][mask], trace["cell_0"].arrays["hidden_state"][mask]
    )
    kernel, out = (np.asarray(w.value) for w in rnn.cell.cells[1].weights)
    h = np.zeros((2, 3))
    for t in range(4):
        new = np.tanh(own.arrays["input"][:, t] @ kernel + h)
        h = np.where(mask[:, t, None], new, h)
        np.testing.assert_allclose(own.arrays["state_0"][:, t], h, atol=1e-5)
        expected = np.where(mask[:, :1].all() | mask[:, : t + 1].any(1)[:, None], h @ out, 0)
        np.testing.assert_allclose(own.arrays["hidden_state"][:, t], expected, atol=1e-5)
    np.testing.assert_allclose(
        trace["cell_2"].arrays["hidden_state"][mask], np.asarray(rnn(x, mask=mask))[mask], atol=1e-5
    )


def test_time_distributed_makes_rows_of_items() -> None:
    inner = keras.Sequential(
        [keras.Input((4, 3)), keras.layers.Masking(), LSTM(2, name="lstm")], name="inner"
    )
    x = numbers(2, 3, 4, 3)
    x[1, 2, 1:] = 0
    model = keras.Sequential([keras.Input((3, 4, 3)), TimeDistributed(inner, name="items")])
    layer = recurra.trace(model, x)["items/layer/lstm"]
    assert layer.arrays["hidden_state"].shape == (6, 4, 2)
    assert layer.mask.tolist() == [[True] * 4] * 5 + [[True, False, False, False]]
    np.testing.assert_allclose(
        layer.arrays["state_h"].reshape(2, 3, 2), np.asarray(model(x)), atol=1e-6
    )
    real = np.array([[True, True, False], [True, True, True]])
    wrapped = TimeDistributed(LSTM(2, name="own"), name="items")
    expected = np.asarray(wrapped(x, mask=real)).reshape(6, 2)
    layer = recurra.trace(wrapped, x, mask=real)["items/layer"]
    np.testing.assert_array_equal(layer.mask, np.repeat(real.reshape(6, 1), 4, axis=1))
    np.testing.assert_allclose(layer.arrays["state_h"], expected, atol=1e-6)


class ByHand(keras.Model):
    """A forecaster that feeds its cell by itself."""

    def __init__(self) -> None:
        super().__init__(name="by_hand")
        self.warm = LSTM(2, return_state=True, name="warm")
        self.cell = LSTMCell(2, name="cell")

    def call(self, x: Any) -> Any:
        y, *states = self.warm(x)
        for _ in range(2):
            y, states = self.cell(x[:, -1], states)
        return y


def test_cells_that_a_model_calls_by_itself_are_named() -> None:
    model = ByHand()
    x = numbers(2, 4, 3)
    model(x)
    with pytest.warns(UserWarning, match="'cell': a cell that is called step by step"):
        trace = recurra.trace(model, x)
    assert list(trace) == ["warm"]
    nodes = [node for node in trace.structure.nodes if node.class_name == "LSTMCell"]
    assert [node.output_names for node in nodes] == [("output", "state_h", "state_c")] * 2
    (gap,) = trace.structure.gaps
    assert "RNN(LSTMCell(...)) would be shown" in gap
    assert gap in recurra.explain(model).facts.gaps


def test_stateful_layers_in_time_distributed_are_left_out() -> None:
    wrapped = TimeDistributed(LSTM(2, stateful=True, name="own"), name="items")
    wrapped(numbers(2, 3, 4, 3))
    with pytest.warns(UserWarning, match="'items' is left out of the trace: TimeDistributed"):
        assert not recurra.trace(wrapped, numbers(2, 3, 4, 3))


class Loop(keras.Model):
    """Calls one layer again and again, on its own output, and has two layers of one name."""

    def __init__(self) -> None:
        super().__init__(name="loop")
        self.lower = GRU(3, name="gru", return_sequences=True)
        self.other = GRU(2, name="gru")
        self.upper = GRU(3, name="upper", return_state=True)

    def call(self, inputs: Any) -> Any:
        sequence, state = self.lower(inputs), None
        step = sequence[:, :1]
        for _ in range(3):
            output, state = self.upper(step, initial_state=state)
            step = output[:, None]
        return output, self.other(sequence)


def test_a_layer_that_is_called_again_and_again() -> None:
    model, x = Loop(), numbers(2, 4, 3)
    output = np.asarray(model(x)[0])
    trace = recurra.trace(model, x)
    assert sorted(trace) == ["gru", "gru:2", "upper", "upper:2", "upper:3"]
    assert [node.path for node in trace.structure.recurrent()] == list(trace)
    assert list(recurra.trace(model, x, layers=["gru:2"])) == ["gru:2"]
    calls = [trace["upper"], trace["upper:2"], trace["upper:3"]]
    assert not calls[0].initial
    for call, next_call in itertools.pairwise(calls):
        np.testing.assert_allclose(next_call.initial["state_h"], call.arrays["state_h"], atol=1e-6)
    np.testing.assert_allclose(calls[-1].arrays["state_h"], output, atol=1e-6)


# --- Files ---


def test_saved_and_read_again(trace: Trace, tmp_path: Path) -> None:
    path = trace.save(tmp_path / "small")
    assert path == tmp_path / "small.npz"
    assert [each.name for each in tmp_path.iterdir()] == ["small.npz"]
    again = Trace.load(path)
    assert list(again) == list(trace)
    assert again.structure == trace.structure
    assert again.loss is None
    pairs = [(again.inputs, trace.inputs), (again.outputs, trace.outputs)]
    pairs += [(again.masks, trace.masks)]
    for name, layer in trace.layers.items():
        other = again.layers[name]
        assert (other.cell, other.go_backwards, other.info) == (
            layer.cell,
            layer.go_backwards,
            layer.info,
        )
        pairs += [(other.arrays, layer.arrays), (other.initial, layer.initial)]
        pairs += [({"mask": other.mask}, {"mask": layer.mask})]
    for found, expected in pairs:
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
    with np.load(path) as archive:  # as any other program reads it
        assert archive["inputs/0"].shape == trace.inputs["series"].shape


def test_files_hold_text_and_losses(tmp_path: Path) -> None:
    structure = Structure("texts", "Model", (), (), (), ())
    words = np.array([[b"one", "zwei"], ["drei", b"\xff"]], object)
    trace = Trace({}, structure, {"words": words}, {}, loss=float("nan"))
    again = Trace.load(trace.save(tmp_path / "texts.npz"))
    assert again.inputs["words"].tolist() == [["one", "zwei"], ["drei", "\ufffd"]]
    assert np.isnan(again.loss)


def test_a_failure_leaves_the_old_file(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trace.save(tmp_path / "small.npz")
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left"):
        trace.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["small.npz"]
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere' for .*small.npz"):
        trace.save(tmp_path / "nowhere" / "small.npz")


def rewritten(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of an archive with some members replaced; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            data = changes.get(member, old.read(member))
            if data is not None:
                new.writestr(member, data)
    return target


def edited(source: Path, target: Path, edit: Any) -> Path:
    """A copy of an archive with another description."""
    with zipfile.ZipFile(source) as old:
        description = json.loads(old.read("trace.json"))
    edit(description)
    return rewritten(source, target, **{"trace.json": json.dumps(description)})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format="other"), "is no trace"),
        (lambda d: d.update(version=2), "version 2, and this Recurra reads version 1"),
        (lambda d: d.pop("layers"), "damaged: its description lacks or misuses 'layers'"),
        (lambda d: d.update(layers=7), "damaged"),
        (lambda d: d["layers"][0].update(cell="transformer"), "knows lstm, gru, simple_rnn"),
        (lambda d: d["layers"][0].update(cell=["lstm"]), "damaged"),
        (lambda d: d["layers"][0].update(arrays=[1]), "damaged"),
        (lambda d: d["layers"][0]["arrays"].pop("hidden_state"), "has no hidden_state"),
        (lambda d: d["layers"][0].update(path=None), "path is None, which is no text"),
        (lambda d: d["layers"][0]["info"].update(activations=-1), "activations of .* are -1"),
        (lambda d: d["layers"][0]["info"].update(activations={"candidate": []}), "activations of"),
        (
            lambda d: d["layers"][0]["arrays"].update(input_gate=d["layers"][0]["arrays"]["input"]),
            "has input_gate of shape",
        ),
        (lambda d: d["layers"][0]["arrays"].update(input="inputs/99"), "'inputs/99' is missing"),
        (
            lambda d: d["layers"][0]["arrays"].update(input=d["outputs"]["forecast"]),
            r"has input of shape \(2, 1\) beside hidden_state",
        ),
        (
            lambda d: d["layers"][0]["mask"].update(mask=d["layers"][0]["arrays"]["input"]),
            "the mask of 'bi/forward_layer' has 3 axes",
        ),
        (lambda d: d["structure"].update(tensors=[{"shape": None}]), "damaged"),
        (lambda d: d.update(structure=None), "damaged"),
    ],
)
def test_descriptions_are_not_believed(
    trace: Trace, tmp_path: Path, edit: Any, message: str
) -> None:
    path = edited(trace.save(tmp_path / "good.npz"), tmp_path / "bad.npz", edit)
    with pytest.raises(ValueError, match=message) as error:
        Trace.load(path)
    assert "bad.npz" in str(error.value)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (b"", "is no array"),
        (b"\x93NUMPY\x09\x00", "is no array"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"\x80\x04N."), "object"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10**9,)}"), "is no array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}"), "holds 0 bytes"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}", b"0" * 16), "holds"),
        (npy("__import__('os').abort()"), "is no array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"0" * 8), "holds 8 bytes"),
        (None, "'inputs/0' is missing"),
    ],
)
def test_members_are_not_believed(
    trace: Trace, tmp_path: Path, member: bytes | None, message: str
) -> None:
    good = trace.save(tmp_path / "good.npz")
    path = rewritten(good, tmp_path / "bad.npz", **{"inputs/0.npy": member})
    with pytest.raises(ValueError, match=message):
        Trace.load(path)


def test_damaged_files_are_told(trace: Trace, tmp_path: Path) -> None:
    good = trace.save(tmp_path / "good.npz").read_bytes()
    path = tmp_path / "bad.npz"
    for data in (b"", b"PK\x03\x04", good[:-200], good[: len(good) // 2], b"\x00" * 100):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"bad.npz: is no trace, or a damaged one"):
            Trace.load(path)
    place = good.index(b"\x93NUMPY") + 200  # in the numbers: the checksum tells
    path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    with pytest.raises(ValueError, match="damaged"):
        Trace.load(path)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(ValueError, match="is an archive without trace.json"):
        Trace.load(path)
    rewritten(tmp_path / "good.npz", path, **{"trace.json": b"[" * 100_000})
    with pytest.raises(ValueError, match="is no JSON"):
        Trace.load(path)
    with pytest.raises(ValueError, match="max_bytes is 1,000"):
        saving.load(tmp_path / "good.npz", max_bytes=1000)
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        Trace.load(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="is a folder; expected a file that Trace.save wrote"):
        Trace.load(tmp_path)


def test_no_keras_is_needed_for_a_loaded_model(model: Any, tmp_path: Path) -> None:
    """Nor anything else: the structure, the trace and the file of it."""
    model.save(tmp_path / "model.keras")
    x = numbers(2, 5, 3)
    np.save(tmp_path / "x.npy", x)
    program = """
import sys
for name in ("keras", "jax", "torch", "tensorflow", "xarray", "matplotlib"):
    sys.modules[name] = None
import numpy, recurra
trace = recurra.trace("model.keras", numpy.load("x.npy"))
assert type(trace["top"]["hidden_state"]) is numpy.ndarray
trace.save("trace.npz")
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    again, expected = Trace.load(tmp_path / "trace.npz"), recurra.trace(model, x)
    assert list(again) == list(expected)
    for path, layer in expected.layers.items():
        for name, array in layer.arrays.items():
            np.testing.assert_allclose(again[path].arrays[name], array, atol=1e-6)


def test_a_trace_may_be_made_by_hand() -> None:
    """Everything that reads traces takes this form."""
    arrays = {"input": numbers(2, 3, 1), "hidden_state": numbers(2, 3, 4)}
    layer = LayerTrace("rnn", None, arrays, info={"class_name": "RNN"})
    assert result.steps_of(layer) == 3
    assert result.dims_of(layer, "hidden_state") == ("batch", "time_steps", "units")
    deep = LayerTrace("conv", None, {"hidden_state": numbers(2, 3, 4, 4, 1)})
    assert result.dims_of(deep, "hidden_state")[2:] == ("axis_0", "axis_1", "units")
