"""SimpleRNN layer."""

from __future__ import annotations

import keras

from recurra.cells import CELLS
from recurra.layers.fused import FusedRNN, constructor
from recurra.layers.saving import register


@register
class SimpleRNN(FusedRNN, keras.layers.SimpleRNN):
    """Fully connected recurrence over a sequence: `keras.layers.SimpleRNN` on Recurra's engine.

    All of Keras's arguments, in Keras's order, with Keras's meaning (`unroll` is only a hint here),
    and three more, by keyword: `return_trace`, `engine` and `checkpoint_every`, as for
    `recurra.layers.LSTM`.

    Args:
        units: positive integer, size of the output, which is also the state.
        return_sequences, return_state, return_trace, engine, checkpoint_every: as for
            `recurra.layers.LSTM`.
        **kwargs: keras.layers.SimpleRNN's other arguments.

    Call arguments:
        sequences, mask, training: as for `recurra.layers.LSTM`.
        initial_state: state_h, (batch, units), or a list of it; None for zeros.

    Returns:
        With B, T, U for batch, time_steps, units: the output, (B, U), or (B, T, U) with
        return_sequences. With return_state or return_trace a named tuple
        (output, state_h[, trace]); state_h is (B, U), trace is a dict of (B, T, U): hidden_state.

    Raises:
        ValueError: as for `recurra.layers.LSTM`.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import SimpleRNN
        >>> SimpleRNN(4)(np.zeros((3, 5, 2))).shape
        (3, 4)

    Source: `recurra.cells.simple_rnn`; arguments: keras.layers.SimpleRNN.
    """

    cell_spec = CELLS["simple_rnn"]
    stock = keras.layers.SimpleRNN
    __init__ = constructor(keras.layers.SimpleRNN)
