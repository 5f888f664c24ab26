"""Cells in RNN, in a list and in StackedRNNCells; a clone and JSON."""

import keras
import numpy as np
from keras.layers import RNN, Dense, GRUCell, Input, LSTMCell, SimpleRNNCell, StackedRNNCells

keras.utils.set_random_seed(5)
random = np.random.default_rng(5)
x = random.standard_normal((24, 8, 3)).astype("float32")
mask = np.arange(8) < random.integers(1, 9, 24)[:, None]
y = np.where(mask, x[..., 0], 0).sum(axis=1)

sequence = Input((8, 3))
keep = Input((8,), dtype="bool")
hidden = RNN([LSTMCell(6), GRUCell(5)], return_sequences=True)(sequence, mask=keep)
hidden, *states = RNN(
    StackedRNNCells([SimpleRNNCell(4, activation="relu"), LSTMCell(4)]),
    return_sequences=True,
    return_state=True,
)(hidden, mask=keep)
hidden = RNN(GRUCell(5), go_backwards=True)(hidden, mask=keep)
model = keras.Model([sequence, keep], Dense(1)(hidden))
model.compile(keras.optimizers.SGD(0.05), "mse")
print("losses", model.fit([x, mask], y, epochs=3, shuffle=False, verbose=0).history["loss"])
print("predictions", *model.predict([x[:4], mask[:4]], verbose=0).ravel())

clone = keras.models.clone_model(model)
clone.set_weights(model.get_weights())
print("clone", *clone.predict([x[:4], mask[:4]], verbose=0).ravel())
again = keras.models.model_from_json(model.to_json())
again.set_weights(model.get_weights())
print("json", *again.predict([x[:4], mask[:4]], verbose=0).ravel())
print(sorted(type(layer).__name__ for layer in again.layers))
