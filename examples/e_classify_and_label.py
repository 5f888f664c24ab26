"""One label for a sequence, or a label for every step.

many-to-one    LSTM(units) -> Dense(classes, softmax)                          (batch, classes)
many-to-many   LSTM(units, return_sequences=True) -> Dense(classes, softmax)
                                                                   (batch, time_steps, classes)
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import GRU, LSTM, Dense, Input
from recurra.models import Sequential
import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

# --- Which of three waves is it? ---
kind = rng.integers(3, size=600)
phase = rng.uniform(0, 2 * np.pi, size=(600, 1))
step = np.arange(24)
waves = np.sin(phase + np.array([0.3, 0.6, 1.2])[kind][:, None] * step)
x = (waves + 0.1 * rng.normal(size=waves.shape))[:, :, None]  # (600, 24, 1)

classifier = Sequential([Input((24, 1)), LSTM(32), Dense(3, activation="softmax")])
classifier.compile(
    optimizer=keras.optimizers.Adam(0.01),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
classifier.fit(x[:500], kind[:500], epochs=12, verbose=0)
_, accuracy = classifier.evaluate(x[500:], kind[500:], verbose=0)
probabilities = classifier.predict(x[500:], verbose=0)
print(f"which wave: {probabilities.shape}, {accuracy:.0%} right on waves never seen")
assert probabilities.shape == (100, 3)
np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
assert accuracy > 0.9

# --- At every step: have there been more ups than downs so far? ---
moves = rng.choice([-1.0, 1.0], size=(600, 15, 1))
ahead = (moves[:, :, 0].cumsum(axis=1) > 0).astype("int32")  # (600, 15): a label for each step

labeller = Sequential(
    [Input((15, 1)), GRU(16, return_sequences=True), Dense(2, activation="softmax")]
)
labeller.compile(
    optimizer=keras.optimizers.Adam(0.01),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
labeller.fit(moves[:500], ahead[:500], epochs=12, verbose=0)
_, accuracy = labeller.evaluate(moves[500:], ahead[500:], verbose=0)
labels = labeller.predict(moves[500:], verbose=0)
print(f"a label for every step: {labels.shape}, {accuracy:.0%} right")
assert labels.shape == (100, 15, 2)
assert accuracy > 0.9
