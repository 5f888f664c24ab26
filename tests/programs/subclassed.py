"""Subclassed model and subclassed layer, saved and cloned from its configuration."""

import os
import tempfile

import keras
import numpy as np


@keras.saving.register_keras_serializable("programs")
class ScaledGRU(keras.layers.GRU):
    """A GRU that scales what it has computed."""

    def __init__(self, units, scale=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.scale = scale

    def call(self, sequences, initial_state=None, mask=None, training=False):
        output = super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return self.scale * output

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("programs")
class Forecaster(keras.Model):
    def __init__(self, units=6, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.read = keras.layers.LSTM(units, return_sequences=True, return_state=True)
        self.think = ScaledGRU(units, scale=0.5, unroll=True)
        self.dropout = keras.layers.Dropout(0.0)
        self.say = keras.layers.Dense(1)

    def call(self, inputs, training=False):
        sequence, state_h, state_c = self.read(inputs)
        thought = self.think(sequence, initial_state=state_h)
        return self.say(self.dropout(thought, training=training)) + state_c[:, :1]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


keras.utils.set_random_seed(3)
random = np.random.default_rng(3)
x = random.standard_normal((32, 9, 4)).astype("float32")
y = x.sum(axis=(1, 2), keepdims=True)[:, 0]

model = Forecaster()
model.compile(optimizer=keras.optimizers.SGD(0.02, momentum=0.9), loss="mse")
history = model.fit(x, y, epochs=4, batch_size=8, shuffle=False, verbose=0)
print("losses", history.history["loss"])

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "forecaster.keras")
    model.save(path)
    again = keras.models.load_model(path)
print("loaded", *np.ravel(again.predict(x[:3], verbose=0)))
print(
    "is a GRU", isinstance(again.think, keras.layers.GRU), isinstance(model.read, keras.layers.RNN)
)
print("scale", again.think.scale, type(again.think).__name__)
