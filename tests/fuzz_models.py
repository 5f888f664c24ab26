"""Damages real model files in thousands of ways and loads them: never a crash.

    python tests/fuzz_models.py --cases 20000

Every case is a number: the same number always damages the same file in the same way. Cases run in
child processes that are bounded in memory; one that crashes, hangs, takes too much memory or
raises another error than `ModelFileError` is reported, with the command that repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import math
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "data" / "models_of_old_keras.zip"
MEMORY = 3 * 2**30  # address space of a child beside what it starts with
SECONDS = 20  # for one case on a busy machine; all take well under one
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**40, 2**62, 0.5, -1.0, 1e300, "", "a/b",
    "\0", "relu", "linear", "softmax", "LSTM", "Dense", "Lambda", "Functional", [], [[]], [1], [-1],
    [None], {},
    {"class_name": "Lambda", "config": {}}, {"class_name": "__import__", "config": "os"},
    [10**6, 10**6, 10**6], float("nan"), float("inf"), "x" * 10_000,
)  # fmt: skip


def corpus() -> list[tuple[str, bytes]]:
    """Names and bytes of real files, in a fixed order."""
    with zipfile.ZipFile(CORPUS) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith(".npz"))
        return [(name, archive.read(name)) for name in names]


def damaged_bytes(draw: random.Random, data: bytes) -> bytes:
    """Bytes changed without regard to what they mean."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at, size = draw.randrange(len(changed)), draw.choice((1, 2, 4, 8, 64, 512))
        match draw.randrange(8):
            case 0 | 1:
                changed[at] ^= 1 << draw.randrange(8)
            case 2:
                number = draw.choice(NUMBERS) & (2 ** (8 * min(size, 8)) - 1)
                changed[at : at + min(size, 8)] = number.to_bytes(min(size, 8), "little")
            case 3:
                changed[at : at + size] = bytes(size)
            case 4:
                other = draw.randrange(len(changed))
                changed[at : at + size] = changed[other : other + size]
            case 5:
                changed[at : at + size] = draw.randbytes(size)
            case 6:  # an address elsewhere in the file
                at -= at % 8
                changed[at : at + 8] = struct.pack("<Q", draw.randrange(len(changed)) & ~7)
            case 7 if draw.random() < 0.3:
                del changed[at : at + size]
    if draw.random() < 0.05:
        del changed[draw.randrange(1, len(changed)) :]
    return bytes(changed or b"\0")


def nodes(tree: Any) -> list[tuple[Any, Any]]:
    """All places in a JSON tree, as containers and keys."""
    found, waiting = [], [tree]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def damaged_json(draw: random.Random, text: str) -> str:
    """An architecture with some of its values exchanged, removed, doubled."""
    tree = json.loads(text)
    for key in ("compile_config", "build_config"):
        tree.pop(key, None)
    for _ in range(draw.choice((1, 1, 2, 5))):
        places = nodes(tree)
        if not places:
            break
        container, key = draw.choice(places)
        other, other_key = draw.choice(places)
        match draw.randrange(7):
            case 0 | 1:
                container[key] = draw.choice(VALUES)
            case 2:
                container[key] = json.loads(json.dumps(other[other_key]))
            case 3:
                del container[key]
            case 4 if isinstance(container, list):
                container.insert(key, json.loads(json.dumps(container[key])))
            case 5 if isinstance(container[key], int | float):
                container[key] = draw.choice((-1, 2, 0.5, 1000)) * container[key]
            case 6:
                container[key] = [container[key]]
    text = json.dumps(tree)
    if draw.random() < 0.03:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice('{}[],:"0\\e\ud800') + text[at + 1 :]
    if draw.random() < 0.01:
        text = "[" * draw.choice((500, 100_000)) + text
    return text


def change_hdf5(draw: random.Random, root: Any, path: str, paths: list[str]) -> None:
    """Something in an HDF5 file made into something else."""
    import h5py
    import numpy as np

    item = root[path]
    match draw.randrange(9):
        case 0:
            del root[path]
        case 1 if isinstance(item, h5py.Dataset):
            shape = tuple(draw.choice((*item.shape, 0, 1, 3, 4000)) for _ in item.shape)
            del root[path]
            root.create_dataset(path, shape, "f4", chunks=bool(shape) or None)
        case 2 if isinstance(item, h5py.Dataset):
            kind = draw.choice(("f8", "f2", "i4", "u1", "S5", "c8", "?", "i8"))
            shape = item.shape
            del root[path]
            root[path] = np.zeros(shape, kind)
        case 3:
            del root[path]
            root[path] = h5py.SoftLink("/" + draw.choice(paths))
        case 4:
            del root[path]
            root[path] = h5py.ExternalLink("/etc/passwd", "/")
        case 5:
            root[f"more{draw.randrange(9)}"] = item
        case 6 if isinstance(item, h5py.Group):
            root.move(path, f"{path}_1")
        case 7 if len(item.attrs):
            name = draw.choice(list(item.attrs))
            value = draw.choice((1, "x", [b"a", b"b"], 0.5, h5py.Empty("f4"), ["é"] * 3))
            item.attrs[name] = value
        case 8 if isinstance(item, h5py.Dataset):
            values = np.full(item.shape, draw.choice((np.nan, np.inf, 1e38)), "f4")
            del root[path]
            root[path] = values


def damaged_hdf5(draw: random.Random, data: bytes) -> bytes:
    """A well-formed HDF5 file with other things in it than it should have."""
    import h5py

    file = io.BytesIO(data)
    with h5py.File(file, "r+") as root:
        paths: list[str] = []
        root.visit(paths.append)
        for _ in range(draw.choice((1, 1, 2, 4))):
            path = draw.choice(paths)
            # What was done before may stand in the way of what is to be done.
            with contextlib.suppress(KeyError, OSError, RuntimeError, ValueError):
                change_hdf5(draw, root, path, paths)
    return file.getvalue()


def with_model_config(draw: random.Random, data: bytes) -> bytes:
    """An .h5 file with a damaged architecture."""
    import h5py

    file = io.BytesIO(data)
    with h5py.File(file, "r+") as root:
        text = damaged_json(draw, root.attrs["model_config"])
        root.attrs["model_config"] = text.encode("utf-8", "surrogatepass")
    return file.getvalue()


def case(number: int, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """The damaged file of this number, and the name of the one it was."""
    draw = random.Random(number)
    name, data = draw.choice(files)
    if zipfile.is_zipfile(io.BytesIO(data)) and draw.random() < 0.9:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        how: Callable[[random.Random, bytes], bytes] = draw.choice((damaged_bytes, damaged_hdf5))
        if draw.random() < 0.5:
            text = damaged_json(draw, members["config.json"].decode())
            members["config.json"] = text.encode("utf-8", "surrogatepass")
        else:
            members["model.weights.h5"] = how(draw, members["model.weights.h5"])
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", draw.choice((0, 8))) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        data = made.getvalue()
        if draw.random() < 0.1:
            data = damaged_bytes(draw, data)
    elif data[:4] == b"\x89HDF":
        how = draw.choice((damaged_bytes, damaged_bytes, damaged_hdf5, with_model_config))
        data = how(draw, data)
    else:
        data = damaged_bytes(draw, data)
    return name, data


def attempt(path: str, seconds: int) -> str:
    """Load a file, predict once, step twice if it can; what came of it."""
    import numpy as np

    import recurra
    from recurra.runtime.errors import ModelFileError, StreamingError, UnsupportedLayerError

    try:
        model = recurra.load(path, repack_seconds=seconds)
    except UnsupportedLayerError:
        return "unsupported"
    except ModelFileError:
        return "refused"
    random = np.random.default_rng(0)
    inputs = []
    for tensor in model.graph.inputs:
        shape = [size or 3 for size in tensor.shape]
        if math.prod(shape) > 10**6:
            return "loaded, too large to run"
        values = random.normal(size=shape).astype("float32")
        inputs.append(values if tensor.dtype == "float32" else np.zeros(shape, tensor.dtype))
    try:
        model.predict(inputs if len(inputs) > 1 else inputs[0])
    except ModelFileError:
        return "refused when run"
    except ValueError:
        return "loaded, did not run"
    try:
        session = model.open()
        for _ in range(2):
            session.step(*(values[0, 0] for values in inputs))
        model.restore(session.snapshot())
    except StreamingError:
        return "ran"
    return "ran and streamed"


def work(first: int, last: int, seconds: int) -> None:
    """Run cases in this process, saying of each when it begins and what came of it."""
    import resource

    import numpy as np

    importlib.import_module("recurra.runtime.model")  # before memory is bounded
    np.seterr(all="ignore")
    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (space + MEMORY, space + MEMORY))
    files = corpus()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        for number in range(first, last):
            print("begin", number, flush=True)
            name, data = case(number, files)
            Path(path).write_bytes(data)
            try:
                result = attempt(path, seconds)
            except Exception as error:
                last_call = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(last_call.filename).name}:{last_call.lineno}"
                result = f"{type(error).__name__} at {place}: {error} ({name})"[:300]
                print("bad", number, result.replace("\n", " "), flush=True)
            else:
                print("done", number, result, flush=True)


def run(first: int, last: int, seconds: int, until: float) -> tuple[Counter[str], list[str]]:
    """Run cases in child processes; counts of results, and what went wrong."""
    results: Counter[str] = Counter()
    wrong: list[str] = []
    while first < last and time.monotonic() < until:
        command = [sys.executable, __file__, "--work", str(first), str(last), str(seconds)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stderr is not None
        current, pending = first, b""
        with child:
            while time.monotonic() < until:
                ready, _, _ = select.select([child.stdout], [], [], SECONDS + seconds)
                if not ready:
                    wrong.append(f"case {current}: took more than {SECONDS + seconds} s")
                    break
                piece = os.read(child.stdout.fileno(), 65536)
                if not piece:
                    break
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    what, number, *rest = line.decode("utf-8", "replace").split(" ", 2)
                    current = int(number)
                    if what == "done":
                        results[rest[0]] += 1
                    elif what == "bad":
                        results["wrong error"] += 1
                        wrong.append(f"case {current}: {rest[0]}")
            else:
                child.kill()
                return results, wrong
            child.kill()
            said = child.stderr.read().decode("utf-8", "replace").strip()
        if child.returncode not in (0, -9):
            wrong.append(
                f"case {current}: the process ended with {child.returncode}: {said[-200:]}"
            )
        first = last if child.returncode == 0 else current + 1
    return results, wrong


def main() -> int:
    """Run what the command line asks for; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after as many")
    parser.add_argument("--repack", type=int, default=0, help="seconds for HDF5's own library")
    parser.add_argument("--save", metavar="FILE", help="write the first case there instead")
    parser.add_argument("--work", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return 0
    if options.save:
        name, data = case(options.first, corpus())
        Path(options.save).write_bytes(data)
        print(f"Case {options.first}, once {name}, is in {options.save}")
        return 0
    until = time.monotonic() + options.seconds
    last = options.first + options.cases
    results, wrong = run(options.first, last, options.repack, until)
    print(f"{sum(results.values())} damaged files:", dict(results.most_common()))
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
