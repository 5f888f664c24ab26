"""Stateful layers: a stream that comes in pieces, answered as if it had come at once.

Two sensors are watched. Their readings come in pieces of five steps; a stateful layer goes on where
the piece before ended, so the answers are those of the whole sequence, to the last bit.
"""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import GRU, RNN, GRUCell, Input, LSTMCell
from recurra.models import Sequential, load_states, reset_states, save_states
import numpy as np
import tempfile
from pathlib import Path

SENSORS, STEPS, PIECE = 2, 20, 5
readings = np.random.default_rng(0).normal(size=(SENSORS, STEPS, 3)).astype("float32")


def watcher(batch, stateful):
    """A stack of layers and of cells; the batch of a stateful model is fixed.

    States are saved by the layers' names, so the layers have some.
    """
    return Sequential(
        [
            Input(batch_shape=(batch, None, 3)),
            GRU(8, return_sequences=True, stateful=stateful, name="lower"),
            RNN([LSTMCell(6), GRUCell(4)], return_sequences=True, stateful=stateful, name="upper"),
        ]
    )


stream, whole = watcher(SENSORS, stateful=True), watcher(None, stateful=False)
whole.set_weights(stream.get_weights())  # states are no weights: both models have the same
expected = np.asarray(whole.predict(readings, verbose=0))

pieces = np.split(readings, STEPS // PIECE, axis=1)
answers = [stream.predict(piece, batch_size=SENSORS, verbose=0) for piece in pieces]
print("in pieces and at once:", np.array_equal(np.concatenate(answers, axis=1), expected))

# The program may end in between: states are saved when asked for, apart from the model.
reset_states(stream)
first = [stream.predict(piece, batch_size=SENSORS, verbose=0) for piece in pieces[:2]]
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "states.npz"
    save_states(stream, path)
    later = watcher(SENSORS, stateful=True)
    later.set_weights(stream.get_weights())
    load_states(later, path)
rest = [later.predict(piece, batch_size=SENSORS, verbose=0) for piece in pieces[2:]]
print("after a restart:      ", np.array_equal(np.concatenate(first + rest, axis=1), expected))

# One layer's states, set by hand: here the second sensor starts anew.
layer = stream.layers[0]
state = np.array(layer.states[0].value)
state[1] = 0
layer.reset_state(states=[state])
print("state after a reset of sensor 2:", np.asarray(layer.states[0].value)[1, :3])
