"""The type of Recurra's layer classes."""

from __future__ import annotations


class LayerType(type):
    """`type`, except that Python lets a class change from it to a subclass of it, and back.

    `recurra.enable()` needs that: while Recurra's classes stand where Keras's are, isinstance has
    to answer for them as for those.

    Example:
        >>> class LSTM(keras.layers.LSTM, metaclass=LayerType): ...
    """
