"""Loads a model that was saved by somebody else, predicts, trains on, and saves it again.

python load_model.py make FOLDER      python load_model.py use FOLDER
"""

import sys
from pathlib import Path

import keras
import numpy as np

COMMAND, FOLDER = sys.argv[1], Path(sys.argv[2])
x = np.random.default_rng(7).standard_normal((16, 7, 3)).astype("float32")
y = x[:, -1, :1]

if COMMAND == "make":
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True)),
            keras.layers.LSTM(5, use_bias=False, return_sequences=True),
            keras.layers.SimpleRNN(4, activation="relu", go_backwards=True),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), keras.losses.MeanSquaredError())
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for name in ("model.keras", "model.h5", "model.weights.h5"):
        model.save_weights(FOLDER / name) if "weights" in name else model.save(FOLDER / name)
    (FOLDER / "model.json").write_text(model.to_json())

for name in ("model.keras", "model.h5"):
    model = keras.models.load_model(FOLDER / name)
    print(name, *model.predict(x[:3], verbose=0).ravel())
model = keras.models.model_from_json((FOLDER / "model.json").read_text())
model.load_weights(FOLDER / "model.weights.h5")
print("weights", *model.predict(x[:3], verbose=0).ravel())

model = keras.models.load_model(FOLDER / "model.keras")
print("losses", *model.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"])
print("steps", int(model.optimizer.iterations))
model.save(FOLDER / f"{COMMAND}-again.keras")
again = keras.models.load_model(FOLDER / f"{COMMAND}-again.keras")
print("again", *again.predict(x[:3], verbose=0).ravel())
