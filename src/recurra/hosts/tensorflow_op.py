"""Compiling and loading the TensorFlow operations of `tensorflow_op.cpp`.

    library, note = load()

compiles them on first use (10 to 60 s), because TensorFlow's C++ interface differs from release to
release, and keeps the result for later processes in

    $RECURRA_CACHE, else $XDG_CACHE_HOME/recurra, else ~/.cache/recurra

under a name made of the source, TensorFlow's version, the options and the kind of machine. A build
is put there as a whole directory and under its final name in one step, so any number of processes
may do so at once. Each has a checksum: what is damaged is built anew.

Whatever goes wrong, a file system's errors included, `load` says so once and the engine is called
through NumPy.
"""

from __future__ import annotations

import contextlib
import ctypes
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from recurra import _engine

SOURCE = Path(__file__).with_name("tensorflow_op.cpp")
INCLUDE = Path(__file__).parent.parent / "include"

_COMPILERS = ("c++", "g++", "clang++")
_OPTIONS = ("-O2", "-w", "-fPIC", "-shared", "-fvisibility=hidden")
_LIBRARY, _CHECKSUM = "recurra_op.so", "sha256"
_COMPILED = "compiled operation"
_BUILDING, _DAMAGED = ".building-", ".damaged-"
_TIME_LIMIT = 600.0
_LEFT_AFTER = 2 * _TIME_LIMIT  # no build that is still going on is as old

_logger = logging.getLogger("recurra")
_lock = threading.Lock()
_loaded: tuple[Any, str] | None = None


class _CannotBuild(Exception):
    """Why there is no compiled operation, in words for people."""


def load() -> tuple[Any, str]:
    """The compiled operations, compiled if need be, and one sentence about it.

    Returns:
        (module with `recurra_forward` and `recurra_backward`, what it is), or (None, why there is
        none and what to do about it). The same at every call.
    """
    global _loaded
    if _loaded is None:
        with _lock:  # two threads would compile at once
            if _loaded is None:
                _loaded = _load()
    return _loaded


def load_built() -> None:
    """Load the compiled operations if they are in the cache; silent if they are not."""
    global _loaded
    with _lock, contextlib.suppress(_CannotBuild, OSError):
        if _loaded is None and _is_wanted():
            folder = cache_folder() / build_name()
            if _is_whole(folder):
                _loaded = _open(folder / _LIBRARY), _COMPILED


def _is_wanted() -> bool:
    return os.environ.get("RECURRA_TF_OP", "1").lower() not in ("0", "false", "no", "off")


def _load() -> tuple[Any, str]:
    if not _is_wanted():
        return None, "RECURRA_TF_OP=0 in the environment asks for it"
    try:
        return _find_or_build(), _COMPILED
    except (_CannotBuild, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = f"no place for compiling its operation can be used ({reason})"
        _logger.warning(
            "Recurra calls its engine through tf.numpy_function, which adds some 0.1 ms to every "
            "call: %s.",
            reason,
        )
        return None, reason


def cache_folder() -> Path:
    """Where compiled operations are kept."""
    if own := os.environ.get("RECURRA_CACHE"):
        return Path(os.path.expanduser(own))  # a Path's own raises for an unknown user
    if general := os.environ.get("XDG_CACHE_HOME"):
        return Path(os.path.expanduser(general)) / "recurra"
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
    start = time.monotonic()
    options, link = _options()
    with _build_place(folder) as (scratch, is_kept):
        built = scratch / _LIBRARY
        _compile([*compiler, *options, str(SOURCE), "-o", str(built), *link])
        _logger.info("... done in %.1f s.", time.monotonic() - start)
        if is_kept:
            with contextlib.suppress(OSError):
                built = _keep(scratch, folder) / _LIBRARY
        return _open(built)  # the loaded file outlives its name


@contextlib.contextmanager
def _build_place(folder: Path) -> Iterator[tuple[Path, bool]]:
    """A temporary folder to build in, and whether the build can be kept; says what it will cost.

    It is in the cache, else where temporary files go.

    Raises:
        OSError: if neither can be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent)
        is_kept = True
    except OSError as error:
        place = tempfile.mkdtemp(prefix="recurra-")
        is_kept = False
        _logger.warning(
            "Compiling Recurra's TensorFlow operation, which takes 10 to 60 s, in this process and "
            "in every later one, because %s cannot be written (%s). Name a folder that can be "
            "written in RECURRA_CACHE, and it is kept there.",
            folder.parent,
            error.strerror or error,
        )
    else:
        _logger.warning(
            "Compiling Recurra's TensorFlow operation, which takes 10 to 60 s, once: it is kept in "
            "%s.",
            folder,
        )
        _remove_remains(folder.parent)
    try:
        yield Path(place), is_kept
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _remove_remains(cache: Path) -> None:
    """Remove what processes that were killed while they built have left in the cache."""
    for remains in cache.glob(_BUILDING + "*"):
        with contextlib.suppress(OSError):
            if time.time() - remains.stat().st_mtime > _LEFT_AFTER:
                shutil.rmtree(remains, ignore_errors=True)


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


def _keep(staged: Path, folder: Path) -> Path:
    """Give a build in the cache its final name, and the checksum; returns where it is now."""
    content = (staged / _LIBRARY).read_bytes()
    (staged / _CHECKSUM).write_text(hashlib.sha256(content).hexdigest())
    if folder.exists() and not _is_whole(folder):
        _discard(folder)
    try:
        staged.rename(folder)
    except OSError:
        if not _is_whole(folder):  # else another process was faster: the same build
            raise
    return folder


def _discard(folder: Path) -> None:
    """Take a build out of the cache, in one step."""
    with contextlib.suppress(OSError):
        folder.rename(Path(tempfile.mkdtemp(prefix=_DAMAGED, dir=folder.parent)) / "build")
    for damaged in folder.parent.glob(_DAMAGED + "*"):
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
