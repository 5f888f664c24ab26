"""Ways to call the engine: several problems at once, by address, through C.

Whatever the way, the bits are those of one call on NumPy arrays.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra
from recurra import _engine
from recurra.engine import cpu
from scans import GROUPS, THREADS, an_address_call, call_by_address, scans_of

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
    with pytest.raises(ValueError, match="a problem must have 8 numbers, got 7"):
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
    r"checkpoint_every must be in -1\.\..* got -2": wrong_numbers(6, -2),
    r"products must be in 0\.\.1, got 2": wrong_numbers(7, 2),
    "batch must be in .* got -1": wrong_numbers(8, -1),
    r"units must be in 1\.\..* got 0": wrong_numbers(11, 0),
    "the number of dropout_x masks must be 0, 1 or 4, got 2": wrong_numbers(12, 2),
    "dropout_x is missing, but the problem says 4 masks": wrong_numbers(12, 4),
    "dropout_h is given, but the problem says 0 masks": wrong_addresses(8, 64),
    "forward inputs: kernel is required": wrong_addresses(1, 0),
    "forward outputs: state_h is required": wrong_addresses(10, 0),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_problems_by_address_are_refused(message: str) -> None:
    numbers, addresses, _keep = an_address_call()
    with pytest.raises(ValueError, match=message):
        _engine.run(False, False, *WRONG[message](numbers, addresses))


def test_wrong_counts_by_address_are_refused() -> None:
    numbers, addresses, _keep = an_address_call()
    with pytest.raises(ValueError, match="problems must have 14 numbers each, got 13 in all"):
        _engine.run(False, False, numbers[:-1], addresses)
    with pytest.raises(ValueError, match="addresses: expected 19, got 18"):
        _engine.run(False, False, numbers, addresses[:-1])


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
    assert api.version == 2
    error = api.run(
        backward,
        False,
        len(problems) // 14,
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
