"""Bidirectional wrapper that keeps Recurra's layers what they are."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

from recurra.layers.fused import FusedRNN
from recurra.layers.saving import recurra_classes, register


@register
class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` for Recurra's layers and all others.

    Keras's wrapper makes its two layers from the given layer's configuration, by class name, and so
    would make stock layers of Recurra's.

    Args:
        layer: the layer for the forward direction.
        merge_mode, weights, backward_layer, **kwargs: as for keras.layers.Bidirectional.

    Returns, when called:
        As keras.layers.Bidirectional: for a layer returning (B, T, U), (B, T, 2·U).

    Raises:
        ValueError: as keras.layers.Bidirectional does, and for a layer with return_trace=True but
            not return_state=True.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import LSTM, Bidirectional
        >>> Bidirectional(LSTM(4))(np.zeros((3, 5, 2))).shape
        (3, 8)
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        ours = isinstance(layer, FusedRNN)
        recurrent: list[Any] = [v for v in (layer, backward_layer) if isinstance(v, FusedRNN)]
        for inner in recurrent:
            if inner.return_trace and not inner.return_state:
                raise ValueError(
                    f"Bidirectional got layer {inner.name!r} with return_trace=True and "
                    "return_state=False. It hands on what comes after a layer's output as states: "
                    "add return_state=True to get, for either direction, the states and the trace, "
                    "or leave return_trace out."
                )
        with recurra_classes() if ours else contextlib.nullcontext():
            super().__init__(
                layer,
                merge_mode=merge_mode,
                weights=weights,
                backward_layer=backward_layer,
                **kwargs,
            )

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The layer that `get_config` describes, with Recurra's recurrent layers inside."""
        with recurra_classes():
            return super().from_config(config, custom_objects=custom_objects)
