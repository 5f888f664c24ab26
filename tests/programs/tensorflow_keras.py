"""The older way of writing: everything from tensorflow.keras, data from tf.data."""

import numpy as np
import tensorflow as tf
from tensorflow.keras import backend as K
from tensorflow.keras import layers
from tensorflow.keras.layers import GRU, Bidirectional, Dense, TimeDistributed
from tensorflow.keras.models import Sequential

tf.keras.utils.set_random_seed(11)
random = np.random.default_rng(11)
x = random.standard_normal((48, 9, 4)).astype("float32")
y = x.cumsum(axis=1)[..., :1]
dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)

model = Sequential(
    [
        tf.keras.Input((9, 4)),
        layers.LSTM(7, return_sequences=True),
        Bidirectional(GRU(5, return_sequences=True)),
        TimeDistributed(Dense(1)),
    ]
)
model.compile(optimizer=tf.keras.optimizers.SGD(0.05), loss="mse")
history = model.fit(dataset, epochs=3, verbose=0)
print("losses", *history.history["loss"])
print("predictions", *model.predict(x[:2], verbose=0)[:, -1].ravel())
print(
    "floats are", K.floatx(), "and the first layer is one of", layers.LSTM is type(model.layers[0])
)
