"""Forecasts of real temperatures: the next hour, and the next 24 hours at once.

A year of hourly weather at an airport (the file comes with the package pvlib). A forecast is only
worth something beside a naive one, so both are printed:

    single step   (batch, 72, features) -> LSTM -> Dense(1)     the temperature in an hour
    multi-step    (batch, 72, features) -> LSTM -> Dense(24)    each of the next 24 hours

The multi-step model's last layer has one number per hour ahead; the LSTM is the same. What it has
learnt is in the report, a page for the browser.

    python examples/k_forecast_temperature.py            half a minute
    python examples/k_forecast_temperature.py --quick    seconds; the errors mean nothing then
"""

# Recurra first: it has Keras run on a framework that is installed.
import recurra
from recurra.demo import data
from recurra.layers import LSTM, Add, Dense, Input, Normalization, Rescaling
from recurra.models import Model
import argparse
from pathlib import Path

import keras
import numpy as np

options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
options.add_argument("--quick", action="store_true", help="see it run, not learn")
options.add_argument(
    "--out", type=Path, default=Path("recurra-examples"), help="folder to write to"
)
asked = options.parse_args()
asked.out.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)

weather = data.load()
every = 40 if asked.quick else 1
training = data.windows(weather, held_out=False, every=every)
held_out = data.windows(weather, held_out=True, every=every)
steps = training.history.reshape(-1, len(weather.names)).astype("float64")


def forecaster(hours):
    """An LSTM over the past three days, then the change from now, for each hour ahead."""
    history = Input((data.HISTORY, len(weather.names)), name="history")
    x = Normalization(mean=steps.mean(0), variance=steps.var(0), name="normalize")(history)
    x = LSTM(48, dropout=0.2, name="lstm")(x)
    x = Dense(hours, name="change")(x)
    x = Rescaling(5.0, name="degrees")(x)
    return Model(history, Add(name="forecast")([x, history[:, -1:, 0]]), name=f"next_{hours}_hours")


def fit(model, future):
    """Train with a learning rate that goes down to zero; gives the held-out forecast."""
    epochs = 1 if asked.quick else 8
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * (len(future) // 64 + 1))
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="mse")
    model.fit(training.history, future, batch_size=64, epochs=epochs, verbose=0)
    return model.predict(held_out.history, batch_size=256, verbose=0)


def error(forecast, future):
    """Mean absolute error, °C."""
    return float(np.abs(forecast - future).mean())


# --- The next hour. ---
next_hour = forecaster(1)
forecast = fit(next_hour, training.future[:, :1])
single = error(forecast, held_out.future[:, :1])
single_naive = error(data.as_now(held_out)[:, :1], held_out.future[:, :1])
print(f"the next hour:      error {single:.2f} °C; 'as it is now' {single_naive:.2f} °C")

# --- The next 24 hours: 24 numbers at once, from one state. ---
next_day = forecaster(data.HORIZON)
forecasts = fit(next_day, training.future)
multi = error(forecasts, held_out.future)
multi_naive = min(
    error(data.as_now(held_out), held_out.future),
    error(data.as_yesterday(held_out), held_out.future),
)
print(
    f"the next 24 hours:  error {multi:.2f} °C; the better of two naive ones {multi_naive:.2f} °C"
)
for hour in (0, 5, 11, 23):
    print(f"    {hour + 1:2} h ahead: {error(forecasts[:, hour], held_out.future[:, hour]):.2f} °C")

# --- What the LSTM makes of three days: every unit, hour by hour. ---
rows = np.linspace(0, len(held_out.first) - 1, 4).astype(int)
trace = recurra.trace(next_day, held_out.history[rows])
print(trace.summary())
report = asked.out / "forecast.html"
trace.report(
    report,
    title="Temperature of the next 24 hours",
    labels=[str(weather.time[held_out.first[row]]) for row in rows],
    features=list(weather.names),
    targets=held_out.future[rows],
    forecast="temperature",
)
print("the report:", report)
