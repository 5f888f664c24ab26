"""A trained model without Keras: loaded from its file, asked step by step, saved and forked.

Another program has trained a forecaster and saved it. This one loads the file with NumPy alone and
answers each measurement as it comes, with the same numbers that the model gives for the whole
sequence: to the last bit.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import recurra

TRAIN = """
import keras, numpy as np
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((None, 3)),
    keras.layers.LSTM(16, return_sequences=True),
    keras.layers.LSTM(16),
    keras.layers.Dense(2),
])
model.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(64, 20, 3))
model.fit(x, x.sum(axis=1)[:, :2], epochs=2, verbose=0)
model.save("model.keras")
"""

with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, "-c", TRAIN], cwd=folder, check=True)
    model = recurra.load(Path(folder) / "model.keras")
assert "keras" not in sys.modules
model.summary()

# A session is one stream: it keeps the layers' states from step to step.
measurements = np.random.default_rng(1).normal(size=(50, 3)).astype("float32")
session = model.open()
for x_t in measurements:
    y_t = session.step(x_t)  # (features,) -> (outputs,)
whole = model.predict(measurements[None])[0]
assert np.array_equal(y_t, whole)
print("what it carries:", {name: state.shape for name, state in session.state.items()})

# What if? A fork goes on by itself; the session it came from stays where it is.
calm, storm = session.fork(), session.fork()
calm.run(np.zeros((10, 3)))
storm.run(np.full((10, 3), 5.0))
apart = np.abs(calm.state["lstm/hidden_state"] - storm.state["lstm/hidden_state"]).max()
assert apart > 0.1
print(f"ten steps later the two differ by up to {apart:.2f}")

# The program may end in between: a snapshot is bytes, for this model only.
kept = session.snapshot()
later = model.open()
later.restore(kept)
next_x = np.ones(3, "float32")
assert np.array_equal(later.step(next_x), session.step(next_x))
print("restored from", len(kept), "bytes")

# Many streams, one call: each gets the bits that it would get alone.
streams = [model.open() for _ in range(100)]
first = np.random.default_rng(2).normal(size=(100, 3)).astype("float32")
answers = model.step_many(streams, first)
assert np.array_equal(answers[42], model.open().step(first[42]))
