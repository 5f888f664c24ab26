"""One time step at a time, from Python: Recurra's sessions beside ONNX Runtime, PyTorch and Keras.

    python benchmarks/streaming.py              a million steps of the small model: some minutes
    python benchmarks/streaming.py --steps 20000 --models "LSTM 64"

One model per row group, trained weights or not makes no difference; every peer runs the same
weights, and what the peers answer to the same first steps is compared before anything is timed.
Every call takes a new input and gives its output, and the states of the stream go from one call to
the next. The peers take turns of some thousand steps; each step is timed by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import onnxruntime
import torch

import recurra
from recurra import _engine
from recurra.runtime.onnx import export
from tables import keep, machine, record_option, show

# units of the LSTMs, features, steps of Recurra; the others' shares of them
MODELS = {
    "LSTM 64": ((64,), 8, 1_000_000),
    "2 x LSTM 128": ((128, 128), 32, 200_000),
    "3 x LSTM 960": ((960, 960, 960), 32, 2_000),
}
SHARE = {"Recurra": 1, "ONNX Runtime": 10, "ONNX Runtime, bound": 10, "PyTorch": 20, "Keras": 1000}
LEAST = 40
ROUNDS = 10
CHECKED = 20

Step = Callable[[Any], Any]


def model_of(units: tuple[int, ...], features: int) -> Any:
    """Stacked LSTMs and a Dense layer on the last step, stock Keras."""
    keras.utils.set_random_seed(0)
    inner = [keras.layers.LSTM(u, return_sequences=True) for u in units[:-1]]
    last = [keras.layers.LSTM(units[-1]), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((None, features)), *inner, *last])


def recurra_step(path: Path) -> Step:
    return recurra.load(path).open().step


def onnx_session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx_states(session: Any) -> tuple[str, dict[str, Any], list[str]]:
    """The input's name; the states' first values by name; the outputs' names, in the same order."""
    first, *states = session.get_inputs()
    values = {
        one.name: np.zeros([1 if not isinstance(n, int) else n for n in one.shape], np.float32)
        for one in states
    }
    return first.name, values, [one.name for one in session.get_outputs()]


def onnx_step(path: Path) -> Step:
    """ONNX Runtime's `run`, the states passed in and out as NumPy arrays."""
    session = onnx_session(path)
    name, states, _ = onnx_states(session)

    def step(x: Any) -> Any:
        output, *new = session.run(None, {name: x[None, None], **states})
        states.update(zip(states, new, strict=True))
        return output

    return step


def onnx_bound_step(path: Path) -> Step:
    """The same with arrays bound beforehand, two sets that change places: its quickest way."""
    session = onnx_session(path)
    name, states, outputs = onnx_states(session)
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    x_here = value(np.zeros([1, 1, session.get_inputs()[0].shape[-1]], np.float32))
    kept = [{one: value(array) for one, array in states.items()} for _ in range(2)]
    result = value(np.zeros([1, 1], np.float32))
    bindings = []
    for before, after in (kept, kept[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input(name, x_here)
        for one, array in before.items():
            binding.bind_ortvalue_input(one, array)
        binding.bind_ortvalue_output(outputs[0], result)
        for one, array in zip(outputs[1:], after.values(), strict=True):
            binding.bind_ortvalue_output(one, array)
        bindings.append(binding)
    turn = [0]

    def step(x: Any) -> Any:
        x_here.update_inplace(x[None, None])
        session.run_with_iobinding(bindings[turn[0]])
        turn[0] ^= 1
        return result.numpy()

    return step


def torch_step(model: Any) -> Step:
    """torch.nn.LSTM for each layer, in inference mode."""
    modules, states = [], []
    *recurrent, dense = model.layers
    for layer in recurrent:
        kernel, recurrent_kernel, bias = (np.asarray(v.value) for v in layer.variables[:3])
        weights = recurra.weights.to_torch(
            "lstm", {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}
        )
        module = torch.nn.LSTM(kernel.shape[0], layer.units, batch_first=True)
        module.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
        modules.append(module)
        states.append(None)
    kernel, bias = (torch.from_numpy(np.array(v.value)) for v in dense.variables)

    def step(x: Any) -> Any:
        with torch.inference_mode():
            value = torch.from_numpy(x)[None, None]
            for i, module in enumerate(modules):
                value, states[i] = module(value, states[i])
            return (value[:, -1] @ kernel + bias).numpy()

    return step


def keras_step(model: Any) -> Step:
    """`predict_on_batch` of the same layers, the states passed in and out as NumPy arrays.

    A stateful model would be simpler, but stock Keras's on JAX forgets its states between calls of
    `predict_on_batch`.
    """
    *recurrent, dense = model.layers
    x = keras.Input((1, model.input_shape[-1]))
    given, new, value = [], [], x
    for layer in recurrent:
        before = [keras.Input((layer.units,)) for _ in range(2)]
        copy = type(layer).from_config(
            {**layer.get_config(), "return_sequences": True, "return_state": True}
        )
        value, *after = copy(value, initial_state=before)
        copy.set_weights(layer.get_weights())
        given += before
        new += after
    head = type(dense).from_config(dense.get_config())
    result = head(value)
    head.set_weights(dense.get_weights())
    whole = keras.Model([x, *given], [result, *new])
    states = [np.zeros((1, one.shape[-1]), np.float32) for one in given]

    def step(x: Any) -> Any:
        output, *states[:] = whole.predict_on_batch([x[None, None], *states])
        return output

    return step


def steps_of(units: tuple[int, ...], features: int, folder: Path) -> dict[str, Step]:
    model = model_of(units, features)
    saved, exported = folder / "model.keras", folder / "model.onnx"
    model.save(saved)
    export(saved, exported, stateful=True)
    return {
        "Recurra": recurra_step(saved),
        "ONNX Runtime": onnx_step(exported),
        "ONNX Runtime, bound": onnx_bound_step(exported),
        "PyTorch": torch_step(model),
        "Keras": keras_step(model),
    }


def agree(steps: dict[str, Step], features: int) -> None:
    """Ends the program if a peer's answers to the same stream differ: it would time other work."""
    stream = np.random.default_rng(1).standard_normal((CHECKED, features)).astype(np.float32)
    expected = [np.ravel(steps["Recurra"](x)) for x in stream]
    for name, step in steps.items():
        if name != "Recurra":
            found = [np.array(step(x)).ravel() for x in stream]  # bound arrays are written again
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=f"{name} differs")


def measure(
    units: tuple[int, ...], features: int, count: int, folder: Path
) -> dict[str, list[int]]:
    """Each peer's times of single steps, in ns."""
    steps = steps_of(units, features, folder)
    agree(steps, features)
    stream = np.random.default_rng(2).standard_normal((1000, features)).astype(np.float32)
    taken: dict[str, list[int]] = {name: [] for name in steps}
    clock = time.perf_counter_ns
    for turn in range(ROUNDS):
        names = list(steps) if turn % 2 == 0 else list(steps)[::-1]
        for name in names:
            step, times = steps[name], taken[name]
            for i in range(max(count // SHARE[name], LEAST) // ROUNDS):
                x = stream[i % 1000]
                begin = clock()
                step(x)
                times.append(clock() - begin)
    return taken


def clock_itself() -> float:
    """What two readings of the clock take, in ns: it is in every time above."""
    clock = time.perf_counter_ns
    return statistics.median(-(clock() - clock()) for _ in range(10_000))


def many_sessions(folder: Path, numbers: tuple[int, ...] = (1, 8, 64, 512)) -> list[dict[str, Any]]:
    """`step_many` of the small model: time per session."""
    units, features, _ = MODELS["LSTM 64"]
    saved = folder / "model.keras"
    model_of(units, features).save(saved)
    runtime = recurra.load(saved)
    found = []
    for number in numbers:
        sessions = [runtime.open() for _ in range(number)]
        x = np.zeros((number, features), np.float32)
        times = []
        for _ in range(200):
            begin = time.perf_counter_ns()
            runtime.step_many(sessions, x)
            times.append(time.perf_counter_ns() - begin)
        found.append({"sessions": number, "ns": statistics.median(times) / number})
    return found


def in_units(ns: float) -> str:
    return f"{ns / 1e3:.2f} µs" if ns < 1e5 else f"{ns / 1e6:.2f} ms"


def report(
    found: dict[str, dict[str, list[int]]], many: list[dict[str, Any]], command: str
) -> dict[str, Any]:
    rows, results = [], []
    for model, taken in found.items():
        base = statistics.median(taken["Recurra"])
        for name, times in taken.items():
            p50, p99, p999 = (float(v) for v in np.percentile(times, [50, 99, 99.9]))
            enough = len(times) >= 1000
            rows.append(
                [
                    model,
                    name,
                    in_units(p50),
                    in_units(p99),
                    in_units(p999) if enough else "–",
                    f"{len(times):,}",
                    f"{p50 / base:.1f}x",
                ]
            )
            results.append(
                {"model": model, "peer": name, "p50": p50, "p99": p99, "p99.9": p999}
                | {"steps": len(times)}
            )
    together = ", ".join(f"{one['sessions']} sessions {in_units(one['ns'])}" for one in many)
    return {
        "machine": machine(
            {
                "keras": keras.__version__,
                "onnxruntime": onnxruntime.__version__,
                "torch": torch.__version__,
                "instruction set": _engine.isa(),
            }
        ),
        "command": command,
        "notes": [
            "One time step of one stream, called from Python with a NumPy array; the state goes "
            "from step to step. LSTM 64 has 8 features, the others 32; all end in Dense(1). ONNX "
            "Runtime runs the file that `recurra export --stateful` writes, on one thread; 'bound' "
            "is its I/O binding with arrays made beforehand. Keras is `predict_on_batch` on JAX, "
            f"states in and out. Two readings of the clock, {clock_itself():.0f} ns, are in every "
            "figure. The last column is the median over Recurra's.",
            f"`step_many` with LSTM 64, time per session: {together}.",
        ],
        "columns": ["model", "by", "p50", "p99", "p99.9", "steps", "to Recurra"],
        "rows": rows,
        "results": results,
        "step_many": many,
    }


def main() -> None:
    """Measure, show and write down."""
    parser = argparse.ArgumentParser(description="One time step at a time.")
    parser.add_argument("--steps", type=int, help="of Recurra, instead of each model's own number")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    record_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: measure(*MODELS[name][:2], given.steps or MODELS[name][2], Path(folder))
            for name in given.models
        }
        many = many_sessions(Path(folder))
    made = report(found, many, "python benchmarks/streaming.py")
    show(made)
    print(made["notes"][1])
    whole = given.record and not given.steps and given.models == list(MODELS)
    print(f"written to {keep('streaming', made, record=whole)}")


if __name__ == "__main__":
    main()
