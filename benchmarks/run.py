"""Recurra beside its peers: the same layer, the same numbers, in one run.

    python benchmarks/run.py                 all shapes, both cells, forward and training
    python benchmarks/run.py --shapes 0,3 --cells lstm --modes train --rounds 9

For every piece of work the peers' results are compared first; nothing is timed unless they agree.
Then the peers take turns (A B C D, A B C D, ...), and the medians are reported with the ratio
peer / Recurra: above 1, Recurra is faster. Results go to the terminal and to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from peers import PEERS, Work, as_command

SHAPES = (
    (32, 30, 8, 64),
    (64, 100, 64, 128),
    (32, 100, 256, 512),
    (1, 100, 8, 64),
    (1, 1, 8, 64),
    (16, 1000, 32, 128),
)
"""(batch, time_steps, features, units)"""

TOLERANCE = 2e-4
"""Largest difference between two peers, relative to the largest element of an array."""

TURN_SECONDS = 0.15
"""About how long a peer's turn lasts; its calls are averaged."""


class PeerProcess:
    """A peer at work in a process of its own (see peers.py)."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "2"}
        environment["OMP_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("peers.py")), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the process of {self.name} ended; its error is printed above")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def verify(peers: list[PeerProcess], folder: Path) -> None:
    """Raise AssertionError unless every peer found what Recurra found."""
    found = {}
    for peer in peers:
        path = folder / f"{peer.name}.npz"
        peer.ask(do="save", path=str(path))
        with np.load(path) as arrays:
            found[peer.name] = dict(arrays)
    expected = found["recurra"]
    for name, arrays in found.items():
        assert arrays.keys() == expected.keys(), f"{name} found {set(arrays)}"
        for key, array in arrays.items():
            scale = float(np.abs(expected[key]).max()) or 1.0
            error = float(np.abs(array - expected[key]).max()) / scale
            assert error <= TOLERANCE, f"{name} differs from Recurra in {key} by {error:.1e}"


def measure(work: Work, processes: dict[str, PeerProcess], rounds: int) -> dict[str, list[float]]:
    """Seconds per call, of each peer in each round."""
    peers = [process for name, process in processes.items() if work.mode in PEERS[name].modes]
    calls = {}
    for peer in peers:
        seconds = peer.ask(**as_command(work))["seconds"]
        calls[peer.name] = max(1, min(5000, round(TURN_SECONDS / seconds)))
    with tempfile.TemporaryDirectory() as folder:
        verify(peers, Path(folder))
    times: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for turn in range(rounds + 1):
        for peer in peers:
            seconds = peer.ask(do="time", calls=calls[peer.name])["seconds"]
            if turn:  # the first round warms up
                times[peer.name].append(seconds)
    return times


def machine(threads: int, processes: dict[str, PeerProcess]) -> dict[str, Any]:
    """Where and with what the numbers were made."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions: dict[str, str] = {"python": platform.python_version(), "numpy": np.__version__}
    for process in processes.values():
        versions |= process.ask(do="versions")["versions"]
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "dtype": "float32",
        "versions": versions,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", default="lstm,gru", help="default: %(default)s")
    parser.add_argument("--modes", default="forward,train", help="default: %(default)s")
    parser.add_argument(
        "--shapes",
        help="numbers of shapes: " + ", ".join(f"{i} = {s}" for i, s in enumerate(SHAPES)),
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/latest.local.json"))
    options = parser.parse_args()
    for name, known in (
        ("cells", ("lstm", "gru")),
        ("modes", ("forward", "train")),
        ("peers", PEERS),
    ):
        chosen = getattr(options, name).split(",")
        if unknown := [c for c in chosen if c not in known]:
            parser.error(f"--{name}: got {', '.join(unknown)}, expected some of {', '.join(known)}")
        setattr(options, name, chosen)
    if "recurra" not in options.peers:
        parser.error("--peers: recurra must be among them, the ratios are to it")
    try:
        numbers = (
            [int(n) for n in options.shapes.split(",")] if options.shapes else range(len(SHAPES))
        )
        options.shapes = [SHAPES[n] for n in numbers]
    except (ValueError, IndexError):
        parser.error(
            f"--shapes: expected numbers from 0 to {len(SHAPES) - 1}, got {options.shapes}"
        )
    if options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    return options


def text(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds < 0.01 else f"{seconds * 1e3:.1f} ms"


def main() -> None:
    options = arguments()
    console = Console()
    processes = {name: PeerProcess(name, options.threads) for name in options.peers}
    report: dict[str, Any] = {"machine": machine(options.threads, processes), "results": []}
    others = [name for name in options.peers if name != "recurra"]
    for mode in options.modes:
        table = Table(title=f"{mode}: median time of a call, and how many times Recurra's that is")
        table.add_column("cell")
        table.add_column("batch, time_steps, features, units", justify="right")
        table.add_column("recurra", justify="right")
        for name in others:
            if mode in PEERS[name].modes:
                table.add_column(name, justify="right")
        for cell in options.cells:
            for shape in options.shapes:
                work = Work(cell, *shape, mode=mode, threads=options.threads)
                times = measure(work, processes, options.rounds)
                medians = {name: statistics.median(values) for name, values in times.items()}
                own = medians["recurra"]
                row = [
                    f"{text(medians[n])}  {medians[n] / own:.2f}x" for n in others if n in medians
                ]
                table.add_row(cell, ", ".join(map(str, shape)), text(own), *row)
                console.print(
                    f"{mode} {cell} {shape}: {text(own)}  "
                    + "  ".join(f"{n} {medians[n] / own:.2f}x" for n in medians if n != "recurra"),
                    highlight=False,
                )
                report["results"].append(
                    {
                        "mode": mode,
                        "cell": cell,
                        "shape": shape,
                        "seconds": times,
                        "median": medians,
                    }
                )
        console.print(table)
    for process in processes.values():
        process.close()
    console.print(report["machine"])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    partial = options.json.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(options.json)
    console.print(f"Written to {options.json}")


if __name__ == "__main__":
    main()
