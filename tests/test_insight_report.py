"""What a report's page is given: true to the trace, of a stated size, saying what is left out."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from recurra.insight.report import report_data, write_report
from recurra.insight.report.encoding import Columns, bytes_blob, floats_blob
from recurra.insight.structure import Node, Structure, Tensor
from recurra.insight.tracing import LayerTrace, Trace
from report_cases import decoded, sample_trace

QUARTER = 2**18


@pytest.fixture(scope="module")
def trace():
    return sample_trace(gradients=True, layers=2)


def changed(trace, **fields):
    return dataclasses.replace(trace, **fields)


def with_arrays(trace, path="lstm", **arrays):
    """The trace with other arrays in one of its layers."""
    layer = trace.layers[path]
    layer = dataclasses.replace(layer, arrays={**layer.arrays, **arrays})
    return changed(trace, layers={**trace.layers, path: layer})


def page_of(path):
    """The data that a page holds, as its program reads it."""
    found = re.findall(
        r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', path.read_text("utf-8"), re.S
    )
    assert len(found) == 1
    return json.loads(found[0])


# ---- Blobs


def test_bytes_are_as_close_as_the_schema_says(trace):
    values = np.random.default_rng(1).uniform(-3, 3, (50, 7)).astype(np.float32)
    found = decoded(bytes_blob(values, None, Columns(50), (-3.0, 3.0)), 7)
    assert np.abs(found - values).max() <= 6 / 508 + 1e-6
    exact = np.array([[-1, 0, 1]], np.float32)
    assert np.array_equal(decoded(bytes_blob(exact, None, Columns(1), (-1.0, 1.0)), 3), exact)


def test_what_is_padded_or_not_finite_has_no_value():
    values = np.array([[1, 2], [np.nan, 3], [np.inf, 4], [5, 6]], np.float32)
    real = np.array([True, True, True, False])
    for blob in (
        bytes_blob(values, real, Columns(4), (0.0, 6.0)),
        floats_blob(values, real, Columns(4)),
    ):
        found = decoded(blob, 2)
        assert np.isnan(found).tolist() == [
            [False, False],
            [True, False],
            [True, False],
            [True] * 2,
        ]


def test_each_channel_can_have_its_own_range():
    values = np.array([[0, 1000], [1, 2000], [0.5, 1500]], np.float32)
    blob = bytes_blob(values, None, Columns(3), np.array([[0, 1], [1000, 2000]]))
    assert "range" not in blob
    np.testing.assert_allclose(decoded(blob, 2), values)


@pytest.mark.parametrize(("steps", "stride"), [(1, 4), (12, 4), (13, 4), (29, 7), (5, 100)])
def test_columns_hold_the_mean_and_the_ends_of_their_real_steps(steps, stride):
    random = np.random.default_rng(steps)
    values = random.normal(size=(steps, 3)).astype(np.float32)
    values[random.random((steps, 3)) < 0.2] = np.nan
    real = random.random(steps) < 0.6
    columns = Columns(steps, stride)
    blob = floats_blob(values, real, columns)
    text = columns.mask_text(real)
    for c in range(columns.count):
        part = values[c * stride : (c + 1) * stride]
        kept = real[c * stride : (c + 1) * stride]
        assert text[c] == ("1" if kept.all() else "2" if kept.any() else "0")
        for channel in range(3):
            seen = part[kept, channel]
            seen = seen[~np.isnan(seen)]
            got = [decoded(blob, 3, name)[c, channel] for name in ("low", "data", "high")]
            if not len(seen):
                assert np.isnan(got).all()
            else:
                np.testing.assert_allclose(got, [seen.min(), seen.mean(), seen.max()], rtol=1e-5)
                assert got[0] <= got[1] <= got[2]


def test_a_mask_that_keeps_everything_is_none():
    assert Columns(3).mask_text(None) is None
    assert Columns(3).mask_text(np.ones(3, bool)) is None
    assert Columns(3).mask_text(np.array([True, False, True])) == "101"


# ---- The whole


@pytest.mark.parametrize("exact", [True, False])
def test_every_array_of_the_trace_is_there_at_its_real_steps(trace, exact, monkeypatch):
    if not exact:
        monkeypatch.setattr("recurra.insight.report.sizes.EXACT_BYTES", 0)
    data = report_data(trace)
    assert data["limits"]["exact"] == exact
    assert [note.startswith("Values of the layers are rounded") for note in data["notes"]] == (
        [] if exact else [True]
    )
    assert [layer["path"] for layer in data["layers"]] == ["lstm", "lstm_1"]
    for entry in data["layers"]:
        layer = trace.layers[entry["path"]]
        assert {array["name"] for array in entry["arrays"]} == {
            name for name, array in layer.arrays.items() if array.ndim == 3
        }
        for array in entry["arrays"]:
            values = layer.arrays[array["name"]]
            for row, blob in enumerate(array["rows"]):
                found = decoded(blob, array["total"])
                real = layer.mask[row]
                assert np.isnan(found[~real]).all()
                low, high = array["range"]
                assert blob["range"] == [low, high]
                off = np.abs(found[real] - values[row][real]).max()
                assert off == 0 if exact else 0 < off <= (high - low) / 508 * (1 + 1e-4)
        assert entry["masks"][0] is None
        assert entry["masks"][1] == "1" * 8 + "0" * 4
        assert entry["masks"][2] == "0" * 4 + "1" * 8


def test_palettes_are_fixed_where_values_are_bounded(trace):
    data = report_data(with_arrays(trace, hidden_state=trace.layers["lstm"].arrays["cell_state"]))
    first, second = (
        {array["name"]: (array["scale"], array["range"]) for array in layer["arrays"]}
        for layer in data["layers"]
    )
    assert second["hidden_state"] == second["candidate"] == ("diverging", [-1, 1])
    assert second["forget_gate"] == second["input_gate"] == ("unit", [0, 1])
    # An activation without bounds has a range of its own, with 0 in the middle.
    assert first["hidden_state"][0] == first["cell_state"][0] == "symmetric"
    low, high = first["cell_state"][1]
    largest = np.abs(trace.layers["lstm"].arrays["cell_state"][trace.masks["series"]]).max()
    assert -low == high >= largest > 0.8 * high


def test_features_of_different_sizes_have_ranges_of_their_own():
    trace = sample_trace()
    x = trace.layers["lstm"].arrays["input"] * [1, 1, 1000] + [0, 0, 1e4]
    data = report_data(with_arrays(trace, input=x.astype(np.float32)))
    array = next(a for a in data["layers"][0]["arrays"] if a["name"] == "input")
    assert (array["scale"], array["range"]) == ("range", None)
    found = decoded(array["rows"][0], 3)
    np.testing.assert_allclose(found, x[0], atol=0.02 * 6000)
    assert np.abs(found[:, 0] - x[0, :, 0]).max() < 0.02


def test_norms_are_those_of_all_units_and_gradients_logarithms(trace):
    layer = trace.layers["lstm"]
    curves = {curve["name"]: curve for curve in report_data(trace)["layers"][0]["curves"]}
    assert list(curves) == ["hidden_state_norm", "cell_state_norm", "dhidden_state_norm"]
    for name, curve in curves.items():
        assert (curve["group"], curve["log"]) == (
            ("gradient", True) if name.startswith("d") else ("norm", False)
        )
        norms = np.linalg.norm(layer.arrays[name.removesuffix("_norm")][0], axis=-1)
        expected = np.log10(norms) if curve["log"] else norms
        np.testing.assert_allclose(decoded(curve["rows"][0], 1)[:, 0], expected, rtol=1e-5)


def test_the_words_come_from_the_cells_definition(trace):
    layer = report_data(trace)["layers"][0]
    spec = trace.layers["lstm"].spec
    gate = next(array for array in layer["arrays"] if array["name"] == "forget_gate")
    assert (gate["symbol"], gate["meaning"]) == ("f", spec.meaning("forget_gate"))
    assert gate["role"] == "gate"
    assert layer["equations"] == list(spec.equations())
    assert layer["source"] == spec.source


def test_tables_are_about_all_units_and_rows(trace):
    data = report_data(trace, rows=[0], max_bytes=2**20)
    table = data["layers"][0]["summary"]
    full = trace.summary()["lstm"].to_dict()
    assert {column["key"] for column in table["columns"]} == set(table["units"])
    assert table["units"]["dead"] == [True, False, False, False, False]
    assert table["units"]["memory"] == full["memory"]["steps"]
    assert table["units"]["forget_gate_high"] == full["gates"]["forget_gate"]["high"]
    assert table["sentences"] == [finding["text"] for finding in full["findings"]]


def test_a_cell_of_the_users_has_its_states_and_no_equations():
    trace = sample_trace(cell="gru")
    arrays = {name: trace.layers["lstm"].arrays[name] for name in ("input", "hidden_state")}
    arrays["state_0"] = arrays["hidden_state"] * 7
    layer = LayerTrace("own", None, arrays, info={"class_name": "RNN"})
    entry = report_data(changed(trace, layers={"own": layer}))["layers"][0]
    assert [array["name"] for array in entry["arrays"]] == ["hidden_state", "state_0", "input"]
    assert entry["cell"] is None
    assert entry["equations"] == []
    assert entry["arrays"][1]["scale"] == "symmetric"


def test_convolutional_cells_have_the_words_of_the_cell_that_they_are_like(trace):
    arrays = {name: array[..., None, :] for name, array in trace.layers["lstm"].arrays.items()}
    layer = LayerTrace("conv", None, arrays, info={"class_name": "ConvLSTM1D"})
    entry = report_data(changed(trace, layers={"conv": layer}))["layers"][0]
    roles = {array["name"]: (array["role"], array["scale"]) for array in entry["arrays"]}
    assert list(roles)[:2] == ["hidden_state", "cell_state"]
    assert roles["forget_gate"] == ("gate", "unit")
    assert roles["candidate"] == ("candidate", "diverging")


def test_images_are_units_with_places():
    trace = sample_trace(padded=False)
    hidden = np.zeros((4, 12, 2, 3, 2), np.float32)
    hidden[0, 5, 1, 2, 0] = 0.5
    layer = LayerTrace("conv", None, {"input": hidden, "hidden_state": hidden})
    entry = report_data(changed(trace, layers={"conv": layer}))["layers"][0]
    assert entry["units"] == 12
    assert entry["unit_names"][10] == "(1, 2, 0)"
    found = decoded(entry["arrays"][0]["rows"][0], 12)
    assert np.argwhere(found).tolist() == [[5, 10]]


def test_values_that_are_not_finite_are_said(trace):
    hidden = trace.layers["lstm"].arrays["hidden_state"].copy()
    hidden[0, 3, 2] = np.nan
    data = report_data(with_arrays(trace, hidden_state=hidden))
    assert any("'lstm' has values that are not finite" in note for note in data["notes"])
    json.dumps(data, allow_nan=False)


# ---- Time axes


def test_encoder_and_decoder_have_axes_of_their_own():
    encoder = sample_trace(time_steps=9, names="encoder", padded=False)
    decoder = sample_trace(time_steps=4, names="decoder", padded=False)
    trace = seq2seq(encoder, decoder)
    data = report_data(
        trace,
        tokens={"source": [list("wednesday")] * 4, "decoder": ["abc"] * 4},
    )
    assert [(axis["name"], axis["time_steps"]) for axis in data["axes"]] == [
        ("source", 9),
        ("target", 4),
    ]
    assert [layer["axis"] for layer in data["layers"]] == [0, 1]
    assert {each["name"]: each["axis"] for each in data["series"]} == {
        "source": 0,
        "target": 1,
        "words": 1,
    }
    assert data["rows"][0]["tokens"] == [
        {"axis": 0, "items": list("wednesday")},
        {"axis": 1, "items": ["a", "b", "c"]},
    ]


def test_axes_of_as_many_steps_are_told_apart():
    encoder = sample_trace(time_steps=6, names="encoder", padded=False)
    decoder = sample_trace(time_steps=6, names="decoder", padded=False)
    data = report_data(seq2seq(encoder, decoder))
    assert [layer["axis"] for layer in data["layers"]] == [0, 1]
    assert data["series"][-1]["axis"] == 1


@pytest.mark.parametrize(("join", "linked"), [("Concatenate", True), ("Dot", False)])
def test_inputs_that_are_joined_step_by_step_share_an_axis(join, linked):
    trace = sample_trace(padded=False)
    joined = Node(join, join, (0, 1), (2,))
    lstm = dataclasses.replace(trace.structure.nodes[0], inputs=(2,), outputs=(3,))
    tensors = tuple(Tensor(number, name, None) for number, name in enumerate(["a", "b", "j", "h"]))
    structure = Structure("two", "Functional", tensors, (joined, lstm), (0, 1), (3,))
    x = trace.inputs["series"]
    data = report_data(changed(trace, structure=structure, inputs={"a": x, "b": x}, masks={}))
    assert [each["axis"] for each in data["series"]] == ([0, 0, 0] if linked else [0, 1, 0])
    assert len(data["axes"]) == (1 if linked else 2)


def seq2seq(encoder, decoder):
    """A trace of an encoder and a decoder that is given its states."""
    read = dataclasses.replace(encoder.structure.nodes[0], inputs=(0,), outputs=(2, 3, 4))
    write = dataclasses.replace(
        decoder.structure.nodes[0], inputs=(1,), outputs=(5,), states=(3, 4)
    )
    dense = Node("words", "Dense", (5,), (6,))
    names = ["source", "target", "encoder", "h", "c", "decoder", "words"]
    tensors = tuple(Tensor(number, name, None) for number, name in enumerate(names))
    return Trace(
        {**encoder.layers, **decoder.layers},
        Structure("translator", "Functional", tensors, (read, write, dense), (0, 1), (6,)),
        {"source": encoder.inputs["series"], "target": decoder.inputs["series"]},
        {"words": decoder.outputs["forecast"]},
    )


def test_time_distributed_layers_have_rows_of_their_own():
    inner = sample_trace(batch=12, time_steps=5, names="td/layer")
    x = np.zeros((4, 3, 5, 3), np.float32)
    data = report_data(changed(inner, inputs={"series": x}, outputs={}, masks={}))
    layer = data["layers"][0]
    assert layer["outer"] == 3
    assert [axis["time_steps"] for axis in data["axes"]] == [3, 5]
    assert layer["axis"] == 1
    assert len(layer["arrays"][0]["rows"]) == len(layer["masks"]) == 12
    found = decoded(layer["arrays"][0]["rows"][2 * 3 + 1], 5)
    hidden, real = inner.layers["td/layer"].arrays["hidden_state"][7], inner.masks["series"][7]
    np.testing.assert_allclose(found[real], hidden[real], atol=0.005)


def test_layers_whose_rows_are_others_are_left_out_and_said(trace):
    odd = sample_trace(batch=7, names="odd").layers["odd"]
    data = report_data(changed(trace, layers={**trace.layers, "odd": odd}))
    assert [layer["path"] for layer in data["layers"]] == ["lstm", "lstm_1"]
    assert any(note.startswith("Layer 'odd' is not here") for note in data["notes"])
    with pytest.raises(ValueError, match="no layer of the trace has time steps"):
        report_data(changed(trace, layers={"odd": odd}))


# ---- Inputs, outputs, targets


def series(data, role):
    return next(each for each in data["series"] if each["role"] == role)


def test_inputs_and_predictions_stand_along_one_axis(trace):
    data = report_data(trace, features=["a", "b", "c"])
    given, said = series(data, "input"), series(data, "output")
    assert given["names"] == ["a", "b", "c"]
    assert given["axis"] == said["axis"] == 0
    found = decoded(given["rows"][1], 3)
    assert np.array_equal(found[:8], trace.inputs["series"][1, :8])
    assert np.isnan(found[8:]).all()


def test_a_forecast_begins_where_the_input_ends():
    trace = sample_trace(padded=False)
    ahead = np.arange(20, dtype=np.float32).reshape(4, 5)
    trace = changed(trace, outputs={"forecast": ahead})
    assert series(report_data(trace), "output")["axis"] is None
    data = report_data(trace, forecast=True, targets=ahead + 1)
    for role, expected in (("output", ahead), ("target", ahead + 1)):
        each = series(data, role)
        assert (each["axis"], each["start"], each["columns"]) == (0, 12, 5)
        assert np.array_equal(decoded(each["rows"][2], 1)[:, 0], expected[2])
    assert series(data, "target")["of"] == "forecast"
    assert series(data, "output")["continues"] is None
    for named in ("b", 1):
        data = report_data(trace, forecast=named, features=["a", "b", "c"], targets=ahead)
        assert series(data, "output")["continues"] == ["series", 1]
        assert series(data, "target")["continues"] == ["series", 1]


def test_classes_are_told_with_their_names():
    trace = sample_trace(classes=3)
    said = trace.outputs["forecast"]
    data = report_data(trace, classes=["red", "green", "blue"], targets=[0, 1, 2, 0])
    output = series(data, "output")
    assert (output["axis"], output["kind"], output["names"]) == (
        None,
        "probabilities",
        ["red", "green", "blue"],
    )
    best = int(said[1].argmax())
    name = ["red", "green", "blue"][best]
    assert data["rows"][1]["facts"] == [
        ["predicted", f"{name} ({said[1, best]:.2f})"],
        ["true", "green"],
    ]
    assert decoded(series(data, "target")["rows"][2], 3).tolist() == [[0, 0, 1]]


def test_wide_inputs_are_cut_and_it_is_said():
    trace = sample_trace(features=100)
    data = report_data(trace)
    each = series(data, "input")
    assert (each["total"], len(each["channel_index"])) == (100, 64)
    assert any("64 of 100 values" in note for note in data["notes"])


# ---- Labels and tokens


def test_labels_are_of_rows_or_of_steps(trace):
    data = report_data(trace, labels=np.array([3, 1, 2, 1]))
    assert [row["label"] for row in data["rows"]] == ["3", "1", "2", "1"]
    data = report_data(trace, labels=np.array([[3.0], [1], [2], [0.5]]))
    assert [row["label"] for row in data["rows"]] == ["3", "1", "2", "0.5"]
    data = report_data(trace, labels=np.arange(48).reshape(4, 12, 1))
    assert data["rows"][1]["tags"][0]["items"] == [str(n) for n in range(12, 24)]
    tags = [["a"] * 12, ["b"] * 8, ["c"] * 8, ["d"]]
    data = report_data(trace, labels=tags)
    assert data["rows"][0]["label"] is None
    assert data["rows"][1]["tags"] == [{"axis": 0, "items": ["b"] * 8}]


def test_tokens_that_lack_the_padding_stand_at_the_real_steps(trace):
    words = list("abcdefgh")
    data = report_data(trace, tokens=[list("abcdefghijkl"), words, words, "xyz"])
    items = [row["tokens"][0]["items"] for row in data["rows"]]
    assert items[1] == words
    assert items[2] == [""] * 4 + words
    assert items[3] == ["x", "y", "z"]


def test_a_vocabulary_gives_the_tokens_of_indices():
    trace = sample_trace()
    words = np.array([[1, 2, 0] * 4] * 4, np.int32)
    trace = changed(trace, inputs={"series": words})
    data = report_data(trace, tokens={0: "", 1: "the", 2: "cat"})
    assert data["rows"][0]["tokens"][0]["items"] == ["the", "cat", ""] * 4
    assert series(data, "input")["kind"] == "indices"


def test_what_would_end_a_script_stays_text(trace, tmp_path):
    evil = "</script><script>alert(1)</script><!-- & \u2028 \udc80"
    path = write_report(
        trace, tmp_path / "r.html", labels=[evil] * 4, tokens=[[evil] * 12] * 4, title=evil
    )
    data = page_of(path)
    assert data["rows"][0]["label"] == evil.replace("\udc80", "?")
    assert data["title"] == evil.replace("\udc80", "?")
    assert "<script>alert" not in path.read_text("utf-8")


# ---- Sizes


@pytest.fixture(scope="module")
def long():
    return sample_trace(batch=3, time_steps=5000, units=64)


@pytest.mark.parametrize("max_bytes", [3 * QUARTER, 2**20, 2**21, 2**23])
def test_pages_stay_below_the_limit_and_say_what_they_left_out(long, tmp_path, max_bytes):
    trace = long
    path = write_report(trace, tmp_path / "r.html", max_bytes=max_bytes)
    size = path.stat().st_size
    assert max_bytes / 4 < size <= max_bytes
    data = page_of(path)
    shown, total = data["limits"]["rows"]
    notes = " ".join(data["notes"])
    assert ("of 3 row" in notes) == (shown < total)
    stride = data["axes"][0]["stride"]
    assert ("each column stands for" in notes) == (stride > 1)
    assert stride == 1 or f"stands for {stride} of the 5,000 steps" in notes
    units = data["limits"]["units"]
    assert ("units of 'lstm' are here" in notes) == (units is not None)
    layer = data["layers"][0]
    kept = layer["unit_index"] or list(range(64))
    assert len(kept) == (units or 64)
    hidden, mask = trace.layers["lstm"].arrays["hidden_state"], trace.masks["series"]
    blob = layer["arrays"][0]["rows"][0]
    found = decoded(blob, len(kept))
    assert found.shape == (data["axes"][0]["columns"], len(kept))
    if stride > 1:
        first = hidden[0, :stride, kept].T[mask[0, :stride]]
        np.testing.assert_allclose(found[0], first.mean(axis=0), atol=0.005)
        np.testing.assert_allclose(
            decoded(blob, len(kept), "high")[0], first.max(axis=0), atol=0.005
        )
    if units is not None:
        # The dead unit says nothing, so it goes first.
        assert 0 not in kept
        assert len(layer["summary"]["units"]["dead"]) == 64


def test_a_short_trace_is_whole_by_default():
    data = report_data(sample_trace(batch=40, time_steps=30))
    assert data["limits"]["rows"] == [32, 40]
    assert data["notes"] == [
        "32 of 40 rows are here, the first. Tables and findings are about all of them. "
        "report(rows=[...]) chooses others."
    ]
    assert data["axes"][0]["stride"] == 1


def test_rows_can_be_chosen(trace):
    data = report_data(trace, rows=[2, -1], labels=list("abcd"))
    assert [row["label"] for row in data["rows"]] == ["c", "d"]
    assert [row["index"] for row in data["rows"]] == [2, 3]


def test_a_limit_that_nothing_fits_into_is_refused():
    with pytest.raises(ValueError, match=r"max_bytes=1,000 is too small .* it has \d+,\d+ bytes"):
        report_data(sample_trace(time_steps=400, units=64), max_bytes=1000)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ({"max_bytes": "1"}, TypeError, "max_bytes is '1'; expected a number of bytes"),
        ({"max_bytes": True}, TypeError, "max_bytes is True; expected a number of bytes"),
        ({"max_bytes": float("nan")}, ValueError, "max_bytes is nan; expected .* above 0"),
        ({"max_bytes": -1}, ValueError, "max_bytes is -1; expected .* above 0"),
        ({"rows": [1.5]}, TypeError, "rows has 1.5; expected whole numbers"),
        ({"rows": [True]}, TypeError, "rows has True; expected whole numbers"),
        ({"title": 5}, TypeError, "title is 5; expected a text"),
    ],
)
def test_arguments_of_other_kinds_are_named(trace, tmp_path, wrong, kind, words):
    with pytest.raises(kind, match=words):
        trace.report(tmp_path / "r.html", **wrong)
    assert not list(tmp_path.iterdir())


# ---- Files


def test_a_report_takes_the_place_of_an_older_one(trace, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")
    assert trace.report(str(path), title="New & better") == path
    assert "<title>New &amp; better</title>" in path.read_text("utf-8")
    with pytest.raises(ValueError, match="labels has 1 item"):
        write_report(trace, path, labels=["a"])
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_report(trace, path, title="Newest")
    assert "New &amp; better" in path.read_text("utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("r.pdf", ValueError, "has to end in .html; call it '.*r.html'"),
        ("none/r.html", FileNotFoundError, "there is no folder '.*none'; make it"),
        (".", IsADirectoryError, "is a folder; name a file in it"),
    ],
)
def test_paths_that_cannot_be(trace, tmp_path, path, error, words):
    with pytest.raises(error, match=words):
        write_report(trace, tmp_path / path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"labels": ["a"] * 5}, ValueError, "labels has 5 items, but 4 rows were traced"),
        ({"labels": "cats"}, TypeError, "labels is str .* a list with one row"),
        ({"labels": 3}, TypeError, "labels is int"),
        ({"labels": [["a"] * 13] * 4}, ValueError, r"labels\[0\] has 13 texts.*'series' has 12"),
        ({"labels": np.eye(4)}, ValueError, r"shape \(4, 4\); .*\(4,\), .* \(4, 12\)\. .*argmax"),
        ({"tokens": [["a"] * 12]}, ValueError, "tokens has 1 item, but 4 rows"),
        ({"tokens": [["a"] * 13] * 4}, ValueError, r"tokens\[0\] has 13 texts, .*'series' has 12"),
        ({"tokens": [1, 2, 3, 4]}, TypeError, r"tokens\[0\] is 1; expected the texts of row 0"),
        ({"tokens": {"gru": ["a"] * 4}}, ValueError, "has the key 'gru', .* one of 'series', 'lst"),
        ({"tokens": {0: "a"}}, ValueError, r"the model takes no indices .*'series' \(4, 12, 3\)"),
        ({"features": ["a", "b"]}, ValueError, "features has 2 names, but 'series' has 3 values"),
        ({"features": "abc"}, TypeError, "expected a list of 3 names"),
        ({"classes": {"x": ["a"]}}, ValueError, "no such output; it has 'forecast'"),
        ({"targets": np.zeros((4, 11, 1))}, ValueError, r"has shape \(4, 11, 1\); .*\(4, 12, 1\)"),
        ({"targets": [["a"] * 12] * 4}, TypeError, "expected numbers. Names .* labels="),
        ({"forecast": "b"}, ValueError, "forecast='b': .* no such feature; give features="),
        ({"forecast": "d", "features": [*"abc"]}, ValueError, "there are 'a', 'b', 'c'"),
        ({"forecast": 3}, ValueError, "forecast=3: the model's inputs have no such feature"),
        ({"forecast": 1.5}, TypeError, "expected True, or a feature's name"),
        ({"rows": 0}, ValueError, "expected at least 1"),
        ({"rows": [4]}, ValueError, "rows has 4, but the trace has 4 rows; .* from 0 to 3"),
        ({"rows": []}, ValueError, "rows is empty"),
        ({"rows": "1"}, TypeError, "expected how many"),
    ],
)
def test_what_does_not_fit_the_trace_is_refused_with_what_would(trace, options, error, words):
    with pytest.raises(error, match=words):
        report_data(trace, **options)


def test_one_row_hints_at_the_list_around_it():
    with pytest.raises(ValueError, match=r"tokens=\[\.\.\.\] around it"):
        report_data(sample_trace(batch=1), tokens=["a", "b"])


def test_empty_traces_are_refused(trace):
    with pytest.raises(ValueError, match="no recurrent layer"):
        report_data(changed(trace, layers={}))
    none = {"series": np.zeros((0, 12, 3), np.float32)}
    with pytest.raises(ValueError, match="no rows"):
        report_data(changed(trace, inputs=none))
