"""Recording what goes on inside of a model: `recurra.trace`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from recurra.insight.tracing.result import LayerTrace, Trace

__all__ = ["LayerTrace", "Trace", "trace"]


def trace(
    model: Any,
    x: Any,
    mask: Any = None,
    layers: Sequence[Any] | None = None,
    loss: Any = None,
    y: Any = None,
) -> Trace:
    """Every recurrent layer's input, states and gates at every step, for one batch.

    The model runs once, in inference, and stays as it is: weights, states of stateful layers and
    seeds are the same afterwards. What each recurrent layer was given is kept, and its scan is
    computed from that and its weights by Recurra's engine in NumPy, whatever the host and whoever's
    layers they are; so a loaded model gives the same numbers as the Keras model that was saved.
    Traces of Keras models in several threads wait for each other; training the model, or running a
    stateful one, has to wait for its trace, which puts states and counters back.

    Args:
        model: a built Keras model (functional, Sequential, subclassed) or layer, of Keras's own or
            Recurra's layers; what `recurra.load` gives; or the path of a file that it reads.
        x: what the model takes: (batch, time_steps, features), a list, or a dict. All rows are
            traced: choose those that you want to see.
        mask: (batch, time_steps), True where a step is real, nested like x; None to leave it to the
            model's own Masking and Embedding layers.
        layers: which ones to trace: paths or ends of paths, as the trace calls them, layers' own
            names, or the layers; None for all.
        loss: to trace gradients too: a loss of Keras's, by name or as a function; None for the one
            that the model was compiled with, if y is given.
        y: the targets that the loss compares the model's output with.

    Returns:
        The trace: `trace["lstm"]["hidden_state"]` is (batch, time_steps, units). Layers inside of
        models and layers are called "encoder/lstm", directions "bi/forward_layer", cells of a stack
        "rnn/cell_0", the second call of a shared layer "lstm:2", a layer in TimeDistributed
        "td/layer" (its rows are batch · items). Arrays are float32, or float64 for layers of that
        type. Layers of half precision are shown as the engine computes them: inputs and sequences
        between layers in half precision, sums and states in float32 (with bfloat16, products of
        bfloat16 numbers).

    Raises:
        ValueError: for a model that is not built, or inputs that do not fit.
        KeyError: for a name in `layers` that the model does not have; lists those it has.
        TypeError: if `model` is something else.
        RuntimeError: for a layer that is called inside of jax.jit or the like, where its input has
            no numbers.
        NotImplementedError: for a loss with a loaded model, which cannot run backwards.

    Warns:
        UserWarning: if a layer gave something else than its cell computes, because its class does
            more: the trace shows the cell alone.

    Example:
        >>> trace = recurra.trace(model, x)
        >>> trace["lstm"]["forget_gate"].mean("batch")  # with xarray
        >>> trace["lstm"].arrays["cell_state"][0, -1]  # NumPy, the last step of the first row
    """
    from recurra.runtime.model import Runtime, load

    if isinstance(model, (str, os.PathLike)):
        model = load(model)
    if isinstance(model, Runtime):
        if loss is not None or y is not None:
            raise NotImplementedError(
                "Gradients need the framework that the model was trained in: a loaded model only "
                "runs forwards. Load it with recurra.models.load_model(path) (or "
                "keras.saving.load_model) and trace that, or leave loss= and y= out."
            )
        from recurra.insight.tracing.runtimes import trace_runtime

        return trace_runtime(model, x, mask, layers)
    if not any(cls.__module__.startswith("keras.") for cls in type(model).__mro__):
        raise TypeError(
            "trace(model, x): expected a Keras model or layer, what recurra.load gave, or the path "
            f"of a model's file; got {type(model).__name__}."
        )
    is_model = any(cls.__name__ == "Model" for cls in type(model).__mro__)
    if hasattr(model, "state_size") and not (is_model or hasattr(model, "return_sequences")):
        raise TypeError(
            f"trace(model, x): got {type(model).__name__} {model.name!r}, a cell, which computes a "
            "single step; trace the layer that runs it: RNN(cell)."
        )
    from recurra.insight.tracing.keras_models import trace_keras

    return trace_keras(model, x, mask, layers, loss, y)
