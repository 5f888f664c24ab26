"""Writes docs/runtime-layers.md: the layers that the runtime knows, and which of them stream.

python tools/list_layers.py
"""

from __future__ import annotations

from pathlib import Path

from recurra.runtime import layers
from recurra.runtime.layer import LAYERS, Layer
from recurra.runtime.layers.activations import FUNCTIONS
from recurra.runtime.streaming import layers as lowerings
from recurra.runtime.streaming.lowering import LOWERINGS
from recurra.runtime.streaming.refusals import REASONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "runtime-layers.md"

LIMITS = {
    "RNN": "cells of Keras, and StackedRNNCells of them",
    "EinsumDense": "equations that keep the batch as first axis and repeat no letter",
    "Softmax": "a mask must broadcast to the input, as in Keras",
    "MultiHeadAttention": "an explicit query_mask is ignored, as in Keras",
    "GlobalMaxPooling1D": "masks are ignored, as in Keras",
}
"""What `predict` does not do of a layer, or does in a way to know of."""

CONDITIONS = {
    "LSTM": "with go_backwards=False",
    "GRU": "with go_backwards=False",
    "SimpleRNN": "with go_backwards=False",
    "CuDNNLSTM": "with go_backwards=False",
    "CuDNNGRU": "with go_backwards=False",
    "RNN": "with go_backwards=False",
    "TimeDistributed": "around layers that stream",
    "Embedding": "of inputs of the model",
    "Conv1D": 'with padding="causal" or kernel_size=1, strides=1, channels last',
    "DepthwiseConv1D": "with kernel_size=1",
    "SeparableConv1D": "with kernel_size=1",
    "Flatten": "of values without time steps",
    "Reshape": "of values without time steps",
    "BatchNormalization": "unless each time step has statistics of its own",
    "Normalization": "unless each time step has statistics of its own",
    "LayerNormalization": "with axis=-1",
    "RMSNormalization": "with axis=-1",
    "GroupNormalization": "of values without time steps",
    "Softmax": "with axis=-1, of values without a mask",
    "PReLU": "with shared_axes=[1]",
    "Concatenate": "with axis=-1",
}
"""What must hold for a layer with a lowering to stream."""


def streams(names: list[str], cls: type[Layer]) -> str:
    """The last column for the classes `names`, which the runtime's class `cls` stands for."""
    if not any(base in LOWERINGS for base in cls.__mro__):
        reasons = [REASONS[name][0] for name in names if name in REASONS]
        return "no: " + (reasons[0] if reasons else "the compiled plan has no operation for it")
    conditions = [CONDITIONS[name] for name in names if name in CONDITIONS]
    return f"yes, {conditions[0]}" if conditions else "yes"


def table() -> str:
    """The page."""
    layers.load()
    lowerings.load()
    named: dict[type[Layer], list[str]] = {}
    for name in layers.CLASSES:
        named.setdefault(LAYERS[name], []).append(name)
    lines = [
        "# The layers that `recurra.load` knows",
        "",
        "Written by `python tools/list_layers.py`. `predict` runs every layer below, with Keras's",
        "options, masks and call arguments, within 1e-5 of Keras's results; the last column says",
        "whether a model with it can be opened as a stream, and on what condition. `Lambda` and",
        "classes of your own run with a NumPy function that you give",
        "([runtime.md](runtime.md#whole-sequences)); such models do not stream. Masks end where",
        "they end in Keras: in convolutions, pooling, and layers that change shapes.",
        "",
        "| layer | `predict` | streams |",
        "|---|---|---|",
    ]
    for cls, names in named.items():
        limits = [LIMITS[name] for name in names if name in LIMITS]
        shown = ", ".join(f"`{name}`" for name in names)
        predicts = f"yes; {limits[0]}" if limits else "yes"
        lines.append(f"| {shown} | {predicts} | {streams(names, cls)} |")
    functions = ", ".join(f"`{name}`" for name in sorted(FUNCTIONS))
    lines += [
        "",
        "Also: `InputLayer`, models inside models, and functions of `keras.ops` that a model calls",
        "on its tensors (`x + y`, `x[:, -1]`).",
        "",
        "## Activations",
        "",
        f"{functions}; `swish` and `hard_swish` are `silu` and `hard_silu`.",
        "",
        "`hard_sigmoid` is that of Keras 3, x / 6 + 0.5 between -3 and 3, in files of Keras 2 too,",
        "where it was 0.2 x + 0.5: Keras 3 reads them so as well. `glu` and `sparsemax` do not",
        "stream.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
