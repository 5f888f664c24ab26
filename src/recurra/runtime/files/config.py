"""A model's architecture: JSON, read strictly."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from recurra.runtime.files.limits import Limits
from recurra.runtime.files.source import Source

NOT_ARCHITECTURE = ("compile_config", "build_config")
MAX_INTEGER = 2**63


def parse(source: Source, text: bytes, what: str, limits: Limits) -> dict[str, Any]:
    """A JSON object out of a model file.

    Raises:
        ModelFileError: if it is no JSON, no object, too large or too deep, names a thing twice,
            or has numbers or texts that cannot be used: not finite, beyond 64 bits, not Unicode.
    """
    if len(text) > limits.max_config_bytes:
        raise source.fail(
            f"its {what} has {len(text)} bytes, more than {limits.max_config_bytes} "
            "(limit max_config_bytes)"
        )
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > limits.max_entries:
        raise source.fail(
            f"its {what} has more than {limits.max_entries} values (limit max_entries)"
        )

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise source.fail(f"its {what} names a thing twice in one place")
        return made

    try:
        tree = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise source.fail(f"its {what} is nested too deeply") from None
    except UnicodeDecodeError:
        raise source.fail(f"its {what} is not UTF-8 text") from None
    except ValueError as error:
        if type(error) not in (ValueError, json.JSONDecodeError):
            raise
        raise source.fail(f"its {what} is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise source.fail(f"its {what} is {type(tree).__name__}, where an object was expected")
    for name in NOT_ARCHITECTURE:
        tree.pop(name, None)
    _check(source, tree, what, limits)
    return tree


def _check(source: Source, tree: dict[str, Any], what: str, limits: Limits) -> None:
    """Level by level, since what is nested deeply would end Python's own recursion."""
    level: list[Any] = [tree]
    for _ in range(limits.max_depth):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for name in value:
                    _check_text(source, name, what)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str):
                _check_text(source, value, what)
            elif isinstance(value, float):
                if not isfinite(value):
                    raise source.fail(f"its {what} has a number that is not finite: {value}")
            elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
                raise source.fail(f"its {what} has a number beyond 64 bits")
        if not below:
            return
        level = below
    raise source.fail(f"its {what} is nested more than {limits.max_depth} deep (limit max_depth)")


def _check_text(source: Source, text: str, what: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise source.fail(f"its {what} has text that is not Unicode: {text!a:.100}") from None
