"""LSTM layer."""

from __future__ import annotations

import keras

from recurra.cells import CELLS
from recurra.layers.fused import FusedRNN, constructor
from recurra.layers.saving import register


@register
class LSTM(FusedRNN, keras.layers.LSTM):
    """Long short-term memory over a sequence: `keras.layers.LSTM` on Recurra's engine.

    All of Keras's arguments, in Keras's order, with Keras's meaning (`unroll` is only a hint here),
    and three more, by keyword:

    Args:
        units: positive integer, size of the output and of each state.
        return_sequences: whether the output is the hidden state of every step or of the last.
        return_state: whether the final states are returned too.
        return_trace: whether every gate and state of every step is returned too. Costs little: the
            engine computes them anyway. Differentiable.
        engine: "auto" runs the compiled engine where it can and Keras's scan elsewhere, logging why
            (logger "recurra"); "cpu" runs the compiled engine or raises ValueError with the reason;
            "keras" always runs Keras's scan, which has forward-mode and second derivatives.
        checkpoint_every: for long sequences. None keeps every gate and state of every step from the
            forward to the backward pass; k, a positive integer, only the states before steps 0, k,
            2k, ..., between which the backward pass computes everything anew: the same gradients,
            to the last bit, for one forward pass more. "sqrt" is a k of about the square root of
            the number of time steps, with which memory for training is next to nothing. Of no
            effect with return_trace, whose outputs are every step, and where Keras's scan runs.
        **kwargs: keras.layers.LSTM's other arguments (activation, recurrent_activation, use_bias,
            dropout, go_backwards, stateful, dtype, name, ...).

    Call arguments:
        sequences: (batch, time_steps, features).
        initial_state: [state_h, state_c], (batch, units) each; None for zeros.
        mask: (batch, time_steps), True where the step is kept; None to keep all.
        training: whether dropout is applied.

    Returns:
        With B, T, U for batch, time_steps, units: the output, (B, U), or (B, T, U) with
        return_sequences. With return_state or return_trace a named tuple
        (output, state_h, state_c[, trace]); the states are (B, U), trace is a dict of (B, T, U):
        input_gate, forget_gate, candidate, output_gate, cell_state, hidden_state.

    Raises:
        ValueError: for arguments, inputs, states or masks that do not fit, and for unpacking the
            result into a wrong number of names; the message says what was expected.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import LSTM
        >>> output, state_h, state_c = LSTM(4, return_state=True)(np.zeros((3, 5, 2)))
        >>> output.shape, state_c.shape
        ((3, 4), (3, 4))

    Source: `recurra.cells.lstm`; arguments: keras.layers.LSTM.
    """

    cell_spec = CELLS["lstm"]
    stock = keras.layers.LSTM
    __init__ = constructor(keras.layers.LSTM)
