"""An encoder-decoder: one LSTM reads a sequence, another one, started from its state, writes.

The task is to write four digits backwards. In training the decoder is fed the right digits, shifted
by one step; afterwards it is fed what it wrote itself, step by step.
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM, Dense, Input
from recurra.models import Model
import keras
import numpy as np

keras.utils.set_random_seed(0)
DIGITS, LENGTH, UNITS = 6, 4, 64
START = DIGITS  # One more symbol: "begin to write".

digits = np.random.default_rng(0).integers(DIGITS, size=(2500, LENGTH))
backwards = digits[:, ::-1]
shifted = np.concatenate([np.full((len(digits), 1), START), backwards[:, :-1]], axis=1)
one_hot = np.eye(DIGITS + 1, dtype="float32")

# --- Training: the whole sequence at once. ---
encoder_inputs = Input((LENGTH, DIGITS + 1))
_, *encoder_states = LSTM(UNITS, return_state=True, name="encoder")(encoder_inputs)

decoder = LSTM(UNITS, return_sequences=True, return_state=True, name="decoder")
to_digits = Dense(DIGITS, activation="softmax", name="digits")
decoder_inputs = Input((None, DIGITS + 1))
# The states must have the decoder's units: [state_h, state_c], each (batch, units).
written, _, _ = decoder(decoder_inputs, initial_state=encoder_states)

model = Model([encoder_inputs, decoder_inputs], to_digits(written))
model.compile(
    optimizer=keras.optimizers.Adam(0.01),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
model.fit(
    [one_hot[digits[:2300]], one_hot[shifted[:2300]]],
    backwards[:2300],
    batch_size=64,
    epochs=12,
    verbose=0,
)

# --- Afterwards: a model for the start, and one for a step. They share the trained layers. ---
start = Model(encoder_inputs, encoder_states)
h, c = Input((UNITS,)), Input((UNITS,))
step_output, next_h, next_c = decoder(decoder_inputs, initial_state=[h, c])
one_step = Model([decoder_inputs, h, c], [to_digits(step_output), next_h, next_c])

unseen, expected = digits[2300:], backwards[2300:]
state = start.predict(one_hot[unseen], verbose=0)
symbol = np.full((len(unseen), 1), START)
answer = []
for _ in range(LENGTH):
    probabilities, *state = one_step.predict([one_hot[symbol], *state], verbose=0)
    symbol = probabilities.argmax(axis=-1)  # (batch, 1)
    answer.append(symbol)
answer = np.concatenate(answer, axis=1)

right = (answer == expected).all(axis=1)
print("read", unseen[0], "wrote", answer[0])
print(f"{right.mean():.0%} of {len(unseen)} unseen sequences written backwards without a mistake")
assert answer.shape == expected.shape
assert right.mean() > 0.9

# Step by step is the same computation as the whole sequence at once.
fed = np.concatenate([np.full((len(unseen), 1), START), answer[:, :-1]], axis=1)
at_once = model.predict([one_hot[unseen], one_hot[fed]], verbose=0)
assert np.array_equal(at_once.argmax(axis=-1), answer)
