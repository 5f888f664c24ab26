"""Recurra beside its peers: the same layer, the same numbers, in one run.

    python benchmarks/run.py                 all shapes, both cells, forward and training
    python benchmarks/run.py --shapes 0,3 --cells lstm --modes train --rounds 9
    python benchmarks/run.py --threads 1     every peer bound to one CPU

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


class DisagreementError(Exception):
    """Two peers computed different things, so their times say nothing."""


def allowed_cpus() -> list[int]:
    """The CPUs that this process may use; where the system does not tell, all of them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class PeerProcess:
    """A peer at work in a process of its own (see peers.py), bound to `threads` CPUs."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        cpus = ",".join(map(str, allowed_cpus()[:threads]))
        environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "2"}
        environment["OMP_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("peers.py")), name, cpus],
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
    """Raise DisagreementError unless every peer found what Recurra found."""
    found = {}
    for peer in peers:
        path = folder / f"{peer.name}.npz"
        peer.ask(do="save", path=str(path))
        with np.load(path) as arrays:
            found[peer.name] = dict(arrays)
    expected = found["recurra"]
    for name, arrays in found.items():
        if arrays.keys() != expected.keys():
            raise DisagreementError(
                f"{name} found {', '.join(sorted(arrays))}; Recurra {', '.join(sorted(expected))}"
            )
        for key, array in arrays.items():
            if array.shape != expected[key].shape:
                raise DisagreementError(
                    f"{name} found {key} of shape {array.shape}; Recurra {expected[key].shape}"
                )
            scale = float(np.abs(expected[key]).max()) or 1.0
            error = float(np.abs(array - expected[key]).max()) / scale
            if not error <= TOLERANCE:  # so that NaN is refused too
                raise DisagreementError(
                    f"{name} differs from Recurra in {key} by {error:.1e} of the largest element; "
                    f"allowed are {TOLERANCE:.0e}"
                )


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
        "cores": len(allowed_cpus()),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "bound to CPUs": {name: p.ask(do="cpus")["cpus"] for name, p in processes.items()},
        "dtype": "float32",
        "versions": versions,
    }


def shapes(chosen: str) -> list[tuple[int, int, int, int]]:
    """The shapes for numbers such as "0,3"."""
    try:
        numbers = [int(n) for n in chosen.split(",")]
    except ValueError:
        numbers = [-1]
    if not all(0 <= n < len(SHAPES) for n in numbers):
        raise argparse.ArgumentTypeError(
            f"expected numbers from 0 to {len(SHAPES) - 1}, as in 0,3; got {chosen}"
        )
    return [SHAPES[n] for n in numbers]


def output_file(chosen: str) -> Path:
    """The path, once it is known that a file can be written there: measuring takes minutes."""
    path = Path(chosen)
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{path} cannot be written: {error.strerror}. Name a file that can."
        ) from None
    return path


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options; ends the program with a message if one of them cannot be followed."""
    cpus = len(allowed_cpus())
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", default="lstm,gru", help="default: %(default)s")
    parser.add_argument("--modes", default="forward,train", help="default: %(default)s")
    parser.add_argument(
        "--shapes",
        type=shapes,
        default=list(SHAPES),
        help="numbers of shapes: " + ", ".join(f"{i} = {s}" for i, s in enumerate(SHAPES)),
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=int, default=cpus, help="CPUs for each peer; default: all, %(default)s"
    )
    parser.add_argument(
        "--json",
        type=output_file,
        # As text: argparse then checks the default like anything else, and only if it is used.
        default=str(Path(__file__).parent / "results" / "latest.local.json"),
        help="where to write the results; default: %(default)s",
    )
    options = parser.parse_args(given)
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
    if options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    if not 1 <= options.threads <= cpus:
        parser.error(
            f"--threads: expected 1 to {cpus}, the CPUs that this process may use; "
            f"got {options.threads}"
        )
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
    partial = options.json.with_name(f"{options.json.name}.partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(options.json)
    console.print(f"Written to {options.json}")


if __name__ == "__main__":
    main()
