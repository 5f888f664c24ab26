"""Which instruction set the kernels are of: the best, or the one that RECURRA_ISA names."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recurra import _engine


def run_with(isa: str | None, code: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "RECURRA_ISA"}
    if isa is not None:
        environment["RECURRA_ISA"] = isa
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize("isa", _engine.isas())
def test_the_environment_names_the_instruction_set(isa: str) -> None:
    done = run_with(isa, "from recurra import _engine; print(_engine.isa())")
    assert done.stdout.strip() == isa, done.stderr


@pytest.mark.parametrize("unset", [None, ""])
def test_the_best_one_runs_where_none_is_named(unset: str | None) -> None:
    done = run_with(unset, "from recurra import _engine; print(_engine.isa())")
    assert done.stdout.strip() == _engine.isas()[0], done.stderr


def test_another_can_be_set_later() -> None:
    code = "from recurra import _engine; _engine.set_isa(_engine.isas()[0]); print(_engine.isa())"
    assert run_with("generic", code).stdout.strip() == _engine.isas()[0]


@pytest.mark.parametrize("isa", ["sse9", "AVX2", *({"avx512", "avx2"} - {*_engine.isas()})])
def test_what_does_not_run_here_is_refused(isa: str) -> None:
    """Not by falling back to Keras's scan either: whoever names kernels wants to measure them."""
    code = (
        "import numpy as np; from recurra.layers import LSTM; "
        "LSTM(2)(np.zeros((1, 2, 3), 'float32'))"
    )
    done = run_with(isa, code)
    expected = (
        f"RECURRA_ISA must be one this processor runs ({', '.join(_engine.isas())}), got '{isa}'"
    )
    assert done.returncode != 0
    assert expected in done.stderr


def test_every_use_of_a_wrong_name_is_refused() -> None:
    code = """
from recurra import _engine
for use in (_engine.isa, _engine.isa, lambda: _engine.set_isa("generic")):
    try:
        use()
    except ValueError as error:
        print(error)
"""
    lines = run_with("sse9", code).stdout.splitlines()
    assert len(lines) == 3
    assert all("RECURRA_ISA must be one this processor runs" in line for line in lines)
