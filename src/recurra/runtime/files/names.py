"""What Keras calls the parts of models in its files."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

_OTHER_NAMES = {"GroupQueryAttention": "GroupedQueryAttention"}
"""Classes whose name in Keras's interface, and so in files, is not the one that parts come from."""


def snake_case(class_name: str) -> str:
    """ "LSTMCell" as "lstm_cell"."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def container_names(class_names: Iterable[str], twice: Container[int] = ()) -> list[str]:
    """What objects of these classes are called in a list of them.

    Args:
        class_names: of the objects, in order.
        twice: numbers of objects that the list has twice, which therefore count twice.

    Example:
        ```python
        container_names(["LSTMCell", "GRUCell", "LSTMCell"])  # lstm_cell, gru_cell, lstm_cell_1
        ```
    """
    used: dict[str, int] = {}
    names = []
    for number, class_name in enumerate(class_names):
        name = snake_case(_OTHER_NAMES.get(class_name, class_name))
        count = used.get(name, 0)
        names.append(f"{name}_{count}" if count else name)
        used[name] = count + (2 if number in twice else 1)
    return names


def is_model(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a model's list of layers is a model itself."""
    config = entry.get("config")
    return isinstance(config, dict) and isinstance(config.get("layers"), list)


def is_operation(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is one of `keras.ops`, which Keras does not count among the layers."""
    module = entry.get("module")
    return isinstance(module, str) and module.startswith(("keras.src.ops", "keras.ops"))


def class_of(entry: Mapping[str, Any]) -> str:
    """The class of a layer; what of it is registered ("Package>Class") stands elsewhere."""
    name = entry.get("class_name")
    return name.rpartition(">")[2] if isinstance(name, str) else ""


def name_of(entry: Mapping[str, Any]) -> str:
    """A layer's own name."""
    config = entry.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        name = entry.get("name")
    return name if isinstance(name, str) else ""


def give_names(entries: Iterable[dict[str, Any]]) -> None:
    """Name the layers that have no name, as Keras does when it makes them anew.

    A class without a `get_config` of its own may leave its name out of the file.
    """
    listed = list(entries)
    taken = {name_of(entry) for entry in listed}
    for entry in listed:
        own = snake_case(class_of(entry))
        if name_of(entry) or not own:
            continue
        name, again = own, 0
        while name in taken:
            again += 1
            name = f"{own}_{again}"
        taken.add(name)
        entry["name"] = name
