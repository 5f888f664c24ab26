"""A forecaster: an LSTM reads a window of a series, a Dense layer says what comes next.

Then the same with a forecast after every step: return_sequences=True and TimeDistributed(Dense).
With the same weights its last step is the first model's single forecast, since the LSTM cannot look
ahead.
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM, Dense, Input, TimeDistributed
from recurra.models import Sequential
import keras
import numpy as np

keras.utils.set_random_seed(0)
WINDOW = 20

series = np.sin(np.arange(400) * 0.3) * np.linspace(0.5, 1.0, 400)
windows = np.lib.stride_tricks.sliding_window_view(series, WINDOW + 1)
x, y = windows[:, :-1, None], windows[:, -1:]  # (380, 20, 1) and (380, 1)

model = Sequential([Input((WINDOW, 1)), LSTM(16), Dense(1)])
model.compile(optimizer="adam", loss="mse")
history = model.fit(x[:300], y[:300], epochs=15, batch_size=16, verbose=0).history["loss"]
print(f"loss: {history[0]:.4f} at first, {history[-1]:.4f} at last")
assert history[-1] < 0.1 * history[0]

forecast = model.predict(x[-1:], verbose=0)
print(f"the last window: forecast {forecast[0, 0]:+.3f}, what came {y[-1, 0]:+.3f}")
assert forecast.shape == (1, 1)
error = float(np.abs(model.predict(x[300:], verbose=0) - y[300:]).mean())
naive = float(np.abs(x[300:, -1] - y[300:]).mean())
print(f"mean error on windows never trained on: {error:.3f}; of 'as before': {naive:.3f}")
assert error < naive

# --- A forecast after every step. ---
every_step = Sequential(
    [Input((WINDOW, 1)), LSTM(16, return_sequences=True), TimeDistributed(Dense(1))]
)
every_step.set_weights(model.get_weights())
forecasts = every_step.predict(x[-1:], verbose=0)
print("a forecast after every step:", forecasts.shape, "the last one:", forecasts[0, -1])
assert forecasts.shape == (1, WINDOW, 1)
np.testing.assert_allclose(forecasts[:, -1], forecast, rtol=1e-5, atol=1e-6)
