"""Running a graph call by call, for models that have to see whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.graph import Graph, Tensor
from recurra.runtime.layer import Array, Call, Layer, Mask

Watch = Callable[[Layer, Call], None]
"""Is told of every layer's call before it runs."""


class Interpreter:
    """Walks a graph's nodes; arrays are let go after their last use.

    Any number of threads may call `run`.

    Args:
        graph: the model.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        kept = {tensor.index for tensor in graph.outputs}
        last: dict[int, int] = {}
        for number, node in enumerate(graph.nodes):
            for tensor in (*node.inputs, *tensors_in(node.arguments), *node.outputs):
                last[tensor.index] = number
        self._done: list[list[int]] = [[] for _ in graph.nodes]
        for index, number in last.items():
            if index not in kept:
                self._done[number].append(index)

    def run(
        self, inputs: Sequence[Array], masks: Sequence[Mask], watch: Watch | None = None
    ) -> list[Array]:
        """The outputs for one batch.

        Args:
            inputs: one array for each of the graph's inputs, of its type.
            masks: one for each of them, (batch, time_steps), bool, or None.
            watch: is told of every call.

        Raises:
            ValueError: from a layer that cannot take these values, naming it.
        """
        values: dict[int, tuple[Array, Mask]] = {
            tensor.index: (array, mask)
            for tensor, array, mask in zip(self._graph.inputs, inputs, masks, strict=True)
        }
        for node, done in zip(self._graph.nodes, self._done, strict=True):
            given = [values[tensor.index] for tensor in node.inputs]
            arguments = {name: _filled(v, values) for name, v in node.arguments.items()}
            own = [mask for _, mask in given]
            if "mask" in arguments:
                own = _explicit(arguments["mask"], len(own))
            call = Call([array for array, _ in given], own, arguments)
            if watch is not None:
                watch(node.layer, call)
            try:
                # As in Keras, numbers that overflow become infinite, without a word.
                with np.errstate(all="ignore"):
                    result = node.layer.compute(call)
            except (ValueError, IndexError) as error:
                if node.layer.where in str(error):
                    raise
                shapes = ", ".join(str(array.shape) for array in call.inputs)
                raise ValueError(
                    f"Layer '{node.layer.where}' ({node.layer.keras_class}) cannot take inputs of "
                    f"shapes {shapes}: {error}"
                ) from error
            if node.layer.takes_masks:
                _take_masks(values, [array for array, _ in given])
            for tensor, array, mask in zip(node.outputs, result.outputs, result.masks, strict=True):
                values[tensor.index] = (array, mask)
            for index in done:
                del values[index]
        return [values[tensor.index][0] for tensor in self._graph.outputs]


def _take_masks(values: dict[int, tuple[Array, Mask]], arrays: Sequence[Array]) -> None:
    """Take the masks away from these very arrays, under all names that they have in the model."""
    taken = {id(array) for array in arrays}
    for index, (array, _) in values.items():
        if id(array) in taken:
            values[index] = (array, None)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in a node's arguments."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [each for item in value.values() for each in tensors_in(item)]
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in tensors_in(item)]
    return []


def _filled(value: Any, values: Mapping[int, tuple[Array, Mask]]) -> Any:
    if isinstance(value, Tensor):
        return values[value.index][0]
    if isinstance(value, Mapping):
        return {key: _filled(each, values) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(each, values) for each in value]
    return value


def _explicit(mask: Any, count: int) -> list[Mask]:
    """The masks that a call names, one for each input."""
    listed = list(mask) if isinstance(mask, (list, tuple)) else [mask]
    masks = [None if each is None else each.astype(bool, copy=False) for each in listed[:count]]
    return masks + [None] * (count - len(masks))
