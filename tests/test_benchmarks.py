"""The benchmark refuses what it cannot do, and what must not be timed, before it measures."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
PARTS = ("shapes", "padded", "options", "threads", "avx2", "scaling")


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], Any]]:
    """Imports the programs in benchmarks/ by name."""
    ours = {path.stem for path in BENCHMARKS.glob("*.py")} | {"parts"}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        for name in ours:
            patch.delitem(sys.modules, name, raising=False)
        yield importlib.import_module
    for name in list(sys.modules):
        if name.partition(".")[0] in ours:
            del sys.modules[name]


@pytest.fixture
def run(load: Callable[[str], Any]) -> Any:
    return load("run")


@pytest.fixture
def turns(load: Callable[[str], Any]) -> Any:
    return load("turns")


@pytest.fixture
def hosts(load: Callable[[str], Any]) -> Any:
    return load("hosts")


@pytest.fixture(scope="module")
def tiny(load: Callable[[str], Any]) -> Iterator[Any]:
    """A `Bench` on one thread with short turns. Its processes take seconds to start: all tests
    have the same."""
    settings = {"rounds": 2, "turn_seconds": 0.001, "threads": 1}
    bench = load("bench").Bench(cells=("gru",), modes=("train",), **settings)
    yield bench
    bench.processes.close()


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
    path = tmp_path / "new folder"
    options = run.arguments(["--shapes", "3,0", "--peers", "recurra", "--results", str(path)])
    assert options.shapes == [run.SHAPES[3], run.SHAPES[0]]
    assert options.peers == ["recurra"]
    assert options.results == path
    assert list(path.iterdir()) == []
    assert options.threads == len(run.allowed_cpus())


def test_results_go_to_the_project_from_every_folder(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = run.arguments([])
    assert options.results == BENCHMARKS / "results"
    assert options.shapes == list(run.SHAPES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ([], True),
        (["--parts", "scaling"], True),
        (["--rounds", "7"], False),
        (["--turn-seconds", "0.15"], False),
        (["--shapes", "0"], False),
        (["--cells", "gru"], False),
        (["--peers", "recurra,torch"], False),
        (["--cells", "gru", "--record"], True),
        (["--no-record"], False),
    ],
)
def test_only_whole_parts_change_the_documents(run: Any, given: list[str], recorded: bool) -> None:
    assert run.arguments(given).record is recorded


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--threads", "0"], "--threads: expected 1 to"),
        (["--threads", "100000"], "got 100000"),
        (["--shapes", "-1"], "expected numbers from 0 to 5, as in 0,3; got -1"),
        (["--shapes", "6"], "expected numbers from 0 to 5, as in 0,3; got 6"),
        (["--shapes", "one"], "expected numbers from 0 to 5, as in 0,3; got one"),
        (["--rounds", "0"], "--rounds: expected at least 1"),
        (["--turn-seconds", "0"], "--turn-seconds: expected more than 0, got 0"),
        (["--cells", "lstm,rnn"], "--cells: got rnn, expected some of lstm, gru"),
        (["--parts", "shape"], "--parts: got shape, expected some of shapes, padded"),
        (["--peers", "torch"], "recurra must be among them"),
        (["--results", f"{__file__}/found"], "nothing can be written to"),
    ],
)
def test_options_that_cannot_be_followed(
    run: Any, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run.arguments([f"{given[0]}={given[1]}"])
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


class Finder:
    """A peer that found what it is told."""

    def __init__(self, name: str, **arrays: Any) -> None:
        self.name = name
        self.arrays = {key: np.asarray(value, "float32") for key, value in arrays.items()}

    def ask(self, do: str, key: str, path: str) -> dict[str, Any]:
        assert do == "save"
        np.savez(path, **self.arrays)
        return {}


def as_entries(*found: Finder) -> dict[str, tuple[Finder, str]]:
    return {finder.name: (finder, "key") for finder in found}


def test_agreeing_peers_pass(turns: Any, tmp_path: Path) -> None:
    right = Finder("recurra", output=[1.0, -8.0])
    turns.verify(as_entries(right, Finder("torch", output=[1.0005, -8.0])), tmp_path)


def test_results_that_are_not_finite_are_refused(turns: Any, tmp_path: Path) -> None:
    peers = as_entries(*(Finder(name, output=[np.inf]) for name in ("recurra", "torch")))
    with pytest.raises(turns.DisagreementError, match="recurra found numbers in output that are"):
        turns.verify(peers, tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"output": [1.01, -8.0], "dx": [1.0]}, "torch differs from recurra in output by 1.2e-03"),
        ({"output": [1.0, -8.0], "dx": [-1.0]}, "torch differs from recurra in dx"),
        ({"output": [np.nan, -8.0], "dx": [1.0]}, "torch differs from recurra in output by nan"),
        ({"output": [1.0, -8.0]}, "torch found output; recurra dx, output"),
        ({"output": [[1.0, -8.0]], "dx": [1.0]}, r"shape \(1, 2\); recurra \(2,\)"),
    ],
)
def test_a_wrong_result_is_refused(
    turns: Any, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    peers = as_entries(Finder("recurra", output=[1.0, -8.0], dx=[1.0]), Finder("torch", **arrays))
    with pytest.raises(turns.DisagreementError, match=message):
        turns.verify(peers, tmp_path)


def test_nothing_is_timed_after_a_wrong_result(load: Callable[[str], Any], turns: Any) -> None:
    class Worker(Finder):
        process = SimpleNamespace(poll=lambda: None)

        def ask(self, do: str, **command: Any) -> dict[str, Any]:
            assert do != "time"
            return {"seconds": 1.0} if do != "save" else super().ask(do, **command)

    work = load("work").Work("lstm", 1, 1, 8, 64, mode="train")
    entries = {
        name: turns.Entry(Worker(name, output=[found]), work)
        for name, found in (("recurra", 1.0), ("torch", 2.0))
    }
    with pytest.raises(turns.DisagreementError, match="torch"):
        turns.take_turns(entries, rounds=1)


@pytest.mark.parametrize("error", ["DisagreementError", "EndedError"])
def test_the_others_are_measured_after_a_failure(
    run: Any, turns: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: str
) -> None:
    def wrong() -> None:
        raise getattr(turns, error)("torch differs")

    part = SimpleNamespace(
        ROUNDS=1, jobs=lambda bench: [wrong, lambda: {"found": 3}], line=str, tables=lambda _: []
    )
    monkeypatch.setattr(run, "part", lambda name: part)
    report = run.run(run.Console(quiet=True), run.Bench(), "shapes", "the command")
    assert report["not timed"] == ["torch differs"]
    run.save(tmp_path / "found.json", report)
    assert json.loads((tmp_path / "found.json").read_text())["results"] == [{"found": 3}]


def test_a_worker_that_ends_is_named(turns: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns.sys, "executable", "false")  # a program that ends at once
    worker = turns.PeerProcess("torch", 1)
    with pytest.raises(turns.EndedError, match="the process of torch ended"):
        worker.ask(do="versions")
    worker.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot bind processes here")
def test_a_worker_is_bound_to_as_many_cpus_as_threads(turns: Any) -> None:
    before = os.sched_getaffinity(0)
    worker = turns.PeerProcess("recurra", 1)
    try:
        assert worker.ask(do="cpus")["cpus"] == turns.allowed_cpus()[:1]
    finally:
        worker.close()
    assert os.sched_getaffinity(0) == before


def measured(load: Callable[[str], Any], bench: Any, name: str, *given: Any) -> dict[str, Any]:
    """What a part finds out about something tiny; it has a line and tables."""
    part = load(f"parts.{name}")
    result = json.loads(json.dumps(part.measure(bench, *given)))
    assert result["mode"] == "train" or name == "avx2"
    assert all(len(t) >= 2 and min(t) > 0 for t in result["seconds"].values())
    assert "gru" in part.line(result)
    for table in part.tables([result]):
        assert all(len(row) == len(table.headings) for row in table.rows)
    return result


TINY = (3, 4, 2, 5)


def test_peers_and_the_peak_are_timed(
    load: Callable[[str], Any], tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = load("parts.shapes")
    monkeypatch.setattr(shapes, "PEAK_FLOPS", 1)
    monkeypatch.setattr(shapes, "TARGETS", {TINY: {("train", "torch"): 0.0}})
    monkeypatch.setattr(shapes, "PEAK_SHAPE", TINY)
    result = measured(load, tiny, "shapes", load("work").Work("gru", *TINY, mode="train"))
    assert result["seconds"].keys() == {"recurra", "keras-jax", "torch", "peak"}
    assert result["flops"] == 3 * 2 * (3 * 4) * (2 + 5) * (3 * 5)
    assert 0 < shapes.share_of_peak(result)[0] < 1
    met = shapes.targets_met([result])
    assert [ok for _, ok in met] == [True, False]
    assert "share of peak" in met[1][0]


def test_padded_batches_are_timed(load: Callable[[str], Any], tiny: Any) -> None:
    result = measured(load, tiny, "padded", "gru", (8, 9, 2, 5), "train")
    own = {f"recurra {p}" for p in ("none", "right", "left", "holes")}
    assert result["seconds"].keys() == own | {
        f"{peer} {p}" for peer in ("keras-jax", "torch") for p in ("none", "right")
    }
    assert result["kept"] == {"right": 5 / 9, "left": 5 / 9, "holes": 5 / 9}


@pytest.fixture
def few_options(load: Callable[[str], Any]) -> Iterator[set[str]]:
    """Leaves plain and these in work.OPTIONS; afterwards all are there again, in their order."""
    options = load("work").OPTIONS
    kept = {"bidirectional", "recurrent_dropout", "return_trace", "stateful", "initial_state"}
    everything = dict(options)
    for name in everything.keys() - {"plain", *kept}:
        del options[name]
    yield kept
    options.clear()
    options.update(everything)


def test_options_are_timed(load: Callable[[str], Any], tiny: Any, few_options: set[str]) -> None:
    options, kept = load("parts.options"), few_options
    result = measured(load, tiny, "options", "gru", TINY, "train")
    assert result["seconds"].keys() == {"plain", *kept}
    assert len(result["seconds"]["plain"]) == 2 * len(result["seconds"]["stateful"])
    median = {"plain": 2.0, "stateful": 2.6, "bidirectional": 5.2}
    found = options.ratios({"median": median})
    assert found == {name: pytest.approx(1.3) for name in ("stateful", "bidirectional")}


def test_threads_are_compared(
    load: Callable[[str], Any], tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = load("work").Work("gru", *TINY, mode="train")
    if len(load("turns").allowed_cpus()) < 2:
        assert list(load("parts.threads").jobs(tiny)) == []
        return
    result = measured(load, tiny, "threads", work)
    assert result["seconds"].keys() == {
        f"{host} {n}" for host in ("recurra", "recurra-torch") for n in (1, 2)
    }


def test_dispatch_is_forced_to_avx2(load: Callable[[str], Any], tiny: Any) -> None:
    from recurra import _engine

    if "avx2" not in _engine.isas():
        pytest.skip("this processor has no AVX2")
    measured(load, tiny, "avx2", load("work").Work("gru", *TINY, mode="train"))
    versions = {
        n: p.ask(do="versions")["versions"] for (n, *_), p in tiny.processes.started.items()
    }
    assert versions["recurra"]["instruction set"] == "avx2"
    assert versions["torch"]["torch's CPU kernels"] == "AVX2"


def test_one_size_is_varied(
    load: Callable[[str], Any], tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling = load("parts.scaling")
    monkeypatch.setattr(scaling, "BASE", dict(zip(scaling.BASE, TINY, strict=True)))
    result = measured(load, tiny, "scaling", "gru", "train", "units", 7)
    assert result["flops"] == 3 * 2 * (3 * 4) * (2 + 7) * (3 * 7)
    slow = {**result, "median": {"recurra": 3.0, "torch": 2.0}}
    assert scaling.tables([slow])[0].rows == [["PyTorch", "GRU", "train", "units", "7 (1.50x)"]]


def test_padding_is_half_of_the_batch_wherever_it_is(load: Callable[[str], Any]) -> None:
    Work = load("work").Work
    masks = {p: Work("lstm", 8, 20, 2, 3, "train", padding=p).mask() for p in load("work").PADDINGS}
    for mask in masks.values():
        assert mask.mean() == pytest.approx(0.525)  # between 1 and 20 of 20 steps
        assert (mask.sum(1) == masks["right"].sum(1)).all()
    assert (np.diff(masks["right"].astype(int)) <= 0).all()
    assert (np.diff(masks["left"].astype(int)) >= 0).all()
    assert (np.abs(np.diff(masks["holes"].astype(int))).sum(1) > 1).any()


def test_the_documents_are_what_the_results_make_of_them(load: Callable[[str], Any]) -> None:
    page = load("page")
    reports = page.load()
    assert "shapes" in reports
    for path in (page.PAGE, page.README):
        assert path.read_text() == page.filled(path.read_text(), reports), (
            f"{path.name} is not what benchmarks/page.py makes of benchmarks/results: "
            "run `make bench-page`"
        )


def test_every_block_of_the_documents_is_known(load: Callable[[str], Any]) -> None:
    page = load("page")
    text = page.PAGE.read_text() + page.README.read_text()
    assert sorted(name for _, name, _ in page.LANDMARK.findall(text)) == sorted(page.BLOCKS)
    assert text.count("<!-- begin ") == len(page.BLOCKS)


def test_pages_say_what_was_not_measured_and_what_differed(load: Callable[[str], Any]) -> None:
    page = load("page")
    text = "<!-- begin avx2 -->\nold\n<!-- end avx2 -->\nby hand\n"
    assert page.filled(text, {}) == (
        "<!-- begin avx2 -->\n\nNot measured yet.\n\n<!-- end avx2 -->\nby hand\n"
    )
    machine = {"processor": "P", "cores": 2, "dtype": "float32", "versions": {"torch": "1"}}
    result = {
        "cell": "lstm",
        "shape": TINY,
        "mode": "train",
        "seconds": {},
        "median": {"recurra": 2.0, "torch": 1.0},
    }
    report = {
        "command": "c",
        "machine": machine,
        "not timed": ["torch differs"],
        "results": [result],
    }
    made = page.filled(text, {"avx2": report})
    assert "Not timed: torch differs." in made
    assert "0.50x **<** 0.9x" in made
    assert "0 of 1 targets are reached" in made
    assert "no AVX-512" not in made
    machine = {**machine, "versions": {"instruction set": "avx2"}}
    others = {"shapes": {**report, "machine": machine}}
    assert "no AVX-512" in page.filled(text, {"avx2": report, **others})


def test_tables_of_other_programs_are_shown(load: Callable[[str], Any]) -> None:
    page = load("page")
    machine = {"processor": "P", "cores": 2, "dtype": "float32", "versions": {"jax": "1"}}
    report = {"command": "c", "machine": machine, "notes": ["A note."]}
    report |= {"columns": ["a", "b"], "rows": [["1", 2]]}
    made = page.block_of_table("long_sequences")({"long_sequences": report})
    assert made.split("\n\n")[1:] == ["A note.", "| a | b |\n| --- | --- |\n| 1 | 2 |"]


def test_pictures_are_drawn(
    load: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = load("page")
    monkeypatch.setattr(page, "IMAGES", tmp_path)
    reports = page.load()
    median = {"recurra": 0.001, "torch": 0.002, "onnxruntime": 0.0005}
    results = [
        {"cell": cell, "mode": "forward", "varied": varied, "value": value, "flops": value}
        | {"median": {name: value * seconds for name, seconds in median.items()}}
        for cell in ("lstm", "gru")
        for varied in ("time_steps", "batch", "units")
        for value in (8, 16)
    ]
    reports["scaling"] = {"machine": reports["shapes"]["machine"], "results": results}
    drawn = page.pictures(reports)
    assert [path.name for path in drawn] == ["speed.png", "scaling-forward.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
