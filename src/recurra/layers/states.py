"""The states that stateful layers keep from batch to batch.

Keras's JAX trainer and `stateless_call` carry a layer's `variables` from step to step; saved files,
`get_weights` and `count_params` are about its `weights`. States have to be the former and not the
latter. Keras has one kind of object that is: seed generators, whose `state` is among `variables`
alone. The states therefore stand among a layer's seed generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.src import backend
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.utils import jax_utils, tracking


class _Kept:
    """A state variable, looking to Keras like the seed generator that it stands among."""

    def __init__(self, variable: Any) -> None:
        self.state = variable


def create(layer: Any, batch: int | None) -> None:
    """Make `layer.states`, the variables of a stateful layer, with its initial states.

    To be called from `build`, after the cell is built.

    Args:
        layer: the layer; its `get_initial_state` gives the structure, shapes and values.
        batch: the number of sequences that the layer is going to follow.

    Raises:
        ValueError: if the batch is not known.
    """
    if batch is None:
        raise ValueError(
            "When using `stateful=True` in a RNN, the batch size must be static. Found dynamic "
            f"batch size in layer {layer.name!r}: give the model keras.Input(batch_shape=(batch, "
            "time_steps, features)) or build the layer with a full shape."
        )
    batch = int(batch)
    example = layer.get_initial_state(batch_size=batch)
    dtype = layer.variable_dtype

    def make(index: int, shape: tuple[int, ...]) -> Any:
        # A function, because variables that come to be while Keras traces a model get their values
        # later.
        def initial(shape: Any, dtype: Any = None) -> Any:
            return ops.cast(tree.flatten(layer.get_initial_state(batch_size=batch))[index], dtype)

        return backend.Variable(
            initial, shape=shape, dtype=dtype, trainable=False, name="rnn_state"
        )

    with tracking.DotNotTrackScope(), backend.name_scope(layer.name, caller=layer):
        variables = [make(i, tuple(s.shape)) for i, s in enumerate(tree.flatten(example))]
        layer.states = tree.pack_sequence_as(example, variables)
    layer._expected_batch_size = batch
    # In place: Keras's tracker holds this list and, once the layer is built, is locked.
    generators = layer._seed_generators
    generators[:] = [each for each in generators if not isinstance(each, _Kept)]
    generators += [_Kept(variable) for variable in variables]
    for variable in variables:
        layer._post_track_variable(variable)


def read(layer: Any) -> Any:
    """The present states as tensors for one call, nested as `get_initial_state` gives them.

    The tensors are no views of the variables, which `assign` overwrites while a gradient of this
    call may still be wanted; no gradient flows into them.
    """
    return tree.map_structure(_value, layer.states)


def _value(variable: Any) -> Any:
    value = ops.convert_to_tensor(variable.value)
    if keras.backend.backend() == "torch":
        value = ops.copy(value)
    return ops.stop_gradient(value)


def assign(layer: Any, states: Any) -> None:
    """Keep a call's final states for the next call.

    Args:
        layer: a built stateful layer.
        states: tensors, nested as `layer.states` or flat.

    Raises:
        RuntimeError: inside of jax.jit or jax.grad, where the states would be lost.
    """
    new = tree.flatten(states)
    if any(jax_utils.is_in_jax_tracing_scope(state) for state in new) and not in_stateless_scope():
        raise RuntimeError(
            f"Layer {layer.name!r} is stateful and was called while JAX traces a function; its new "
            "states cannot leave that function by themselves. Inside of jax.jit, jax.grad and the "
            "like, use `outputs, non_trainable_variables = model.stateless_call("
            "trainable_variables, non_trainable_variables, x)`: the states are among "
            "model.non_trainable_variables. Or leave stateful=False and pass initial_state."
        )
    for variable, state in zip(tree.flatten(layer.states), new, strict=True):
        variable.assign(ops.stop_gradient(state))


def reset(layer: Any, states: Any = None) -> None:
    """Set a stateful layer's states to the given ones, or to its initial states.

    Args:
        layer: a recurrent layer. Without `states`, one that keeps none is left alone.
        states: arrays or tensors, nested as `layer.states` (a list, one per state, or one list per
            cell) or in one flat list; an array alone where there is one state. None for the initial
            states, which for Keras's own cells are zeros.

    Raises:
        ValueError: if `states` do not fit in number or shape, or the layer keeps none.
        RuntimeError: if fit, evaluate or predict holds the states at the moment.
    """
    if layer.states is None:
        if states is None:
            return
        why = (
            "it is not built yet: call it once, or build((batch, time_steps, features))"
            if getattr(layer, "stateful", False)
            else "it was made without stateful=True; pass layer(x, initial_state=...) instead"
        )
        raise ValueError(f"reset_state(states=...): layer {layer.name!r} keeps no states, {why}.")
    variables = tree.flatten(layer.states)
    if states is None:
        new = tree.flatten(layer.get_initial_state(batch_size=variables[0].shape[0]))
    else:
        new = _fitting(layer, states)
    for variable, value in zip(variables, new, strict=True):
        _check_held(layer, variable)
        variable.assign(ops.cast(value, variable.dtype))


def _check_held(layer: Any, variable: Any) -> None:
    # On JAX the trainer takes the values out of the variables, and puts them back at the end of an
    # epoch: what is assigned in between would be lost.
    if variable._value is None and variable._initializer is None and not in_stateless_scope():
        raise RuntimeError(
            f"The states of layer {layer.name!r} are held by the model's fit, evaluate or predict, "
            "which runs. Call model.jax_state_sync() first (a callback's self.model does so), or "
            "reset at the beginning or the end of an epoch."
        )


def _fitting(layer: Any, states: Any) -> list[Any]:
    """`states` as a flat list that fits the layer's variables; ValueError if they do not."""
    expected = layer.states
    wanted = [f"{path}: {tuple(v.shape)}" for path, v in _leaves(expected)]
    call = f"reset_state(states=...) of layer {layer.name!r}"
    given: Any = states
    variables = tree.flatten(expected)
    if hasattr(given, "shape"):
        given = [given]
    if not isinstance(given, (list, tuple)):
        raise ValueError(
            f"{call} got {type(states).__name__}; expected a list of arrays: {'; '.join(wanted)}."
        )
    flat = tree.flatten(_arrays(given, expected))
    nested = isinstance(expected, (list, tuple)) and any(tree.is_nested(e) for e in expected)
    if len(flat) != len(variables):
        raise ValueError(
            f"{call} got {len(flat)} {'array' if len(flat) == 1 else 'arrays'}; expected "
            f"{len(variables)}{', one list per cell' if nested else ''}: {'; '.join(wanted)}."
        )
    for (path, variable), value in zip(_leaves(expected), flat, strict=True):
        got = getattr(value, "shape", None)
        shape = tuple(variable.shape)
        if got is None or tuple(got) != shape:
            shown = f"{tuple(got)}" if got is not None else f"a {type(value).__name__}"
            hint = ""
            if got is not None and tuple(got)[1:] == shape[1:]:
                hint = (
                    f" The layer was built for a batch of {shape[0]}: give every sequence of that "
                    "batch its state."
                )
            raise ValueError(f"{call}: states{path} has shape {shown}; expected {shape}.{hint}")
    return flat


def _arrays(given: Any, expected: Any) -> Any:
    """`given` with arrays in place of Python lists of numbers."""
    if isinstance(given, (list, tuple)):
        first = given
        while isinstance(first, (list, tuple)) and first:
            first = first[0]
        if isinstance(first, (bool, int, float, np.generic)) and not hasattr(given, "_fields"):
            array = np.asarray(given)
            several = array.ndim > tree.flatten(expected)[0].ndim
            return list(array) if several else array
        return [_arrays(each, expected) for each in given]
    return given


def _leaves(states: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(states, (list, tuple)):
        for index, each in enumerate(states):
            yield from _leaves(each, f"{path}[{index}]")
    else:
        yield path, states


def stateful_layers(model: Any) -> dict[str, Any]:
    """The built layers of a model that keep states, by path.

    Args:
        model: a model or a layer.

    Returns:
        The layers by their names, with the names of the layers they are in, as in
        "encoder/bidirectional/forward_lstm". Wrappers themselves are not among them.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def visit(layer: Any, path: str) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        inner = layer._layers
        # A wrapper (Bidirectional) shows the states of the layers inside.
        wraps = any(hasattr(each, "states") for each in inner)
        if getattr(layer, "states", None) is not None and not wraps:
            key, count = path, 1
            while key in found:
                count += 1
                key = f"{path}#{count}"
            found[key] = layer
        for each in inner:
            visit(each, f"{path}/{each.name}" if path else each.name)

    if getattr(model, "states", None) is not None:
        visit(model, model.name)
    else:
        visit(model, "")
    return found


def synchronize(model: Any) -> None:
    """Have the variables hold the values that a running fit, evaluate or predict carries."""
    sync: Callable[[], None] | None = getattr(model, "jax_state_sync", None)
    if sync is not None:
        sync()
