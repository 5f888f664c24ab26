"""Functional style: a padded series of measurements and a padded text, each with its own mask."""

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(1)
random = np.random.default_rng(1)

COUNT, STEPS, WORDS = 48, 11, 9
lengths = random.integers(3, STEPS + 1, COUNT)
series = random.standard_normal((COUNT, STEPS, 3)).astype("float32")
series[np.arange(STEPS) >= lengths[:, None]] = -1.0  # padding
text = random.integers(1, 20, (COUNT, WORDS))
text[np.arange(WORDS) >= random.integers(2, WORDS + 1, COUNT)[:, None]] = 0
target = np.array([s[:n, 0].mean() for s, n in zip(series, lengths, strict=True)]).astype("float32")

measurements = keras.Input((STEPS, 3), name="measurements")
words = keras.Input((WORDS,), dtype="int32", name="words")
read = layers.Masking(-1.0)(measurements)
read = layers.LSTM(8, return_sequences=True, recurrent_dropout=0.0)(read)
read = layers.GRU(6, reset_after=False)(read)
heard = layers.Embedding(20, 5, mask_zero=True)(words)
heard, last = layers.GRU(7, return_sequences=True, return_state=True)(heard)
heard = layers.GlobalAveragePooling1D()(heard)
joined = layers.concatenate([read, heard, last])
model = keras.Model([measurements, words], layers.Dense(1)(joined))
model.compile(keras.optimizers.SGD(0.05), "mse")

history = model.fit([series, text], target, epochs=4, batch_size=16, shuffle=False, verbose=0)
print("losses", *history.history["loss"])
print("predictions", *model.predict([series[:5], text[:5]], verbose=0)[:, 0])
print("parameters", model.count_params())
