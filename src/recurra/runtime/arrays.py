"""What users give a model, as the arrays that it takes; errors that say what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurra.runtime.layer import Array, Mask, Shape


class Spec(NamedTuple):
    """An input or output of a model.

    Args:
        name: Keras's.
        shape: with the batch; None where it is free.
        dtype: "float32", or an integer type for indices.
    """

    name: str
    shape: Shape
    dtype: str

    def __repr__(self) -> str:
        return f"<{self.name}: {shape_text(self.shape)}, {self.dtype}>"


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape with names for what is free: "(batch, time_steps, 8)".

    Example:
        >>> shape_text((None, None, 8))
        '(batch, time_steps, 8)'
    """
    names = ["batch", "time_steps"]
    parts = [
        str(size) if size is not None else names[axis] if axis < 2 else "any"
        for axis, size in enumerate(shape)
    ]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def by_input(value: Any, specs: Sequence[Spec], keys: Any, what: str) -> list[Any]:
    """What was given for each input.

    Args:
        value: an array for a single input; a list or a dict by name for several.
        specs: the inputs.
        keys: how Keras nests the inputs: an index into `specs`, or a list or dict of such.
        what: what is given, for messages: "x" or "mask".

    Raises:
        ValueError: if there are more, fewer or others than the inputs.
        TypeError: if several inputs need several arrays and there is one.
    """
    names = [spec.name for spec in specs]
    if isinstance(value, Mapping):
        own = {key: keys[key] for key in keys} if isinstance(keys, Mapping) else {}
        known = {name: index for index, name in enumerate(names)} | {
            key: index for key, index in own.items() if isinstance(index, int)
        }
        unknown = [key for key in value if key not in known]
        found = {known[key]: each for key, each in value.items() if key in known}
        missing = [name for index, name in enumerate(names) if index not in found]
        if unknown or (missing and what == "x"):
            raise ValueError(
                f"{what} is a dict with the keys {_listed(value)}; expected "
                f"{_listed(names)}, the names of the model's inputs."
            )
        return [found.get(index) for index in range(len(specs))]
    if len(specs) == 1:
        # A list with the one array in it, as Keras takes it too.
        if isinstance(value, (list, tuple)) and len(value) == 1:
            rank = np.ndim(value[0]) if hasattr(value[0], "shape") else 0
            if rank >= len(specs[0].shape) or (what == "mask" and rank == 2):
                return [value[0]]
        return [value]
    if value is None and what == "mask":
        return [None] * len(specs)
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"{what} is one {type(value).__name__}, and the model has {len(specs)} inputs; pass a "
            f"list in the order {_listed(names)}, or a dict by these names."
        )
    flat = _flat(value) if isinstance(keys, Mapping) or _is_nested(keys) else list(value)
    if len(flat) != len(specs):
        raise ValueError(
            f"{what} has {len(flat)} arrays, and the model has {len(specs)} inputs: "
            f"{_listed(names)}."
        )
    return flat


def as_array(value: Any, name: str = "x") -> Array:
    """Numbers or booleans as an array, not copied where it is one.

    Raises:
        ValueError: for sequences of different lengths.
        TypeError: for anything that is no number.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        array = np.empty(0, object)
    if array.dtype.kind == "O":
        raise ValueError(
            f"{name} holds sequences of different lengths, or objects that are no numbers. Pad the "
            "sequences with zeros to one length and pass mask=, True where a step is real."
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {array.dtype}; expected numbers.")
    return array


def fitted(array: Array, spec: Spec) -> Array:
    """The array with the input's number of axes, its sizes checked.

    As in Keras, a last axis of size 1 may be missing or too many.

    Raises:
        ValueError: if it does not fit; the message says what to change.
    """
    rank = len(spec.shape)
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    elif array.ndim == rank - 1 and spec.shape[-1] == 1:
        array = array[..., np.newaxis]
    fits = array.ndim == rank and all(
        size is None or size == got for size, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"The input '{spec.name}' takes {shape_text(spec.shape)}; got shape {array.shape}."
            f"{_hint(array.shape, spec.shape)}"
        )
    return array


def converted(array: Array, spec: Spec) -> Array:
    """The array in the input's type, C-contiguous.

    Raises:
        ValueError: for indices that are no 32-bit integers.
    """
    if spec.dtype.startswith("int") and array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError(
                f"The input '{spec.name}' takes indices; got values that are not finite."
            )
        array = np.trunc(array)
    if spec.dtype == "int32" and array.size and array.dtype.itemsize >= 4:
        bounds = np.iinfo(np.int32)
        if array.dtype != np.int32 and (array.min() < bounds.min or array.max() > bounds.max):
            raise ValueError(
                f"The input '{spec.name}' takes indices; got values from {array.min()} to "
                f"{array.max()}, beyond 32 bits."
            )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=spec.dtype)


def checked_mask(value: Any, array: Array, spec: Spec) -> Mask:
    """A mask (batch, time_steps) for an input; None for none.

    Raises:
        ValueError: if its shape is another, or the input has no time axis.
    """
    if value is None:
        return None
    mask = as_array(value, "mask")
    if array.ndim < 2 or (array.ndim == 2 and spec.dtype == "float32"):
        raise ValueError(
            f"A mask was given for the input '{spec.name}', which has no time steps: it takes "
            f"{shape_text(spec.shape)}. Leave the mask out."
        )
    if mask.shape != array.shape[:2]:
        hint = " Its axes are swapped: pass mask.T." if mask.shape == array.shape[1::-1] else ""
        raise ValueError(
            f"The mask of the input '{spec.name}' has shape {mask.shape}; expected "
            f"{array.shape[:2]}, (batch, time_steps), True where a step is real.{hint}"
        )
    if mask.dtype.kind == "f" and not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            f"The mask of the input '{spec.name}' has values other than 0 and 1; expected "
            "booleans, True where a step is real."
        )
    return mask.astype(bool, copy=False)


def nested(structure: Any, arrays: Sequence[Any]) -> Any:
    """Arrays nested as a structure of their indices is."""
    if isinstance(structure, Mapping):
        return {key: nested(each, arrays) for key, each in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [nested(each, arrays) for each in structure]
    return arrays[structure]


def _hint(got: Sequence[int], shape: Shape) -> str:
    if len(got) == len(shape) - 1 and all(
        s is None or s == g for s, g in zip(shape[1:], got, strict=True)
    ):
        return " For one row, add the batch: x[np.newaxis]."
    if len(got) == len(shape) == 3:
        if shape[2] == got[1]:
            return " The last two axes look swapped: pass np.swapaxes(x, 1, 2)."
        if shape[2] is not None and shape[2] != got[2]:
            return f" Each step must have {shape[2]} features, and has {got[2]}."
        if shape[1] is not None and shape[1] != got[1]:
            return (
                f" The model was saved for exactly {shape[1]} time steps; cut or pad the "
                "sequences, or save it with keras.Input((None, features))."
            )
    if len(got) != len(shape):
        return f" It needs {len(shape)} axes, and has {len(got)}."
    return ""


def _is_nested(keys: Any) -> bool:
    return isinstance(keys, list) and any(not isinstance(each, int) for each in keys)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [each for key in sorted(value, key=str) for each in _flat(value[key])]
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in _flat(item)]
    return [value]


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
