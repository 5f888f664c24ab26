"""Building the TensorFlow operation: compiled once, kept, built anew if damaged, or done without.

Each test is a process of its own, because a process loads an operation once. The compiler is a
script that counts its calls and hands out the operation that this process has built.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from recurra.hosts import tensorflow as host
from recurra.hosts import tensorflow_op

PROGRAM = """
import logging
logging.basicConfig(level="INFO", format="%(name)s %(levelname)s %(message)s")
import tensorflow as tf
from recurra.engine import Config
from recurra.hosts import tensorflow as host
w = {"kernel": tf.ones((2, 3)), "recurrent_kernel": tf.zeros((3, 3))}
for _ in range(2):
    last = host.scan(Config("simple_rnn", activation="linear"), tf.ones((1, 4, 2)), **w)
assert last["last_output"].numpy().tolist() == [[2.0, 2.0, 2.0]]
print("note:", host.engine_note())
"""


@pytest.fixture(scope="module")
def built() -> Path:
    """A working operation's file."""
    library, note = tensorflow_op.load()
    if library is None:
        pytest.skip(note)
    (found,) = (
        path
        for path in tensorflow_op.cache_folder().glob("*/recurra_op.so")
        if path.parent.name == tensorflow_op.build_name()
    )
    return found


@pytest.fixture
def compiler(tmp_path: Path, built: Path) -> Path:
    """A compiler that copies what is there, and adds a line to `calls` beside it."""
    script = tmp_path / "compiler"
    script.write_text(
        f'#!/bin/sh\necho call >> "{tmp_path}/calls"\n'
        'while [ "$1" != "-o" ]; do shift; done\n'
        f'sleep 1; cp "{built}" "$2"\n'
    )
    script.chmod(0o755)
    return script


def start(
    cache: Path, compiler: str, *arguments: str, program: str = PROGRAM, **environment: str
) -> subprocess.Popen[str]:
    settings = {
        "KERAS_BACKEND": "tensorflow",
        "RECURRA_CACHE": str(cache),
        "CXX": compiler,
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """The operation's note, and what Recurra logged."""
    out, log = process.communicate(timeout=300)
    assert process.returncode == 0, log[-3000:]
    (note,) = [line for line in out.splitlines() if line.startswith("note: ")]
    return note[6:], [line for line in log.splitlines() if line.startswith("recurra ")]


def test_compiled_once_and_built_anew_if_damaged(tmp_path: Path, compiler: Path) -> None:
    cache = tmp_path / "cache"
    calls = tmp_path / "calls"
    processes = [start(cache, str(compiler)) for _ in range(2)]  # at the same time
    for process in processes:
        assert finish(process)[0] == "compiled operation"
    first = len(calls.read_text().split())
    assert first in (1, 2)  # as they happen to meet

    note, log = finish(start(cache, "/no/such/compiler"))  # none is needed any more
    assert (note, log) == ("compiled operation", [])

    (library,) = cache.glob("*/recurra_op.so")
    library.write_bytes(library.read_bytes()[:5000])
    note, _ = finish(start(cache, str(compiler)))
    assert note == "compiled operation"
    assert len(calls.read_text().split()) == first + 1
    assert [path.parent.name for path in cache.glob("*/*.so")] == [tensorflow_op.build_name()]
    assert not [*cache.glob(".*")]


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, compiler: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    note, log = finish(start(file / "cache", str(compiler)))
    assert note == "compiled operation"
    (line,) = [line for line in log if "WARNING" in line]
    assert "every later one" in line
    assert str(file / "cache") in line
    assert "RECURRA_CACHE" in line


def test_without_any_folder_to_write_numpy_is_used_and_told(tmp_path: Path, compiler: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    none = f"import tempfile; tempfile.tempdir = {str(tmp_path / 'no')!r}\n"
    note, log = finish(start(file / "cache", str(compiler), program=none + PROGRAM))
    assert "tf.numpy_function" in note
    (line,) = log
    assert "WARNING" in line
    assert "no place for compiling" in line
    assert not (tmp_path / "calls").exists()


def test_a_cache_is_all_that_building_needs(tmp_path: Path, compiler: Path) -> None:
    none = f"import tempfile; tempfile.tempdir = {str(tmp_path / 'no')!r}\n"
    note, log = finish(start(tmp_path / "cache", str(compiler), program=none + PROGRAM))
    assert note == "compiled operation"
    (line,) = [line for line in log if "WARNING" in line]
    assert "10 to 60 s, once" in line
    assert str(tmp_path / "cache") in line


def test_remains_of_killed_builds_are_removed(tmp_path: Path, compiler: Path) -> None:
    cache = tmp_path / "cache"
    old, new = cache / ".building-old", cache / ".building-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    assert finish(start(cache, str(compiler)))[0] == "compiled operation"
    assert [*cache.glob(".*")] == [new]


SAVE = """
import sys, tensorflow as tf
from recurra.layers import LSTM
layer = LSTM(3)
layer(tf.ones((1, 4, 2)))
traced = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec((None, 4, 2)))
assert any(op.type == "RecurraForward" for op in traced.graph.get_operations())
module = tf.Module()
module.variables_ = [v.value for v in layer.variables]
tf.saved_model.save(module, sys.argv[1], signatures=traced)
"""
LOAD = """
import sys, tensorflow as tf
{load}
run = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
assert [*run(x=tf.ones((2, 4, 2))).values()][0].shape == (2, 3)
"""


def test_a_graph_saved_as_it_was_traced_is_loaded_next_to_recurra(
    tmp_path: Path, compiler: Path
) -> None:
    def run(program: str, cache: str) -> None:
        process = start(tmp_path / cache, str(compiler), str(tmp_path / "m"), program=program)
        _, log = process.communicate(timeout=300)
        assert process.returncode == 0, log[-3000:]

    run(SAVE, "cache")
    run(LOAD.format(load="import recurra.layers"), "cache")
    loading = "from recurra.hosts import tensorflow; tensorflow.load_op()"
    run(LOAD.format(load=loading), "empty")


def test_without_a_compiler_numpy_is_used_and_told_once(tmp_path: Path) -> None:
    note, log = finish(start(tmp_path, "/no/such/compiler"))
    assert "tf.numpy_function" in note
    assert "CXX=/no/such/compiler is not there" in note
    (line,) = log
    assert line.startswith("recurra WARNING")
    assert "install one" in line


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    script = tmp_path / "compiler"
    script.write_text("#!/bin/sh\necho In file x >&2\necho 'x.cpp:1: error: no luck' >&2\nexit 1\n")
    script.chmod(0o755)
    note, log = finish(start(tmp_path / "cache", str(script)))
    assert "x.cpp:1: error: no luck" in note
    assert [line.split()[1] for line in log] == ["WARNING", "WARNING"]


def test_the_environment_can_ask_for_numpy(tmp_path: Path) -> None:
    note, log = finish(start(tmp_path, "/no/such/compiler", RECURRA_TF_OP="0"))
    assert "RECURRA_TF_OP=0" in note
    assert log == []


def test_load_op_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorflow_op, "load", lambda: (None, "a test asks for it"))
    with pytest.raises(RuntimeError, match="a test asks for it"):
        host.load_op()


def test_where_operations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURRA_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert tensorflow_op.cache_folder() == Path("/a")
    monkeypatch.delenv("RECURRA_CACHE")
    assert tensorflow_op.cache_folder() == Path("/b/recurra")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert tensorflow_op.cache_folder() == Path("/c/.cache/recurra")
