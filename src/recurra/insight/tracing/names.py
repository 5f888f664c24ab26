"""Finding a layer by what people call it: its path, the end of its path, or its own name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def resolve(wanted: Any, paths: Mapping[str, str], what: str = "The trace") -> str:
    """The one path that a name stands for.

    Args:
        wanted: a path, the last parts of one, or a layer's own name.
        paths: {path: the layer's own name}.
        what: has the layers, for the message.

    Raises:
        KeyError: if nothing or more than one layer is meant; lists the paths, the likeliest first.

    Example:
        >>> resolve("forward_layer", {"bi/forward_layer": "forward_lstm", "lstm": "lstm"})
        'bi/forward_layer'
    """
    if not isinstance(wanted, str):
        known = f"; it has {', '.join(map(repr, paths))}" if paths else ""
        raise KeyError(f"{what} finds layers by name, and {wanted!r} is none{known}.")
    found = candidates(wanted, paths)
    if len(found) == 1:
        return found[0]
    if found:
        raise KeyError(
            f"{wanted!r} stands for {len(found)} layers; say which: {', '.join(map(repr, found))}."
        )
    if not paths:
        raise KeyError(f"{what} has no layer {wanted!r}; it has no recurrent layers at all.")
    close = difflib.get_close_matches(wanted, [*paths, *paths.values()], n=1, cutoff=0.5)
    first = [path for path, name in paths.items() if {path, name} & set(close)]
    rest = [path for path in paths if path not in first]
    raise KeyError(
        f"{what} has no layer {wanted!r}; it has {', '.join(map(repr, [*first, *rest]))}."
    )


def candidates(wanted: str, paths: Mapping[str, str]) -> list[str]:
    """The paths that a name may stand for, by the strictest rule that gives any.

    In this order: that very path; what lies inside of it ("bi" for both directions); paths that end
    with it; layers whose own name it is.
    """
    if wanted in paths:
        return [wanted]
    rules: Iterable[list[str]] = (
        [path for path in paths if path.startswith(f"{wanted}/")],
        [path for path in paths if path.endswith(f"/{wanted}") or f"/{wanted}/" in f"/{path}"],
        [path for path, name in paths.items() if name == wanted],
    )
    return next((found for found in rules if found), [])


def wanted(layers: Sequence[Any] | str | None, paths: Mapping[str, str]) -> set[str]:
    """The paths that `layers=` asks for; all without.

    Args:
        layers: names, as `candidates` takes them.
        paths: {path: the layer's own name}.

    Raises:
        KeyError: for a name that stands for nothing.
    """
    if layers is None:
        return {*paths}
    found: set[str] = set()
    for each in listed(layers):
        name = each if isinstance(each, str) else getattr(each, "name", each)
        matches = (
            candidates(name, paths) or candidates(plain(name), paths)
            if isinstance(name, str)
            else []
        )
        if not matches:
            resolve(name, paths, "The model")
        found |= {*matches}
    return found


def listed(layers: Any) -> list[Any]:
    """What `layers=` was given, as a list, where it may be a single one."""
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        return [layers]
    return [*layers]


def plain(path: str) -> str:
    """A path without the numbers of further calls.

    Example:
        >>> plain("bi:2/forward_layer")
        'bi/forward_layer'
    """
    return "/".join(part.partition(":")[0] for part in path.split("/"))
