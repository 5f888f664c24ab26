"""The data that a model is checked with: arrays by the model's inputs and outputs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.insight.structure import Node, Structure

Array = NDArray[Any]

# Values that people fill with where zero is a number like others.
_SENTINELS = (-1.0, -9.0, -10.0, -99.0, -100.0, -999.0, -1000.0, -9999.0)


@dataclass(frozen=True)
class Data:
    """What `fit` or `predict` would be given.

    x, y: arrays by the numbers of the model's input and output tensors; inputs of texts, which
        models turn into numbers themselves, are left out.
    """

    x: Mapping[int, Array]
    y: Mapping[int, Array] = field(default_factory=dict)


def data_of(structure: Structure, x: Any, y: Any = None) -> Data:
    """`x` and `y` by the model's inputs and outputs.

    Args:
        structure: the model.
        x: an array, or arrays in a list or by the inputs' names; None for none.
        y: targets likewise, by the names of the layers that make the outputs.

    Raises:
        ValueError: if there is not an array for every input.
    """
    names = {tensor.index: tensor.name for tensor in structure.tensors}
    inputs = {names[tensor]: tensor for tensor in structure.inputs}
    outputs: dict[str, int] = {}
    for tensor in structure.outputs:
        maker = structure.maker(tensor)
        name = names[tensor] if maker is None else maker.path.split("/")[-1]
        outputs.setdefault(name, tensor)
    found = [_by_tensor("x", x, inputs), _by_tensor("y", y, outputs)]
    return Data(*({t: a for t, a in each.items() if a.dtype.kind not in "OSTU"} for each in found))


def _by_tensor(argument: str, given: Any, tensors: Mapping[str, int]) -> dict[int, Array]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        found = {}
        for name, value in given.items():
            if name not in tensors:
                close = difflib.get_close_matches(str(name), tensors, n=1)
                raise ValueError(
                    f"{argument} has an array for {name!r}, which the model does not have. "
                    + (f"Did you mean {close[0]!r}? " if close else "")
                    + f"It has: {', '.join(map(repr, tensors))}."
                )
            found[tensors[name]] = _array(argument, value)
        return found
    several = isinstance(given, (list, tuple)) and (
        len(tensors) > 1 or (len(given) == 1 and hasattr(given[0], "shape"))
    )
    values = list(given) if several else [given]
    if len(values) != len(tensors):
        raise ValueError(
            f"{argument} is {len(values)} {'array' if len(values) == 1 else 'arrays'}; the model "
            f"has {len(tensors)}: give them in a list, or by name: {', '.join(map(repr, tensors))}."
        )
    return {
        tensor: _array(argument, value)
        for tensor, value in zip(tensors.values(), values, strict=True)
    }


def _array(argument: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty((), object)
    if array.dtype == object and not _is_text(array):
        raise ValueError(
            f"{argument} is no array of numbers: {type(value).__name__}, perhaps of rows of "
            "different lengths. Pad the rows to one length: keras.utils.pad_sequences(rows, "
            'padding="post").'
        )
    return array


def _is_text(array: Array) -> bool:
    return bool(array.ndim) and all(isinstance(value, (str, bytes)) for value in array.flat)


@dataclass(frozen=True)
class Padding:
    """How sequences were made equally long.

    value: what stands at the steps that were added.
    lengths: (batch,), how many were added to each row.
    at_end: whether they come after the real steps.
    """

    value: float
    lengths: Array
    at_end: bool

    @property
    def rows(self) -> int:
        """How many rows were padded."""
        return int((self.lengths > 0).sum())


def equal_steps(array: Array, value: float) -> Array:
    """(batch, time_steps): whether a step holds nothing but a value.

    Args:
        array: (batch, time_steps) or (batch, time_steps, features).
        value: the value.
    """
    same = array == value
    return same.all(axis=-1) if same.ndim == 3 else same


def runs(same: Array) -> tuple[Array, Array, Array]:
    """How many steps are set at the beginning and the end of each row, and in between.

    Args:
        same: (batch, time_steps), bool. Rows that are set throughout count as set at the end.

    Returns:
        (batch,) each.
    """
    steps = same.shape[1]
    if not steps:
        none = np.zeros(len(same), int)
        return none, none, none
    end = np.argmin(np.concatenate([same, np.zeros((len(same), 1), bool)], 1)[:, ::-1][:, 1:], 1)
    full = same.all(1)
    end = np.where(full, steps, end)
    start = np.where(full, 0, np.argmin(same, 1))
    return start, end, same.sum(1) - start - end


def padding_of(array: Array) -> Padding | None:
    """How the rows of an array were padded, if they clearly were; None if not.

    That is the case if one value fills whole steps at one side of the rows, in different numbers,
    and nowhere else.
    """
    if array.ndim not in (2, 3) or array.shape[0] < 2 or array.shape[1] < 2:
        return None
    for value in (0.0, *_SENTINELS):
        same = equal_steps(array, value)
        if not same.any() or same.all():
            continue
        start, end, between = runs(same)
        partial = ~same.all(1)
        lengths = start if start[partial].any() else end
        other = end if lengths is start else start
        if between.any() or other[partial].any():
            continue
        if value != 0.0 and array[~same].min() <= value:
            continue
        clear = lengths.max() >= 2 and (lengths > 0).sum() >= 2 and len(np.unique(lengths)) >= 2
        if clear:
            return Padding(value, lengths, lengths is end)
    return None


def reads_tokens(node: Node) -> bool:
    """Whether a call looks its input up in a table."""
    return node.class_name == "Embedding"
