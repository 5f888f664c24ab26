"""The demo's model, and how it is trained and timed."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from recurra.demo.data import HORIZON, Windows, as_now

UNITS = 64
BATCH = 64


@dataclass(frozen=True)
class Run:
    """One training.

    model: the trained keras.Model.
    losses: mean squared error (°C²) of each epoch, on the training windows.
    seconds: wall clock of each epoch; the first includes compilation.
    forecast: (batch, HORIZON) for the held-out windows, °C.
    error: mean absolute error of the forecast, °C.
    """

    model: Any
    losses: list[float]
    seconds: list[float]
    forecast: NDArray[np.float32]
    error: float

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the epochs after the first; of the first if it is the only one."""
        return statistics.median(self.seconds[1:] or self.seconds)


def build(lstm: Callable[..., Any], training: Windows, seed: int) -> Any:
    """The forecaster: two LSTMs over the past three days, then the change from now, hour by hour.

    Args:
        lstm: the layer class, Recurra's or Keras's; the only difference between two models.
        training: the windows to take means and scales from.
        seed: of the noise and of the initial weights.

    Returns:
        A keras.Model from (batch, HISTORY, features), in physical units, to (batch, HORIZON), °C.
    """
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    features = training.history.shape[2]
    steps = training.history.reshape(-1, features).astype("float64")
    typical_change = float(np.std(training.future - as_now(training)))

    history = keras.Input(training.history.shape[1:], name="history")
    x = layers.Normalization(mean=steps.mean(0), variance=steps.var(0), name="normalize")(history)
    # A year is little weather, and its windows overlap: without noise the model learns it by heart.
    x = layers.GaussianNoise(0.5, seed=seed, name="noise")(x)
    x = lstm(UNITS, return_sequences=True, name="hourly")(x)
    x = layers.Dropout(0.3, seed=seed, name="dropout_hourly")(x)
    x = lstm(UNITS, name="summary")(x)
    x = layers.Dropout(0.3, seed=seed, name="dropout_summary")(x)
    x = layers.Dense(HORIZON, name="dense")(x)
    x = layers.Rescaling(typical_change, name="change")(x)
    forecast = layers.Add(name="forecast")([x, history[:, -1:, 0]])
    return keras.Model(history, forecast, name="forecaster")


def train(model: Any, training: Windows, held_out: Windows, *, epochs: int, seed: int) -> Run:
    """Fit the model with Keras, showing progress, and forecast the held-out windows.

    Two models with the same seed and weights see the same batches, noise and dropout.
    """
    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(training.first) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="mse")
    clock = _Clock()
    fitted = model.fit(
        training.history,
        training.future,
        batch_size=BATCH,
        epochs=epochs,
        callbacks=[clock],
        # The moving bar is for people; a log gets a line for each epoch.
        verbose=1 if sys.stdout.isatty() else 2,
    )
    forecast = model.predict(held_out.history, batch_size=512, verbose=0)
    return Run(
        model=model,
        losses=[float(loss) for loss in fitted.history["loss"]],
        seconds=clock.seconds,
        forecast=forecast,
        error=mean_error(forecast, held_out),
    )


def mean_error(forecast: NDArray[np.float32], data: Windows) -> float:
    """Mean absolute error over all windows and hours, °C."""
    return float(np.abs(forecast.astype("float64") - data.future).mean())


class _Clock(keras.callbacks.Callback):
    """Wall clock of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.seconds.append(time.perf_counter() - self._begin)
