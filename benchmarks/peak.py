"""The most that the cores can multiply and add: a loop of fused multiply-adds, on every thread."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

FLOPS_PER_THREAD = 4_000_000_000
"""Of one call: tens of milliseconds."""


def compiler() -> list[str]:
    """The C compiler's command: CC, or the first that is found.

    Raises:
        RuntimeError: if there is none.
    """
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise RuntimeError("no C compiler was found (cc, gcc or clang): install one or name it in CC")


def compiled(folder: Path) -> ctypes.CDLL:
    """The loop, compiled into `folder` for this machine."""
    library = folder / "peak.so"
    source = Path(__file__).with_name("peak.c")
    flags = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
    subprocess.run([*compiler(), *flags, "-o", str(library), str(source)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.run.argtypes, loaded.run.restype = [ctypes.c_long], ctypes.c_float
    loaded.flops_per_turn.restype = ctypes.c_int
    return loaded


def prepare(threads: int) -> tuple[Callable[[], None], int]:
    """A function that runs the loop on so many threads, and how many flops that is in all."""
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(Path(folder))  # stays loaded when its file is gone
    turns = FLOPS_PER_THREAD // library.flops_per_turn()

    def call() -> None:
        helpers = [threading.Thread(target=library.run, args=(turns,)) for _ in range(threads - 1)]
        for helper in helpers:
            helper.start()
        library.run(turns)  # without Python's lock, as the helpers
        for helper in helpers:
            helper.join()

    return call, turns * library.flops_per_turn() * threads
