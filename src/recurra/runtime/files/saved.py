"""A saved model: what it is made of, and its weights for those who ask by layer."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from recurra.runtime.layer import Array, Variable

Place = tuple[str, ...]
MUCH = 2**18


class Request(NamedTuple):
    """A layer whose weights are wanted.

    Args:
        place: names of layers, from the model's own to this one: ("encoder", "lstm_1").
        variables: in Keras's order; None for everything that is stored for the layer.
    """

    place: Place
    variables: Sequence[Variable] | None


class SavedModel:
    """A model as its file holds it.

    Args:
        class_name: Keras's class of the model: "Functional", "Sequential", "Model".
        config: its configuration as Keras wrote it (2 or 3, they differ), without those of
            training.
        registered_name: Keras's name of the class, where the model has a class of its own.
        keras_version: that wrote it; "" if the file does not say.
        path: of the file.
        weights: itself; see `read_all`, which is to be called once, for all layers.
    """

    def __init__(
        self,
        class_name: str,
        config: dict[str, Any],
        registered_name: str,
        keras_version: str,
        path: str,
        read_all: Callable[[Sequence[Request]], list[dict[str, Array]]],
        close: Callable[[], None],
    ) -> None:
        self.class_name, self.config, self.registered_name = class_name, config, registered_name
        self.keras_version, self.path = keras_version, path
        self.weights = self
        self._read_all = read_all
        self._close = close
        self._closed = False
        self._values: list[tuple[Place, dict[str, Array]]] = []
        self._digest = ""

    def read_all(self, requests: Sequence[Request]) -> list[dict[str, Array]]:
        """The weights of all layers, one dictionary for each request, by the variables' names.

        Arrays are read-only; those of floats are float32, whatever the file has. A variable that
        is optional and not in the file is left out. The file is closed afterwards.

        Raises:
            ModelFileError: if weights are missing, or are no numbers, or the file has weights
                for which no layer asks.
        """
        if self._closed:
            raise RuntimeError("read_all() may be called once: the file is closed after it")
        try:
            values = self._read_all(requests)
        finally:
            self.close()
        places = [request.place for request in requests]
        self._values = list(zip(places, values, strict=True))
        return values

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        self._close()

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration and of all weights that were read, hexadecimal."""
        if not self._digest:
            self._digest = _digest(self.class_name, self.config, self._values)
        return self._digest


def _digest(
    class_name: str, config: dict[str, Any], values: list[tuple[Place, dict[str, Array]]]
) -> str:
    size = sum(array.nbytes for _, arrays in values for array in arrays.values())
    digest = _sha256(size)
    text = json.dumps([class_name, config], sort_keys=True, separators=(",", ":"))
    digest.update(text.encode())
    for place, arrays in values:
        for name, array in arrays.items():
            order = array.dtype.newbyteorder("<")
            head = json.dumps([*place, name, order.str, array.shape])
            digest.update(head.encode())
            # Arrays from files are in order and in one piece: nothing is copied.
            digest.update(array.astype(order, copy=False).reshape(-1).view("u1"))
    return digest.hexdigest()


def _sha256(size: int) -> Any:
    """For so many bytes: OpenSSL is quicker with many, and takes 5 ms and 4 MB to load."""
    for name in ("_sha2", "_sha256") if size < MUCH else ():
        try:
            return importlib.import_module(name).sha256()
        except (ImportError, AttributeError):
            continue
    import hashlib

    return hashlib.sha256()
