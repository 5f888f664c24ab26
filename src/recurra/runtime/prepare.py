"""From what people hand to a stream to the arrays that the engine takes, or an error that teaches.

Arrays that fit never come here: the engine takes them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.runtime.layer import Array

if TYPE_CHECKING:
    from recurra.runtime.streaming.program import Input, Program


def prepare(program: Program, given: tuple[Any, ...], batch: int, run: bool) -> tuple[Array, ...]:
    """The inputs of a step or a run.

    Args:
        program: the model's.
        given: the call's positional arguments.
        batch: the session's.
        run: whether it is a stretch of steps.

    Returns:
        An array for each input, C-contiguous float32 (indices: int32); all with the batch's axis
        or, with batch=1, all without.

    Raises:
        TypeError: for what is no numbers.
        ValueError: for shapes that do not fit, other numbers of inputs than the model's, stretches
            of different lengths, and indices that are no whole numbers.
    """
    call = "run" if run else "step"
    arrays = [
        _array(spec, value, call)
        for spec, value in zip(program.inputs, _by_input(program, given, call), strict=True)
    ]
    shaped = [
        _shaped(spec, array, batch, run) for spec, array in zip(program.inputs, arrays, strict=True)
    ]
    _check_lengths(program, shaped, batch, run)
    if batch == 1 and any(not leading for _, leading in shaped):
        return tuple(array[0] if leading else array for array, leading in shaped)
    return tuple(array for array, _ in shaped)


def prepare_many(program: Program, given: Any, count: int) -> list[Array]:
    """The inputs of one step of many sessions: an array (count, ...) for each input.

    Raises:
        TypeError, ValueError: as `prepare`.
    """
    several = given if isinstance(given, tuple) and len(program.inputs) > 1 else (given,)
    arrays = []
    values = _by_input(program, several, "step_many")
    for spec, value in zip(program.inputs, values, strict=True):
        array = _array(spec, value, "step_many")
        features = spec.features
        if array.shape not in ((count, *features), (count, 1, *features)):
            raise ValueError(
                f"step_many() got shape {array.shape} for {_called(program, spec)}; expected "
                f"{(count, *features)}, a step for each of the {count} sessions."
            )
        arrays.append(array.reshape((count,) if spec.indices else (count, *features)))
    return arrays


def _by_input(program: Program, given: Sequence[Any], call: str) -> Sequence[Any]:
    """The values in the model's order."""
    names = [spec.name for spec in program.inputs]
    if len(given) == 1 and isinstance(given[0], Mapping):
        missing = [name for name in names if name not in given[0]]
        unknown = [str(name) for name in given[0] if name not in names]
        if missing or unknown:
            raise ValueError(
                f"{call}() got inputs by the names {', '.join(map(str, given[0])) or 'none'}; "
                f"expected {', '.join(names)}."
            )
        return [given[0][name] for name in names]
    if len(given) == 1 and len(names) > 1 and isinstance(given[0], (list, tuple)):
        given = given[0]
    if len(given) != len(names):
        raise ValueError(
            f"{call}() got {len(given)} inputs; '{program.name}' has {len(names)}: "
            f"{', '.join(names)}."
        )
    return given


def _array(spec: Input, value: Any, call: str) -> Array:
    """float32 or int32 numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{call}() got a list whose parts differ in length for input '{spec.name}'; expected "
            "an array."
        ) from None
    if array.dtype.kind not in "fiub":
        shown = f"{type(value).__name__} of {array.dtype}" if array.ndim else repr(value)
        raise TypeError(
            f"{call}() got {shown} for input '{spec.name}'; expected "
            f"{'whole numbers' if spec.indices else 'numbers'}."
        )
    if not spec.indices:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array, np.float32).reshape(array.shape)
    if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
        wrong = array[array != np.trunc(array)]
        raise ValueError(
            f"{call}() got {wrong.flat[0]} for input '{spec.name}', which takes indices; expected "
            "whole numbers."
        )
    limits = np.iinfo(np.int32)
    if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        raise ValueError(f"{call}() got indices for input '{spec.name}' beyond 32 bits.")
    return np.ascontiguousarray(array, np.int32).reshape(array.shape)


def _shaped(spec: Input, array: Array, batch: int, run: bool) -> tuple[Array, bool]:
    """The array as the engine takes it, and whether it has the batch's axis."""
    features = spec.features
    timed = run and spec.timed
    rank = timed + len(features)
    fits = array.ndim >= len(features) and array.shape[array.ndim - len(features) :] == features
    leading = array.ndim == rank + 1 and array.shape[0] == batch
    if batch == 1 and array.ndim == 0 and rank == 1 and features == (1,):
        array, fits = array.reshape(1), True  # a number, for the one feature that there is
    elif not fits or not (leading or (batch == 1 and array.ndim == rank)):
        raise ValueError(_wrong_shape(spec, array, batch, run))
    if spec.indices and not spec.timed:  # (1,) is how the model has it, the engine has no such axis
        array = array.reshape(array.shape[: array.ndim - len(features)])
    return array, leading


def _wrong_shape(spec: Input, array: Array, batch: int, run: bool) -> str:
    features = tuple(map(str, spec.features))
    time = ("time_steps",) if run and spec.timed else ()
    expected = [(str(batch), *time, *features)]
    if batch == 1:
        expected.insert(0, (*time, *features))
    listed = " or ".join(_shown(shape) for shape in expected)
    hint = ""
    if spec.timed and not run and array.ndim == 2 + len(spec.features):
        hint = " step() takes one time step; run() takes several."
    elif spec.timed and not run and batch == 1 and array.ndim == 1 + len(spec.features):
        hint = " step() takes one time step, run() several; open(batch=...) makes several streams."
    elif spec.timed and run and array.ndim == len(spec.features):
        hint = " run() takes several time steps; step() takes one."
    elif spec.features and array.shape == spec.features[:-1]:
        hint = " Add the axis of the features with x[..., np.newaxis]."
    return (
        f"{'run' if run else 'step'}() got shape {array.shape} for input '{spec.name}'; expected "
        f"{listed}.{hint}"
    )


def _shown(shape: Sequence[str]) -> str:
    return f"({', '.join(shape)}{',' if len(shape) == 1 else ''})" if shape else "a number"


def _check_lengths(
    program: Program, shaped: Sequence[tuple[Array, bool]], batch: int, run: bool
) -> None:
    lengths = {
        spec.name: array.shape[int(leading)]
        for spec, (array, leading) in zip(program.inputs, shaped, strict=True)
        if run and spec.timed
    }
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise ValueError(
            f"run() got inputs of different numbers of time steps: {listed}. Expected as many of "
            "each."
        )
    if program.newest_only and 0 in lengths.values():
        raise ValueError(
            "run() got no time steps, and the model has an output that is the newest step's alone. "
            "Expected one step or more."
        )


def _called(program: Program, spec: Input) -> str:
    return f"input '{spec.name}'" if len(program.inputs) > 1 else "its steps"
