"""A cell's own definition as a Keras scan: any activation, any host, every gate in the open.

Slower than the engine by far. It serves `return_trace=True` where the compiled engine cannot run
(`engine="keras"`, a custom activation, another host), because Keras's scan keeps no gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from recurra.cells import CellSpec


def scan(
    spec: CellSpec,
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    *,
    bias: Any = None,
    states: list[Any],
    mask: Any = None,
    dropout_x: Any = None,
    dropout_h: Any = None,
    activation: Callable[[Any], Any],
    recurrent_activation: Callable[[Any], Any] | None,
    reset_after: bool | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> dict[str, Any]:
    """Run a cell's `step` over time with keras.ops; differentiable as the host differentiates it.

    Args:
        spec: the cell.
        x: (B, T, F); T must be at least 1.
        kernel, recurrent_kernel: (F, G·U), (U, G·U).
        bias: (G·U,), or (2, G·U) for GRU with reset_after=True; None for no bias.
        states: the initial states, (B, U) each, in the cell's order.
        mask: (B, T), bool, True = keep; None to keep all.
        dropout_x, dropout_h: (1 or G, B, F), (1 or G, B, U): factors; None for none.
        activation, recurrent_activation: elementwise functions; the second may be None for a cell
            that does not use it.
        reset_after, go_backwards, zero_output_for_mask: as in `recurra.engine.Config`.

    Returns:
        By name: last_output, the states (B, U), sequence and the cell's trace (B, T, U).
    """
    gates = spec.gates
    kernels = _by_gate(gates, kernel)
    recurrent_kernels = _by_gate(gates, recurrent_kernel)
    input_bias = recurrent_bias = None
    if bias is not None:
        two_rows = len(bias.shape) == 2
        input_bias = _by_gate(gates, bias[0] if two_rows else bias)
        recurrent_bias = _by_gate(gates, bias[1]) if two_rows else None

    def factor(factors: Any, gate: str) -> Any:
        return factors[gates.index(gate) if factors.shape[0] > 1 else 0]

    def recurrent(h: Any, asked: tuple[str, ...]) -> Mapping[str, Any]:
        products = {}
        for gate in asked:
            entering = h if dropout_h is None else h * factor(dropout_h, gate)
            products[gate] = ops.matmul(entering, recurrent_kernels[gate])
            if recurrent_bias is not None:
                products[gate] = products[gate] + recurrent_bias[gate]
        return products

    def step(carry: Any, inputs: Any) -> Any:
        state, previous = dict(zip(spec.states, carry[:-1], strict=True)), carry[-1]
        x_t, keep = inputs
        gx = {}
        for gate in gates:
            entering = x_t if dropout_x is None else x_t * factor(dropout_x, gate)
            gx[gate] = ops.matmul(entering, kernels[gate])
            if input_bias is not None:
                gx[gate] = gx[gate] + input_bias[gate]
        new, record = spec.step(
            gx, state, recurrent, activation, recurrent_activation, **spec.choose(reset_after)
        )
        output = new["hidden_state"]
        if mask is not None:
            new = {name: ops.where(keep, new[name], state[name]) for name in new}
            record = {name: ops.where(keep, value, 0) for name, value in record.items()}
            output = ops.where(keep, output, previous)
        shown = ops.where(keep, output, 0) if mask is not None and zero_output_for_mask else output
        record |= new
        rows = {"sequence": shown} | {name: record[name] for name in spec.trace_names}
        return (*new.values(), output), rows

    time_major = ops.swapaxes(x, 0, 1)
    keeps = ops.ones_like(time_major[:, :, :1], dtype="bool")
    if mask is not None:
        keeps = ops.expand_dims(ops.swapaxes(mask, 0, 1), -1)
    if go_backwards:
        time_major, keeps = ops.flip(time_major, 0), ops.flip(keeps, 0)
    carry, rows = ops.scan(step, (*states, ops.zeros_like(states[0])), (time_major, keeps))
    results = {name: ops.swapaxes(value, 0, 1) for name, value in rows.items()}
    return (
        results
        | dict(zip(spec.state_outputs, carry[:-1], strict=True))
        | {"last_output": carry[-1]}
    )


def _by_gate(gates: tuple[str, ...], weights: Any) -> dict[str, Any]:
    return dict(zip(gates, ops.split(weights, len(gates), axis=-1), strict=True))
