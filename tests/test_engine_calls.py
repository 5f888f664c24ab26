"""Ways to call the engine: several problems at once, by address, through C, on OpenMP's threads.

Whatever the way, the bits are those of one call on NumPy arrays.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra
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


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    yield _engine.set_num_threads
    _engine.set_num_threads(0)


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


# --- Several problems ---


@pytest.mark.parametrize("dtype", cpu.DTYPES)
@pytest.mark.parametrize("group", [*GROUPS, "many"])
def test_several_problems_give_the_bits_of_single_calls(
    threads: Callable[[int], None], group: str, dtype: str
) -> None:
    scans = scans_of(group, dtype)
    for n in THREADS:
        threads(n)
        arguments = [(scan.config, {**scan.arrays, "slots": True}) for scan in scans]
        for scan, results in zip(scans, cpu.forward_many(arguments), strict=True):
            scan.check(results, backward=False)
        gradients = cpu.backward_many([scan.backward_arguments() for scan in scans])
        for scan, results in zip(scans, gradients, strict=True):
            scan.check(results, backward=True)


def test_problems_may_differ_in_dtype() -> None:
    scans = [*scans_of("cells", "float32"), *scans_of("cells", "float64")]
    arguments = [(scan.config, {**scan.arrays, "slots": True}) for scan in scans]
    for scan, results in zip(scans, cpu.forward_many(arguments), strict=True):
        scan.check(results, backward=False)


def test_no_problem_at_all() -> None:
    assert cpu.forward_many([]) == []
    assert cpu.backward_many([]) == []
    _engine.run(False, False, [], [])


def test_a_wrong_array_is_named_with_its_problem() -> None:
    good, bad = scans_of("directions")
    wrong = {**bad.arrays, "h0": np.zeros((2, 64), np.float32)}
    with pytest.raises(ValueError, match=r"problem 1 of 2: .*h0 must have shape \(1, 64\), got"):
        cpu.forward_many([(good.config, good.arrays), (bad.config, wrong)])


def test_wrong_lists_are_refused() -> None:
    (scan, other) = scans_of("directions")
    inputs, _, outputs = scan.lists(backward=False)
    options = scan.config.numbers
    with pytest.raises(ValueError, match="forward inputs: expected 9 arrays, got 8"):
        _engine.forward([options], inputs[:-1], outputs)
    with pytest.raises(ValueError, match="forward inputs: expected 18 arrays, got 9"):
        _engine.forward([options, other.config.numbers], inputs, outputs)
    with pytest.raises(ValueError, match="forward outputs: expected 10 arrays, got 11"):
        _engine.forward([options], inputs, [*outputs, None])
    with pytest.raises(ValueError, match="a problem must have 6 numbers, got 5"):
        _engine.forward([options[:-1]], inputs, outputs)
    with pytest.raises(ValueError, match=r"cell must be in 0\.\.2, got 3"):
        _engine.forward([(3, *options[1:])], inputs, outputs)
    with pytest.raises(ValueError, match="activation must be in .* got -1"):
        _engine.backward([(*options[:2], -1, *options[3:])], inputs, outputs)


# --- By address ---


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", cpu.DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_calls_by_address_give_the_same_bits(group: str, dtype: str, backward: bool) -> None:
    for n in (0, *THREADS):
        call_by_address(
            scans_of(group, dtype),
            backward,
            lambda problems, addresses, n=n: _engine.run(
                backward, dtype == "float64", problems, addresses, threads=n
            ),
        )


def wrong_numbers(position: int, value: int) -> Callable[[list[int], list[int]], Any]:
    def change(numbers: list[int], addresses: list[int]) -> tuple[list[int], list[int]]:
        return [*numbers[:position], value, *numbers[position + 1 :]], addresses

    return change


def wrong_addresses(position: int, value: int) -> Callable[[list[int], list[int]], Any]:
    def change(numbers: list[int], addresses: list[int]) -> tuple[list[int], list[int]]:
        return numbers, [*addresses[:position], value, *addresses[position + 1 :]]

    return change


# What C can check too; there is no way to tell how long its lists are.
WRONG = {
    r"cell must be in 0\.\.2, got 9": wrong_numbers(0, 9),
    "batch must be in .* got -1": wrong_numbers(6, -1),
    r"units must be in 1\.\..* got 0": wrong_numbers(9, 0),
    "the number of dropout_x masks must be 0, 1 or 4, got 2": wrong_numbers(10, 2),
    "dropout_x is missing, but the problem says 4 masks": wrong_numbers(10, 4),
    "dropout_h is given, but the problem says 0 masks": wrong_addresses(8, 64),
    "forward inputs: kernel is required": wrong_addresses(1, 0),
    "forward outputs: state_h is required": wrong_addresses(10, 0),
}


def an_address_call() -> tuple[list[int], list[int], list[Any]]:
    scan = scans_of("directions")[0]
    inputs, _, outputs = scan.lists(backward=False)
    inputs = [None if a is None else np.ascontiguousarray(a) for a in inputs]
    return scan.numbers(), [address(a) for a in (*inputs, *outputs)], [inputs, outputs]


@pytest.mark.parametrize("message", WRONG)
def test_wrong_problems_by_address_are_refused(message: str) -> None:
    numbers, addresses, _keep = an_address_call()
    with pytest.raises(ValueError, match=message):
        _engine.run(False, False, *WRONG[message](numbers, addresses))


def test_wrong_counts_by_address_are_refused() -> None:
    numbers, addresses, _keep = an_address_call()
    with pytest.raises(ValueError, match="problems must have 12 numbers each, got 11 in all"):
        _engine.run(False, False, numbers[:-1], addresses)
    with pytest.raises(ValueError, match="addresses: expected 19, got 18"):
        _engine.run(False, False, numbers, addresses[:-1])


# --- OpenMP ---


def find_openmp() -> int | None:
    """The address of GOMP_parallel in the runtime that PyTorch brings, or the system's."""
    spec = importlib.util.find_spec("torch")
    folders = spec.submodule_search_locations if spec else None
    names = [str(p) for p in Path(folders[0], "lib").glob("libgomp*")] if folders else []
    for name in (*names, "libgomp.so.1"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    return None


@pytest.fixture
def openmp() -> Iterator[None]:
    found = find_openmp()
    if found is None:
        pytest.skip("there is no OpenMP runtime")
    _engine.set_openmp(found)
    yield
    _engine.set_openmp(0)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.usefixtures("openmp")
def test_openmp_gives_the_same_bits(group: str, backward: bool) -> None:
    for n in THREADS:
        call_by_address(
            scans_of(group),
            backward,
            lambda problems, addresses, n=n: _engine.run(
                backward, False, problems, addresses, openmp=True, threads=n
            ),
        )


def run_on_openmp(threads: int) -> None:
    for group in ("directions", "unequal"):
        for backward in (False, True):
            call_by_address(
                scans_of(group),
                backward,
                lambda problems, addresses, backward=backward: _engine.run(
                    backward, False, problems, addresses, openmp=True, threads=threads
                ),
            )


@pytest.mark.usefixtures("openmp")
def test_openmp_from_several_threads() -> None:
    """Each host thread has a team of its own: PyTorch's backward passes run on other threads."""
    scans_of("directions"), scans_of("unequal")
    errors = []

    def work() -> None:
        try:
            for _ in range(5):
                run_on_openmp(2)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors


@pytest.mark.usefixtures("openmp")
def test_openmp_inside_a_parallel_region() -> None:
    """A caller that is itself a thread of a region neither hangs nor computes something else."""
    scans_of("directions"), scans_of("unequal")
    errors = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def body(_: Any) -> None:
        try:
            run_on_openmp(2)
        except BaseException as error:
            errors.append(error)

    found = find_openmp()
    assert found is not None
    parallel = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
    )(found)
    parallel(ctypes.cast(body, ctypes.c_void_p), None, 2, 0)
    assert not errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("openmp")
def test_a_forked_child_does_not_wait_for_its_parents_threads() -> None:
    run_on_openmp(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other libraries' threads
        child = os.fork()
    if child == 0:
        try:
            run_on_openmp(2)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_openmp_needs_a_runtime() -> None:
    numbers, addresses, _keep = an_address_call()
    with pytest.raises(ValueError, match="call set_openmp first"):
        _engine.run(False, False, numbers, addresses, openmp=True)


# --- Through C ---

Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Schedule = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class Api(ctypes.Structure):
    """struct RecurraApi of recurra_api.h."""

    _fields_ = (
        ("version", ctypes.c_int64),
        (
            "run",
            ctypes.CFUNCTYPE(
                ctypes.c_char_p,
                ctypes.c_int,
                ctypes.c_int,
                ctypes.c_int64,
                ctypes.POINTER(ctypes.c_int64),
                ctypes.POINTER(ctypes.c_void_p),
                ctypes.c_int,
                Schedule,
                ctypes.c_void_p,
            ),
        ),
    )


def call_c(
    backward: bool,
    problems: list[int],
    addresses: list[int],
    threads: int = 0,
    schedule: Any = None,
) -> str | None:
    api = Api.from_address(_engine.c_api())
    assert api.version == 1
    error = api.run(
        backward,
        False,
        len(problems) // 12,
        (ctypes.c_int64 * len(problems))(*problems),
        (ctypes.c_void_p * len(addresses))(*addresses),
        threads,
        Schedule() if schedule is None else schedule,
        None,
    )
    return None if error is None else error.decode()


class Pool:
    """Ways in which a host may run the tasks it is given."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.late: list[Callable[[], None]] = []
        self.workers: list[threading.Thread] = []
        self.schedule = Schedule(self.take)

    def take(self, _: Any, task: int, context: int) -> None:
        def run() -> None:
            Task(task)(context)

        if self.way == "at once":
            run()
        elif self.way == "late":
            self.late.append(run)
        else:
            self.workers.append(threading.Thread(target=run))
            self.workers[-1].start()

    def finish(self) -> None:
        for run in self.late:
            run()
        for worker in self.workers:
            worker.join()


@pytest.mark.parametrize("way", ["own", "at once", "late", "threads"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("group", GROUPS)
def test_c_gives_the_same_bits(group: str, backward: bool, way: str) -> None:
    for n in THREADS:
        pool = Pool(way)

        def call(problems: Any, addresses: Any, n: int = n, pool: Pool = pool) -> None:
            schedule = None if way == "own" else pool.schedule
            assert call_c(backward, problems, addresses, n, schedule) is None

        call_by_address(scans_of(group), backward, call)
        pool.finish()


@pytest.mark.parametrize("message", WRONG)
def test_c_says_what_is_wrong(message: str) -> None:
    numbers, addresses, _keep = an_address_call()
    error = call_c(False, *WRONG[message](numbers, addresses))
    assert error is not None
    assert re.search(message, error)
    assert call_c(False, numbers, addresses) is None


@pytest.mark.parametrize("compiler", ["cc", "c++"])
def test_the_header_is_in_the_package_and_plain_c(compiler: str, tmp_path: Path) -> None:
    if subprocess.run(["which", compiler], capture_output=True).returncode:
        pytest.skip(f"no {compiler}")
    include = Path(recurra.__file__).parent / "include"
    suffix = {"cc": "c", "c++": "cpp"}[compiler]
    source = tmp_path / f"use.{suffix}"
    source.write_text(
        '#include "recurra_api.h"\n'
        "int version(const RecurraApi* api) { return (int)api->version; }\n"
    )
    command = [compiler, "-Wall", "-Werror", "-I", str(include), "-c", str(source), "-o", "use.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_links_to_openmp() -> None:
    """A second OpenMP runtime in a process fights the host's for the processors."""
    script = (
        "import recurra._engine, pathlib; "
        "print('libgomp' in pathlib.Path('/proc/self/maps').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
