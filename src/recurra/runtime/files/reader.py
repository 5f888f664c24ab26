"""Which kind of file it is, and the model in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

from recurra.runtime.errors import ModelFileError
from recurra.runtime.files.archive import Archive
from recurra.runtime.files.config import parse
from recurra.runtime.files.hdf5 import SIGNATURE, File, Group, Unusual
from recurra.runtime.files.limits import LIMITS, Limits
from recurra.runtime.files.names import class_of
from recurra.runtime.files.saved import Request, SavedModel
from recurra.runtime.files.source import Source
from recurra.runtime.files.stores import KerasStore, LegacyStore, list_layers
from recurra.runtime.layer import Array

ZIP = b"PK\x03\x04"
METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"


def read(path: str | os.PathLike[str], **limits: int) -> SavedModel:
    """Open a model's file, `.keras` or `.h5`, whichever version of Keras wrote it.

    No code of the file is run, and nothing is imported for it. What kind of file it is, its first
    bytes say; the name does not matter.

    Args:
        path: of the file.
        limits: bounds other than those of `Limits`, by name.

    Returns:
        The model; it keeps the file open until its weights are read, or `close()`.

    Raises:
        FileNotFoundError: if there is no such file.
        ModelFileError: if it holds no model, is damaged, or goes beyond the limits.

    Example:
        ```python
        saved = read("model.keras", max_bytes=100 * 2**20)
        saved.class_name, saved.keras_version  # "Sequential", "3.15.1"
        ```
    """
    unknown = set(limits) - set(Limits._fields)
    if unknown:
        raise TypeError(
            f"There is no limit {', '.join(sorted(unknown))}; there are {', '.join(Limits._fields)}"
        )
    name = os.fspath(path)
    _check_place(name)
    file = open(name, "rb")  # noqa: SIM115 (closed with the model)
    try:
        return _open(file, name, LIMITS._replace(**limits))
    except BaseException:
        file.close()
        raise


def _check_place(name: str) -> None:
    if os.path.isdir(name):
        if os.path.exists(os.path.join(name, "saved_model.pb")):
            what = "a folder in TensorFlow's SavedModel format"
        else:
            what = "a folder"
        raise ModelFileError(
            f"Cannot read {name}: it is {what}, where a .keras or .h5 file was expected. "
            "Load the model in Keras and save it with model.save('model.keras')."
        )
    if not os.path.exists(name):
        raise FileNotFoundError(
            f"There is no file {name} (looked for in {os.getcwd()}). "
            "Give the path of a .keras or .h5 file."
        )
    if not os.path.isfile(name):
        raise ModelFileError(f"Cannot read {name}: it is no ordinary file.")


def _open(file: BinaryIO, name: str, limits: Limits) -> SavedModel:
    source = Source(file, name)
    if source.size == 0:
        raise source.fail("it is empty")
    if source.size > limits.max_bytes:
        raise source.fail(
            f"it has {source.size} bytes, more than {limits.max_bytes} (limit max_bytes)"
        )
    start = source.read(0, min(8, source.size))
    if start[:4] == ZIP:
        return _open_keras(file, source, limits)
    if start == SIGNATURE:
        return _open_h5(file, source, limits)
    raise source.fail(
        f"it is neither a .keras nor a .h5 file: it begins with {start!r}. "
        "Save the model with model.save('model.keras')"
    )


def _open_keras(file: BinaryIO, source: Source, limits: Limits) -> SavedModel:
    archive = Archive(source, limits)
    if CONFIG not in archive:
        raise source.fail(f"it is a zip archive without {CONFIG}, so it holds no Keras model")
    if WEIGHTS not in archive:
        raise source.fail(
            f"it has no {WEIGHTS}; load the model in Keras and save it again with "
            "model.save('model.keras')"
        )
    metadata: dict[str, Any] = {}
    if METADATA in archive:
        content = archive.open(METADATA, limits.max_config_bytes)
        metadata = parse(source, content.read(0, content.size), METADATA, limits)
    content = archive.open(CONFIG, limits.max_config_bytes)
    root = parse(source, content.read(0, content.size), CONFIG, limits)
    config = _architecture(source, root)
    layers = list_layers(source, config)
    weights = archive.open(WEIGHTS, limits.max_bytes)

    def read_all(requests: Sequence[Request]) -> list[dict[str, Array]]:
        def read(inside: File) -> list[dict[str, Array]]:
            return KerasStore(inside, inside.root, source, layers).read_all(requests)

        return _with_hdf5(weights, limits, read)[0]

    return _saved(file, source, root, read_all, metadata.get("keras_version"))


def _open_h5(file: BinaryIO, source: Source, limits: Limits) -> SavedModel:
    def read_head(inside: File) -> tuple[dict[str, Any], set[str]]:
        root = inside.root
        return root.attributes("model_config", "keras_version", "layer_names"), set(root.names())

    (attributes, inside), plain = _with_hdf5(source, limits, read_head)
    text = attributes.get("model_config")
    if not isinstance(text, str) or "model_weights" not in inside:
        names = {"layers", "vars", "_layer_checkpoint_dependencies"}.intersection(inside)
        if names or any(name.startswith("layer_names") for name in attributes):
            raise source.fail(
                "it has weights and no architecture (model.save_weights() wrote it). Load them "
                "into the model in Keras, and save that with model.save('model.keras')"
            )
        raise source.fail("it is an HDF5 file without a Keras model")
    root = parse(source, text.encode(), "model_config", limits)
    config = _architecture(source, root)
    layers = list_layers(source, config)

    def read_all(requests: Sequence[Request]) -> list[dict[str, Array]]:
        def read(inside: File) -> list[dict[str, Array]]:
            weights = inside.root.child("model_weights")
            if not isinstance(weights, Group):
                raise source.fail("its model_weights is no group")
            return LegacyStore(inside, weights, source, layers).read_all(requests)

        return _with_hdf5(plain, limits, read)[0]

    return _saved(file, source, root, read_all, attributes.get("keras_version"))


Result = TypeVar("Result")


def _with_hdf5(
    source: Source, limits: Limits, use: Callable[[File], Result]
) -> tuple[Result, Source]:
    """What `use` makes of an HDF5 file, and the file, rewritten if it was not as Keras writes."""
    try:
        return use(File(source, limits)), source
    except Unusual as reason:
        from recurra.runtime.files.repack import repack  # rare, and a child process takes imports

        source = repack(source, limits, reason)
        return use(File(source, limits)), source


def _architecture(source: Source, root: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the model that the file describes."""
    config = root.get("config")
    if isinstance(config, list) and class_of(root) == "Sequential":
        # Keras 2.2 and before: the layers alone.
        config = root["config"] = {"name": "sequential", "layers": config}
    if not class_of(root) or not isinstance(config, dict):
        raise source.fail("its architecture has no class or no configuration")
    if not isinstance(config.get("layers"), list):
        raise source.fail(
            f"its model, of the class {class_of(root)}, has no list of layers: models that are "
            "classes of their own cannot be read. Build it with keras.Model(inputs, outputs) or "
            "keras.Sequential"
        )
    return config


def _saved(
    file: BinaryIO,
    source: Source,
    root: dict[str, Any],
    read_all: Callable[[Sequence[Request]], list[dict[str, Array]]],
    version: object,
) -> SavedModel:
    registered = root.get("registered_name")
    return SavedModel(
        class_of(root),
        root["config"],
        registered if isinstance(registered, str) else "",
        version if isinstance(version, str) else "",
        source.name,
        read_all,
        file.close,
    )
