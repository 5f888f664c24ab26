"""The engine as a torch operation: against the oracle, and under everything that torch does to it."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cases import Case, make_case, make_cotangents, matrix
from recurra import reference
from recurra.cells import CELLS
from recurra.engine import Config, cpu

torch = pytest.importorskip("torch")

from recurra.hosts import torch as host  # noqa: E402

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
