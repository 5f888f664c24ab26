"""Layers with several outputs inside of other layers and models.

First a Lambda that picks the output out of an LSTM's three results; then a layer of one's own that
holds an LSTM and returns its output and its state.
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM, Dense, Input, Lambda, Layer
from recurra.models import Model
import keras
import numpy as np

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(4, 6, 2)).astype("float32")

# --- A Lambda that picks the output: the same as an LSTM without return_state. ---
inputs = Input((6, 2))
picked = Lambda(lambda result: result[0], name="output")(LSTM(8, return_state=True)(inputs))
model = Model(inputs, picked)
plain = Model(inputs, LSTM(8)(inputs))
plain.set_weights(model.get_weights())
print("picked by a Lambda:", model.predict(x, verbose=0).shape)
assert model.predict(x, verbose=0).shape == (4, 8)
np.testing.assert_array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))


# --- A layer that wraps an LSTM. ---
class Reader(Layer):
    """Reads a sequence; returns its last output and its final cell state."""

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.lstm = LSTM(units, return_state=True)

    def call(self, sequences):
        output, _, state_c = self.lstm(sequences)
        return output, state_c


output, state = Reader(8)(inputs)
model = Model(inputs, [Dense(1, name="score")(output), state])
score, cell_state = model.predict(x, verbose=0)
print("a layer of one's own:", score.shape, cell_state.shape)
assert score.shape == (4, 1)
assert cell_state.shape == (4, 8)
assert len(model.trainable_variables) == 5, "the LSTM's three weights are tracked, and Dense's two"

# It trains like any other layer.
trained = Model(inputs, model.outputs[0])
trained.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
target = x.sum(axis=(1, 2))[:, None]
losses = trained.fit(x, target, epochs=100, verbose=0).history["loss"]
print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")
assert losses[-1] < 0.5 * losses[0]
