"""Arguments of a recurrent layer and of a call to it, checked early, with errors that teach."""

from __future__ import annotations

import difflib
import numbers
from typing import Any

import numpy as np

from recurra.cells import CellSpec
from recurra.layers import provenance


def check_units(units: Any) -> int:
    """`units` as an int; ValueError unless it is a positive integer."""
    integer = isinstance(units, numbers.Integral) and not isinstance(units, bool)
    if not integer or int(units) <= 0:
        raise ValueError(
            "Received an invalid value for argument `units`, expected a positive integer, got "
            f"{units!r}{'' if integer else f' of type {type(units).__name__}'}. "
            "`units` is the size of the layer's output and of each state."
        )
    return int(units)


def check_checkpoint_every(value: Any, engine: str) -> int | str | None:
    """`checkpoint_every` as an int, "sqrt" or None; ValueError for anything else.

    Args:
        value: what was passed.
        engine: the layer's `engine`: Keras's scan keeps no checkpoints.
    """
    if value is None:
        return None
    integer = isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))
    if not (isinstance(value, str) and value == "sqrt") and not (integer and int(value) >= 1):
        close = isinstance(value, str) and difflib.get_close_matches(value, ["sqrt"], n=1)
        hint = " Did you mean 'sqrt'?" if close else ""
        raise ValueError(
            f"checkpoint_every={value!r} is not a number of steps.{hint} Expected a positive "
            "integer k, to keep the states before steps 0, k, 2k, ... for the backward pass and "
            "compute the others anew; 'sqrt' for a k of about the square root of the number of "
            "time steps, which needs the least memory; or None to keep every step, which is "
            "fastest."
        )
    if engine == "keras":
        raise ValueError(
            f"checkpoint_every={value!r} needs Recurra's engine and engine='keras' asks for "
            "Keras's own scan, which keeps every step. Leave out one of the two."
        )
    # No sequence is that long, and the engine counts steps in 64 bits.
    return min(int(value), 2**40) if integer else "sqrt"


def nested_numbers(value: Any) -> bool:
    """Whether `value` is a Python list or tuple with a number innermost, as `[[[1.0], [2.0]]]`."""
    if not isinstance(value, (list, tuple)):
        return False
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (bool, int, float, np.generic))


def array_from_numbers(value: Any, layer: str, argument: str = "sequences") -> np.ndarray:
    """A Python list of numbers as an array; ValueError if rows differ in length."""
    try:
        return np.asarray(value)
    except ValueError:
        if argument != "sequences":
            raise ValueError(
                f"{argument} of layer {layer!r} is a list whose rows differ in length; expected "
                "rows of equal lengths."
            ) from None
        raise ValueError(
            f"The input of layer {layer!r} is a list whose rows differ in length; expected "
            "(batch, time_steps, features) with equal lengths. Pad the sequences "
            "(keras.utils.pad_sequences) and pass mask=, True where a step is real."
        ) from None


def arrays_from_lists(argument: str, value: Any, layer: str) -> Any:
    """A call argument with arrays in place of Python lists of numbers; others as they are.

    Args:
        argument: "sequences", "initial_state" or "mask".
        value: what was passed. For initial_state, one nested list may hold all states.
        layer: the layer's name.

    Raises:
        ValueError: if rows of a list differ in length.

    Example:
        >>> arrays_from_lists("mask", [[True, False]], "lstm")
        array([[ True, False]])
    """
    if nested_numbers(value):
        array = array_from_numbers(value, layer, argument)
        return list(array) if argument == "initial_state" and array.ndim == 3 else array
    if not isinstance(value, (list, tuple)):
        return value
    if argument == "initial_state":
        return [
            array_from_numbers(state, layer, argument) if nested_numbers(state) else state
            for state in value
        ]
    if argument == "sequences" and len(value) == 1 and hasattr(value[0], "shape"):
        return value[0]
    return value


def call_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], layer: str
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """A recurrent layer's call arguments, with arrays in place of lists of numbers.

    Args:
        args, kwargs: as `__call__` got them.
        layer: the layer's name.

    Returns:
        args and kwargs to hand on, and those of sequences, initial_state and mask that were given,
        by name.
    """
    names = ("sequences", "initial_state", "mask")
    positional = [
        arrays_from_lists(name, value, layer) for name, value in zip(names, args, strict=False)
    ]
    args = (*positional, *args[len(positional) :])
    kwargs = {
        name: arrays_from_lists(name, value, layer) if name in names else value
        for name, value in kwargs.items()
    }
    return args, kwargs, dict(zip(names, args, strict=False)) | kwargs


def check_inputs(sequences: Any, features: int | None, spec: CellSpec, layer: str) -> None:
    """Raise ValueError unless the input is (batch, time_steps, features).

    Args:
        sequences: the layer's input; things without a shape are left to Keras.
        features: what the layer was built for, None before it is built.
        spec: the layer's cell.
        layer: the layer's name.
    """
    shape = getattr(sequences, "shape", None)
    if shape is None:
        check_not_whole_result(sequences, layer)
        if isinstance(sequences, (list, tuple)) and len(sequences) > 1:
            raise ValueError(
                f"Layer {layer!r} expects 1 input, but it received {len(sequences)} input tensors "
                f"in a {type(sequences).__name__}. To start from given states, call "
                f"layer(x, initial_state=[{', '.join(spec.state_outputs)}])."
            )
        return
    shape = tuple(shape)
    if len(shape) != 3:
        raise ValueError(
            f"Input 0 of layer {layer!r} is incompatible with the layer: expected ndim=3, found "
            f"ndim={len(shape)}. Full shape received: {shape}. {article(spec.layer).title()} "
            f"{spec.layer} reads sequences of shape (batch, time_steps, features). "
            f"{_reshape_hint(shape, sequences, layer)}"
        )
    if features is None and shape[2] is None:
        raise ValueError(
            f"Layer {layer!r} got an input of shape {shape}, whose number of features per step is "
            "not known; its weights are made for a fixed number. Give the model "
            "keras.Input((None, features)), with None for time_steps alone."
        )
    if features is not None and shape[2] is not None and shape[2] != features:
        raise ValueError(
            f"Layer {layer!r} was built for {features} features per step, but this input has shape "
            f"{shape}, so {shape[2]} features. Pass (batch, time_steps, {features}), or make a new "
            "layer for the new number of features."
        )


def article(name: str) -> str:
    """The article before a class's name in a sentence: "an" LSTM, "a" GRU."""
    return "an" if name.startswith("LSTM") else "a"


def check_not_whole_result(value: Any, layer: str) -> None:
    """Raise ValueError if a layer gets a whole tuple of results for its input.

    Args:
        value: the input.
        layer: the layer's name.
    """
    names = getattr(value, "_fields", None)
    ours = hasattr(type(value), "_spec") or hasattr(type(value), "_contents")
    if names is None or not ours:
        return
    raise ValueError(
        f"Layer {layer!r} expects 1 input, but it received {len(names)} input tensors in a "
        f"{type(value).__name__}: ({', '.join(names)}), the whole result of a layer with "
        f"return_state=True or return_trace=True. Pass its output, result.{names[0]}, and where "
        "its states are to be this layer's first ones, those as initial_state=[...]. In a "
        "Sequential model, which hands one tensor on, build that layer without these arguments."
    )


def _reshape_hint(shape: tuple[Any, ...], value: Any, layer: str) -> str:
    if len(shape) == 1:
        return (
            "One sequence of single values: x[None, :, None]. The first axis is the batch, the "
            "last one the features."
        )
    if len(shape) == 2:
        advice = provenance.advice_to_keep_time(value, layer)
        if advice:
            return advice
        if "int" in str(getattr(value, "dtype", "")):
            return (
                "If it holds the numbers of words, put Embedding(words, size) in front; if its "
                "rows are sequences of single values, add the features axis: x[:, :, None]."
            )
        return (
            "If its rows are sequences of single values, add the features axis: x[:, :, None]; if "
            "it is one sequence, add the batch axis: x[None]. Between layers, the one before must "
            "keep the time axis: return_sequences=True."
        )
    if len(shape) == 4:
        return (
            "Merge the last two axes into features, x.reshape(x.shape[0], x.shape[1], -1), or wrap "
            "the layer in TimeDistributed to run it over each item of axis 1."
        )
    return "Reshape it to three axes."


def check_mask(mask: Any, sequences: Any, layer: str) -> None:
    """Raise ValueError unless `mask` is (batch, time_steps), bool or a number that means one."""
    if mask is None:
        return
    shape = getattr(mask, "shape", None)
    if shape is None:
        return
    shape, full = tuple(shape), tuple(sequences.shape)
    flat = shape[:2] if len(shape) == 3 and shape[2] == 1 else shape
    fits = len(flat) == 2 and all(
        a is None or b is None or a == b for a, b in zip(flat, full[:2], strict=True)
    )
    expected = f"({full[0]}, {full[1]})".replace("None", "any")
    if not fits:
        hint = (
            " It has the features axis as well: a mask says which steps are real, for example "
            "mask.any(axis=-1)."
            if len(shape) == 3
            else " Its axes are swapped: pass mask.T."
            if len(shape) == 2 and shape[::-1] == full[:2] and shape[0] != shape[1]
            else ""
        )
        raise ValueError(
            f"mask of layer {layer!r} has shape {shape}; expected (batch, time_steps) = "
            f"{expected}, True where the step is kept.{hint}"
        )
    dtype = getattr(mask, "dtype", "bool")
    dtype = str(getattr(dtype, "name", dtype))  # TensorFlow's dtypes have names
    if not dtype.removeprefix("torch.").startswith(("bool", "int", "uint", "float", "bfloat")):
        raise ValueError(
            f"mask of layer {layer!r} has dtype {dtype}; expected bool (True = keep), or numbers "
            "where 0 means leave out."
        )
