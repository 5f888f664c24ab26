"""Why layers that have no lowering cannot run step by step, and what to do instead."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.runtime.custom import FunctionLayer
from recurra.runtime.layer import Layer
from recurra.runtime.streaming.lowering import Value

_ATTENTION = (
    "it attends to the whole sequence, also to steps that have not come yet",
    "use a recurrent layer or a causal Conv1D in its place",
)
_RATE = (
    "it gives another number of time steps than it gets",
    "leave it out of the model, or thin out the stream before it enters",
)
_GLOBAL = (
    "it pools over all time steps, also those that have not come yet",
    "use the last output of a recurrent layer (return_sequences=False)",
)

REASONS = {
    "Bidirectional": (
        "its backward layer starts from the sequence's end, which a stream does not have",
        "train with the forward layer alone",
    ),
    "Attention": _ATTENTION,
    "AdditiveAttention": _ATTENTION,
    "MultiHeadAttention": _ATTENTION,
    "GroupQueryAttention": _ATTENTION,
    "GroupedQueryAttention": _ATTENTION,
    "GlobalMaxPooling1D": _GLOBAL,
    "GlobalAveragePooling1D": _GLOBAL,
    "MaxPooling1D": _RATE,
    "AveragePooling1D": _RATE,
    "UpSampling1D": _RATE,
    "Conv1DTranspose": _RATE,
    "RepeatVector": (
        "it makes a number of time steps that is fixed in the model, and a stream has no number "
        "of them",
        "give the repeated features with every time step as inputs of the model",
    ),
    "Cropping1D": (
        "it drops time steps",
        "crop the sequences before they enter the model",
    ),
    "ZeroPadding1D": (
        "it adds time steps",
        'use Conv1D with padding="causal", which pads by itself',
    ),
    "Permute": ("it moves the time axis", "permute the arrays before they enter the model"),
    "Dot": (
        "it multiplies along axes that time is among",
        "use Multiply, or Dot on values without time steps",
    ),
}


def refusal(layer: Layer, inputs: Sequence[Value]) -> tuple[str, str]:
    """The reason, and what to do, for a layer that has no lowering."""
    if layer.keras_class in REASONS and not isinstance(layer, FunctionLayer):
        return REASONS[layer.keras_class]
    if isinstance(layer, FunctionLayer):
        return (
            "it is computed by a Python function, and a stream's steps run in the compiled engine",
            "build it from Keras's layers",
        )
    return "the compiled plan has no operation for it", ""
