"""Reading a layer's configuration: every value is checked, for files may hold anything.

`where` is the layer's place in the model, for messages: "decoder/lstm_1".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recurra.runtime.errors import ModelFileError
from recurra.runtime.layer import Array, Shape

Config = Mapping[str, Any]

REQUIRED: Any = object()
"""As a default: the configuration must have this key."""

MOST = 2**31 - 1
"""The largest whole number that is read without a bound of its own."""

LARGEST_ROW = 2**28
"""The most numbers that one row of a tensor may have where a configuration alone decides it."""


def shown(value: object) -> str:
    """A value for a message: short, however large it is."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def wrong(where: str, key: str, value: object, expected: str) -> ModelFileError:
    """The error of a value that a configuration should not have."""
    return ModelFileError(
        f"Layer '{where}': {key} is {shown(value)} in the model's file, but must be {expected}."
    )


def _get(config: Config, key: str, where: str, default: Any) -> Any:
    if key in config:
        return config[key]
    if default is REQUIRED:
        raise ModelFileError(f"Layer '{where}': {key} is missing in the model's file.")
    return default


def _whole(value: object) -> int | None:
    """A whole number, also where JSON has it as 3.0; None if it is anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def integer(
    config: Config,
    key: str,
    where: str,
    *,
    least: int = 1,
    most: int = MOST,
    default: Any = REQUIRED,
) -> int:
    """A whole number from `least` to `most`.

    Raises:
        ModelFileError: if it is missing, not a whole number or outside.

    Example:
        >>> integer({"units": 3}, "units", "dense")
        3
    """
    value = _get(config, key, where, default)
    number = _whole(value)
    if number is None or not least <= number <= most:
        raise wrong(where, key, value, f"a whole number from {least} to {most}")
    return number


def optional_integer(
    config: Config, key: str, where: str, *, least: int = 1, most: int = MOST
) -> int | None:
    """A whole number from `least` to `most`, or None where it is None or missing."""
    if config.get(key) is None:
        return None
    return integer(config, key, where, least=least, most=most)


def integers(
    config: Config,
    key: str,
    where: str,
    *,
    count: int | None = None,
    least: int = 1,
    most: int = MOST,
    default: Any = REQUIRED,
) -> tuple[int, ...]:
    """A list of whole numbers; one number stands for a list of it alone, or of `count` of it."""
    value = _get(config, key, where, default)
    listed = value if isinstance(value, (list, tuple)) else [value] * (count or 1)
    numbers = [_whole(item) for item in listed]
    found = tuple(n for n in numbers if n is not None and least <= n <= most)
    if len(found) != len(numbers) or (count is not None and len(found) != count):
        many = "whole numbers" if count is None else f"{count} whole number{'s' * (count != 1)}"
        raise wrong(where, key, value, f"{many} from {least} to {most}")
    return found


def number(
    config: Config,
    key: str,
    where: str,
    *,
    least: float = -math.inf,
    default: Any = REQUIRED,
) -> float:
    """A finite number, not below `least`."""
    value = _get(config, key, where, default)
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not abs(value) <= 3.0e38 or value < least:
        at_least = "" if least == -math.inf else f", {least:g} or more"
        raise wrong(where, key, value, f"a finite number{at_least}")
    return float(value)


def boolean(config: Config, key: str, where: str, *, default: Any = REQUIRED) -> bool:
    """True or False, also where JSON has them as 1 and 0; None counts as the default."""
    value = _get(config, key, where, default)
    if value is None and default is not REQUIRED:
        return bool(default)
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise wrong(where, key, value, "true or false")
    return bool(value)


def text(config: Config, key: str, where: str, *, default: Any = REQUIRED) -> str:
    """A string."""
    value = _get(config, key, where, default)
    if not isinstance(value, str):
        raise wrong(where, key, value, "a string")
    return value


def choice(
    config: Config, key: str, where: str, options: Sequence[str], *, default: Any = REQUIRED
) -> str:
    """One of the strings `options`."""
    value = _get(config, key, where, default)
    if not isinstance(value, str) or value not in options:
        listed = " or ".join(repr(option) for option in options)
        raise wrong(where, key, value, listed)
    return value


def axis(value: object, rank: int, where: str, key: str = "axis") -> int:
    """An axis of a tensor of `rank` axes, batch included, counted from the front.

    Example:
        >>> axis(-1, 3, "softmax")
        2
    """
    number = _whole(value)
    if number is None or not -rank <= number < rank:
        raise wrong(where, key, value, f"an axis of a tensor of {rank} axes")
    return number % rank


def axes(value: object, rank: int, where: str, key: str = "axis") -> tuple[int, ...]:
    """Axes of a tensor, given as one number or a list; counted from the front, in order."""
    listed = value if isinstance(value, (list, tuple)) else [value]
    found = tuple(axis(item, rank, where, key) for item in listed)
    if len(set(found)) != len(found) or not found:
        raise wrong(where, key, value, f"different axes of a tensor of {rank} axes")
    return tuple(sorted(found))


def data_format(config: Config, where: str) -> str:
    """ "channels_last" or "channels_first"."""
    if config.get("data_format") is None:
        return "channels_last"
    return choice(config, "data_format", where, ("channels_last", "channels_first"))


def size(shape: Shape, place: int, where: str, what: str) -> int:
    """A tensor's size along an axis that must be known, for the weights depend on it."""
    found = shape[place]
    if not found:
        raise ModelFileError(
            f"Layer '{where}': its input's {what} (axis {place} of {shown(shape)}) must be known, "
            "and not be 0."
        )
    return found


def rank(shape: Shape, where: str, *, least: int = 1, most: int = 32) -> int:
    """The number of a tensor's axes, batch included, checked."""
    if not least <= len(shape) <= most:
        expected = f"{least}" if least == most else f"{least} or more"
        raise ModelFileError(
            f"Layer '{where}': its input has {len(shape)} axes, {shown(shape)} with the batch, but "
            f"must have {expected}."
        )
    return len(shape)


def bounded(shape: Shape, where: str) -> Shape:
    """`shape`, if a row of it is not absurdly large; for sizes that no weights stand behind."""
    numbers = math.prod(n for n in shape[1:] if n is not None)
    if numbers > LARGEST_ROW:
        raise ModelFileError(
            f"Layer '{where}': its output would have shape {shown(shape)}, {numbers} numbers in "
            f"each row; at most {LARGEST_ROW} are allowed."
        )
    return shape


def weight(weights: Mapping[str, Array], name: str, shape: Sequence[int], where: str) -> Array:
    """The value of a variable, if its shape is `shape`.

    Raises:
        ModelFileError: if it is missing or has another shape.
    """
    value = weights.get(name)
    if value is None:
        raise ModelFileError(f"Layer '{where}': the file has no weights for its {name}.")
    if value.shape != tuple(shape):
        raise ModelFileError(
            f"Layer '{where}': its {name} has shape {shown(value.shape)} in the file, but must "
            f"have {shown(tuple(shape))}, as its configuration and input say."
        )
    return value
