"""What Keras layers do with masks, asked of the layers themselves."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from recurra.insight.structure.calls import Call, Value, first_on, nothing
from recurra.insight.structure.keras_layers import is_recurrent

_MAKERS = (keras.layers.Masking, keras.layers.Embedding)

_USERS = (
    "AdditiveAttention",
    "Attention",
    "GlobalAveragePooling1D",
    "GroupedQueryAttention",
    "MultiHeadAttention",
    "Average",
    "Maximum",
    "Minimum",
    "Softmax",
)
"""Layers whose results at real steps, or over all steps, depend on the mask."""


def makes_mask(layer: Any) -> bool:
    """Whether a layer makes a mask, by itself or for every item of a sequence."""
    while isinstance(layer, keras.layers.TimeDistributed):
        if type(layer).compute_mask is keras.Layer.compute_mask:
            return False  # Keras's own does not ask its layer for a mask
        layer = layer.layer
    return isinstance(layer, _MAKERS) and getattr(layer, "mask_zero", True)


def masks_of(layer: Any, call: Call) -> None:
    """Fill in what a call does with masks.

    Args:
        layer: the Keras layer or operation.
        call: the call; its inputs have shapes already.
    """
    if not isinstance(layer, keras.Layer):
        return
    call.makes = makes_mask(layer)
    call.takes = isinstance(layer, keras.layers.MultiHeadAttention)
    call.uses = isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)) or (
        is_recurrent(layer) or type(layer).__name__ in _USERS or _takes_mask(layer)
    )
    if not layer.supports_masking:
        call.hands = nothing
    elif type(layer).compute_mask is keras.Layer.compute_mask:
        call.hands = first_on
    elif is_recurrent(layer) and not isinstance(layer, keras.layers.TimeDistributed):
        call.hands = _recurrent_hands(layer)
    else:
        call.hands = _asked(layer, [*call.inputs])


def _takes_mask(layer: Any) -> bool:
    """Whether a layer of the user's has a `mask` argument, which Keras fills in."""
    own = type(layer).__module__.partition(".")[0] not in ("keras", "recurra")
    return own and "mask" in inspect.signature(layer.call).parameters


def _recurrent_hands(layer: Any) -> Any:
    inner = getattr(layer, "forward_layer", layer)
    outputs = 2 if getattr(layer, "merge_mode", "") is None else 1

    def hands(masked: Sequence[bool], count: int) -> Sequence[bool]:
        kept = bool(inner.return_sequences and masked and masked[0])
        return [kept and index < outputs for index in range(count)]

    return hands


def _asked(layer: Any, inputs: Sequence[Value]) -> Any:
    """`compute_mask` called on tensors that stand for the call's."""

    def hands(masked: Sequence[bool], count: int) -> Sequence[bool]:
        tensors = [keras.KerasTensor(v.shape or (None,), dtype=v.dtype) for v in inputs]
        masks = [
            keras.KerasTensor((v.shape or (None,))[:2], "bool") if has else None
            for v, has in zip(inputs, masked, strict=False)
        ]
        several = len(tensors) > 1
        try:
            with keras.StatelessScope():
                made = layer.compute_mask(
                    tensors if several else tensors[0], masks if several else masks[0]
                )
        except Exception:  # a layer of the user's, or one that wants values
            return nothing(masked, count)
        flat = [each is not None for each in tree.flatten(made)] if made is not None else []
        return [*flat[:count], *[False] * (count - len(flat))]

    return hands
