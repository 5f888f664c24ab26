"""A training loop of one's own on JAX: pure functions, one jitted step."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

keras.utils.set_random_seed(8)
random = np.random.default_rng(8)
x = random.standard_normal((40, 10, 3)).astype("float32")
y = x.mean(axis=(1, 2))[:, None]

model = keras.Sequential(
    [
        keras.Input((10, 3)),
        keras.layers.LSTM(8, return_sequences=True, dropout=0.0),
        keras.layers.GRU(6),
        keras.layers.Dense(1),
    ]
)
optimizer = keras.optimizers.SGD(0.1)
optimizer.build(model.trainable_variables)


def loss_of(trainable, non_trainable, inputs, targets):
    outputs, non_trainable = model.stateless_call(trainable, non_trainable, inputs, training=True)
    return keras.ops.mean(keras.losses.mean_squared_error(targets, outputs)), non_trainable


@jax.jit
def step(state, inputs, targets):
    trainable, non_trainable, of_optimizer = state
    (loss, non_trainable), gradients = jax.value_and_grad(loss_of, has_aux=True)(
        trainable, non_trainable, inputs, targets
    )
    trainable, of_optimizer = optimizer.stateless_apply(of_optimizer, gradients, trainable)
    return loss, (trainable, non_trainable, of_optimizer)


state = (
    [v.value for v in model.trainable_variables],
    [v.value for v in model.non_trainable_variables],
    [v.value for v in optimizer.variables],
)
for epoch in range(4):
    for start in range(0, 40, 8):
        loss, state = step(state, x[start : start + 8], y[start : start + 8])
    print("epoch", epoch, "loss", float(loss))
for variable, value in zip(model.trainable_variables, state[0], strict=True):
    variable.assign(value)
print("predictions", *model.predict(x[:4], verbose=0).ravel())
