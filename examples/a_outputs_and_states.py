"""What an LSTM returns: one output, and its states if you ask for them.

A recurrent layer reads a sequence step by step and keeps a state. An LSTM's state is a pair: the
hidden state h, which is also its output, and the cell state c, which only the layer itself sees.
Two switches decide what you get:

    return_sequences   the output of every step instead of the last one
    return_state       the final h and c as well
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM
from keras import Input, Model
import keras
import numpy as np

keras.utils.set_random_seed(0)
x = np.array([[[0.1], [0.2], [0.3]]])  # (batch, time_steps, features) = (1, 3, 1), float64

# --- One layer, called directly on an array. ---
output = LSTM(1)(x)
print("LSTM(1): one value,", tuple(output.shape), float(output[0, 0]))
assert output.shape == (1, 1)

sequence = LSTM(1, return_sequences=True)(x)
print("return_sequences: a value for every step,", tuple(sequence.shape))
assert sequence.shape == (1, 3, 1)

# With return_state there are three outputs. They come as a named tuple: unpack it or use the names.
result = LSTM(1, return_state=True)(x)
output, state_h, state_c = result
print("return_state:", result._fields, [tuple(value.shape) for value in result])
assert output.shape == state_h.shape == state_c.shape == (1, 1)
assert np.array_equal(output, state_h), "the output of the last step is the hidden state"
assert not np.array_equal(state_h, state_c), "the cell state is something else"

# --- The same in a model. `predict` returns arrays in the same order. ---
inputs = Input((3, 1))
both = LSTM(1, return_sequences=True, return_state=True)(inputs)
model = Model(inputs, [both.output, both.state_h, both.state_c])
sequence, state_h, state_c = model.predict(x, verbose=0)
print("both, through predict:", sequence.shape, state_h.shape, state_c.shape)
assert sequence.shape == (1, 3, 1)
assert state_h.shape == state_c.shape == (1, 1)
assert np.array_equal(sequence[:, -1], state_h), "the last step of the sequence is state_h"

# The layer computes in its own dtype (float32 unless you set another), whatever x has.
again = model.predict(x.astype("float32"), verbose=0)
assert np.array_equal(again[0], sequence)
print("float64 and float32 input give the same float32 output:", sequence.dtype)
