"""The loss that gradients are traced of, as a function of a Keras model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.src import backend
from keras.src.trainers.compile_utils import CompileLoss


def evaluator(model: Any, loss: Any, y: Any) -> Callable[[Any], Any]:
    """A function that gives the loss, a scalar tensor, of a model's outputs.

    It changes nothing that outlives a call. Weights' regularizers and what layers add with
    `add_loss` are not part of it.

    Args:
        model: whose outputs they are.
        loss: as `Model.compile` takes it; a function of the outputs alone if y is None; None for
            the loss that the model was compiled with.
        y: the targets; None if the loss needs none.

    Raises:
        ValueError: if there is no loss, or no targets for it.
    """
    weights = None
    if loss is None:
        compiled = getattr(model, "_compile_loss", None)
        if compiled is None:
            raise ValueError(
                f"y was given without loss, and {model.name!r} was not compiled with one. Pass "
                'what y is compared by, as in loss="mse", or compile the model with a loss.'
            )
        loss, weights = compiled._user_loss, compiled._user_loss_weights
    elif y is None:
        if not callable(loss) or isinstance(loss, keras.losses.Loss):
            raise ValueError(
                f"loss={loss!r} was given without y. Pass the targets as y=..., or a function of "
                "the model's outputs alone, as in loss=lambda outputs: outputs[:, 0]."
            )
        return lambda outputs: _scalar(loss(outputs))
    given = CompileLoss(loss, weights, output_names=getattr(model, "output_names", None))
    targets = tree.map_structure(_target, y)

    def evaluate(outputs: Any) -> Any:
        _check_rows(targets, outputs)
        if not given.built:
            # Makes a metric for each of several losses, which must not happen in a scope.
            given.build(targets, outputs)
        with backend.StatelessScope():
            value = given(targets, outputs)
        if value is None:
            raise ValueError(
                f"loss={loss!r} does not apply to any output of {model.name!r}; pass a loss for "
                "at least one."
            )
        return _scalar(value)

    return evaluate


def _target(value: Any) -> Any:
    if backend.is_tensor(value):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "USO":
        raise ValueError(
            f"y is {array.dtype} ({type(value).__name__}); expected numbers, the targets. The loss "
            "is loss=, as in loss='mse', y=targets."
        )
    if array.dtype == np.float64:
        array = array.astype(keras.config.floatx())
    return ops.convert_to_tensor(array)


def _check_rows(targets: Any, outputs: Any) -> None:
    """Raise ValueError where broadcasting would compare every row with another's target."""
    rows = next((int(tensor.shape[0]) for tensor in tree.flatten(outputs)), 0)
    for target in tree.flatten(targets):
        if not len(target.shape) or int(target.shape[0]) != rows:
            raise ValueError(
                f"y has an array of shape {tuple(target.shape)}; expected a target for each of the "
                f"{rows} rows of the model's output."
            )


def _scalar(value: Any) -> Any:
    """A loss as float32; one value per row, as loss functions give them, is averaged."""
    if not backend.is_tensor(value):
        raise ValueError(
            f"loss gave a {type(value).__name__}; expected a tensor, computed from the model's "
            "outputs with keras.ops or the framework's own functions."
        )
    value = ops.mean(value) if len(value.shape) else value
    return ops.cast(value, "float32")
