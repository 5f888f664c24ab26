"""How many threads a layer computes on: as recurra.set_num_threads says, else as the host says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

PROGRAM = Path(__file__).with_name("count_threads.py")
HOST = keras.backend.backend()

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="reads /proc"),
    pytest.mark.skipif(CPUS < 2, reason="needs two processors"),
]

ONE_BY_RECURRA = "import recurra; recurra.set_num_threads(1)"
TWO_BY_RECURRA = "import recurra; recurra.set_num_threads(2)"
TWO_CPUS = "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])"
ONE_CPU = "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])"
ONE_BY_TORCH = "import torch; torch.set_num_threads(1)"
TWO_BY_TORCH = "import torch; torch.set_num_threads(2)"
ONE_BY_TENSORFLOW = (
    "import tensorflow as tf; tf.config.threading.set_intra_op_parallelism_threads(1)"
)
TWO_BY_TENSORFLOW = ONE_BY_TENSORFLOW.replace("(1)", "(2)")

CASES: dict[str, list[tuple[list[str], dict[str, str], int]]] = {
    "jax": [
        ([TWO_CPUS], {}, 2),
        ([ONE_CPU], {}, 1),
        ([TWO_CPUS, ONE_BY_RECURRA], {}, 1),
        ([TWO_CPUS, TWO_BY_RECURRA], {}, 2),
    ],
    "torch": [
        ([TWO_BY_TORCH], {}, 2),
        ([ONE_BY_TORCH], {}, 1),
        ([], {"OMP_NUM_THREADS": "1"}, 1),
        ([], {"OMP_NUM_THREADS": "2"}, 2),
        ([TWO_BY_TORCH, ONE_BY_RECURRA], {}, 1),
        ([ONE_BY_TORCH, TWO_BY_RECURRA], {}, 2),
    ],
    "tensorflow": [
        ([TWO_BY_TENSORFLOW], {}, 2),
        ([ONE_BY_TENSORFLOW], {}, 1),
        ([TWO_BY_TENSORFLOW, ONE_BY_RECURRA], {}, 1),
    ],
}


@pytest.mark.parametrize(("statements", "environment", "expected"), CASES[HOST])
def test_as_many_threads_compute_as_were_asked_for(
    statements: list[str], environment: dict[str, str], expected: int
) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, *statements],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": HOST, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"threads: {expected}"
