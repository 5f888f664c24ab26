"""What can go wrong with a model that is loaded: its file, its layers, its streams."""

from __future__ import annotations


class ModelFileError(ValueError):
    """A file that is damaged, inconsistent, too large for what it says, or not a model."""


class UnsupportedLayerError(ModelFileError):
    """A layer that the runtime has no code for; the message says where it is and what to do."""


class StreamingError(ValueError):
    """A model that cannot be run step by step; the message names the layer and the reason."""


class SnapshotError(ValueError):
    """Bytes that are not a snapshot of this model's sessions."""
