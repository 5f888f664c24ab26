"""Prints how many threads compute while a layer runs: see tests/test_threads.py.

Arguments are statements to run before the layer is built.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

for statement in sys.argv[1:]:
    exec(statement)

import keras  # noqa: E402
import numpy as np  # noqa: E402

from recurra.layers import LSTM  # noqa: E402


def seconds_by_thread() -> dict[str, float]:
    """CPU time of every thread of this process so far."""
    times = {}
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        try:
            times[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return times


layer = LSTM(256)
x = keras.ops.convert_to_tensor(np.ones((64, 800, 64), "float32"))
keras.ops.convert_to_numpy(layer(x))
before = seconds_by_thread()
# One call alone: the next might run on other threads of the host.
keras.ops.convert_to_numpy(layer(x))
used = [time - before.get(task, 0) for task, time in seconds_by_thread().items()]
print("threads:", sum(time > 0.1 * sum(used) for time in used))
