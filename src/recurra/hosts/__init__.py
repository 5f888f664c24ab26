"""Hosts: the frameworks that Keras runs on. A host calls the engine and wires gradients.

A host module offers:

    scan(config, x, kernel, recurrent_kernel, ...) -> dict     the engine as a differentiable op
    scan_many([(config, arguments), ...]) -> list[dict]        several scans, all of one
                                                               precision, in one engine call
    platform() -> str                                          where arrays are placed by default
    unavailable(x) -> str | None                               why this one call cannot run on the
                                                               engine, and what to change
    engine_note() -> str | None                                how the host calls the engine
    equivalent_activations() -> dict                           the framework's functions that are
                                                               the engine's activations, by function
    pullback(function, compiled=False) -> Callable             reverse-mode differentiation, see
                                                               below

`pullback(function)` takes a function of a list of tensors that gives a list of tensors, and gives
a function of the tensors to call it with, all floating-point, and of a cotangent for each of its
results. That one gives the results and the gradients by the tensors, zeros where nothing depends on
one: `results, gradients = pullback(lambda given: [3 * given[0]])([x], [one])`. `compiled` says that
it is called so often that compiling it pays, where the framework compiles.

Each framework is imported only in its own host's files, because a program uses one of them and
importing the others would cost seconds and memory, or fail.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from types import ModuleType

HOSTS = ("jax", "torch", "tensorflow")
"""Frameworks that Recurra has a host for."""

_loaded: dict[str, ModuleType] = {}  # rather than an import each time: torch.compile can read it

_KERAS_BACKENDS = ("jax", "torch", "tensorflow")
_OTHER_BACKENDS = ("numpy", "openvino")  # of Keras's, for inference only

# What Keras writes as its configuration file if there is none: nobody's choice.
_WRITTEN_BY_KERAS = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}


def get(name: str) -> ModuleType | None:
    """The host module for a framework, or None if Recurra has none for it.

    Args:
        name: as Keras calls it: "jax", "torch", "tensorflow", ...

    Example:
        >>> get("openvino") is None
        True
    """
    if name in HOSTS and name not in _loaded:
        _loaded[name] = importlib.import_module(f"recurra.hosts.{name}")
    return _loaded.get(name)


def is_traced() -> bool:
    """Whether a compiler reads this Python code instead of Python running it: torch.compile does.

    What looks at the interpreter itself, such as its frames, cannot be compiled and is left out.
    """
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    return compiler is not None and compiler.is_compiling()


def prepare_keras() -> None:
    """Before Keras is imported: have it run on a framework that is installed.

    Keras reads its choice once, while it is imported, and takes TensorFlow if there is none. So
    KERAS_BACKEND is set here, JAX first, unless the user has chosen: by KERAS_BACKEND, or in
    Keras's configuration file. That file counts only if what it names is installed and if it is
    not as Keras itself writes it on its first import: with "tensorflow", whatever Keras runs on.

    Does nothing once Keras is imported.

    Raises:
        ImportError: if KERAS_BACKEND names a framework that is not installed.
        ValueError: if KERAS_BACKEND names no framework of Keras's.
    """
    if "keras" in sys.modules:
        return
    asked = os.environ.get("KERAS_BACKEND")
    if asked:
        _check_asked(asked)
        return
    configured = _configured_backend()
    if configured is not None and (configured not in _KERAS_BACKENDS or _is_installed(configured)):
        return
    for name in _KERAS_BACKENDS:
        if _is_installed(name):
            if configured is not None:
                logging.getLogger("recurra").info(
                    "Keras's configuration file names %r, which is not installed; using %r. "
                    "Set KERAS_BACKEND to choose.",
                    configured,
                    name,
                )
            os.environ["KERAS_BACKEND"] = name
            return


def _check_asked(name: str) -> None:
    valid = (*_KERAS_BACKENDS, *_OTHER_BACKENDS)
    if name not in valid:
        close = difflib.get_close_matches(name, valid, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"KERAS_BACKEND={name} is no framework that Keras runs on.{hint} Expected one of "
            f"{', '.join(valid)}, or KERAS_BACKEND unset for one that is installed."
        )
    if not _is_installed(name):
        extra = f"recurra[{name}]" if name in _KERAS_BACKENDS else name
        raise ImportError(
            f'KERAS_BACKEND={name}, but {name} is not installed: unset it or pip install "{extra}".'
        )


def _configured_backend() -> str | None:
    """What Keras's configuration file names; None if nobody has written what can be read there."""
    home = os.environ.get("KERAS_HOME")
    if home is None:
        base = Path.home()
        home = str((base if os.access(base, os.W_OK) else Path("/tmp")) / ".keras")
    try:
        content = json.loads((Path(home).expanduser() / "keras.json").read_text())
    except (OSError, ValueError):
        return None
    if content == _WRITTEN_BY_KERAS:
        return None
    backend = content.get("backend") if isinstance(content, dict) else None
    return backend if isinstance(backend, str) else None


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
