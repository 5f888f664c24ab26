"""The table of writers, and what a writer is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from recurra.runtime.custom import FunctionLayer
from recurra.runtime.layer import Layer, Shape
from recurra.runtime.layers.operations import Operation
from recurra.runtime.onnx.builder import Builder, Value


@dataclass(frozen=True)
class Site:
    """One call of a layer, in ONNX's names.

    Args:
        inputs: the positional tensors.
        arguments: the call's other arguments; tensors in them are values.
        shapes: of the outputs.
        used: which outputs anything uses.
    """

    inputs: Sequence[Value]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    shapes: Sequence[Shape] = ()
    used: Sequence[bool] = ()

    @property
    def x(self) -> Value:
        """The first input."""
        return self.inputs[0]


Writer = Callable[[Builder, Any, Site], Sequence[Value]]
"""(builder, layer, site) -> the outputs with their masks, as `Layer.compute` gives them."""

WRITERS: dict[str, Writer] = {}
"""How each layer is written, by the names of Keras's classes."""

F = TypeVar("F", bound=Writer)


def writes(*class_names: str) -> Callable[[F], F]:
    """Name a function as the writer of these classes of Keras."""

    def name(function: F) -> F:
        for class_name in class_names:
            WRITERS[class_name] = function
        return function

    return name


def write_layer(b: Builder, layer: Layer, site: Site) -> Sequence[Value]:
    """The operators of one call of a layer.

    Raises:
        UnsupportedLayerError: if there is no writer for it, or its options have no operators.
    """
    if isinstance(layer, Operation):
        from recurra.runtime.onnx.writers.operations import write_operation

        return write_operation(b, layer, site)
    writer = None if isinstance(layer, FunctionLayer) else WRITERS.get(layer.keras_class)
    if writer is None:
        raise layer.unsupported(
            "this layer cannot be written as ONNX operators yet. Export the model without it (for "
            "example up to the layer before it), or run the model in Recurra's runtime."
        )
    return writer(b, layer, site)
