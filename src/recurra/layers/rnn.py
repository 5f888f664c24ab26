"""RNN layer: any cell, or a list of cells stacked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras

from recurra.cells import CellSpec
from recurra.layers import cells
from recurra.layers.base import Outcome, Recurrent
from recurra.layers.checks import article
from recurra.layers.fused import FusedRNN, constructor
from recurra.layers.saving import register


def _taking_cells_only(construct: Callable[..., None]) -> Callable[..., None]:
    """The constructor, after a look at what it was given as cells."""

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cell = args[0] if args else kwargs.get("cell")
        if isinstance(cell, (list, tuple)) and not cell:
            raise ValueError("RNN got an empty list of cells; expected a cell or at least one.")
        for each in cell if isinstance(cell, (list, tuple)) else (cell,):
            if isinstance(each, (int, str)):
                raise ValueError(
                    f"RNN got {each!r} for its cell; expected a cell, which says what happens at "
                    "one step: RNN(LSTMCell(units)), or your own. LSTM(units), GRU(units) and "
                    "SimpleRNN(units) have theirs."
                )
            if isinstance(each, keras.layers.RNN):
                kind = type(each).__name__
                raise ValueError(
                    f"RNN got {each.name!r}, {article(kind)} {kind}, which is a layer over "
                    "whole sequences; expected a cell (LSTMCell, GRUCell, SimpleRNNCell or your "
                    "own). Use that layer by itself, or stack layers instead of cells."
                )
        construct(self, *args, **kwargs)

    return __init__


@register
class RNN(FusedRNN, keras.layers.RNN):
    """Recurrence over any cell: `keras.layers.RNN`, on Recurra's engine where it knows the cell.

    The engine computes Keras's LSTMCell, GRUCell and SimpleRNNCell, alone or stacked, as fast as
    the layers LSTM, GRU and SimpleRNN. Other cells run in Keras's scan, which is told once.

    Args:
        cell: a cell, or a list of cells, which are stacked (keras.layers.StackedRNNCells): each
            reads what the one before it puts out. A cell has `state_size` and
            `call(inputs, states) -> (output, new states)`.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask,
            **kwargs: as for keras.layers.RNN; `unroll` is only a hint for cells that the engine
            knows.
        return_trace: whether every gate and state of every step is returned too; only for a single
            cell that the engine knows, see `recurra.layers.LSTM`.
        engine: "auto", "cpu" or "keras", as for `recurra.layers.LSTM`.
        checkpoint_every: None, a positive integer or "sqrt", as for `recurra.layers.LSTM`; for all
            cells that the engine knows.

    Call arguments:
        sequences: (batch, time_steps, features), or whatever a cell of your own reads after the
            first two axes.
        initial_state: a list of one array per state; for stacked cells a list of such lists, or one
            flat list. None for what the cells' get_initial_state gives: zeros.
        mask: (batch, time_steps), True where the step is kept; None to keep all. At a masked step
            every state is carried on and the output repeats the previous one, zeros before the
            first kept step.
        training: whether dropout is applied.

    Returns:
        The output: (batch, units), or (batch, time_steps, units) with return_sequences. With
        return_state a tuple of it and the final states; for stacked cells one list of states per
        cell. For a single cell that the engine knows, the named tuple of its layer.

    Raises:
        ValueError: for arguments, inputs, states or masks that do not fit.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import GRUCell, LSTMCell, RNN
        >>> output, lower, upper = RNN([GRUCell(4), LSTMCell(3)], return_state=True)(
        ...     np.zeros((2, 5, 6))
        ... )
        >>> output.shape, [state.shape for state in upper]
        ((2, 3), [(2, 3), (2, 3)])

    Source: `recurra.cells`; arguments: keras.layers.RNN.
    """

    stock = keras.layers.RNN
    __init__ = _taking_cells_only(constructor(keras.layers.RNN))

    @property
    def cell_spec(self: Any) -> CellSpec | None:  # type: ignore[override]
        """The single cell's definition; None for stacked cells and cells of the user's."""
        return cells.spec_of(self.cell)

    @property
    def units(self: Any) -> int:
        """Size of the output."""
        size = getattr(self.cell, "output_size", None) or self.cell.state_size
        while isinstance(size, (list, tuple)):
            size = size[0]
        return size

    def _result(self: Any, outcome: Outcome) -> Any:
        # The stock class's way, unless the cell's outputs have names.
        way = Recurrent if self.cell_spec is None else FusedRNN
        return way._result(self, outcome)

    def compute_output_shape(
        self: Any, sequences_shape: Any, initial_state_shape: Any = None
    ) -> Any:
        """Shapes of the results, nested as `call` nests them."""
        if self.cell_spec is not None:
            return super().compute_output_shape(sequences_shape, initial_state_shape)
        return self.stock.compute_output_shape(self, sequences_shape, initial_state_shape)

    def compute_output_spec(
        self: Any,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Symbolic results, in the structure that `call` returns."""
        arguments = {"initial_state": initial_state, "mask": mask, "training": training}
        if self.cell_spec is not None:
            return super().compute_output_spec(sequences, **arguments)
        stack = [cells.spec_of(cell) for cell in cells.cells_of(self)]
        if any(spec is None for spec in stack):
            return keras.Layer.compute_output_spec(self, sequences, **arguments)
        batch, time_steps = sequences.shape[:2]

        def tensor(*shape: int | None) -> Any:
            return keras.KerasTensor(shape, dtype=self.compute_dtype)

        output = tensor(batch, *((time_steps,) if self.return_sequences else ()), self.units)
        if not self.return_state:
            return output
        states = [
            [tensor(batch, cell.units) for _ in spec.states]  # type: ignore[union-attr]
            for cell, spec in zip(cells.cells_of(self), stack, strict=True)
        ]
        return (output, *states)
