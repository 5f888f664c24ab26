"""A training loop of one's own on torch: a Keras model is a torch module."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

keras.utils.set_random_seed(9)
random = np.random.default_rng(9)
x = torch.from_numpy(random.standard_normal((40, 10, 3)).astype("float32"))
y = x.mean(dim=(1, 2))[:, None]

model = keras.Sequential(
    [
        keras.Input((10, 3)),
        keras.layers.Bidirectional(keras.layers.LSTM(6, return_sequences=True)),
        keras.layers.GRU(5, implementation=1),
        keras.layers.Dense(1),
    ]
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
dataset = torch.utils.data.TensorDataset(x, y)
loader = torch.utils.data.DataLoader(dataset, batch_size=8)
for epoch in range(4):
    for inputs, targets in loader:
        loss = torch.nn.functional.mse_loss(model(inputs, training=True), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
with torch.inference_mode():
    print("predictions", *model(x[:4]).ravel().tolist())
print("gradient", float(sum((p.grad**2).sum() for p in model.parameters() if p.grad is not None)))
