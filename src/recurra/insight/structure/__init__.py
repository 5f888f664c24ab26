"""Any model as plain data: `structure_of(model)`."""

from __future__ import annotations

import os
from typing import Any

from recurra.insight.structure.model import Cell, Node, Recurrent, Structure, Tensor

__all__ = ["Cell", "Node", "Recurrent", "Structure", "Tensor", "structure_of"]


def structure_of(thing: Any, x: Any = None) -> Structure:
    """A model as calls of layers and the tensors between them.

    Args:
        thing: a Keras model or layer (stock, Recurra's or of the user's), what `recurra.load` gave,
            the path of a model's file, or a structure, which is given back.
        x: inputs as for `model(x)`, for subclassed models that take several arguments or indices:
            nothing in them says which shapes these have. Of no use for others.

    Raises:
        TypeError: for something else.
        ValueError: for a model that is not built, saying how to build it.
        FileNotFoundError: if there is no such file.
        recurra.runtime.ModelFileError: for files that are damaged or no model.

    Example:
        >>> [node.path for node in structure_of(model).recurrent()]
        ['encoder/lstm', 'decoder']
    """
    if isinstance(thing, Structure):
        return thing
    if isinstance(thing, (str, os.PathLike)):
        from recurra.insight.structure.files import structure_of_file

        return structure_of_file(os.fspath(thing))
    from recurra.runtime.model import Runtime

    if isinstance(thing, Runtime):
        from recurra.insight.structure.runtime import structure_of_runtime

        return structure_of_runtime(thing)
    if any(cls.__module__.startswith("keras.") for cls in type(thing).__mro__):
        from recurra.insight.structure.keras_models import structure_of_keras

        return structure_of_keras(thing, x)
    raise TypeError(
        "Expected a Keras model or layer, a model that recurra.load gave, or the path of a model's "
        f"file; got a {type(thing).__name__}."
    )
