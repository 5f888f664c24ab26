"""Foreign layouts of weights: PyTorch, ONNX Runtime and Recurra must compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import VARIANTS, Case, make_case
from recurra import reference, weights
from recurra.cells import CELLS

NAMES = ("kernel", "recurrent_kernel", "bias")
SIZES = [(1, 1, 1, 1), (3, 5, 2, 17), (2, 7, 17, 3)]


def keras_weights(case: Case) -> dict[str, Any]:
    return {name: case[name] for name in NAMES if case[name] is not None}


def sized_case(cell: str, sizes: tuple[int, ...], use_bias: bool = True, **options: Any) -> Case:
    batch, time_steps, features, units = sizes
    return make_case(
        cell,
        batch=batch,
        time_steps=time_steps,
        features=features,
        units=units,
        use_bias=use_bias,
        **options,
    )


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
@pytest.mark.parametrize("use_bias", [True, False])
def test_there_and_back(cell: str, options: dict[str, bool], use_bias: bool) -> None:
    given = keras_weights(make_case(cell, features=5, use_bias=use_bias, **options))
    reset_after = options.get("reset_after", True)
    ways = [
        weights.from_onnx(
            cell,
            weights.to_onnx(cell, given, reset_after=reset_after),
            linear_before_reset=reset_after,
        )
    ]
    if reset_after:
        ways.append(
            weights.from_torch(
                cell, weights.to_torch(cell, given, layer=2, reverse=True), layer=2, reverse=True
            )
        )
    for back in ways:
        assert list(back) == list(given)
        for name in given:
            np.testing.assert_array_equal(back[name], given[name])
            assert not np.shares_memory(back[name], given[name])


def test_dtype_is_kept() -> None:
    given = {n: a.astype(np.float32) for n, a in keras_weights(make_case("gru")).items()}
    assert {a.dtype for a in weights.to_torch("gru", given).values()} == {np.dtype("float32")}
    assert {a.dtype for a in weights.to_onnx("gru", given).values()} == {np.dtype("float32")}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_torch_computes_the_same(cell: str, use_bias: bool, sizes: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    _, _, features, units = sizes
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "simple_rnn": torch.nn.RNN}[cell](
        features, units, bias=use_bias, batch_first=True, dtype=torch.float64
    )
    case = sized_case(cell, sizes, use_bias)

    def run_torch() -> Any:
        state = [torch.from_numpy(case[n])[None] for n in ("h0", "c0") if case[n] is not None]
        with torch.no_grad():
            return module(
                torch.from_numpy(case["x"]), tuple(state) if cell == "lstm" else state[0]
            )[0].numpy()

    # PyTorch's own random weights, read.
    ours = reference.forward(
        **{**case, "bias": None, **weights.from_torch(cell, module.state_dict())}
    )
    np.testing.assert_allclose(ours.sequence, run_torch(), rtol=1e-12, atol=1e-12)

    # Ours, written into the module.
    exported = weights.to_torch(cell, keras_weights(case))
    module.load_state_dict({name: torch.from_numpy(array) for name, array in exported.items()})
    np.testing.assert_allclose(
        reference.forward(**case).sequence, run_torch(), rtol=1e-12, atol=1e-12
    )


def test_torch_layers_and_directions() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.GRU(
        3, 4, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.float64
    )
    value = np.random.default_rng(0).standard_normal((2, 5, 3))
    with torch.no_grad():
        expected = module(torch.from_numpy(value))[0].numpy()
    for layer in range(2):
        halves = []
        for reverse in (False, True):
            read = weights.from_torch("gru", module.state_dict(), layer=layer, reverse=reverse)
            half = reference.forward("gru", value, **read, go_backwards=reverse).sequence
            halves.append(half[:, ::-1] if reverse else half)
        value = np.concatenate(halves, axis=-1)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_onnx_runtime_computes_the_same(
    cell: str, options: dict[str, bool], use_bias: bool, sizes: tuple[int, ...]
) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    batch, time_steps, _, units = sizes
    case = sized_case(cell, sizes, use_bias, **options, dtype=np.float32)
    reset_after = options.get("reset_after", True)
    tensors = weights.to_onnx(cell, keras_weights(case), reset_after=reset_after)

    helper = onnx.helper
    names = ["x", "W", "R", "B" if use_bias else "", "", "h0"]
    attributes: dict[str, Any] = {"hidden_size": units}
    if cell == "lstm":
        names.append("c0")
    if cell == "gru":
        attributes["linear_before_reset"] = int(reset_after)
    operator = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "RNN"}[cell]
    node = helper.make_node(operator, names, ["y"], **attributes)

    def info(name: str, shape: tuple[int, ...]) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    feeds = {"x": case["x"].transpose(1, 0, 2).copy(), "h0": case["h0"][None]}
    if cell == "lstm":
        feeds["c0"] = case["c0"][None]
    graph = helper.make_graph(
        [node],
        "one_cell",
        [info(name, array.shape) for name, array in feeds.items()],
        [info("y", (time_steps, 1, batch, units))],
        [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (theirs,) = session.run(None, feeds)
    ours = reference.forward(**case).sequence
    # ONNX Runtime computes in float32 with its own approximations of tanh and sigmoid.
    np.testing.assert_allclose(theirs[:, 0].transpose(1, 0, 2), ours, rtol=1e-5, atol=1e-5)


def test_onnx_second_direction() -> None:
    forward = weights.to_onnx("lstm", keras_weights(make_case("lstm", seed=1)))
    backward_weights = keras_weights(make_case("lstm", seed=2))
    backward = weights.to_onnx("lstm", backward_weights)
    both = {name: np.concatenate([forward[name], backward[name]]) for name in forward}
    read = weights.from_onnx("lstm", both, direction=1)
    for name, array in backward_weights.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weights.from_torch("rnn", {}), "cell='rnn' is not a cell; expected one of lstm"),
        (
            lambda: weights.from_torch("lstm", {"weight_ih_l1": np.zeros((8, 3))}),
            "weight_ih_l0 is missing from the PyTorch weights; they have weight_ih_l1",
        ),
        (
            lambda: weights.from_torch(
                "gru", {"weight_ih_l0": np.zeros((8, 3)), "weight_hh_l0": np.zeros((6, 2))}
            ),
            r"weight_ih_l0 has shape \(8, 3\); expected \(6, features\) for GRU with 2 units",
        ),
        (
            lambda: weights.from_torch(
                "lstm",
                {
                    "weight_ih_l0": np.zeros((8, 3)),
                    "weight_hh_l0": np.zeros((8, 1)),
                    "weight_hr_l0": np.zeros((1, 2)),
                },
            ),
            "an LSTM with projections",
        ),
        (
            lambda: weights.from_torch(
                "gru",
                {
                    "weight_ih_l0": np.zeros((6, 3)),
                    "weight_hh_l0": np.zeros((6, 2)),
                    "bias_ih_l0": np.zeros(6),
                },
            ),
            "bias_hh_l0 is missing",
        ),
        (
            lambda: weights.to_torch(
                "gru", keras_weights(make_case("gru", reset_after=False)), reset_after=False
            ),
            "GRU with reset_after=False has no counterpart in PyTorch",
        ),
        (
            lambda: weights.to_onnx("gru", keras_weights(make_case("gru", reset_after=False))),
            r"bias has shape \(12,\); expected \(2, 12\)",
        ),
        (
            lambda: weights.from_onnx("lstm", {"W": np.zeros((8, 3)), "R": np.zeros((8, 2))}),
            r"W has shape \(8, 3\); expected three dimensions, the first being directions",
        ),
        (
            lambda: weights.from_onnx(
                "lstm",
                {"W": np.zeros((1, 8, 3)), "R": np.zeros((1, 8, 2)), "B": np.zeros((1, 8))},
            ),
            r"B\[0\] has shape \(8,\); expected \(16,\)",
        ),
        (
            lambda: weights.from_onnx(
                "lstm",
                {"W": np.zeros((1, 8, 3)), "R": np.zeros((1, 8, 2)), "P": np.zeros((1, 6))},
            ),
            "peephole weights have no counterpart",
        ),
    ],
)
def test_what_does_not_fit_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
