"""The engine as a JAX operation: against the oracle, and under every transformation of JAX."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cases import Case, make_case, make_cotangents, matrix
from recurra import reference
from recurra.cells import CELLS
from recurra.engine import Config, cpu
from recurra.hosts import jax as host

CELL_NAMES = tuple(CELLS)


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    """Everything here computes in float64 unless it says otherwise."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


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
    arrays = {name: case[name] for name in cpu.DIFFERENTIABLE if case[name] is not None}

    def function(arrays: dict[str, Any]) -> dict[str, Any]:
        return host.scan(config_of(case), **arrays, **constants, **wanted)

    return function, arrays


def loss_of(case: Case, **wanted: bool) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A scalar function whose cotangents are all different, and the arrays it takes."""
    function, arrays = function_of(case, **wanted)
    rng = np.random.default_rng(3)
    weights = jax.tree.map(lambda v: rng.standard_normal(v.shape), function(arrays))

    def loss(arrays: dict[str, Any]) -> Any:
        return sum(jnp.sum(v * weights[name]) for name, v in function(arrays).items())

    return loss, arrays


def assert_trees_close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal within the tolerance, relative to each array's largest element."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        assert float(np.max(np.abs(a - b), initial=0.0)) <= tolerance * scale


def assert_trees_equal(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


# --- Against the oracle ---

CONFIGURATIONS = matrix(random=12)


def check_conformance(configuration: Case, dtype: Any, tolerance: float) -> None:
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
    named = {
        "last_output": cotangents["d_last"],
        "sequence": cotangents["d_sequence"],
        **{f"{s}": cotangents[f"d_{s}"] for s in CELLS[case["cell"]].state_outputs},
    }
    # The trace's hidden state and the sequence can be one array: their cotangents add up.
    named |= cotangents["d_slots"]
    named = {name: np.asarray(value, dtype) for name, value in named.items()}

    def values_and_gradients(arrays: Any, cotangents: Any) -> Any:
        values, pull = jax.vjp(function, arrays)
        return values, pull(cotangents)[0]

    values, gradients = jax.jit(values_and_gradients)(arrays, named)
    expected = {
        "last_output": forward.last_output,
        "sequence": forward.sequence,
        **dict(zip(CELLS[case["cell"]].state_outputs, forward.states.values(), strict=True)),
        **{name: forward.slots[name] for name in CELLS[case["cell"]].trace_names},
    }
    assert all(value.dtype == dtype for value in jax.tree.leaves((values, gradients)))
    assert_trees_close(values, expected, tolerance)
    assert_trees_close(
        gradients, {name: getattr(backward, f"d{name}") for name in arrays}, tolerance
    )


@pytest.mark.parametrize(
    "configuration", [c for _, c in CONFIGURATIONS], ids=[name for name, _ in CONFIGURATIONS]
)
def test_conforms_to_the_oracle_in_float64(configuration: Case) -> None:
    check_conformance(configuration, np.float64, 1e-12)


@pytest.mark.parametrize(
    "configuration",
    [c for _, c in CONFIGURATIONS[::5]],
    ids=[name for name, _ in CONFIGURATIONS[::5]],
)
def test_conforms_to_the_oracle_in_float32(configuration: Case) -> None:
    check_conformance(configuration, np.float32, 1e-5)


# --- Transformations ---


@pytest.mark.parametrize("mask", [None, "holes"])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_eager_jit_and_saving_give_the_same_bits(cell: str, mask: str | None) -> None:
    case = make_case(cell, mask=mask, units=17, dropout_x="gates")
    function, arrays = function_of(case, sequence=True)
    eager = function(arrays)
    assert_trees_equal(jax.jit(function)(arrays), eager)
    assert_trees_equal(jax.vjp(function, arrays)[0], eager)
    traced = function_of(case, sequence=True, trace=True)[0](arrays)
    assert_trees_equal({name: traced[name] for name in eager}, eager)


@pytest.mark.parametrize(
    "transform",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.jit(jax.checkpoint(f)),
        lambda f: lambda a: jax.lax.cond(jnp.sum(a["x"]) < 1e9, f, lambda _: 0.0, a),
        lambda f: lambda a: jax.lax.scan(lambda s, _: (s + f(a), 0), 0.0, length=3)[0] / 3,
        lambda f: lambda a: jax.lax.map(lambda s: f({**a, "x": a["x"] * s}), jnp.ones(2)).mean(),
    ],
    ids=["jit", "checkpoint", "jit-checkpoint", "cond", "scan", "map"],
)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_gradients_under_transformations(cell: str, transform: Any) -> None:
    loss, arrays = loss_of(make_case(cell, mask="holes"), sequence=True, trace=True)
    value, gradients = jax.value_and_grad(loss)(arrays)
    got_value, got = jax.value_and_grad(transform(loss))(arrays)
    assert_trees_close((got_value, got), (value, gradients))
    got_value, got = jax.jit(jax.value_and_grad(transform(loss)))(arrays)
    assert_trees_close((got_value, got), (value, gradients))


def test_scan_carries_the_state_through_chunks() -> None:
    case = make_case("lstm", time_steps=12)
    whole = function_of(case, sequence=True)[0]

    def chunked(arrays: dict[str, Any]) -> Any:
        chunks = jnp.moveaxis(arrays["x"].reshape(3, 4, 3, 3), 1, 0)

        def step(state: Any, x: Any) -> Any:
            out = host.scan(
                Config("lstm"),
                **{**arrays, "x": x, "h0": state[0], "c0": state[1]},
                sequence=True,
            )
            return (out["state_h"], out["state_c"]), out["sequence"]

        sequence = jax.lax.scan(step, (arrays["h0"], arrays["c0"]), chunks)[1]
        return jnp.moveaxis(sequence, 0, 1).reshape(3, 12, 4)

    arrays = function_of(case)[1]
    assert_trees_equal(chunked(arrays), whole(arrays)["sequence"])
    assert_trees_close(
        jax.grad(lambda a: jnp.sum(chunked(a) ** 2))(arrays),
        jax.grad(lambda a: jnp.sum(whole(a)["sequence"] ** 2))(arrays),
    )


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_vmap_over_inputs_is_one_call_on_a_larger_batch(cell: str) -> None:
    case = make_case(cell, mask="holes", dropout_x="gates", dropout_h="shared")
    function, arrays = function_of(case, sequence=True, trace=True)
    xs = np.stack([arrays["x"] * scale for scale in (1.0, -2.0)], axis=2)

    def on_x(x: Any) -> Any:
        return function({**arrays, "x": x})

    mapped = jax.vmap(on_x, in_axes=2, out_axes=1)
    got = mapped(xs)
    for i in range(2):
        assert_trees_equal(jax.tree.map(lambda v, i=i: v[:, i], got), on_x(xs[:, :, i]))
    counts = primitives(jax.make_jaxpr(mapped)(xs))
    assert counts.count("recurra_scan") == 1
    assert "scan" not in counts
    assert "while" not in counts


@pytest.mark.parametrize("names", [("x",), ("h0",), ("kernel",), ("x", "recurrent_kernel", "bias")])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_gradients_under_vmap(cell: str, names: tuple[str, ...]) -> None:
    loss, arrays = loss_of(make_case(cell), sequence=True)
    stacked = {n: np.stack([arrays[n] * s for s in (1.0, 0.5, -1.0)]) for n in names}

    def on_these(these: dict[str, Any]) -> Any:
        return jax.value_and_grad(loss)({**arrays, **these})

    got = jax.vmap(on_these)(stacked)
    for i in range(3):
        one = on_these({n: stacked[n][i] for n in names})
        assert_trees_close(jax.tree.map(lambda v, i=i: v[i], got), one)
    total = jax.grad(lambda a: jnp.sum(jax.vmap(lambda these: loss({**a, **these}))(stacked)))(
        arrays
    )
    for name in set(arrays) - set(names):
        assert_trees_close(total[name], np.sum(got[1][name], axis=0))


@pytest.mark.parametrize("names", [("x",), ("h0",), ("kernel",)])
def test_vmap_over_an_empty_axis(names: tuple[str, ...]) -> None:
    function, arrays = function_of(make_case("lstm"), sequence=True)
    one = function(arrays)
    empty = {n: np.zeros((0, *arrays[n].shape)) for n in names}
    got = jax.vmap(lambda these: function({**arrays, **these}))(empty)
    assert {n: v.shape for n, v in got.items()} == {n: (0, *v.shape) for n, v in one.items()}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_shard_map_over_the_batch(cell: str, check: bool) -> None:
    """Shared weights' gradients are summed over the devices, here of another process."""
    script = f"""
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
from jax.sharding import Mesh, PartitionSpec as P
from recurra.cells import CELLS
from recurra.engine import Config
from recurra.hosts import jax as host
rng = np.random.default_rng(0)
width = 3 * len(CELLS[{cell!r}].gates)
weights = {{"kernel": rng.random((2, width)), "recurrent_kernel": rng.random((3, width)) - 0.5}}
x = rng.standard_normal((4, 5, 2))
mesh = Mesh(np.array(jax.devices()), ("b",))

def run(weights, x):
    return host.scan(Config({cell!r}), x, **weights, sequence=True)["sequence"]

shards = dict(mesh=mesh, in_specs=(P(), P("b")), out_specs=P("b"), check_vma={check})
sharded = jax.shard_map(run, **shards)
losses = [lambda w, x, f=f: (f(w, x) ** 2).sum() for f in (run, sharded)]
expected, outer = [jax.grad(loss, argnums=(0, 1))(weights, x) for loss in losses]
jitted = jax.jit(jax.grad(losses[1], argnums=(0, 1)))(weights, x)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), outer, expected)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), jitted, expected)
if {check}:
    inner = jax.shard_map(
        lambda w, x: jax.grad(lambda w: jax.lax.psum(losses[0](w, x), "b"))(w),
        **{{**shards, "out_specs": P()}},
    )(weights, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), inner, expected[0]
    )
    try:
        jax.shard_map(run, **{{**shards, "out_specs": P()}})(weights, x)
    except ValueError:
        pass
    else:
        raise AssertionError("a varying result passed as one that all devices share")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_jacrev_is_reverse_mode_and_works() -> None:
    function, arrays = function_of(make_case("gru", batch=2, units=3))
    jacobian = jax.jacrev(lambda x: function({**arrays, "x": x})["last_output"])(arrays["x"])
    row = jax.grad(lambda x: function({**arrays, "x": x})["last_output"][1, 2])(arrays["x"])
    assert_trees_close(jacobian[1, 2], row)


# --- Only what is needed ---


def primitives(jaxpr: Any) -> list[str]:
    """Names of all primitives in a jaxpr and in those inside it, in order."""
    found = []
    for equation in jaxpr.jaxpr.eqns if hasattr(jaxpr, "jaxpr") else jaxpr.eqns:
        found.append(equation.primitive.name)
        for value in equation.params.values():
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                found += primitives(value)
    return found


def equations(jaxpr: Any, name: str) -> list[Any]:
    found = []
    for equation in jaxpr.jaxpr.eqns if hasattr(jaxpr, "jaxpr") else jaxpr.eqns:
        found += [equation] if equation.primitive.name == name else []
        for value in equation.params.values():
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                found += equations(value, name)
    return found


@pytest.mark.parametrize("jit", [False, True])
def test_only_needed_gradients_and_cotangents(jit: bool) -> None:
    function, arrays = function_of(make_case("lstm"), sequence=True)

    def loss(weights: dict[str, Any]) -> Any:
        inner = jax.jit(function) if jit else function
        return jnp.sum(inner({**arrays, **weights})["state_h"] ** 2)

    weights = {name: arrays[name] for name in ("kernel", "bias")}
    jaxpr = jax.make_jaxpr(jax.grad(loss))(weights)
    (backward,) = equations(jaxpr, "recurra_backward")
    assert backward.params["parts"][0].outputs == ("kernel", "bias")
    cotangents = [name for name in backward.params["parts"][0].inputs if name.startswith("d_")]
    assert cotangents == ["d_state_h"]
    assert not equations(jaxpr, "recurra_tangent")


def test_slots_are_saved_only_for_a_gradient() -> None:
    function, arrays = function_of(make_case("lstm"), sequence=True)
    (forward,) = equations(jax.make_jaxpr(function)(arrays), "recurra_scan")
    assert forward.params["parts"][0].outputs == ("last_output", "state_h", "state_c", "sequence")
    jaxpr = jax.make_jaxpr(lambda a: jax.vjp(function, a)[0])(arrays)
    assert "input_gate" in equations(jaxpr, "recurra_scan")[0].params["parts"][0].outputs


# --- What it can't do, and sizes and types at the edge ---


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    ("differentiate", "words"),
    [
        (lambda f: lambda x: jax.jvp(f, (x,), (x,)), "forward-mode"),
        (lambda f: jax.jacfwd(f), "forward-mode"),
        (lambda f: lambda x: jax.linearize(f, x)[1](x), "forward-mode"),
        (lambda f: jax.hessian(f), "derivatives only"),
        (lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x))), "first derivatives only"),
        (lambda f: jax.jacrev(jax.jacrev(f)), "first derivatives only"),
    ],
    ids=["jvp", "jacfwd", "linearize", "hessian", "grad-of-grad", "jacrev-of-jacrev"],
)
def test_unsupported_derivatives_say_so(differentiate: Any, words: str, jit: bool) -> None:
    function, arrays = function_of(make_case("simple_rnn"))

    def of_x(x: Any) -> Any:
        return jnp.sum(function({**arrays, "x": x})["last_output"] ** 2)

    derivative = differentiate(of_x)
    with pytest.raises(NotImplementedError, match=words) as error:
        (jax.jit(derivative) if jit else derivative)(arrays["x"])
    assert 'engine="keras"' in str(error.value)


@pytest.mark.parametrize(("batch", "time_steps"), [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_empty_batch_and_no_time_steps(cell: str, batch: int, time_steps: int) -> None:
    case = make_case(cell, batch=batch, time_steps=time_steps)
    function, arrays = function_of(case, sequence=True, trace=True)
    values = function(arrays)
    assert values["sequence"].shape == (batch, time_steps, 4)
    if time_steps == 0:
        np.testing.assert_array_equal(values["last_output"], case["h0"])
    gradients = jax.grad(lambda a: jnp.sum(function(a)["last_output"]))(arrays)
    np.testing.assert_array_equal(gradients["kernel"], np.zeros_like(arrays["kernel"]))
    if time_steps == 0:
        np.testing.assert_array_equal(gradients["h0"], np.ones_like(arrays["h0"]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_half_precision_is_that_of_arguments_and_results(cell: str, dtype: Any) -> None:
    """Within a call all is float32, but for the operands of bfloat16 layers' products."""
    case = make_case(cell, mask="holes")
    function, arrays = function_of(case, sequence=True, trace=True)
    half = {name: jnp.asarray(array, dtype) for name, array in arrays.items()}
    single = {name: array.astype(jnp.float32) for name, array in half.items()}
    config = config_of(case).computing(jnp.dtype(dtype).name)
    assert config.bfloat16 == (dtype is jnp.bfloat16)

    def function_in_float32(arrays: dict[str, Any]) -> dict[str, Any]:
        results = host.scan(config, **arrays, mask=case["mask"], sequence=True, trace=True)
        return jax.tree.map(lambda v: v.astype(dtype), results)

    got = function(half)
    assert {v.dtype for v in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    assert_trees_equal(got, function_in_float32(single))
    gradients = jax.grad(lambda a: jnp.sum(function(a)["last_output"]))(half)
    expected = jax.grad(lambda a: jnp.sum(function_in_float32(a)["last_output"]))(single)
    assert_trees_equal(gradients, jax.tree.map(lambda v: v.astype(dtype), expected))


def test_without_x64_arrays_are_float32() -> None:
    case = make_case("lstm")
    jax.config.update("jax_enable_x64", False)
    function, arrays = function_of(case)
    assert function(arrays)["last_output"].dtype == jnp.float32


def test_non_finite_input_stays_in_its_row() -> None:
    case = make_case("gru")
    function, arrays = function_of(case, sequence=True)
    bad = {**arrays, "x": arrays["x"].copy()}
    bad["x"][1] = np.nan
    got, expected = function(bad), function(arrays)
    assert np.isnan(got["sequence"][1]).all()
    for row in (0, 2):
        np.testing.assert_array_equal(got["sequence"][row], expected["sequence"][row])


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("x", (3, 5), "expected 3 dimensions"),
        ("kernel", (2, 16), r"expected \(3, 16\)"),
        ("recurrent_kernel", (4, 12), r"expected \(4, 16\)"),
        ("bias", (2, 16), r"expected \(16,\)"),
        ("h0", (3, 5), r"expected \(3, 4\)"),
        ("c0", (1, 4), r"expected \(3, 4\)"),
        ("mask", (5, 3), r"expected \(3, 5\)"),
        ("dropout_x", (2, 3, 3), r"expected \(1, 3, 3\)"),
        ("dropout_h", (4, 3, 3), r"expected \(4, 3, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], words: str) -> None:
    case = make_case("lstm")
    arrays = {n: case[n] for n in cpu.FORWARD_INPUTS if case[n] is not None}
    arrays[name] = np.ones(shape)
    with pytest.raises(ValueError, match=words) as error:
        host.scan(Config("lstm"), **arrays)
    assert name in str(error.value)
    assert str(shape) in str(error.value)
