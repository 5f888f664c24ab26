"""Whether a layer treats every row of its batch by itself.

TimeDistributed runs such a layer once, on batch · items rows, instead of once per item. Only what
is known for certain counts: Keras's own classes (a subclass may compute anything) with Keras's own
activations.
"""

from __future__ import annotations

from typing import Any

import keras
from keras.src.models.functional import Functional

from recurra.layers import cells
from recurra.layers.base import Recurrent

_PLAIN = (
    "Activation Add Average AveragePooling1D AveragePooling2D AveragePooling3D "
    "Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose "
    "Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D ELU Embedding Flatten "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D Identity InputLayer LeakyReLU "
    "Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Multiply PReLU Permute ReLU "
    "RepeatVector Reshape SeparableConv1D SeparableConv2D Subtract "
    "UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D"
)
_AS_IN_INFERENCE = (
    "AlphaDropout BatchNormalization Dropout GaussianDropout GaussianNoise "
    "SpatialDropout1D SpatialDropout2D SpatialDropout3D"
)
_RECURRENT = "RNN LSTM GRU SimpleRNN ConvLSTM1D ConvLSTM2D ConvLSTM3D"


def _classes(names: str) -> frozenset[type]:
    # Some names are newer than the oldest Keras that Recurra runs with.
    return frozenset(
        getattr(keras.layers, name) for name in names.split() if hasattr(keras.layers, name)
    )


# Looked up now, because `recurra.enable` puts Recurra's classes under Keras's names.
_plain, _as_in_inference, _recurrent = map(_classes, (_PLAIN, _AS_IN_INFERENCE, _RECURRENT))
_RNN, _Bidirectional = keras.layers.RNN, keras.layers.Bidirectional
_TimeDistributed, _Sequential = keras.layers.TimeDistributed, keras.Sequential
_ConvLSTM = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)
_activations = frozenset(
    getattr(keras.activations, name)
    for name in dir(keras.activations)
    if not name.startswith("_") and name not in ("deserialize", "get", "serialize")
)


def independent(layer: Any, training: Any, *, drawn_alike: bool = True) -> bool:
    """Whether each row of a layer's results depends on the same row of its input only.

    Args:
        layer: any layer.
        training: what the layer will be called with.
        drawn_alike: whether a layer that draws random numbers per row counts as dependent, because
            their order would change with the rows.

    Example:
        >>> independent(keras.layers.Dense(4), None)
        True
        >>> independent(keras.layers.LSTM(4, stateful=True), None)
        False
    """
    kind = type(layer)
    if kind in _plain:
        return _known_activation(getattr(layer, "activation", None))
    if kind in _as_in_inference:
        return not training
    ours = kind.__module__.startswith("recurra.")
    if isinstance(layer, _Bidirectional):
        inner = (layer.forward_layer, layer.backward_layer)
        known = ours or kind is _Bidirectional
        return known and all(independent(v, training, drawn_alike=drawn_alike) for v in inner)
    if isinstance(layer, _TimeDistributed):
        known = ours or kind is _TimeDistributed
        return known and independent(layer.layer, training, drawn_alike=drawn_alike)
    if isinstance(layer, _RNN):
        return _independent_recurrence(layer, training, drawn_alike)
    if kind is _Sequential or kind is Functional:
        operations = layer.layers if kind is _Sequential else layer.operations
        return all(
            isinstance(each, keras.Layer) and independent(each, training, drawn_alike=drawn_alike)
            for each in operations
        )
    return False


def _independent_recurrence(layer: Any, training: Any, drawn_alike: bool) -> bool:
    kind = type(layer)
    known = kind in _recurrent or (isinstance(layer, Recurrent) and kind.call is Recurrent.call)
    if not known or layer.stateful:
        return False
    for cell in cells.cells_of(layer):
        if cells.spec_of(cell) is None and not isinstance(layer, _ConvLSTM):
            return False
        for argument in ("activation", "recurrent_activation"):
            if not _known_activation(getattr(cell, argument, None)):
                return False
        if training and drawn_alike and (cell.dropout or cell.recurrent_dropout):
            return False
    return True


def _known_activation(function: Any) -> bool:
    if function is None:
        return True
    try:
        return function in _activations or cells.engine_name(function) is not None
    except TypeError:  # not hashable
        return False


def reads_sequences(layer: Any) -> bool:
    """Whether a layer's mask says which steps of each row are real: (rows, steps)."""
    return isinstance(layer, (_RNN, _Bidirectional, _TimeDistributed))
