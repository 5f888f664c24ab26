"""Training on one very long sequence: memory and time with and without checkpoints.

    python benchmarks/long_sequences.py                        T = 100 000, B = 8, U = 128, F = 8
    python benchmarks/long_sequences.py --time-steps 20000     smaller; recorded nowhere

Times alternate within a round. Memory is that of one training step in a process of its own: the
most that is resident (Linux's VmHWM) above what is resident before, without the step's results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

from recurra import _engine, layers
from tables import keep, machine, record_option, show, status

SHAPE = {"batch": 8, "time_steps": 100_000, "features": 8, "units": 128}
SAVING = (None, "sqrt", 1000)


class Step:
    """A layer's output and gradients for one input and one cotangent of the output, compiled."""

    def __init__(self, kind: str, every: int | str | None, x: Any, cotangent: Any) -> None:
        keras.utils.set_random_seed(0)  # of the weights
        layer = getattr(layers, kind)(
            cotangent.shape[-1], return_sequences=True, checkpoint_every=every, engine="cpu"
        )
        layer.build(x.shape)
        weights = [variable.value for variable in layer.trainable_variables]
        seeds = [variable.value for variable in layer.non_trainable_variables]

        def step(weights: Any, x: Any, cotangent: Any) -> Any:
            y, pull = jax.vjp(lambda w, x: layer.stateless_call(w, seeds, x)[0], weights, x)
            return y, pull(cotangent)

        self.every, self.arguments = every, (weights, x, cotangent)
        self.seconds: list[float] = []
        self.call = jax.jit(step).lower(*self.arguments).compile()

    def run(self) -> list[Any]:
        """One step: its time is noted, its results returned."""
        start = time.perf_counter()
        results = jax.block_until_ready(self.call(*self.arguments))
        self.seconds.append(time.perf_counter() - start)
        return jax.tree.leaves(results)


def arrays(shape: dict[str, int]) -> tuple[Any, Any]:
    """The input, and the cotangent of the output."""
    rng = np.random.default_rng(0)
    size = (shape["batch"], shape["time_steps"])
    x = jax.device_put(rng.standard_normal((*size, shape["features"]), np.float32))
    return x, jax.device_put(rng.standard_normal((*size, shape["units"]), np.float32))


def memory(kind: str, every: int | str | None, shape: dict[str, int]) -> int:
    """What one step needs, in bytes; to be called once in a process."""
    step = Step(kind, every, *arrays(shape))
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    results = step.run()
    return status("VmHWM") - before - sum(leaf.nbytes for leaf in results)


def memory_elsewhere(*arguments: Any) -> int:
    """`memory` in a new process."""
    command = [sys.executable, __file__, "--memory", json.dumps(arguments)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(kind: str, shape: dict[str, int], rounds: int) -> list[dict[str, Any]]:
    """Time and memory of one kind of layer, without checkpoints first."""
    used = [memory_elsewhere(kind, every, shape) for every in SAVING]
    given = arrays(shape)
    steps = [Step(kind, every, *given) for every in SAVING]
    expected: list[Any] = []
    for turn in range(rounds):
        for step in steps if turn % 2 == 0 else reversed(steps):
            results = [np.array(leaf[..., -1]) for leaf in step.run()]
            expected = expected or results
            for got, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(got, wanted)
    return [
        {
            "layer": kind,
            "checkpoint_every": step.every,
            "seconds": step.seconds,
            "bytes": needed,
            "ratio": statistics.median(
                a / b for a, b in zip(step.seconds, steps[0].seconds, strict=True)
            ),
        }
        for step, needed in zip(steps, used, strict=True)
    ]


def report(found: list[dict[str, Any]], shape: dict[str, int], command: str) -> dict[str, Any]:
    """The figures with what is said about them."""
    rows = [
        [
            one["layer"],
            repr(one["checkpoint_every"]),
            f"{one['bytes'] / 2**20:.0f} MiB",
            f"{statistics.median(one['seconds']):.2f} s",
            f"{one['ratio']:.2f}x",
        ]
        for one in found
    ]
    return {
        "machine": machine({"jax": jax.__version__, "instruction set": _engine.isa()}),
        "command": command,
        "notes": [
            "One training step of a layer through JAX, its output at every step wanted: "
            f"batch {shape['batch']}, {shape['time_steps']} time steps, {shape['features']} "
            f"features, {shape['units']} units. Memory is what the step needs at its peak beyond "
            "its input, its output and their gradients; gradients are equal to the last bit. The "
            "last column is the median of the rounds' ratios.",
        ],
        "columns": ["layer", "checkpoint_every", "memory", "time", "to the plain layer"],
        "rows": rows,
        "results": found,
        "shape": shape,
    }


def main() -> None:
    """Measure, show and write down."""
    parser = argparse.ArgumentParser(description="Memory and time of very long sequences.")
    parser.add_argument("--time-steps", type=int, default=SHAPE["time_steps"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", nargs="+", default=["LSTM", "GRU"])
    record_option(parser)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        print(memory(*json.loads(given.memory)))
        return
    shape = {**SHAPE, "time_steps": given.time_steps}
    found = [one for kind in given.layers for one in measure(kind, shape, given.rounds)]
    made = report(found, shape, "python benchmarks/long_sequences.py")
    show(made)
    whole = given.record and shape == SHAPE and given.layers == ["LSTM", "GRU"]
    print(f"written to {keep('long_sequences', made, record=whole)}")


if __name__ == "__main__":
    main()
