"""ONNX files: written and run by ONNX Runtime, read back, and nothing trusted."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import pytest

import recurra
import runtime_zoo as zoo
from recurra.runtime import layers
from recurra.runtime.create import make_layer
from recurra.runtime.errors import ModelFileError, StreamingError, UnsupportedLayerError
from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.layer import LAYERS, Array, Call, Layer
from recurra.runtime.model import Runtime
from runtime_layer_cases import CASES, Case

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from recurra.runtime.onnx import Report, export  # noqa: E402

layers.load()

RNG = np.random.default_rng(5)
UNITS, FEATURES = 5, 3
RECURRENT = ("LSTM", "GRU", "RNN")


def random(*shape: int) -> Array:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, report: Report, *inputs: Array) -> list[Array]:
    feed = {p.name: a.astype(p.dtype) for p, a in zip(report.inputs, inputs, strict=True)}
    return session(path).run(None, feed)


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def close(made: Sequence[Array], wanted: Sequence[Array]) -> None:
    assert [x.shape for x in made] == [x.shape for x in wanted]
    for one, two in zip(made, wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


def built(
    class_name: str, shapes: Sequence[tuple[int | None, ...]], weights: Any = None, **config: Any
) -> Layer:
    """A layer of the runtime, with these weights."""
    config.setdefault("name", class_name.lower())
    entry = {"module": "keras.layers", "class_name": class_name, "config": config}
    layer = make_layer(entry, config["name"])
    layer.build(weights or {}, shapes)
    layer.weights, layer.shapes = weights or {}, shapes
    return layer


def recurrent(class_name: str, features: int = FEATURES, **config: Any) -> Layer:
    """A recurrent layer of UNITS units with random weights."""
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[class_name]
    weights = {
        "kernel": random(features, gates * UNITS),
        "recurrent_kernel": random(UNITS, gates * UNITS),
    }
    if config.get("use_bias", True):
        two = class_name == "GRU" and config.get("reset_after", True)
        weights["bias"] = random(2, gates * UNITS) if two else random(gates * UNITS)
    shape = (None, None, features)
    return built(class_name, [shape], weights, units=UNITS, **config)


def chain(*layers: Layer, shape: tuple[int | None, ...] = (None, None, FEATURES)) -> Graph:
    """One layer after the other; the last one's outputs are the model's."""
    x = given = Tensor(0, "x", shape)
    numbers, nodes = itertools.count(1), []
    outputs: list[Tensor] = []
    for layer in layers:
        shapes = layer.output_shapes([x.shape])
        outputs = [Tensor(next(numbers), layer.where, s) for s in shapes]
        nodes.append(Node(layer, [x], outputs))
        x = outputs[0]
    return Graph("chain", [given], outputs, nodes)


# --- Whole models ---


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation() -> Iterator[None]:
    """Compiling takes longer than everything else here."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("name", sorted(set(zoo.ARCHITECTURES) - {"odd_activations"}))
def test_trained_models_give_the_same_numbers_and_come_back(name: str, tmp_path: Path) -> None:
    case, path = zoo.trained(name, "recurra"), tmp_path / "model.onnx"
    case.model.save(tmp_path / "model.keras")
    model = recurra.load(tmp_path / "model.keras")
    report = export(model, path)
    x = case.x
    named = (
        [x[each.name] for each in model.inputs] if isinstance(x, dict) else keras.tree.flatten(x)
    )
    wanted = keras.tree.flatten(model.predict(x))
    close(run(path, report, *named), wanted)
    close(run(path, report, *(each[:1] for each in named)), [y[:1] for y in wanted])
    assert not {"Loop", "Scan", "If"} & set(kinds(path))
    again = recurra.load(path)
    made = keras.tree.flatten(again.predict(named if len(named) > 1 else named[0]))
    for one, two in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(one, two)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"go_backwards": True},
    {"return_sequences": False},
    {"reset_after": False},
    {"use_bias": False, "activation": "relu", "recurrent_activation": "hard_sigmoid"},
    {"activation": "elu", "recurrent_activation": "softsign", "zero_output_for_mask": True},
    {"activation": "softplus"},
    {"activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.25}}},
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("class_name", ["LSTM", "GRU", "SimpleRNN"])
def test_recurrent_layers_follow_any_mask(
    class_name: str, options: dict[str, Any], masked: bool, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    layer = recurrent(class_name, **{"return_sequences": True, "return_state": True, **options})
    masking = built("Masking", [(None, None, FEATURES)], mask_value=0.0)
    report = export(chain(*([masking] if masked else []), layer), path)
    for batch, time_steps in ((1, 1), (5, 7)):
        x = random(batch, time_steps, FEATURES)
        keep = RNG.random((batch, time_steps)) < 0.6
        keep[0] = False  # a row of which nothing is kept
        keep[-1:] = np.arange(time_steps) < 3
        mask = keep if masked else None
        x = x * keep[..., None] if masked else x
        close(run(path, report, x), layer.compute(Call([x], [mask])).outputs)


BY_CLASS = {case.class_name for case in CASES if not case.class_name.endswith("Transpose")}
MOST = 5
"""Configurations of a class: a file and a session of ONNX Runtime for each take their time."""
REFUSED = ("does not broadcast", "inputs of", "attention along", "are written")


@pytest.mark.parametrize("class_name", sorted(BY_CLASS))
def test_layers_give_the_same_numbers(class_name: str, tmp_path: Path) -> None:
    """Configurations that the layers' own tests have, with the masks of their inputs."""
    path = tmp_path / "model.onnx"
    written = 0
    cases = [case for case in CASES if case.class_name == class_name]
    for case in cases[:: -(-len(cases) // MOST)]:
        layer, call, graph = one_call(case)
        try:
            report = export(graph, path)
        except UnsupportedLayerError as error:
            if not any(text in str(error) for text in REFUSED):
                raise
            continue
        given = [*call.inputs, *(mask for mask in call.masks if mask is not None)]
        given += [value for value in call.arguments.values() if isinstance(value, np.ndarray)]
        with np.errstate(all="ignore"):
            wanted = layer.compute(call).outputs
        close(run(path, report, *given), [np.asarray(y, np.float32) for y in wanted])
        again = recurra.load(path)
        assert [type(node.layer) for node in again.graph.nodes][-1] is type(layer)
        written += 1
    assert written


def one_call(case: Case) -> tuple[Layer, Call, Graph]:
    """A layer with random weights, a call of it, and the graph of that; masks are inputs."""
    theirs = getattr(keras.layers, case.class_name)(**case.config)
    sizes = [(None, *shape) for shape in case.shapes]
    if LAYERS[case.class_name].operands > 1:
        theirs.build(*sizes)
    else:
        theirs.build(sizes if len(sizes) > 1 else sizes[0])
    config = keras.saving.serialize_keras_object(theirs)["config"]
    entry = {"module": "keras.layers", "class_name": case.class_name, "config": config}
    layer = make_layer(entry, theirs.name)
    weights = {}
    for variable in layer.variables():
        owner = theirs
        for part in variable.path:
            owner = getattr(owner, part)
        own = owner._trainable_variables + owner._non_trainable_variables
        value = random(*own[variable.index].shape)
        weights[variable.name] = np.abs(value) + 0.1 if "variance" in variable.name else value
    shapes = [(None, *shape) for shape in case.shapes]
    layer.build(weights, shapes)
    layer.weights, layer.shapes = weights, shapes
    tensors, arrays = [Tensor(n, f"x{n}", s) for n, s in enumerate(shapes)], []
    extra: list[Tensor] = []
    nodes: list[Node] = []
    masks: list[Array | None] = []
    numbers = itertools.count(len(tensors))
    operands = []
    flags = case.masks or [False] * len(shapes)
    for tensor, shape, masked in zip(tensors, case.shapes, flags, strict=True):
        arrays.append(random(4, *shape))
        masks.append(mask_of(4, shape[0]) if masked else None)
        if masked:
            mask = Tensor(next(numbers), f"mask{tensor.index}", (None, shape[0]), "bool")
            seen = Tensor(next(numbers), "seen", tensor.shape)
            identity = built("Identity", [tensor.shape], name=f"identity{tensor.index}")
            nodes.append(Node(identity, [tensor], [seen], {"mask": mask}))
            extra.append(mask)
        operands.append(nodes[-1].outputs[0] if masked else tensor)
    given: dict[str, Any] = dict(case.call)
    arguments = dict(given)
    for name, value in given.items():
        if isinstance(value, tuple):
            arguments[name] = Tensor(next(numbers), name, (None, *value), "bool")
            extra.append(arguments[name])
            given[name] = mask_of(4, *value)
    made = [Tensor(next(numbers), layer.where, s) for s in layer.call_shapes(shapes, arguments)]
    nodes.append(Node(layer, operands, made, arguments))
    return layer, Call(arrays, masks, given), Graph("one", [*tensors, *extra], made, nodes)


def mask_of(*shape: int) -> Array:
    mask = RNG.random(shape) < 0.6
    mask[0] = True
    mask[:, 0] = True
    return mask


# --- States as inputs and outputs ---


def stream_model() -> Runtime:
    conv = {"kernel": random(3, FEATURES, 4), "bias": random(4)}
    shape = (None, None, FEATURES)
    stack = [
        built("Masking", [shape], mask_value=0.0),
        recurrent("LSTM", return_sequences=True),
        recurrent("GRU", features=UNITS, return_sequences=True),
        built(
            "Dense", [(None, None, UNITS)], {"kernel": random(UNITS, 2)}, units=2, use_bias=False
        ),
    ]
    first = built(
        "Conv1D", [shape], conv, filters=4, kernel_size=3, padding="causal", name="filters"
    )
    second = recurrent("SimpleRNN", features=4, return_sequences=True)
    return Runtime(chain(*stack)), Runtime(chain(first, second))


@pytest.mark.parametrize("which", [0, 1])
def test_stateful_calls_go_on_as_sessions_do(which: int, tmp_path: Path) -> None:
    model, path = stream_model()[which], tmp_path / "model.onnx"
    report = export(model, path, stateful=True)
    expected = [
        ("lstm_hidden_state", "lstm_cell_state", "gru_hidden_state"),
        ("filters_history", "simplernn_hidden_state"),
    ]
    assert report.states == tuple((name, f"{name}_out") for name in expected[which])
    runner = session(path)
    for batch in (1, 3):
        x = random(batch, 9, FEATURES)
        x[:, (0, 4, 5)] = 0  # masked by the first model
        states = {
            port.name: np.zeros([n if isinstance(n, int) else batch for n in port.shape], "float32")
            for port in report.inputs[1:]
        }
        live, parts, wanted = model.open(batch=batch), [], []
        for start, stop in ((0, 1), (1, 2), (2, 6), (6, 9)):
            part = x[:, start:stop]
            y, *after = runner.run(None, {report.inputs[0].name: part, **states})
            states = dict(zip(states, after, strict=True))
            parts.append(y)
            wanted.append(live.run(part))
        close(parts, wanted)
        close([np.concatenate(parts, axis=1)], [model.predict(x)])
    again = recurra.load(path)
    assert [spec.name for spec in again.inputs] == ["x"]
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_stateful_export_names_what_cannot_stream(tmp_path: Path) -> None:
    inner = {"class_name": "LSTM", "module": "keras.layers", "config": {"units": 2}}
    weights = {
        f"{part}/{name}": random(*shape)
        for part in ("forward_layer", "backward_layer")
        for name, shape in (("kernel", (3, 8)), ("recurrent_kernel", (2, 8)), ("bias", (8,)))
    }
    both = built("Bidirectional", [(None, None, 3)], weights, layer=inner)
    with pytest.raises(StreamingError, match="bidirectional"):
        export(chain(both), tmp_path / "model.onnx", stateful=True)
    assert list(tmp_path.iterdir()) == []
    assert "LSTM" in kinds(export(chain(both), tmp_path / "model.onnx").path)


# --- Refusals ---


def test_activations_that_onnx_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayerError, match="'gru' .GRU.: its activation mish .*tanh"):
        export(chain(recurrent("GRU", activation="mish")), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(chain(recurrent("LSTM")), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "recurra\[onnx\]"'):
        export(chain(recurrent("LSTM")), tmp_path / "other.onnx")
    with pytest.raises(ImportError, match=r'pip install "recurra\[onnx\]"'):
        recurra.load(tmp_path / "model.onnx")


def test_an_unchecked_file_does_not_replace_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")

    def refuse(*args: Any, **keywords: Any) -> None:
        raise onnx.checker.ValidationError("wrong")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        export(chain(recurrent("LSTM")), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("described", [True, False])
def test_damaged_files_are_refused(described: bool, tmp_path: Path) -> None:
    path, bad = tmp_path / "model.onnx", tmp_path / "bad.onnx"
    export(chain(recurrent("LSTM", return_sequences=True)), path)
    if not described:
        proto = onnx.load(path)
        del proto.metadata_props[:]
        onnx.save(proto, path)
        assert recurra.load(path).predict(random(2, 3, FEATURES)).shape == (2, 3, UNITS)
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        bad.write_bytes(data[:end])
        with pytest.raises(ModelFileError, match="bad.onnx"):
            recurra.load(bad)
    rng = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            changed[place] = rng.integers(0, 256)
        bad.write_bytes(bytes(changed))
        with contextlib.suppress(ModelFileError):
            recurra.load(bad)


def test_sizes_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(chain(recurrent("LSTM")), path)
    proto = onnx.load(path)
    proto.graph.initializer[0].dims[:] = [2**40, 2**20]
    onnx.save(proto, path)
    with pytest.raises(ModelFileError, match="larger than max_bytes"):
        recurra.load(path)
    proto.graph.initializer[0].dims[:] = [1, 2]
    onnx.save(proto, path)
    with pytest.raises(ModelFileError, match="bytes of data; expected 8"):
        recurra.load(path)


def test_weights_in_other_folders_are_not_read(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "model.onnx"
    export(chain(recurrent("LSTM")), path)
    proto = onnx.load(path)
    onnx.save(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
    model = recurra.load(path)
    assert model.predict(random(1, 2, FEATURES)).shape == (1, UNITS)
    (inner / "model.data").rename(tmp_path / "model.data")
    with pytest.raises(ModelFileError, match="not beside it"):
        recurra.load(path)
    (inner / "model.data").symlink_to(tmp_path / "model.data")
    with pytest.raises(ModelFileError, match="cannot be read"):
        recurra.load(path)
    for location in ("../model.data", str(tmp_path / "model.data")):
        proto = onnx.load(path, load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(proto.SerializeToString())
        with pytest.raises(ModelFileError, match="not in the model's folder"):
            recurra.load(path)


def test_a_changed_file_is_read_by_its_operators(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    dense = built("Dense", [(None, UNITS)], {"kernel": random(UNITS, 2)}, units=2, use_bias=False)
    export(chain(recurrent("GRU"), dense), path)
    proto = onnx.load(path)
    matrix = next(n for n in proto.graph.node if n.op_type == "MatMul")
    matrix.output[0], output = "doubled", matrix.output[0]
    proto.graph.node.insert(
        len(proto.graph.node) - 1, onnx.helper.make_node("Add", ["doubled"] * 2, [output])
    )
    x = random(3, 6, FEATURES)
    before = recurra.load(path).predict(x)
    onnx.save(proto, path)
    model = recurra.load(path)
    assert [node.layer.keras_class for node in model.graph.nodes] == ["GRU", "Dense", "Add"]
    np.testing.assert_allclose(model.predict(x), 2 * before, rtol=0, atol=1e-6)


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(chain(recurrent("LSTM")), path)
    proto = onnx.load(path)
    proto.graph.node[0].op_type = "Atan"
    proto.graph.node[0].name = "odd one"
    onnx.save(proto, path)
    with pytest.raises(UnsupportedLayerError, match=r"Operator 'odd one' \(ONNX's Atan\)"):
        recurra.load(path)


def test_layers_without_a_writer_are_named(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.class_name == "Conv1DTranspose")
    *_, graph = one_call(case)
    with pytest.raises(UnsupportedLayerError, match=r"\(Conv1DTranspose\): this layer cannot be"):
        export(graph, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def fixed_time(*, ids: bool, sequences: bool) -> Any:
    """A model for six time steps exactly, with masks."""
    keras.utils.set_random_seed(1)
    first = keras.layers.Masking()
    if ids:
        first = keras.layers.Embedding(5, FEATURES, mask_zero=True)
    return keras.Sequential(
        [
            keras.Input((6,) if ids else (6, FEATURES)),
            first,
            keras.layers.LSTM(6, return_sequences=sequences),  # as many units as time steps
            keras.layers.LayerNormalization(),
            keras.layers.Dense(6),
        ]
    )


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("ids", [False, True], ids=["numbers", "indices"])
def test_stateful_files_of_models_with_fixed_time_take_single_steps(
    tmp_path: Path, ids: bool, sequences: bool
) -> None:
    model = fixed_time(ids=ids, sequences=sequences)
    model.save(tmp_path / "model.keras")
    x = RNG.integers(0, 5, (2, 6)) if ids else random(2, 6, FEATURES)
    x[0, 4:] = 0  # padding
    report = export(tmp_path / "model.keras", tmp_path / "model.onnx", stateful=True)
    assert report.inputs[0].shape[1] == "time_steps"
    runner = session(tmp_path / "model.onnx")
    states = [np.zeros((2, 6), np.float32) for _ in report.states]
    steps = []
    for t in range(6):
        given = [x[:, t : t + 1].astype(report.inputs[0].dtype), *states]
        named = {port.name: array for port, array in zip(report.inputs, given, strict=True)}
        output, *states = runner.run(None, named)
        steps.append(output)
    found = np.concatenate(steps, axis=1) if sequences else steps[-1]
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_folder_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        export(chain(recurrent("GRU")), tmp_path / "nowhere" / "model.onnx")
