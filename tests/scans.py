"""Scans with known results, for calling the engine in other ways: see test_engine_calls.py."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from cases import ARRAYS, Case, make_case, make_cotangents
from recurra import _engine
from recurra.engine import Config, cpu

THREADS = (1, 2, 3, 7)

# Pairs and more of scans that differ in whatever they can. Those of the first and those of MANY are
# run side by side, since one row is no work for two threads; large ones one after the other.
GROUPS: dict[str, list[Case]] = {
    "directions": [
        {"cell": "lstm", "batch": 1, "time_steps": 120, "features": 8, "units": 64},
        {
            "cell": "lstm",
            "batch": 1,
            "time_steps": 120,
            "features": 8,
            "units": 64,
            "go_backwards": True,
            "seed": 1,
        },
    ],
    "directions-batch": [
        {"cell": "gru", "batch": 37, "time_steps": 20, "features": 9, "units": 40},
        {
            "cell": "gru",
            "batch": 37,
            "time_steps": 20,
            "features": 9,
            "units": 40,
            "go_backwards": True,
            "mask": "right",
        },
    ],
    "cells": [
        {"cell": "gru", "reset_after": False, "batch": 5, "units": 17, "mask": "holes"},
        {"cell": "lstm", "batch": 50, "time_steps": 40, "units": 70, "dropout_x": "gates"},
        {"cell": "simple_rnn", "activation": "gelu", "batch": 2, "time_steps": 3, "units": 5},
        {"cell": "gru", "batch": 64, "time_steps": 9, "features": 20, "units": 33},
    ],
    "unequal": [
        {"cell": "simple_rnn", "batch": 1, "time_steps": 1, "features": 1, "units": 1},
        {"cell": "lstm", "batch": 90, "time_steps": 30, "features": 30, "units": 90},
    ],
    "empty": [
        {"cell": "lstm", "batch": 0},
        {"cell": "gru", "time_steps": 0},
        {"cell": "simple_rnn", "batch": 3},
    ],
}
MANY = [{"cell": "lstm", "batch": 1, "time_steps": 90, "units": 40, "seed": n} for n in range(11)]


def config_of(case: Case) -> Config:
    options = ("activation", "recurrent_activation", "go_backwards", "zero_output_for_mask")
    return Config(
        case["cell"],
        reset_after=case["reset_after"] is not False,
        **{name: case[name] for name in options},
    )


class Scan:
    """One problem: its arrays, its results from one call of its own, and room for others."""

    def __init__(self, configuration: Case, dtype: str) -> None:
        def convert(array: Any) -> Any:
            is_float = array is not None and array.dtype == np.float64
            return array.astype(dtype) if is_float else array

        case = make_case(**configuration)
        self.dtype = dtype
        self.config = config_of(case)
        self.arrays = {name: convert(case[name]) for name in ARRAYS}
        cotangents = make_cotangents(case)
        named = {"last_output": cotangents["d_last"], **cotangents["d_slots"]}
        outputs = ("sequence", *self.config.spec.state_outputs)
        named |= {name: cotangents[f"d_{name}"] for name in outputs}
        self.cotangents = {name: convert(array) for name, array in named.items()}
        self.forward = cpu.forward(self.config, **self.arrays, slots=True)
        self.backward = cpu.backward(self.config, self.arrays, self.forward, self.cotangents)

    def backward_arguments(self) -> tuple[Any, ...]:
        return self.config, self.arrays, self.forward, self.cotangents, cpu.DIFFERENTIABLE

    def numbers(self) -> list[int]:
        """The problem in a call by address."""
        masks = [0 if self.arrays[n] is None else len(self.arrays[n]) for n in ARRAYS[-2:]]
        units = self.arrays["recurrent_kernel"].shape[0]
        return [*self.config.numbers, *self.arrays["x"].shape, units, *masks]

    def lists(self, backward: bool) -> tuple[list[Any], dict[str, Any], list[Any]]:
        """Inputs in canonical order, new results by name, and those in canonical order."""
        expected = self.backward if backward else self.forward
        results = {name: np.full_like(array, np.nan) for name, array in expected.items()}
        if not backward:
            names = cpu.forward_outputs(self.config)
            return list(self.arrays.values()), results, [results.get(n) for n in names]
        arrays = {**self.arrays, **self.forward}
        arrays |= {f"d_{name}": array for name, array in self.cotangents.items()}
        if "hidden_state" in self.forward:
            del arrays["sequence"]
        inputs = [arrays.get(n) for n in cpu.backward_inputs(self.config)]
        return inputs, results, [results.get(n) for n in cpu.DIFFERENTIABLE]

    def check(self, results: dict[str, Any], backward: bool) -> None:
        expected = self.backward if backward else self.forward
        assert set(results) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(results[name], array, err_msg=name)


@functools.cache
def scans_of(group: str, dtype: str = "float32") -> list[Scan]:
    """The scans of a group, with results of calls on one thread."""
    _engine.set_num_threads(1)
    try:
        return [Scan(case, dtype) for case in (MANY if group == "many" else GROUPS[group])]
    finally:
        _engine.set_num_threads(0)


def address(array: Any) -> int:
    """Of an array's data; some number for one without elements, 0 for none."""
    return 0 if array is None else array.ctypes.data if array.size else 64


def call_by_address(scans: list[Scan], backward: bool, call: Callable[..., Any]) -> None:
    """Runs `call(problems, addresses)` and compares what it has written."""
    problems: list[int] = []
    addresses: list[int] = []
    results = []
    keep = []
    for scan in scans:
        inputs, named, outputs = scan.lists(backward)
        inputs = [None if a is None else np.ascontiguousarray(a) for a in inputs]
        keep.append(inputs)
        problems += scan.numbers()
        addresses += [address(array) for array in (*inputs, *outputs)]
        results.append(named)
    call(problems, addresses)
    for scan, named in zip(scans, results, strict=True):
        scan.check(named, backward)


def an_address_call() -> tuple[list[int], list[int], list[Any]]:
    scan = scans_of("directions")[0]
    inputs, _, outputs = scan.lists(backward=False)
    inputs = [None if a is None else np.ascontiguousarray(a) for a in inputs]
    return scan.numbers(), [address(a) for a in (*inputs, *outputs)], [inputs, outputs]
