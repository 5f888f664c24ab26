"""Any cell in Keras's own scan, with masks that mean the same on every host.

Keras's hosts differ in what they do at a masked step, where the output is not the first state, in
unrolled loops and backwards. So Keras's loop is given no mask: here the mask is part of what is
scanned over and the previous output part of what is carried. A masked step carries every state on
and repeats the previous output, zeros before the first kept step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops, tree
from keras.src import backend


class _MaskedInputs(NamedTuple):
    """What a masked scan goes over: (batch, time_steps, ...) and (batch, time_steps, 1), bool."""

    sequences: Any
    keep: Any

    @property
    def shape(self) -> Any:
        """Keras on TensorFlow asks its inputs for the number of time steps."""
        return self.sequences.shape


def scan(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool) -> Any:
    """Run a layer's cell over a sequence.

    Args:
        layer: a keras.layers.RNN.
        sequences: (batch, time_steps, ...), at least one time step.
        initial_state: tensors, nested as the cell takes them.
        mask: (batch, time_steps), True where the step is kept; None to keep all.
        training: handed on to a cell that takes it.

    Returns:
        The last output, the outputs of every step (meaningful with return_sequences only) and the
        final states, nested as `initial_state`.

    Raises:
        ValueError: if the cell returns another number of states than it was given.
    """
    arguments = {}
    if isinstance(layer.cell, keras.Layer) and layer.cell._call_has_training_arg:
        arguments["training"] = training
    if not tree.is_nested(initial_state):
        initial_state = [initial_state]
    flat = tree.flatten(initial_state)

    def advance(x_t: Any, states: Sequence[Any]) -> tuple[Any, list[Any]]:
        nested = tree.pack_sequence_as(initial_state, list(states))
        output, new = layer.cell(x_t, nested, **arguments)
        new = tree.flatten(new)
        if len(new) != len(flat):
            raise ValueError(
                f"The cell of layer {layer.name!r}, a {type(layer.cell).__name__}, returned "
                f"{len(new)} states; its initial state has {len(flat)}."
            )
        return output, new

    def advance_masked(inputs: Any, carry: Any) -> tuple[Any, list[Any]]:
        x_t, keep = inputs
        previous, *states = carry
        output, new = advance(x_t, states)
        output = _where(keep, output, previous)
        new = [_where(keep, a, b) for a, b in zip(new, states, strict=True)]
        shown = output
        if layer.zero_output_for_mask:
            shown = _where(keep, output, ops.zeros_like(output))
        return shown, [output, *new]

    inputs, carry = sequences, flat
    if mask is not None:
        inputs = _MaskedInputs(sequences, ops.expand_dims(ops.cast(mask, "bool"), -1))
        carry = [_zero_output(layer, sequences[:, 0], initial_state, arguments), *flat]
    length = sequences.shape[1]
    if backend.backend() == "torch":
        length = int(length)  # a tensor while torch traces, and then Keras masks by it
    last, outputs, final = backend.rnn(
        advance if mask is None else advance_masked,
        inputs,
        carry,
        go_backwards=layer.go_backwards,
        mask=None,
        # One step needs no loop, which JAX would compile anew for every call outside of jit.
        unroll=layer.unroll or length == 1,
        input_length=length,
        return_all_outputs=layer.return_sequences,
    )
    final = list(final)
    if mask is not None:
        last, *final = final
    return last, outputs, tree.pack_sequence_as(initial_state, final)


def output_of_nothing(layer: Any, sequences: Any, initial_state: Any) -> Any:
    """The output for no time steps: an empty sequence, or the state to start from if it fits.

    Args:
        layer, sequences, initial_state: as for `scan`, with zero time steps.
    """
    x_t = ops.zeros((ops.shape(sequences)[0], *sequences.shape[2:]), dtype=sequences.dtype)
    zero = _zero_output(layer, x_t, initial_state, {})
    if layer.return_sequences:
        return ops.expand_dims(zero, 1)[:, :0]
    first = tree.flatten(initial_state)[0]
    return first if tuple(first.shape[1:]) == tuple(zero.shape[1:]) else zero


def _zero_output(layer: Any, x_t: Any, initial_state: Any, arguments: dict[str, Any]) -> Any:
    """Zeros in the shape of the cell's output: what is shown before the first kept step."""
    cell = layer.cell
    first = tree.flatten(initial_state)[0]
    if isinstance(getattr(cell, "output_size", None), int) and len(first.shape) == 2:
        return ops.zeros((ops.shape(x_t)[0], cell.output_size), dtype=first.dtype)
    # Only its shape counts, so a compiler leaves the computation out.
    return ops.zeros_like(cell(x_t, initial_state, **arguments)[0])


def _where(keep: Any, a: Any, b: Any) -> Any:
    """Rows of `a` where keep, (batch, 1), is True, else of b."""
    while len(keep.shape) < len(a.shape):
        keep = ops.expand_dims(keep, -1)
    return ops.where(keep, a, b)
