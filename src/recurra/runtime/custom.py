"""Functions of the user's for layers and activations that the runtime has no code for.

A function for a layer gets the layer's input arrays and, by keyword, its configuration and weights:

    def scale(x, *, config, weights):
        return x * config["factor"]

    recurra.load("model.keras", custom={"Scale": scale})

It is found by the layer's own name first, then by its class: of two Lambda layers each can have its
own. Nothing in a model's file is ever run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Mask, Result, Shape

Function = Callable[..., Any]

_registered: dict[str, Function] = {}
_given: ContextVar[Mapping[str, Function] | None] = ContextVar("custom", default=None)

_FREE = ((3, 4), (5, 7))
"""Sizes that stand for the batch and for other free axes when a function is tried."""


def register_layer(name: str, function: Function) -> Function:
    """Give the runtime a NumPy function for a layer class or an activation, for all models.

    Args:
        name: of the class ("MyLayer"), of one layer of a model ("lambda_1"), or of an activation.
        function: for a layer, `function(*inputs, config=..., weights=...)`: float32 arrays with the
            batch first, the layer's configuration, and its weights by name or, where the file has
            no names, by number ("0", "1"), in the order in which they were saved. The inputs are
            all tensors of the layer's call; its other keywords are the function's. It returns an
            array, or a tuple or list of them. If it takes `mask=` too, that is the mask of its
            first input (batch, time_steps) or None, and an output with these axes keeps it. It must
            treat every row by itself. For an activation, `function(x)`.

    Returns:
        The function.

    Raises:
        TypeError: if `function` cannot be called.

    Example:
        >>> def scale(x, *, config, weights):
        ...     return x * config["factor"]
        >>> recurra.runtime.register_layer("Scale", scale)
    """
    _check(name, function)
    _registered[name] = function
    return function


def find(*names: str | None) -> Function | None:
    """The user's function under the first of these names that has one, while a model is built."""
    for table in (_given.get() or {}, _registered):
        for name in names:
            if name is not None and name in table:
                return table[name]
    return None


@contextmanager
def given(functions: Mapping[str, Function] | None) -> Iterator[None]:
    """Inside this context `find` knows these functions too, and first."""
    if functions is not None and not isinstance(functions, Mapping):
        raise TypeError(
            f"custom={functions!r} is not a dict; expected NumPy functions by the name of a class "
            'or a layer: custom={"MyLayer": function}.'
        )
    for name, function in (functions or {}).items():
        _check(name, function)
    token = _given.set(functions or {})
    try:
        yield
    finally:
        _given.reset(token)


def _check(name: Any, function: Any) -> None:
    if not isinstance(name, str) or not callable(function):
        raise TypeError(
            f"A custom layer is a name and a function; got {name!r} and {function!r}. Give a "
            "function(*inputs, config=..., weights=...) on NumPy arrays, not a Keras layer."
        )
    if inspect.isclass(function) and any(c.__module__.startswith("keras") for c in function.mro()):
        raise TypeError(
            f"custom has a Keras class for {name!r}; expected a function(*inputs, config=..., "
            "weights=...) on NumPy arrays: Keras is not used here."
        )


class FunctionLayer(Layer):
    """A layer that a function of the user's computes."""

    def __init__(
        self, config: Mapping[str, Any], where: str, function: Function, class_name: str
    ) -> None:
        super().__init__(config, where)
        self.keras_class, self.function = class_name, function
        self.weights: dict[str, Array] = {}
        self._keywords: dict[str, Any] | None = None
        try:
            takes = inspect.signature(function).parameters
        except (TypeError, ValueError):
            takes = {}  # type: ignore[assignment]
        self.takes_mask = "mask" in takes

    def bind(
        self,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        tensors: Callable[[Any], list[Any]],
    ) -> tuple[list[Any], dict[str, Any]]:
        """A call's tensors, by position and then by keyword; `mask` stays an argument.

        Other keywords go to the function, and must be the same in all calls of a layer.

        Args:
            arguments, keywords: of the call.
            tensors: lists the tensors in nested arguments.
        """
        mask = keywords.get("mask")
        rest = {name: value for name, value in keywords.items() if name != "mask"}
        plain = {
            name: value for name, value in rest.items() if value is not None and not tensors(value)
        }
        if self._keywords not in (None, plain):
            raise self.unsupported(
                f"it is called with {self._keywords} and with {plain}; a layer with a function of "
                "yours must be called in one way."
            )
        self._keywords = plain
        inputs = [*tensors(list(arguments)), *tensors(rest)]
        if not inputs:
            raise self.fail("it is called on no tensor.")
        return inputs, {"mask": mask} if tensors(mask) else {}

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Keep the weights; they cannot be checked."""
        self.weights = dict(weights)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Found by trying the function on zeros of two sizes."""
        small, large = (self._try(shapes, size) for size in _FREE)
        return [
            tuple(a if a == b else None for a, b in zip(one, two, strict=True))
            for one, two in zip(small, large, strict=True)
        ]

    def compute(self, call: Call) -> Result:
        """What the function returns."""
        outputs = self._call(call.inputs, call.masks)
        mask = call.masks[0] if self.takes_mask and call.masks else None
        keeps = [mask if mask is not None and o.shape[:2] == mask.shape else None for o in outputs]
        return Result(outputs, keeps)

    def _call(self, inputs: Sequence[Array], masks: Sequence[Mask]) -> list[Array]:
        keywords = dict(self._keywords or {})
        if self.takes_mask:
            keywords["mask"] = masks[0] if masks else None
        made = self.function(*inputs, config=self.config, weights=self.weights, **keywords)
        outputs = []
        for value in made if isinstance(made, (tuple, list)) else [made]:
            array = np.asarray(value)
            if array.dtype.kind == "f":
                array = array.astype(np.float32, copy=False)
            if array.ndim == 0 or (inputs and array.shape[0] != inputs[0].shape[0]):
                raise self.fail(
                    f"the function given for it returned shape {array.shape} for inputs of "
                    f"shapes {', '.join(str(x.shape) for x in inputs)}; expected the same batch "
                    "first."
                )
            outputs.append(array)
        return outputs

    def _try(self, shapes: Sequence[Shape], free: tuple[int, int]) -> list[tuple[int, ...]]:
        inputs = [np.zeros(filled(shape, free), np.float32) for shape in shapes]
        try:
            return [array.shape for array in self._call(inputs, [None] * len(inputs))]
        except Exception as error:
            if isinstance(error, ValueError) and self.where in str(error):
                raise
            raise self.fail(
                f"the function given for it failed on zeros of shapes "
                f"{', '.join(str(each.shape) for each in inputs)}: {type(error).__name__}: {error}"
            ) from error


def filled(shape: Shape, free: tuple[int, int]) -> tuple[int, ...]:
    """A shape with sizes for a free batch and for other free axes.

    Example:
        >>> filled((None, None, 8), (3, 4))
        (3, 4, 8)
    """
    batch, other = free
    return tuple(
        size if size is not None else other if axis else batch for axis, size in enumerate(shape)
    )
