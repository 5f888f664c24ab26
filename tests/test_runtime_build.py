"""Models' configurations as graphs: both versions of Keras, and what no Keras would write."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from recurra.runtime import ModelFileError, Runtime, UnsupportedLayerError
from recurra.runtime.build import build
from recurra.runtime.layer import LAYERS


class Weights:
    """Weights of any shape that is asked for, without a file."""

    digest = "0" * 64

    def __init__(self, class_name: str, config: Any, arrays: dict[str, list[np.ndarray]]) -> None:
        self.class_name, self.config, self.arrays = class_name, config, arrays
        self.weights = self

    def read_all(self, requests: Any) -> list[dict[str, np.ndarray]]:
        return [
            {
                variable.name: array
                for variable, array in zip(
                    request.variables or (),
                    self.arrays.get("/".join(request.place), []),
                    strict=False,
                )
            }
            for request in requests
        ]


def runtime(config: Any, class_name: str = "Functional", **arrays: list[np.ndarray]) -> Runtime:
    made = build(Weights(class_name, config, arrays))  # type: ignore[arg-type]
    return Runtime(made.graph, made.inputs, made.outputs)


def keras_3(class_name: str, name: str, calls: Sequence[Any] = (), /, **config: Any) -> Any:
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"trainable": True, **config, "name": name},
        "registered_name": None,
        "name": name,
        "inbound_nodes": [{"args": [call], "kwargs": {}} for call in calls],
    }


def tensor(name: str, call: int = 0, output: int = 0) -> dict[str, Any]:
    history = [name, call, output]
    return {"class_name": "__keras_tensor__", "config": {"keras_history": history}}


def source(name: str = "x", shape: Any = (None, None, 2)) -> dict[str, Any]:
    return keras_3("InputLayer", name, batch_shape=list(shape), dtype="float32")


def model(*entries: Any, inputs: Any = ("x", 0, 0), outputs: Any = ("y", 0, 0)) -> dict[str, Any]:
    return {
        "name": "model",
        "layers": list(entries),
        "input_layers": inputs,
        "output_layers": outputs,
    }


def dense(name: str = "y", *calls: Any, **config: Any) -> dict[str, Any]:
    return keras_3("Dense", name, list(calls) or [tensor("x")], **{"units": 3, **config})


KERNEL = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)]
X = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
WANTED = X @ KERNEL[0] + KERNEL[1]


def test_calls_come_in_any_order() -> None:
    config = model(
        keras_3("Activation", "y", [tensor("a", 1)], activation="linear"),
        dense("d", tensor("x")),
        keras_3("Activation", "a", [tensor("x"), tensor("d")], activation="linear"),
        source(),
    )
    np.testing.assert_allclose(runtime(config, d=KERNEL).predict(X), WANTED, atol=1e-6)


def test_outputs_are_nested_as_in_keras() -> None:
    parts = (source(), dense())
    one = runtime(model(*parts, outputs=[["y", 0, 0]]), y=KERNEL).predict(X)
    assert one.shape == (2, 4, 3)
    two = runtime(model(*parts, outputs=[["y", 0, 0], ["x", 0, 0]]), y=KERNEL).predict(X)
    assert [each.shape for each in two] == [(2, 4, 3), (2, 4, 2)]
    nested = {"b": ["y", 0, 0], "a": [["x", 0, 0], {"c": ["y", 0, 0]}]}
    made = runtime(model(*parts, outputs=nested), y=KERNEL).predict(X)
    assert list(made) == ["b", "a"]
    np.testing.assert_array_equal(made["a"][0], X)
    np.testing.assert_array_equal(made["a"][1]["c"], made["b"])


def test_configurations_of_keras_2_are_read() -> None:
    def old(class_name: str, name: str, nodes: list[Any], /, **config: Any) -> dict[str, Any]:
        return {
            "class_name": class_name,
            "config": {"trainable": True, **config, "name": name},
            "name": name,
            "inbound_nodes": nodes,
        }

    inner = {
        "name": "inner",
        "layers": [
            old("InputLayer", "i", [], batch_input_shape=[None, None, 2], dtype="float32"),
            old("Dense", "d", [[["i", 0, 0, {}]]], units=3, activation="linear"),
        ],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["d", 0, 0]],
    }
    config = {
        "name": "model",
        "layers": [
            old("InputLayer", "x", [], batch_input_shape=[8, None, 2], dtype="float32"),
            old("Model", "inner", [[["x", 0, 0, {}]], [["x", 0, 0, {}]]], **inner),
            old("Add", "y", [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]]),
        ],
        "input_layers": [["x", 0, 0]],
        "output_layers": [["y", 0, 0]],
    }
    made = runtime(config, "Model", **{"inner/d": KERNEL})
    assert made.inputs[0].shape == (None, None, 2)
    np.testing.assert_allclose(made.predict(X), 2 * WANTED, atol=1e-5)
    sequential = [
        {
            "class_name": "Dense",
            "config": {"name": "y", "units": 3, "batch_input_shape": [None, 4, 2]},
        }
    ]
    made = runtime({"name": "s", "layers": sequential}, "Sequential", y=KERNEL)
    np.testing.assert_allclose(made.predict(X), WANTED, atol=1e-6)


def test_states_behind_the_input_are_initial_states() -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s).astype(np.float32) for s in ((2, 3), (3, 3), (3,))]
    state = keras_3("InputLayer", "s", batch_shape=[None, 3])

    def made(call: Any) -> Any:
        rnn = keras_3("SimpleRNN", "y", [], units=3)
        rnn["inbound_nodes"] = [call]
        config = model(source(), state, rnn, inputs=[["x", 0, 0], ["s", 0, 0]])
        return runtime(config, y=weights).predict([X, rng.normal(size=(2, 3)) * 0 + 0.5])

    keyword = made({"args": [tensor("x")], "kwargs": {"initial_state": [tensor("s")]}})
    assert np.abs(keyword - made({"args": [tensor("x")], "kwargs": {}})).max() > 1e-4
    for call in (
        {"args": [tensor("x"), tensor("s")], "kwargs": {}},
        {"args": [[tensor("x"), tensor("s")]], "kwargs": {}},
        [["x", 0, 0, {}], ["s", 0, 0, {}]],
        [["x", 0, 0, {"initial_state": [["s", 0, 0]]}]],
    ):
        np.testing.assert_array_equal(made(call), keyword)


CYCLE = model(source(), dense("y", tensor("z")), dense("z", tensor("y")))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CYCLE, "wait for each other in a circle"),
        (model(source(), dense("y", tensor("y"))), "in a circle"),
        (model(source(), dense("y", tensor("w"))), "uses 'w', but the model 'model' has no such"),
        (model(source(), dense("y", tensor("x", 1))), "uses call 1 of an input"),
        (model(source(), dense("y", tensor("x", 0, 2))), "uses output 2 of 'x', which has 1"),
        (model(source(), dense(), outputs=["y", 4, 0]), "uses call 4 of 'y', which is called 1"),
        (model(source(), dense(), outputs=["w", 0, 0]), "has no such layer"),
        (model(source(), dense(), inputs=["y", 0, 0]), "names 'y' as an input"),
        (model(source(), dense(), inputs=["x", 0]), "input_layers"),
        (model(source(), dense(), dense()), "two layers named 'y'"),
        (model(), "layers \\[\\]; expected a list of layers"),
        (model(3), "a layer is described as 3"),
        (model(source(shape=[None, -1])), "the shape is"),
        (model(source(shape=[])), "expected a batch axis"),
        (model(source(shape=[None, 2**30, 2]), dense()), "at most"),
        (model(source(), dense(units="many")), "units is 'many'"),
        (model(source(), dense(units=10**12)), "units is 1000000000000"),
        (model(source(), dense(units=None)), "units is None"),
        (model(source(), keras_3("Dense", "y", [])), "units is missing|uses call"),
        (model(source(), keras_3("LSTM", "y", [tensor("x")], units=2, go_backwards="so")), "go_b"),
        (model(source(), keras_3("RNN", "y", [tensor("x")], cell=7)), "described as 7"),
        (model(source(), keras_3("Bidirectional", "y", [tensor("x")], layer=None)), "described as"),
        (
            model(source(), keras_3("Bidirectional", "y", [tensor("x")], layer={"config": {}})),
            "name",
        ),
        (model(source(), keras_3("TimeDistributed", "y", [tensor("x")], layer=[])), "described as"),
        (
            model(source(shape=(None, 2)), keras_3("RepeatVector", "y", [tensor("x")], n=2**30)),
            "at most|from 1 to",
        ),
        (
            model(source(), keras_3("UpSampling1D", "y", [tensor("x")], size=2**29)),
            "at most|from 1 to",
        ),
        (
            model(
                source(),
                {
                    **keras_3("Reshape", "y", [tensor("x")], newshape=[-1, 2**20, 2**20]),
                    "module": "keras.src.ops.numpy",
                },
            ),
            "does not keep each row by itself",
        ),
    ],
)
def test_contradictions_are_refused(config: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        runtime(config, y=KERNEL)


def test_options_that_keras_3_lacks_are_refused() -> None:
    old = keras_3("LSTM", "y", [tensor("x")], units=3, time_major=True)
    with pytest.raises(UnsupportedLayerError, match="time_major=True, an option of Keras 2"):
        runtime(model(source(), old))
    cell = {
        "module": "mine",
        "class_name": "MyCell",
        "config": {},
        "registered_name": "mine>MyCell",
    }
    with pytest.raises(
        UnsupportedLayerError,
        match=r"'y' \(RNN\), the 2nd layer of 'model', called on 'x': its cell is a MyCell",
    ):
        runtime(model(source(), keras_3("RNN", "y", [tensor("x")], cell=cell)))
    rnn = keras_3("RNN", "rnn", [], cell=cell)
    both = keras_3("Bidirectional", "y", [tensor("x")], layer=rnn)
    with pytest.raises(
        UnsupportedLayerError,
        match=r"'y' \(Bidirectional\), the 2nd.*forward_layer its cell is a MyCell.*\"y\": func",
    ):
        runtime(model(source(), both))
    policy = {"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}}
    with pytest.raises(UnsupportedLayerError, match="quantized"):
        runtime(model(source(), dense(dtype=policy)))
    unbuilt = {"name": "s", "layers": [{**dense(), "inbound_nodes": None}]}
    with pytest.raises(ModelFileError, match="saved before it was built"):
        runtime(unbuilt, "Sequential")
    with pytest.raises(UnsupportedLayerError, match=r"MyModel, a class of its own.*keras\.Model\("):
        runtime({"name": "m"}, "MyModel")


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_weights_of_cudnn_layers_are_put_in_order(kind: str, gates: int) -> None:
    """Their blocks are stored transposed within their own shapes, with two biases in a row."""
    units, rng = 3, np.random.default_rng(0)
    kernel, recurrent = (rng.normal(size=(n, gates * units)).astype("f") for n in (2, units))
    biases = rng.normal(size=(2, gates * units)).astype("f")
    stored = [
        np.concatenate([block.T.reshape(block.shape) for block in np.split(w, gates, axis=1)], 1)
        for w in (kernel, recurrent)
    ]
    plain = runtime(
        model(source(), keras_3(kind, "y", [tensor("x")], units=units)),
        y=[kernel, recurrent, biases.sum(0) if kind == "LSTM" else biases],
    )
    cudnn = runtime(
        model(source(), keras_3(f"CuDNN{kind}", "y", [tensor("x")], units=units)),
        y=[*stored, biases.ravel()],
    )
    np.testing.assert_allclose(cudnn.predict(X), plain.predict(X), atol=1e-6)


def test_functions_get_all_tensors_of_a_call_and_its_keywords() -> None:
    entry = {**keras_3("Mix", "y", []), "module": "mine", "registered_name": "mine>Mix"}
    keywords = {"other": tensor("s"), "power": 2, "training": False}
    entry["inbound_nodes"] = [{"args": [tensor("x"), [tensor("x")]], "kwargs": keywords}]
    state = keras_3("InputLayer", "s", batch_shape=[None, 2])
    config = model(source(), state, entry, inputs=[["x", 0, 0], ["s", 0, 0]])

    def mix(x: Any, again: Any, s: Any, *, power: int, config: Any, weights: Any) -> Any:
        return (x + again) ** power + s[:, None]

    made = build(Weights("Functional", config, {}), {"Mix": mix})  # type: ignore[arg-type]
    assert made.graph.outputs[0].shape == (None, None, 2)
    found = Runtime(made.graph, made.inputs, made.outputs).predict([X, X[:, 0]])
    np.testing.assert_allclose(found, (2 * X) ** 2 + X[:, :1], atol=1e-6)
    entry["inbound_nodes"].append({"args": [tensor("x")], "kwargs": {"power": 3}})
    with pytest.raises(UnsupportedLayerError, match="must be called in one way"):
        build(Weights("Functional", config, {}), {"Mix": mix})  # type: ignore[arg-type]


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelFileError, match=r"Layer 'y'.*kernel.*shape \(2, 3\).*\(2, 4\)"):
        runtime(model(source(), dense(units=4)), y=KERNEL)
    with pytest.raises(ModelFileError, match="no weights for its bias"):
        runtime(model(source(), dense()), y=KERNEL[:1])


def test_a_row_is_not_mixed_with_others() -> None:
    def operation(class_name: str, *call: Any, **config: Any) -> Any:
        entry = keras_3(class_name, "y", [], **config)
        entry["module"] = "keras.src.ops.numpy"
        entry["inbound_nodes"] = [{"args": list(call), "kwargs": {}}]
        return model(source(), entry)

    for config in (
        operation("Mean", tensor("x"), axis=0),
        operation("Mean", tensor("x"), axis=None),
        operation("Flip", tensor("x"), axis=0),
        operation("Transpose", tensor("x"), axes=[1, 0, 2]),
        operation("GetItem", tensor("x"), 0),
        operation("Concatenate", [tensor("x"), tensor("x")], axis=0),
        operation("Stack", [tensor("x")], axis=0),
    ):
        with pytest.raises(UnsupportedLayerError, match="does not keep the rows of a batch apart"):
            runtime(config)
    with pytest.raises(UnsupportedLayerError, match="no code for it; it has .*Add.*Where"):
        runtime(operation("Einsum", tensor("x"), subscripts="bij->bji"))
    turned = runtime(operation("Flip", tensor("x"), axis=1)).predict(X)
    np.testing.assert_array_equal(turned, X[:, ::-1])


def nested(depth: int, calls: int) -> dict[str, Any]:
    """A model that calls a model twice, which calls one twice, ..."""
    config = model(source(), keras_3("Identity", "y", [tensor("x")]))
    for level in range(depth):
        inner = keras_3("Functional", f"m{level}", [tensor("x")] * calls, **config)
        inner["module"] = "keras"
        last = [tensor(f"m{level}", call) for call in range(calls)]
        config = model(source(), inner, keras_3("Add" if calls > 1 else "Identity", "y", [last]))
    return config


def test_models_within_models_are_bounded() -> None:
    np.testing.assert_array_equal(runtime(nested(6, 2)).predict(X), X * 2**6)
    for depth, calls in ((30, 2), (200, 1)):
        with pytest.raises(ModelFileError, match="more than|nested"):
            runtime(nested(depth, calls))


@pytest.mark.parametrize("kind", [None, 3, "text", [], {}, [None], 1e300, -1, True])
def test_wrong_types_anywhere_are_refused_or_harmless(kind: Any) -> None:
    """One value after the other is replaced, in a configuration that has most kinds of them."""
    cell = {"module": "keras.layers", "class_name": "GRUCell", "config": {"units": 3}}
    start = model(
        source(),
        keras_3("Masking", "m", [tensor("x")], mask_value=0.0),
        keras_3("RNN", "r", [tensor("m")], cell=cell, return_sequences=True),
        dense("y", tensor("r"), activation="relu"),
    )
    places = list(_places(start))
    assert len(places) > 60
    rng = np.random.default_rng(0)
    arrays = {
        "r": [rng.normal(size=s).astype(np.float32) for s in ((2, 9), (3, 9), (2, 9))],
        "y": [np.zeros((3, 3), np.float32), np.zeros(3, np.float32)],
    }
    assert runtime(start, **arrays).predict(X).shape == (2, 4, 3)
    for place in places:
        config = copy.deepcopy(start)
        target: Any = config
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = kind
        with contextlib.suppress(ModelFileError):  # any other error fails the test
            runtime(config, **arrays)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        yield (*path, key)
        if isinstance(each, (dict, list)):
            yield from _places(each, (*path, key))


def test_the_table_of_modules_is_what_they_register() -> None:
    from recurra.runtime import layers

    layers.load()
    registered = {name: cls.__module__.rpartition(".")[2] for name, cls in LAYERS.items()}
    assert registered == layers.CLASSES
