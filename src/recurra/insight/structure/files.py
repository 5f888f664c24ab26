"""Saved models, by the path of their file."""

from __future__ import annotations

import dataclasses

from recurra.insight.structure.model import Structure
from recurra.insight.structure.runtime import structure_of_runtime
from recurra.runtime.model import load


def structure_of_file(path: str) -> Structure:
    """The structure of the model in a file; no code in it is run."""
    return dataclasses.replace(structure_of_runtime(load(path)), source=path)
