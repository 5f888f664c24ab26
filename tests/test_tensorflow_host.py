"""The engine as a TensorFlow operation: against the oracle, and in every way TensorFlow runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cases import Case, make_case, make_cotangents, matrix
from recurra import reference
from recurra.cells import CELLS
from recurra.engine import Config, cpu

tf = pytest.importorskip("tensorflow")

from recurra.hosts import tensorflow as host  # noqa: E402
from recurra.hosts import tensorflow_op  # noqa: E402

CELL_NAMES = tuple(CELLS)
WAYS = ("operation", "numpy")
MODES = ("eager", "graph")


@pytest.fixture(params=WAYS)
def way(request: Any) -> Iterator[str]:
    """How the engine is called; both compute the same."""
    with called_by(request.param):
        yield request.param


class called_by:
    """A context in which the engine is called in one of `WAYS`."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        if self.way == "numpy":
            self.patch.setattr(tensorflow_op, "load", lambda: (None, "a test asks for it"))
        elif tensorflow_op.load()[0] is None:
            pytest.skip(tensorflow_op.load()[1])

    def __exit__(self, *_: Any) -> None:
        self.patch.undo()


def in_mode(mode: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function) if mode == "graph" else function


def config_of(case: Case) -> Config:
    return Config(
        case["cell"],
        reset_after=case["reset_after"] is not False,
        activation=case["activation"],
        recurrent_activation=case["recurrent_activation"],
        go_backwards=case["go_backwards"],
        zero_output_for_mask=case["zero_output_for_mask"],
    )


def function_of(case: Case, **wanted: bool) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A function of the differentiable arrays, and those arrays."""
    constants = {name: case[name] for name in ("mask", "dropout_x", "dropout_h")}
    arrays = {n: tf.constant(case[n]) for n in cpu.DIFFERENTIABLE if case[n] is not None}

    def function(arrays: dict[str, Any]) -> dict[str, Any]:
        return host.scan(config_of(case), **arrays, **constants, **wanted)

    return function, arrays


def differentiated(function: Callable[..., Any], weights: dict[str, Any]) -> Callable[..., Any]:
    """Values and gradients of a function of arrays by name, for given cotangents."""

    def run(arrays: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            values = function(arrays)
        names = [name for name in values if name in weights]
        gradients = tape.gradient(
            [values[n] for n in names], arrays, [tf.constant(weights[n]) for n in names]
        )
        return values, gradients

    return run


def loss_of(case: Case, **wanted: bool) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A scalar function whose cotangents are all different, and the arrays it takes."""
    function, arrays = function_of(case, **wanted)
    rng = np.random.default_rng(3)
    weights = {n: rng.standard_normal(v.shape) for n, v in function(arrays).items()}

    def loss(arrays: dict[str, Any]) -> Any:
        return tf.add_n([tf.reduce_sum(v * weights[n]) for n, v in function(arrays).items()])

    return loss, arrays


def gradient_of(loss: Callable[..., Any]) -> Callable[..., Any]:
    def run(arrays: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            value = loss(arrays)
        return tape.gradient(value, arrays)

    return run


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal within the tolerance, relative to each array's largest element."""
    assert set(actual) == set(expected)
    for name in actual:
        a, b = np.asarray(actual[name]), np.asarray(expected[name])
        assert a.shape == b.shape, name
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        assert float(np.max(np.abs(a - b), initial=0.0)) <= tolerance * scale, name


def assert_equal(actual: Any, expected: Any) -> None:
    assert set(actual) == set(expected)
    for name in actual:
        np.testing.assert_array_equal(np.asarray(actual[name]), np.asarray(expected[name]))


# --- Against the oracle ---

CONFIGURATIONS = matrix(random=12)


def check_conformance(configuration: Case, dtype: Any, tolerance: float, mode: str) -> None:
    case = make_case(**configuration)
    cotangents = make_cotangents(case)
    forward = reference.forward(**case)
    backward = reference.backward(**case, **cotangents)
    converted = {
        name: value.astype(dtype)
        if isinstance(value, np.ndarray) and value.dtype == np.float64
        else value
        for name, value in case.items()
    }
    function, arrays = function_of(converted, sequence=True, trace=True)
    spec = CELLS[case["cell"]]
    named = {
        "last_output": cotangents["d_last"],
        "sequence": cotangents["d_sequence"],
        **{name: cotangents[f"d_{name}"] for name in spec.state_outputs},
        **cotangents["d_slots"],
    }
    named = {name: np.asarray(value, dtype) for name, value in named.items()}
    values, gradients = in_mode(mode, differentiated(function, named))(arrays)
    expected = {
        "last_output": forward.last_output,
        "sequence": forward.sequence,
        **dict(zip(spec.state_outputs, forward.states.values(), strict=True)),
        **{name: forward.slots[name] for name in spec.trace_names},
    }
    assert {v.dtype for v in (*values.values(), *gradients.values())} == {tf.as_dtype(dtype)}
    assert_close(values, expected, tolerance)
    assert_close(gradients, {name: getattr(backward, f"d{name}") for name in arrays}, tolerance)

    # The same arrays straight into the engine: no bit may differ.
    given = {name: converted[name] for name in cpu.FORWARD_INPUTS}
    saved = cpu.forward(config_of(case), **given, slots=True)
    saved.setdefault("hidden_state", saved["sequence"])
    assert_equal(values, {name: saved[name] for name in values})
    # Here as there: where both are one array, the trace's cotangent is added to the sequence's.
    if case["mask"] is None:
        named["sequence"] = named["sequence"] + named.pop("hidden_state")
    engine = cpu.backward(config_of(case), given, saved, named, set(arrays))
    assert_equal(gradients, engine)


@pytest.mark.parametrize(
    "configuration", [c for _, c in CONFIGURATIONS], ids=[name for name, _ in CONFIGURATIONS]
)
def test_conforms_to_the_oracle_in_float64(configuration: Case) -> None:
    for way in WAYS:
        with called_by(way):
            check_conformance(configuration, np.float64, 1e-12, "eager")


@pytest.mark.parametrize(
    "configuration",
    [c for _, c in CONFIGURATIONS[::5]],
    ids=[name for name, _ in CONFIGURATIONS[::5]],
)
@pytest.mark.parametrize("mode", MODES)
def test_conforms_to_the_oracle_in_float32(configuration: Case, mode: str) -> None:
    with called_by("operation"):
        check_conformance(configuration, np.float32, 2e-5, mode)


@pytest.mark.parametrize(
    "configuration",
    [c for _, c in CONFIGURATIONS[2::4]],
    ids=[name for name, _ in CONFIGURATIONS[2::4]],
)
def test_conforms_to_the_oracle_in_a_graph(way: str, configuration: Case) -> None:
    check_conformance(configuration, np.float64, 1e-12, "graph")


# --- Every way to run and to differentiate ---


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_every_way_computes_the_same_bits(way: str, cell: str) -> None:
    case = make_case(cell, mask="holes", dropout_x="gates", dropout_h="shared")
    function, arrays = function_of(case, sequence=True)
    eager = function(arrays)
    assert_equal(tf.function(function)(arrays), eager)
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        assert_equal(function(arrays), eager)
    traced = function_of(case, sequence=True, trace=True)[0](arrays)
    assert_equal({name: traced[name] for name in eager}, eager)


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "function": tf.function,
    "recompute": tf.recompute_grad,
    "cond": lambda f: (
        lambda a: tf.cond(
            tf.reduce_sum(a["x"]) < 1e9, lambda: f(a), lambda: tf.constant(0.0, tf.float64)
        )
    ),
    "while": lambda f: (
        lambda a: (
            tf.while_loop(
                lambda i, _: i < 3,
                lambda i, total: (i + 1, total + f(a)),
                (0, tf.constant(0.0, tf.float64)),
            )[1]
            / 3
        )
    ),
    "map": lambda f: (
        lambda a: tf.reduce_mean(
            tf.map_fn(lambda s: f({**a, "x": a["x"] * s}), tf.ones(2, tf.float64))
        )
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_gradients_under_transformations(way: str, cell: str, name: str) -> None:
    loss, arrays = loss_of(make_case(cell, mask="holes"), sequence=True, trace=True)
    expected = gradient_of(loss)(arrays)
    # The tape around the function, within it, and tf.gradients instead of one.
    assert_close(gradient_of(TRANSFORMS[name](loss))(arrays), expected)
    assert_close(tf.function(gradient_of(TRANSFORMS[name](loss)))(arrays), expected)
    names = list(arrays)

    @tf.function
    def by_graph(arrays: dict[str, Any]) -> Any:
        return tf.gradients(loss(arrays), [arrays[n] for n in names])

    assert_close(dict(zip(names, by_graph(arrays), strict=True)), expected)


def test_persistent_and_nested_tapes(way: str) -> None:
    loss, arrays = loss_of(make_case("lstm"), sequence=True)
    expected = gradient_of(loss)(arrays)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(arrays)
        with tf.GradientTape() as inner:
            inner.watch(arrays["x"])
            value = loss(arrays)
        assert_close({"x": inner.gradient(value, arrays["x"])}, {"x": expected["x"]})
    for _ in range(2):
        assert_close(outer.gradient(value, arrays), expected)


def test_jacobian_is_reverse_mode_and_works(way: str) -> None:
    function, arrays = function_of(make_case("gru", batch=2, units=3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(arrays["x"])
        last = function(arrays)["last_output"]
        entry = last[1, 2]
    jacobian = tape.jacobian(last, arrays["x"])
    assert_close({"x": jacobian[1, 2]}, {"x": tape.gradient(entry, arrays["x"])})


@pytest.mark.parametrize("mode", MODES)
def test_variables_and_numpy_arrays(way: str, mode: str) -> None:
    case = make_case("lstm")
    loss, arrays = loss_of(case)
    expected = gradient_of(loss)(arrays)
    variables = {name: tf.Variable(array) for name, array in arrays.items() if name != "x"}

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            value = loss({**variables, "x": case["x"]})
        return tape.gradient(value, variables)

    expected.pop("x")
    assert_close(in_mode(mode, gradients)(), expected)


def test_unknown_batch_and_time(way: str) -> None:
    case = make_case("lstm", mask="holes", initial_state=False)
    arrays = {n: case[n] for n in ("kernel", "recurrent_kernel", "bias")}
    config = config_of(case)
    seen = []

    def run(x: Any, mask: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = host.scan(config, x, mask=mask, **arrays, sequence=True)
        seen.append({name: value.shape.as_list() for name, value in values.items()})
        return values["sequence"], tape.gradient(values["sequence"], x)

    function = tf.function(
        run,
        input_signature=[
            tf.TensorSpec((None, None, 3), tf.float64),
            tf.TensorSpec((None, None), tf.bool),
        ],
    )
    for batch, time_steps in ((3, 5), (1, 2), (0, 4), (2, 0)):
        x, mask = case["x"][:batch, :time_steps], case["mask"][:batch, :time_steps]
        for got, expected in zip(function(x, mask), run(tf.constant(x), mask), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert seen[0]["sequence"] == [None, None, 4]
    assert seen[0]["state_c"] == [None, 4]


def test_mirrored_strategy(way: str) -> None:
    case = make_case("gru", initial_state=False)
    loss, arrays = loss_of(case)
    expected = gradient_of(loss)(arrays)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        variables = {name: tf.Variable(array) for name, array in arrays.items()}

    @tf.function
    def step() -> Any:
        return strategy.run(gradient_of(lambda v: loss({**arrays, **v})), (variables,))

    def replica() -> Any:
        with tf.GradientTape() as tape:
            value = loss(variables)
        return tape.gradient(value, variables)

    got = tf.function(lambda: strategy.run(replica))()
    assert_close(got, expected)


# --- Several scans in one call ---


@pytest.mark.parametrize("mode", MODES)
def test_scan_many_is_each_alone(way: str, mode: str) -> None:
    cases = [
        make_case("lstm", mask="holes", units=17),
        make_case("lstm", go_backwards=True, dropout_h="gates"),
        make_case("gru", batch=5, initial_state=False),
        make_case("simple_rnn", use_bias=False, activation="gelu"),
    ]
    wanted = [{"sequence": True}, {"trace": True}, {"last_output": False, "sequence": True}, {}]
    functions = [function_of(case, **w) for case, w in zip(cases, wanted, strict=True)]
    weights = [
        {n: np.random.default_rng(5).standard_normal(v.shape) for n, v in f(a).items()}
        for f, a in functions
    ]

    def alone(arrays: Any) -> Any:
        return [f(a) for (f, _), a in zip(functions, arrays, strict=True)]

    def together(arrays: Any) -> Any:
        constants = [{n: case[n] for n in ("mask", "dropout_x", "dropout_h")} for case in cases]
        return host.scan_many(
            [
                (config_of(case), {**a, **constant, **w})
                for case, a, constant, w in zip(cases, arrays, constants, wanted, strict=True)
            ]
        )

    def values_and_gradients(function: Any) -> Any:
        def run(arrays: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                values = function(arrays)
                loss = tf.add_n(
                    [
                        tf.reduce_sum(value * weight[name])
                        for results, weight in zip(values, weights, strict=True)
                        for name, value in results.items()
                    ]
                )
            return values, tape.gradient(loss, arrays)

        return in_mode(mode, run)

    arrays = [a for _, a in functions]
    expected, got = (values_and_gradients(f)(arrays) for f in (alone, together))
    for part_expected, part_got in zip(expected, got, strict=True):
        for one_expected, one_got in zip(part_expected, part_got, strict=True):
            assert_equal(one_got, one_expected)


def test_scan_many_of_different_types() -> None:
    scans = []
    for dtype in ("float32", "float64"):
        case = make_case("gru")
        arrays = {n: tf.cast(case[n], dtype) for n in ("x", "kernel", "recurrent_kernel")}
        scans.append((config_of(case), arrays))
    results = host.scan_many(scans)
    assert [r["last_output"].dtype.name for r in results] == ["float32", "float64"]
    with pytest.raises(TypeError, match="'kernels'"):
        host.scan_many([(scans[0][0], {**scans[0][1], "kernels": None})])


def test_scan_many_is_one_operation_each_way() -> None:
    with called_by("operation"):
        arrays = function_of(make_case("lstm", initial_state=False))[1]
        case = make_case("lstm", initial_state=False, go_backwards=True)

        @tf.function
        def run(arrays: dict[str, Any]) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                both = host.scan_many([(Config("lstm"), arrays), (config_of(case), arrays)])
                loss = tf.add_n([tf.reduce_sum(r["last_output"]) for r in both])
            return tape.gradient(loss, arrays)

        kinds = [op.type for op in run.get_concrete_function(arrays).graph.get_operations()]
        assert (kinds.count("RecurraForward"), kinds.count("RecurraBackward")) == (1, 1)


# --- Only what is needed ---


def operations(function: Any, kind: str) -> list[Any]:
    return [op for op in function.graph.get_operations() if op.type == kind]


def test_only_needed_gradients_and_cotangents_in_a_graph() -> None:
    with called_by("operation"):
        function, arrays = function_of(make_case("lstm"), sequence=True, trace=True)
        weights = {name: arrays[name] for name in ("kernel", "bias")}

        @tf.function
        def run(weights: dict[str, Any]) -> Any:
            return gradient_of(lambda w: tf.reduce_sum(function({**arrays, **w})["state_h"]))(
                weights
            )

        (backward,) = operations(run.get_concrete_function(weights), "RecurraBackward")
    *_, given, _, gradients = backward.get_attr("problems")
    assert gradients == 0b001010
    names = cpu.backward_inputs(Config("lstm"))
    found = [name for i, name in enumerate(names) if given >> i & 1]
    assert [name for name in found if name.startswith("d_")] == ["d_state_h"]


def test_only_needed_gradients_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    with called_by("operation"):
        calls: list[Any] = []
        backward = host._backward

        def spy(*arguments: Any) -> Any:
            calls.append(backward(*arguments))
            return calls[-1]

        monkeypatch.setattr(host, "_backward", spy)
        loss, arrays = loss_of(make_case("lstm"))
        weights = {name: arrays[name] for name in ("kernel", "bias")}
        gradient_of(lambda w: loss({**arrays, **w}))(weights)
    assert [gradient is not None for gradient in calls[0]] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]


def test_the_cache_is_saved_only_for_a_gradient_eagerly(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[bool] = []
    module: Any = host if way == "operation" else host.tensorflow_numpy
    name = "_forward" if way == "operation" else "forward"
    forward = getattr(module, name)

    def spy(*arguments: Any) -> Any:
        saved.append(arguments[-1])
        return forward(*arguments)

    monkeypatch.setattr(module, name, spy)
    function, arrays = function_of(make_case("lstm"))
    function(arrays)
    with tf.GradientTape() as tape:
        function(arrays)
        tape.watch(arrays["bias"])
        function(arrays)
        with tape.stop_recording():
            function(arrays)
    assert saved == [False, False, True, False]


def test_the_cache_is_saved_only_for_a_gradient_in_a_graph() -> None:
    """Which outputs an operation really wrote is in the statistics that a session collects."""
    v1 = tf.compat.v1

    def written(fetch: Any) -> set[int]:
        metadata = v1.RunMetadata()
        options = v1.RunOptions(trace_level=v1.RunOptions.FULL_TRACE)
        session.run(fetch, feeds, options=options, run_metadata=metadata)
        nodes = [n for device in metadata.step_stats.dev_stats for n in device.node_stats]
        (forward,) = [n for n in nodes if "= RecurraForward(" in n.timeline_label]
        return {output.slot for output in forward.output}

    with called_by("operation"):
        function, arrays = function_of(make_case("lstm"), sequence=True)
        with tf.Graph().as_default(), v1.Session() as session:
            given = {name: v1.placeholder(v.dtype, v.shape) for name, v in arrays.items()}
            feeds = {given[name]: arrays[name].numpy() for name in given}
            values = function(given)
            gradient = tf.gradients(values["last_output"], given["x"])[0]
            assert written(values["last_output"]) == {0}
            assert written(values) == {0, 1, 2, 3}
            assert written(gradient) == {3, 4}


# --- What it can't do, and sizes and types at the edge ---


def second_by_tapes(f: Any) -> Any:
    def run(x: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = f(x)
            penalty = tf.reduce_sum(inner.gradient(value, x) ** 2)
        return outer.gradient(penalty, x)

    return run


def forward_mode(f: Any) -> Any:
    def run(x: Any) -> Any:
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            value = f(x)
        return accumulator.jvp(value)

    return run


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("derivative", [second_by_tapes, forward_mode])
def test_unsupported_derivatives_say_so(derivative: Any, mode: str) -> None:
    with called_by("operation"):
        check_refusal(derivative, mode)


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives_through_numpy_say_so(mode: str) -> None:
    with called_by("numpy"):
        check_refusal(second_by_tapes, mode)


def check_refusal(derivative: Any, mode: str) -> None:
    function, arrays = function_of(make_case("simple_rnn"))

    def of_x(x: Any) -> Any:
        return tf.reduce_sum(function({**arrays, "x": x})["last_output"] ** 2)

    with pytest.raises(NotImplementedError, match="first derivatives") as error:
        in_mode(mode, derivative(of_x))(arrays["x"])
    assert 'engine="keras"' in str(error.value)


@pytest.mark.parametrize(("batch", "time_steps"), [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_empty_batch_and_no_time_steps(way: str, cell: str, batch: int, time_steps: int) -> None:
    case = make_case(cell, batch=batch, time_steps=time_steps)
    function, arrays = function_of(case, sequence=True, trace=True)
    values = function(arrays)
    assert values["sequence"].shape == (batch, time_steps, 4)
    if time_steps == 0:
        np.testing.assert_array_equal(values["last_output"], case["h0"])
    gradients = gradient_of(lambda a: tf.reduce_sum(function(a)["last_output"]))(arrays)
    np.testing.assert_array_equal(gradients["kernel"], np.zeros_like(arrays["kernel"]))
    if time_steps == 0:
        np.testing.assert_array_equal(gradients["h0"], np.ones_like(arrays["h0"]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_half_precision_is_that_of_arguments_and_results(cell: str, dtype: Any, mode: str) -> None:
    """Within a call all is float32, but for the operands of bfloat16 layers' products."""
    case = make_case(cell, mask="holes")
    function, arrays = function_of(case, sequence=True, trace=True)
    half = {name: tf.cast(array, dtype) for name, array in arrays.items()}
    single = {name: tf.cast(array, tf.float32) for name, array in half.items()}
    config = config_of(case).computing(dtype.name)
    assert config.bfloat16 == (dtype is tf.bfloat16)

    def function_in_float32(arrays: dict[str, Any]) -> dict[str, Any]:
        results = host.scan(config, **arrays, mask=case["mask"], sequence=True, trace=True)
        return {name: tf.cast(value, dtype) for name, value in results.items()}

    expected = function_in_float32(single)
    got = in_mode(mode, function)(half)
    assert {v.dtype for v in got.values()} == {dtype}
    assert_equal(got, expected)
    gradients = in_mode(mode, gradient_of(lambda a: tf.reduce_sum(function(a)["last_output"])))(
        half
    )
    wanted = gradient_of(lambda a: tf.reduce_sum(function_in_float32(a)["last_output"]))(single)
    assert_equal(gradients, {name: tf.cast(value, dtype) for name, value in wanted.items()})


def test_non_finite_input_stays_in_its_row(way: str) -> None:
    case = make_case("gru")
    function, arrays = function_of(case, sequence=True)
    case["x"][1] = np.nan
    got, expected = function({**arrays, "x": case["x"]}), function(arrays)
    assert np.isnan(got["sequence"][1]).all()
    for row in (0, 2):
        np.testing.assert_array_equal(got["sequence"][row], expected["sequence"][row])


WRONG_SHAPES = [
    ("x", (3, 5), "expected 3 dimensions"),
    ("x", (), "expected 3 dimensions"),
    ("kernel", (2, 16), r"expected \(3, 16\)"),
    ("recurrent_kernel", (4, 12), r"expected \(4, 16\)"),
    ("bias", (2, 16), r"expected \(16,\)"),
    ("h0", (3, 5), r"expected \(3, 4\)"),
    ("c0", (1, 4), r"expected \(3, 4\)"),
    ("mask", (5, 3), r"expected \(3, 5\)"),
    ("dropout_x", (2, 3, 3), r"expected \(1, 3, 3\)"),
    ("dropout_h", (4, 3, 3), r"expected \(4, 3, 4\)"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "shape", "words"), WRONG_SHAPES)
def test_shapes_that_do_not_fit_are_named(
    way: str, mode: str, name: str, shape: tuple[int, ...], words: str
) -> None:
    case = make_case("lstm")
    arrays = {n: tf.constant(case[n]) for n in cpu.FORWARD_INPUTS if case[n] is not None}
    arrays[name] = tf.ones(shape, tf.float64)
    with pytest.raises(ValueError, match=words) as error:
        in_mode(mode, lambda: host.scan(Config("lstm"), **arrays))()
    assert name in str(error.value)
    assert str(shape) in str(error.value)
    if name == "kernel" and way == "operation":
        assert "x has 3 features and the layer was built for 2" in str(error.value)


@pytest.mark.parametrize(("name", "shape", "words"), [w for w in WRONG_SHAPES if w[1]])
def test_shapes_known_only_when_the_graph_runs(
    name: str, shape: tuple[int, ...], words: str
) -> None:
    with called_by("operation"):
        case = make_case("lstm")
        arrays = {n: tf.constant(case[n]) for n in cpu.FORWARD_INPUTS if case[n] is not None}
        arrays[name] = tf.ones(shape, tf.float64)

        @tf.function
        def run() -> Any:
            hidden = {n: tf.py_function(lambda a=a: a, [], a.dtype) for n, a in arrays.items()}
            return host.scan(Config("lstm"), **hidden)

        with pytest.raises(tf.errors.InvalidArgumentError, match=words) as error:
            run()
    assert f"{name} has shape {shape}" in str(error.value)
    if name == "kernel":
        assert "x has 3 features and the layer was built for 2" in str(error.value)


# --- Where the engine cannot be called ---


def test_unavailable_says_why() -> None:
    reasons: list[str | None] = []

    def function(x: Any) -> Any:
        reasons.append(host.unavailable(x))
        return x + 1

    x = tf.ones((1, 2, 3))
    function(x)
    tf.function(function)(x)
    assert reasons == [None, None]

    inner = tf.function(function)
    tf.function(function, jit_compile=True)(x)
    tf.function(lambda x: inner(x), jit_compile=True)(x)
    tf.function(lambda x: tf.map_fn(function, x), jit_compile=True)(x)
    assert all("jit_compile=False" in str(reason) for reason in reasons[2:])
    assert len(reasons) == 5


def test_unavailable_while_a_graph_is_exported(tmp_path: Any) -> None:
    reasons: list[str | None] = []

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 2, 3))])
        def run(self, x: Any) -> Any:
            reasons.append(host.unavailable(x))
            return x + 1

    tf.saved_model.save(Module(), str(tmp_path))
    assert reasons
    assert all("exported to a SavedModel" in str(reason) for reason in reasons)


def test_platform_and_activations() -> None:
    assert host.platform() == "cpu"
    assert host.equivalent_activations()[tf.math.tanh] == "tanh"
    x = tf.constant(np.linspace(-3, 3, 7).reshape(1, 1, 7))
    eye = np.eye(7)
    for function, name in host.equivalent_activations().items():
        got = host.scan(Config("simple_rnn", activation=name), x, eye, eye)["last_output"]
        # TensorFlow's gelu rounds the root of 2 to float32.
        np.testing.assert_allclose(got, function(x)[0], rtol=1e-6, atol=1e-15)
