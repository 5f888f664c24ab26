"""GRU layer."""

from __future__ import annotations

from typing import Any

import keras

from recurra.cells import CELLS
from recurra.layers.fused import FusedRNN, constructor
from recurra.layers.saving import register


@register
class GRU(FusedRNN, keras.layers.GRU):
    """Gated recurrent unit over a sequence: `keras.layers.GRU` on Recurra's engine.

    All of Keras's arguments, in Keras's order, with Keras's meaning (`unroll` is only a hint here),
    and three more, by keyword: `return_trace`, `engine` and `checkpoint_every`, as for
    `recurra.layers.LSTM`.

    Args:
        units: positive integer, size of the output and of the state.
        reset_after: whether the reset gate scales the candidate's recurrent product (True,
            default) or the hidden state before it (False).
        return_sequences, return_state, return_trace, engine, checkpoint_every: as for
            `recurra.layers.LSTM`.
        **kwargs: keras.layers.GRU's other arguments.

    Call arguments:
        sequences, mask, training: as for `recurra.layers.LSTM`.
        initial_state: state_h, (batch, units), or a list of it; None for zeros.

    Returns:
        With B, T, U for batch, time_steps, units: the output, (B, U), or (B, T, U) with
        return_sequences. With return_state or return_trace a named tuple
        (output, state_h[, trace]); state_h is (B, U), trace is a dict of (B, T, U): update_gate,
        reset_gate, candidate, hidden_state.

    Raises:
        ValueError: as for `recurra.layers.LSTM`.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import GRU
        >>> output, state_h = GRU(4, return_sequences=True, return_state=True)(np.zeros((3, 5, 2)))
        >>> output.shape, state_h.shape
        ((3, 5, 4), (3, 4))

    Source: `recurra.cells.gru`; arguments: keras.layers.GRU.
    """

    cell_spec = CELLS["gru"]
    stock = keras.layers.GRU
    __init__ = constructor(keras.layers.GRU)

    def _drops_inputs(self: Any, mask: Any) -> bool | None:
        # Where stock takes its fused scan, dropout=1.0 drops everything; its cell drops nothing.
        fused = self.use_cudnn and not self.recurrent_dropout
        fused = fused and self.cell.reset_after and not self.unroll and mask is None
        return self.cell.dropout > 0.0 if fused else super()._drops_inputs(mask)
