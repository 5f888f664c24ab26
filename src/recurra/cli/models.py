"""Models named on a command line."""

from __future__ import annotations

import os
from typing import Any

from recurra.cli.failures import CommandError
from recurra.cli.files import STANDARD, check_input

SUFFIXES = (".keras", ".h5", ".hdf5", ".onnx")


def load(path: str) -> Any:
    """The model in a file, without any framework.

    Raises:
        CommandError: if there is no such file, or its name is not that of a model.
        ModelFileError: if the file cannot be used.
    """
    check(path)
    import recurra

    return recurra.load(path)


def check(path: str) -> None:
    """Raise CommandError unless there is a file `path` that is called as a model is."""
    if path == STANDARD:
        raise CommandError("a model cannot be read from stdin; name its file.")
    check_input(path, "a trained model")
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        raise CommandError(
            f"{path}: is not called as a model is; expected {', '.join(SUFFIXES)}, as "
            "model.save('model.keras') writes."
        )
