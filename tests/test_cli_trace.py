"""`recurra trace`: which rows of a table are looked at, and what is written about them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import chromium
import recurra
from command_line import call, csv_text, make_models, numbers
from recurra.insight.tracing import Trace
from report_cases import decoded

browser = chromium.browser

FRAMEWORKS = {"jax", "jaxlib", "keras", "matplotlib", "tensorflow", "torch", "xarray"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory)


@pytest.fixture
def table(tmp_path):
    """11 rows under the names a, b, c, in data.csv."""
    values = numbers(11)
    (tmp_path / "data.csv").write_text(csv_text(values, "a,b,c"))
    return values


def page_of(models, tmp_path, name, *options, data="data.csv", **settings):
    """What the page holds that `recurra trace` writes, and what it has said."""
    target = tmp_path / "page.html"
    source = data if data == "-" else tmp_path / data
    result = call("trace", models / f"{name}.keras", source, "--html", target, *options, **settings)
    assert result.stdout == ""
    found = re.search(r'type="application/json"[^>]*>(.*?)</script>', target.read_text("utf-8"))
    return json.loads(found.group(1)), result.stderr


def hidden(page, row=0, layer=0):
    """(columns, units) of a layer's hidden state."""
    array = page["layers"][layer]["arrays"][0]
    assert array["name"] == "hidden_state"
    return decoded(array["rows"][row], array["total"])


def traced(models, name, x, mask=None):
    """The first layer's hidden state, (batch, time_steps, units)."""
    trace = recurra.trace(recurra.load(models / f"{name}.keras"), x, mask)
    return next(iter(trace.layers.values())).arrays["hidden_state"]


def test_a_table_is_one_sequence(models, tmp_path, table):
    page, said = page_of(models, tmp_path, "steps")
    assert said == ""
    assert page["batch"] == 1
    np.testing.assert_allclose(hidden(page), traced(models, "steps", table[None])[0], atol=0.005)
    given = page["series"][0]
    assert given["names"] == ["a", "b", "c"]
    assert np.array_equal(decoded(given["rows"][0], 3), table)
    assert page["rows"][0]["label"] == str(tmp_path / "data.csv")
    assert page["model"]["kind"] == "Runtime"


@pytest.mark.parametrize(
    ("name", "options", "starts", "more"),
    [
        ("fixed", (), [0, 4], False),
        ("last", ("--window", "4"), [0, 4], False),
        ("last", ("--window", "4", "--stride", "1", "--rows", "3"), [0, 1, 2], True),
        ("steps", ("--window", "4", "--stride", "6"), [0, 6], False),
        ("last", ("--window", "11"), [0], False),
    ],
)
def test_windows_are_the_first_ones(models, tmp_path, table, name, options, starts, more):
    page, said = page_of(models, tmp_path, name, *options)
    size = 11 if "11" in options else 4
    parts = np.stack([table[start : start + size] for start in starts])
    expected = traced(models, name, parts)
    assert page["batch"] == len(starts)
    for row, start in enumerate(starts):
        assert page["rows"][row]["label"] == f"rows {start + 1} to {start + size}"
        np.testing.assert_allclose(hidden(page, row), expected[row], atol=0.005)
    assert ("The first 3 sequences of" in said) == more
    assert any("The first 3 sequences of" in note for note in page["notes"]) == more


def test_windows_do_not_depend_on_how_rows_are_read(models, tmp_path):
    values = numbers(4500)
    np.save(tmp_path / "data.npy", values)
    options = ("--window=300", "--rows=99", "--stride=299")
    page, _ = page_of(models, tmp_path, "last", *options, data="data.npy")
    assert page["batch"] == 15
    expected = traced(models, "last", values[None, 14 * 299 : 14 * 299 + 300])
    np.testing.assert_allclose(hidden(page, 14), expected[0], atol=0.005)


def test_groups_of_other_lengths_are_padded_and_the_same_as_alone(models, tmp_path, table):
    groups = np.array(["n", "s"] * 5 + ["n"])
    rows = [f"{g},{','.join(map(str, row))}" for g, row in zip(groups, table, strict=True)]
    (tmp_path / "shops.csv").write_text("\n".join(["shop,a,b,c", *rows]))
    page, _ = page_of(models, tmp_path, "both_sides", "--by", "shop", data="shops.csv")
    assert [row["label"] for row in page["rows"]] == ["n", "s"]
    assert page["layers"][0]["masks"] == [None, "111110"]
    for row, group in enumerate("ns"):
        expected = traced(models, "both_sides", table[groups == group][None])[0]
        np.testing.assert_allclose(hidden(page, row)[: len(expected)], expected, atol=0.005)
    page, _ = page_of(models, tmp_path, "last", "--by=shop", "--window=5", data="shops.csv")
    assert [row["label"] for row in page["rows"]] == ["n, rows 1 to 5", "s, rows 1 to 5"]


def test_a_mask_column_tells_which_rows_count(models, tmp_path, table):
    mask = np.array([1, 1, 0] * 3 + [1, 0], bool)
    (tmp_path / "data.csv").write_text(csv_text(np.column_stack([table, mask]), "a,b,c,ok"))
    page, _ = page_of(models, tmp_path, "last", "--mask", "ok")
    assert page["layers"][0]["masks"] == ["11011011010"]
    expected = traced(models, "last", table[None], mask[None])[0]
    np.testing.assert_allclose(hidden(page)[mask], expected[mask], atol=0.005)


def test_padding_is_what_the_models_masking_layer_looks_for(models, tmp_path):
    lines = [{"x": numbers(n).tolist()} for n in (5, 3)]
    text = "\n".join(json.dumps(line["x"]) for line in lines)
    (tmp_path / "data.jsonl").write_text(text)
    page, _ = page_of(models, tmp_path, "masked", data="data.jsonl")
    assert page["layers"][0]["masks"] == [None, "11100"]
    expected = traced(models, "masked", numbers(3)[None])[0]
    np.testing.assert_allclose(hidden(page, 1)[:3], expected, atol=0.005)


def test_padding_that_would_change_the_results_is_refused(models, tmp_path):
    lines = [json.dumps(numbers(n).tolist()) for n in (5, 3)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    path = tmp_path / "data.jsonl"
    result = call("trace", models / "smoothed.keras", path, "--html", tmp_path / "p.html", code=1)
    assert "sequence 2 is shorter than others, and padding would change" in result.stderr
    assert not (tmp_path / "p.html").exists()
    call("trace", models / "smoothed.keras", path, "--rows", "1")


def test_labels_and_tokens_come_from_columns(models, tmp_path):
    lines = ["word,index,tag,doc", "the,1,D,x", "cat,2,N,x", "sat,3,V,y", "down,4,P,y"]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    options = ("--columns", "index", "--tokens", "word", "--by", "doc")
    page, _ = page_of(models, tmp_path, "tokens", *options, "--labels", "tag")
    assert [row["tokens"][0]["items"] for row in page["rows"]] == [["the", "cat"], ["sat", "down"]]
    assert [row["tags"][0]["items"] for row in page["rows"]] == [["D", "N"], ["V", "P"]]
    assert [row["label"] for row in page["rows"]] == ["x", "y"]
    page, _ = page_of(models, tmp_path, "tokens", *options, "--labels", "doc")
    assert [row["label"] for row in page["rows"]] == ["x", "y"]
    # In JSON lines a label stands for the whole line, and tokens may be a text.
    line = {"index": [1, 2, 3], "text": "abc", "kind": "short"}
    (tmp_path / "data.jsonl").write_text(json.dumps(line))
    options = ("--columns=index", "--tokens=text", "--labels=kind")
    page, _ = page_of(models, tmp_path, "tokens", *options, data="data.jsonl")
    assert page["rows"][0]["label"] == "short"
    assert page["rows"][0]["tokens"] == [{"axis": 0, "items": ["a", "b", "c"]}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abcd", "at most one text for each of its 3 time steps, got 4"),
        (5, "each time step, got 5"),
    ],
)
def test_tokens_that_do_not_fit_are_told_by_their_sequence(models, tmp_path, text, words):
    lines = [{"index": [1, 2, 3], "text": each} for each in ("abc", text)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ("--columns=index", "--tokens=text", "--html", tmp_path / "r.html")
    result = call("trace", models / "tokens.keras", tmp_path / "data.jsonl", *options, code=1)
    assert result.stderr.startswith("Error: sequence 2: --tokens expects")
    assert words in result.stderr


def test_several_inputs_take_their_columns_in_order(models, tmp_path, table):
    options = ("--window", "4", "--columns", "b,a,c")
    page, _ = page_of(models, tmp_path, "two_inputs", *options)
    given = {each["name"]: each for each in page["series"] if each["role"] == "input"}
    assert given["past"]["names"] == ["b", "a"]
    assert (given["place"]["axis"], given["place"]["names"]) == (None, ["c"])
    assert np.array_equal(decoded(given["place"]["rows"][1], 1), table[7:8, 2:])


def test_a_forecast_is_drawn_after_the_last_step(models, tmp_path, table):
    page, _ = page_of(models, tmp_path, "horizon", "--forecast", "--title", "Ahead")
    output = next(each for each in page["series"] if each["role"] == "output")
    assert (output["axis"], output["start"], output["columns"]) == (0, 4, 2)
    assert page["title"] == "Ahead"
    page, _ = page_of(models, tmp_path, "horizon", "--forecast-of", "b")
    output = next(each for each in page["series"] if each["role"] == "output")
    assert output["continues"] == [page["series"][0]["name"], 1]
    np.save(tmp_path / "data.npy", table[None, :4])
    page, _ = page_of(models, tmp_path, "horizon", "--forecast-of", "3", data="data.npy")
    output = next(each for each in page["series"] if each["role"] == "output")
    assert output["continues"] == [page["series"][0]["name"], 2]


def test_the_summary_is_printed_unless_something_else_is_asked_for(models, tmp_path, table):
    text = call("trace", models / "last.keras", tmp_path / "data.csv").stdout
    assert "gru" in text
    assert "memory" in text
    path = tmp_path / "t.npz"
    result = call("trace", models / "last.keras", tmp_path / "data.csv", "--save", path)
    assert result.stdout == ""
    arrays = Trace.load(path).layers["gru"].arrays
    assert np.array_equal(arrays["hidden_state"], traced(models, "last", table[None]))
    page = Trace.load(path).report(tmp_path / "again.html")
    assert "gru" in page.read_text("utf-8")
    options = ("--save", path, "--summary")
    assert call("trace", models / "last.keras", tmp_path / "data.csv", *options).stdout == text
    found = json.loads(call("trace", models / "last.keras", tmp_path / "data.csv", "--json").stdout)
    assert found["layers"]["gru"]["time_steps"] == 11


def test_some_of_the_layers(models, tmp_path, table):
    page, _ = page_of(models, tmp_path, "both_sides", "--layers", "backward_layer")
    (layer,) = page["layers"]
    assert layer["path"].endswith("backward_layer")
    assert layer["go_backwards"]


def test_stdin_is_read(models, tmp_path, table):
    text = (tmp_path / "data.csv").read_text()
    page, _ = page_of(models, tmp_path, "steps", data="-", stdin=text)
    assert page["axes"][0]["time_steps"] == 11


def test_what_does_not_fit_is_told_on_stderr_too(models, tmp_path):
    np.save(tmp_path / "data.npy", numbers(60_000))
    page, said = page_of(models, tmp_path, "steps", "--max-size", "1", data="data.npy")
    assert (tmp_path / "page.html").stat().st_size <= 2**20
    assert said.splitlines() == [f"recurra trace: {note}" for note in page["notes"]]
    assert "each column stands for" in said


@pytest.mark.parametrize(
    ("name", "options", "code", "words"),
    [
        ("last", ("--html", "r.pdf"), 2, "--html r.pdf: .* end in .html; call it 'r.html'"),
        ("last", ("--html", "none/r.html"), 1, "none/r.html: there is no folder 'none'"),
        ("last", ("--save", "r.zip"), 2, "--save r.zip: expected a name that ends in .npz"),
        ("last", ("--save", "none/r.npz"), 1, "none/r.npz: there is no folder 'none'; make it"),
        ("last", ("--title", "x"), 2, "--title is about the page: give --html FILE too"),
        ("last", ("--forecast",), 2, "--forecast is about the page"),
        (
            "last",
            ("--html", "r.html", "--forecast-of", "d"),
            2,
            "no such column at each time step; it is given a",
        ),
        ("last", ("--layers", "grus"), 1, "--layers: .* no layer 'grus'; it has 'gru'"),
        ("last", ("--html", "r.html", "--labels", "d"), 1, "no column 'd'; there are a, b, c"),
        ("last", ("--labels", "a"), 2, "--labels is about the page: give --html FILE too"),
        ("last", ("--tokens", "a", "--summary"), 2, "--tokens is about the page"),
        ("last", ("--max-size", "24"), 2, "--max-size is about the page"),
        ("last", ("--window", "12"), 1, "too few rows of numbers for a window of 12"),
        ("last", ("--stride", "2"), 2, "give --window too"),
        ("fixed", ("--window", "5"), 2, "the model takes 4 time steps; leave --window out"),
        ("rows", (), 2, "no time steps .* no recurrent layer to trace"),
        ("tokens", ("--columns", "a"), 1, "data.csv:2: column 'a': got .* expected an integer"),
    ],
)
def test_what_cannot_be_is_one_line(models, tmp_path, table, name, options, code, words):
    path = tmp_path / "data.csv"
    result = call("trace", models / f"{name}.keras", path, *options, code=code)
    assert result.stdout == ""
    assert re.search(words, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1


def test_columns_that_are_no_numbers_are_to_be_set_aside(models, tmp_path, table):
    lines = (tmp_path / "data.csv").read_text().splitlines()
    text = "\n".join([f"time,{lines[0]}", *(f"9h,{line}" for line in lines[1:])])
    (tmp_path / "data.csv").write_text(text)
    result = call("trace", models / "last.keras", tmp_path / "data.csv", code=1)
    assert result.stderr.endswith("in the model's order: --columns a,b,c\n")


def test_columns_without_names_are_chosen_by_as_many_positions_as_the_model_takes(models, tmp_path):
    for name, values in (("rows.npy", numbers(9, 4)), ("sequences.npy", numbers(9, 4)[None])):
        np.save(tmp_path / name, values)
        result = call("trace", models / "last.keras", tmp_path / name, code=1)
        assert result.stderr.endswith("as by --columns 1,2,3\n")
        call("trace", models / "last.keras", tmp_path / name, "--columns", "1,2,3")


def test_a_page_that_cannot_be_so_small_names_the_size_that_can(models, tmp_path):
    np.save(tmp_path / "data.npy", numbers(30_000))
    options = ["trace", models / "both_sides.keras", tmp_path / "data.npy"]
    options += ["--html", tmp_path / "r.html", "--max-size"]
    result = call(*options, "0.1", code=1)
    found = re.search(r"Say --max-size ([\d.]+), .*: --layers (\S+)\n$", result.stderr)
    assert found, result.stderr
    assert "max_bytes" not in result.stderr
    call(*options, found[1])
    assert (tmp_path / "r.html").stat().st_size <= float(found[1]) * 2**20
    call(*options, found[1], "--layers", found[2])


@pytest.mark.parametrize("position", ["0", "4", "9", "b"])
def test_a_forecast_of_a_feature_that_is_not_there(models, tmp_path, position):
    np.save(tmp_path / "data.npy", numbers(4)[None])
    options = ("--html", tmp_path / "r.html", "--forecast-of", position)
    result = call("trace", models / "horizon.keras", tmp_path / "data.npy", *options, code=2)
    assert f"--forecast-of {position}: " in result.stderr
    assert "a feature, 1 to 3" in result.stderr


def test_no_framework_is_imported(models, tmp_path, table):
    program = "import sys\nfrom recurra.cli import main\ntry:\n    main()\nexcept SystemExit:\n    "
    program += "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", program, "trace", models / "both_sides.keras"]
    command += [tmp_path / "data.csv", "--html", tmp_path / "r.html", "--summary"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"numpy", "recurra"} <= loaded
    assert not loaded & FRAMEWORKS


def test_the_page_opens_in_a_browser(browser, models, tmp_path, table):
    options = ("--labels", "a", "--columns", "a,b,c", "--window", "5")
    page_of(models, tmp_path, "both_sides", *options)
    with chromium.opened(browser, tmp_path / "page.html") as page:
        page.wait_for_selector("canvas")
        assert "forward_layer" in page.inner_text("body")
