"""Layers of Keras, each in several configurations, for the runtime's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurra.runtime.layers.activations import PARAMETERS


@dataclass(frozen=True)
class Case:
    """A layer's class and configuration, its inputs' shapes without the batch, and their masks."""

    class_name: str
    config: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]
    masks: Sequence[bool] = ()
    call: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [f"{k}={v}" for k, v in {**self.config, **self.call}.items()]
        marks = "".join(" *" if m else " -" for m in self.masks)
        text = f"{self.class_name}({', '.join(shown)}) {list(self.shapes)}{marks}"
        return text.replace("\n", "")[:120]


def case(
    class_name: str,
    *shapes: tuple[int, ...],
    masks: Sequence[bool] = (),
    call: Mapping[str, Any] | None = None,
    **config: Any,
) -> Case:
    return Case(class_name, config, shapes, masks, call or {})


X = (6, 4)  # (time_steps, features)
# Every activation but glu, which halves its input, and threshold, which has no defaults.
ACTIVATIONS = [name for name in PARAMETERS if name not in ("glu", "threshold")]

PRODUCTS = [
    case("Dense", (5,), units=3),
    case("Dense", X, units=3, activation="relu", masks=[True]),
    case("Dense", (2, 3, 4), units=5, use_bias=False, activation="softmax"),
    case("EinsumDense", X, equation="abc,cd->abd", output_shape=(None, 7), bias_axes="d"),
    case("EinsumDense", X, equation="abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"),
    case("EinsumDense", X, equation="abc,cde->abed", output_shape=(None, 3, 2), bias_axes="d"),
    case("EinsumDense", X, equation="...x,xy->...y", output_shape=5, activation="tanh"),
    case("EinsumDense", (2, 3, 4), equation="...x,xy->...y", output_shape=5, bias_axes="y"),
    case("EinsumDense", X, equation="ab...,bc->ac...", output_shape=5, bias_axes="c"),
    case("EinsumDense", X, equation="abc,bcd->abd", output_shape=(6, 5), bias_axes="bd"),
    case("EinsumDense", X, equation="abc,bc->a", output_shape=()),
    case("EinsumDense", X, equation="abc,bd->adc", output_shape=(3, 4), masks=[True]),
]

CONVOLUTIONS = [
    *(
        case("Conv1D", (9, 4), filters=6, kernel_size=3, padding=padding, **more)
        for padding in ("causal", "same", "valid")
        for more in ({}, {"strides": 2}, {"dilation_rate": 2, "activation": "relu"})
    ),
    case("Conv1D", (9, 4), filters=6, kernel_size=4, strides=3, padding="same", groups=2),
    case("Conv1D", (9, 4), filters=4, kernel_size=1, groups=4, use_bias=False, masks=[True]),
    case("Conv1D", (4, 9), filters=3, kernel_size=2, data_format="channels_first"),
    case("Conv1D", (3, 4), filters=2, kernel_size=5, padding="same"),
    case("Conv1D", (3, 4), filters=2, kernel_size=5, padding="causal", dilation_rate=3),
    case("Conv2D", (7, 6, 2), filters=3, kernel_size=(3, 2), strides=(2, 1), padding="same"),
    case("Conv2D", (7, 6, 2), filters=3, kernel_size=2, dilation_rate=2, activation="elu"),
    case("Conv3D", (4, 5, 3, 2), filters=3, kernel_size=2),
    case("DepthwiseConv1D", (9, 3), kernel_size=3, depth_multiplier=2),
    case("DepthwiseConv1D", (9, 3), kernel_size=4, padding="same", strides=2, use_bias=False),
    case("DepthwiseConv1D", (3, 9), kernel_size=3, data_format="channels_first"),
    case("DepthwiseConv2D", (7, 6, 2), kernel_size=3, padding="same", activation="relu"),
    case("SeparableConv1D", (9, 3), filters=5, kernel_size=3, depth_multiplier=2),
    case("SeparableConv1D", (9, 3), filters=5, kernel_size=3, padding="same", dilation_rate=2),
    *(
        case("Conv1DTranspose", (5, 4), filters=3, kernel_size=size, padding=padding, **more)
        for padding in ("same", "valid")
        for size, more in (
            (3, {}),
            (2, {"strides": 3, "use_bias": False}),
            (5, {"strides": 2, "activation": "relu"}),
            (3, {"dilation_rate": 2}),
        )
    ),
    case("Conv2DTranspose", (4, 5, 2), filters=3, kernel_size=(3, 2), strides=2, padding="same"),
    case("SeparableConv2D", (7, 6, 2), filters=3, kernel_size=3, padding="same"),
]

POOLING = [
    *(
        case(f"{kind}Pooling1D", (9, 3), **more)
        for kind in ("Max", "Average")
        for more in (
            {"pool_size": 2},
            {"pool_size": 4, "padding": "same"},
            {"pool_size": 3, "strides": 1, "padding": "same"},
            {"pool_size": 3, "strides": 4},
        )
    ),
    case("MaxPooling1D", (3, 9), pool_size=2, data_format="channels_first", masks=[True]),
    case("MaxPooling2D", (7, 6, 2), pool_size=(3, 2), padding="same"),
    case("AveragePooling2D", (7, 6, 2), pool_size=2, strides=(1, 2)),
    case("GlobalMaxPooling1D", X, masks=[True]),
    case("GlobalMaxPooling1D", X, keepdims=True, data_format="channels_first"),
    case("GlobalAveragePooling1D", X),
    case("GlobalAveragePooling1D", X, masks=[True]),
    case("GlobalAveragePooling1D", X, masks=[True], keepdims=True),
    case("GlobalAveragePooling1D", X, data_format="channels_first", keepdims=True),
    case("GlobalMaxPooling2D", (4, 5, 3)),
    case("GlobalAveragePooling2D", (4, 5, 3), keepdims=True),
]

SHAPES = [
    case("Flatten", X, masks=[True]),
    case("Flatten", (2, 3, 4), data_format="channels_first"),
    case("Flatten", ()),
    case("Reshape", X, target_shape=(8, 3)),
    case("Reshape", X, target_shape=(-1, 2, 3), masks=[True]),
    case("Reshape", X, target_shape=(-1,)),
    case("Permute", X, dims=(2, 1), masks=[True]),
    case("Permute", (2, 3, 4), dims=(3, 1, 2)),
    case("RepeatVector", (4,), n=3),
    case("Cropping1D", X, cropping=(2, 1)),
    case("Cropping1D", X, cropping=(0, 3), masks=[True]),
    case("ZeroPadding1D", X, padding=2, masks=[True]),
    case("ZeroPadding1D", X, padding=(0, 3)),
    case("ZeroPadding1D", X, padding=(1, 0), data_format="channels_first"),
    case("UpSampling1D", X, size=3, masks=[True]),
]

MERGES = [
    *(
        case(name, X, X, masks=masks)
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
        for masks in ([], [True, True], [True, False], [False, True])
    ),
    *(
        case(name, X, X, X, masks=[True, True, True])
        for name in ("Add", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    ),
    case("Maximum", X, X, X, masks=[False, True, True]),
    case("Add", X, (1, 4), (4,)),
    case("Multiply", X, (6, 1), masks=[True, True]),
    case("Average", (4,), X),
    case("Concatenate", X, (6, 2)),
    case("Concatenate", X, (6, 2), masks=[True, True]),
    case("Concatenate", X, (6, 2), masks=[True, False]),
    case("Concatenate", X, (3, 4), axis=1, masks=[True, True]),
    case("Concatenate", X, (3, 4), axis=-2, masks=[False, True]),
    case("Concatenate", (3,), (2,), (1,)),
    case("Dot", X, (5, 4), axes=2, masks=[True, True]),
    case("Dot", X, (5, 4), axes=(2, 2), normalize=True),
    case("Dot", X, (4, 3), axes=(2, 1)),
    case("Dot", (4,), (4,), axes=1),
    case("Dot", (4,), (4,), axes=-1, normalize=True),
    case("Dot", (4,), X, axes=(1, 2)),
    case("Dot", X, (6,), axes=1),
    case("Dot", (2, 3, 4), (5, 4, 6), axes=(3, 2)),
]

NORMALIZATIONS = [
    case("BatchNormalization", X, masks=[True]),
    case("BatchNormalization", (4,), center=False),
    case("BatchNormalization", X, scale=False, epsilon=0.1),
    case("BatchNormalization", X, axis=1),
    case("BatchNormalization", X, center=False, scale=False, renorm=True),
    case("LayerNormalization", X, masks=[True]),
    case("LayerNormalization", X, axis=1, epsilon=0.1),
    case("LayerNormalization", X, axis=[1, 2], center=False),
    case("LayerNormalization", X, axis=[-1, -2]),
    case("LayerNormalization", (2, 3, 4), axis=[1, 3], scale=False),
    case("LayerNormalization", X, rms_scaling=True),
    case("RMSNormalization", X, masks=[True]),
    case("RMSNormalization", X, axis=[1, 2], epsilon=0.1),
    case("GroupNormalization", X, groups=2, masks=[True]),
    case("GroupNormalization", (4,), groups=-1, epsilon=0.5),
    case("GroupNormalization", (2, 3, 4), groups=3, axis=2, center=False),
    case("GroupNormalization", (2, 3, 4), groups=1, axis=-1, scale=False),
    case("UnitNormalization", X, masks=[True]),
    case("UnitNormalization", X, axis=[1, 2]),
    case("Normalization", X, masks=[True]),
    case("Normalization", X, axis=(1, 2)),
    case("Normalization", X, axis=None, invert=True),
    case("Normalization", X, axis=1),
    case("Normalization", (4,), mean=2.0, variance=0.25),
    case("Normalization", X, mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 4.0, 0.0, 2.0]),
    case("Normalization", X, axis=(1, 2), mean=[1.0, 2, 3, 4], variance=[1.0, 4, 1, 2]),
    case("Normalization", X, mean=1.0, variance=9.0, invert=True),
    case("Rescaling", X, scale=1 / 255, masks=[True]),
    case("Rescaling", X, scale=np.array([1.0, 2.0, 3.0, 4.0]), offset=np.array([4.0, 3, 2, 1])),
]

ACTIVATION_LAYERS = [
    *(case("Activation", X, activation=name, masks=[True]) for name in ACTIVATIONS),
    case("ReLU", X),
    case("ReLU", X, max_value=1.0, negative_slope=0.1, threshold=0.2),
    case("ReLU", X, max_value=6, masks=[True]),
    case("LeakyReLU", X),
    case("LeakyReLU", X, negative_slope=0.1),
    case("ELU", X, alpha=0.5),
    case("PReLU", X, masks=[True]),
    case("PReLU", X, shared_axes=[1]),
    case("Softmax", X),
    case("Softmax", X, axis=[1, 2]),
    case("Softmax", X, axis=1),
    case("Softmax", (4,), masks=[True]),
    *(
        case(name, X, masks=[True], rate=0.3)
        for name in ("Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout")
    ),
    case("GaussianNoise", X, masks=[True], stddev=0.3),
    case("ActivityRegularization", X, masks=[True], l1=0.1),
    case("Identity", X, masks=[True]),
]

Q, V = (5, 4), (7, 4)
ATTENTION = [
    *(
        case(name, Q, V, masks=masks, call=call, **more)
        for name, mores in (
            ("Attention", ({}, {"use_scale": True, "score_mode": "concat", "dropout": 0.2})),
            ("AdditiveAttention", ({}, {"use_scale": False})),
        )
        for more in mores
        for masks, call in (
            ([], {}),
            ([True, True], {}),
            ([True, False], {"use_causal_mask": True}),
            ([False, True], {"use_causal_mask": True, "return_attention_scores": True}),
        )
    ),
    case("Attention", Q, (7, 3), V, use_scale=True),
    case("Attention", Q, V, V, score_mode="concat"),
    *(
        case("MultiHeadAttention", Q, V, num_heads=3, key_dim=2, masks=masks, call=call, **more)
        for more in ({}, {"dropout": 0.1, "value_dim": 5, "output_shape": 6})
        for masks, call in (
            ([], {}),
            ([True, True], {}),
            ([False, True], {"use_causal_mask": True, "return_attention_scores": True}),
            ([], {"use_causal_mask": True}),
            ([True, False], {"attention_mask": (5, 7)}),
        )
    ),
    case("MultiHeadAttention", Q, (7, 3), V, num_heads=2, key_dim=3, use_bias=False),
    case("MultiHeadAttention", Q, V, V, num_heads=2, key_dim=3, masks=[True, True, True]),
    case("MultiHeadAttention", Q, Q, num_heads=1, key_dim=3, use_gate=True, sliding_window=2),
    case("MultiHeadAttention", (3, 5, 4), (3, 5, 4), num_heads=2, key_dim=3),
    case("MultiHeadAttention", (3, 5, 4), (3, 7, 4), num_heads=2, key_dim=3, attention_axes=2),
    case(
        "MultiHeadAttention",
        (3, 5, 4),
        (2, 5, 4),
        num_heads=2,
        key_dim=3,
        attention_axes=[1],
        call={"return_attention_scores": True},
    ),
    *(
        case(
            "GroupQueryAttention",
            Q,
            V,
            head_dim=3,
            num_query_heads=4,
            num_key_value_heads=2,
            masks=masks,
            call=call,
            **more,
        )
        for more, masks, call in (
            ({}, [], {}),
            ({"use_gate": True}, [True, True], {}),
            ({"dropout": 0.1}, [False, True], {"return_attention_scores": True}),
            ({"sliding_window": 3, "use_bias": False}, [], {"use_causal_mask": True}),
        )
    ),
]

CASES = [
    *PRODUCTS,
    *CONVOLUTIONS,
    *POOLING,
    *SHAPES,
    *MERGES,
    *NORMALIZATIONS,
    *ACTIVATION_LAYERS,
    *ATTENTION,
]
