"""Normalization with statistics that are stored, and with the input's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Result, Shape, Variable, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.merge import unit
from recurra.runtime.layers.results import AlongAxes, dropping, keeping


class Affine(Layer):
    """(x - shift) * scale + offset, with fixed numbers.

    Attributes:
        shift, scale, offset: float32; they broadcast to the input from its last axis, so those of
            at most one axis are a number for all features or one for each.
    """

    shift: Array
    scale: Array
    offset: Array

    def compute(self, call: Call) -> Result:
        with np.errstate(all="ignore"):
            return keeping(call, (call.inputs[0] - self.shift) * self.scale + self.offset)

    def along(self, value: Array, axes: Sequence[int], rank: int) -> Array:
        """`value`, whose axes are those of the input, with axes of 1 where the input has others."""
        shape = [1] * rank
        for axis, size in zip(axes, value.shape, strict=True):
            shape[axis] = size
        first = min(axes, default=rank)
        return np.ascontiguousarray(value.reshape(shape[first:]), np.float32)


@register("BatchNormalization", "SyncBatchNormalization")
class BatchNormalization(Affine):
    """With the moving mean and variance, as outside training.

    Attributes:
        axis: of the features, counted from the front, batch included.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.epsilon = read.number(config, "epsilon", where, least=0.0, default=1e-3)
        self.center = read.boolean(config, "center", where, default=True)
        self.scaled = read.boolean(config, "scale", where, default=True)
        self.renorm = read.boolean(config, "renorm", where, default=False)
        self.axis = -1

    def variables(self) -> Sequence[Variable]:
        trained = ["gamma"] * self.scaled + ["beta"] * self.center
        moving = ["moving_mean", "moving_variance"]
        extra = ["moving_stddev", "renorm_mean", "renorm_stddev"] * self.renorm
        return [
            Variable(name, index=index, trainable=name in trained, optional=name in extra)
            for index, name in enumerate(trained + moving + extra)
        ]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        found = self.config.get("axis", -1)
        axes = read.axes(found, read.rank(shapes[0], self.where, least=2), self.where)
        if len(axes) != 1 or axes == (0,):
            raise self.unsupported(f"its axis is {read.shown(found)}; it must be that of features.")
        self.axis = axes[0]
        size = (read.size(shapes[0], self.axis, self.where, "features"),)
        mean = read.weight(weights, "moving_mean", size, self.where)
        variance = read.weight(weights, "moving_variance", size, self.where)
        with np.errstate(all="ignore"):
            inverse = 1.0 / np.sqrt(variance.astype(np.float64) + self.epsilon)
        if self.scaled:
            inverse = inverse * read.weight(weights, "gamma", size, self.where)
        beta = np.zeros(size, np.float32)
        if self.center:
            beta = read.weight(weights, "beta", size, self.where)
        rank = len(shapes[0])
        self.shift = self.along(mean, axes, rank)
        self.scale = self.along(inverse, axes, rank)
        self.offset = self.along(beta, axes, rank)


@register("Normalization")
class Normalization(Affine):
    """With a mean and a variance that were measured or given; or the way back.

    Attributes:
        axis: axes that have statistics of their own, counted from the front, batch included.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.invert = read.boolean(config, "invert", where, default=False)
        self.mean = numbers(config, "mean", where)
        self.variance = numbers(config, "variance", where)
        if (self.mean is None) != (self.variance is None):
            raise self.fail("it has one of mean and variance in its configuration, not both.")
        self.axis: tuple[int, ...] = ()

    def variables(self) -> Sequence[Variable]:
        if self.mean is not None:
            return ()
        names = ("mean", "variance", "count")
        return [
            Variable(name, index=index, trainable=False, optional=name == "count")
            for index, name in enumerate(names)
        ]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        shape, rank = shapes[0], len(shapes[0])
        found = self.config.get("axis", -1)
        if found is not None and found not in ((), []):
            self.axis = read.axes(found, rank, self.where)
        if 0 in self.axis:
            raise self.unsupported("it has statistics for every row of a batch.")
        sizes = [read.size(shape, axis, self.where, "size") for axis in self.axis]
        if self.mean is None or self.variance is None:
            mean = read.weight(weights, "mean", sizes, self.where)
            variance = read.weight(weights, "variance", sizes, self.where)
        else:
            try:
                mean = np.broadcast_to(self.mean, sizes)
                variance = np.broadcast_to(self.variance, sizes)
            except ValueError:
                raise self.fail(
                    f"its mean has shape {self.mean.shape} and its variance "
                    f"{self.variance.shape}, but they must broadcast to {tuple(sizes)}, the "
                    f"input's axes {self.axis}."
                ) from None
        with np.errstate(all="ignore"):
            deviation = np.maximum(np.sqrt(variance.astype(np.float64)), 1e-7)
        zero = np.zeros(sizes, np.float32)
        shift, scale, offset = mean, 1.0 / deviation, zero
        if self.invert:
            shift, scale, offset = zero, deviation, mean
        self.shift = self.along(shift, self.axis, rank)
        self.scale = self.along(scale, self.axis, rank)
        self.offset = self.along(offset, self.axis, rank)


@register("Rescaling")
class Rescaling(Affine):
    """x * scale + offset."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        scale, offset = numbers(config, "scale", where), numbers(config, "offset", where)
        if scale is None:
            raise read.wrong(where, "scale", config.get("scale"), "a number or a list of them")
        self.shift = np.zeros((), np.float32)
        self.scale = scale
        self.offset = self.shift if offset is None else offset

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        for value in (self.scale, self.offset):
            sizes = zip(value.shape[::-1], shapes[0][::-1], strict=False)
            if value.ndim >= len(shapes[0]) or any(n not in (1, m) for n, m in sizes):
                raise self.fail(
                    f"its scale or offset of shape {value.shape} does not broadcast to its input "
                    f"{shapes[0]}."
                )


def numbers(config: read.Config, key: str, where: str) -> Array | None:
    """Numbers in a configuration: one, nested lists, or an array as Keras writes it; or None."""
    value = config.get(key)
    if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
        value = value["config"].get("value")
    if value is None:
        return None
    try:
        found = np.asarray(value)
        if found.dtype.kind in "fiu" and found.ndim < 32:
            return found.astype(np.float32)
    except (ValueError, OverflowError):
        pass
    raise read.wrong(where, key, value, "a number or lists of numbers of equal lengths")


@register("LayerNormalization")
class LayerNormalization(Layer):
    """With the mean and variance of the axes `axis` of each input.

    Attributes:
        axis: counted from the front, batch included.
        epsilon: added to the variance.
        gamma: factors, of the sizes of `axis`; or None.
        beta: added afterwards, of the same shape; or None.
        rms_scaling: whether only divided by the standard deviation, the mean left in.
    """

    rms_scaling = False

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.epsilon = read.number(config, "epsilon", where, least=0.0, default=1e-3)
        self.rms_scaling = read.boolean(config, "rms_scaling", where, default=False)
        center = read.boolean(config, "center", where, default=True)
        scale = read.boolean(config, "scale", where, default=True)
        self.names = ["gamma"] * (scale or self.rms_scaling)
        self.names += ["beta"] * (center and not self.rms_scaling)
        self.axis: tuple[int, ...] = ()
        self.gamma: Array | None = None
        self.beta: Array | None = None

    def variables(self) -> Sequence[Variable]:
        return [Variable(name, index=index) for index, name in enumerate(self.names)]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        rank = read.rank(shapes[0], self.where, least=2)
        configured = self.config.get("axis", -1)
        self.axis = read.axes(configured, rank, self.where)
        if 0 in self.axis:
            raise self.unsupported(
                "it takes means over the batch: rows would depend on each other."
            )
        # Keras sorts the axes as they are written, negative ones first, for the variables' shape.
        written = sorted(configured) if isinstance(configured, (list, tuple)) else [configured]
        if self.names:
            sizes = [read.size(shapes[0], int(axis), self.where, "size") for axis in written]
            along = [shapes[0][n] if n in self.axis else 1 for n in range(self.axis[0], rank)]
            values = {
                name: read.weight(weights, name, sizes, self.where).reshape([n or 1 for n in along])
                for name in self.names
            }
            self.gamma, self.beta = values.get("gamma"), values.get("beta")

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        with np.errstate(all="ignore"):
            mean = np.mean(x, axis=self.axis, keepdims=True, dtype=np.float64)
            centered = x - mean.astype(np.float32)
            inverse = inverse_deviation(centered, self.axis, self.epsilon)
            y = (x if self.rms_scaling else centered) * inverse
            return keeping(call, self.scaled(y))

    def scaled(self, y: Array) -> Array:
        """y with its factors and offsets."""
        if self.gamma is not None:
            y = y * self.gamma
        return y if self.beta is None else y + self.beta


def inverse_deviation(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """1 / sqrt(mean(x²) + epsilon) over `axes`, float32; summed in double precision."""
    squares = np.mean(np.square(x), axis=axes, keepdims=True, dtype=np.float64)
    return (1.0 / np.sqrt(squares + epsilon)).astype(np.float32)


@register("RMSNormalization")
class RMSNormalization(LayerNormalization):
    """Divided by the root of the mean square, without centering; Keras drops masks here."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__({"epsilon": 1e-6, **config, "center": False, "scale": True}, where)
        self.config = config

    def variables(self) -> Sequence[Variable]:
        return (Variable("scale"),)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        super().build({"gamma": weights["scale"]} if "scale" in weights else {}, shapes)

    def compute(self, call: Call) -> Result:
        x = call.inputs[0]
        with np.errstate(all="ignore"):
            return dropping(self.scaled(x * inverse_deviation(x, self.axis, self.epsilon)))


@register("GroupNormalization")
class GroupNormalization(LayerNormalization):
    """With the mean and variance of each group of features, over all other axes but the batch.

    Attributes:
        groups: how many.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__({**config, "rms_scaling": False}, where)
        self.config = config
        self.groups = read.integer(config, "groups", where, least=-1, default=32)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        super().build(weights, shapes)
        if len(self.axis) != 1 or self.groups == 0:
            raise read.wrong(self.where, "axis or groups", self.config.get("axis"), "one axis")
        features = read.size(shapes[0], self.axis[0], self.where, "features")
        self.groups = features if self.groups == -1 else self.groups
        if features % self.groups:
            raise self.fail(f"its {features} features cannot be split into {self.groups} groups.")

    def compute(self, call: Call) -> Result:
        x, place = call.inputs[0], self.axis[0]
        shape = (*x.shape[:place], self.groups, -1, *x.shape[place + 1 :])
        split = x.reshape(shape) if x.size else x[:, None]
        others = tuple(n for n in range(1, split.ndim) if n != place)
        with np.errstate(all="ignore"):
            mean = np.mean(split, axis=others, keepdims=True, dtype=np.float64)
            centered = split - mean.astype(np.float32)
            y = centered * inverse_deviation(centered, others, self.epsilon)
            return keeping(call, self.scaled(y.reshape(x.shape)))


@register("UnitNormalization")
class UnitNormalization(AlongAxes):
    """Divided by its Euclidean length over the axes `axis`."""

    def compute(self, call: Call) -> Result:
        return keeping(call, unit(call.inputs[0], 1e-12, self.axis))
