"""The engine as a torch operation: against the oracle, and under whatever torch does to it."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cases import Case, make_case, make_cotangents, matrix
from recurra import reference
from recurra.cells import CELLS
from recurra.engine import Config, cpu

torch = pytest.importorskip("torch")

from recurra.hosts import torch as host  # noqa: E402
from recurra.hosts import torch_ops as ops  # noqa: E402

CELL_NAMES = tuple(CELLS)
CONSTANTS = ("mask", "dropout_x", "dropout_h")


@pytest.fixture(autouse=True)
def torch_settings() -> Iterator[None]:
    """Two threads everywhere, and nothing compiled left over from another test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def config_of(case: Case) -> Config:
    return Config(
        case["cell"],
        reset_after=case["reset_after"] is not False,
        activation=case["activation"],
        recurrent_activation=case["recurrent_activation"],
        go_backwards=case["go_backwards"],
        zero_output_for_mask=case["zero_output_for_mask"],
    )


def tensors_of(case: Case, dtype: Any = None, grad: bool = True) -> dict[str, Any]:
    """A case's arrays as tensors; the differentiable ones are leaves that require gradients."""
    tensors = {}
    for name in cpu.FORWARD_INPUTS:
        if case[name] is not None:
            tensor = torch.from_numpy(case[name].copy())
            if dtype is not None and name != "mask":
                tensor = tensor.to(dtype)
            tensors[name] = tensor.requires_grad_(grad and name in cpu.DIFFERENTIABLE)
    return tensors


def run(case: Case, tensors: dict[str, Any], **wanted: bool) -> dict[str, Any]:
    return host.scan(config_of(case), **tensors, **wanted)


def leaves_of(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if name in cpu.DIFFERENTIABLE}


def loss_of(results: dict[str, Any]) -> Any:
    """A scalar whose cotangents are all different, the same in every call."""
    rng = np.random.default_rng(3)
    total = 0.0
    for _, value in sorted(results.items()):
        weights = torch.from_numpy(rng.standard_normal(tuple(value.shape)))
        total = total + (value * weights.to(value.dtype)).sum()
    return total


def gradients_of(results: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    leaves = leaves_of(tensors)
    gradients = torch.autograd.grad(loss_of(results), list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, gradients, strict=True))


def assert_close(actual: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Equal within the tolerance, relative to each array's largest element."""
    assert set(actual) == set(expected)
    for name, value in actual.items():
        a = value.detach().numpy()
        b = np.asarray(
            expected[name].detach() if isinstance(expected[name], torch.Tensor) else expected[name]
        )
        assert a.shape == b.shape, name
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        assert float(np.max(np.abs(a - b), initial=0.0)) <= tolerance * scale, name


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(actual) == set(expected)
    for name, value in actual.items():
        assert value.dtype == expected[name].dtype
        np.testing.assert_array_equal(
            value.detach().float().numpy()
            if value.dtype == torch.bfloat16
            else value.detach().numpy(),
            expected[name].detach().float().numpy()
            if value.dtype == torch.bfloat16
            else expected[name].detach().numpy(),
            err_msg=name,
        )


# --- Against the oracle ---

CONFIGURATIONS = matrix(random=12)


def check_conformance(configuration: Case, dtype: Any, tolerance: float) -> None:
    case = make_case(**configuration)
    spec = CELLS[case["cell"]]
    cotangents = make_cotangents(case)
    forward = reference.forward(**case)
    backward = reference.backward(**case, **cotangents)

    tensors = tensors_of(case, dtype)
    results = run(case, tensors, sequence=True, trace=True)
    assert list(results) == ["last_output", *spec.state_outputs, "sequence", *spec.trace_names]
    assert all(value.dtype == dtype for value in results.values())
    expected = {
        "last_output": forward.last_output,
        "sequence": forward.sequence,
        **dict(zip(spec.state_outputs, forward.states.values(), strict=True)),
        **{name: forward.slots[name] for name in spec.trace_names},
    }
    assert_close(results, expected, tolerance)

    named = {
        "last_output": cotangents["d_last"],
        "sequence": cotangents["d_sequence"],
        **{name: cotangents[f"d_{name}"] for name in spec.state_outputs},
        **cotangents["d_slots"],
    }
    loss = sum((results[n] * torch.from_numpy(d).to(dtype)).sum() for n, d in named.items())
    leaves = leaves_of(tensors)
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    assert_close(gradients, {name: getattr(backward, f"d{name}") for name in leaves}, tolerance)


@pytest.mark.parametrize(
    "configuration", [c for _, c in CONFIGURATIONS], ids=[name for name, _ in CONFIGURATIONS]
)
def test_conforms_to_the_oracle_in_float64(configuration: Case) -> None:
    check_conformance(configuration, torch.float64, 1e-12)


@pytest.mark.parametrize(
    "configuration",
    [c for _, c in CONFIGURATIONS[::5]],
    ids=[name for name, _ in CONFIGURATIONS[::5]],
)
def test_conforms_to_the_oracle_in_float32(configuration: Case) -> None:
    check_conformance(configuration, torch.float32, 1e-5)


@pytest.mark.parametrize("mask", [None, "holes"])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_the_bits_are_those_of_the_engine_on_numpy(cell: str, mask: str | None) -> None:
    case = make_case(cell, mask=mask, units=17, dropout_x="gates", dtype=np.float32)
    tensors = tensors_of(case)
    results = run(case, tensors, sequence=True)
    with torch.no_grad():
        assert_equal(run(case, tensors, sequence=True), results)
        traced = run(case, tensors, sequence=True, trace=True)
    assert_equal({name: traced[name] for name in results}, results)

    arrays = {name: case[name] for name in cpu.FORWARD_INPUTS}
    saved = cpu.forward(config_of(case), **arrays, sequence=True, slots=True)
    assert_equal(results, {name: torch.from_numpy(saved[name]) for name in results})
    cotangents = {
        name: np.random.default_rng(0).standard_normal(saved[name].shape, np.float32)
        for name in results
    }
    expected = cpu.backward(config_of(case), arrays, saved, cotangents)
    torch.autograd.backward(
        list(results.values()), [torch.from_numpy(cotangents[name]) for name in results]
    )
    leaves = leaves_of(tensors)
    got = {name: leaf.grad for name, leaf in leaves.items()}
    assert_equal(got, {name: torch.from_numpy(expected[name]) for name in leaves})


# --- Several scans at once ---


def two_scans() -> list[tuple[Case, dict[str, Any], dict[str, bool]]]:
    """Scans of different cells, sizes, options and wanted outputs."""
    first = make_case("lstm", mask="holes", units=5)
    second = make_case("gru", batch=2, time_steps=9, units=17, go_backwards=True, use_bias=False)
    third = make_case("simple_rnn", initial_state=False, activation="silu")
    return [
        (first, tensors_of(first), {"sequence": True, "last_output": False}),
        (second, tensors_of(second), {"trace": True}),
        (third, tensors_of(third), {}),
    ]


def test_scan_many_gives_what_scan_gives() -> None:
    scans = two_scans()
    together = host.scan_many([(config_of(c), {**t, **wanted}) for c, t, wanted in scans])
    alone = [run(c, t, **wanted) for c, t, wanted in scans]
    for a, b in zip(together, alone, strict=True):
        assert_equal(a, b)
    leaves = [leaf for _, t, _ in scans for leaf in leaves_of(t).values()]
    expected = torch.autograd.grad(sum(loss_of(r) for r in alone), leaves)
    got = torch.autograd.grad(sum(loss_of(r) for r in together), leaves)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
    assert host.scan_many([]) == []


def test_scan_many_calls_the_engine_once_and_leaves_out_what_has_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[bool, int]] = []
    engine = ops._engine

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def run(self, backward: bool, float64: bool, problems: list[int], *rest: Any) -> None:
            calls.append((backward, len(problems) // 12))
            engine.run(backward, float64, problems, *rest)

    monkeypatch.setattr(ops, "_engine", Counting())
    results = host.scan_many([(config_of(c), {**t, **w}) for c, t, w in two_scans()])
    (results[0]["sequence"].sum() + results[2]["state_h"].sum()).backward()
    assert calls == [(False, 3), (True, 2)]


def test_scan_many_shares_arrays() -> None:
    case = make_case("lstm")
    tensors = tensors_of(case)
    results = host.scan_many([(config_of(case), tensors)] * 2)
    sum(loss_of(result) for result in results).backward()
    expected = gradients_of(run(case, tensors), tensors)
    assert_close(
        {name: leaf.grad for name, leaf in leaves_of(tensors).items()},
        {name: 2 * gradient for name, gradient in expected.items()},
        1e-12,
    )


def test_scan_many_of_two_dtypes_is_refused() -> None:
    case = make_case("lstm")
    scans = [(config_of(case), tensors_of(case, dtype)) for dtype in (None, torch.float32)]
    with pytest.raises(ValueError, match="float64 and in .*float32"):
        host.scan_many(scans)


# --- Under autograd ---


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("wanted", [("x",), ("kernel",), ("h0", "bias"), ("recurrent_kernel", "x")])
def test_only_needed_gradients_are_computed(
    cell: str, wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(cell, mask="holes")
    everything = tensors_of(case)
    expected = gradients_of(run(case, everything, sequence=True), everything)
    tensors = {
        name: tensor.detach().requires_grad_(name in wanted)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in everything.items()
    }
    computed: list[int] = []
    backward = ops._backward

    def counting(arrays: Any, options: Any) -> Any:
        computed.append(options[-1])
        return backward(arrays, options)

    monkeypatch.setattr(ops, "_backward", counting)
    loss_of(run(case, tensors, sequence=True)).backward()
    assert computed == [sum(1 << cpu.DIFFERENTIABLE.index(name) for name in wanted)]
    for name in wanted:
        assert torch.equal(tensors[name].grad, expected[name])


@pytest.mark.parametrize("name", ["last_output", "state_h", "sequence", "reset_gate"])
def test_one_cotangent_of_many(name: str) -> None:
    """An output that nobody differentiates counts as one whose cotangent is zero."""
    case = make_case("gru")
    tensors = tensors_of(case)
    alone = gradients_of({name: run(case, tensors, sequence=True, trace=True)[name]}, tensors)

    results = run(case, tensors, sequence=True, trace=True)
    loss = loss_of({name: results.pop(name)}) + sum((0 * value).sum() for value in results.values())
    leaves = leaves_of(tensors)
    together = torch.autograd.grad(loss, list(leaves.values()))
    assert_close(alone, dict(zip(leaves, together, strict=True)), 1e-12)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_nothing_is_saved_without_gradients(guard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case("lstm")
    tensors = tensors_of(case)
    expected = run(case, tensors, sequence=True)
    outputs: list[int] = []
    new_outputs = ops._new_outputs

    def counting(*arguments: Any) -> Any:
        new = new_outputs(*arguments)
        outputs.append(len(new))
        return new

    monkeypatch.setattr(ops, "_new_outputs", counting)
    with guard():
        results = run(case, tensors, sequence=True)
        assert_equal(results, expected)
        assert not any(result.requires_grad for result in results.values())
    assert outputs == [4]  # last_output, state_h, state_c, sequence
    run(case, tensors, sequence=True)
    assert outputs == [4, 5]


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_gradcheck(cell: str) -> None:
    case = make_case(cell, batch=2, time_steps=3, units=3, mask="holes", dropout_h="gates")
    tensors = tensors_of(case)
    leaves = leaves_of(tensors)

    def function(*arrays: Any) -> tuple[Any, ...]:
        given = {**tensors, **dict(zip(leaves, arrays, strict=True))}
        return tuple(run(case, given, sequence=True, trace=True).values())

    assert torch.autograd.gradcheck(function, tuple(leaves.values()))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    case = make_case("lstm", mask="right")
    tensors = tensors_of(case)
    expected = gradients_of(run(case, tensors), tensors)
    leaves = leaves_of(tensors)

    def loss(*arrays: Any) -> Any:
        return loss_of(run(case, {**tensors, **dict(zip(leaves, arrays, strict=True))}))

    checkpoint(loss, *leaves.values(), use_reentrant=reentrant).backward()
    assert_equal({name: leaf.grad for name, leaf in leaves.items()}, expected)


def test_saved_tensors_are_watched() -> None:
    """Changing in place what the backward pass needs is an error, as everywhere in torch."""
    case = make_case("gru")
    tensors = tensors_of(case)
    results = run(case, tensors, sequence=True)
    loss = results["last_output"].sum()
    with torch.no_grad():
        results["sequence"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_threads_at_the_same_time() -> None:
    case = make_case("lstm", batch=17, time_steps=30, units=33)
    tensors = tensors_of(case)
    expected = gradients_of(run(case, tensors, sequence=True), tensors)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            got = gradients_of(run(case, tensors, sequence=True), tensors)
            wrong.extend(name for name in got if not torch.equal(got[name], expected[name]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_number_of_threads_changes_no_bit(threads: int) -> None:
    case = make_case("gru", batch=40, time_steps=50, features=17, units=65, dtype=np.float32)
    tensors = tensors_of(case)
    expected = gradients_of(run(case, tensors, sequence=True), tensors)
    torch.set_num_threads(threads)
    assert_equal(gradients_of(run(case, tensors, sequence=True), tensors), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="torch has GNU's OpenMP interface on Linux")
def test_the_threads_are_torchs() -> None:
    assert ops.OPENMP
    assert "torch's own threads" in host.engine_note()


# --- Layouts, sizes and types ---


def test_layout_in_memory_does_not_matter() -> None:
    case = make_case("lstm", mask="holes", dropout_x="gates")
    tensors = tensors_of(case)
    expected = run(case, tensors, sequence=True)
    gradients = gradients_of(expected, tensors)
    strided = {
        name: torch.stack([tensor.detach()] * 2, -1)[..., 0].requires_grad_(tensor.requires_grad)
        for name, tensor in tensors.items()
    }
    assert not any(tensor.is_contiguous() for tensor in strided.values())
    results = run(case, strided, sequence=True)
    assert_equal(results, expected)
    assert_equal(gradients_of(results, strided), gradients)
    # A cotangent of one number repeated.
    for some in (tensors, strided):
        for leaf in leaves_of(some).values():
            leaf.grad = None
        run(case, some, sequence=True)["sequence"].sum().backward()
    for name in leaves_of(tensors):
        assert torch.equal(strided[name].grad, tensors[name].grad)


def test_a_negated_view_is_read_negated() -> None:
    case = make_case("simple_rnn", initial_state=False)
    tensors = tensors_of(case, grad=False)
    view = torch.complex(tensors["x"], -tensors["x"]).conj().imag
    assert view.is_neg()
    assert_equal(run(case, {**tensors, "x": view}), run(case, tensors))


@pytest.mark.parametrize(("batch", "time_steps"), [(0, 3), (2, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_empty_batch_and_no_time_steps(cell: str, batch: int, time_steps: int) -> None:
    case = make_case(cell, batch=batch, time_steps=time_steps)
    tensors = tensors_of(case)
    results = run(case, tensors, sequence=True, trace=True)
    assert results["sequence"].shape == (batch, time_steps, 4)
    results["last_output"].sum().backward()
    if time_steps == 0:
        assert torch.equal(results["last_output"], tensors["h0"])
        assert torch.equal(tensors["h0"].grad, torch.ones_like(tensors["h0"]))
    if batch == 0 or time_steps == 0:
        assert torch.equal(tensors["kernel"].grad, torch.zeros_like(tensors["kernel"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_half_precision_is_that_of_arguments_and_results(cell: str, dtype: Any) -> None:
    """Within a call all is float32, but for the operands of bfloat16 layers' products."""
    case = make_case(cell, mask="holes")
    half = tensors_of(case, dtype)
    single = {
        name: tensor.detach().float() if tensor.is_floating_point() else tensor
        for name, tensor in half.items()
    }
    leaves = leaves_of(single)
    for tensor in leaves.values():
        tensor.requires_grad_()
    config = config_of(case).computing(str(dtype).removeprefix("torch."))
    assert config.bfloat16 == (dtype is torch.bfloat16)
    expected = host.scan(config, **single, sequence=True, trace=True)
    expected = {name: value.to(dtype) for name, value in expected.items()}
    results = run(case, half, sequence=True, trace=True)
    assert_equal(results, expected)
    gradients = gradients_of(results, half)
    wanted = gradients_of(expected, single)
    assert_equal(gradients, {name: value.to(dtype) for name, value in wanted.items()})


def test_autocast_computes_in_float32() -> None:
    case = make_case("lstm")
    tensors = tensors_of(case, torch.float32)
    expected = run(case, tensors)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(run(case, tensors), expected)
        lower = run(case, {**tensors, "x": tensors["x"].bfloat16()})
    assert {value.dtype for value in lower.values()} == {torch.bfloat16}
    loss_of(lower).backward()
    assert tensors["kernel"].grad.dtype == torch.float32


def test_non_finite_input_stays_in_its_row() -> None:
    case = make_case("gru")
    tensors = tensors_of(case, grad=False)
    bad = {**tensors, "x": tensors["x"].clone()}
    bad["x"][1] = torch.nan
    got, expected = run(case, bad, sequence=True), run(case, tensors, sequence=True)
    assert got["sequence"][1].isnan().all()
    for row in (0, 2):
        assert torch.equal(got["sequence"][row], expected["sequence"][row])


def test_modules_that_scan_are_copied() -> None:
    case = make_case("lstm")
    tensors = tensors_of(case, grad=False)

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = config_of(case)
            self.kernel = torch.nn.Parameter(tensors["kernel"])

        def forward(self, x: Any) -> Any:
            return host.scan(self.config, **{**tensors, "kernel": self.kernel, "x": x})

    module = Module()
    loss_of(module(tensors["x"])).backward()
    twin = copy.deepcopy(module)
    assert_equal(twin(tensors["x"]), module(tensors["x"]))


# --- Tracers and transforms ---


class Layer(torch.nn.Module):
    """A cell with its weights, as a module of torch."""

    def __init__(self, cell: str, **wanted: bool) -> None:
        super().__init__()
        case = make_case(cell)
        self.config, self.wanted = config_of(case), wanted
        for name in ("kernel", "recurrent_kernel", "bias"):
            self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(case[name])))

    def forward(self, x: Any, mask: Any = None) -> dict[str, Any]:
        return host.scan(
            self.config,
            x,
            self.kernel,
            self.recurrent_kernel,
            bias=self.bias,
            mask=mask,
            **self.wanted,
        )


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_compile_breaks_no_graph(cell: str) -> None:
    """Including shapes that change from call to call."""
    torch.compiler.reset()
    layer = Layer(cell, sequence=True, trace=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch, time_steps in ((3, 5), (2, 7), (4, 3)):
        x = torch.randn(batch, time_steps, 3, dtype=torch.float64)
        mask = torch.rand(batch, time_steps) < 0.7
        expected, got = layer(x, mask), compiled(x, mask)
        assert_equal(got, expected)
        gradients = [
            torch.autograd.grad(loss_of(results), list(layer.parameters()))
            for results in (expected, got)
        ]
        for a, b in zip(*gradients, strict=True):
            assert torch.equal(a, b)
    with torch.no_grad():
        assert_equal(compiled(x, mask), layer(x, mask))


@pytest.mark.slow
def test_compile_of_several_scans() -> None:
    torch.compiler.reset()
    case = make_case("lstm")
    tensors = tensors_of(case)
    configs = (config_of(case), config_of({**case, "go_backwards": True}))

    def outputs(tensors: dict[str, Any]) -> Any:
        return host.scan_many([(c, tensors) for c in configs])

    compiled = torch.compile(outputs, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(tensors), outputs(tensors), strict=True):
        assert_equal(a, b)


@pytest.mark.slow
def test_compiled_keras_models_break_no_graph() -> None:
    """In a process of its own, where Keras runs on torch."""
    script = """
import torch, keras
from recurra import layers
inputs = keras.Input((6, 3))
y = layers.LSTM(5, return_sequences=True, dropout=0.2, recurrent_dropout=0.1)(inputs)
y = layers.RNN([keras.layers.LSTMCell(3), keras.layers.GRUCell(4)], return_sequences=True)(y)
y = layers.Bidirectional(layers.SimpleRNN(3))(y)
model = keras.Model(inputs, layers.Dense(1)(y))
x = torch.randn(4, 6, 3)
compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(x), model(x))
compiled(x, training=True).sum().backward()
assert all(v.value.grad is not None for v in model.trainable_variables)
for layer in (layers.LSTM(3, return_state=True), layers.GRU(3, return_trace=True)):
    expected = keras.tree.flatten(layer(x))
    found = keras.tree.flatten(torch.compile(layer, fullgraph=True, backend="aot_eager")(x))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_exported_keras_models_call_the_engine(strict: bool) -> None:
    """In a process of its own, where Keras runs on torch."""
    script = f"""
import torch, keras
from recurra import layers
inputs = keras.Input((None, 3))
y, *_ = layers.LSTM(4, return_sequences=True, return_state=True)(inputs)
model = keras.Model(inputs, layers.Dense(1)(layers.Bidirectional(layers.GRU(3))(y)))
x = torch.randn(2, 6, 3)
program = torch.export.export(model, (x,), strict={strict})
assert torch.equal(program.module()(x), model(x))
calls = [node for node in program.graph.nodes if "recurra.forward" in str(node.target)]
assert len(calls) == 2, calls  # the two directions are one
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_export_keeps_the_operator_and_dynamic_sizes(strict: bool) -> None:
    layer = Layer("gru", sequence=True)
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time_steps")},)
    program = torch.export.export(layer, (x,), strict=strict, dynamic_shapes=shapes)
    (node,) = [n for n in program.graph.nodes if n.target == torch.ops.recurra.forward.default]
    assert len(node.users) == 3  # last_output, state_h, sequence; nothing for a backward pass
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    longer = torch.randn(2, 9, 3, dtype=torch.float64)
    with torch.no_grad():
        assert_equal(loaded(longer), layer(longer))


@pytest.mark.parametrize("operator", ["forward", "backward"])
def test_the_operators_are_registered_as_torch_expects(operator: str) -> None:
    case = make_case("lstm", mask="holes")
    tensors = tensors_of(case)
    arrays = [tensors[name] for name in cpu.FORWARD_INPUTS if name in tensors]
    call = ops.calls.choose(
        config_of(case), host._bits([case[n] for n in cpu.FORWARD_INPUTS]), True, True, False
    )
    options = call.options
    if operator == "backward":
        with torch.no_grad():
            *results, stack = torch.ops.recurra.forward(arrays, call.saving)
        saved = [a for name, a in tensors.items() if name != "bias"] + [stack]
        arrays, options, _ = ops.backward_call((call,), saved, results, [True] * 6 + [False])
        arrays = [array.detach() for array in arrays]
    torch.library.opcheck(getattr(torch.ops.recurra, operator).default, (arrays, options))


def test_fake_and_meta_tensors_have_shapes() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    layer = Layer("lstm", sequence=True)
    x = torch.ones(2, 6, 3, dtype=torch.float64)
    expected = {name: value.shape for name, value in layer(x).items()}
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert {n: v.shape for n, v in layer(mode.from_tensor(x)).items()} == expected
    results = layer.to("meta")(x.to("meta"))
    assert {name: value.shape for name, value in results.items()} == expected
    assert {value.device.type for value in results.values()} == {"meta"}


def test_transforms_of_functions() -> None:
    case = make_case("lstm", mask="holes")
    tensors = tensors_of(case)
    leaves = {name: leaf.detach() for name, leaf in leaves_of(tensors).items()}
    constants = {name: tensors[name] for name in CONSTANTS if name in tensors}

    def last(leaves: dict[str, Any]) -> Any:
        return run(case, {**leaves, **constants})["last_output"]

    def loss(leaves: dict[str, Any]) -> Any:
        return loss_of(run(case, {**leaves, **constants}, sequence=True, trace=True))

    expected = gradients_of(run(case, tensors, sequence=True, trace=True), tensors)
    assert_equal(torch.func.grad(loss)(leaves), expected)

    jacobian = torch.func.jacrev(lambda x: last({**leaves, "x": x}))(leaves["x"])
    row = torch.func.grad(lambda x: last({**leaves, "x": x})[1, 2])(leaves["x"])
    np.testing.assert_allclose(jacobian[1, 2], row, rtol=1e-12)


@pytest.mark.parametrize("name", ["x", "kernel", "h0"])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_vmap(cell: str, name: str) -> None:
    case = make_case(cell, mask="holes")
    tensors = tensors_of(case, grad=False)
    many = torch.stack([tensors[name] * scale for scale in (1.0, 0.5, -1.0)], 1)

    def on(array: Any) -> dict[str, Any]:
        return run(case, {**tensors, name: array}, sequence=True, trace=True)

    def gradient(array: Any) -> Any:
        return torch.func.grad(lambda a: loss_of(on(a)))(array)

    got = torch.func.vmap(on, in_dims=1)(many)
    gradients = torch.func.vmap(gradient, in_dims=1)(many)
    for i in range(3):
        assert_equal({n: v[i] for n, v in got.items()}, on(many[:, i]))
        assert torch.equal(gradients[i], gradient(many[:, i]))
    empty = torch.func.vmap(on, in_dims=1)(many[:, :0])
    assert {n: v.shape for n, v in empty.items()} == {n: (0, *v.shape[1:]) for n, v in got.items()}


# --- What it can't do ---


@pytest.mark.parametrize(
    ("differentiate", "words"),
    [
        (lambda f: lambda x: torch.func.jvp(f, (x,), (x,)), "forward-mode"),
        (lambda f: torch.func.jacfwd(f), "forward-mode"),
        (lambda f: torch.func.hessian(f), "derivatives only"),
        (lambda f: torch.func.grad(lambda x: torch.func.grad(f)(x).sum()), "first derivatives"),
        (lambda f: lambda x: torch.autograd.functional.hessian(f, x), "first derivatives"),
    ],
    ids=["jvp", "jacfwd", "hessian", "grad-of-grad", "double-backward"],
)
def test_unsupported_derivatives_say_so(differentiate: Any, words: str) -> None:
    case = make_case("simple_rnn")
    tensors = tensors_of(case, grad=False)

    def of_x(x: Any) -> Any:
        return (run(case, {**tensors, "x": x})["last_output"] ** 2).sum()

    with pytest.raises(NotImplementedError, match=words) as error:
        differentiate(of_x)(tensors["x"])
    assert 'engine="keras"' in str(error.value)


def test_forward_mode_without_function_transforms_says_so() -> None:
    from torch.autograd import forward_ad

    case = make_case("simple_rnn")
    tensors = tensors_of(case, grad=False)
    with forward_ad.dual_level():
        assert "forward-mode" in host.unavailable(tensors["x"])
        run(case, tensors)  # nothing moves
        dual = forward_ad.make_dual(tensors["x"], tensors["x"])
        with pytest.raises(NotImplementedError, match="forward-mode"):
            run(case, {**tensors, "x": dual})


def test_first_derivatives_may_be_kept_for_more() -> None:
    """create_graph=True alone is no second derivative."""
    case = make_case("gru")
    tensors = tensors_of(case)
    leaves = list(leaves_of(tensors).values())
    kept = torch.autograd.grad(loss_of(run(case, tensors)), leaves, create_graph=True)
    plain = torch.autograd.grad(loss_of(run(case, tensors)), leaves)
    for a, b in zip(kept, plain, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("x", (3, 5), "expected 3 dimensions"),
        ("kernel", (2, 16), r"expected \(3, 16\)"),
        ("recurrent_kernel", (4, 12), r"expected \(4, 16\)"),
        ("recurrent_kernel", (4,), "expected 2 dimensions"),
        ("bias", (2, 16), r"expected \(16,\)"),
        ("h0", (3, 5), r"expected \(3, 4\)"),
        ("c0", (1, 4), r"expected \(3, 4\)"),
        ("mask", (5, 3), r"expected \(3, 5\)"),
        ("dropout_x", (2, 3, 3), r"expected \(1, 3, 3\)"),
        ("dropout_h", (4, 3, 3), r"expected \(4, 3, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], words: str) -> None:
    tensors = tensors_of(make_case("lstm"), grad=False)
    tensors[name] = torch.ones(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=words) as error:
        host.scan(Config("lstm"), **tensors)
    assert name in str(error.value)
    assert str(shape) in str(error.value)


def test_what_is_no_floating_point_tensor_on_the_cpu_is_refused() -> None:
    tensors = tensors_of(make_case("lstm"), grad=False)
    with pytest.raises(ValueError, match=r"int64.*x\.float\(\)"):
        host.scan(Config("lstm"), **{**tensors, "x": tensors["x"].long()})
    assert host.unavailable(tensors["x"]) is None


def test_the_operators_take_nothing_on_trust() -> None:
    layer = Layer("lstm")
    x = torch.ones(2, 6, 3, dtype=torch.float64)
    arrays = [x, layer.kernel, layer.recurrent_kernel, layer.bias]
    options = ops.calls.choose(layer.config, 0b1111, True, False, False).options
    forward = torch.ops.recurra.forward
    with torch.no_grad():
        assert len(forward(arrays, options)) == 3
        for bad, words in (
            (arrays[:3], "describe 1 scans with 4 arrays"),
            ([x.float(), *arrays[1:]], "array 1 has dtype torch.float64"),
            ([x.long(), *arrays[1:]], "expected torch.float32 or torch.float64"),
            ([x[..., :2], *arrays[1:]], "kernel has shape"),
        ):
            with pytest.raises(ValueError, match=words):
                forward(bad, options)


def test_importing_the_host_imports_neither_the_compiler_nor_another_framework() -> None:
    script = (
        "import sys, recurra.hosts.torch as host\n"
        "slow = {'torch._dynamo', 'torch.onnx._internal', 'keras', 'jax', 'tensorflow'}\n"
        "print(sorted(slow & set(sys.modules)), host.platform())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[] cpu\n", done.stderr


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
from recurra import layers
torch.set_num_threads(2)
torch.ones(2_000_000) + 1  # PyTorch's threads are in use; Recurra has not been asked for any
layer = layers.LSTM(128)
x = torch.randn(8, 100, 64)
layer.build(x.shape)
child = os.fork()
if child == 0:
    with torch.no_grad():
        layer(x)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_where_only_torch_had_used_its_threads() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
