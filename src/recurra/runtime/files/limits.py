"""How much of anything a model file may hold. Each is far above what real models need."""

from __future__ import annotations

from typing import NamedTuple

MIB = 2**20


class Limits(NamedTuple):
    """Bounds on time and memory while a model file is read; beyond them, `ModelFileError`.

    Attributes:
        max_bytes: of the file, and of all its weights together once they are unpacked.
        max_config_bytes: of the architecture's JSON text.
        max_depth: nesting in the JSON, and of groups within groups.
        max_expansion: how many times larger packed data may become (weights hardly shrink).
        max_entries: members of a zip archive; objects, attributes and links in HDF5.
        max_metadata_bytes: read from an HDF5 file beside its weights.
        repack_seconds: for a child process that rewrites HDF5 files which use more of HDF5 than
            Keras does, with HDF5's own library; 0 to refuse such files.
    """

    max_bytes: int = 8192 * MIB
    max_config_bytes: int = 16 * MIB
    max_depth: int = 200
    max_expansion: int = 200
    max_entries: int = 500_000
    max_metadata_bytes: int = 256 * MIB
    repack_seconds: int = 60


LIMITS = Limits()

SMALL = 16 * MIB
"""What may be unpacked from however little: a bound on expansion matters beyond it only."""
