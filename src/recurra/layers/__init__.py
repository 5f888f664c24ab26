"""Keras's layers, the recurrent ones on Recurra's engine.

    from recurra.layers import LSTM, Dense, Input        # instead of keras.layers

The recurrent layers are Recurra's; every other name, their cells too, is Keras's own, so
one import serves a whole model.
"""

# ruff: noqa: E402 -- what Keras runs on must be settled before the first import of Keras.

from __future__ import annotations

from typing import Any

from recurra import hosts

hosts.prepare_keras()
try:
    import keras
except ImportError as error:
    raise ImportError(
        "recurra.layers needs Keras and a framework for it to run on, and importing Keras failed: "
        f'{error}. Install both with: pip install "recurra[jax]" (or recurra[torch], '
        "recurra[tensorflow]); KERAS_BACKEND chooses between frameworks that are installed."
    ) from error

from recurra.layers.bidirectional import Bidirectional
from recurra.layers.conv_lstm import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from recurra.layers.gru import GRU
from recurra.layers.lstm import LSTM
from recurra.layers.rnn import RNN
from recurra.layers.saving import custom_objects, recurra_classes
from recurra.layers.simple_rnn import SimpleRNN
from recurra.layers.time_distributed import TimeDistributed

# Now rather than in a layer's first call, which torch.compile may be reading: it cannot import.
hosts.get(keras.backend.backend())

__all__ = ["GRU", "LSTM", "RNN", "Bidirectional", "SimpleRNN", "TimeDistributed"]
__all__ += ["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]
__all__ += ["custom_objects", "recurra_classes"]
__all__ += [name for name in dir(keras.layers) if name[0] != "_" and name not in __all__]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not hasattr(keras.layers, name):
        raise AttributeError(f"module 'recurra.layers' has no attribute {name!r}")
    return getattr(keras.layers, name)


def __dir__() -> list[str]:
    return sorted(__all__)
