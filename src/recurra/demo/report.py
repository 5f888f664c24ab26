"""What the demo tells: the task, the comparison, and what the model's outputs are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recurra.cells import CELLS
from recurra.demo import data
from recurra.demo.data import HISTORY, HORIZON, TRAINING_DAYS, Weather, Windows
from recurra.demo.forecaster import BATCH, UNITS, Run, mean_error

AGREEMENT = 0.01
"""Largest relative difference of losses and errors that counts as the same result.

The arithmetic of both is float32 in different orders; hundreds of steps let the last bits grow.
"""


def introduce(console: Console, weather: Weather, training: Windows, held_out: Windows) -> None:
    """Say what is forecast, from what, and what is held out."""
    days = len(weather.time) // 24
    console.print(
        f"[bold]The task:[/bold] the air temperature of the next {HORIZON} hours at {data.STATION},"
        f" from {len(weather.names)} measurements of each of the last {HISTORY} hours.\n"
        f"[bold]The data:[/bold] {days} days of hourly observations (NREL's TMY3, from pvlib)."
        f" Days 1 to {TRAINING_DAYS} of every month are for training ({len(training.first)} "
        f"windows), the rest is held out ({len(held_out.first)} windows).\n"
        f"[bold]The model:[/bold] two LSTM({UNITS}) layers and a Dense({HORIZON}), "
        f"{BATCH} windows a batch, on Keras {keras.__version__} with {keras.backend.backend()}.",
        highlight=False,
    )


def compare(console: Console, runs: Mapping[str, Run], held_out: Windows) -> bool:
    """Print the table and the verdicts; return whether both trainings agree."""
    ours, stock = runs["Recurra"], runs["stock Keras"]
    table = Table(title="\nThe same training twice", title_justify="left")
    table.add_column("")
    for heading in (
        "final loss\n(°C²)",
        "held-out error\n(mean |°C|)",
        "an epoch\n(s)",
        "first epoch\n(s, compiles)",
    ):
        table.add_column(heading, justify="right")
    for name, run in runs.items():
        table.add_row(
            name,
            f"{run.losses[-1]:.4f}",
            f"{run.error:.4f}",
            f"{run.seconds_per_epoch:.2f}",
            f"{run.seconds[0]:.1f}",
        )
    ratio = stock.seconds_per_epoch / ours.seconds_per_epoch
    table.add_row(
        "difference, ratio",
        f"{abs(ours.losses[-1] - stock.losses[-1]):.1e}",
        f"{abs(ours.error - stock.error):.1e}",
        f"{ratio:.2f}x",
        f"{stock.seconds[0] / ours.seconds[0]:.2f}x",
        end_section=True,
    )
    naive = {
        "naive: as yesterday": mean_error(data.as_yesterday(held_out), held_out),
        "naive: as now": mean_error(data.as_now(held_out), held_out),
    }
    for name, error in naive.items():
        table.add_row(name, "", f"{error:.4f}", "", "")
    console.print(table)
    if len(ours.seconds) > 1:
        console.print(
            "An epoch's time is the median without the first one, which compiles.", style="dim"
        )
    else:
        console.print("With one epoch, its time includes compiling.", style="dim")

    agree = _close(ours.losses[-1], stock.losses[-1]) and _close(ours.error, stock.error)
    if agree:
        console.print(
            f"[green]Both agree[/green] (within {AGREEMENT:.0%}), "
            + ("and" if ratio >= 1 else "but")
            + f" an epoch on Recurra takes {1 / ratio:.0%} of stock Keras's time.",
            highlight=False,
        )
    else:
        console.print(
            f"[red]They do not agree[/red] within {AGREEMENT:.0%}: please report this as a bug.",
            highlight=False,
        )
    best_name, best = min(naive.items(), key=lambda item: item[1])
    gain = 1 - ours.error / best
    if gain > 0:
        console.print(
            f"The forecast's error is [green]{gain:.0%} below[/green] the better naive one's "
            f"({best_name.removeprefix('naive: ')}).",
            highlight=False,
        )
    else:
        console.print(
            f"The forecast is [red]no better[/red] than the naive one ({best_name}): it was trained"
            " too briefly.",
            highlight=False,
        )
    return agree


def explain(console: Console, model: Any, held_out: Windows) -> None:
    """Print what comes out of each layer that learns, and what the first LSTM has inside."""
    lstm = CELLS["lstm"]
    meanings = {
        "history": f"the last {HISTORY} hours: {held_out.history.shape[2]} measurements each",
        "hourly": "the hidden state after every hour (return_sequences=True)",
        "summary": "the hidden state after the last hour: what the model makes of three days",
        "change": f"by how many °C each of the next {HORIZON} hours differs from now",
        "forecast": f"the temperature of each of the next {HORIZON} hours, °C",
    }
    table = Table(title="\nWhat comes out of the model's layers", title_justify="left")
    for heading in ("layer", "output's shape", "what it is"):
        table.add_column(heading)
    for name, meaning in meanings.items():
        layer = model.get_layer(name)
        shape = ", ".join("batch" if size is None else str(size) for size in layer.output.shape)
        table.add_row(f"{name} ({type(layer).__name__})", f"({shape})", meaning)
    console.print(table)

    trace = _trace(model, "hourly", held_out.history[:1])
    table = Table(
        title="\nInside the layer `hourly`, for one window: return_trace=True",
        title_justify="left",
    )
    for heading in ("name", "shape", "mean", "what it is"):
        table.add_column(heading)
    for name, value in trace.items():
        shape = ", ".join(map(str, value.shape))
        table.add_row(name, f"({shape})", f"{value.mean():+.2f}", lstm.meaning(name))
    console.print(table)
    console.print(
        "With return_state=True an LSTM also returns state_h and state_c, (batch, "
        f"{UNITS}) each: the hidden and the cell state after the last step.\n",
        highlight=False,
    )


def check_file(console: Console, path: Path, run: Run, held_out: Windows) -> None:
    """Load the saved model as anyone would, and say whether it forecasts the same."""
    loaded = keras.saving.load_model(path)
    some = slice(0, 64)
    forecast = loaded.predict(held_out.history[some], verbose=0)
    difference = float(np.abs(forecast - run.forecast[some]).max())
    console.print(
        f"[bold]{escape(str(path))}[/bold]  The trained model. Loaded again with "
        f"keras.saving.load_model, its forecasts differ by at most {difference:.1g} °C.",
        soft_wrap=True,
        highlight=False,
    )


def _trace(model: Any, name: str, history: Any) -> dict[str, Any]:
    """The gates and states of a trained layer, at every step: a copy of the layer tells them."""
    layer = model.get_layer(name)
    inputs = keras.Model(model.input, layer.input)(history)
    traced = type(layer).from_config({**layer.get_config(), "return_trace": True})
    traced.build(inputs.shape)
    traced.set_weights(layer.get_weights())
    return {name: keras.ops.convert_to_numpy(value) for name, value in traced(inputs).trace.items()}


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= AGREEMENT * max(abs(a), abs(b))
