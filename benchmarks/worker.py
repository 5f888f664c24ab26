"""A peer's process. `python worker.py '{"name": "torch", "cpus": [0, 1], "threads": 2}'` reads one
JSON command per line and answers with one JSON line.

A process of its own keeps a peer's threads and allocator out of the others' measurements; only one
of the processes works at a time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from peers import WORKERS, Peer
from work import Work


class Worker:
    """Answers commands: prepare (does the work once), save (its results), time, forget.

    key: a name for a piece of work; several may be prepared at a time.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.prepared: dict[str, tuple[Work, Callable[[], Any], Any]] = {}

    def prepare(self, key: str, work: dict[str, Any]) -> dict[str, Any]:
        todo = Work(**work)
        run = self.peer.prepare(todo, todo.arrays())
        self.prepared[key] = (todo, run, run())
        begin = time.perf_counter()
        run()
        return {"seconds": time.perf_counter() - begin}

    def save(self, key: str, path: str) -> dict[str, Any]:
        work, _, returned = self.prepared[key]
        found = self.peer.results(work, returned)
        if (mask := work.mask()) is not None:
            found["output"] = found["output"] * mask[:, :, None]
        np.savez(path, **found)
        return {}

    def time(self, key: str, calls: int) -> dict[str, Any]:
        _, run, _ = self.prepared[key]
        if calls > 1:  # what the peer before left in caches, and sleeping threads, are not counted
            run()
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        return {"seconds": (time.perf_counter() - begin) / calls}

    def forget(self) -> dict[str, Any]:
        """Let go of all that was prepared."""
        self.prepared.clear()
        self.peer.forget()
        return {}

    def flops(self) -> dict[str, Any]:
        """Of one call, where the peer is no layer."""
        return {"flops": self.peer.flops}

    def versions(self) -> dict[str, Any]:
        return {"versions": self.peer.versions()}

    def cpus(self) -> dict[str, Any]:
        """The CPUs that this process is bound to; None where the system cannot bind it."""
        if not hasattr(os, "sched_getaffinity"):
            return {"cpus": None}
        return {"cpus": sorted(os.sched_getaffinity(0))}


def bind(cpus: list[int]) -> None:
    """Have this thread, and the threads it starts from now on, run on `cpus` only.

    A framework sizes its pool by the CPUs it finds when it is imported, and not every one has a
    setting for that: so this comes first.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def serve(name: str, cpus: list[int], threads: int) -> None:
    """Answer commands from standard input until it ends."""
    bind(cpus)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not come between the answers
    worker = Worker(WORKERS[name](threads, limited=threads < len(cpus)))
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
