"""Keras's cells as the engine sees them: configuration, weights and dropout factors.

The engine computes Keras's LSTMCell, GRUCell and SimpleRNNCell. Subclasses of them may compute
anything, so only the classes themselves are recognised.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops
from keras.src.backend import AutocastScope

from recurra import hosts
from recurra.cells import ACTIVATIONS, CELLS, CellSpec
from recurra.engine import Config
from recurra.engine.config import SQUARE_ROOT
from recurra.layers.activations import engine_name

_kept_config = functools.lru_cache(maxsize=None)(Config)


def _config(cell: str, **options: Any) -> Config:
    # What torch.compile reads may not call the cache, and reads it once only.
    return Config(cell, **options) if hosts.is_traced() else _kept_config(cell, **options)


_SPECS = {
    keras.layers.LSTMCell: CELLS["lstm"],
    keras.layers.GRUCell: CELLS["gru"],
    keras.layers.SimpleRNNCell: CELLS["simple_rnn"],
}


def spec_of(cell: Any) -> CellSpec | None:
    """The definition that a Keras cell computes, or None if the engine does not know it.

    Example:
        >>> spec_of(keras.layers.GRUCell(4)).layer
        'GRU'
    """
    return _SPECS.get(type(cell))


def cells_of(layer: Any) -> list[Any]:
    """The cells of a keras.layers.RNN from the input upwards; one unless they are stacked."""
    cell = layer.cell
    return list(cell.cells) if type(cell) is keras.layers.StackedRNNCells else [cell]


def obstacle(cell: Any) -> str | None:
    """Why the engine cannot compute a cell, and what to change; None if it can."""
    spec = spec_of(cell)
    if spec is None:
        known = ", ".join(cls.__name__ for cls in _SPECS)
        return (
            f"its cell is a {type(cell).__name__}, and the engine computes Keras's own cells only; "
            f"to use the engine choose one of {known}"
        )
    for argument in _activations(spec):
        function = getattr(cell, argument)
        if engine_name(function) is None:
            shown = getattr(function, "__name__", None) or repr(function)
            return (
                f"{argument}={shown} is not compiled into the engine; "
                f"to use the engine choose one of {', '.join(ACTIVATIONS)}"
            )
    return None


def engine_config(
    cell: Any,
    *,
    go_backwards: bool,
    zero_output_for_mask: bool,
    checkpoint_every: int | str | None = None,
) -> Config:
    """What the engine is to compute for a cell without an `obstacle`."""
    spec = spec_of(cell)
    assert spec is not None
    names = {argument: engine_name(getattr(cell, argument)) for argument in _activations(spec)}
    return _config(
        spec.name,
        reset_after=getattr(cell, "reset_after", True),
        go_backwards=go_backwards,
        zero_output_for_mask=zero_output_for_mask,
        checkpoint_every=SQUARE_ROOT if checkpoint_every == "sqrt" else checkpoint_every or 0,
        **names,
    )


def weights(cell: Any) -> dict[str, Any]:
    """kernel, recurrent_kernel and bias (None without one), as the variables are kept.

    The engine computes in float32 at least, so half-precision policies give it the variables
    unrounded.
    """
    with AutocastScope(None):
        return {
            name: None if variable is None else variable.value
            for name, variable in (
                ("kernel", cell.kernel),
                ("recurrent_kernel", cell.recurrent_kernel),
                ("bias", cell.bias),
            )
        }


def drops(cell: Any, rate: float) -> bool:
    """Whether a cell drops anything at a rate: at 1.0 only Keras's SimpleRNNCell does."""
    return rate > 0.0 if spec_of(cell) is CELLS["simple_rnn"] else 0.0 < rate < 1.0


def dropout_factors(
    cell: Any, x: Any, *, training: bool, drops_inputs: bool | None = None
) -> tuple[Any, Any]:
    """Keras's dropout masks for one call, drawn by the same calls in the same order.

    Nothing is drawn in inference: the generator stays where it is.

    Args:
        cell: a cell with a `spec_of`.
        x: (B, T, F), the cell's input.
        training: whether dropout is applied.
        drops_inputs: whether the input's rate drops anything; None for `drops`.

    Returns:
        Factors for the inputs, (1 or G, B, F), and for the states, (1 or G, B, U); None for none.
    """
    # The rates first: under rematerialization `training` is a traced value.
    if (cell.dropout == 0 and cell.recurrent_dropout == 0) or not training:
        return None, None
    batch = ops.shape(x)[0]
    step = x[:, 0, :] if x.shape[1] not in (0, None) else ops.zeros((batch, x.shape[2]), x.dtype)
    state = ops.zeros((batch, cell.units), x.dtype)
    inputs, states = cell.get_dropout_mask(step), cell.get_recurrent_dropout_mask(state)
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()
    if drops_inputs is None:
        drops_inputs = drops(cell, cell.dropout)
    return (
        _stacked(inputs) if drops_inputs else None,
        _stacked(states) if drops(cell, cell.recurrent_dropout) else None,
    )


def _activations(spec: CellSpec) -> tuple[str, ...]:
    both = ("activation", "recurrent_activation")
    return both if spec.uses_recurrent_activation else both[:1]


def _stacked(masks: Any) -> Any:
    """Keras's dropout masks, one (batch, width) or a list per gate, as the engine takes them."""
    return ops.stack(masks) if isinstance(masks, list) else ops.expand_dims(masks, 0)
