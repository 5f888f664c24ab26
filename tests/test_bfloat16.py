"""Products of bfloat16 numbers: what is rounded, and that all promises of the engine hold."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

import test_engine
from cases import Case, make_case, make_cotangents, matrix
from recurra import _engine, reference
from recurra.engine import Config, cpu
from test_engine import (
    VARIANTS,
    arrays_of,
    as_dtype,
    check_conformance,
    run_backward,
    run_forward,
)

pytestmark = pytest.mark.usefixtures("poison")

FLUSHES = "avx512_bf16"
"""The instruction set whose products take denormal numbers for zeros."""


@pytest.fixture(autouse=True)
def in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have test_engine's functions ask for bfloat16 products."""
    config_of = test_engine.config_of
    monkeypatch.setattr(
        test_engine, "config_of", lambda case: dataclasses.replace(config_of(case), bfloat16=True)
    )


def numbers_around_ties() -> np.ndarray[Any, Any]:
    """Every bfloat16 number, NaNs and infinities too, with float32 numbers around each tie."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (upper[:, None] | lower).view(np.float32).ravel()


def as_products_see_it(isa: str, values: Any) -> Any:
    """1 x value + 0 in bfloat16: the rounded value, without the sign of a zero."""
    with np.errstate(invalid="ignore"):
        rounded = reference.to_bfloat16(values)
    if isa == FLUSHES:
        rounded = np.where(np.abs(rounded) < np.finfo(np.float32).tiny, 0.0, rounded)
    return rounded


IDENTITY = Config("simple_rnn", activation="linear", bfloat16=True)


def test_a_row_is_rounded_to_the_nearest_ties_to_even(isa: str) -> None:
    x = numbers_around_ties()
    one, zero = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    got = cpu.forward(IDENTITY, x=x[:, None, None], kernel=one, recurrent_kernel=zero)
    np.testing.assert_array_equal(got["state_h"][:, 0], as_products_see_it(isa, x))


@pytest.mark.parametrize("features", [2, 5])
def test_weights_are_rounded_to_the_nearest_ties_to_even(isa: str, features: int) -> None:
    """One feature at a time, so that the others' infinities cannot come in."""
    values = numbers_around_ties()
    values = values[np.isfinite(values)][:: 997 if features == 2 else 1009]
    units = len(values)
    kernel = np.zeros((features, units), np.float32)
    kernel[features - 1] = values
    x = np.zeros((1, 1, features), np.float32)
    x[..., features - 1] = 1.0
    recurrent = np.zeros((units, units), np.float32)
    got = cpu.forward(IDENTITY, x=x, kernel=kernel, recurrent_kernel=recurrent)
    np.testing.assert_array_equal(got["state_h"][0], as_products_see_it(isa, values))


def test_sums_are_not_rounded(isa: str) -> None:
    """Of 300 ones there are 300; in bfloat16 the sum would stop at 256."""
    x, kernel = np.ones((1, 1, 301), np.float32), np.ones((301, 3), np.float32)
    kernel[:, 1] = -1.0
    recurrent = np.zeros((3, 3), np.float32)
    got = cpu.forward(IDENTITY, x=x, kernel=kernel, recurrent_kernel=recurrent)
    np.testing.assert_array_equal(got["state_h"][0], [301, -301, 301])


def test_states_and_gates_are_not_rounded(isa: str) -> None:
    """The state is added up in float32, although the products see little of it."""
    config = Config("gru", activation="linear", bfloat16=True)
    zeros = np.zeros((1, 3), np.float32)
    h0 = np.full((1, 1), 1.0 + 2.0**-20, np.float32)
    # The update gate is 1/2 and the candidate 0.
    got = cpu.forward(
        config, x=np.zeros((1, 1, 1), np.float32), kernel=zeros, recurrent_kernel=zeros, h0=h0
    )
    np.testing.assert_array_equal(got["state_h"], h0 / 2)


# --- Against the oracle ---

SELECTED = [
    number
    for number, (name, case) in enumerate(matrix())
    if case.get("activation", "tanh") in ("tanh", "relu", "gelu")
    and case.get("recurrent_activation", "sigmoid") in ("sigmoid", "silu", "tanh")
][::3]
LARGER = [
    {"cell": "lstm", "batch": 19, "time_steps": 3, "features": 17, "units": 33},
    {"cell": "gru", "batch": 19, "time_steps": 2, "features": 33, "units": 17, "mask": "holes"},
    {"cell": "simple_rnn", "batch": 50, "time_steps": 2, "features": 5, "units": 31},
    # More pairs than one chunk of the backward scan, an odd number of them in each.
    {"cell": "simple_rnn", "batch": 1, "time_steps": 1000, "units": 1, "mask": "holes"},
    {"cell": "simple_rnn", "batch": 9, "time_steps": 130, "units": 1, "features": 1},
]


@functools.cache
def expected_of(number: int, seed: int) -> tuple[Case, dict[str, Any], Any, Any]:
    configuration = matrix()[number][1] if number >= 0 else LARGER[-1 - number]
    case = make_case(**{**configuration, "seed": seed})
    cotangents = make_cotangents(case)
    return (
        case,
        cotangents,
        reference.forward(**case, bfloat16=True),
        reference.backward(**case, **cotangents, bfloat16=True),
    )


@pytest.mark.parametrize(
    "number",
    SELECTED + [-1 - i for i in range(len(LARGER))],
    ids=[matrix()[n][0] for n in SELECTED] + [f"larger {i}" for i in range(len(LARGER))],
)
def test_conforms_to_the_oracle(isa: str, number: int) -> None:
    """To float32's precision, although one step of bfloat16 is 30000 times that.

    A state near a tie is rounded up by one and down by the other, and then they differ visibly.
    That is rare, so one of a few draws is without.
    """
    draws = 4
    for seed in range(draws):
        case, cotangents, forward, backward = expected_of(number, seed)
        try:
            check_conformance(case, cotangents, forward, backward, "float32")
            return
        except AssertionError:
            if seed == draws - 1:
                raise


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
def test_the_oracle_tells_rounded_operands_from_exact_ones(cell: str) -> None:
    case = make_case(cell)
    cotangents = make_cotangents(case)
    exact = reference.forward(**case), reference.backward(**case, **cotangents)
    with pytest.raises(AssertionError):
        check_conformance(case, cotangents, *exact, "float32")
    rounded = reference.forward(**case, bfloat16=True)
    assert np.max(np.abs(rounded.sequence - exact[0].sequence)) < 0.05


# --- The engine's promises ---


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_every_subset_of_outputs_and_gradients_agrees(isa: str, cell: str, options: Any) -> None:
    test_engine.test_every_subset_of_outputs_and_gradients_agrees(
        isa, cell, {**options, "dtype": np.float32}
    )


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_a_row_does_not_depend_on_the_batch(isa: str, cell: str, options: Any) -> None:
    test_engine.test_a_row_does_not_depend_on_the_batch(isa, cell, options, "float32")


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
@pytest.mark.parametrize("units", [5, 64])
def test_threads_change_nothing(
    isa: str,
    threads: Any,
    cell: str,
    options: Any,
    units: int,
) -> None:
    test_engine.test_threads_change_nothing(isa, threads, cell, options, units)


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_streaming_in_pieces_gives_the_same_bits(isa: str, cell: str, options: Any) -> None:
    test_engine.test_streaming_in_pieces_gives_the_same_bits(isa, cell, options)


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
def test_padding_gives_the_same_bits_as_no_padding(isa: str, cell: str, options: Any) -> None:
    test_engine.test_padding_gives_the_same_bits_as_no_padding(isa, cell, options, "float32")


@pytest.mark.parametrize(("cell", "options"), VARIANTS)
@pytest.mark.parametrize("every", [1, 3, 1000])
def test_checkpoints_change_nothing(isa: str, cell: str, options: Any, every: int) -> None:
    """Recomputed segments have odd numbers of pairs, which the others' pairs must not notice."""
    case = make_case(cell, batch=5, time_steps=13, units=17, mask="holes", **options)
    case, cotangents = as_dtype(case, "float32"), as_dtype(make_cotangents(case), "float32")
    plain = dataclasses.replace(test_engine.config_of(case), bfloat16=True)
    named = {n: cotangents.get(f"d_{n}") for n in ("state_h", "state_c", "sequence")}
    results = []
    for config in (plain, dataclasses.replace(plain, checkpoint_every=every)):
        saved = cpu.forward(config, **arrays_of(case), slots=True)
        results.append(cpu.backward(config, arrays_of(case), saved, named))
    for name, expected in results[0].items():
        np.testing.assert_array_equal(results[1][name], expected, err_msg=name)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30, -1e30])
def test_non_finite_input_stays_in_its_row(isa: str, value: float) -> None:
    test_engine.test_non_finite_input_stays_in_its_row(isa, "tanh", value, "float32")


@pytest.mark.parametrize(
    ("cell", "options"),
    [*VARIANTS, ("lstm", {"units": 33, "features": 17, "batch": 9, "mask": "left"})],
)
def test_the_instruction_computes_what_is_emulated(cell: str, options: Any) -> None:
    """Pairs lie in memory so that VDPBF16PS adds in the order of all other sums."""
    if FLUSHES not in _engine.isas():
        pytest.skip("neither the processor nor this build has AVX512_BF16")
    case = as_dtype(make_case(cell, **{"mask": "holes", "time_steps": 9, **options}), "float32")
    cotangents = as_dtype(make_cotangents(case), "float32")
    before = _engine.isa()
    results = []
    try:
        for name in ("avx512", FLUSHES):
            _engine.set_isa(name)
            saved = run_forward(case, slots=True)
            gradients = run_backward(case, saved, cotangents)
            results.append({**saved, **{f"d{key}": value for key, value in gradients.items()}})
    finally:
        _engine.set_isa(before)
    emulated, got = results
    assert set(got) == set(emulated)
    for name, value in emulated.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


# --- What is refused, and what is said ---


def test_double_precision_is_refused() -> None:
    case = make_case("lstm")
    with pytest.raises(ValueError, match="bfloat16 products are summed up in float32"):
        cpu.forward(Config("lstm", bfloat16=True), **arrays_of(case))


def test_unknown_products_are_refused() -> None:
    numbers = [*Config("lstm").numbers[:-1], 2]
    with pytest.raises(ValueError, match=r"products must be in 0\.\.1, got 2"):
        _engine.forward([numbers], [None] * 9, [None] * 9)


def test_what_runs_is_said(isa: str) -> None:
    runs, note = cpu.verify(Config("lstm"), "bfloat16")
    assert runs
    assert f"({isa}), bfloat16 products, float32 sums" in note
    assert ("emulated: the processor has no AVX512_BF16" in note) == (isa != FLUSHES)
    assert "bfloat16" not in cpu.verify(Config("lstm"), "float16")[1]


def test_a_configuration_follows_the_dtype() -> None:
    config = Config("gru", reset_after=False)
    assert config.computing("float16") is config
    assert config.computing("bfloat16") == dataclasses.replace(config, bfloat16=True)
    assert config.computing("bfloat16").computing("bfloat16").bfloat16
