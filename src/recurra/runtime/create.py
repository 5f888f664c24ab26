"""From a layer's description in a model's configuration to the runtime's layer.

What a file says about modules and classes is looked up in tables; nothing is imported by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from recurra.runtime import custom, layers
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.layer import Layer
from recurra.runtime.layers.config import shown

MODELS = ("Functional", "Sequential", "Model")
"""Classes of models whose configuration lists their layers."""

_KERAS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")

_LONGEST_NAME = 1000

_OPERATIONS = ("keras.src.ops", "keras.ops")


class Description(NamedTuple):
    """What a configuration says of one layer.

    Args:
        class_name: the class without its package: "LSTM".
        registered: the name under which it is registered, with its package: "mine>Layer".
        config: its own configuration.
        name: its name in its model.
        kind: "keras", "operation" (a function of keras.ops that was called on a tensor) or
            "custom" (a class that is not Keras's).
        shared: a number that equal objects have, None if this one occurs once.
    """

    class_name: str
    registered: str
    config: Mapping[str, Any]
    name: str
    kind: str
    shared: int | None


def describe(entry: Any, where: str) -> Description:
    """Read a layer's description, of Keras 2 or 3.

    Args:
        entry: {"class_name": ..., "config": {...}, ...}.
        where: the place of what contains it, for messages.

    Raises:
        ModelFileError: if it is not one.
    """
    if not isinstance(entry, Mapping):
        raise ModelFileError(
            f"'{where}': a layer is described as {shown(entry)}; expected an object with "
            "class_name and config."
        )
    full, config = entry.get("class_name"), entry.get("config")
    if not isinstance(full, str) or not full:
        raise ModelFileError(f"'{where}': a layer has class_name {shown(full)}; expected a name.")
    if isinstance(config, list) and full == "Sequential":
        config = {"name": entry.get("name", "sequential"), "layers": config}
    if not isinstance(config, Mapping):
        raise ModelFileError(f"'{where}': a {full} has config {shown(config)}; expected an object.")
    name = entry.get("name", config.get("name", full.lower()))
    if not isinstance(name, str):
        raise ModelFileError(f"'{where}': a {full} is named {shown(name)}; expected a string.")
    if max(len(full), len(name)) > _LONGEST_NAME:
        raise ModelFileError(
            f"'{where}': a layer's class or name is {shown(full)}, {shown(name)}; at most "
            f"{_LONGEST_NAME} characters are read."
        )
    class_name = full.rpartition(">")[2]
    registered = entry.get("registered_name") or full
    shared = entry.get("shared_object_id")
    return Description(
        class_name,
        registered if isinstance(registered, str) and len(registered) <= _LONGEST_NAME else full,
        config,
        name,
        _kind(entry, full),
        shared if isinstance(shared, int) else None,
    )


def _kind(entry: Mapping[str, Any], full: str) -> str:
    """Whose class it is. Old files have no modules; there the class's name decides."""
    if "module" not in entry:
        known = full in layers.CLASSES or full in MODELS
        return "custom" if ">" in full else "keras" if known else "unknown"
    module = entry["module"]
    if not isinstance(module, str):
        return "custom"
    if module.startswith(_OPERATIONS):
        return "operation"
    return "keras" if module.partition(".src")[0].startswith(_KERAS) else "custom"


def make_layer(entry: Any, where: str) -> Layer:
    """The layer that a description stands for, not yet built.

    Args:
        entry: {"class_name": ..., "config": {...}, ...}, as in `describe`.
        where: the layer's place, e.g. "decoder/lstm_1".

    Raises:
        UnsupportedLayerError: if the runtime has no code for its class.
        ModelFileError: if the description is wrong.
    """
    found = describe(entry, where)
    function = custom.find(found.name, where, found.registered, found.class_name)
    if function is not None:
        return custom.FunctionLayer(found.config, where, function, found.class_name)
    if found.kind == "keras" and found.class_name in MODELS:
        from recurra.runtime.layers.model import ModelLayer

        return ModelLayer(found, where)
    cls = None if found.kind in ("custom", "operation") else layers.find(found.class_name)
    if cls is None:
        raise UnsupportedLayerError(f"Layer '{where}' ({found.class_name}): {_way_out(found)}")
    _refuse_dtype(found.config, where, found.class_name)
    layer = cls(found.config, where)
    layer.keras_class = found.class_name
    return layer


def _way_out(found: Description) -> str:
    given = f'recurra.load(path, custom={{"{found.name}": function}})'
    how = (
        f"write what it computes as a NumPy function(*inputs, config=..., weights=...) and load "
        f"the model with {given}"
    )
    if found.class_name == "Lambda":
        return f"it holds Python code, and code in a model's file is never run. Instead {how}."
    if found.kind == "custom":
        return (
            f"it is a class of your own ({found.registered}), whose code is not in the file. "
            f"Instead {how} (its class's name does too)."
        )
    import difflib

    close = difflib.get_close_matches(found.class_name, layers.CLASSES, n=1, cutoff=0.85)
    hint = f" (the runtime knows {close[0]})" if close else ""
    return f"the runtime has no code for this class{hint}. To run it, {how}."


def _refuse_dtype(config: Mapping[str, Any], where: str, class_name: str) -> None:
    """Refuse weights that are not plain numbers; all floating-point types become float32."""
    policy = config.get("dtype")
    if not isinstance(policy, Mapping):
        return
    inner = policy.get("config")
    name = inner.get("name", "") if isinstance(inner, Mapping) else ""
    if "Quantized" in str(policy.get("class_name")) or "_from_" in str(name):
        raise UnsupportedLayerError(
            f"Layer '{where}' ({class_name}): its weights are quantized ({shown(name)}). Save the "
            "model before it is quantized."
        )
