"""Trained on windows, then fed one measurement at a time by a stateful twin."""

import keras
import numpy as np

keras.utils.set_random_seed(6)
time = np.arange(200, dtype="float32")
signal = np.sin(time / 5) + 0.3 * np.sin(time / 1.7)
windows = np.stack([signal[i : i + 20] for i in range(150)])[..., None]
following = signal[20:170]


def build(batch_shape, **options):
    return keras.Sequential(
        [
            keras.Input(batch_shape=batch_shape),
            keras.layers.GRU(8, return_sequences=True, **options),
            keras.layers.LSTM(6, **options),
            keras.layers.Dense(1),
        ]
    )


trained = build((None, None, 1))
trained.compile(keras.optimizers.SGD(0.05), "mse")
history = trained.fit(windows, following, epochs=3, batch_size=30, shuffle=False, verbose=0)
print("losses", *history.history["loss"])

live = build((1, 1, 1), stateful=True)
live.set_weights(trained.get_weights())
for start in (0, 40):
    for layer in live.layers:
        if hasattr(layer, "reset_state"):
            layer.reset_state()
    for value in signal[start : start + 20]:
        forecast = live(value.reshape(1, 1, 1))
    whole = trained.predict(signal[None, start : start + 20, None], verbose=0)
    print("from", start, float(keras.ops.convert_to_numpy(forecast)[0, 0]), whole[0, 0])
