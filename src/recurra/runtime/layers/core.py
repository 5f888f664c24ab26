"""Inputs, masks and embeddings, and layers that do nothing outside of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Result, Shape, Variable, register
from recurra.runtime.layers import config as checked

UNCHANGING = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
)
"""Keras's classes that give what they get, once training is over."""


@register(*UNCHANGING)
class Identity(Layer):
    """A layer that changes nothing, or only in training."""

    def compute(self, call: Call) -> Result:
        """The input and its mask, as they are."""
        return Result(call.inputs, call.masks)


@register("Masking")
class Masking(Layer):
    """Masks the steps at which every feature has one value.

    Attributes:
        mask_value: that value.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.mask_value = checked.number(config, "mask_value", where, default=0.0)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Check that there are steps and features."""
        checked.rank(shapes[0], self.where, least=2)

    def compute(self, call: Call) -> Result:
        """The input with zeros at masked steps, and the mask."""
        x = call.inputs[0]
        mask = np.any(x != np.float32(self.mask_value), axis=-1)
        return Result([np.where(mask[..., np.newaxis], x, np.float32(0))], [mask])


@register("Embedding")
class Embedding(Layer):
    """A row of a table for every index.

    Attributes:
        table: (input_dim, output_dim), float32.
        mask_zero: whether index 0 is masked.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.input_dim = checked.integer(config, "input_dim", where)
        self.output_dim = checked.integer(config, "output_dim", where)
        self.mask_zero = checked.boolean(config, "mask_zero", where, default=False)
        self.table: Array = np.zeros((0, 0), np.float32)

    def variables(self) -> list[Variable]:
        """The table."""
        return [Variable("embeddings")]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Take the table."""
        size = (self.input_dim, self.output_dim)
        self.table = checked.weight(weights, "embeddings", size, self.where)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """One axis more."""
        return [(*shapes[0], self.output_dim)]

    def compute(self, call: Call) -> Result:
        """Look up; indices outside of the table are an error.

        Raises:
            ValueError: naming the first such index and its place.
        """
        given = call.inputs[0]
        indices = given
        if given.dtype.kind not in "iu":
            # Keras's conversion: towards zero.
            with np.errstate(invalid="ignore"):
                indices = given.astype(np.int64)
        outside = (indices < 0) | (indices >= self.input_dim)
        if outside.any():
            place = tuple(int(i) for i in np.argwhere(outside)[0])
            raise ValueError(
                f"Layer '{self.where}' (Embedding) got index {given[place]} at {place}, counted "
                f"within the batch; expected 0 to {self.input_dim - 1} (input_dim="
                f"{self.input_dim})."
            )
        mask = given != 0 if self.mask_zero else None
        return Result([self.table[indices]], [mask])
