"""A model's compiled plan, and how its inputs, outputs and states are called."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recurra import _engine
from recurra.runtime.errors import StreamingError
from recurra.runtime.graph import Graph
from recurra.runtime.layer import Array, Mask
from recurra.runtime.streaming.lowering import Lowered, Value, lower


class Input(NamedTuple):
    """An input of a stream.

    Args:
        name: the model's name of it.
        timed: whether it has a value for every time step; else one for a whole stretch.
        indices: whether it takes indices, int32, instead of float32 numbers.
        features: the axes after batch and time.
    """

    name: str
    timed: bool
    indices: bool
    features: tuple[int, ...]


class Field(NamedTuple):
    """A named part of a row's state: `offset` in bytes, `shape` without the batch."""

    name: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """How many bytes of a row's state it takes."""
        return int(np.prod(self.shape, dtype=int)) * self.dtype.itemsize


class Program:
    """A model that runs step by step: what all its sessions share, never changed after it is made.

    Args:
        graph: the model.
        names: of its inputs; () for their tensors' names.

    Attributes:
        plan: the compiled plan, for calls without masks.
        inputs: what a step takes.
        newest_only: whether an output is the newest value alone, which needs a step.
        fields: what a session carries from step to step, by name.
        name, digest: the model's.

    Raises:
        StreamingError: if it cannot, with the layer's place and the reason.
    """

    __slots__ = (
        "_graph",
        "_lock",
        "_masked",
        "digest",
        "fields",
        "inputs",
        "name",
        "newest_only",
        "plan",
    )

    def __init__(self, graph: Graph, names: Sequence[str] = ()) -> None:
        lowered, inputs, outputs = lower(graph)
        self.plan = _compiled(lowered)
        self.name, self.digest = graph.name, graph.digest
        names = names or [tensor.name for tensor in graph.inputs]
        self.inputs = tuple(_input(name, value) for name, value in zip(names, inputs, strict=True))
        self.newest_only = any(not value.timed for value in outputs)
        self.fields = {
            name: Field(name, offset, tuple(shape), np.dtype(dtype))
            for name, offset, shape, dtype in self.plan.state
        }
        self._graph = graph
        self._masked: dict[tuple[bool, ...], _engine.Plan] = {}
        self._lock = threading.Lock()

    def predict(self, inputs: Sequence[Array], masks: Sequence[Mask] = ()) -> list[Array]:
        """Run whole sequences from the zero state.

        Args:
            inputs: (batch, time_steps, features), or (batch, time_steps) for indices, and
                (batch, features) for inputs without time; any numbers.
            masks: for each input (batch, time_steps), bool, or None.

        Returns:
            An array for each of the model's outputs, with the bits that steps give.

        Raises:
            ValueError: if an array does not fit, or an index is outside of its Embedding.
            StreamingError: for a mask on an input without time.
        """
        arrays = [
            _indices(spec, array) if spec.indices else np.ascontiguousarray(array, np.float32)
            for spec, array in zip(self.inputs, inputs, strict=True)
        ]
        given = [np.ascontiguousarray(mask, bool) for mask in masks if mask is not None]
        plan = self.plan if not given else self._plan_for(tuple(mask is not None for mask in masks))
        outputs = plan.run_batch(*arrays, *given)
        return outputs if isinstance(outputs, list) else [outputs]

    def _plan_for(self, masked: tuple[bool, ...]) -> _engine.Plan:
        """The plan that takes masks with these inputs, made when it is first asked for."""
        with self._lock:
            if masked not in self._masked:
                self._masked[masked] = _compiled(lower(self._graph, masked)[0])
            return self._masked[masked]


def _compiled(lowered: Lowered) -> _engine.Plan:
    try:
        return _engine.Plan(*lowered)
    except ValueError as error:
        raise StreamingError(
            f"The engine cannot run this model step by step: {error}. Use predict(), which runs "
            "whole sequences."
        ) from error


def _input(name: str, value: Value) -> Input:
    return Input(name, value.timed, value.kind in ("ids", "id_row"), value.features)


def _indices(spec: Input, array: Array) -> Array:
    """Indices as the plan takes them; other numbers are rounded towards zero, as Keras does."""
    limits = np.iinfo(np.int32)
    if array.dtype != np.int32:
        outside = ~((array >= limits.min) & (array <= limits.max))
        if outside.any():
            raise ValueError(
                f"Input '{spec.name}' takes indices and got {array[outside].flat[0]}; expected "
                "whole numbers that an Embedding has."
            )
        array = array.astype(np.int32)
    return np.ascontiguousarray(array if spec.timed else array.reshape(len(array)))
