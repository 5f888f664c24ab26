"""Training steps of whole Keras models: Recurra's layers beside stock Keras's, on one host.

    KERAS_BACKEND=torch python benchmarks/hosts.py
    python benchmarks/hosts.py --shapes 0 --cells lstm --kinds plain,masked --rounds 5

The same model is built twice from the same weights, with keras.layers and with recurra.layers, and
trained by Keras's own `fit` (Adam). Nothing is timed unless both find the same losses.
Then the two take turns (A B, A B, ...), and medians are reported with the ratio stock / Recurra:
above 1, Recurra is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import recurra.layers  # has Keras run on a framework that is installed

import keras  # isort: skip

from bench import milliseconds
from turns import allowed_cpus

SHAPES = ((32, 30, 8, 64), (64, 100, 64, 128), (16, 1000, 32, 128))
"""(batch, time_steps, features, units)"""

CELLS = {"lstm": "LSTM", "gru": "GRU"}
KINDS = ("plain", "masked", "recurrent_dropout", "bidirectional", "stacked")

STEPS_COMPARED = 4
TOLERANCE = 1e-3
"""Largest difference between the two losses, relative; after a few steps of Adam, which turns
rounding of small gradients into whole steps."""

TURN_SECONDS = 0.5
"""About how long a turn lasts; its steps are averaged."""


def build(layers: Any, cell: str, kind: str, shape: tuple[int, int, int, int]) -> Any:
    """A compiled regression model of one kind on the layers of one module."""
    _, time_steps, features, units = shape
    layer = getattr(layers, CELLS[cell])
    inputs = x = keras.Input((time_steps, features))
    if kind == "masked":
        x = keras.layers.Masking()(x)
    if kind == "recurrent_dropout":
        x = layer(units, recurrent_dropout=0.2, seed=0)(x)
    elif kind == "bidirectional":
        x = layers.Bidirectional(layer(units))(x)
    elif kind == "stacked":
        x = layer(units)(layer(units, return_sequences=True)(x))
    else:
        x = layer(units)(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("adam", "mse")
    return model


def data(kind: str, shape: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One batch; masked: rows end after between no and all of the time steps, half on average."""
    batch, time_steps, features, _ = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, time_steps, features)).astype("float32")
    if kind == "masked":
        lengths = np.linspace(1, time_steps, batch).astype(int)
        x *= (np.arange(time_steps) < rng.permutation(lengths)[:, None])[:, :, None]
    return x, rng.standard_normal((batch, 1)).astype("float32")


class Clock(keras.callbacks.Callback):
    """Times from the begin of the first step to the end of the last: around them, `fit` sets up
    its loop, and on TensorFlow waits for a thread that sleeps for up to a second."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.begin, self.end = count, 0.0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            self.begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == self.count - 1:
            float(logs["loss"])  # waits until it is computed
            self.end = time.perf_counter()


def steps(model: Any, x: np.ndarray, y: np.ndarray) -> Callable[[int], float]:
    """A function that trains for so many steps and returns the seconds of one."""

    def run(count: int) -> float:
        many_x, many_y = np.tile(x, (count, 1, 1)), np.tile(y, (count, 1))
        clock = Clock(count)
        model.fit(many_x, many_y, batch_size=len(x), shuffle=False, verbose=0, callbacks=[clock])
        return (clock.end - clock.begin) / count

    return run


def compare(models: dict[str, Any], x: np.ndarray, y: np.ndarray) -> None:
    """Train both for some steps; raise RuntimeError unless their losses agree."""
    losses = {
        name: [float(model.train_on_batch(x, y)) for _ in range(STEPS_COMPARED)]
        for name, model in models.items()
    }
    if not np.allclose(losses["recurra"], losses["stock"], rtol=TOLERANCE):
        raise RuntimeError(f"the models' losses differ, so their times say nothing: {losses}")


def measure(
    cell: str, kind: str, shape: tuple[int, int, int, int], rounds: int
) -> dict[str, list[float]]:
    """Seconds per training step, of both models in each round."""
    models = {
        "recurra": build(recurra.layers, cell, kind, shape),
        "stock": build(keras.layers, cell, kind, shape),
    }
    models["stock"].set_weights(models["recurra"].get_weights())
    x, y = data(kind, shape)
    compare(models, x, y)
    runs = {name: steps(model, x, y) for name, model in models.items()}
    for run in runs.values():
        run(2)  # traces and compiles
    counts = {name: max(1, min(500, round(TURN_SECONDS / run(4)))) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run(counts[name]))
    return times


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


def arguments() -> argparse.Namespace:
    """The options; ends the program with a message if one of them cannot be followed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", default="lstm,gru", help="default: %(default)s")
    parser.add_argument("--kinds", default=",".join(KINDS), help="default: %(default)s")
    shapes = ", ".join(f"{i} = {s}" for i, s in enumerate(SHAPES))
    parser.add_argument("--shapes", default="0,1,2", help=f"numbers of shapes: {shapes}")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    name = f"latest-{keras.backend.backend()}.local.json"
    parser.add_argument(
        "--json", type=output_file, default=str(Path(__file__).parent / "results" / name)
    )
    options = parser.parse_args()
    for name, known in (("cells", CELLS), ("kinds", KINDS), ("shapes", "012")):
        chosen = getattr(options, name).split(",")
        if unknown := [c for c in chosen if c not in known]:
            parser.error(f"--{name}: got {', '.join(unknown)}, expected some of {', '.join(known)}")
        setattr(options, name, chosen)
    if options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    return options


def main() -> None:
    options = arguments()
    console = Console()
    host = keras.backend.backend()
    table = Table(title=f"Training step on {host}: stock Keras and Recurra, median times")
    for heading in ("batch, time_steps, features, units", "cell", "kind", "stock", "recurra", ""):
        table.add_column(heading, justify="right")
    report: dict[str, Any] = {
        "host": host,
        "keras": keras.__version__,
        "cores": len(allowed_cpus()),
        "results": [],
    }
    for number in options.shapes:
        shape = SHAPES[int(number)]
        for cell in options.cells:
            for kind in options.kinds:
                times = measure(cell, kind, shape, options.rounds)
                stock, ours = (statistics.median(times[name]) for name in ("stock", "recurra"))
                row = (
                    ", ".join(map(str, shape)),
                    cell,
                    kind,
                    milliseconds(stock),
                    milliseconds(ours),
                )
                table.add_row(*row, f"{stock / ours:.2f}x")
                console.print(" ".join((*row, f"{stock / ours:.2f}x")), highlight=False)
                report["results"].append(
                    {"shape": shape, "cell": cell, "kind": kind, "seconds": times}
                )
    console.print(table)
    partial = options.json.with_name(f"{options.json.name}.partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(options.json)
    console.print(f"Written to {options.json}")


if __name__ == "__main__":
    main()
