"""The shapes of outputs and states, and stacking layers.

input                 (batch, time_steps, features)
LSTM(units)           (batch, units)
return_sequences      (batch, time_steps, units)
states                (batch, units) each; an LSTM has two, a GRU and a SimpleRNN have one
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import GRU, LSTM, SimpleRNN
from recurra.models import Sequential
import numpy as np

rng = np.random.default_rng(0)
x = rng.normal(size=(3, 5, 2))
print("input", x.shape)

print("LSTM(64)", tuple(LSTM(64)(x).shape))
assert LSTM(64)(x).shape == (3, 64)

print("LSTM(64, return_sequences=True)", tuple(LSTM(64, return_sequences=True)(x).shape))
assert LSTM(64, return_sequences=True)(x).shape == (3, 5, 64)

# A layer that feeds another recurrent layer must hand on the whole sequence.
stacked = Sequential([LSTM(64, return_sequences=True), LSTM(32)])
print("LSTM(64, return_sequences=True) -> LSTM(32)", tuple(stacked(x).shape))
assert stacked(x).shape == (3, 32)

x = rng.normal(size=(32, 10, 20))
print("input", x.shape)
assert LSTM(64)(x).shape == (32, 64)
assert LSTM(64, return_sequences=True)(x).shape == (32, 10, 64)

for layer_class, states in ((LSTM, 2), (GRU, 1), (SimpleRNN, 1)):
    output, *rest = layer_class(64, return_sequences=True, return_state=True)(x)
    shapes = ", ".join(str(tuple(state.shape)) for state in rest)
    print(f"{layer_class.__name__} with both flags: output {tuple(output.shape)}, states {shapes}")
    assert output.shape == (32, 10, 64)
    assert [tuple(state.shape) for state in rest] == [(32, 64)] * states
    assert np.array_equal(output[:, -1], rest[0]), "the first state is the last output"
