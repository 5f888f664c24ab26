"""The cells of Keras's recurrent layers, as `scan` runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from recurra import reference
from recurra.insight.tracing.result import Array
from recurra.insight.tracing.scan import Run, TracedCell, engine_run, step_run
from recurra.layers import cells


def to_numpy(value: Any, what: str = "A layer") -> Array:
    """A tensor's numbers; half precision as float32, which holds them exactly.

    Args:
        value: the tensor.
        what: whose it is, for the error.

    Raises:
        RuntimeError: for a tensor that stands for numbers to come, inside of a compiled function.
    """
    try:
        array = np.asarray(ops.convert_to_numpy(value))
    except Exception as error:
        raise RuntimeError(
            f"{what} was called inside of a compiled or vectorised function "
            f"({type(value).__name__}), where its tensors have no numbers that could be traced. "
            "Call it outside of jax.jit, tf.function, vectorized_map and the like, or leave it out "
            "with layers=[...]."
        ) from error
    if array.dtype.name in ("float16", "bfloat16"):
        return array.astype(np.float32)
    return np.array(array)  # one's own, whatever the framework does with its memory


def traced_cells(layer: Any) -> list[TracedCell]:
    """The cells of a keras.layers.RNN, from the input upwards."""
    from recurra.insight.tracing.keras_conv import convolutional

    stack = cells.cells_of(layer)
    return [
        _known(layer, cell)
        or convolutional(layer, cell)
        or _users(layer, cell, alone=len(stack) == 1)
        for cell in stack
    ]


def computing(dtype: str) -> Any:
    """The type that the engine computes in for layers of a type."""
    return np.float64 if dtype == "float64" else np.float32


def rounded(array: Array, dtype: str) -> Array:
    """An array as a layer of some type sees it, in the type that it computes in."""
    if dtype == "bfloat16":
        return reference.to_bfloat16(array).astype(np.float32)
    if dtype == "float16":
        array = array.astype(np.float16)
    return array.astype(computing(dtype), copy=False)


def _known(layer: Any, cell: Any) -> TracedCell | None:
    spec = cells.spec_of(cell)
    if spec is None:
        return None
    dtype = cell.compute_dtype
    weights = {
        name: None if value is None else to_numpy(value).astype(computing(dtype))
        for name, value in cells.weights(cell).items()
    }
    config, run = None, None
    if cells.obstacle(cell) is None:
        config = cells.engine_config(cell, go_backwards=False, zero_output_for_mask=False)
        config = config.computing(dtype)
        run = engine_run(config, **weights)  # type: ignore[arg-type]
    else:
        run = step_run(
            spec.name,
            **weights,  # type: ignore[arg-type]
            activation=_on_arrays(cell.activation),
            recurrent_activation=_on_arrays(getattr(cell, "recurrent_activation", None)),
            reset_after=getattr(cell, "reset_after", None),
        )
    functions = {gate.name: function_name(getattr(cell, gate.role)) for gate in spec.gate_table}
    info = {
        "class_name": type(layer).__name__,
        "layer_name": layer.name,
        "cell_class": type(cell).__name__,
        "units": int(cell.units),
        "features": int(cell.kernel.shape[0]),
        "activations": functions,
        "options": spec.choose(getattr(cell, "reset_after", None)),
        "dtype": dtype,
    }
    return TracedCell(
        spec.name,
        run,
        len(spec.states),
        info,
        prepare=lambda x: rounded(x, dtype),
        config=config,
        weights=weights,
        cell=cell,
    )


def _on_arrays(function: Callable[[Any], Any] | None) -> Callable[[Array], Array]:
    """A framework's function as one of NumPy arrays."""

    def apply(values: Array) -> Array:
        if function is None:
            return values
        return to_numpy(function(ops.convert_to_tensor(values))).astype(values.dtype)

    return apply


def function_name(function: Any) -> str:
    """What to call an activation."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _users(layer: Any, cell: Any, *, alone: bool) -> TracedCell:
    dtype = getattr(cell, "compute_dtype", None) or layer.compute_dtype
    info = {
        "class_name": type(layer).__name__,
        "layer_name": layer.name,
        "cell_class": type(cell).__name__,
        "dtype": dtype,
    }

    def initial(batch: int) -> Any:
        # A layer may override what its cell says.
        states = layer.get_initial_state(batch) if alone else _initial(cell, batch, dtype)
        return states if tree.is_nested(states) else [states]

    states = len(tree.flatten(initial(1)))
    run = _eager_run(cell, dtype, initial)
    return TracedCell(None, run, states, info, cell=cell, initial=initial)


def _eager_run(cell: Any, dtype: str, initial: Callable[[int], Any]) -> Run:
    """The scan of any cell, step by step on the host."""
    arguments = {}
    if isinstance(cell, keras.Layer) and cell._call_has_training_arg:
        arguments["training"] = False

    def run(x: Array, states: Sequence[Array] | None, mask: Array | None) -> dict[str, Array]:
        batch, time_steps = x.shape[:2]
        example = initial(batch)
        given = tree.flatten(example)
        if states is not None:
            given = [ops.convert_to_tensor(state, dtype=dtype) for state in states]
        state = [to_numpy(each) for each in given]
        output: Array | None = None
        rows: list[list[Array]] = []
        for t in range(time_steps):
            tensors = [ops.convert_to_tensor(each, dtype=dtype) for each in state]
            x_t = ops.convert_to_tensor(x[:, t], dtype=dtype)
            made, new = cell(x_t, tree.pack_sequence_as(example, tensors), **arguments)
            made, new = to_numpy(made), [to_numpy(each) for each in tree.flatten(new)]
            if mask is not None:
                keep = mask[:, t]
                previous = np.zeros_like(made) if output is None else output
                made = held_back(keep, made, previous)
                new = [held_back(keep, a, b) for a, b in zip(new, state, strict=True)]
            output, state = made, new
            rows.append([made, *new])
        names = ["hidden_state", *(f"state_{index}" for index in range(len(state)))]
        if not rows:
            empty = [state[0], *state]
            found = {
                n: np.zeros((batch, 0, *e.shape[1:]), e.dtype)
                for n, e in zip(names, empty, strict=True)
            }
        else:
            found = {
                name: np.stack(steps, axis=1)
                for name, steps in zip(names, zip(*rows, strict=True), strict=True)
            }
        return found | {"sequence": found["hidden_state"]}

    return run


def _initial(cell: Any, batch: int, dtype: str) -> Any:
    """A cell's initial states, nested as the cell takes them."""
    get = getattr(cell, "get_initial_state", None)
    if get is not None:
        return get(batch_size=batch)
    return tree.map_structure(lambda size: ops.zeros((batch, size), dtype=dtype), cell.state_size)


def held_back(keep: Array, a: Array, b: Array) -> Array:
    """Rows of `a` where keep, (batch,) of bool, is True, else of b: a mask's effect on a step."""
    return np.where(keep.reshape(-1, *[1] * (a.ndim - 1)), a, b)
