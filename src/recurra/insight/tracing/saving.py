"""Traces in files: arrays as NumPy keeps them, the rest as JSON beside them.

A file is a zip archive as `numpy.savez` writes it, which `numpy.load` and other programs read too:
the member "trace.json" and one .npy member per array. Nothing in it is ever executed (no pickle),
every size is checked before memory is taken for it, and the archive's checksums tell damage.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recurra.cells import CELLS
from recurra.insight.structure import Structure
from recurra.insight.tracing.result import Array, LayerTrace, Trace

FORMAT = "recurra-trace"
VERSION = 1
MAX_BYTES = 2**36
"""How much the arrays of a file may take in memory, by default: 64 GiB."""

_DESCRIPTION = "trace.json"
_MOST_DESCRIPTION = 2**28
_KINDS = "biufSU"


def save(trace: Trace, path: str | os.PathLike[str]) -> Path:
    """Write a trace to a file, whole or not at all.

    Args:
        trace: the trace.
        path: of the file; ".npz" is added if it has no such ending.

    Returns:
        The file's path.

    Raises:
        FileNotFoundError: if there is no such folder.
        OSError: if it cannot be written.

    Example:
        >>> trace.save("trace.npz")
        PosixPath('trace.npz')
    """
    target = Path(path)
    if target.suffix.lower() != ".npz":
        target = target.with_name(f"{target.name}.npz")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder '{target.parent}' for the trace's file '{target}'; make it first."
        )
    arrays: dict[str, Array] = {}

    def keep(place: str, values: Mapping[str, Array]) -> dict[str, str]:
        members = {name: f"{place}/{len(arrays) + i}" for i, name in enumerate(values)}
        arrays.update((members[name], _storable(array)) for name, array in values.items())
        return members

    description = {
        "format": FORMAT,
        "version": VERSION,
        "structure": trace.structure.to_dict(),
        "loss": trace.loss,
        "inputs": keep("inputs", trace.inputs),
        "outputs": keep("outputs", trace.outputs),
        "masks": keep("masks", trace.masks),
        "layers": [
            {
                "path": layer.path,
                "cell": layer.cell,
                "go_backwards": layer.go_backwards,
                "info": dict(layer.info),
                "arrays": keep(f"layer_{index}", layer.arrays),
                "initial": keep(f"layer_{index}", layer.initial),
                "mask": keep(f"layer_{index}", {} if layer.mask is None else {"mask": layer.mask}),
            }
            for index, layer in enumerate(trace.layers.values())
        ],
    }
    text = json.dumps(description, default=_plain).encode()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr(_DESCRIPTION, text, zipfile.ZIP_DEFLATED)
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        # As if it had been opened by its name: mkstemp makes files for their owner alone.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    return target


def _storable(array: Array) -> Array:
    """An array that needs no pickle: text from a framework comes as objects."""
    array = np.asarray(array)
    if array.dtype.kind != "O":
        return array
    texts = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in array.flat]
    return np.array(texts, str).reshape(array.shape)


def _plain(value: Any) -> Any:
    """What JSON does not know: NumPy's numbers as Python's, anything else as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def load(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> Trace:
    """Read a trace that `save` wrote.

    Args:
        path: of the file.
        max_bytes: how much its arrays may take in memory.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no trace, is damaged, holds more than max_bytes, or was written by a
            newer version; names the file.

    Example:
        >>> trace = recurra.insight.Trace.load("trace.npz")
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"There is no file {name!r}.")
    if os.path.isdir(name):
        raise ValueError(f"{name}: is a folder; expected a file that Trace.save wrote.")
    try:
        with zipfile.ZipFile(name) as archive:
            return _read(archive, max_bytes)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error.__cause__
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{name}: is no trace, or a damaged one ({error}); expected a file that Trace.save "
            "wrote."
        ) from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{name}: is damaged: its description lacks or misuses {error}. Save the trace anew."
        ) from error


def _read(archive: zipfile.ZipFile, max_bytes: int) -> Trace:
    members = {info.filename: info for info in archive.infolist()}
    if _DESCRIPTION not in members:
        raise ValueError(
            f"is an archive without {_DESCRIPTION}; expected a file that Trace.save wrote."
        )
    total = sum(info.file_size for info in members.values())
    if total > max_bytes or members[_DESCRIPTION].file_size > _MOST_DESCRIPTION:
        raise ValueError(
            f"holds {total:,} bytes, and max_bytes is {max_bytes:,}. If you trust the file, read "
            f"it with recurra.insight.tracing.saving.load(path, max_bytes={total})."
        )
    try:
        data = json.loads(archive.read(_DESCRIPTION))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is damaged: {_DESCRIPTION} is no JSON.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError("is no trace; expected a file that Trace.save wrote.")
    if data["version"] != VERSION:
        raise ValueError(
            f"is a trace of version {data['version']!r}, and this Recurra reads version {VERSION}. "
            "Update Recurra, or save the trace with this one."
        )

    def arrays(listed: Mapping[str, str]) -> dict[str, Array]:
        return {key: _array(archive, members, member) for key, member in listed.items()}

    layers = {}
    for entry in data["layers"]:
        layer = LayerTrace(
            path=_text(entry, "path"),
            cell=entry["cell"],
            arrays=arrays(entry["arrays"]),
            mask=arrays(entry["mask"]).get("mask"),
            go_backwards=bool(entry["go_backwards"]),
            initial=arrays(entry["initial"]),
            info=dict(entry["info"]),
        )
        _check(layer)
        layers[layer.path] = layer
    return Trace(
        layers=layers,
        structure=Structure.from_dict(data["structure"]),
        inputs=arrays(data["inputs"]),
        outputs=arrays(data["outputs"]),
        masks=arrays(data["masks"]),
        loss=None if data["loss"] is None else float(data["loss"]),
    )


def _text(entry: Mapping[str, Any], key: str) -> str:
    if not isinstance(entry[key], str):
        raise ValueError(f"is damaged: a layer's {key} is {entry[key]!r}, which is no text.")
    return str(entry[key])


def _array(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> Array:
    """One member, of which nothing is believed."""
    info = members.get(f"{name}.npy")
    if info is None:
        raise ValueError(f"is damaged: the array {name!r} is missing.")
    with archive.open(info) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, columns_first, dtype = read(file)
        except (ValueError, KeyError, SyntaxError) as error:
            raise ValueError(f"is damaged: {name}.npy is no array ({error}).") from error
        size = info.file_size - file.tell()
        if dtype.kind not in _KINDS or any(n < 0 for n in shape):
            raise ValueError(f"is damaged: {name}.npy holds {dtype}; expected numbers or text.")
        count = 1
        for extent in shape:
            count *= int(extent)
        if count * dtype.itemsize != size:
            raise ValueError(
                f"is damaged: {name}.npy says it has shape {shape} and holds {size:,} bytes."
            )
        data = file.read()
    flat = np.frombuffer(bytearray(data), dtype)
    return flat.reshape(shape, order="F" if columns_first else "C")


def _check(layer: LayerTrace) -> None:
    """Raise ValueError where a layer's arrays do not belong together."""
    if layer.cell is not None and layer.cell not in CELLS:
        raise ValueError(
            f"{layer.path!r} is of a cell {layer.cell!r}, which this Recurra does not know; it "
            f"knows {', '.join(CELLS)}."
        )
    hidden = layer.arrays.get("hidden_state")
    if hidden is None or hidden.ndim < 2:
        raise ValueError(f"is damaged: {layer.path!r} has no hidden_state.")
    named = dict(layer.arrays) | ({} if layer.mask is None else {"mask": layer.mask})
    for name, array in named.items():
        axes = 1 if name in layer.final_states else 2
        if array.shape[:axes] != hidden.shape[:axes]:
            raise ValueError(
                f"is damaged: {layer.path!r} has {name} of shape {array.shape} beside hidden_state "
                f"of shape {hidden.shape}."
            )
    spec = layer.spec
    of_units = set() if spec is None else {*spec.trace_names, *spec.state_outputs}
    for name, array in named.items():
        if name in of_units and array.shape[-1] != hidden.shape[-1]:
            raise ValueError(
                f"is damaged: {layer.path!r} has {name} of shape {array.shape} beside hidden_state "
                f"of shape {hidden.shape}."
            )
    told = layer.info.get("activations", {})
    if not isinstance(told, Mapping) or not all(isinstance(v, str) for v in told.values()):
        raise ValueError(f"is damaged: the activations of {layer.path!r} are {told!r}.")
    if layer.mask is not None and (layer.mask.dtype != bool or layer.mask.ndim != 2):
        raise ValueError(
            f"is damaged: the mask of {layer.path!r} has {layer.mask.ndim} axes of "
            f"{layer.mask.dtype}; expected 2 of bool."
        )
