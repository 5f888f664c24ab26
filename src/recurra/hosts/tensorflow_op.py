"""Compiling and loading the TensorFlow operations of `tensorflow_op.cpp`.

    library, note = load()

compiles them on first use (about ten seconds), because TensorFlow's C++ interface differs from
release to release, and keeps the result for later processes in

    $RECURRA_CACHE, else $XDG_CACHE_HOME/recurra, else ~/.cache/recurra

under a name made of everything it depends on: the source, TensorFlow's version, the compiler and
its options. A build is put there as a whole directory and under its final name in one step, so any
number of processes may do so at once. Each has a checksum: what is damaged is built anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from recurra import _engine

SOURCE = Path(__file__).with_name("tensorflow_op.cpp")
INCLUDE = Path(__file__).parent.parent / "include"

_COMPILERS = ("c++", "g++", "clang++")
_OPTIONS = ("-O2", "-w", "-fPIC", "-shared", "-fvisibility=hidden")
_LIBRARY, _CHECKSUM = "recurra_op.so", "sha256"
_TIME_LIMIT = 600.0

_logger = logging.getLogger("recurra")
_lock = threading.Lock()


class _CannotBuild(Exception):
    """Why there is no compiled operation, in words for people."""


def load() -> tuple[Any, str]:
    """The compiled operations, compiled if need be, and one sentence about it.

    Returns:
        (module with `recurra_forward` and `recurra_backward`, what it is), or (None, why there is
        none and what to do about it). The same at every call.
    """
    with _lock:  # functools.cache alone would let two threads compile
        return _load()


@functools.cache
def _load() -> tuple[Any, str]:
    if os.environ.get("RECURRA_TF_OP", "1").lower() in ("0", "false", "no", "off"):
        return None, "RECURRA_TF_OP=0 in the environment asks for it"
    try:
        return _find_or_build(), "compiled operation"
    except _CannotBuild as error:
        _logger.warning(
            "Recurra calls its engine through tf.numpy_function, which adds some 0.1 ms to every "
            "call: %s.",
            error,
        )
        return None, str(error)


def cache_folder() -> Path:
    """Where compiled operations are kept."""
    if own := os.environ.get("RECURRA_CACHE"):
        return Path(own).expanduser()
    if general := os.environ.get("XDG_CACHE_HOME"):
        return Path(general).expanduser() / "recurra"
    try:
        return Path.home() / ".cache" / "recurra"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"recurra-{os.getuid()}"


def find_compiler() -> list[str] | None:
    """The C++ compiler's command: $CXX, or the first of the usual ones that is there."""
    asked = shlex.split(os.environ.get("CXX", ""))
    for command in [asked] if asked else [[name] for name in _COMPILERS]:
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    return None


def build_name() -> str:
    """The name of this process's build in the cache, made of everything that it depends on.

    The compiler is left out: a build serves on where it has been uninstalled.
    """
    digest = hashlib.sha256()
    for part in (
        SOURCE.read_bytes(),
        (INCLUDE / "recurra_api.h").read_bytes(),
        repr((tf.__version__, tf.__git_version__, *_options())).encode(),
        repr((platform.system(), platform.machine())).encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return f"tensorflow-{tf.__version__}-{digest.hexdigest()[:16]}"


def _options() -> tuple[list[str], list[str]]:
    """What the compiler is told before and after the source's name."""
    link = [*tf.sysconfig.get_link_flags()]
    if sys.platform == "darwin":
        link += ["-undefined", "dynamic_lookup"]
    return [*tf.sysconfig.get_compile_flags(), *_OPTIONS, f"-I{INCLUDE}"], link


def _find_or_build() -> Any:
    folder = cache_folder() / build_name()
    if _is_whole(folder):
        with contextlib.suppress(_CannotBuild):
            return _open(folder / _LIBRARY)
        _discard(folder)
    compiler = find_compiler()
    if compiler is None:
        asked = os.environ.get("CXX")
        found = (
            f"CXX={asked} is not there" if asked else f"none of {', '.join(_COMPILERS)} is there"
        )
        raise _CannotBuild(
            f"TensorFlow needs a C++ compiler for the compiled operation and {found}; "
            "install one, e.g. g++, or name it in CXX"
        )
    _logger.info("Compiling Recurra's TensorFlow operation, once, into %s ...", folder)
    start = time.monotonic()
    options, link = _options()
    with tempfile.TemporaryDirectory(prefix="recurra-") as scratch:
        built = Path(scratch) / _LIBRARY
        _compile([*compiler, *options, str(SOURCE), "-o", str(built), *link])
        _logger.info("... done in %.1f s.", time.monotonic() - start)
        try:
            path = _keep(built, folder) / _LIBRARY
        except OSError:  # a cache that can't be written costs time only
            path = built  # the loaded file outlives its name
        return _open(path)


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _CannotBuild(f"compiling its operation failed ({error})") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        first = next((line for line in lines if "error" in line), lines[0] if lines else "no text")
        raise _CannotBuild(
            f"compiling its operation with {command[0]} failed ({first.strip()}); "
            "set CXX to a compiler that knows C++17"
        )


def _keep(built: Path, folder: Path) -> Path:
    """Put a build into the cache; returns where it is now."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        content = built.read_bytes()
        (staged / _LIBRARY).write_bytes(content)
        (staged / _CHECKSUM).write_text(hashlib.sha256(content).hexdigest())
        if folder.exists() and not _is_whole(folder):
            _discard(folder)
        try:
            staged.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else another process was faster: the same build
                raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _discard(folder: Path) -> None:
    """Take a build out of the cache, in one step."""
    with contextlib.suppress(OSError):
        folder.rename(Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent)) / "build")
    for damaged in folder.parent.glob(".damaged-*"):
        shutil.rmtree(damaged, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Whether a build is in that folder, by this user, as it was put there."""
    try:
        if hasattr(os, "getuid") and folder.stat().st_uid not in (os.getuid(), 0):
            return False
        expected = (folder / _CHECKSUM).read_text()
        return hashlib.sha256((folder / _LIBRARY).read_bytes()).hexdigest() == expected
    except OSError:
        return False


def _open(path: Path) -> Any:
    try:
        library = tf.load_op_library(str(path))
        hand_over = ctypes.CDLL(str(path)).recurra_set_api
    except (tf.errors.OpError, OSError, AttributeError) as error:
        raise _CannotBuild(f"its operation could not be loaded ({error})") from error
    hand_over.argtypes = [ctypes.c_void_p]
    if not hand_over(_engine.c_api()):
        raise _CannotBuild("its operation and its engine are of different versions; reinstall it")
    return library
