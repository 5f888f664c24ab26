"""The hidden state, the cell state and the gates of a model that is already trained.

The model stays as it is. A copy of its LSTM, with the same weights and return_trace=True, tells
everything that happens inside, at every step.
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM
from keras import Input, Model, Sequential
from keras.layers import Dense
import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

# --- Somebody's model: remember the value that was marked, however long ago. ---
values = rng.uniform(-1, 1, size=(1500, 12))
marked = rng.integers(12, size=1500)
marks = np.eye(12)[marked]
x = np.stack([values, marks], axis=-1).astype("float32")  # (1500, 12, 2)
y = values[np.arange(1500), marked][:, None].astype("float32")

model = Sequential([Input((12, 2)), LSTM(16, name="memory"), Dense(1)])
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
losses = model.fit(x, y, epochs=25, verbose=0).history["loss"]
print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.4f} at last")
assert losses[-1] < 0.2 * losses[0]

# --- What comes out of the layer, and what goes on inside. ---
layer = model.get_layer("memory")
hidden = Model(model.inputs, layer.output).predict(x[:200], verbose=0)
print("the layer's output, the last hidden state:", hidden.shape)

copy = LSTM.from_config({**layer.get_config(), "return_trace": True})
copy.build((None, 12, 2))
copy.set_weights(layer.get_weights())
output, state_h, state_c, trace = copy(x[:200])
for name, value in trace.items():
    print(f"  {name:13} {tuple(value.shape)}")
    assert value.shape == (200, 12, 16)
np.testing.assert_allclose(output, hidden, atol=1e-6)
np.testing.assert_array_equal(trace["hidden_state"][:, -1], state_h)
np.testing.assert_array_equal(trace["cell_state"][:, -1], state_c)

# The values are those of the LSTM's equations: c' = f * c + i * candidate, h = o * tanh(c').
i, f, o = (np.asarray(trace[name]) for name in ("input_gate", "forget_gate", "output_gate"))
c, h = np.asarray(trace["cell_state"]), np.asarray(trace["hidden_state"])
before = np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)
np.testing.assert_allclose(c, f * before + i * np.asarray(trace["candidate"]), atol=1e-5)
np.testing.assert_allclose(h, o * np.tanh(c), atol=1e-5)

# --- What the gates have learnt. ---
at_mark = np.eye(12, dtype=bool)[marked[:200]]
written, elsewhere = float(i[at_mark].max(axis=-1).mean()), float(i[~at_mark].max(axis=-1).mean())
print(f"the widest open input gate: {written:.2f} at the mark, {elsewhere:.2f} elsewhere")
assert model.predict(x[:1], verbose=0).shape == (1, 1), "the model itself is unchanged"
