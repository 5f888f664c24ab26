"""The hidden state, the cell state and the gates of an inner layer of a model already trained.

The model is not rebuilt and stays as it is. Two things are made from it:

    before   the part of the model up to the layer: what the layer reads. It shares the weights.
    twin     the layer again, from its own configuration and weights, with return_trace=True: it
             computes the same, and tells the value of every gate and state at every step.

It goes the same way for any model, recurrent layer and depth, also for a model from a file:
`recurra.models.load_model` reads what stock Keras saved, with Recurra's layers in it.
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM, Dense, Input
from recurra.models import Model, Sequential
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

model = Sequential(
    [
        Input((12, 2)),
        Dense(8, activation="tanh", name="features"),
        LSTM(16, return_sequences=True, name="memory"),
        LSTM(8, name="summary"),
        Dense(1),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
losses = model.fit(x, y, epochs=25, verbose=0).history["loss"]
print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.4f} at last")
assert losses[-1] < 0.2 * losses[0]
forecast = model.predict(x[:200], verbose=0)

# --- What comes out of an inner layer: a model that ends there. ---
layer = model.get_layer("memory")
hidden = Model(model.inputs, layer.output).predict(x[:200], verbose=0)
print("the layer's output, the hidden state of every step:", hidden.shape)
assert hidden.shape == (200, 12, 16)

# --- What goes on inside: what the layer reads, given to its twin. ---
before = Model(model.inputs, layer.input)
read = before.predict(x[:200], verbose=0)
print("what the layer reads:", read.shape)
assert read.shape == (200, 12, 8)

twin = LSTM.from_config({**layer.get_config(), "return_trace": True})
twin.build(read.shape)
twin.set_weights(layer.get_weights())
output, state_h, state_c, trace = twin(read)
for name, value in trace.items():
    print(f"  {name:13} {tuple(value.shape)}")
    assert value.shape == (200, 12, 16)
np.testing.assert_allclose(output, hidden, atol=1e-6)
np.testing.assert_array_equal(trace["hidden_state"][:, -1], state_h)
np.testing.assert_array_equal(trace["cell_state"][:, -1], state_c)

# The values are those of the LSTM's equations: c' = f * c + i * candidate, h = o * tanh(c').
i, f, o = (np.asarray(trace[name]) for name in ("input_gate", "forget_gate", "output_gate"))
c, h = np.asarray(trace["cell_state"]), np.asarray(trace["hidden_state"])
c_before = np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)
np.testing.assert_allclose(c, f * c_before + i * np.asarray(trace["candidate"]), atol=1e-5)
np.testing.assert_allclose(h, o * np.tanh(c), atol=1e-5)

# --- What the gates have learnt. ---
at_mark = np.eye(12, dtype=bool)[marked[:200]]
written, elsewhere = float(i[at_mark].max(axis=-1).mean()), float(i[~at_mark].max(axis=-1).mean())
print(f"the widest open input gate: {written:.2f} at the mark, {elsewhere:.2f} elsewhere")

# The trained model has not changed.
np.testing.assert_array_equal(model.predict(x[:200], verbose=0), forecast)
