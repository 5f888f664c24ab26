"""What the tests of the command line share: small models, and ways to call `recurra`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

FEATURES = 3


def make_models(factory: Any) -> Path:
    """The folder of all `MODELS`: made once, by Keras in a process of its own.

    JAX's threads would not survive the starting of processes from this one.

    Args:
        factory: pytest's `tmp_path_factory`.
    """
    folder: Path = factory.getbasetemp() / "command_line_models"
    if not folder.exists():
        folder.mkdir()
        program = "import sys, command_line; command_line.save_models(sys.argv[1])"
        path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
        command = [sys.executable, "-c", program, str(folder)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=300)
    return folder


def save_models(folder: str) -> None:
    """What `make_models` runs: models with random weights, of NumPy.

    JAX compiles every initializer for every shape, which takes seconds.
    """
    import keras

    random = np.random.default_rng(5)

    def weights(_: Any, shape: Any, dtype: Any = None) -> Any:
        return random.normal(scale=0.4, size=shape).astype(dtype or "float32")

    for name in ("GlorotUniform", "Orthogonal", "RandomUniform"):
        getattr(keras.initializers, name).__call__ = weights
    for name, make in MODELS.items():
        model = make(keras)
        model.save(Path(folder) / f"{name}.keras")
        if name == "steps":
            model.save(Path(folder) / "steps.h5")


def _steps(keras: Any) -> Any:
    """A row of two numbers for every time step."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            layers.LSTM(6, return_sequences=True),
            layers.Dense(2),
        ]
    )


def _last(keras: Any) -> Any:
    """One number for a sequence."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, FEATURES), name="candles"),
            layers.GRU(5, name="gru"),
            layers.Dense(1, name="dense"),
        ],
        name="price",
    )


def _fixed(keras: Any) -> Any:
    """One number for 4 time steps."""
    layers = keras.layers
    return keras.Sequential([keras.Input((4, FEATURES)), layers.GRU(5), layers.Dense(1)])


def _tagger(keras: Any) -> Any:
    """A number for each of 4 time steps, from both sides: it does not stream."""
    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    return keras.Sequential([keras.Input((4, FEATURES)), both, layers.Dense(1)])


def _both_sides(keras: Any) -> Any:
    """A number for each time step, from both sides."""
    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    return keras.Sequential([keras.Input((None, FEATURES)), both, layers.Dense(1)])


def _horizon(keras: Any) -> Any:
    """Two steps ahead from 4 time steps."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4, FEATURES)),
            layers.GRU(5),
            layers.RepeatVector(2),
            layers.GRU(4, return_sequences=True),
            layers.Dense(1),
        ]
    )


def _rows(keras: Any) -> Any:
    """No time steps."""
    return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(2)])


def _tokens(keras: Any) -> Any:
    """Two numbers for every one of 10 indices."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(10, 4),
            layers.LSTM(4, return_sequences=True),
            layers.Dense(2),
        ]
    )


def _two_inputs(keras: Any) -> Any:
    """Two features of each step, and one of the whole sequence."""
    layers = keras.layers
    past, place = keras.Input((None, 2), name="past"), keras.Input((1,), name="place")
    joined = layers.Concatenate()([layers.LSTM(4)(past), place])
    return keras.Model([past, place], layers.Dense(1, name="answer")(joined))


def _side_by_side(keras: Any) -> Any:
    """Two inputs whose features are joined at each step."""
    left, right = keras.Input((None, 2), name="left"), keras.Input((None, 1), name="right")
    joined = keras.layers.Concatenate()([left, right])
    return keras.Model([left, right], keras.layers.LSTM(2)(joined))


def _with_state(keras: Any) -> Any:
    """A row for each step, and two states."""
    inputs = keras.Input((None, FEATURES))
    outputs = keras.layers.LSTM(2, return_sequences=True, return_state=True, name="lstm")(inputs)
    return keras.Model(inputs, outputs)


def _smoothed(keras: Any) -> Any:
    """One number for a sequence, through a layer that does not heed masks."""
    layers = keras.layers
    smooth = layers.Conv1D(2, 3, padding="same")
    return keras.Sequential([keras.Input((None, FEATURES)), smooth, layers.GRU(4, name="gru")])


def _masked(keras: Any) -> Any:
    """A number for each step of a sequence that is padded with -9."""
    layers = keras.layers
    masking, lstm = layers.Masking(-9.0), layers.LSTM(4, return_sequences=True, name="lstm")
    return keras.Sequential([keras.Input((None, FEATURES)), masking, lstm, layers.Dense(1)])


MODELS = {
    "steps": _steps,
    "last": _last,
    "fixed": _fixed,
    "tagger": _tagger,
    "both_sides": _both_sides,
    "horizon": _horizon,
    "rows": _rows,
    "tokens": _tokens,
    "two_inputs": _two_inputs,
    "side_by_side": _side_by_side,
    "with_state": _with_state,
    "smoothed": _smoothed,
    "masked": _masked,
}


def numbers(rows: int, columns: int = FEATURES, seed: int = 1) -> np.ndarray:
    """Random float32 numbers."""
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def csv_text(values: np.ndarray, names: str = "") -> str:
    """A table as CSV, with all digits."""
    lines = [",".join(map(str, row)) for row in values]
    return "\n".join([*([names] if names else []), *lines, ""])


def read_csv(text: str) -> tuple[list[str], np.ndarray]:
    """Names and float32 numbers of CSV."""
    head, *lines = text.splitlines()
    return head.split(","), np.array([line.split(",") for line in lines], np.float32)


def call(*arguments: str | Path, stdin: bytes | str | None = None, code: int = 0) -> Any:
    """Call `recurra` within this process; its result, with stdout, stderr and stdout_bytes."""
    from recurra.cli import app

    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


def start(*arguments: str | Path, **settings: Any) -> subprocess.Popen[bytes]:
    """Start `recurra` as a process of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *map(str, arguments)],
        **{
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **settings,
        },
    )


def in_terminal(*arguments: str | Path, columns: int) -> str:
    """What `recurra` writes to a terminal of so many columns, with its colours."""
    import pty  # not on Windows

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    process = start(*arguments, stdout=theirs, env=environment)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:  # the terminal is gone with its last program
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return text.decode()


# SIGINT is ignored where the tests run in the background of a shell, and SIGHUP under nohup;
# children inherit that.
_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from recurra.cli import main
main()
"""
