"""The runtime's layers: one class per class of Keras, registered under its name.

Their modules are imported when a model has such a layer: loading a small model takes as long as
importing what it needs.
"""

from __future__ import annotations

import importlib

from recurra.runtime.layer import LAYERS, Layer

MODULES: dict[str, str] = {
    "core": "Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout "
    "GaussianNoise AlphaDropout ActivityRegularization Identity Masking Embedding",
    "recurrent": "LSTM GRU SimpleRNN CuDNNLSTM CuDNNGRU RNN",
    "wrappers": "Bidirectional TimeDistributed",
    "dense": "Dense EinsumDense",
    "convolution": "Conv1D Convolution1D Conv2D Convolution2D Conv3D Convolution3D DepthwiseConv1D "
    "DepthwiseConv2D SeparableConv1D SeparableConvolution1D SeparableConv2D SeparableConvolution2D "
    "Conv1DTranspose Convolution1DTranspose Conv2DTranspose Convolution2DTranspose",
    "pooling": "MaxPooling1D MaxPool1D MaxPooling2D MaxPool2D AveragePooling1D AvgPool1D "
    "AveragePooling2D AvgPool2D GlobalMaxPooling1D GlobalMaxPool1D GlobalMaxPooling2D "
    "GlobalMaxPool2D GlobalAveragePooling1D GlobalAvgPool1D GlobalAveragePooling2D GlobalAvgPool2D",
    "shapes": "Flatten Reshape Permute RepeatVector Cropping1D ZeroPadding1D UpSampling1D",
    "merge": "Add Subtract Average Multiply Maximum Minimum Concatenate Dot",
    "normalization": "BatchNormalization SyncBatchNormalization Normalization Rescaling "
    "LayerNormalization RMSNormalization GroupNormalization UnitNormalization",
    "attention": "Attention AdditiveAttention",
    "heads": "MultiHeadAttention GroupedQueryAttention GroupQueryAttention",
    "activation_layers": "Activation ReLU ThresholdedReLU LeakyReLU ELU PReLU Softmax",
}
"""The names that each module registers."""

CLASSES: dict[str, str] = {
    name: module for module, names in MODULES.items() for name in names.split()
}
"""The module of each of Keras's classes."""


def find(class_name: str) -> type[Layer] | None:
    """The runtime's class for a class of Keras's, None if there is none.

    Example:
        >>> find("CuDNNGRU").__name__
        'CuDNNGRU'
    """
    if class_name in CLASSES:
        importlib.import_module(f"{__name__}.{CLASSES[class_name]}")
    return LAYERS.get(class_name)


def load() -> None:
    """Have every layer in `recurra.runtime.layer.LAYERS`."""
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
