"""A training loop of one's own on TensorFlow: GradientTape in a tf.function, and eagerly."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

keras.utils.set_random_seed(10)
random = np.random.default_rng(10)
x = random.standard_normal((40, 10, 3)).astype("float32")
y = x.mean(axis=(1, 2))[:, None]

model = keras.Sequential(
    [
        keras.Input((10, 3)),
        keras.layers.GRU(6, return_sequences=True),
        keras.layers.LSTM(5, go_backwards=True),
        keras.layers.Dense(1),
    ]
)
optimizer = keras.optimizers.SGD(0.1)


def step(inputs, targets):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(inputs, training=True) - targets))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


compiled = tf.function(step)
dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
for epoch in range(3):
    for inputs, targets in dataset:
        loss = compiled(inputs, targets)
    print("epoch", epoch, "loss", float(loss))
for inputs, targets in dataset:
    loss = step(inputs, targets)
print("eager loss", float(loss))
print("predictions", *model(x[:4]).numpy().ravel())
