"""The engine against the oracle, and its promises: rows, threads and saving change no bit."""

from __future__ import annotations

import functools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cases import ARRAYS, Case, make_case, make_cotangents, matrix
from recurra import _engine, reference
from recurra.cells import ACTIVATIONS, CELLS
from recurra.engine import Config, cpu

pytestmark = pytest.mark.usefixtures("poison")

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def config_of(case: Case) -> Config:
    return Config(
        case["cell"],
        reset_after=case["reset_after"] is not False,
        activation=case["activation"],
        recurrent_activation=case["recurrent_activation"],
        go_backwards=case["go_backwards"],
        zero_output_for_mask=case["zero_output_for_mask"],
    )


def arrays_of(case: Case) -> dict[str, Any]:
    return {name: case[name] for name in ARRAYS}


def run_forward(case: Case, **wanted: bool) -> dict[str, Any]:
    return cpu.forward(config_of(case), **arrays_of(case), **wanted)


def run_backward(case: Case, saved: dict[str, Any], cotangents: dict[str, Any], **wanted: Any):
    named = {"last_output": cotangents.get("d_last")}
    named |= {n: cotangents.get(f"d_{n}") for n in ("state_h", "state_c", "sequence")}
    named |= cotangents.get("d_slots", {})
    return cpu.backward(config_of(case), arrays_of(case), saved, named, **wanted)


def assert_close(actual: Any, expected: Any, dtype: str, what: str) -> None:
    """Equal within the tolerance, relative to the largest element."""
    assert actual.shape == expected.shape, what
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    error = float(np.max(np.abs(actual - expected), initial=0.0)) / scale
    assert error <= TOLERANCE[dtype], f"{what}: error {error:.2e}"


@functools.cache
def expected_of(number: int) -> tuple[Case, dict[str, Any], Any, Any]:
    """A configuration of the matrix with the oracle's results, computed once for all variants."""
    case = make_case(**matrix()[number][1])
    cotangents = make_cotangents(case)
    return case, cotangents, reference.forward(**case), reference.backward(**case, **cotangents)


def as_dtype(arrays: dict[str, Any], dtype: str) -> dict[str, Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return as_dtype(value, dtype)
        floating = isinstance(value, np.ndarray) and value.dtype == np.float64
        return value.astype(dtype) if floating else value

    return {name: convert(value) for name, value in arrays.items()}


def check_conformance(
    case: Case, cotangents: dict[str, Any], forward: Any, backward: Any, dtype: str
) -> None:
    case, cotangents = as_dtype(case, dtype), as_dtype(cotangents, dtype)
    got = run_forward(case, slots=True)
    assert_close(got["last_output"], forward.last_output, dtype, "last_output")
    assert_close(got["sequence"], forward.sequence, dtype, "sequence")
    for state in CELLS[case["cell"]].state_table:
        assert_close(got[state.output], forward.states[state.name], dtype, state.output)
    for name, expected in forward.slots.items():
        actual = got["sequence"] if name not in got else got[name]
        assert_close(actual, expected, dtype, name)

    gradients = run_backward(case, got, cotangents)
    for name in cpu.DIFFERENTIABLE:
        expected = getattr(backward, f"d{name}")
        if expected is None:
            assert name not in gradients
        else:
            assert_close(gradients[name], expected, dtype, f"d{name}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(len(matrix())), ids=[name for name, _ in matrix()])
def test_conforms_to_the_oracle(isa: str, number: int, dtype: str) -> None:
    case, cotangents, forward, backward = expected_of(number)
    check_conformance(case, cotangents, forward, backward, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("cell", "size"),
    [
        ("lstm", {"batch": 63, "time_steps": 17, "features": 17, "units": 63}),
        ("gru", {"batch": 63, "time_steps": 3, "features": 63, "units": 17}),
        ("lstm", {"batch": 3, "time_steps": 2, "features": 3, "units": 500}),
        ("gru", {"batch": 2, "time_steps": 2, "features": 500, "units": 500}),
        ("gru", {"batch": 2, "time_steps": 2, "features": 1, "units": 500, "reset_after": False}),
        ("simple_rnn", {"batch": 500, "time_steps": 3, "features": 5, "units": 63}),
        # More pairs than one chunk of the backward scan, and several groups of rows.
        ("lstm", {"batch": 100, "time_steps": 23, "features": 3, "units": 33, "mask": "holes"}),
        ("simple_rnn", {"batch": 1, "time_steps": 500, "features": 2, "units": 3}),
    ],
)
def test_conforms_at_larger_sizes(isa: str, cell: str, size: dict[str, Any], dtype: str) -> None:
    case = make_case(cell, **size)
    cotangents = make_cotangents(case)
    backward = reference.backward(**case, **cotangents)
    check_conformance(case, cotangents, reference.forward(**case), backward, dtype)


@pytest.mark.parametrize("missing", ["d_last", "d_state_h", "d_sequence", "d_slots"])
def test_an_absent_cotangent_is_zero(missing: str) -> None:
    case = make_case("lstm", mask="left")
    cotangents = make_cotangents(case)
    saved = run_forward(case, slots=True)
    zeros = {**cotangents}
    if missing == "d_slots":
        zeros[missing] = {name: 0 * array for name, array in cotangents[missing].items()}
    else:
        zeros[missing] = 0 * cotangents[missing]
    expected = run_backward(case, saved, zeros)
    del cotangents[missing]
    for name, gradient in run_backward(case, saved, cotangents).items():
        np.testing.assert_array_equal(gradient, expected[name], err_msg=name)


VARIANTS = [
    ("lstm", {}),
    ("lstm", {"dropout_x": "gates", "dropout_h": "gates"}),
    ("gru", {}),
    ("gru", {"reset_after": False, "dropout_h": "shared"}),
    ("simple_rnn", {"activation": "relu"}),
]


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_every_subset_of_outputs_and_gradients_agrees(isa: str, cell: str, options: Any) -> None:
    """What is not asked for changes nothing in what is: inference gives training's bits."""
    case = make_case(cell, batch=5, units=17, mask="holes", **options)
    cotangents = make_cotangents(case)
    full = run_forward(case, slots=True)
    for last_output in (False, True):
        for sequence in (False, True):
            for slots in (False, True):
                part = run_forward(case, last_output=last_output, sequence=sequence, slots=slots)
                assert set(part) <= {*full, "hidden_state"}
                for name in part:
                    np.testing.assert_array_equal(part[name], full[name], err_msg=name)
    gradients = run_backward(case, full, cotangents)
    for name in gradients:
        alone = run_backward(case, full, cotangents, wanted=[name])
        assert list(alone) == [name]
        np.testing.assert_array_equal(alone[name], gradients[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_a_row_does_not_depend_on_the_batch(isa: str, cell: str, options: Any, dtype: str) -> None:
    case = as_dtype(
        make_case(cell, batch=29, time_steps=9, features=5, units=37, mask="holes", **options),
        dtype,
    )
    cotangents = as_dtype(make_cotangents(case), dtype)
    whole = run_forward(case, slots=True)
    dwhole = run_backward(case, whole, cotangents)

    def rows(name: str, value: Any, chosen: list[int]) -> Any:
        if isinstance(value, dict):
            return {key: rows(key, part, chosen) for key, part in value.items()}
        if not isinstance(value, np.ndarray) or name in ("kernel", "recurrent_kernel", "bias"):
            return value
        return value[:, chosen] if name.startswith("dropout") else value[chosen]

    for chosen in ([0], [28], [13, 3], [7, 7, 7], list(range(28, 11, -1))):
        part = {name: rows(name, value, chosen) for name, value in case.items()}
        dpart = {name: rows(name, value, chosen) for name, value in cotangents.items()}
        got = run_forward(part, slots=True)
        for name in whole:
            np.testing.assert_array_equal(got[name], whole[name][chosen], err_msg=name)
        gradients = run_backward(part, got, dpart)
        for name in ("x", "h0", *(["c0"] if cell == "lstm" else [])):
            np.testing.assert_array_equal(gradients[name], dwhole[name][chosen], err_msg=name)


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
@pytest.mark.parametrize("units", [5, 64, 150])
def test_threads_change_nothing(
    isa: str, threads: Any, cell: str, options: Any, units: int
) -> None:
    case = as_dtype(
        make_case(cell, batch=61, time_steps=40, features=33, units=units, mask="right", **options),
        "float32",
    )
    cotangents = as_dtype(make_cotangents(case), "float32")
    results = []
    for n in (1, 2, 3, 7):
        threads(n)
        saved = run_forward(case, slots=True)
        results.append(
            {**saved, **{f"d{k}": v for k, v in run_backward(case, saved, cotangents).items()}}
        )
    for other in results[1:]:
        for name, expected in results[0].items():
            np.testing.assert_array_equal(other[name], expected, err_msg=name)


def test_calls_from_many_threads_do_not_disturb_each_other() -> None:
    case = as_dtype(make_case("lstm", batch=40, time_steps=60, features=9, units=70), "float32")
    cotangents = as_dtype(make_cotangents(case), "float32")
    saved = run_forward(case, slots=True)
    expected = run_backward(case, saved, cotangents)

    def work(_: int) -> bool:
        mine = run_forward(case, slots=True)
        gradients = run_backward(case, mine, cotangents)
        return all((mine[n] == saved[n]).all() for n in saved) and all(
            (gradients[n] == expected[n]).all() for n in expected
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own(threads: Any) -> None:
    threads(2)
    case = as_dtype(make_case("gru", batch=64, time_steps=50, features=9, units=70), "float32")
    expected = run_forward(case)["sequence"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other libraries' threads
        child = os.fork()
    if child == 0:
        os._exit(0 if (run_forward(case)["sequence"] == expected).all() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_streaming_in_pieces_gives_the_same_bits(isa: str, cell: str, options: Any) -> None:
    case = as_dtype(
        make_case(cell, batch=3, time_steps=23, features=7, units=19, **options), "float32"
    )
    whole = run_forward(case)
    state = {"h0": case["h0"], "c0": case["c0"]}
    pieces = []
    for begin, end in ((0, 1), (1, 2), (2, 9), (9, 9), (9, 22), (22, 23)):
        part = run_forward({**case, **state, "x": case["x"][:, begin:end]})
        pieces.append(part["sequence"])
        state = {"h0": part["state_h"], "c0": part.get("state_c")}
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole["sequence"])
    np.testing.assert_array_equal(state["h0"], whole["state_h"])
    if cell == "lstm":
        np.testing.assert_array_equal(state["c0"], whole["state_c"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_padding_gives_the_same_bits_as_no_padding(
    isa: str, cell: str, options: Any, dtype: str
) -> None:
    case = as_dtype(make_case(cell, batch=4, time_steps=6, units=21, **options), dtype)
    bare = run_forward(case)
    garbage = np.full((4, 3, case["x"].shape[2]), np.nan, dtype)
    for x, mask in (
        (np.concatenate([case["x"], garbage], 1), [True] * 6 + [False] * 3),
        (np.concatenate([garbage, case["x"]], 1), [False] * 3 + [True] * 6),
    ):
        padded = run_forward({**case, "x": x, "mask": np.tile(np.array(mask), (4, 1))})
        for name in bare:
            kept = padded[name][:, np.array(mask)] if name == "sequence" else padded[name]
            np.testing.assert_array_equal(kept, bare[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30, -1e30])
def test_non_finite_input_stays_in_its_row(
    isa: str, activation: str, value: float, dtype: str
) -> None:
    """Never a crash or a hang; other rows keep their bits; NaN in gives NaN out."""
    for cell, options in VARIANTS:
        case = make_case(cell, batch=4, units=9, **{**options, "activation": activation})
        case = as_dtype(case, dtype)
        clean = run_forward(case, slots=True)
        case["x"] = case["x"].copy()
        case["x"][2, 1] = value
        if case["dropout_x"] is not None:
            case["dropout_x"] = np.ones_like(case["dropout_x"])
            clean = run_forward({**case, "x": np.delete(case["x"], 2, 0)[[0, 1, 1, 2]]}, slots=True)
        got = run_forward(case, slots=True)
        for name in clean:
            np.testing.assert_array_equal(got[name][[0, 1, 3]], clean[name][[0, 1, 3]])
        if np.isnan(value) and activation != "relu":
            assert np.isnan(got["sequence"][2, 1]).all()
        gradients = run_backward(case, got, as_dtype(make_cotangents(case), dtype))
        assert np.isfinite(gradients["x"][[0, 1, 3]]).all()


def test_lists_agree_with_the_definitions() -> None:
    assert _engine.cell_names() == list(CELLS)
    assert _engine.activation_names() == list(ACTIVATIONS)
    for cell in range(len(CELLS)):
        for reset_after in (False, True):
            for a in range(len(ACTIVATIONS)):
                for r in range(len(ACTIVATIONS)):
                    spec = CELLS[list(CELLS)[cell]]
                    option = reset_after if "reset_after" in spec.options else None
                    assert _engine.slot_names(cell, reset_after, a, r) == list(
                        spec.slots(ACTIVATIONS[a], ACTIVATIONS[r], option)
                    )


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("kernel", np.zeros((2, 16)), r"kernel must have shape \(3, 16\), got \(2, 16\)"),
        ("kernel", np.zeros((3, 16), np.float32), "kernel must be float64, got float32"),
        ("bias", np.zeros((2, 16)), r"bias must have shape \(16,\)"),
        ("h0", np.zeros((2, 4)), r"h0 must have shape \(3, 4\), got \(2, 4\)"),
        ("mask", np.zeros((3, 4), bool), r"mask must have shape \(3, 5\), got \(3, 4\)"),
        ("mask", np.zeros((3, 5)), "mask must be bool, got float64"),
        ("dropout_x", np.zeros((2, 3, 3)), "dropout_x must hold 1 or 4 masks"),
        ("x", np.zeros((3, 5)), r"x must have shape \(batch, time_steps, features\), got \(3, 5\)"),
    ],
)
def test_wrong_arrays_are_refused(name: str, array: Any, message: str) -> None:
    case = {**make_case("lstm"), name: array}
    inputs = [case[n] for n in ARRAYS]
    outputs = [None, np.zeros((3, 4)), None, None, *[None] * 6]
    with pytest.raises(ValueError, match=message):
        _engine.forward([(0, 1, 1, 2, 0, 0, 0, 0)], inputs, outputs)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"isa must be one this processor runs \(.*generic.*\)"):
        _engine.set_isa("sse9")
    with pytest.raises(ValueError, match="num_threads must be 0 .* got -1"):
        _engine.set_num_threads(-1)
