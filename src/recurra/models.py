"""Keras's models; those that are read from a file or a configuration get Recurra's layers.

    from recurra.models import Model, Sequential, load_model        # instead of keras.models

`load_model`, `clone_model` and `model_from_json` are Recurra's, and what is about the states of
stateful layers: `get_states`, `set_states`, `reset_states`, `save_states`, `load_states`. Every
other name is Keras's own. Models copied by `copy` or `pickle` keep Recurra's layers.
`Model.from_config` goes by class names:

    with recurra.layers.recurra_classes():
        model = Sequential.from_config(config)
"""

from __future__ import annotations

import json
from typing import Any

# First of all imports here: it has Keras run on a framework that is installed.
from recurra.layers import legacy
from recurra.layers.model_states import (
    get_states,
    load_states,
    reset_states,
    save_states,
    set_states,
)
from recurra.layers.saving import load_model, recurra_classes

import keras  # isort: skip

__all__ = [
    "clone_model",
    "get_states",
    "load_model",
    "load_states",
    "model_from_json",
    "reset_states",
    "save_states",
    "set_states",
]
__all__ += [name for name in dir(keras.models) if name[0] != "_" and name not in __all__]


def clone_model(model: Any, *args: Any, **kwargs: Any) -> Any:
    """`keras.models.clone_model`, keeping Recurra's layers inside of wrappers as well.

    Outside of wrappers a layer is copied as the class that it is, stock layers as stock layers.
    Inside of wrappers, which Keras makes anew by class name, recurrent layers become Recurra's.

    Args:
        model: the model to copy; the copy gets new weights.
        *args, **kwargs: as for keras.models.clone_model.
    """
    with recurra_classes():
        return keras.models.clone_model(model, *args, **kwargs)


def model_from_json(json_string: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """`keras.models.model_from_json`, with Recurra's layers in place of Keras's recurrent layers.

    Args:
        json_string: what `model.to_json()` gave, in Keras 1 and 2 too.
        custom_objects: as for keras.models.model_from_json.
    """
    config = json.loads(json_string)
    with recurra_classes(custom_objects):
        if isinstance(config, dict) and "module" not in config and "keras_version" in config:
            return legacy.model_from_old_config(config, custom_objects)
        return keras.models.model_from_json(json_string, custom_objects=custom_objects)


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not hasattr(keras.models, name):
        raise AttributeError(f"module 'recurra.models' has no attribute {name!r}")
    return getattr(keras.models, name)


def __dir__() -> list[str]:
    return sorted(__all__)
