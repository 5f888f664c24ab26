"""What the runtime knows of a layer: its variables, its shapes, and how it computes.

One class per Keras layer, registered under Keras's class names. A layer is made in three steps:
from its configuration (`__init__`), by reading the variables it names (`variables`), and by being
given their values and its inputs' shapes (`build`). After that it is never changed, so that any
number of threads may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

from numpy.typing import NDArray

from recurra.runtime.errors import ModelFileError, UnsupportedLayerError

Array = NDArray[Any]
Mask = Array | None  # (batch, time_steps), bool, True = keep
Shape = tuple[int | None, ...]  # with the batch; None where it is free


@dataclass(frozen=True)
class Variable:
    """A variable of a layer, as both kinds of files store it.

    Args:
        name: what `Layer.build` calls it.
        path: the parts of the layer that own it, as Keras 3 names them: ("cell",).
        index: its place among its owner's own variables.
        trainable: HDF5 files of old list all trainable variables of a layer first.
        optional: left out of files in some configurations; then `build` does not get it.
    """

    name: str
    path: tuple[str, ...] = ()
    index: int = 0
    trainable: bool = True
    optional: bool = False

    def inside(self, part: str) -> Variable:
        """The same variable, as a variable of the layer whose part `part` owns it."""
        return replace(self, name=f"{part}/{self.name}", path=(part, *self.path))


class Call(NamedTuple):
    """One use of a layer: arrays, their masks, and the call's other arguments.

    Args:
        inputs: the positional tensors, flattened.
        masks: one for each of them.
        arguments: keyword arguments; tensors in them are arrays here. `initial_state` is a list. A
            `mask` given in the call is here, and in `masks` too.
    """

    inputs: Sequence[Array]
    masks: Sequence[Mask]
    arguments: Mapping[str, Any] = MappingProxyType({})


class Result(NamedTuple):
    """What one use of a layer gives: arrays, and the mask of each."""

    outputs: Sequence[Array]
    masks: Sequence[Mask]


class Layer:
    """A layer of a loaded model.

    Args:
        config: Keras's configuration of it, checked as far as it is used.
        where: its place in the model, for messages: "decoder/lstm_1".

    Attributes:
        keras_class: the name of Keras's class, e.g. "LSTM".
        name: its name, unique in its model.
        weights, shapes: what `build` was given; its caller keeps them here, so that the layer can
            be written to another file.
        parameters: names of Keras's call parameters that tensors can be given to by position.
        operands: how many of the first of them make up `Call.inputs`; the others are arguments.
        takes_masks: whether a call takes the masks away from its inputs, for all calls after it.
    """

    parameters: ClassVar[tuple[str, ...]] = ("inputs", "mask")
    operands: ClassVar[int] = 1
    takes_masks: ClassVar[bool] = False
    weights: Mapping[str, Array] = {}
    shapes: Sequence[Shape] = ()

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config, self.where = config, where
        self.name = str(config.get("name", where.rpartition("/")[2]))
        self.keras_class = type(self).__name__

    def variables(self) -> Sequence[Variable]:
        """The variables to read, in Keras's order."""
        return ()

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Take the variables' values (float32 unless they are integers) and the inputs' shapes.

        Raises:
            ModelFileError: if they do not fit each other or the configuration.
        """

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Shapes of the outputs for inputs of these shapes."""
        return [shapes[0]]

    def call_shapes(self, shapes: Sequence[Shape], arguments: Mapping[str, Any]) -> list[Shape]:
        """Shapes of one call's outputs, where its other arguments matter for them."""
        return self.output_shapes(shapes)

    def compute(self, call: Call) -> Result:
        """The layer's outputs for whole sequences."""
        raise NotImplementedError

    def fail(self, problem: str) -> ModelFileError:
        """An error of this layer's configuration or weights, naming its place."""
        return ModelFileError(f"Layer '{self.where}' ({self.keras_class}): {problem}")

    def unsupported(self, problem: str) -> UnsupportedLayerError:
        """An error that says what of this layer the runtime cannot run."""
        return UnsupportedLayerError(f"Layer '{self.where}' ({self.keras_class}): {problem}")


LAYERS: dict[str, type[Layer]] = {}
"""The layers by the names of Keras's classes."""

L = TypeVar("L", bound=type[Layer])


def register(*class_names: str) -> Callable[[L], L]:
    """Name a class as the runtime's code for these classes of Keras."""

    def name(cls: L) -> L:
        for class_name in class_names:
            LAYERS[class_name] = cls
        return cls

    return name
