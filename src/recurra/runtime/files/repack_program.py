"""Reads an HDF5 file from its input and writes it to its output in plain form.

A program of its own, for a process of its own: see `repack`. Arguments: how many bytes the weights
may take, and seconds.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

MEMORY = 2**30  # beside the file and its weights: Python, NumPy, HDF5
MAX_OBJECTS, MAX_DEPTH = 500_000, 200
NUMBERS = "biuf"
BFLOAT16 = "V2"  # as h5py sees it
ATTRIBUTES = ("model_config", "keras_version", "layer_names", "weight_names")
TRAINING = ("/optimizer", "/optimizer_weights")  # of no use, and larger than the weights


class Refused(Exception):
    """A file that is not rewritten; the message says why."""


def limit(most: int, seconds: int, size: int) -> None:
    """Bound this process, where the system can."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    space = MEMORY + 2 * size + 3 * most
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Copy:
    """Copies groups, weights and texts, and nothing else.

    Args:
        most: bytes that all weights may take together.
    """

    def __init__(self, most: int) -> None:
        self.left, self.objects = most, 0
        self.seen: set[Any] = set()

    def group(self, source: Any, target: Any, depth: int = 0) -> None:
        """A group with everything in it."""
        import h5py

        self._once(source, depth)
        for name in source.attrs:
            if name.startswith(ATTRIBUTES):
                self._attribute(source.attrs[name], target, name)
        for name in source:
            if source.name == "/" and f"/{name}" in TRAINING:
                continue
            link = source.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise Refused(f"'{source.name}/{name}' is a link to another place or file")
            child = source[name]
            if isinstance(child, h5py.Group):
                # Without saying that the name is UTF-8, or the group would take its newer form.
                made = h5py.Group(h5py.h5g.create(target.id, name.encode()))
                self.group(child, made, depth + 1)
            elif isinstance(child, h5py.Dataset):
                self._dataset(child, target, name)
            else:
                raise Refused(f"'{child.name}' is neither a group nor an array")

    def _attribute(self, value: Any, target: Any, name: str) -> None:
        import h5py

        # Keras marks texts as ASCII, whatever is in them, and h5py believes that when it writes.
        kind = getattr(value, "dtype", None)
        text = h5py.string_dtype() if kind is not None and kind.kind == "O" else None
        target.attrs.create(name, value, dtype=text)

    def _dataset(self, source: Any, target: Any, name: str) -> None:
        import h5py

        self._once(source, 0)
        if source.external or source.is_virtual:
            raise Refused(f"the values of '{source.name}' stand in other files")
        if source.dtype.kind not in NUMBERS and source.dtype != BFLOAT16:
            raise Refused(f"'{source.name}' holds {source.dtype}, where numbers were expected")
        self.left -= source.nbytes
        if self.left < 0:
            raise Refused(f"'{source.name}' of shape {source.shape} expands beyond all limits")
        made = target.create_dataset(None, data=source[()])
        h5py.h5o.link(made.id, target.id, name.encode())

    def _once(self, found: Any, depth: int) -> None:
        import h5py

        self.objects += 1
        address = h5py.h5o.get_info(found.id).addr
        if address in self.seen:
            raise Refused(f"'{found.name}' is the same object as another: it goes in circles")
        self.seen.add(address)
        if self.objects > MAX_OBJECTS or depth > MAX_DEPTH:
            raise Refused("it has too many objects, or too deep")


def main() -> None:
    """Copy from the input to the output."""
    most, seconds = int(sys.argv[1]), int(sys.argv[2])
    size = os.fstat(sys.stdin.fileno()).st_size
    limit(most, seconds, size)
    import h5py

    given, made = io.BytesIO(sys.stdin.buffer.read()), io.BytesIO()
    with h5py.File(given, "r") as source, h5py.File(made, "w", libver="earliest") as target:
        Copy(most).group(source, target)
    sys.stdout.buffer.write(made.getbuffer())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        sys.exit(1)
