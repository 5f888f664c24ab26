"""The states that stateful layers keep from batch to batch.

Keras's JAX trainer and `stateless_call` carry a layer's `variables` from step to step; saved files,
`get_weights` and `count_params` are about its `weights`. States have to be the former and not the
latter. Keras has one kind of object that is: seed generators, whose `state` is among `variables`
alone. The states therefore stand among a layer's seed generators.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
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
            "time_steps, features)) or build the layer with a full shape. If batches do not "
            "continue each other, leave stateful=True out."
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


def check_batch(layer: Any, batch: int | None) -> None:
    """Raise ValueError unless a stateful layer's input has the batch that it was built for.

    Args:
        layer: a built stateful layer.
        batch: the input's number of sequences; None if it is not known.
    """
    expected = layer._expected_batch_size
    if expected is None or batch is None or batch == expected:
        return
    if keras.backend.backend() == "jax":
        _return_values()
    raise ValueError(
        "If an RNN is stateful, the batch size of the input sequences must be the same as the "
        "batch size of the initial state. \n"
        f"- Expected batch size: {expected}\n"
        f"- Received batch size: {batch}\n"
        f"Layer {layer.name!r} keeps a state for each of {expected} sequences. Give fit, evaluate "
        f"and predict batch_size={expected} and a multiple of {expected} sequences (drop the rest, "
        "or pad it), or build a model with another batch and the same weights."
    )


def _return_values() -> None:
    """Put back what a running fit, evaluate or predict took out of its model's variables.

    Keras's JAX trainer leaves the variables empty while it loops, and keeps the values in a local
    variable: an error in the first batch, or a last batch of another size in predict, would lose
    the weights of the model for good.
    """
    state: Any = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals.get("state")
        if state is None and _concrete(found):
            state = found
        trainer: Any = frame.f_locals.get("self")
        kinds = _LOOPS.get(frame.f_code.co_name)
        if kinds is not None and state is not None and hasattr(trainer, "jax_state_sync"):
            for kind, values in zip(kinds, state, strict=False):
                owner, attribute = (
                    (trainer.optimizer, "variables") if kind == "optimizer" else (trainer, kind)
                )
                for variable, value in zip(getattr(owner, attribute), values, strict=False):
                    if variable._value is None:
                        variable._value = value
            return
        frame = frame.f_back


_LOOPS = {
    "fit": (
        "trainable_variables",
        "non_trainable_variables",
        "optimizer",
        "metrics_variables",
    ),
    "evaluate": ("trainable_variables", "non_trainable_variables", "metrics_variables"),
    "predict": ("trainable_variables", "non_trainable_variables"),
}


def _concrete(state: Any) -> bool:
    """Whether this is a trainer's state, of arrays that are there and not being traced."""
    if not (isinstance(state, tuple) and state and all(isinstance(v, list) for v in state)):
        return False
    values = [value for each in state for value in each]
    return not any(
        jax_utils.is_in_jax_tracing_scope(v) or getattr(v, "is_deleted", lambda: True)()
        for v in values
    )


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
    if states is None and layer.states is None:
        return
    new = check(layer, states)
    for variable, value in zip(tree.flatten(layer.states), new, strict=True):
        _check_held(layer, variable)
        variable.assign(ops.cast(value, variable.dtype))


def check(layer: Any, states: Any = None) -> list[Any]:
    """The values that `reset` would set, flat; its ValueError if they do not fit."""
    if layer.states is None:
        why = (
            "it is not built yet: call it once, or build((batch, time_steps, features))"
            if getattr(layer, "stateful", False)
            else "it was made without stateful=True; pass layer(x, initial_state=...) instead"
        )
        raise ValueError(f"reset_state(states=...): layer {layer.name!r} keeps no states, {why}.")
    variables = tree.flatten(layer.states)
    if states is None:
        return tree.flatten(layer.get_initial_state(batch_size=variables[0].shape[0]))
    return _fitting(layer, states)


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
