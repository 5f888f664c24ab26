"""What an LSTM returns: one output, and its states if you ask for them.

A recurrent layer reads a sequence step by step and keeps a state. An LSTM's state is a pair: the
hidden state h, which is also its output, and the cell state c, which only the layer itself sees.
Two switches decide what you get:

    return_sequences   the output of every step instead of the last one
    return_state       the final h and c as well

                       neither      return_sequences   return_state      both
    output             (B, units)   (B, T, units)      (B, units)        (B, T, units)
    state_h, state_c                                   (B, units) each   (B, units) each

Each case is shown twice: called directly on an array, and inside a model, through `predict`.
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM, Input
from recurra.models import Model
import keras
import numpy as np

keras.utils.set_random_seed(0)
x = np.array([[[0.1], [0.2], [0.3]]])  # (batch, time_steps, features) = (1, 3, 1), float64
inputs = Input((3, 1))

# --- Neither: the output of the last step. ---
layer = LSTM(1)
output = layer(x)
print("LSTM(1): one value,", tuple(output.shape), float(output[0, 0]))
assert output.shape == (1, 1)

predicted = Model(inputs, layer(inputs)).predict(x, verbose=0)
assert predicted.shape == (1, 1)
np.testing.assert_allclose(predicted, output, rtol=1e-6)

# --- return_sequences: the output of every step. ---
layer = LSTM(1, return_sequences=True)
sequence = layer(x)
print("return_sequences: a value for every step,", tuple(sequence.shape))
assert sequence.shape == (1, 3, 1)

predicted = Model(inputs, layer(inputs)).predict(x, verbose=0)
assert predicted.shape == (1, 3, 1)
np.testing.assert_allclose(predicted, sequence, rtol=1e-6)

# --- return_state: three outputs. They come as a named tuple: unpack it or use the names. ---
layer = LSTM(1, return_state=True)
result = layer(x)
output, state_h, state_c = result
print("return_state:", result._fields, [tuple(value.shape) for value in result])
assert output.shape == state_h.shape == state_c.shape == (1, 1)
assert np.array_equal(output, state_h), "the output of the last step is the hidden state"
assert not np.array_equal(state_h, state_c), "the cell state is something else"

# A model has a list of outputs: say which, and `predict` returns arrays in that order.
symbolic = layer(inputs)
model = Model(inputs, [symbolic.output, symbolic.state_h, symbolic.state_c])
predicted = model.predict(x, verbose=0)
assert [array.shape for array in predicted] == [(1, 1), (1, 1), (1, 1)]
for array, value in zip(predicted, result, strict=True):
    np.testing.assert_allclose(array, value, rtol=1e-6)

# --- Both: every step's output, and the final states. ---
layer = LSTM(1, return_sequences=True, return_state=True)
result = layer(x)
print("both:", result._fields, [tuple(value.shape) for value in result])
assert result.output.shape == (1, 3, 1)
assert result.state_h.shape == result.state_c.shape == (1, 1)

symbolic = layer(inputs)
model = Model(inputs, [symbolic.output, symbolic.state_h, symbolic.state_c])
sequence, state_h, state_c = model.predict(x, verbose=0)
print("both, through predict:", sequence.shape, state_h.shape, state_c.shape)
assert sequence.shape == (1, 3, 1)
assert state_h.shape == state_c.shape == (1, 1)
assert np.array_equal(sequence[:, -1], state_h), "the last step of the sequence is state_h"
np.testing.assert_allclose(sequence, result.output, rtol=1e-6)
np.testing.assert_allclose(state_c, result.state_c, rtol=1e-6)

# The layer computes in its own dtype (float32 unless you set another), whatever x has.
again = model.predict(x.astype("float32"), verbose=0)
assert np.array_equal(again[0], sequence)
print("float64 and float32 input give the same float32 output:", sequence.dtype)
