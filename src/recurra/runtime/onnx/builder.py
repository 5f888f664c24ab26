"""An ONNX graph that grows, operator by operator, with names that say which layer each is of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from recurra.runtime.layer import Array, Layer, Shape
from recurra.runtime.onnx.package import onnx

OPSET = 17
"""The operators' version: LayerNormalization came with it; ONNX Runtime has read it since 1.12."""

IR_VERSION = 8
"""The file format's version that belongs to it."""

TYPES = {"float32": "FLOAT", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
"""ONNX's names of the types that the runtime has."""


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph that stands for one of the model's.

    Args:
        name: its name.
        shape: with the batch; None where it is free.
        dtype: NumPy's name of its type.
        mask: name of the bool tensor (batch, time_steps) that is its mask; None without.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    mask: str | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def unmasked(self) -> Value:
        """Without its mask."""
        return replace(self, mask=None)


@dataclass(frozen=True)
class State:
    """A state that a stateful model takes and gives.

    Args:
        field: what a session calls it: "lstm/hidden_state".
        input, output: the names of the model's input and output, both of `shape`.
    """

    field: str
    input: str
    output: str
    shape: Shape


class Stored(NamedTuple):
    """Where a layer's variable is in the file.

    Args:
        tensor: name of an initializer; for recurrent weights the name in Keras's layout.
        axes: how the variable's axes were ordered for it; () if they were left.
        cell: for recurrent weights, what `recurra.weights.from_onnx` is to be told; else None.
    """

    tensor: str
    axes: Sequence[int] = ()
    cell: Mapping[str, Any] | None = None


def identifier(name: str) -> str:
    """A name of letters, digits and underscores, as ONNX wishes names of inputs and outputs."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


class Builder:
    """The graph while it is written.

    Args:
        stateful: whether layers take their states from inputs and give them as outputs.

    Attributes:
        scope: name of the layer that is being written, which prefixes its operators' names.
        states: the states so far.
        masks: what writers have made of masks, by the masks' names.
        mask_ranks: of masks that have other axes than (batch, time_steps), how many.
        variables: where each layer's variables are, by the layers' places.
    """

    def __init__(self, stateful: bool = False) -> None:
        self.stateful, self.scope = stateful, ""
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.states: list[State] = []
        self.masks: dict[str, Any] = {}
        self.mask_ranks: dict[str, int] = {}
        self.variables: dict[str, dict[str, Stored]] = {}
        self._weights: dict[str, str] = {}
        self._owners: dict[str, tuple[Layer, str]] = {}
        self._names: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def name(self, hint: str) -> str:
        """A name that nothing else has."""
        unique, count = hint, 1
        while unique in self._names:
            count += 1
            unique = f"{hint}_{count}"
        self._names.add(unique)
        return unique

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output, whose name is returned; "" leaves an input out."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: int | Sequence[bool],
        **attributes: Any,
    ) -> list[str]:
        """Add an operator; names of its outputs, "" for those not wanted."""
        wanted = [True] * outputs if isinstance(outputs, int) else list(outputs)
        name = self.name(f"{self.scope}/{kind}")
        names = [self.name(f"{name}_output_{i}") if w else "" for i, w in enumerate(wanted)]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(onnx().helper.make_node(kind, list(inputs), names, name=name, **kept))
        return names

    def rename(self, value: str, name: str) -> None:
        """Give a tensor as an output of the model, under this name."""
        node = onnx().helper.make_node(
            "Identity", [value], [name], name=self.name(f"{name}/Identity")
        )
        self.nodes.append(node)

    def weight(self, name: str, array: Array) -> str:
        """An array that belongs to one layer, under a name that tells which: "dense/kernel".

        A layer that is called twice has it once.
        """
        if name not in self._weights:
            full = self._weights[name] = self.name(name)
            given = np.asarray(array, order="C")
            self.initializers.append(onnx().numpy_helper.from_array(given, full))
        return self._weights[name]

    def variable(self, layer: Layer, name: str, *axes: int) -> str:
        """A variable of a layer, with its axes in this order if any are given."""
        owner, prefix = self._owners.get(layer.where, (layer, ""))
        array = owner.weights[prefix + name]
        stored = self.weight(f"{layer.where}/{name}", array.transpose(axes) if axes else array)
        self.remember(layer, name, Stored(stored, axes))
        return stored

    def remember(self, layer: Layer, name: str, stored: Stored) -> None:
        """Note where a variable is in the file."""
        owner, prefix = self._owners.get(layer.where, (layer, ""))
        self.variables.setdefault(owner.where, {})[prefix + name] = stored

    def inside(self, layer: Layer, part: str, inner: Layer) -> None:
        """Note that a layer is a part of another one, which has its variables."""
        owner, prefix = self._owners.get(layer.where, (layer, ""))
        self._owners[inner.where] = (owner, f"{prefix}{part}/")

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """A constant; equal ones are stored once."""
        array = np.asarray(value, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            label = "x".join(str(n) for n in array.shape) or "scalar"
            full = self.name(f"constants/{dtype}_{label}")
            self.initializers.append(onnx().numpy_helper.from_array(array, full))
            self._constants[key] = full
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """A constant vector of whole numbers: shapes, axes, indices."""
        return self.constant(values, "int64")

    def size(self, value: str, axis: int) -> str:
        """The size along one axis, as a vector of one number."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def cast(self, value: str, dtype: str) -> str:
        """The same numbers in another type."""
        return self.op("Cast", value, to=getattr(onnx().TensorProto, TYPES[dtype]))

    def transpose(self, value: str, *axes: int) -> str:
        return self.op("Transpose", value, perm=list(axes))

    def slice(self, value: str, axis: int, start: int, stop: int | str, step: int = 1) -> str:
        """A stretch along one axis; `stop` may be the name of a vector of one number."""
        end = stop if isinstance(stop, str) else self.ints(stop)
        return self.op("Slice", value, self.ints(start), end, self.ints(axis), self.ints(step))

    def zeros_like(self, value: str) -> str:
        """Zeros (float32) of a tensor's shape."""
        return self.op("ConstantOfShape", self.op("Shape", value))

    def flip(self, value: str, axis: int) -> str:
        """The same backwards along one axis."""
        return self.slice(value, axis, -1, -(2**63) + 1, -1)

    def reshape(self, value: str, *sizes: int | str) -> str:
        """Another shape: numbers, or names of vectors of one number; -1 and 0 as ONNX has them."""
        if all(isinstance(size, int) for size in sizes):
            return self.op("Reshape", value, self.constant(sizes, "int64"))
        parts = [size if isinstance(size, str) else self.ints(size) for size in sizes]
        return self.op("Reshape", value, self.op("Concat", *parts, axis=0))

    def state(self, field: str, shape: Shape) -> tuple[str, int]:
        """A state's input, and its number for `give_state`."""
        name = self.name(identifier(field))
        self.states.append(State(field, name, "", shape))
        return name, len(self.states) - 1

    def give_state(self, number: int, value: str) -> None:
        """What a state is after this call."""
        given = self.states[number]
        output = self.name(f"{given.input}_out")
        self.states[number] = replace(given, output=output)
        self.rename(value, output)
