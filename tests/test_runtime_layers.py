"""The runtime's layers beside stock Keras's: outputs, masks, shapes, variables, bits of a row."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src import backend

from recurra.runtime import layers
from recurra.runtime.errors import ModelFileError
from recurra.runtime.layer import LAYERS, Array, Call, Layer, Result, Variable
from recurra.runtime.layers.activations import FUNCTIONS, PARAMETERS, activation, make
from runtime_layer_cases import CASES, Case

layers.load()

BATCH = 5


class Zeros(keras.initializers.Initializer):
    """Zeros out of NumPy: JAX would compile a program for every shape of random numbers."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        return np.zeros(shape, np.float32)


class Pair:
    """A layer of Keras with random weights, and the runtime's layer with the same ones."""

    def __init__(self, case: Case) -> None:
        self.case, self.rng = case, np.random.default_rng(len(str(case)))
        self.inputs = [self.array(BATCH, *shape) for shape in case.shapes]
        self.masks = [
            self.mask(BATCH, shape[0]) if masked else None
            for masked, shape in zip(
                case.masks or [False] * len(case.shapes), case.shapes, strict=True
            )
        ]
        self.arguments = {
            name: self.mask(BATCH, *value) if isinstance(value, tuple) else value
            for name, value in case.call.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that Keras would rather not have
            self.keras = getattr(keras.layers, case.class_name)(**case.config)
        saved = keras.saving.serialize_keras_object(self.keras)["config"]
        self.make_variables()
        for variable in self.keras.variables:
            if "seed" not in variable.path and "int" not in str(variable.dtype):
                positive = any(name in variable.path for name in ("variance", "stddev"))
                value = self.array(*variable.shape)
                variable.assign(np.abs(value) + 0.1 if positive else value)
        if hasattr(self.keras, "finalize_state"):
            self.keras.finalize_state()
        self.expected = self.stock()
        self.layer = made(case.class_name, saved)
        shapes = [(BATCH, *shape) for shape in case.shapes]
        values = {v.name: self.value(v) for v in self.layer.variables()}
        self.layer.build(values, shapes)

    def array(self, *shape: int) -> Array:
        return self.rng.normal(size=shape).astype(np.float32)

    def mask(self, *shape: int) -> Array:
        mask = self.rng.random(shape) < 0.6
        mask[0] = True
        mask[1] = False  # a row of which nothing is kept
        return mask

    def value(self, variable: Variable) -> Array:
        """A variable's value, found where its path and index say."""
        owner = self.keras
        for part in variable.path:
            owner = getattr(owner, part)
        own = owner._trainable_variables + owner._non_trainable_variables
        found = own[variable.index]
        assert found.name == variable.name.rpartition("/")[2]
        assert found.trainable == variable.trainable
        return np.asarray(keras.ops.convert_to_numpy(found))

    def make_variables(self) -> None:
        """Have Keras's layer make its variables, without a call: that would take long on JAX."""
        for name in [name for name in vars(self.keras) if name.endswith("_initializer")]:
            setattr(self.keras, name, Zeros())
        shapes = [(BATCH, *shape) for shape in self.case.shapes]
        if spread_over_parameters(self.case.class_name):
            self.keras.build(*shapes)
        else:
            self.keras.build(shapes if len(shapes) > 1 else shapes[0])

    def stock(self) -> tuple[list[Array], list[Array | None]]:
        """Keras's outputs and their masks."""
        tensors = {name: v for name, v in self.arguments.items() if isinstance(v, np.ndarray)}
        plain = {name: v for name, v in self.arguments.items() if name not in tensors}

        def call(inputs: list[Any], masks: list[Any], named: dict[str, Any]) -> Any:
            for tensor, mask in zip(inputs, masks, strict=True):
                if mask is not None:
                    backend.set_keras_mask(tensor, mask)
            if spread_over_parameters(self.case.class_name):
                found = self.keras(*inputs, **named, **plain)
            else:
                found = self.keras(inputs if len(inputs) > 1 else inputs[0], **named, **plain)
            found = list(found) if isinstance(found, (tuple, list)) else [found]
            return found, [backend.get_keras_mask(y) for y in found]

        def converted(values: Any, convert: Any) -> Any:
            return keras.tree.map_structure(lambda v: None if v is None else convert(v), values)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of masks that end here
            given = converted([self.inputs, self.masks, tensors], keras.ops.convert_to_tensor)
            if keras.backend.backend() == "jax":
                import jax

                call = jax.jit(call)  # compiling every operation by itself takes far longer
            return tuple(converted(call(*given), keras.ops.convert_to_numpy))

    def compute(self, rows: slice = slice(None)) -> Result:
        """The runtime's results, which must come without a warning."""
        arguments = {
            name: v[rows] if isinstance(v, np.ndarray) else v for name, v in self.arguments.items()
        }
        masks = [None if mask is None else mask[rows] for mask in self.masks]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return self.layer.compute(Call([x[rows] for x in self.inputs], masks, arguments))


def spread_over_parameters(class_name: str) -> bool:
    """Whether Keras takes several tensors one by one, and not in a list."""
    return LAYERS[class_name].operands > 1


def made(class_name: str, config: Mapping[str, Any], where: str = "here") -> Layer:
    """The runtime's layer for a configuration as it comes out of a file."""
    return LAYERS[class_name](json.loads(json.dumps(config)), where)


_WRONG_ON = {
    # Keras counts padding into averages, and normalizes inner axes as if they were the last.
    "torch": (
        "AveragePooling1D(pool_size=4, padding=same) [(9, 3)]",
        "LayerNormalization(axis=1, epsilon=0.1) [(6, 4)]",
    ),
    # TensorFlow cannot do these on a CPU.
    "tensorflow": (
        "Conv1D(filters=3, kernel_size=2, data_format=channels_first) [(4, 9)]",
        "Conv1DTranspose(filters=3, kernel_size=3, padding=same, dilation_rate=2) [(5, 4)]",
        "Conv1DTranspose(filters=3, kernel_size=3, padding=valid, dilation_rate=2) [(5, 4)]",
    ),
}


@functools.cache
def pair_of(number: int) -> Pair:
    if str(CASES[number]) in _WRONG_ON.get(keras.backend.backend(), ()):
        pytest.skip("Keras cannot do this on this host")
    return Pair(CASES[number])


numbers = pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])


@numbers
def test_layer_equals_keras(number: int) -> None:
    pair = pair_of(number)
    result = pair.compute()
    expected, masks = pair.expected
    assert len(result.outputs) == len(expected) == len(result.masks)
    for y, right in zip(result.outputs, expected, strict=True):
        assert y.dtype == np.float32
        assert y.shape == right.shape
        np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)
    for mask, right_mask in zip(result.masks, masks, strict=True):
        assert (mask is None) == (right_mask is None)
        if mask is not None:
            np.testing.assert_array_equal(mask, right_mask)
    for rows in (slice(0, 1), slice(2, 4), slice(4, 5)):
        alone = pair.compute(rows)
        for y, part in zip(result.outputs, alone.outputs, strict=True):
            np.testing.assert_array_equal(y[rows], part, err_msg="a row's bits changed")
    empty = pair.compute(slice(0, 0))
    assert [y.shape for y in empty.outputs] == [(0, *y.shape[1:]) for y in result.outputs]


def wrong_in_keras(case: Case) -> bool:
    """Whether Keras's own symbolic shapes are wrong: of scores where queries and keys differ in
    number, and of several axes under dots (they come out in reverse)."""
    scores = case.class_name == "MultiHeadAttention" and "return_attention_scores" in case.call
    return scores or (
        str(case.config.get("equation")).startswith("...") and len(case.shapes[0]) > 2
    )


@numbers
def test_shapes_equal_keras(number: int) -> None:
    case, pair = CASES[number], pair_of(number)
    outputs = [(None, *y.shape[1:]) for y in pair.expected[0]]
    fixed = [(None, *shape) for shape in case.shapes]
    found = pair.layer.call_shapes(fixed, pair.arguments)
    assert [tuple(shape) for shape in found] == outputs

    free = [(None, None, *shape[1:]) for shape in case.shapes]
    try:
        spec = symbolic(pair, free)
    except Exception:  # whatever Keras says of an input whose second axis must be known
        return
    found = pair.layer.call_shapes(free, pair.arguments)
    assert wrong_in_keras(case) or [tuple(shape) for shape in found] == spec


def symbolic(pair: Pair, shapes: Sequence[tuple[int | None, ...]]) -> list[tuple[int | None, ...]]:
    """What Keras says of the outputs' shapes."""
    tensors = [keras.KerasTensor(shape) for shape in shapes]
    arguments = {k: v for k, v in pair.arguments.items() if not isinstance(v, np.ndarray)}
    if spread_over_parameters(pair.case.class_name):
        found = pair.keras.compute_output_spec(*tensors, **arguments)
    else:
        found = pair.keras.compute_output_spec(
            tensors if len(tensors) > 1 else tensors[0], **arguments
        )
    found = list(found) if isinstance(found, (tuple, list)) else [found]
    return [tuple(y.shape) for y in found]


HOSTILE = [None, True, -1, 0, 7, 1.5, 2**40, 10**400, float("nan"), "x", "", [], [1, 2, 3], {}]
HOSTILE += [[[1], 2], {"class_name": 3, "config": "x"}, [None], [-1, 0], [2**40], "a" * 10_000]


def refusal(layer: Callable[[], Layer], *arguments: Any) -> str | None:
    """What is said against a layer before it is ever run; None if nothing."""
    weights, shapes, call = arguments
    try:
        found = layer()
        found.variables()
        found.build(weights, shapes)
        found.call_shapes(shapes, call)
    except ModelFileError as error:
        return str(error)
    return None


@numbers
def test_wrong_configurations_are_refused(number: int) -> None:
    pair = pair_of(number)
    shapes = [(None, *shape) for shape in pair.case.shapes]
    weights = {v.name: pair.value(v) for v in pair.layer.variables()}
    for key in pair.layer.config:
        for value in HOSTILE:
            config = {**pair.layer.config, key: value}
            make = functools.partial(made, pair.case.class_name, config)
            said = refusal(make, weights, shapes, pair.arguments)
            if said is not None:
                assert "here" in said  # where the layer is
                assert len(said) < 700
                continue
            layer = make()
            layer.build(weights, shapes)
            found = layer.call_shapes(shapes, pair.arguments)
            if max(math.prod(n or 1 for n in shape) for shape in found) < 1e5:
                call = Call(pair.inputs, [None] * len(pair.inputs), pair.arguments)
                result = layer.compute(call)
                assert [y.shape[1:] for y in result.outputs] == [shape[1:] for shape in found]


@numbers
def test_wrong_weights_and_inputs_are_refused(number: int) -> None:
    pair = pair_of(number)
    make = functools.partial(made, pair.case.class_name, pair.layer.config)
    shapes = [(None, *shape) for shape in pair.case.shapes]
    weights = {v.name: pair.value(v) for v in pair.layer.variables()}
    assert refusal(make, weights, shapes, pair.arguments) is None
    for name in [v.name for v in pair.layer.variables() if not v.optional]:
        value = weights[name]
        for wrong in (None, value[None], value.reshape(-1)[:0], np.repeat(value[None], 2, 0)):
            damaged = {k: v for k, v in {**weights, name: wrong}.items() if v is not None}
            assert "here" in (refusal(make, damaged, shapes, pair.arguments) or "")
    for shape in ((None,), (None, 0), (None, None, None), (None, 3, 0), (None, *(2,) * 6)):
        said = refusal(make, weights, [shape] * len(shapes), pair.arguments)
        assert said is None or "here" in said


def test_every_layer_is_compared_and_listed() -> None:
    """The table in the docs is the one that the registry makes, and no layer lacks a case here."""
    path = Path(__file__).resolve().parent.parent / "tools" / "list_layers.py"
    spec = importlib.util.spec_from_file_location("list_layers", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text(encoding="utf-8") == tool.table(), f"run python {path}"

    assert {*layers.CLASSES} <= {*LAYERS}
    elsewhere = {name for name, m in layers.CLASSES.items() if m in ("recurrent", "wrappers")}
    compared = {LAYERS[case.class_name] for case in CASES}
    lacking = {n for n in layers.CLASSES if LAYERS[n] not in compared} - elsewhere
    # Integers in, masks out, and a layer that Keras 3 cannot make: tested by themselves.
    assert lacking == {"Embedding", "Masking", "ThresholdedReLU"}


def test_thresholded_relu() -> None:
    layer = made("ThresholdedReLU", {"theta": 0.5})
    x = np.array([[-1.0, 0.25, 0.5, 0.75]], np.float32)
    result = layer.compute(Call([x], [None]))
    np.testing.assert_array_equal(result.outputs[0], [[0.0, 0.0, 0.0, 0.75]])


@pytest.mark.parametrize(
    ("value", "name", "parameters"),
    [
        (None, "linear", ()),
        ("swish", "silu", ()),
        ("relu", "relu", (0.0, np.inf, 0.0)),
        ({"class_name": "function", "config": "gelu"}, "gelu", (0.0,)),
        ({"class_name": "LeakyReLU", "config": {"alpha": 0.25}}, "leaky_relu", (0.25,)),
        ({"class_name": "LeakyReLU", "config": {}}, "leaky_relu", (0.3,)),
        ({"class_name": "ReLU", "config": {"max_value": 6}}, "relu", (0.0, 6.0, 0.0)),
        (keras.layers.ELU(alpha=0.5), "elu", (0.5,)),
        (keras.layers.Softmax(axis=[1]), "softmax", (1.0,)),
        (keras.activations.tanh, "tanh", ()),
    ],
)
def test_serialized_activations(value: Any, name: str, parameters: Sequence[float]) -> None:
    if callable(value):
        value = keras.layers.Dense(1, activation=value).get_config()["activation"]
    found = activation(value, "here")
    assert (found.name, found.parameters) == (name, tuple(parameters))


@pytest.mark.parametrize("value", ["relux", 3, {"config": 1}, {"class_name": "__lambda__"}])
def test_unknown_activations_are_refused(value: Any) -> None:
    with pytest.raises(ModelFileError, match="'here'"):
        activation(value, "here")


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_activations_far_out(name: str) -> None:
    """Huge numbers give Keras's values, infinities included, and no warning."""
    x = np.array([-1e30, -1e4, -100.0, -20.0, -0.0, 20.0, 100.0, 1e4, 1e30, 3.0], np.float32)
    found = make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = found(x[None])
    named = dict(zip((key for key, _ in PARAMETERS[name]), found.arguments(), strict=True))
    right = getattr(keras.activations, name)(keras.ops.convert_to_tensor(x[None]), **named)
    right = keras.ops.convert_to_numpy(right)
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)


def test_gelu_both_ways() -> None:
    x = np.linspace(-6, 6, 101, dtype=np.float32)[None]
    for approximate in (False, True):
        right = keras.activations.gelu(keras.ops.convert_to_tensor(x), approximate=approximate)
        y = make("gelu", approximate=approximate)(x)
        np.testing.assert_allclose(y, keras.ops.convert_to_numpy(right), rtol=1e-5, atol=1e-6)


def test_channels_first() -> None:
    """On a CPU, TensorFlow cannot convolve so: compared with the same kernel, channels last."""
    rng = np.random.default_rng(5)
    weights = {"kernel": rng.normal(size=(2, 4, 3)).astype(np.float32)}
    config = {"filters": 3, "kernel_size": [2], "use_bias": False}
    x = rng.normal(size=(2, 9, 4)).astype(np.float32)
    first = made("Conv1D", {**config, "data_format": "channels_first"})
    last = made("Conv1D", {**config, "data_format": "channels_last"})
    first.build(weights, [(None, 4, 9)])
    last.build(weights, [(None, 9, 4)])
    y = first.compute(Call([x.swapaxes(1, 2)], [None])).outputs[0]
    np.testing.assert_array_equal(y.swapaxes(1, 2), last.compute(Call([x], [None])).outputs[0])
    assert first.output_shapes([(None, 4, None)]) == [(None, 3, None)]


def test_causal_separable_convolution() -> None:
    """Keras 2 has it, Keras 3 does not: the same as zeros before the first step."""
    rng = np.random.default_rng(6)
    weights = {
        "depthwise_kernel": rng.normal(size=(3, 4, 2)).astype(np.float32),
        "pointwise_kernel": rng.normal(size=(1, 8, 5)).astype(np.float32),
    }
    config = {"filters": 5, "kernel_size": 3, "depth_multiplier": 2, "use_bias": False}
    x = rng.normal(size=(2, 7, 4)).astype(np.float32)
    causal = made("SeparableConv1D", {**config, "padding": "causal"})
    valid = made("SeparableConv1D", config)
    for layer in (causal, valid):
        layer.build(weights, [(None, None, 4)])
    padded = np.pad(x, ((0, 0), (2, 0), (0, 0)))
    y = causal.compute(Call([x], [None])).outputs[0]
    right = valid.compute(Call([padded], [None])).outputs[0]
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)
