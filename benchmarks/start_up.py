"""From nothing to the first step in a fresh process, and what many sessions weigh.

    python benchmarks/start_up.py                     Recurra, its peers, and imports alone
    python benchmarks/start_up.py --sessions 100000   fewer sessions than a million

Each turn starts a new Python, which imports what it needs, loads the same small model (LSTM 64 and
Dense, 8 features), computes one step and reports the time since it was started and its memory. The
files have been read before, and Python's modules compiled: what is timed is not the first start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tables import keep, machine, record_option, show, status

MEASURE = """
import json, sys, time
{program}
now = time.time()
lines = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
size = {{name: int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}}
print(json.dumps({{"ready": now, "value": float(y.ravel()[0]), **size}}))
"""
PROGRAMS = {
    "Recurra": """
import numpy as np, recurra
y = recurra.load("model.keras").open().step(np.zeros(8, np.float32))
""",
    "ONNX Runtime": """
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
first, *states = session.get_inputs()
zeros = {one.name: np.zeros((1, 64), np.float32) for one in states}
y = session.run(None, {first.name: np.zeros((1, 1, 8), np.float32), **zeros})[0]
""",
    "Keras on JAX": """
import os; os.environ["KERAS_BACKEND"] = "jax"
import numpy as np, keras
y = keras.models.load_model("model.keras").predict_on_batch(np.zeros((1, 1, 8), np.float32))
""",
    "Keras on torch": """
import os; os.environ["KERAS_BACKEND"] = "torch"
import numpy as np, keras
y = keras.models.load_model("model.keras").predict_on_batch(np.zeros((1, 1, 8), np.float32))
""",
    "NumPy and h5py, imported": """
import numpy as np, h5py
y = np.full(1, np.nan)
""",
    "NumPy, imported": """
import numpy as np
y = np.full(1, np.nan)
""",
}
TURNS = 11


def make_model(folder: Path) -> None:
    """The model's files, in a process of its own: this one stays small."""
    program = """
import os; os.environ["KERAS_BACKEND"] = "jax"
import keras
from recurra.runtime.onnx import export
keras.utils.set_random_seed(0)
inner = [keras.layers.LSTM(64), keras.layers.Dense(1)]
keras.Sequential([keras.Input((None, 8)), *inner]).save("model.keras")
export("model.keras", "model.onnx", stateful=True)
"""
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)


def start(program: str, folder: Path) -> dict[str, float]:
    """One fresh process: seconds to the first step's result, bytes."""
    begin = time.time()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(program=program)],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found, "seconds": found["ready"] - begin}


def measure(folder: Path, turns: int) -> dict[str, list[dict[str, float]]]:
    """All programs by turns; the first round is thrown away."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PROGRAMS}
    for turn in range(turns + 1):
        for name in list(PROGRAMS)[:: 1 if turn % 2 else -1]:
            one = start(PROGRAMS[name], folder)
            if turn:
                found[name].append(one)
    values = [found[name][0]["value"] for name in PROGRAMS if "imported" not in name]
    if max(values) - min(values) > 1e-5:
        raise SystemExit(f"the programs' first steps differ: {values}")
    return found


def weigh_sessions(folder: Path, number: int) -> dict[str, Any]:
    """What so many open sessions, each one step old, add to this process."""
    import numpy as np

    import recurra

    runtime = recurra.load(folder / "model.keras")
    x = np.zeros(8, np.float32)
    runtime.open().step(x)
    before = status("VmRSS")
    sessions = [runtime.open() for _ in range(number)]
    for session in sessions:
        session.step(x)
    each = (status("VmRSS") - before) / number
    return {"sessions": number, "bytes": each, "state": runtime.state_bytes}


def report(
    found: dict[str, list[dict[str, float]]], sessions: dict[str, Any], command: str
) -> dict[str, Any]:
    from importlib.metadata import version

    from recurra import _engine

    def median(name: str, of: str) -> float:
        return statistics.median(one[of] for one in found[name])

    return {
        "machine": machine(
            {name: version(name) for name in ("keras", "jax", "torch", "onnxruntime", "h5py")}
            | {"instruction set": _engine.isa()}
        ),
        "command": command,
        "notes": [
            f"Medians of {TURNS} fresh processes each, by turns: from the start of Python to the "
            "result of the first step of LSTM(64) and Dense(1). The last two rows are what "
            "Python with these packages takes alone.",
            f"{sessions['sessions']:,} open sessions of this model take {sessions['bytes']:.0f} "
            f"bytes each, of which {sessions['state']} are the state.",
        ],
        "columns": ["program", "time to first step", "resident", "at its peak", "to Recurra"],
        "rows": [
            [
                name,
                f"{median(name, 'seconds'):.3f} s",
                f"{median(name, 'VmRSS') / 1e6:.0f} MB",
                f"{median(name, 'VmHWM') / 1e6:.0f} MB",
                f"{median(name, 'seconds') / median('Recurra', 'seconds'):.1f}x",
            ]
            for name in PROGRAMS
        ],
        "results": found,
        "sessions": sessions,
    }


def main() -> None:
    """Measure, show and write down."""
    parser = argparse.ArgumentParser(description="From nothing to the first step.")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    record_option(parser)
    given = parser.parse_args()
    os.environ.pop("KERAS_BACKEND", None)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every start compiles every module anew
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        found = measure(Path(folder), given.turns)
        sessions = weigh_sessions(Path(folder), given.sessions)
    made = report(found, sessions, "python benchmarks/start_up.py")
    show(made)
    print(made["notes"][1])
    whole = given.record and given.turns == TURNS and given.sessions == 1_000_000
    print(f"written to {keep('start_up', made, record=whole)}")


if __name__ == "__main__":
    main()
