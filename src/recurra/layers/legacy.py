"""Arguments and files of Keras 1 and 2 that Keras 3 no longer takes.

`modernize` is for constructors' keywords, and so for configurations, which are handed to
constructors. `translated` is for .h5 files of whole models: it makes a copy in memory that Keras 3
reads, with the layers CuDNNLSTM and CuDNNGRU as LSTM and GRU.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.legacy.saving import saving_options, saving_utils

from recurra.layers import usage

_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM2D")
_CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}

# What has no effect any more, if it has one of these values; None stands for any.
_HARMLESS: dict[str, tuple[Any, ...] | None] = {
    "time_major": (False, None),
    "ragged": (False, None),
    "dynamic": (False, None),
    "weights": (None,),
    "implementation": None,
    "use_cudnn": None,
    "input_length": None,
    "batch_size": None,
    "experimental_autocast": None,
}

_WAY_OUT = {
    "time_major": (
        "Keras 3's layers read (batch, time_steps, features). Call "
        "layer(keras.ops.swapaxes(x, 0, 1)), with return_sequences=True swap the output back "
        "likewise, and leave time_major out"
    ),
    "ragged": (
        "Keras 3 has no ragged inputs. Pad the sequences (keras.utils.pad_sequences) and pass "
        "mask=, True where a step is real"
    ),
    "dynamic": "set run_eagerly=True in model.compile instead",
    "weights": "call layer.set_weights(weights) once the layer is built",
}


def modernize(stock: type, arguments: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """A layer's keyword arguments without those of old versions of Keras.

    Args:
        stock: Keras's class that they are for.
        arguments: keywords as they were passed, or as an old configuration has them.

    Returns:
        Keywords for Keras 3, and the batch that `batch_input_shape` or `batch_size` fixed, or None.

    Raises:
        ValueError: for an option that would have had an effect; the message says what to do.

    Example:
        >>> modernize(keras.layers.GRU, {"time_major": False, "batch_input_shape": (8, None, 3)})
        ({'input_shape': (None, 3)}, 8)
    """
    old = {"batch_input_shape", "input_dim", *_HARMLESS} & set(arguments)
    if not old:
        return arguments, None
    new = dict(arguments)
    batch = None
    if "batch_input_shape" in new:
        shape = new.pop("batch_input_shape")
        if shape is not None:
            batch, *rest = shape
            new.setdefault("input_shape", tuple(rest))
    elif new.get("batch_size") is not None:
        batch = int(new["batch_size"])
    if new.get("input_dim") is not None:
        # An embedding has an input_dim of its own; recurrent layers read sequences of that many.
        new.setdefault("input_shape", (new.get("input_length"), new.pop("input_dim")))
        new.pop("input_dim", None)
    for name in _HARMLESS.keys() & set(new):
        if _takes(stock, name):
            continue
        value, allowed = new.pop(name), _HARMLESS[name]
        if allowed is not None and not any(value is each for each in allowed):
            raise ValueError(
                f"{stock.__name__} got {name}={value!r}, an option of Keras 2: {_WAY_OUT[name]}."
            )
    return new, batch


def constructor(stock: Any) -> Callable[..., None]:
    """The `__init__` of a subclass of Keras's class `stock` that takes old arguments as well."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs, batch = modernize(stock, kwargs)
        stock.__init__(self, *args, **kwargs)
        self._batch_of_constructor = batch
        usage.tell_held(self)

    # Keras reads the names of a layer's arguments from here.
    __init__.__signature__ = inspect.signature(stock.__init__)  # type: ignore[attr-defined]
    return __init__


def _takes(stock: type, name: str) -> bool:
    """Whether the constructor of a class of Keras 3 takes a keyword itself."""
    named = inspect.signature(stock.__init__).parameters  # type: ignore[misc]
    return name in named or (name == "implementation" and stock.__name__ in ("LSTM", "GRU"))


def batch_config(layer: Any) -> dict[str, Any]:
    """What a layer's configuration needs for a batch that `batch_input_shape` fixed."""
    batch = getattr(layer, "_batch_of_constructor", None)
    shape = getattr(layer, "_input_shape_arg", None)
    if batch is None or shape is None or not layer.stateful:
        return {}
    return {"batch_input_shape": (batch, *shape)}


def with_batch(layer: Any, shape: Any) -> Any:
    """An input's shape with the batch that an old argument of the layer fixed, if it is open."""
    batch = getattr(layer, "_batch_of_constructor", None)
    return (batch, *shape[1:]) if batch is not None and shape[0] is None else shape


# --- Files ---

_FUNCTIONS = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "kld": "kl_divergence",
    "bce": "binary_crossentropy",
    "logcosh": "log_cosh",
}


def function_names() -> dict[str, Any]:
    """Losses and metrics by their short names, which Keras 3 writes into .h5 files and cannot read.

    Example:
        >>> function_names()["mse"] is keras.losses.mean_squared_error
        True
    """
    functions = {short: getattr(keras.losses, name) for short, name in _FUNCTIONS.items()}
    return functions | {short.upper(): function for short, function in functions.items()}


def translated(path: Any) -> Any:
    """An .h5 file of a whole model, of Keras 1 or 2, as Keras 3 reads it.

    Args:
        path: the file.

    Returns:
        An h5py.File in memory, or None if the file is of Keras 3, or no model.
    """
    import h5py

    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as old:
        version = _text(old.attrs.get("keras_version", "3"))
        if "model_config" not in old.attrs or int(version.split(".")[0]) >= 3:
            return None
        config = json.loads(_text(old.attrs["model_config"]))
        training = json.loads(_text(old.attrs.get("training_config", "null")))
        new = h5py.File.in_memory()
        for name in old:
            old.copy(name, new)
        for name, value in old.attrs.items():
            new.attrs[name] = value
    new.attrs["model_config"] = json.dumps(_model(config))
    if training is not None:
        new.attrs["training_config"] = json.dumps(_training(training))
    if "model_weights" in new:
        _separate_cudnn_weights(new["model_weights"])
    return new


def model_from_old_config(config: dict[str, Any], custom_objects: Any = None) -> Any:
    """The model that Keras 1 or 2 described, as in `json.loads(model.to_json())`; without weights.

    Args:
        config: {"class_name": ..., "config": ..., "keras_version": ...}.
        custom_objects: classes and functions by name.
    """
    with saving_options.keras_option_scope(use_legacy_config=True):
        return saving_utils.model_from_config(_model(config), custom_objects=custom_objects)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _model(config: dict[str, Any]) -> dict[str, Any]:
    """A layer's or a model's description, with those inside of it."""
    inner = config.get("config")
    name = _CUDNN.get(config.get("class_name", ""), config.get("class_name"))
    config = {**config, "class_name": name}
    if isinstance(inner, list):  # a Sequential of Keras 1 or early 2
        inner = {"name": config.get("name", "sequential"), "layers": inner}
    if not isinstance(inner, dict):
        return config
    inner = dict(inner)
    if "batch_input_shape" in inner and name != "InputLayer":
        # Keras 3 would take the batch for a time axis.
        batch, *rest = inner.pop("batch_input_shape")
        inner["input_shape"] = rest
        if inner.get("stateful"):
            inner["batch_size"] = batch
    for key in ("layer", "backward_layer", "cell"):
        if isinstance(inner.get(key), dict):
            inner[key] = _model(inner[key])
    if isinstance(inner.get("cells"), list):
        inner["cells"] = [_model(each) for each in inner["cells"]]
    if isinstance(inner.get("layers"), list):
        inner["layers"] = [_model(each) for each in inner["layers"]]
    config["config"] = inner
    if name in _RECURRENT and isinstance(config.get("inbound_nodes"), list):
        config["inbound_nodes"] = [_node(node) for node in config["inbound_nodes"]]
    return config


def _training(config: dict[str, Any]) -> dict[str, Any]:
    """What a model was compiled with, with the optimizer's arguments that are left."""
    config = {"loss_weights": None, **config}
    optimizer = config.get("optimizer_config")
    if not isinstance(optimizer, dict):
        return config
    options = dict(optimizer.get("config", {}))
    if "lr" in options:
        options.setdefault("learning_rate", options.pop("lr"))
    cls = getattr(keras.optimizers, optimizer.get("class_name", ""), None)
    if cls is not None:
        known = set(inspect.signature(cls.__init__).parameters)
        known |= set(inspect.signature(keras.optimizers.Optimizer.__init__).parameters)
        options = {name: value for name, value in options.items() if name in known - {"kwargs"}}
    config["optimizer_config"] = {**optimizer, "config": options}
    return config


def _node(node: Any) -> Any:
    """A call of a recurrent layer. Keras 2 wrote initial states as further inputs."""
    if not isinstance(node, list) or len(node) < 2:
        return node

    def tensor(place: Any) -> dict[str, Any]:
        # Shape and type are placeholders: Keras looks the tensor up by its history.
        return {
            "module": "builtins",
            "class_name": "__keras_tensor__",
            "config": {"shape": [None], "dtype": "float32", "keras_history": place[:3]},
            "registered_name": None,
        }

    first, *states = node
    options = first[3] if len(first) > 3 else {}
    return {
        "args": [tensor(first)],
        "kwargs": {**options, "initial_state": [tensor(state) for state in states]},
    }


def _separate_cudnn_weights(group: Any) -> None:
    """Rewrite the weights of CuDNNLSTM and CuDNNGRU layers in a group of weights, in place.

    cuDNN's layers hold two biases in a row, and every gate's matrices transposed within the shape
    of the matrix, (rows, units) for what is (units, rows). No other layer's weights have these
    shapes one after the other.
    """
    for layer in group.values():
        names = [_text(name) for name in layer.attrs.get("weight_names", ())]
        for first in range(len(names) - 2):
            paths = names[first : first + 3]
            kernel, recurrent, bias = (np.asarray(layer[path]) for path in paths)
            if kernel.ndim != 2 or recurrent.ndim != 2 or bias.ndim != 1:
                continue
            units = recurrent.shape[0]
            gates = recurrent.shape[1] // units if units else 0
            if (
                kernel.shape[1] != recurrent.shape[1]
                or gates not in (3, 4)
                or bias.shape != (2 * gates * units,)
            ):
                continue
            both = bias.reshape(2, -1)
            new = (
                _untransposed(kernel, gates, units),
                _untransposed(recurrent, gates, units),
                # LSTM adds them up; GRU with reset_after has a place for either.
                both.sum(axis=0) if gates == 4 else both,
            )
            for path, value in zip(paths, new, strict=True):
                del layer[path]
                layer.create_dataset(path, data=value)


def _untransposed(kernel: np.ndarray, gates: int, units: int) -> np.ndarray:
    rows = kernel.shape[0]
    return np.concatenate(
        [gate.reshape(units, rows).T for gate in np.split(kernel, gates, axis=1)], axis=1
    )
