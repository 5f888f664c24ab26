"""The states of all stateful layers of a model: read, set, reset, written to a file and back.

Saved models do not hold them, as stock Keras's do not. A file of states is a NumPy .npz with one
array for every state, named by its layer's path and its place: "encoder/lstm/0".
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops, tree

from recurra.layers import states as layer_states


def get_states(model: Any) -> dict[str, Any]:
    """The present states of every stateful layer of a model.

    Args:
        model: a model or layer, built.

    Returns:
        For every stateful layer, by its path in the model ("encoder/lstm"), what its
        `reset_state(states=...)` takes: a list of NumPy arrays (batch, units), one per state; a
        list of such lists where cells are stacked.

    Example:
        >>> import keras, numpy as np
        >>> from recurra import layers, models
        >>> lstm = layers.LSTM(4, stateful=True, name="lstm")
        >>> model = keras.Sequential([keras.Input(batch_shape=(2, 3, 5)), lstm])
        >>> kept = models.get_states(model)
        >>> kept["lstm"][0].shape
        (2, 4)
    """
    layer_states.synchronize(model)
    found = layer_states.stateful_layers(model)
    return {
        path: tree.map_structure(lambda v: np.array(ops.convert_to_numpy(v.value)), _own(layer))
        for path, layer in found.items()
    }


def set_states(model: Any, states: Mapping[str, Any]) -> None:
    """Set the states of a model's stateful layers to what `get_states` gave.

    Args:
        model: a model or layer, built.
        states: by path; every stateful layer of the model must be there, and no other.

    Raises:
        ValueError: if layers are missing, unknown, or arrays do not fit; nothing is changed then.
    """
    layer_states.synchronize(model)
    found = layer_states.stateful_layers(model)
    _check_paths(set(states), set(found), model, "set_states")
    for path, layer in found.items():
        layer_states.check(layer, states[path])
    for path, layer in found.items():
        layer_states.reset(layer, states[path])


def reset_states(model: Any) -> None:
    """Set every stateful layer of a model to its initial states (zeros for Keras's own cells).

    Args:
        model: a model or layer. One without stateful layers is left alone.

    Example:
        >>> class Anew(keras.callbacks.Callback):
        ...     def on_epoch_begin(self, epoch, logs=None):
        ...         models.reset_states(self.model)
    """
    layer_states.synchronize(model)
    for layer in layer_states.stateful_layers(model).values():
        layer_states.reset(layer)


def save_states(model: Any, path: str | os.PathLike[str]) -> None:
    """Write the states of a model's stateful layers to a file, for `load_states`.

    The file is written beside its place and moved there, so that there never is half a file.

    Args:
        model: a model or layer, built.
        path: the file's name; ".npz" is customary and not added.

    Raises:
        ValueError: if the model has no built stateful layers.
        OSError: if the file cannot be written.
    """
    kept = get_states(model)
    if not kept:
        raise ValueError(
            f"save_states: {_called(model)} has no states to save. Its recurrent layers need "
            "stateful=True, and to be built."
        )
    flat = {
        f"{name}/{index}": _storable(state)
        for name, value in kept.items()
        for index, state in enumerate(tree.flatten(value))
    }
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **flat)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        # As if it had been opened by its name: mkstemp makes files for their owner alone.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_states(model: Any, path: str | os.PathLike[str]) -> None:
    """Set the states of a model's stateful layers to those in a file of `save_states`.

    Args:
        model: a model or layer, built, with the layers (by path) that the file was written for.
        path: the file.

    Raises:
        ValueError: if the file is damaged, or does not fit the model; nothing is changed then.
        OSError: if there is no such file.
    """
    found = layer_states.stateful_layers(model)
    flat = _read(Path(path))
    kept: dict[str, list[Any]] = {}
    for key in sorted(flat, key=_place):
        name, index = _place(key)
        kept.setdefault(name, []).append(flat[key])
        if index != len(kept[name]) - 1:
            raise ValueError(f"load_states: {path} has no array {name}/{len(kept[name]) - 1}.")
    _check_paths(set(kept), set(found), model, f"load_states: {path}")
    set_states(model, kept)


def _own(layer: Any) -> Any:
    """A layer's states in plain lists: TensorFlow wraps what is an attribute."""
    return tree.map_structure(lambda v: v, list(layer.states))


def _storable(state: np.ndarray) -> np.ndarray:
    # NumPy's files do not know bfloat16; in float32 nothing is lost.
    known = state.dtype.kind == "f" and state.dtype.isbuiltin == 1
    return state if known else state.astype(np.float32)


def _place(key: str) -> tuple[str, int]:
    name, _, index = key.rpartition("/")
    return (name, int(index)) if index.isdecimal() else (key, -1)


def _read(path: Path) -> dict[str, np.ndarray]:
    damaged = (
        f"load_states: {path} is no file of save_states, or it is damaged: {{}}. Write it anew: "
        "recurra.models.save_states(model, path)."
    )
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            flat = {key: archive[key] for key in archive.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise ValueError(damaged.format(error)) from None
    strange = [key for key, value in flat.items() if _place(key)[1] < 0 or value.dtype.kind != "f"]
    if strange:
        raise ValueError(damaged.format(f"it holds {strange[0]!r}"))
    return flat


def _check_paths(given: set[str], wanted: set[str], model: Any, call: str) -> None:
    missing, unknown = sorted(wanted - given), sorted(given - wanted)
    if missing or unknown:
        said = [f"no states for {', '.join(missing)}"] if missing else []
        said += [f"states for {', '.join(unknown)}, which it does not have"] if unknown else []
        raise ValueError(
            f"{call}: {_called(model)} got {' and '.join(said)}. Its stateful layers are: "
            f"{', '.join(sorted(wanted)) or 'none'}. Give layers the same names (name=...) in both "
            "models."
        )


def _called(model: Any) -> str:
    return f"{type(model).__name__} {model.name!r}"
