"""Reading model files: both formats, every version of Keras, every form of HDF5."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import recurra
from recurra.runtime.errors import ModelFileError
from recurra.runtime.files import Request, SavedModel, container_names, read
from recurra.runtime.files.hdf5 import File, Group
from recurra.runtime.files.names import snake_case
from recurra.runtime.files.source import Source
from recurra.runtime.layer import Variable

OLD = Path(__file__).parent / "data" / "models_of_old_keras.zip"
with zipfile.ZipFile(OLD) as _archive:
    OLD_MODELS = sorted(name for name in _archive.namelist() if not name.endswith(".npz"))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of files that older versions of Keras wrote."""
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(OLD) as archive:
        archive.extractall(folder)
    return folder


def places(config: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Layers that are no models, as requests name them."""
    for entry in config["layers"]:
        place = (*above, entry["config"]["name"])
        if "layers" in entry["config"]:
            yield from places(entry["config"], place)
        else:
            yield place


def everything(saved: SavedModel) -> dict[str, np.ndarray]:
    """All weights of a model by layer and the names they have in the file."""
    requests = [Request(place, None) for place in places(saved.config)]
    found = {}
    for request, values in zip(requests, saved.read_all(requests), strict=True):
        found.update({"/".join((*request.place, name)): value for name, value in values.items()})
    return found


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("name", OLD_MODELS)
def test_models_of_older_versions_predict_what_they_did(name: str, old: Path) -> None:
    data = np.load(old / f"{name.rpartition('.')[0]}.npz")
    inputs, *expected = [data[key] for key in data.files]
    model = recurra.load(old / name)
    outputs = model.predict(inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for output, value in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, value, atol=1e-5)


def test_what_is_known_of_a_file(old: Path) -> None:
    saved = read(old / "2.21.0" / "stack.keras")
    assert (saved.class_name, saved.keras_version) == ("Sequential", "2.21.0")
    assert saved.config["layers"][1]["class_name"] == "Masking"
    saved.close()
    saved = read(str(old / "2.12.0" / "parts.h5"))
    assert (saved.class_name, saved.keras_version) == ("Functional", "2.12.0")
    saved.close()


def test_the_content_says_what_a_file_is_not_its_name(old: Path, tmp_path: Path) -> None:
    # Keras before 2.13 wrote HDF5 under the name .keras, unless asked for the new format.
    for ending, other in ((".h5", ".keras"), (".keras", ".h5")):
        path = tmp_path / f"model{other}"
        path.write_bytes((old / "2.12.0" / f"stack{ending}").read_bytes())
        expected = everything(read(old / "2.12.0" / f"stack{ending}"))
        assert_same(everything(read(path)), expected)


def test_weights_may_be_read_once(old: Path) -> None:
    saved = read(old / "2.21.0" / "stack.keras")
    values = everything(saved)
    assert all(not value.flags.writeable for value in values.values())
    with pytest.raises(RuntimeError, match="once"):
        saved.read_all([])


def test_class_names_become_names_in_files() -> None:
    classes = ["LSTM", "LSTMCell", "LSTM", "Conv1D", "PReLU", "GRU", "TimeDistributed", "LSTM"]
    names = ["lstm", "lstm_cell", "lstm_1", "conv1d", "p_re_lu", "gru", "time_distributed"]
    assert container_names(classes) == [*names, "lstm_2"]
    keras = pytest.importorskip("keras")
    for name in dir(keras.layers):
        if name[0].isupper():
            assert snake_case(name) == keras.src.utils.naming.to_snake_case(name)


# --- The digest


def digest(path: Path) -> str:
    saved = read(path)
    everything(saved)
    return saved.digest


def edited(path: Path, made: Path, config: Any = None, weights: Any = None) -> Path:
    """A .keras file with its architecture or its weights changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if config:
        tree = json.loads(members["config.json"])
        config(tree)
        members["config.json"] = json.dumps(tree, indent=1).encode()
    if weights:
        file = io.BytesIO(members["model.weights.h5"])
        with h5py.File(file, "r+") as root:
            weights(root)
        members["model.weights.h5"] = file.getvalue()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made


def test_the_digest_is_of_what_is_computed(old: Path, tmp_path: Path) -> None:
    path = old / "3.6.0" / "stack.keras"
    before = digest(path)
    assert len(bytes.fromhex(before)) == 32

    def compiled(tree: Any) -> None:
        tree["compile_config"] = {"loss": "mse"}

    def wider(tree: Any) -> None:
        tree["config"]["layers"][1]["config"]["mask_value"] = 1.0

    def nudged(root: Any) -> None:
        root["layers/dense/vars/1"][0] += 1e-6

    made = tmp_path / "model.keras"
    assert digest(edited(path, made)) == before
    assert digest(edited(path, made, config=compiled)) == before
    assert digest(edited(path, made, config=wider)) != before
    assert digest(edited(path, made, weights=nudged)) != before


# --- Missing and surplus weights

KERNEL, BIAS = Variable("kernel"), Variable("bias", index=1)


def write_h5(path: Path, lists: dict[str, list[tuple[str, np.ndarray]]], layers: list[Any]) -> Path:
    """A file of old, with these weights for these layers."""
    with h5py.File(path, "w") as root:
        model = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
        root.attrs["model_config"] = json.dumps(model).encode()
        weights = root.create_group("model_weights")
        weights.attrs["layer_names"] = np.array([name.encode() for name in lists])
        for name, values in lists.items():
            group = weights.create_group(name)
            group.attrs["weight_names"] = np.array([name.encode() for name, _ in values])
            for weight, value in values:
                group[weight] = value
    return path


def layer(name: str, class_name: str = "Dense", **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **config}}


def test_old_lists_of_weights_have_the_trainable_ones_first(tmp_path: Path) -> None:
    gamma, mean = Variable("gamma"), Variable("moving_mean", index=1, trainable=False)
    inner = [layer("norm", "BatchNormalization"), layer("last")]
    ones = np.ones(2, "f4")
    values = [("norm/gamma", ones), ("last/kernel", 2 * ones), ("norm/moving_mean", 3 * ones)]
    requests = [Request(("inner", "norm"), [gamma, mean]), Request(("inner", "last"), [KERNEL])]
    model = layer("inner", "Sequential", layers=inner)
    path = write_h5(tmp_path / "model.h5", {"inner": values}, [model])
    norm, last = read(path).read_all(requests)
    assert (norm["gamma"][0], norm["moving_mean"][0], last["kernel"][0]) == (1, 3, 2)
    # Where the model is not trained, they stand in the layers' order; names may say nothing.
    values = [("a", ones), ("b", 2 * ones), ("c", 3 * ones)]
    model = layer("inner", "Sequential", layers=inner, trainable=False)
    path = write_h5(tmp_path / "model.h5", {"inner": values}, [model])
    norm, last = read(path).read_all(requests)
    assert (norm["gamma"][0], norm["moving_mean"][0], last["kernel"][0]) == (1, 2, 3)


def test_names_of_layers_may_have_slashes_in_old_files(tmp_path: Path) -> None:
    values = [("block/dense/kernel:0", np.ones((2, 3))), ("block/dense/bias:0", np.zeros(3))]
    path = write_h5(tmp_path / "model.h5", {"block/dense": values}, [layer("block/dense")])
    (got,) = read(path).read_all([Request(("block/dense",), [KERNEL, BIAS])])
    assert got["kernel"].shape == (2, 3)
    assert got["kernel"].dtype == np.float32


@pytest.mark.parametrize("number", [3, 20])
def test_names_of_layers_may_be_in_any_script(number: int, tmp_path: Path) -> None:
    # HDF5 then keeps the groups in another form, and when there are many in yet another.
    names = [f"λ_層_{number}" for number in range(number)]
    lists = {name: [(f"{name}/kernel", np.full(2, n, "f4"))] for n, name in enumerate(names)}
    path = write_h5(tmp_path / "model.h5", lists, [layer(name) for name in names])
    values = read(path).read_all([Request((name,), [KERNEL]) for name in names])
    assert [int(value["kernel"][0]) for value in values] == list(range(number))


def test_thousands_of_layers(tmp_path: Path) -> None:
    names = [f"a_layer_with_a_name_that_is_rather_long_{number}" for number in range(1500)]
    with h5py.File(tmp_path / "model.h5", "w") as root:
        model = {"class_name": "Sequential", "config": {"layers": [layer(name) for name in names]}}
        root.attrs["model_config"] = json.dumps(model).encode()
        weights = root.create_group("model_weights")
        # In several attributes, as Keras splits what is too long for one.
        for number, part in enumerate(np.array_split(np.array(names, "S"), 3)):
            weights.attrs[f"layer_names{number}"] = part
        for number, name in enumerate(names):
            group = weights.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0"]
            group[f"{name}/kernel:0"] = np.full(1, number, "f4")
    requests = [Request((name,), [KERNEL]) for name in names]
    values = read(tmp_path / "model.h5").read_all(requests)
    assert [int(value["kernel"][0]) for value in values] == list(range(1500))


def test_optional_variables_may_be_missing_and_others_not(old: Path) -> None:
    for path in (old / "3.6.0" / "stack.keras", old / "3.6.0" / "stack.h5"):
        more = Variable("scale", index=2, optional=True)
        saved = read(path)
        requests = [Request(place, None) for place in places(saved.config)]
        last = requests[-1].place
        got = saved.read_all([*requests[:-1], Request(last, [KERNEL, BIAS, more])])[-1]
        assert list(got) == ["kernel", "bias"]
        more = Variable("scale", index=2)
        with pytest.raises(ModelFileError, match=f"layer '{last[0]}' has no weights .*scale"):
            read(path).read_all([*requests[:-1], Request(last, [KERNEL, BIAS, more])])


def test_weights_that_nobody_asks_for_are_named(old: Path) -> None:
    for ending in ("keras", "h5"):
        saved = read(old / "3.6.0" / f"stack.{ending}")
        requests = [Request(place, None) for place in places(saved.config)]
        last = Request(requests[-1].place, [KERNEL])
        with pytest.raises(ModelFileError, match="weights that no layer asks for"):
            saved.read_all([*requests[:-1], last])


# --- HDF5 in all its forms


def copied(path: Path, made: Path, libver: Any, **options: Any) -> Path:
    """The same content written by HDF5's library in another form."""
    order = options.pop("track_order", False)

    def copy(source: Any, target: Any) -> None:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        for name, child in source.items():
            if isinstance(child, h5py.Group):
                copy(child, target.create_group(name, track_order=order))
            else:
                how = {"chunks": True, **options} if child.shape and options else {}
                target.create_dataset(name, data=child[()], **how)

    with (
        h5py.File(path) as source,
        h5py.File(made, "w", libver=libver, track_order=order) as target,
    ):
        copy(source, target)
    return made


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "v112", "v114", "latest"])
def test_every_version_of_hdf5(libver: str, old: Path, tmp_path: Path) -> None:
    path = old / "2.21.0" / "parts.h5"
    made = copied(path, tmp_path / "model.h5", libver)
    assert_same(everything(read(made)), everything(read(path)))


@pytest.mark.parametrize(
    "options",
    [{"compression": "gzip", "shuffle": True}, {"fletcher32": True}, {"track_order": True}],
    ids=["packed", "checksums", "ordered"],
)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_forms_that_keras_does_not_write(
    libver: str, options: dict[str, Any], old: Path, tmp_path: Path
) -> None:
    path = old / "2.21.0" / "parts.h5"
    made = copied(path, tmp_path / "model.h5", libver, **options)
    assert_same(everything(read(made)), everything(read(path)))
    with pytest.raises(ModelFileError, match="which files of Keras seldom do"):
        everything(read(made, repack_seconds=0))


def test_packed_weights_within_a_keras_file(old: Path, tmp_path: Path) -> None:
    def pack(root: Any) -> None:
        value = root["layers/lstm/cell/vars/0"][()]
        del root["layers/lstm/cell/vars/0"]
        group = root["layers/lstm/cell/vars"]
        group.create_dataset("0", data=value, chunks=True, compression="gzip")

    path = old / "3.6.0" / "stack.keras"
    made = edited(path, tmp_path / "model.keras", weights=pack)
    assert_same(everything(read(made)), everything(read(path)))


def read_values(file: io.BytesIO) -> dict[str, np.ndarray]:
    reader = File(Source(file.getvalue(), "test"))
    root = reader.root
    return {name: reader.values(root.dataset(name)) for name in root.names()}  # type: ignore


def test_every_kind_of_number(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    written: dict[str, np.ndarray] = {}
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        for kind in ("f2", "f4", "f8", ">f4", ">f8", "i1", "i2", "i4", "i8", "u1", ">u4", "u8"):
            for shape in ((), (1,), (3, 5), (0, 4), (2, 1, 3)):
                value = random.integers(-90, 90, shape).astype(kind)
                written[f"{kind}{shape}"] = value
                root[f"{kind}{shape}"] = value
        written["bool"] = root["bool"] = np.array([True, False, True])
        written["nan"] = root["nan"] = np.array([np.nan, np.inf, -np.inf, -0.0], "f4")
    got = read_values(file)
    assert sorted(got) == sorted(written)
    for name, value in written.items():
        expected = value.astype("f4" if value.dtype.kind == "f" else value.dtype)
        assert got[name].shape == expected.shape, name
        assert got[name].dtype == expected.dtype.newbyteorder("="), name
        np.testing.assert_array_equal(got[name], expected, name)


def test_bfloat16_and_float64_come_as_float32() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = np.array([1.5, -3.0e38, 1e-30, np.nan], ml_dtypes.bfloat16)
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root["x"] = value
        root["y"] = np.array([1e300, 1 / 3])
    got = read_values(file)
    np.testing.assert_array_equal(got["x"], value.astype("f4"))
    np.testing.assert_array_equal(got["y"], np.array([np.inf, 1 / 3], "f4"))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_every_kind_of_attribute(libver: str) -> None:
    written: dict[str, Any] = {
        "text": "é" * 300,
        "bytes": np.bytes_(b"fixed"),
        "list": ["a", "", "long " * 50],
        "fixed_list": np.array([b"ab", b"c", b""]),
        "number": np.array([1, 2, 3]),
        "float": 0.5,
    }
    file = io.BytesIO()
    with h5py.File(file, "w", libver=libver) as root:
        for name, value in written.items():
            root.attrs[name] = value
        root.attrs["none"] = h5py.Empty("f4")
        root.attrs["no_names"] = np.array([])
    got = File(Source(file.getvalue(), "test")).root.attributes("")
    assert got["text"] == written["text"]
    assert got["bytes"] == "fixed"
    assert got["list"] == written["list"]
    assert got["fixed_list"] == ["ab", "c", ""]
    np.testing.assert_array_equal(got["number"], written["number"])
    assert got["float"] == 0.5
    assert got["none"] is None
    assert np.size(got["no_names"]) == 0


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_hundreds_of_attributes(libver: str, old: Path, tmp_path: Path) -> None:
    path = copied(old / "2.21.0" / "stack.h5", tmp_path / "model.h5", libver)
    with h5py.File(path, "r+") as root:
        for number in range(200):
            root.attrs[f"more_{number}"] = number
            root["model_weights"].attrs[f"more_{number}"] = f"text {number}"
    assert_same(everything(read(path)), everything(read(old / "2.21.0" / "stack.h5")))
    if libver == "earliest":
        got = File(Source(path.read_bytes(), "test")).root.attributes("more_")
        assert len(got) == 200
        assert got["more_199"] == 199


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_many_and_deep_groups(libver: str) -> None:
    file = io.BytesIO()
    with h5py.File(file, "w", libver=libver) as root:
        for number in range(7 if libver == "latest" else 3000):
            root.create_group(f"group {number}")["x"] = np.float32(number)
        root["/".join(["deep"] * 60)] = 5
    root = File(Source(file.getvalue(), "test")).root
    assert len(root.names()) == (8 if libver == "latest" else 3001)
    for name in root.names()[:-1]:
        group = root.child(name)
        assert isinstance(group, Group)
        assert group.names() == (["deep"] if name == "deep" else ["x"])
    assert root.dataset("/".join(["deep"] * 60)) is not None
    assert root.dataset("deep/x") is None


# --- Wrong paths


def test_wrong_paths_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*missing.keras"):
        read(tmp_path / "missing.keras")
    with pytest.raises(ModelFileError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ModelFileError, match="SavedModel format"):
        read(tmp_path)
    with pytest.raises(ModelFileError, match="is empty"):
        read(tmp_path / "saved_model.pb")
    text = tmp_path / "model.keras"
    text.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelFileError, match="neither a .keras nor a .h5"):
        read(text)
    with pytest.raises(TypeError, match="max_memory; there are max_bytes"):
        read(text, max_memory=1)
    with pytest.raises(ModelFileError, match="no ordinary file"):
        read(os.devnull)


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    with pytest.raises(ModelFileError, match=r"no architecture .* save that with model.save"):
        read(path)
    with h5py.File(path, "w") as root:
        root.attrs["layer_names"] = ["dense"]
    with pytest.raises(ModelFileError, match="no architecture"):
        read(path)
    with h5py.File(path, "w") as root:
        root["x"] = 1
    with pytest.raises(ModelFileError, match="without a Keras model"):
        read(path)


# --- Files of the Keras that is installed


def test_carried_states_and_random_numbers_are_not_weights(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    layers = keras.layers
    x = keras.Input(batch_shape=(2, 4, 3))
    y = layers.Dropout(0.3, seed=1)(layers.GaussianNoise(0.1)(x))
    y = layers.LSTM(3, stateful=True, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)(y)
    y = layers.MultiHeadAttention(2, 2, dropout=0.1)(y, y)
    model = keras.Model(x, layers.GRU(2, stateful=True)(y))
    model.compile("adam", "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    inputs = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("f4")
    expected = np.asarray(model(inputs))
    for ending in ("keras", "h5"):
        model.save(tmp_path / f"model.{ending}")
        got = recurra.load(tmp_path / f"model.{ending}").predict(inputs)
        np.testing.assert_allclose(got, expected, atol=1e-5)
