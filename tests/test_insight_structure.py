"""The structure of models: its calls, tensors, masks, states and layers, against Keras's own."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import quick_weights
import recurra
import recurra.layers as L
import runtime_zoo
from insight_zoo import LOADS, MODELS, made
from recurra.insight import structure_of
from recurra.insight.structure import Structure
from recurra.insight.structure.keras_models import execution_paths
from recurra.runtime import ModelFileError

no_random_weights = quick_weights.no_random_weights

Input = keras.Input


def calls(structure: Structure) -> list[tuple[Any, ...]]:
    """Everything about the nodes that does not depend on who runs them."""
    return [
        (
            node.path,
            node.class_name,
            node.inputs,
            node.states,
            dict(node.others),
            node.outputs,
            node.output_names,
            node.parameters,
            node.mask_role,
            dict(node.config),
            node.operation,
        )
        for node in structure.nodes
    ]


def shape_of(structure: Structure, name: str) -> Any:
    return next(t.shape for t in structure.tensors if t.name == name)


def node_of(structure: Structure, path: str) -> Any:
    return next(node for node in structure.nodes if node.path == path)


# --- Keras and loaded models ---


@pytest.mark.parametrize("name", [name for name, loads in LOADS.items() if loads])
def test_a_loaded_model_has_the_structure_of_the_one_that_was_saved(
    name: str, tmp_path: Path
) -> None:
    model = made(name).model
    model.save(tmp_path / "model.keras")
    ours, loaded = structure_of(model), structure_of(tmp_path / "model.keras")
    assert calls(loaded) == calls(ours)
    assert loaded.inputs == ours.inputs
    assert loaded.outputs == ours.outputs
    assert [t.name for t in loaded.tensors] == [t.name for t in ours.tensors]
    assert [t.masked for t in loaded.tensors] == [t.masked for t in ours.tensors]
    # The runtime leaves every batch free.
    assert [t.shape and t.shape[1:] for t in loaded.tensors] == [
        t.shape and t.shape[1:] for t in ours.tensors
    ]
    assert loaded.source == str(tmp_path / "model.keras")
    assert loaded.kind == "Runtime"
    for node, other in zip(loaded.recurrent(), ours.recurrent(), strict=True):
        pairs = zip(node.recurrent.leaves(""), other.recurrent.leaves(""), strict=True)
        assert all(one.cells == two.cells for (_, one), (_, two) in pairs)


@pytest.mark.parametrize(
    "name", ["attention_translator", "merged_directions", "deep_wrappers", "shared_between_models"]
)
def test_calls_that_keras_orders_in_its_own_way(name: str, tmp_path: Path) -> None:
    model = runtime_zoo.ARCHITECTURES[name](L)[0]
    model.save(tmp_path / "model.keras")
    assert calls(structure_of(model)) == calls(structure_of(tmp_path / "model.keras"))


def test_an_onnx_file(tmp_path: Path) -> None:
    model = made("translator").model
    model.save(tmp_path / "model.keras")
    recurra.load(tmp_path / "model.keras").export_onnx(tmp_path / "model.onnx")
    assert calls(structure_of(tmp_path / "model.onnx")) == calls(structure_of(model))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "subclassed"])
def test_masks_are_those_that_keras_keeps(name: str) -> None:
    model = made(name).model
    found = structure_of(model)
    graph = getattr(model, "_functional", None) or model
    masked = {tensor.name: tensor.masked for tensor in found.tensors}
    compared = 0
    for nodes in graph._nodes_by_depth.values():
        for node in nodes:
            names = [node.operation.name, *_other_outputs(found, node.operation.name)]
            for label, tensor in zip(names, node.outputs, strict=False):
                if label in masked and len(node.operation._inbound_nodes) == 1:
                    assert masked[label] == (keras.src.backend.get_keras_mask(tensor) is not None)
                    compared += 1
    assert compared


def _other_outputs(structure: Structure, path: str) -> list[str]:
    return [
        f"{path}:{name}"
        for node in structure.nodes
        if node.path == path
        for name in node.output_names[1:]
    ]


def test_roles_of_masks() -> None:
    roles = {n.path: n.mask_role for n in structure_of(made("masked_classifier").model).nodes}
    assert roles == {"masking": "makes", "lstm": "uses", "last": "uses", "kinds": "none"}
    roles = {n.path: n.mask_role for n in structure_of(made("translator").model).nodes}
    # Keras hands masks to calls with a single tensor only, and the decoder has states too.
    assert roles["encoder"] == "uses"
    assert roles["decoder"] == "passes"
    x = Input((6, 3))
    y = L.Flatten(name="flat")(L.Masking()(x))
    assert structure_of(keras.Model(x, y)).nodes[-1].mask_role == "loses"


def test_a_mask_of_the_users_is_shown_and_one_of_keras_is_not() -> None:
    found = structure_of(made("operations").model)
    assert node_of(found, "lstm").others == {"mask": (2,)}
    assert found.maker(2).class_name == "Any"
    found = structure_of(made("masked_classifier").model)
    assert [node.class_name for node in found.nodes] == ["Masking", "LSTM", "SimpleRNN", "Dense"]


# --- What is recurrent ---


def test_cells_engines_and_options() -> None:
    upper = node_of(structure_of(made("stacked").model), "upper").recurrent
    (cell,) = upper.cells
    assert (upper.engine, upper.library, upper.layer_name) == ("cpu", "recurra", "upper")
    assert (cell.cell, cell.units, cell.features) == ("gru", 3, 4)
    assert cell.options == {"reset_after": False, "use_bias": False}
    assert cell.weights == {"kernel": (4, 9), "recurrent_kernel": (3, 9)}
    assert cell.activations["candidate"] == "tanh"
    assert cell.state_sizes == ((3,),)
    stock = node_of(structure_of(made("stacked", "keras").model), "upper").recurrent
    assert (stock.engine, stock.library) == ("keras", "keras")
    assert "recurra.layers" in stock.advice
    assert stock.cells == upper.cells
    own = node_of(structure_of(made("custom_cell").model), "own").recurrent
    assert own.cells[0].cell is None
    assert own.cells[0].weights == {"kernel": (3, 3), "decay": (3,)}
    assert "MinimalCell" in own.reason
    assert "LSTMCell" in own.advice
    stack = node_of(structure_of(made("cell_stack").model), "stack").recurrent
    assert [(c.name, c.features, c.units) for c in stack.cells] == [
        ("cell_0", 3, 3),
        ("cell_1", 3, 4),
        ("cell_2", 4, 2),
    ]


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (L.LSTM(2), ["output"]),
        (L.LSTM(2, return_state=True), ["output", "state_h", "state_c"]),
        (
            L.GRU(2, return_trace=True),
            ["output", "state_h", "candidate", "hidden_state", "reset_gate", "update_gate"],
        ),
        (
            L.RNN([L.LSTMCell(2), L.GRUCell(3)], return_state=True),
            ["output", "cell_0/state_h", "cell_0/state_c", "cell_1/state_h"],
        ),
        (
            L.Bidirectional(L.GRU(2, return_state=True), merge_mode=None),
            ["forward_output", "backward_output", "forward_state_h", "backward_state_h"],
        ),
        (L.TimeDistributed(L.GRU(2, return_state=True)), ["output", "state_h"]),
    ],
)
def test_names_of_results(layer: Any, names: list[str]) -> None:
    found = structure_of(layer)
    assert found.kind == "Layer"
    assert list(found.nodes[0].output_names) == names
    x = Input((4, 5, 3) if isinstance(layer, L.TimeDistributed) else (5, 3))
    built = structure_of(keras.Model(x, keras.tree.flatten(layer(x))))
    assert list(built.nodes[0].output_names) == names
    assert [len(found.tensors[t].shape) for t in found.nodes[0].outputs] == [
        len(built.tensors[t].shape) for t in built.nodes[0].outputs
    ]


def test_layers_that_are_not_built() -> None:
    found = structure_of(L.LSTM(4, return_sequences=True, name="lstm"))
    assert [t.shape for t in found.tensors] == [(None, None, None), (None, None, 4)]
    (cell,) = found.nodes[0].recurrent.cells
    assert (cell.units, cell.features, cell.weights) == (4, None, {})
    assert structure_of(L.ConvLSTM2D(2, 3)).tensors[0].shape == (None,) * 5
    assert structure_of(L.Masking()).nodes[0].mask_role == "makes"


# --- Python inside ---


class Loop(keras.layers.Layer):
    """An LSTM three times in a row, with weights of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lstm = L.LSTM(3, return_sequences=True, name="lstm")
        self.scale = self.add_weight(shape=(3,), name="scale")

    def build(self, input_shape: Any) -> None:
        self.lstm.build(input_shape)

    def call(self, x: Any) -> Any:
        for _ in range(3):
            x = self.lstm(x) * self.scale
        return x


class Encoder(keras.Model):
    """Counts its calls; a dict comes out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loop = Loop(name="loop")
        self.gru = L.GRU(2, return_state=True, name="gru")
        self.calls = keras.Variable(0.0, trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        self.calls.assign_add(1.0)
        last, state = self.gru(self.loop(x))
        return {"last": last, "state": state}


def recorded(model: Any) -> list[tuple[int, int]]:
    """How many calls Keras has on record for every layer."""
    return [(len(n._inbound_nodes), len(n._outbound_nodes)) for n in model._flatten_layers()]


def test_python_is_followed_and_leaves_nothing_behind() -> None:
    encoder = Encoder(name="encoder")
    a, b = Input((5, 3), name="a"), Input((5, 3), name="b")
    one, two = encoder(a), encoder(b)
    model = keras.Model([a, b], ops.concatenate([one["state"], two["last"]], axis=-1))
    before, count = recorded(model), float(encoder.calls)
    found = structure_of(model)
    assert recorded(model) == before
    assert float(encoder.calls) == count
    assert not found.gaps
    assert [node.path for node in found.recurrent()] == [
        "encoder/loop/lstm",
        "encoder/loop/lstm:2",
        "encoder/loop/lstm:3",
        "encoder/gru",
        "encoder/loop/lstm:4",
        "encoder/loop/lstm:5",
        "encoder/loop/lstm:6",
        "encoder/gru:2",
    ]
    assert found.maker(found.nodes[-1].inputs[1]).path == "encoder/gru:2"
    assert node_of(found, "encoder/loop/multiply").parameters == 3
    counter = 1  # no call gets it
    assert sum(node.parameters for node in found.nodes) == model.count_params() - counter
    assert found.nodes[0].parameters
    assert not node_of(found, "encoder/loop/lstm:4").parameters


def test_python_that_cannot_be_followed_is_one_call() -> None:
    class Raw(keras.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.lstm = L.LSTM(3, name="lstm")

        def build(self, shape: Any) -> None:
            self.lstm.build(shape)

        def call(self, x: Any) -> Any:
            return ops.convert_to_tensor(np.asarray(self.lstm(x)))

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor((x.shape[0], 3))

    x = Input((None, 3), name="x")
    model = keras.Model(x, L.Dense(1, name="out")(Raw(name="raw")(x)))
    before = recorded(model)
    found = structure_of(model)
    assert recorded(model) == before
    assert [(n.path, n.inputs, n.outputs) for n in found.nodes] == [
        ("raw", (0,), (1,)),
        ("raw/lstm", (), ()),
        ("out", (1,), (2,)),
    ]
    assert len(found.gaps) == 1
    assert "'raw' (Raw)" in found.gaps[0]
    assert sum(node.parameters for node in found.nodes) == model.count_params()


def test_a_model_of_several_arguments() -> None:
    class Translator(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="translator")
            self.a = L.LSTM(3, return_state=True, name="a")
            self.b = L.LSTM(3, name="b")

        def call(self, source: Any, target: Any = None, training: bool = False) -> Any:
            _, h, c = self.a(source)
            return self.b(target, initial_state=[h, c])

    model = Translator()
    x = np.zeros((2, 4, 3), "float32"), np.zeros((2, 5, 3), "float32")
    with pytest.raises(ValueError, match="call it once on data"):
        structure_of(model)
    model(*x)
    guessed = structure_of(model)
    assert node_of(guessed, "b").states == guessed.nodes[0].outputs[1:]
    assert "target" in guessed.gaps[0]
    for given in (x, dict(zip(("source", "target"), x, strict=True))):
        found = structure_of(model, given)
        assert shape_of(found, "target") == (None, 5, 3)
        assert not found.gaps


def test_odd_models() -> None:
    x = Input((None, 3), name="x")
    y = L.LSTM(2, return_state=True, name="lstm")(x)
    found = structure_of(keras.Model(x, [x, y[0], y[0], y[2]]))
    assert found.outputs == (0, 1, 1, 3)
    assert [t.name for t in found.tensors[1:]] == ["lstm", "lstm:state_h", "lstm:state_c"]

    inner = keras.Sequential([Input((None, 3)), L.LSTM(2, name="lstm")], name="inner")
    model = keras.Sequential([Input((4, 5, 3)), L.TimeDistributed(inner, name="td")])
    (node,) = structure_of(model).recurrent()
    assert [path for path, _ in node.recurrent.leaves("td")] == ["td/layer/lstm"]

    class Plain(keras.Model):
        """Functional, with a step of training of its own."""

        def train_step(self, *args: Any) -> Any:
            return super().train_step(*args)

    assert structure_of(Plain(x, y[0])).kind == "Functional"
    state = L.ConvLSTM1D(2, 3, return_state=True, name="conv")(Input((4, 6, 2)))
    assert state.state_c._keras_history.operation.name == "conv"


def test_calls_in_the_order_in_which_keras_runs_them() -> None:
    shared, ran = L.GRU(2, name="shared"), []
    a, b = Input((4, 3), name="a"), Input((4, 3), name="b")
    one, two = shared(a), shared(b)
    model = keras.Model([a, b], ops.concatenate([one, two, L.Dense(2)(one)], axis=-1))
    first, call = structure_of(model), shared.call
    inputs = {
        node.path: first.tensors[node.inputs[0]].name
        for node in first.nodes
        if node.recurrent is not None
    }
    assert inputs == {"shared": "a", "shared:2": "b"}

    def noted(x: Any, *args: Any, **kwargs: Any) -> Any:
        ran.append("a" if float(x[0, 0, 0]) == 1.0 else "b")
        return call(x, *args, **kwargs)

    shared.call = noted
    model([np.full((1, 4, 3), value, "float32") for value in (1.0, 2.0)])
    assert [inputs[path] for path in execution_paths(model)[id(shared)]] == ran


# --- What is refused, and JSON ---


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"keras\.Input\(shape\)"):
        structure_of(keras.Sequential([L.LSTM(3)]))
    with pytest.raises(TypeError, match="got a int"):
        structure_of(3)
    with pytest.raises(FileNotFoundError, match=r"none\.keras"):
        structure_of("none.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK\3\4nothing")
    with pytest.raises(ModelFileError, match="broken"):
        structure_of(tmp_path / "broken.keras")
    encoder = Encoder(name="encoder")
    encoder(np.zeros((1, 4, 3), "float32"))
    encoder.save(tmp_path / "own.keras")
    with pytest.raises(ModelFileError, match="class Encoder"):
        structure_of(tmp_path / "own.keras")


@pytest.mark.parametrize("name", MODELS)
def test_json_and_back(name: str) -> None:
    found = structure_of(made(name).model)
    assert Structure.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert structure_of(found) is found


def test_json_of_something_else_is_refused() -> None:
    data = structure_of(made("forecaster").model).to_dict()
    data["nodes"][1]["inputs"] = (1, 77)
    with pytest.raises(ValueError, match="77"):
        Structure.from_dict(data)
    with pytest.raises((KeyError, TypeError)):
        Structure.from_dict({"name": "x"})


def test_threads_read_a_model_side_by_side() -> None:
    """Every thread sees the model alone, and it keeps its own records of calls."""
    meeting: list[threading.Barrier] = []  # brings threads into the call together, if it can

    class Block(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = L.LSTM(3, return_sequences=True)
            self.norm = keras.layers.LayerNormalization()

        def call(self, x: Any) -> Any:
            x = x + self.norm(self.lstm(x))
            for barrier in meeting:
                with contextlib.suppress(threading.BrokenBarrierError):
                    barrier.wait(0.5)
            return x

    model = keras.Sequential([keras.Input((5, 3)), Block(), Block(), keras.layers.Dense(1)])
    layers = model._flatten_layers()
    before = [(each._inbound_nodes, [*each._inbound_nodes]) for each in layers]
    expected = structure_of(model)
    found: list[Structure] = []

    def run() -> None:
        found.extend(structure_of(model) for _ in range(3))

    meeting.append(threading.Barrier(3))
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    assert all(each == expected for each in found)
    for layer, (nodes, held) in zip(layers, before, strict=True):
        assert layer._inbound_nodes is nodes
        assert [*nodes] == held
