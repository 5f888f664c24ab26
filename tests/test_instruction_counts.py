"""The kernels take no more instructions than recorded; benchmarks/counts.py counts them.

A change that is meant is recorded by `make bench-counts BENCH=--record`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recurra import _engine

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ISAS = [isa for isa in ("avx2", "generic") if isa in _engine.isas()]


@pytest.fixture(scope="module")
def counts() -> Iterator[Any]:
    """The program benchmarks/counts.py as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.delitem(sys.modules, "counts", raising=False)
        yield importlib.import_module("counts")
        sys.modules.pop("counts", None)


@pytest.fixture(scope="module")
def programs(counts: Any) -> dict[str, Path]:
    try:
        return counts.build(tuple(ISAS))
    except counts.CannotCountError as error:
        pytest.skip(f"instructions cannot be counted here: {error}")


@pytest.mark.parametrize("isa", ISAS)
def test_no_kernel_takes_more_instructions_than_recorded(
    counts: Any, programs: dict[str, Path], isa: str
) -> None:
    compiler = counts.compiler_of(programs[isa])
    recorded = counts.load_record()[isa]
    if compiler not in recorded:
        pytest.skip(f"counts are recorded for {' and '.join(recorded)}, and this is {compiler}")
    try:
        counted = counts.count(programs[isa])
    except counts.CannotCountError as error:
        pytest.skip(f"instructions cannot be counted here: {error}")
    failures = counts.failures(recorded[compiler], counted)
    assert not failures, (
        f"{isa}, {compiler}: not as recorded. If it is meant: make bench-counts BENCH=--record\n"
        + "\n".join(map(str, failures))
    )


def test_growth_fails_and_less_passes(counts: Any) -> None:
    recorded = {"grown": 1000, "almost": 1000, "less": 1000, "same": 1000}
    counted = {"grown": 1051, "almost": 1049, "less": 500, "same": 1000}
    assert [change.case for change in counts.failures(recorded, counted)] == ["grown"]
    assert [str(change) for change in counts.changes(recorded, counted)] == [
        "grown: 1,000 -> 1,051 (+5.1%)",
        "almost: 1,000 -> 1,049 (+4.9%)",
        "less: 1,000 -> 500 (-50.0%)",
    ]


def test_cases_without_a_record_fail_and_records_without_a_case(counts: Any) -> None:
    failures = counts.failures({"gone": 5, "kept": 5}, {"kept": 5, "new": 7})
    assert [str(change) for change in failures] == [
        "new: 7, not recorded",
        "gone: recorded, but there is no such case",
    ]


def test_every_cell_and_pass_is_recorded(counts: Any) -> None:
    for by_compiler in counts.load_record().values():
        for recorded in by_compiler.values():
            kinds = {tuple(case.split()[:2]) for case in recorded}
            assert kinds == {
                (cell, which)
                for cell in ("lstm", "gru", "simple_rnn")
                for which in ("predict", "save", "backward")
            }


def test_without_tools_it_says_what_is_missing(
    counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts.shutil, "which", lambda *_, **__: None)
    with pytest.raises(counts.CannotCountError, match="cmake is not installed"):
        counts.build()
