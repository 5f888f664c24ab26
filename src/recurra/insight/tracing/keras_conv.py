"""ConvLSTM's cell with its gates in the open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from recurra.insight.tracing.keras_cells import function_name, held_back, to_numpy
from recurra.insight.tracing.result import Array
from recurra.insight.tracing.scan import TracedCell

GATES = ("input_gate", "forget_gate", "candidate", "output_gate")
"""In the order of Keras's weights."""

_SPACE = {1: ("length",), 2: ("rows", "columns"), 3: ("depth", "rows", "columns")}


def convolutional(layer: Any, cell: Any) -> TracedCell | None:
    """A ConvLSTM's cell, which computes LSTM's equations with convolutions for products.

    Its arrays are called as LSTM's, with the axes of space and then the filters (or the other way
    round with channels_first) in the place of the units.

    Returns:
        None for another cell.
    """
    if type(cell) is not ConvLSTMCell:
        return None
    dtype = cell.compute_dtype
    space = _SPACE[cell.rank]
    first = cell.data_format == "channels_first"
    info = {
        "class_name": type(layer).__name__,
        "layer_name": layer.name,
        "cell_class": type(cell).__name__,
        "filters": int(cell.filters),
        "activations": {
            gate: function_name(
                cell.activation if gate == "candidate" else cell.recurrent_activation
            )
            for gate in GATES
        },
        "dtype": dtype,
        "final": ["state_h", "state_c"],
        "axes": ["filters", *space] if first else [*space, "filters"],
        "input_axes": ["channels", *space] if first else [*space, "channels"],
    }

    def initial(batch: int) -> Any:
        return layer.get_initial_state(batch)

    def run(x: Array, states: Sequence[Array] | None, mask: Array | None) -> dict[str, Array]:
        kernels, recurrent_kernels = (
            ops.split(ops.cast(w.value, dtype), len(GATES), axis=cell.rank + 1)
            for w in (cell.kernel, cell.recurrent_kernel)
        )
        biases: Sequence[Any] = [None] * len(GATES)
        if cell.use_bias:
            biases = ops.split(ops.cast(cell.bias.value, dtype), len(GATES))
        functions = [cell.recurrent_activation] * len(GATES)
        functions[GATES.index("candidate")] = cell.activation
        h, c = [to_numpy(s) for s in initial(len(x))] if states is None else states
        names = (*GATES, "cell_state", "hidden_state")
        found = {n: np.zeros((*x.shape[:2], *h.shape[1:]), np.float32) for n in names}
        found["sequence"] = np.zeros_like(found["hidden_state"])
        output = np.zeros_like(h)
        for t in range(x.shape[1]):
            x_t, h_t = (ops.convert_to_tensor(v, dtype=dtype) for v in (x[:, t], h))
            gates = [
                to_numpy(
                    function(
                        cell.input_conv(x_t, kernel, bias, padding=cell.padding)
                        + cell.recurrent_conv(h_t, recurrent_kernel)
                    )
                )
                for function, kernel, bias, recurrent_kernel in zip(
                    functions, kernels, biases, recurrent_kernels, strict=True
                )
            ]
            i, f, g, o = gates
            new_c = f * c + i * g
            new_h = o * to_numpy(cell.activation(ops.convert_to_tensor(new_c, dtype=dtype)))
            keep = np.ones(len(x), bool) if mask is None else mask[:, t]
            for name, value in zip(GATES, gates, strict=True):
                found[name][:, t] = held_back(keep, value, np.zeros_like(value))
            output = held_back(keep, new_h, output)
            h, c = held_back(keep, new_h, h), held_back(keep, new_c, c)
            found["hidden_state"][:, t], found["cell_state"][:, t] = h, c
            found["sequence"][:, t] = output
        return found | {"state_h": h, "state_c": c}

    return TracedCell(None, run, 2, info, cell=cell, initial=initial, final=("state_h", "state_c"))
