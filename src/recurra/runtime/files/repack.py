"""HDF5 files that are not written as Keras writes them, rewritten so that they are.

Compressed weights, newer forms of groups and the like are rare in model files, and much code; so
HDF5's own library reads them. It is C code that damaged files can crash, and can make it take any
time and memory: therefore it runs in a child process, within limits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from recurra.runtime.files.hdf5 import Unusual
from recurra.runtime.files.limits import SMALL, Limits
from recurra.runtime.files.source import PIECE, Source

PROGRAM = os.path.join(os.path.dirname(__file__), "repack_program.py")


def repack(source: Source, limits: Limits, reason: Unusual) -> Source:
    """The same groups, weights and attributes, in the form that `hdf5` reads.

    Args:
        source: the HDF5 file.
        limits: of time, and of what the weights may expand to.
        reason: why it cannot be read as it is.

    Raises:
        ModelFileError: if the library cannot read it either, crashes, or takes too long.
    """
    # A program frozen into one file is its own "interpreter": it would start itself.
    if not limits.repack_seconds or not sys.executable or getattr(sys, "frozen", False):
        raise reason
    most = min(limits.max_bytes, max(SMALL, limits.max_expansion * source.size))
    # -P: modules beside the program are none of its own.
    command = [sys.executable, "-P", PROGRAM, str(most), str(limits.repack_seconds)]
    # One thread: NumPy's others would reserve memory for nothing.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as made:
        for place in range(0, source.size, PIECE):
            given.write(source.read(place, min(PIECE, source.size - place)))
        given.seek(0)
        try:
            child = subprocess.run(
                command,
                env=environment,
                stdin=given,
                stdout=made,
                stderr=subprocess.PIPE,
                timeout=limits.repack_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise source.fail(
                f"{reason.what}, and HDF5's own library did not read it in "
                f"{limits.repack_seconds} s (limit repack_seconds)"
            ) from None
        except OSError as error:
            raise source.fail(
                f"{reason.what}, and a process to read that did not start: {error}"
            ) from None
        if child.returncode:
            said = child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:500]
            raise source.fail(
                f"{reason.what}, and HDF5's own library does not read it either: "
                f"{said or f'it crashed ({child.returncode})'}"
            )
        made.seek(0)
        return Source(made.read(), source.name)
