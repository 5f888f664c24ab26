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

    Args:
        model: a built Keras model (functional, Sequential, subclassed) or layer, of Keras's own or
            Recurra's layers; or what `recurra.load` gives, or a file that it reads.
        x: what the model takes: (batch, time_steps, features), a list, or a dict.
        mask: (batch, time_steps), True where a step is real; None to leave it to the model's own
            Masking and Embedding layers.
        layers: names of layers to trace, or the layers; None for all.
        loss: a loss of Keras's, by name or as a function, to trace gradients too.
        y: the targets that `loss` compares the model's output with.

    Returns:
        The trace.
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
    from recurra.insight.tracing.keras_models import trace_keras

    return trace_keras(model, x, mask, layers, loss, y)
