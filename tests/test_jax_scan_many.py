"""Several scans in one call of JAX, and calls that an export must not contain."""

from __future__ import annotations

import subprocess
import sys
import timeit
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cases import Case, make_case
from recurra.engine import Config, cpu
from recurra.hosts import jax as host

PAIRS: dict[str, list[Case]] = {
    "directions": [{"cell": "lstm"}, {"cell": "lstm", "go_backwards": True, "seed": 1}],
    "masked": [
        {"cell": "gru", "mask": "right"},
        {"cell": "gru", "mask": "right", "go_backwards": True, "zero_output_for_mask": True},
    ],
    "different": [
        {"cell": "gru", "reset_after": False, "batch": 2, "units": 17, "dropout_h": "gates"},
        {"cell": "simple_rnn", "activation": "gelu", "features": 6, "use_bias": False},
        {"cell": "lstm", "time_steps": 9, "mask": "holes", "initial_state": False},
    ],
}
Arrays = list[dict[str, Any]]


class Scans:
    """Some scans: their arrays, and how they are run."""

    def __init__(self, pair: str, **wanted: bool) -> None:
        cases = [make_case(**case, dtype=np.float32) for case in PAIRS[pair]]
        self.configs = [
            Config(
                case["cell"],
                reset_after=case["reset_after"] is not False,
                activation=case["activation"],
                go_backwards=case["go_backwards"],
                zero_output_for_mask=case["zero_output_for_mask"],
            )
            for case in cases
        ]
        names = ("mask", "dropout_x", "dropout_h")
        self.constants = [{name: case[name] for name in names} | wanted for case in cases]
        self.arrays = [
            {name: case[name] for name in cpu.DIFFERENTIABLE if case[name] is not None}
            for case in cases
        ]

    def many(self, arrays: Arrays) -> list[dict[str, Any]]:
        every = zip(self.configs, arrays, self.constants, strict=True)
        return host.scan_many([(config, {**own, **rest}) for config, own, rest in every])

    def single(self, arrays: Arrays) -> list[dict[str, Any]]:
        every = zip(self.configs, arrays, self.constants, strict=True)
        return [host.scan(config, **own, **rest) for config, own, rest in every]


def loss_of(run: Callable[[Arrays], list[dict[str, Any]]]) -> Callable[[Arrays], Any]:
    """A scalar whose cotangents are all different."""

    def loss(arrays: Arrays) -> Any:
        rng = np.random.default_rng(3)
        leaves = jax.tree.leaves(run(arrays))
        return sum(jnp.sum(v * rng.standard_normal(v.shape).astype(v.dtype)) for v in leaves)

    return loss


def assert_trees_equal(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def equations(jaxpr: Any, name: str) -> list[Any]:
    """All applications of a primitive in a jaxpr and in those inside it."""
    found = []
    for equation in jaxpr.jaxpr.eqns if hasattr(jaxpr, "jaxpr") else jaxpr.eqns:
        found += [equation] if equation.primitive.name == name else []
        for value in equation.params.values():
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                found += equations(value, name)
    return found


@pytest.mark.parametrize("wanted", [{}, {"sequence": True}, {"sequence": True, "trace": True}])
@pytest.mark.parametrize("pair", PAIRS)
def test_values_and_gradients_are_those_of_single_scans(pair: str, wanted: Any) -> None:
    scans = Scans(pair, **wanted)
    expected = scans.single(scans.arrays)
    assert_trees_equal(scans.many(scans.arrays), expected)
    assert_trees_equal(jax.jit(scans.many)(scans.arrays), expected)
    gradients = jax.grad(loss_of(scans.single))(scans.arrays)
    assert_trees_equal(jax.grad(loss_of(scans.many))(scans.arrays), gradients)
    assert_trees_equal(jax.jit(jax.grad(loss_of(scans.many)))(scans.arrays), gradients)


def test_it_is_one_call_forward_and_one_backward() -> None:
    scans = Scans("different", sequence=True)
    jaxpr = jax.make_jaxpr(jax.grad(loss_of(scans.many)))(scans.arrays)
    for name in ("recurra_scan", "recurra_backward"):
        (call,) = equations(jaxpr, name)
        assert [part.config for part in call.params["parts"]] == scans.configs
    text = jax.jit(jax.grad(loss_of(scans.many))).lower(scans.arrays).as_text()
    assert text.count("@recurra_forward") == text.count("@recurra_backward") == 1


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("moving", [0, 1])
@pytest.mark.parametrize("pair", ["directions", "different"])
def test_only_one_needs_gradients(pair: str, moving: int, jit: bool) -> None:
    """The others save nothing and take no part in the backward call."""
    scans = Scans(pair, sequence=True)

    def gradient(run: Callable[[Arrays], Any]) -> Callable[[Any], Any]:
        def loss(own: dict[str, Any]) -> Any:
            arrays = [*scans.arrays]
            arrays[moving] = {**arrays[moving], **own}
            return loss_of(run)(arrays)

        function = jax.value_and_grad(loss)
        return jax.jit(function) if jit else function

    own = {name: scans.arrays[moving][name] for name in ("kernel", "recurrent_kernel")}
    assert_trees_equal(gradient(scans.many)(own), gradient(scans.single)(own))
    jaxpr = jax.make_jaxpr(gradient(scans.many))(own)
    (forward,) = equations(jaxpr, "recurra_scan")
    for i, part in enumerate(forward.params["parts"]):
        saves = any(name in part.config.slots for name in part.outputs)
        assert saves == (i == moving)
    (backward,) = equations(jaxpr, "recurra_backward")
    (part,) = backward.params["parts"]
    assert part.config == scans.configs[moving]
    assert part.outputs == ("kernel", "recurrent_kernel")


def test_a_result_that_nobody_uses_has_no_backward_pass() -> None:
    scans = Scans("directions")

    def loss(arrays: Arrays) -> Any:
        return jnp.sum(scans.many(arrays)[1]["last_output"])

    (backward,) = equations(jax.make_jaxpr(jax.grad(loss))(scans.arrays), "recurra_backward")
    assert [part.config for part in backward.params["parts"]] == scans.configs[1:]
    gradients = jax.grad(loss)(scans.arrays)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients[0]))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients[1]))


@pytest.mark.parametrize("names", [("x",), ("h0",), ("kernel",)])
@pytest.mark.parametrize("mapped", [[0], [1], [0, 1]])
def test_vmap_over_some_of_the_scans(mapped: list[int], names: tuple[str, ...]) -> None:
    scans = Scans("masked", sequence=True)
    stacked = {
        i: {n: np.stack([scans.arrays[i][n] * s for s in (1.0, 0.5, -1.0)], 1) for n in names}
        for i in mapped
    }

    def on_these(these: Any, run: Any = scans.many) -> Any:
        arrays = [{**own, **these.get(i, {})} for i, own in enumerate(scans.arrays)]
        return run(arrays)

    got = jax.vmap(on_these, in_axes=1)(stacked)
    for k in range(3):
        one = on_these(jax.tree.map(lambda v, k=k: v[:, k], stacked), scans.single)
        assert_trees_equal(jax.tree.map(lambda v, k=k: v[k], got), one)
    jaxpr = jax.make_jaxpr(jax.vmap(on_these, in_axes=1))(stacked)
    assert len(equations(jaxpr, "recurra_scan")) == 1
    assert bool(equations(jaxpr, "scan")) == (names == ("kernel",))  # a loop over weights only


def test_vmap_of_gradients() -> None:
    scans = Scans("directions")
    gradient = jax.grad(lambda x: loss_of(scans.many)([{**own, "x": x} for own in scans.arrays]))
    xs = np.stack([scans.arrays[0]["x"] * s for s in (1.0, -2.0)]).astype(np.float32)
    got = jax.vmap(gradient)(xs)
    for k in range(2):
        np.testing.assert_allclose(got[k], gradient(xs[k]), rtol=1e-5, atol=1e-6)


def test_shard_map_where_one_scan_is_the_same_on_all_devices() -> None:
    script = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from jax.sharding import Mesh, PartitionSpec as P
from recurra.engine import Config
from recurra.hosts import jax as host
rng = np.random.default_rng(0)
w = {"kernel": rng.random((2, 12)), "recurrent_kernel": rng.random((3, 12)) - 0.5}
w = {name: array.astype(np.float32) for name, array in w.items()}
x, y = (rng.standard_normal((n, 5, 2)).astype(np.float32) for n in (4, 3))

def run(w, x, y):
    scans = [(Config("lstm"), {"x": v, **w}) for v in (x, y)]
    a, b = (result["last_output"] for result in host.scan_many(scans))
    return a * b.sum()

mesh = Mesh(np.array(jax.devices()), ("b",))
sharded = jax.shard_map(run, mesh=mesh, in_specs=(P(), P("b"), P()), out_specs=P("b"))
for f in (lambda w, x, y, run: run(w, x, y),
          lambda w, x, y, run: jax.grad(lambda w: run(w, x, y).sum())(w)):
    expected, got = (jax.jit(f, static_argnums=3)(w, x, y, r) for r in (run, sharded))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), got, expected)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_dtypes_may_differ() -> None:
    scans = Scans("directions", sequence=True)
    arrays = [
        scans.arrays[0],
        jax.tree.map(lambda v: jnp.asarray(v, jnp.bfloat16), scans.arrays[1]),
    ]
    got = scans.many(arrays)
    assert_trees_equal(got, scans.single(arrays))
    assert [r["sequence"].dtype for r in got] == [jnp.float32, jnp.bfloat16]


def test_no_scan_at_all() -> None:
    assert host.scan_many([]) == []


def test_wrong_arguments_are_named() -> None:
    scans = Scans("directions")
    config, own = scans.configs[0], scans.arrays[0]
    with pytest.raises(TypeError, match="return_sequences is unknown"):
        host.scan_many([(config, {**own, "return_sequences": True})])
    with pytest.raises(TypeError, match="kernel is missing"):
        host.scan_many([(config, {"x": own["x"], "recurrent_kernel": own["recurrent_kernel"]})])
    wrong = [own, {**scans.arrays[1], "h0": np.ones((3, 5))}]
    with pytest.raises(ValueError, match=r"h0 has shape \(3, 5\); expected \(3, 4\)"):
        scans.many(wrong)


def test_forward_mode_and_second_derivatives_are_refused() -> None:
    scans = Scans("directions")
    tangents = jax.tree.map(np.ones_like, scans.arrays)
    with pytest.raises(NotImplementedError, match="forward-mode"):
        jax.jvp(scans.many, (scans.arrays,), (tangents,))

    def gradient_norm(arrays: Arrays) -> Any:
        return sum(
            jnp.sum(leaf**2) for leaf in jax.tree.leaves(jax.grad(loss_of(scans.many))(arrays))
        )

    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.grad(gradient_norm)(scans.arrays)


# --- Exports ---


def test_the_engine_is_there_for_arrays_and_under_jit() -> None:
    x = jnp.ones((1, 2, 3))
    assert host.unavailable(x) is None
    assert host.unavailable(np.ones(3)) is None
    reasons: list[Any] = []
    jax.jit(lambda x: reasons.append(host.unavailable(x)) or x)(x)
    assert reasons == [None]
    assert (
        min(timeit.repeat(lambda: host.unavailable(x), number=1000, repeat=5)) < 1e-3
    )  # 1 us each
    assert host.engine_note() is None


def test_an_exporter_at_work_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it traces, and neither before nor when its result is used."""
    exporter = types.ModuleType("jax2onnx.converter")
    exec("def convert(trace, f, x): return trace(f, x)", exporter.__dict__)
    reasons: list[Any] = []

    def model(x: Any) -> Any:
        reasons.append(host.unavailable(x))
        return x + 1

    def trace(f: Callable[[Any], Any], x: Any) -> Any:
        return jax.make_jaxpr(lambda x: f(x))(x)  # a new function: JAX keeps what it has traced

    x = jnp.ones(3)
    exporter.convert(trace, model, x)
    monkeypatch.setitem(sys.modules, "jax2onnx", types.ModuleType("jax2onnx"))
    trace(model, x)
    exporter.convert(trace, lambda x: model(np.ones(3)), x)  # nothing traced reaches it
    assert reasons == [None, None, None]
    exporter.convert(trace, model, x)
    assert "exported to ONNX" in reasons[-1]


def test_jax2tf_is_noticed() -> None:
    tensorflow = pytest.importorskip("tensorflow")
    from jax.experimental import jax2tf

    reasons: list[Any] = []

    def model(x: Any) -> Any:
        reasons.append(host.unavailable(x))
        return x + 1

    convert = jax2tf.convert(model, polymorphic_shapes=["(b, 3)"])
    signature = [tensorflow.TensorSpec((None, 3), tensorflow.float32)]
    tensorflow.function(convert, input_signature=signature).get_concrete_function()
    assert reasons
    assert all("SavedModel" in reason for reason in reasons)
    reasons.clear()
    jax.jit(lambda x: model(x))(jnp.ones((2, 3)))
    assert reasons == [None]
