"""Sequential style: classify texts of different lengths, read in both directions."""

import numpy as np
from keras import Sequential, utils
from keras.layers import GRU, LSTM, Bidirectional, Dense, Embedding, Input
from keras.optimizers import SGD

utils.set_random_seed(2)
random = np.random.default_rng(2)

texts = random.integers(1, 30, (64, 12))
texts[np.arange(12) >= random.integers(1, 13, 64)[:, None]] = 0
labels = (texts == 7).any(axis=1) | (texts == 8).any(axis=1)

model = Sequential()
model.add(Input((12,), dtype="int32"))
model.add(Embedding(30, 6, mask_zero=True))
model.add(Bidirectional(LSTM(5, return_sequences=True)))
model.add(Bidirectional(GRU(4), merge_mode="sum", backward_layer=GRU(4, go_backwards=True)))
model.add(Dense(1, activation="sigmoid"))
model.compile(optimizer=SGD(0.2), loss="binary_crossentropy", metrics=["accuracy"])

history = model.fit(texts, labels, epochs=3, batch_size=32, shuffle=False, verbose=0)
print("losses:", history.history["loss"])
print("predicted:", model.predict(texts[:4], verbose=0).ravel().tolist())
