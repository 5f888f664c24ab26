"""The engine on the threads of an OpenMP runtime: the same bits, and never a hang."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recurra import _engine
from scans import GROUPS, THREADS, an_address_call, call_by_address, scans_of


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
    if "recurra.hosts.torch" not in sys.modules:  # which needs it for as long as it lives
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
    if "recurra.hosts.torch" in sys.modules:
        pytest.skip("the torch host has given the runtime")
    numbers, addresses, _keep = an_address_call()
    with pytest.raises(ValueError, match="call set_openmp first"):
        _engine.run(False, False, numbers, addresses, openmp=True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_links_to_openmp() -> None:
    """A second OpenMP runtime in a process fights the host's for the processors."""
    script = (
        "import recurra._engine, pathlib; "
        "print('libgomp' in pathlib.Path('/proc/self/maps').read_text())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
