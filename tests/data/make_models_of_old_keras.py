"""Small models in the formats of older versions of Keras, for test_runtime_files.py.

Adds to `models_of_old_keras.zip`, next to this program, what the installed Keras writes: three
models as .h5 and .keras files, the inputs and what Keras predicts for them. Run it in an
environment for each version, for example

    pip install tensorflow-cpu==2.12.0      (Keras 2.12; it needs Python 3.11 or older)
    pip install tensorflow tf_keras         (the last of Keras 2)
    pip install keras==3.0.5 jax dm-tree    (KERAS_BACKEND=jax)
"""

import os
import sys
import tempfile
import zipfile

try:
    import tf_keras as keras
except ImportError:
    import keras
import numpy as np

layers = keras.layers
VERSION = keras.__version__
KERAS_2 = VERSION.startswith("2.")
ARCHIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models_of_old_keras.zip")


def stack():
    """Several layers of a class, one after the other."""
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.Masking(),
            layers.LSTM(4, return_sequences=True),
            layers.Dropout(0.1),
            layers.LSTM(3, return_sequences=True),
            layers.GRU(2, reset_after=False),
            layers.Dense(2, activation="relu"),
            layers.Dense(1),
        ]
    )


def parts():
    """Layers that are made of others."""
    x = keras.Input((5, 3))
    y = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    y = layers.BatchNormalization(trainable=False)(y)
    y = layers.TimeDistributed(layers.Dense(4))(y)
    y = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(y, y))
    last = layers.SimpleRNN(3)(y)
    cells = [layers.LSTMCell(3), layers.LSTMCell(2), layers.GRUCell(2)]
    stacked = layers.RNN(cells)(y)
    return keras.Model(x, [layers.Dense(2)(layers.Concatenate()([last, stacked])), y])


def nested():
    """Models within models, one of them not trained, and a shared layer."""
    encoder = keras.Sequential(
        [keras.Input((5, 3)), layers.Dense(4), layers.BatchNormalization(), layers.LSTM(3)]
    )
    x = keras.Input((3,))
    head = keras.Model(x, layers.BatchNormalization()(layers.Dense(3)(x)))
    head.trainable = False
    x, shared, normalization = keras.Input((5, 3)), layers.Dense(3), layers.Normalization()
    normalization.adapt(np.random.default_rng(3).normal(size=(9, 5, 3)).astype("float32"))
    encoded = encoder(shared(normalization(x)))
    return keras.Model(x, layers.Add()([shared(head(encoded)), encoded]))


def distributed():
    """A model of several layers in a wrapper."""
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(2)]
    )
    x = keras.Input((5, 3))
    return keras.Model(x, layers.PReLU()(layers.TimeDistributed(model)(x)))


def main():
    random = np.random.default_rng(1)
    inputs = random.normal(size=(2, 5, 3)).astype("float32")
    inputs[0, 3:] = 0
    makers = [stack, parts, nested]
    if KERAS_2:
        makers.append(distributed)
    with (
        zipfile.ZipFile(ARCHIVE, "a", zipfile.ZIP_DEFLATED) as archive,
        tempfile.TemporaryDirectory() as folder,
    ):
        for make in makers:
            model = make()
            # What `adapt` found is used in a form of its own, made when it is called or loaded.
            own = [layer for layer in model.layers if isinstance(layer, layers.Normalization)]
            adapted = {id(weight) for layer in own for weight in layer.weights}
            for weight in model.weights:
                if id(weight) not in adapted:
                    weight.assign(random.uniform(-0.9, 0.9, size=weight.shape) ** 2)
            outputs = model.predict(inputs, verbose=0)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            path = os.path.join(folder, make.__name__)
            np.savez(f"{path}.npz", inputs, *outputs)
            three = {"save_format": "keras_v3"} if VERSION.startswith("2.12") else {}
            model.save(f"{path}.keras", **three)
            endings = [".npz", ".keras"]
            # Keras 3.0 fails here where two weights of a layer have one name.
            if KERAS_2 or make is stack or VERSION >= "3.1":
                model.save(f"{path}.h5")
                endings.append(".h5")
            for ending in endings:
                archive.write(path + ending, f"{VERSION}/{make.__name__}{ending}")


if __name__ == "__main__":
    sys.exit(main())
