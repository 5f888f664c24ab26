"""The benchmark refuses what it cannot do, and what must not be timed, before it measures."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program benchmarks/run.py as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("run", "peers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("run")
    yield module
    for name in ("run", "peers"):
        sys.modules.pop(name, None)


@pytest.fixture
def hosts(run: Any) -> Any:
    """The program benchmarks/hosts.py as a module."""
    sys.modules.pop("hosts", None)
    yield importlib.import_module("hosts")
    sys.modules.pop("hosts", None)


@pytest.mark.parametrize("kind", ["masked", "bidirectional"])
def test_training_steps_of_both_are_timed(
    hosts: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "TURN_SECONDS", 0.01)
    times = hosts.measure("gru", kind, (4, 5, 3, 2), rounds=2)
    assert times.keys() == {"recurra", "stock"}
    assert all(len(each) == 2 and min(each) > 0 for each in times.values())


def test_models_that_differ_are_not_timed(hosts: Any) -> None:
    import keras

    import recurra.layers

    shape = (4, 5, 3, 2)
    models = {
        "recurra": hosts.build(recurra.layers, "lstm", "plain", shape),
        "stock": hosts.build(keras.layers, "lstm", "plain", shape),
    }
    with pytest.raises(RuntimeError, match="losses differ"):
        hosts.compare(models, *hosts.data("plain", shape))


def test_options(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "found.json"
    options = run.arguments(["--shapes", "3,0", "--peers", "recurra", "--json", str(path)])
    assert options.shapes == [run.SHAPES[3], run.SHAPES[0]]
    assert options.peers == ["recurra"]
    assert options.json == path
    assert list(path.parent.iterdir()) == []
    assert options.threads == len(run.allowed_cpus())


def test_results_go_to_the_project_from_every_folder(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = run.arguments([])
    assert options.json == BENCHMARKS / "results" / "latest.local.json"
    assert options.shapes == list(run.SHAPES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--threads", "0"], "--threads: expected 1 to"),
        (["--threads", "100000"], "got 100000"),
        (["--shapes", "-1"], "expected numbers from 0 to 5, as in 0,3; got -1"),
        (["--shapes", "6"], "expected numbers from 0 to 5, as in 0,3; got 6"),
        (["--shapes", "one"], "expected numbers from 0 to 5, as in 0,3; got one"),
        (["--rounds", "0"], "--rounds: expected at least 1"),
        (["--cells", "lstm,rnn"], "--cells: got rnn, expected some of lstm, gru"),
        (["--peers", "torch"], "recurra must be among them"),
        (["--json", "."], "cannot be written: it is a folder"),
        (["--json", f"{__file__}/found.json"], "cannot be written"),
    ],
)
def test_options_that_cannot_be_followed(
    run: Any, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run.arguments([f"{given[0]}={given[1]}"])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


class Finder:
    """A peer that found what it is told."""

    def __init__(self, name: str, **arrays: Any) -> None:
        self.name = name
        self.arrays = {key: np.asarray(value, "float32") for key, value in arrays.items()}

    def ask(self, do: str, path: str) -> dict[str, Any]:
        assert do == "save"
        np.savez(path, **self.arrays)
        return {}


def test_agreeing_peers_pass(run: Any, tmp_path: Path) -> None:
    right = Finder("recurra", output=[1.0, -8.0])
    run.verify([right, Finder("torch", output=[1.0005, -8.0])], tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"output": [1.01, -8.0], "dx": [1.0]}, "torch differs from Recurra in output by 1.2e-03"),
        ({"output": [1.0, -8.0], "dx": [-1.0]}, "torch differs from Recurra in dx"),
        ({"output": [np.nan, -8.0], "dx": [1.0]}, "torch differs from Recurra in output by nan"),
        ({"output": [1.0, -8.0]}, "torch found output; Recurra dx, output"),
        ({"output": [[1.0, -8.0]], "dx": [1.0]}, r"shape \(1, 2\); Recurra \(2,\)"),
    ],
)
def test_a_wrong_result_is_refused(
    run: Any, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    peers = [Finder("recurra", output=[1.0, -8.0], dx=[1.0]), Finder("torch", **arrays)]
    with pytest.raises(run.DisagreementError, match=message):
        run.verify(peers, tmp_path)


def test_nothing_is_timed_after_a_wrong_result(run: Any) -> None:
    class Worker(Finder):
        def ask(self, do: str, **command: Any) -> dict[str, Any]:
            assert do != "time"
            return {"seconds": 1.0} if do == "prepare" else super().ask(do, **command)

    work = run.Work("lstm", 1, 1, 8, 64, mode="train", threads=1)
    processes = {
        "recurra": Worker("recurra", output=[1.0]),
        "torch": Worker("torch", output=[2.0]),
    }
    with pytest.raises(run.DisagreementError, match="torch"):
        run.measure(work, processes, rounds=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot bind processes here")
def test_a_worker_is_bound_to_as_many_cpus_as_threads(run: Any) -> None:
    before = os.sched_getaffinity(0)
    worker = run.PeerProcess("recurra", 1)
    try:
        assert worker.ask(do="cpus")["cpus"] == run.allowed_cpus()[:1]
    finally:
        worker.close()
    assert os.sched_getaffinity(0) == before
