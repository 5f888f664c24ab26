"""What a model takes and gives, as far as columns and rows are concerned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.cli.failures import CommandError

Array = NDArray[Any]


@dataclass(frozen=True)
class Input:
    """An input of a model, without the batch.

    Args:
        name: its own.
        step: the shape of one time step, or of the whole input if it has none.
        steps: whether it has time steps.
        time_steps: how many; None if any number.
        integer: whether it takes indices.
        limit: how many indices its Embedding has; None if it has none.
    """

    name: str
    step: tuple[int, ...]
    steps: bool
    time_steps: int | None
    integer: bool
    limit: int | None = None

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return math.prod(self.step)

    @property
    def rank(self) -> int:
        """Dimensions of one sample."""
        return len(self.step) + self.steps


@dataclass(frozen=True)
class Output:
    """An output of a model, without the batch; None where a length is free."""

    name: str
    shape: tuple[int | None, ...]


class Form:
    """The inputs and outputs of a model.

    Args:
        runtime: a loaded model.
        stepwise: take an input of fixed length and integers, (None, 12), as 12 time steps of one
            index, as a stream does, and not as a row of 12 columns.
    """

    def __init__(self, runtime: Any, *, stepwise: bool = False) -> None:
        self.graph = runtime.graph
        limits = _limits(self.graph)
        self.inputs = [
            replace(_input(tensor, stepwise), limit=limits.get(index))
            for index, tensor in enumerate(runtime.inputs)
        ]
        several = len(runtime.outputs) > 1
        self._names = [tensor.name for tensor in runtime.outputs]
        self.outputs = [
            Output(tensor.name if several else "prediction", tuple(tensor.shape[1:]))
            for tensor in runtime.outputs
        ]
        _tell_apart(self.outputs)
        lengths = {entry.time_steps for entry in self.inputs if entry.steps} - {None}
        if len(lengths) > 1:
            raise CommandError(
                f"the model's inputs have different numbers of time steps ({sorted(lengths)}), "  # type: ignore[type-var]
                "which one table cannot hold; use recurra.load(...).predict([...]) from Python."
            )
        self.time_steps: int | None = lengths.pop() if lengths else None

    @property
    def steps(self) -> bool:
        """Whether any input has time steps."""
        return any(entry.steps for entry in self.inputs)

    @property
    def width(self) -> int:
        """Columns that the inputs take together, in their order."""
        return sum(entry.width for entry in self.inputs)

    @property
    def integers(self) -> list[bool]:
        """For each column, whether it has to be an integer."""
        return [entry.integer for entry in self.inputs for _ in range(entry.width)]

    @property
    def limits(self) -> list[int | None]:
        """For each column, how many indices its Embedding has, from 0; None if it has none."""
        return [entry.limit for entry in self.inputs for _ in range(entry.width)]

    def split(self, values: Array, *, sequence: bool) -> list[Array]:
        """Columns to inputs: (..., width) to one array per input, float32 or int32.

        Args:
            values: rows (rows, width), or sequences (batch, time_steps, width).
            sequence: whether the last axis but one is time. Inputs without time steps then get
                the last step's columns.
        """
        arrays, first = [], 0
        for entry in self.inputs:
            part = values[..., first : first + entry.width]
            first += entry.width
            if sequence and not entry.steps:
                part = part[..., -1, :]
            part = part.astype(np.int32 if entry.integer else np.float32)
            arrays.append(part.reshape(*part.shape[:-1], *entry.step))
        return arrays

    def describe(self) -> str:
        """The inputs in words, for messages."""
        parts = []
        for entry in self.inputs:
            shape = ", ".join(map(str, entry.step))
            kind = "integers" if entry.integer else "numbers"
            if entry.steps:
                count = "any number of" if entry.time_steps is None else entry.time_steps
                each = f" of ({shape})" if entry.step else ""
                parts.append(f"'{entry.name}': {count} time steps{each} {kind}")
            else:
                parts.append(f"'{entry.name}': ({shape}) {kind}")
        return "; ".join(parts)

    def flat(self, results: Any) -> list[Array]:
        """A model's results, however Keras nests them, as one array per output."""
        if isinstance(results, Mapping):
            return [np.asarray(results[name]) for name in self._names]
        if not isinstance(results, list | tuple):
            return [np.asarray(results)]
        return [array for each in results for array in self.flat(each)]

    def per_step(self, output: Output) -> bool:
        """Whether an output has a value for every time step of the input."""
        if not self.steps or not output.shape:
            return False
        length = output.shape[0]
        if length is None:
            return True
        return length == self.time_steps and len(output.shape) > 1


def choose_outputs(form: Form, names: Sequence[str]) -> list[int]:
    """The outputs by their names; all if none is named."""
    known = [output.name for output in form.outputs]
    for name in names:
        if name not in known:
            raise CommandError(f"no output {name!r}; the model has {', '.join(known)}.")
    return [known.index(name) for name in names] or list(range(len(known)))


def column_names(name: str, shape: Sequence[int]) -> list[str]:
    """Names of an output's columns: itself for one value, with indices for more."""
    if math.prod(shape) == 1:
        return [name]
    return ["_".join([name, *map(str, index)]) for index in np.ndindex(*shape)]


def _input(tensor: Any, stepwise: bool) -> Input:
    shape = tuple(tensor.shape[1:])
    integer = "int" in str(tensor.dtype)
    if len(shape) == 1 and shape[0] is not None and not (stepwise and integer):
        return Input(tensor.name, shape, False, None, integer)
    if not shape:
        return Input(tensor.name, (), False, None, integer)
    if any(size is None for size in shape[1:]):
        raise CommandError(
            f"input '{tensor.name}' takes {tensor.shape}, of which no table's columns can tell the "
            "free sizes; use recurra.load(...).predict(...) from Python."
        )
    return Input(tensor.name, shape[1:], True, shape[0], integer)


_MOVING = ("Dropout", "Identity", "Flatten", "Reshape", "Permute", "RepeatVector", "WithMask")
"""Layers that leave indices what they are."""


def _limits(graph: Any) -> dict[int, int]:
    """For the inputs that Embeddings read, by their places, the size of the smallest."""
    places = {tensor.index: place for place, tensor in enumerate(graph.inputs)}
    limits: dict[int, int] = {}
    for node in graph.nodes:
        origins = [places[tensor.index] for tensor in node.inputs if tensor.index in places]
        if not origins:
            continue
        if node.layer.keras_class == "Embedding":
            size = node.layer.input_dim
            limits[origins[0]] = min(size, limits.get(origins[0], size))
        elif node.layer.keras_class in _MOVING:
            places.update({tensor.index: origins[0] for tensor in node.outputs})
    return limits


def _tell_apart(outputs: list[Output]) -> None:
    """Give outputs of one layer different names: lstm, lstm_1, lstm_2."""
    taken: set[str] = set()
    for index, output in enumerate(outputs):
        name, number = output.name, 0
        while name in taken:
            number += 1
            name = f"{output.name}_{number}"
        taken.add(name)
        outputs[index] = Output(name, output.shape)
