"""`recurra demo`: one forecaster, trained on Recurra's layers and on stock Keras, side by side.

    from recurra.demo import run
    run(out=Path("recurra-demo"))

Keras is imported when the demo runs, not before, so that the command line stays quick.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

EPOCHS, QUICK_EPOCHS = 8, 2

NEEDS = {"keras": "jax", "jax": "jax", "pvlib": "demo", "matplotlib": "demo"}
"""What the demo imports, and the extra of Recurra that installs it."""


class DemoError(Exception):
    """Something that the user can put right; the message says how."""


def run(
    out: Path,
    *,
    epochs: int | None = None,
    seed: int = 0,
    quick: bool = False,
    console: Console | None = None,
) -> bool:
    """Train twice, compare, explain, and write a picture and the trained model.

    Args:
        out: folder for forecast.png and forecaster.keras; made if missing. Each file appears whole
            or not at all.
        epochs: passes over the training windows, at least 1; by default EPOCHS, or QUICK_EPOCHS
            if `quick`.
        seed: of the initial weights, the noise and the order of the windows; 0 to 2**32 - 1.
        quick: train on few windows: shows that everything works, too short to forecast well.
        console: where to print; standard output by default.

    Returns:
        Whether both trainings agree.

    Raises:
        DemoError: if a package is missing, `out` cannot be written, or Recurra's engine cannot run
            on the framework that Keras runs on, or there is none.
    """
    console = console or Console()
    _check_needs()
    _check_folder(out)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's greetings

    # Recurra's layers first: they have Keras run on a framework that is installed.
    try:
        from recurra import layers as recurra_layers  # isort: skip
    except (ImportError, ValueError) as error:  # KERAS_BACKEND names what is not there
        raise DemoError(str(error)) from error
    import keras

    _check_engine(recurra_layers.LSTM)

    from recurra.demo import data, forecaster, picture, report

    began = time.perf_counter()
    weather = data.load()
    training = data.windows(weather, held_out=False, every=12 if quick else 1)
    held_out = data.windows(weather, held_out=True, every=1)
    if epochs is None:
        epochs = QUICK_EPOCHS if quick else EPOCHS
    report.introduce(console, weather, training, held_out)

    models = {
        "Recurra": forecaster.build(recurra_layers.LSTM, training, seed),
        "stock Keras": forecaster.build(keras.layers.LSTM, training, seed),
    }
    models["stock Keras"].set_weights(models["Recurra"].get_weights())
    runs = {}
    for name, model in models.items():
        console.print(f"\n[bold]Training on {name}[/bold], from the same weights and seed")
        runs[name] = forecaster.train(model, training, held_out, epochs=epochs, seed=seed)

    ours = runs["Recurra"]
    agree = report.compare(console, runs, held_out)
    report.explain(console, ours.model, held_out)

    saved, drawn = out / "forecaster.keras", out / "forecast.png"
    _write(saved, ours.model.save)
    shown = ""

    def draw(path: Path) -> None:
        nonlocal shown
        shown = picture.draw(path, weather, held_out, ours.forecast)

    _write(drawn, draw)
    report.check_file(console, saved, ours, held_out)
    console.print(f"[bold]{escape(str(drawn))}[/bold]  {shown}", soft_wrap=True, highlight=False)
    console.print(f"\nThe demo took {time.perf_counter() - began:.0f} seconds.", highlight=False)
    return agree


def _check_needs() -> None:
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({NEEDS[name] for name in missing}))
        raise DemoError(
            f"The demo needs {' and '.join(missing)}, which this Python does not have. "
            f'Install with: pip install "recurra[{extras}]"'
        )


def _check_engine(lstm: Callable[..., object]) -> None:
    """Before Keras's scan is compared with itself: does Recurra's engine run here?

    A layer made for the purpose tells. The model's own layers stay at engine="auto", so that stock
    Keras, which knows no `engine`, can read the saved file.
    """
    try:
        lstm(1, engine="cpu")
    except ValueError as error:
        raise DemoError(
            "The demo compares Recurra's engine with Keras's own scan, but the engine cannot run "
            f"here. {error}"
        ) from error


def _check_folder(out: Path) -> None:
    """Before minutes of training: can the results be written at all?"""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DemoError(
            f"--out {out} cannot be written: {error.strerror}. Name a folder that can."
        ) from error


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file beside `path` and put it in place once it is whole."""
    # The same suffix: Keras chooses the format by it.
    partial = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
