"""Model files made to do harm: refused quickly, in little memory, and nothing of them is run."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import recurra
from recurra.runtime.errors import ModelFileError, UnsupportedLayerError
from recurra.runtime.files import Request, read, repack
from recurra.runtime.layer import Variable

TESTS = Path(__file__).parent
with zipfile.ZipFile(TESTS / "data" / "models_of_old_keras.zip") as _archive:
    KERAS = _archive.read("3.6.0/stack.keras")
    H5 = _archive.read("3.6.0/stack.h5")
with zipfile.ZipFile(io.BytesIO(KERAS)) as _archive:
    MEMBERS = {name: _archive.read(name) for name in _archive.namelist()}


def archived(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def with_config(text: str | bytes) -> bytes:
    """A .keras file with this architecture."""
    text = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return archived({**MEMBERS, "config.json": text})


def with_weights(change: Callable[[Any], None]) -> bytes:
    """A .keras file with changed weights, written by HDF5's own library."""
    file = io.BytesIO(MEMBERS["model.weights.h5"])
    with h5py.File(file, "r+") as root:
        change(root)
    return archived({**MEMBERS, "model.weights.h5": file.getvalue()})


def refused(tmp_path: Path, data: bytes, match: str, **limits: int) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=match) as caught:
        recurra.load(path, **limits)
    assert str(path) in str(caught.value)


def test_the_files_are_in_order_before_anything_is_done_to_them(tmp_path: Path) -> None:
    for data in (
        KERAS,
        H5,
        archived(MEMBERS, zipfile.ZIP_DEFLATED),
        with_weights(lambda root: None),
    ):
        (tmp_path / "model").write_bytes(data)
        assert recurra.load(tmp_path / "model").predict(np.zeros((1, 5, 3), "f4")).shape == (1, 1)


# --- Archives


def test_bombs_of_zip(tmp_path: Path) -> None:
    zeros = bytes(40 * 2**20)
    for name in ("config.json", "metadata.json"):
        data = archived({**MEMBERS, name: zeros}, zipfile.ZIP_DEFLATED)
        refused(tmp_path, data, f"{name} takes 41943040 bytes, more than")
    data = archived({**MEMBERS, "model.weights.h5": zeros}, zipfile.ZIP_DEFLATED)
    refused(tmp_path, data, "more than 200-fold")
    # The declared size is a lie.
    at = data.rindex(b"model.weights.h5") - 46
    lie = data[: at + 24] + (1000).to_bytes(4, "little") + data[at + 28 :]
    refused(tmp_path, lie, "does not unpack to 1000 bytes")


def test_archives_that_are_not_as_they_should_be(tmp_path: Path) -> None:
    without = {name: content for name, content in MEMBERS.items() if name != "config.json"}
    refused(tmp_path, archived(without), "without config.json")
    without = {name: content for name, content in MEMBERS.items() if "weights" not in name}
    refused(tmp_path, archived(without), "no model.weights.h5")
    refused(tmp_path, archived(MEMBERS, zipfile.ZIP_LZMA), "packed in a way of its own")
    data = archived({**MEMBERS, "config.jsoN": b"{}"}).replace(b"config.jsoN", b"config.json")
    refused(tmp_path, data, "two members config.json")
    at = KERAS.rindex(b"config.json") - 46
    refused(tmp_path, KERAS[: at + 8] + b"\1" + KERAS[at + 9 :], "config.json is encrypted")
    at = KERAS.index(b'"class_name"')
    refused(tmp_path, KERAS[:at] + b"'" + KERAS[at + 1 :], "checksum of config.json")
    at = KERAS.index(b"\x89HDF")
    refused(
        tmp_path, KERAS[: at + 3000] + b"@" + KERAS[at + 3001 :], "checksum of model.weights.h5"
    )
    many = archived({f"{number:04x}" * 300: b"" for number in range(5000)})
    refused(tmp_path, many, "list of members takes")


@pytest.mark.parametrize("data", [KERAS, H5], ids=["keras", "h5"])
def test_files_that_are_cut_off(data: bytes, tmp_path: Path) -> None:
    for size in sorted({1, 3, 4, 8, 9, 22, 60, 95, 100, *range(200, len(data), len(data) // 60)}):
        refused(tmp_path, data[:size], "Cannot read")
    refused(tmp_path, data[:-1], "Cannot read")


def test_limits_may_be_narrowed(tmp_path: Path) -> None:
    refused(tmp_path, KERAS, "limit max_bytes", max_bytes=10_000)
    refused(tmp_path, KERAS, "config.json takes", max_config_bytes=1000)
    refused(tmp_path, KERAS, "limit max_entries", max_entries=300)
    refused(tmp_path, KERAS, "limit max_metadata_bytes", max_metadata_bytes=1000)
    refused(tmp_path, KERAS, "limit max_depth", max_depth=3)


# --- Architectures


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8|not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ("[]", "is list"),
        ("3", "is int"),
        ("null", "is NoneType"),
        ("{}", "no class or no configuration"),
        ('{"class_name": "Sequential"}', "no class or no configuration"),
        ('{"class_name": 3, "config": {}}', "no class or no configuration"),
        ('{"class_name": "Sequential", "config": []}', "sequential"),
        ('{"class_name": "MyModel", "config": {"name": "x"}}', "no list of layers"),
        ('{"class_name": "Functional", "config": {"layers": 3}}', "no list of layers"),
        ('{"class_name": "Functional", "config": {"layers": [3]}}', "no list of layers"),
        ('{"class_name": "Functional", "config": {"layers": []}, "a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "not finite"),
        ('{"a": [-Infinity]}', "not finite"),
        ('{"a": 1e999}', "not finite"),
        ('{"a": 9223372036854775808}', "beyond 64 bits"),
        ('{"a": 1' + "0" * 5000 + "}", "not JSON|64 bits"),
        ('{"a": "\\ud800"}', "not Unicode"),
        ('{"\\udc00": 1}', "not Unicode"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "nested"),
        ("[" * 100_000, "nested"),
        ('{"a": ' * 100_000, "nested"),
        ('{"a": [' + "[]," * 400_000 + "0]}", "limit max_entries"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_architectures_that_are_none(text: str | bytes, match: str, tmp_path: Path) -> None:
    refused(tmp_path, with_config(text), match)
    if isinstance(text, str) and text:
        file = io.BytesIO(H5)
        with h5py.File(file, "r+") as root:
            root.attrs["model_config"] = text.encode()
        refused(tmp_path, file.getvalue(), match)


def edited_config(change: Callable[[Any], None]) -> bytes:
    tree = json.loads(MEMBERS["config.json"])
    change(tree)
    return with_config(json.dumps(tree))


def test_names_that_are_there_twice(tmp_path: Path) -> None:
    def double(tree: Any) -> None:
        layers = tree["config"]["layers"]
        layers.append(layers[-1])

    refused(tmp_path, edited_config(double), "two layers '|two layers named|already|twice")


def test_models_in_models_without_end(tmp_path: Path) -> None:
    def bury(tree: Any) -> None:
        inner = tree["config"]
        for _ in range(45):
            inner = {"name": "m", "layers": [{"class_name": "Sequential", "config": inner}]}
        tree["config"] = inner

    refused(tmp_path, edited_config(bury), "nested")


def test_nothing_in_a_file_is_run_or_imported(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "harmful_module.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None}}

    def function(tree: Any) -> None:
        layer = {"name": "run", "function": code, "module": "builtins"}
        tree["config"]["layers"].append(
            {"module": "keras.layers", "class_name": "Lambda", "config": layer}
        )

    def module(tree: Any) -> None:
        tree["config"]["layers"].append(
            {
                "module": "harmful_module",
                "class_name": "Thing",
                "config": {"name": "thing"},
                "registered_name": "harmful_module>Thing",
            }
        )

    def activation(tree: Any) -> None:
        tree["config"]["layers"][-1]["config"]["activation"] = {
            "module": "harmful_module",
            "class_name": "function",
            "config": "system",
            "registered_name": "system",
        }

    for change, name in ((function, "Lambda"), (module, "Thing"), (activation, "system")):
        (tmp_path / "model.keras").write_bytes(edited_config(change))
        with pytest.raises(UnsupportedLayerError, match=name):
            recurra.load(tmp_path / "model.keras")
    assert "harmful_module" not in sys.modules


# --- Weights

KERNEL = "layers/dense/vars/0"


def replaced(value: Any, **how: Any) -> Callable[[Any], None]:
    def change(root: Any) -> None:
        del root[KERNEL]
        root.create_dataset(KERNEL, data=value, **how)

    return change


def linked(link: Callable[[Any], Any], path: str = KERNEL) -> Callable[[Any], None]:
    def change(root: Any) -> None:
        if path in root:
            del root[path]
        root[path] = link(root)

    return change


def claimed(shape: tuple[int, ...], **how: Any) -> Callable[[Any], None]:
    """A shape with no values stored for it."""

    def change(root: Any) -> None:
        del root[KERNEL]
        root.create_dataset(KERNEL, shape, "f4", **how)

    return change


def elsewhere(root: Any) -> None:
    del root[KERNEL]
    files = [("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    root.create_dataset(KERNEL, (2, 2), "f4", external=files)


def virtual(root: Any) -> None:
    del root[KERNEL]
    layout = h5py.VirtualLayout((2, 2), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2, 2))
    root.create_virtual_dataset(KERNEL, layout)


def deep(root: Any) -> None:
    root["/".join(["g"] * 400)] = 1


COMPOUND = np.dtype([("a", "f4"), ("b", "f4")])
REFERENCE = h5py.special_dtype(ref=h5py.Reference)
STRINGS = h5py.string_dtype()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (linked(lambda root: h5py.SoftLink("/layers/lstm")), "link to another place"),
        (linked(lambda root: h5py.SoftLink("/" + KERNEL)), "link to another place"),
        (linked(lambda root: h5py.ExternalLink("/etc/passwd", "/x")), "link to another place"),
        (linked(lambda root: h5py.ExternalLink("/etc/passwd", "/x"), "more"), "link to another"),
        (linked(lambda root: root["layers"]), "goes in circles"),
        (linked(lambda root: root["layers/dense/vars/1"]), "same object as another"),
        (linked(lambda root: root["/"], "layers/dense/more"), "goes in circles"),
        (linked(lambda root: np.dtype("f4")), "neither a group nor an array|no weights"),
        (elsewhere, "another file|other files"),
        (virtual, "other files|made of other"),
        (deep, "200 deep|too deep"),
        (replaced(np.zeros((2, 2), "c8")), "compound|complex"),
        (replaced(np.zeros((2, 2), COMPOUND)), "compound|numbers were expected"),
        (replaced(np.array([[b"ab"] * 2] * 2)), "texts, where numbers were expected"),
        (replaced(np.array([["ab"] * 2] * 2, object), dtype=STRINGS), "texts, where numbers"),
        (replaced(np.full((2, 2), None), dtype=REFERENCE), "references|numbers were expected"),
        (replaced(h5py.Empty("f4")), "holds no value"),
        (claimed((2, 2)), "and no values"),
        (claimed((2**20, 2**20)), "limit max_bytes"),
        (claimed((2**31, 2**27)), "beyond reason"),
        (claimed((2**15, 2**15), chunks=(2**10, 2**10)), "expands beyond all limits"),
        (claimed((2**15, 2**15), chunks=True, compression="gzip"), "expands beyond all limits"),
        (replaced(np.zeros((3, 2), "f4")), "shape|dense"),
        (replaced(np.zeros((2, 2), "i4")), "holds int32, where floats were expected"),
        (replaced(np.zeros(4, "f4")), "shape|dense"),
        (lambda root: root.__delitem__(KERNEL), "layer 'dense' has no weights"),
        (lambda root: root.__delitem__("layers"), "has no weights"),
        (lambda root: root["layers"].create_dataset("x/vars/0", data=1.5), "no layer asks for"),
        (lambda root: root["layers"].move("dense", "danse"), "has no weights"),
    ],
    ids=lambda value: "",
)
def test_weights_that_are_none(change: Callable[[Any], None], match: str, tmp_path: Path) -> None:
    refused(tmp_path, with_weights(change), match)


def test_weights_may_be_nan(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(with_weights(replaced(np.full((2, 2), np.nan, "f4"))))
    assert np.isnan(recurra.load(path).predict(np.zeros((1, 5, 3), "f4"))).all()


def test_weights_that_share_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    names = [f"d{number}" for number in range(20)]
    with h5py.File(path, "w") as root:
        layers = [{"class_name": "Dense", "config": {"name": name}} for name in names]
        model = {"class_name": "Sequential", "config": {"layers": layers}}
        root.attrs["model_config"] = json.dumps(model)
        weights = root.create_group("model_weights")
        weights.attrs["layer_names"] = names
        places = []
        for name in names:
            weights.create_group(name).attrs["weight_names"] = ["kernel"]
            weights[name]["kernel"] = np.zeros(30_000, "f4")
            places.append(weights[name]["kernel"].id.get_offset())
    data = path.read_bytes()
    for place in places[1:]:
        data = data.replace(place.to_bytes(8, "little"), places[0].to_bytes(8, "little"))
    # The rest of the file is cut off, and its end said to be there.
    end = places[1]
    path.write_bytes(data[:40] + end.to_bytes(8, "little") + data[48:end])
    requests = [Request((name,), [Variable("kernel")]) for name in names]
    with pytest.raises(ModelFileError, match="overlap|damaged|Cannot read"):
        read(path).read_all(requests)


# --- The child process that HDF5's own library runs in


@pytest.mark.parametrize(
    ("program", "match"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"it crashed \(-11\)"),
        ("while True: pass", "did not read it in 1 s"),
        ("raise SystemExit('no memory')", "no memory"),
        ("print('nothing of use')", "not an HDF5 file"),
        ("", "not an HDF5 file"),
    ],
    ids=["crash", "hang", "error", "nonsense", "nothing"],
)
def test_a_child_process_that_fails(
    program: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repack, "PROGRAM", str(tmp_path / "program.py"))
    (tmp_path / "program.py").write_text(program)
    data = with_weights(replaced(np.zeros((2, 2), "f4"), compression="gzip"))
    refused(tmp_path, data, match, repack_seconds=1 if "while" in program else 60)


# --- Time and memory

BOUNDED = """
import resource, sys, time
import recurra.runtime.model
from recurra.runtime.errors import ModelFileError
pages = int(open("/proc/self/statm").read().split()[0])
space = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (space, space))
for path in sys.argv[2:]:
    try:
        recurra.load(path, repack_seconds=0)
    except ModelFileError as error:
        print("refused:", str(error)[-90:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be bounded on Linux only")
def test_bombs_go_off_in_little_memory(tmp_path: Path) -> None:
    values = '{"a": [' + "{},{}," * 80_000 + "0]}"
    bombs = [
        with_config(values),
        with_config('{"a": [' + "[]," * 5_000_000 + "0]}"),
        with_config("[" * 15_000_000),
        archived({**MEMBERS, "config.json": bytes(2**27)}, zipfile.ZIP_DEFLATED),
        archived({**MEMBERS, "model.weights.h5": bytes(2**27)}, zipfile.ZIP_DEFLATED),
        with_weights(claimed((2**20, 2**20))),
        with_weights(claimed((2**12, 2**12), chunks=True, compression="gzip")),
    ]
    paths = []
    for number, data in enumerate(bombs):
        paths.append(str(tmp_path / f"bomb{number}"))
        Path(paths[-1]).write_bytes(data)
    command = [sys.executable, "-c", BOUNDED, str(256 * 2**20), *paths]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused:") == len(bombs), done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be bounded on Linux only")
def test_damaged_files_never_crash() -> None:
    """A sample; `make fuzz` tries many more, and other ones."""
    command = [sys.executable, TESTS / "fuzz_models.py", "--cases", "1000", "--seconds", "20"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'refused':" in done.stdout, done.stdout
