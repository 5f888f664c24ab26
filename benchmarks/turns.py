"""Measuring by turns: peers' processes, the comparison of what they found, alternating times."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peers import WORKERS
from work import Work, as_json

TOLERANCE = 2e-4
"""Largest difference between two peers, relative to the largest element of an array."""


class DisagreementError(Exception):
    """Two peers computed different things, so their times say nothing."""


class EndedError(Exception):
    """A peer's process ended by itself."""


def allowed_cpus() -> list[int]:
    """The CPUs that this process may use; where the system does not tell, all of them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class PeerProcess:
    """A peer at work in a process of its own (see worker.py).

    name: one of WORKERS.
    threads: how many it uses.
    cpus: how many CPUs it is bound to; None for as many as threads.
    environment: variables set for it alone.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        cpus: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        bound = allowed_cpus()[: cpus or threads]
        settings = {"name": name, "cpus": bound, "threads": threads}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "KERAS_BACKEND": WORKERS[name].backend,
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "OMP_NUM_THREADS": str(threads),
                **(environment or {}),
            },
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Have a command done. Between commands the process stands still.

        Some peers' threads go on looking for work after it is done, on the CPUs of whoever has the
        next turn.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._signal("SIGCONT")
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise EndedError(f"the process of {self.name} ended; its error is printed above")
        self._signal("SIGSTOP")
        return json.loads(answer)

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self.process.poll() is None:
            self.process.send_signal(getattr(signal, name))

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended before
            self.process.stdin.close()
        self._signal("SIGCONT")
        self.process.wait()


@dataclass(frozen=True)
class Entry:
    """Who takes part. timed: False to be compared only."""

    process: PeerProcess
    work: Work
    timed: bool = True


def verify(entries: Mapping[str, tuple[PeerProcess, str]], folder: Path) -> None:
    """Raise DisagreementError unless all found what the first of them did.

    entries: by a name for messages, a process and its piece of work's key.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, (process, key) in entries.items():
        path = folder / "found.npz"
        process.ask(do="save", key=key, path=str(path))
        with np.load(path) as arrays:
            found[name] = dict(arrays)
    first = next(iter(found))
    expected = found[first]
    for key, array in expected.items():
        if not np.isfinite(array).all():
            raise DisagreementError(f"{first} found numbers in {key} that are not finite")
    for name, arrays in found.items():
        if arrays.keys() != expected.keys():
            raise DisagreementError(
                f"{name} found {', '.join(sorted(arrays))}; {first} {', '.join(sorted(expected))}"
            )
        for key, array in arrays.items():
            if array.shape != expected[key].shape:
                raise DisagreementError(
                    f"{name} found {key} of shape {array.shape}; {first} {expected[key].shape}"
                )
            scale = float(np.abs(expected[key]).max()) or 1.0
            error = float(np.abs(array - expected[key]).max()) / scale
            if not error <= TOLERANCE:  # so that NaN is refused too
                raise DisagreementError(
                    f"{name} differs from {first} in {key} by {error:.1e} of the largest element; "
                    f"allowed are {TOLERANCE:.0e}"
                )


def take_turns(
    entries: Mapping[str, Entry],
    rounds: int,
    alike: Iterable[Iterable[str]] | None = None,
    turn_seconds: float = 0.15,
) -> dict[str, list[float]]:
    """Seconds per call, of each entry in each round.

    In every round each entry has a turn; each round begins with another one, so that none always
    follows the same.

    Args:
        entries: who takes part, by name.
        rounds: how many are counted; one before them is not.
        alike: groups of names whose results must be the same; None for one group of all.
        turn_seconds: about how long a turn lasts, whose calls are averaged.

    Raises:
        DisagreementError: if results differ; nothing is timed then.
    """
    calls = {}
    try:
        for name, entry in entries.items():
            answer = entry.process.ask(do="prepare", key=name, work=as_json(entry.work))
            calls[name] = max(1, min(5000, round(turn_seconds / answer["seconds"])))
        with tempfile.TemporaryDirectory() as folder:
            for group in alike if alike is not None else [entries]:
                verify({name: (entries[name].process, name) for name in group}, Path(folder))
        timed = [name for name, entry in entries.items() if entry.timed]
        times: dict[str, list[float]] = {name: [] for name in timed}
        for turn in range(rounds + 1):
            first = turn % len(timed)
            for name in timed[first:] + timed[:first]:
                answer = entries[name].process.ask(do="time", key=name, calls=calls[name])
                if turn:  # the first round warms up
                    times[name].append(float(f"{answer['seconds']:.4g}"))
        return times
    finally:
        for process in {id(entry.process): entry.process for entry in entries.values()}.values():
            if process.process.poll() is None:
                process.ask(do="forget")


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(each) for name, each in times.items()}


class Processes:
    """Peers' processes, started when they are first asked for and then kept."""

    def __init__(self) -> None:
        self.started: dict[Any, PeerProcess] = {}

    def get(self, name: str, threads: int, **settings: Any) -> PeerProcess:
        """The process of a peer with these settings; see PeerProcess."""
        key = (name, threads, json.dumps(settings, sort_keys=True))
        if key not in self.started:
            self.started[key] = PeerProcess(name, threads, **settings)
        return self.started[key]

    def close(self) -> None:
        for process in self.started.values():
            process.close()
        self.started.clear()


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine(threads: int, processes: Iterable[PeerProcess]) -> dict[str, Any]:
    """Where, when and with what numbers were made."""
    versions: dict[str, str] = {"python": platform.python_version(), "numpy": np.__version__}
    bound = {}
    for process in processes:
        versions |= process.ask(do="versions")["versions"]
        bound[process.name] = process.ask(do="cpus")["cpus"]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": len(allowed_cpus()),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "bound to CPUs": bound,
        "dtype": "float32",
        "versions": versions,
    }
