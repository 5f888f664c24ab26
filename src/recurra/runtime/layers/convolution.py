"""Convolutions over one, two or three axes: ordinary, depthwise and separable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Result, Shape, Variable, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.activations import activation
from recurra.runtime.layers.product import pack, product
from recurra.runtime.layers.results import dropping
from recurra.runtime.layers.windows import counts, grid, meetings


class Windowed(Layer):
    """What all convolutions share: windows over the inner axes, a bias, an activation.

    Attributes:
        padding: "valid", "same" or "causal".
        windows: along each axis.
        bias: (filters,) or None.
        activation: of the result.
    """

    axes: ClassVar[int]
    paddings: ClassVar[Sequence[str]] = ("valid", "same")
    filters: int
    features: int

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.windows = grid(config, where, self.axes, "kernel_size", self.paddings)
        self.padding = self.windows[0].padding
        self.kernel_size = tuple(window.size for window in self.windows)
        self.channels_first = read.data_format(config, where) == "channels_first"
        self.use_bias = read.boolean(config, "use_bias", where, default=True)
        self.activation = activation(config.get("activation"), where)
        self.bias: Array | None = None

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch, *inner, features = self._last(shapes[0])
        filters = self._filters(features)
        found = counts(self.windows, tuple(inner), self.where)
        shape = (batch, filters, *found) if self.channels_first else (batch, *found, filters)
        return [self.activation.shape(shape)]

    def _filters(self, features: int | None) -> int | None:
        return self.filters

    def _last(self, shape: Shape) -> Shape:
        """The input's shape with the features as last axis."""
        rank = self.axes + 2
        read.rank(shape, self.where, least=rank, most=rank)
        return (shape[0], *shape[2:], shape[1]) if self.channels_first else shape

    def _features(self, shape: Shape) -> int:
        return read.size(self._last(shape), -1, self.where, "features")

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        x = np.moveaxis(x, 1, -1) if self.channels_first else x
        self.fit(x)
        y = self.convolve(x)
        if self.bias is not None:
            y += self.bias
        y = np.moveaxis(y, -1, 1) if self.channels_first else y
        return dropping(self.activation(y))

    def fit(self, x: Array) -> None:
        """Refuse an x (batch, ..., features) that is too short."""
        counts(self.windows, x.shape[1:-1], self.where)

    def convolve(self, x: Array) -> Array:
        """The sums over the windows of x (batch, ..., features); a new array."""
        raise NotImplementedError

    def empty(self, x: Array, filters: int) -> Array:
        """Zeros to add the windows' taps to."""
        found = [w.count(n) for w, n in zip(self.windows, x.shape[1:-1], strict=True)]
        return np.zeros((x.shape[0], *found, filters), np.float32)

    def depthwise(self, x: Array, kernel: Array) -> Array:
        """Every feature by itself, with a kernel (..., features, multiplier)."""
        *_, features, multiplier = kernel.shape
        y = self.empty(x, features * multiplier).reshape(*self._split(x), features, multiplier)
        for tap, outputs, inputs in meetings(self.windows, x):
            y[outputs] += x[inputs][..., None] * kernel[tap]
        return y.reshape(*y.shape[:-2], features * multiplier)

    def _split(self, x: Array) -> Sequence[int]:
        return [
            x.shape[0],
            *(w.count(n) for w, n in zip(self.windows, x.shape[1:-1], strict=True)),
        ]


class Convolution(Windowed):
    """A kernel over windows of the inner axes, for all features or within groups of them.

    Attributes:
        kernel: (*kernel_size, features / groups, filters).
        groups: of features, and of filters.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.filters = read.integer(config, "filters", where)
        self.groups = read.integer(config, "groups", where, default=1)
        if self.filters % self.groups:
            raise self.fail(
                f"its {self.filters} filters cannot be split into {self.groups} groups."
            )
        self.kernel: Array

    def variables(self) -> Sequence[Variable]:
        return (Variable("kernel"), Variable("bias", index=1))[: 1 + self.use_bias]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        features = self._features(shapes[0])
        if features % self.groups:
            raise self.fail(f"its {features} features cannot be split into {self.groups} groups.")
        shape = (*self.kernel_size, features // self.groups, self.filters)
        self.kernel = read.weight(weights, "kernel", shape, self.where)
        if self.use_bias:
            self.bias = read.weight(weights, "bias", (self.filters,), self.where)
        self._packed = {
            tap: [pack(part) for part in np.split(self.kernel[tap], self.groups, axis=-1)]
            for tap in np.ndindex(self.kernel_size)
        }

    def convolve(self, x: Array) -> Array:
        y = self.empty(x, self.filters)
        for tap, outputs, inputs in meetings(self.windows, x):
            parts = np.split(x[inputs], self.groups, axis=-1)
            packed = zip(parts, self._packed[tap], strict=True)
            products = [product(part, kernel) for part, kernel in packed]
            y[outputs] += products[0] if self.groups == 1 else np.concatenate(products, axis=-1)
        return y


@register("Conv1D", "Convolution1D")
class Conv1D(Convolution):
    """Over one axis; "causal" windows end where their output stands."""

    axes = 1
    paddings = ("valid", "same", "causal")

    @property
    def strides(self) -> int:
        """Steps from one window to the next."""
        return self.windows[0].stride

    @property
    def dilation_rate(self) -> int:
        """Steps from one tap to the next."""
        return self.windows[0].dilation


@register("Conv2D", "Convolution2D")
class Conv2D(Convolution):
    """Over two axes."""

    axes = 2


@register("Conv3D", "Convolution3D")
class Conv3D(Convolution):
    """Over three axes."""

    axes = 3


class Depthwise(Windowed):
    """A kernel of its own for every feature.

    Attributes:
        kernel: (*kernel_size, features, depth_multiplier).
    """

    variable = "kernel"

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.depth_multiplier = read.integer(config, "depth_multiplier", where, default=1)
        self.kernel: Array

    def variables(self) -> Sequence[Variable]:
        return (Variable(self.variable), Variable("bias", index=1))[: 1 + self.use_bias]

    def _filters(self, features: int | None) -> int | None:
        return None if features is None else features * self.depth_multiplier

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        features = self._features(shapes[0])
        shape = (*self.kernel_size, features, self.depth_multiplier)
        self.kernel = read.weight(weights, self.variable, shape, self.where)
        if self.use_bias:
            filters = (features * self.depth_multiplier,)
            self.bias = read.weight(weights, "bias", filters, self.where)

    def convolve(self, x: Array) -> Array:
        return self.depthwise(x, self.kernel)


@register("DepthwiseConv1D")
class DepthwiseConv1D(Depthwise):
    """Over one axis."""

    axes = 1


@register("DepthwiseConv2D")
class DepthwiseConv2D(Depthwise):
    """Over two axes."""

    axes = 2


class Separable(Windowed):
    """A kernel for every feature, then a product over the features.

    Attributes:
        depthwise_kernel: (*kernel_size, features, depth_multiplier).
        pointwise_kernel: (features * depth_multiplier, filters).
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.filters = read.integer(config, "filters", where)
        self.depth_multiplier = read.integer(config, "depth_multiplier", where, default=1)
        self.depthwise_kernel: Array
        self.pointwise_kernel: Array

    def variables(self) -> Sequence[Variable]:
        names = ("depthwise_kernel", "pointwise_kernel", "bias")[: 2 + self.use_bias]
        return [Variable(name, index=index) for index, name in enumerate(names)]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        features = self._features(shapes[0])
        shape = (*self.kernel_size, features, self.depth_multiplier)
        self.depthwise_kernel = read.weight(weights, "depthwise_kernel", shape, self.where)
        between = features * self.depth_multiplier
        ones = (1,) * self.axes
        point = read.weight(weights, "pointwise_kernel", (*ones, between, self.filters), self.where)
        self.pointwise_kernel = point.reshape(between, self.filters)
        if self.use_bias:
            self.bias = read.weight(weights, "bias", (self.filters,), self.where)
        self._packed = pack(self.pointwise_kernel)

    def convolve(self, x: Array) -> Array:
        return product(self.depthwise(x, self.depthwise_kernel), self._packed)


@register("SeparableConv1D", "SeparableConvolution1D")
class SeparableConv1D(Separable):
    """Over one axis."""

    axes = 1
    paddings = ("valid", "same", "causal")


@register("SeparableConv2D", "SeparableConvolution2D")
class SeparableConv2D(Separable):
    """Over two axes."""

    axes = 2


class Transposed(Convolution):
    """The way back of a convolution: every input is spread over a window of the output.

    Attributes:
        kernel: (*kernel_size, filters, features).
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__({**config, "groups": 1}, where)
        self.config = config
        if config.get("output_padding") is not None:
            raise self.unsupported("it has an output_padding; only None can be run.")

    def _lengths(self, inner: Sequence[int | None]) -> list[int | None]:
        """The output's, for the input's: as many windows fit in it as there are inputs."""
        lengths = []
        for window, steps in zip(self.windows, inner, strict=True):
            rest = max(window.span - window.stride, 0) if window.padding == "valid" else 0
            lengths.append(None if steps is None else steps * window.stride + rest)
        return lengths

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        batch, *inner, _ = self._last(shapes[0])
        found = self._lengths(inner)
        # Strides stand in the configuration alone: no weights bound them.
        once = (batch, *self._lengths([1] * self.axes), self.filters)
        read.bounded(once, self.where)
        shape = (
            (batch, self.filters, *found) if self.channels_first else (batch, *found, self.filters)
        )
        return [self.activation.shape(read.bounded(shape, self.where))]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        shape = (*self.kernel_size, self.filters, self._features(shapes[0]))
        self.kernel = read.weight(weights, "kernel", shape, self.where)
        if self.use_bias:
            self.bias = read.weight(weights, "bias", (self.filters,), self.where)
        self._packed = {tap: [pack(self.kernel[tap].T)] for tap in np.ndindex(self.kernel_size)}

    def fit(self, x: Array) -> None:
        """Any number of steps will do."""

    def convolve(self, x: Array) -> Array:
        lengths = [n or 0 for n in self._lengths(x.shape[1:-1])]
        y = np.zeros((x.shape[0], *lengths, self.filters), np.float32)
        for tap, windows, places in meetings(self.windows, y):
            y[places] += product(x[windows], self._packed[tap][0])
        return y


@register("Conv1DTranspose", "Convolution1DTranspose")
class Conv1DTranspose(Transposed):
    """Over one axis."""

    axes = 1


@register("Conv2DTranspose", "Convolution2DTranspose")
class Conv2DTranspose(Transposed):
    """Over two axes."""

    axes = 2
