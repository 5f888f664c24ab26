"""`recurra predict`: which rows become what a model takes, and where its results stand."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pytest

import recurra
from command_line import call, csv_text, make_models, numbers, read_csv, start


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory)


@pytest.fixture
def table(tmp_path):
    """11 rows under the names a, b, c, in data.csv."""
    values = numbers(11)
    (tmp_path / "data.csv").write_text(csv_text(values, "a,b,c"))
    return values


def predicted(models, name, *inputs, **settings):
    """What the model gives for whole arrays."""
    runtime = recurra.load(models / f"{name}.keras")
    return runtime.predict(list(inputs) if len(inputs) > 1 else inputs[0], **settings)


def windows(values, size, stride=1):
    starts = range(0, len(values) - size + 1, stride)
    return np.stack([values[first : first + size] for first in starts])


def predict(models, tmp_path, name, *options, data="data.csv"):
    """Names and numbers of what `recurra predict` writes to stdout."""
    result = call("predict", models / f"{name}.keras", tmp_path / data, *options)
    assert result.stderr == ""
    return read_csv(result.stdout)


def test_a_table_is_one_sequence_with_a_row_for_each_step(models, tmp_path, table):
    for name in ("steps", "both_sides"):
        head, found = predict(models, tmp_path, name)
        expected = predicted(models, name, table[None])[0]
        assert head == (["prediction_0", "prediction_1"] if name == "steps" else ["prediction"])
        assert np.array_equal(found, expected)


def test_a_table_is_one_sequence_with_one_prediction(models, tmp_path, table):
    head, found = predict(models, tmp_path, "last")
    assert head == ["prediction"]
    assert np.array_equal(found, predicted(models, "last", table[None]))


@pytest.mark.parametrize(("options", "stride"), [((), 1), (("--stride", "3"), 3)])
@pytest.mark.parametrize("name", ["last", "fixed"])
def test_windows_have_a_prediction_each_beside_their_last_row(
    models, tmp_path, table, name, options, stride
):
    size = ("--window", "4") if name == "last" or stride == 3 else ()
    head, found = predict(models, tmp_path, name, *size, *options, "--keep", "b", "--columns=a,b,c")
    assert head == ["b", "prediction"]
    assert np.array_equal(found[:, 0], table[3::stride, 1])
    expected = predicted(models, name, windows(table, 4, stride))
    assert np.array_equal(found[:, 1:], expected)


def test_windows_do_not_depend_on_how_the_rows_are_read(models, tmp_path):
    values = numbers(4500)
    np.save(tmp_path / "data.npy", values)
    for size, stride, batch in ((4, 1, 256), (7, 3, 10), (3, 2500, 1), (4400, 20, 2)):
        options = ("--window", size, "--stride", stride, "--batch-size", batch)
        _, found = predict(models, tmp_path, "last", *options, data="data.npy")
        assert np.array_equal(found, predicted(models, "last", windows(values, size, stride)))


def test_a_long_sequence_goes_through_in_pieces_with_the_same_bits(models, tmp_path):
    values = numbers(5000)
    np.save(tmp_path / "data.npy", values)
    _, found = predict(models, tmp_path, "steps", data="data.npy")
    assert np.array_equal(found, predicted(models, "steps", values[None])[0])
    _, found = predict(models, tmp_path, "last", data="data.npy")
    assert np.array_equal(found, predicted(models, "last", values[None]))


def test_windows_of_a_model_with_a_row_for_each_step_follow_each_other(models, tmp_path, table):
    result = call("predict", models / "tagger.keras", tmp_path / "data.csv")
    _, found = read_csv(result.stdout)
    expected = predicted(models, "tagger", windows(table, 4, 4))
    assert np.array_equal(found, expected.reshape(8, 1))
    assert "the last 3 rows have no prediction" in result.stderr
    _, found = predict(models, tmp_path, "tagger", "--stride", "1")
    expected = predicted(models, "tagger", windows(table, 4))
    assert np.array_equal(found, expected[:, -1])
    _, found = predict(models, tmp_path, "tagger", "--stride", "1", "--wide")
    assert np.array_equal(found, expected[:, :, 0])


def test_a_forecast_of_several_steps_stands_in_one_row(models, tmp_path, table):
    head, found = predict(models, tmp_path, "horizon")
    assert head == ["prediction_0_0", "prediction_1_0"]
    assert np.array_equal(found, predicted(models, "horizon", windows(table, 4))[:, :, 0])


def test_rows_without_time_steps_are_samples(models, tmp_path, table):
    _, found = predict(models, tmp_path, "rows", "--columns", "c,a", "--columns", "b")
    assert np.array_equal(found, predicted(models, "rows", table[:, [2, 0, 1]]))


@pytest.mark.parametrize("name", ["steps", "last"])
def test_groups_are_sequences_wherever_their_rows_stand(models, tmp_path, table, name):
    groups = np.array([1, 2] * 5 + [1])
    text = csv_text(np.column_stack([groups, table]), "who,a,b,c")
    (tmp_path / "groups.csv").write_text(text)
    head, found = predict(models, tmp_path, name, "--by", "who", data="groups.csv")
    assert head[0] == "who"
    parts = [predicted(models, name, table[groups == group][None]) for group in (1, 2)]
    expected = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    assert np.array_equal(found[:, 1:], expected)
    assert found[:, 0].tolist() == ([1] * 6 + [2] * 5 if name == "steps" else [1, 2])
    _, found = predict(models, tmp_path, "last", "--by=who", "--window=5", data="groups.csv")
    assert found[:, 0].tolist() == [1, 1, 2]


def test_a_mask_tells_which_rows_count(models, tmp_path, table):
    mask = np.array([1, 1, 0] * 3 + [1, 0], bool)
    text = csv_text(np.column_stack([table, mask]), "a,b,c,ok")
    (tmp_path / "masked.csv").write_text(text)
    _, found = predict(models, tmp_path, "last", "--mask", "ok", data="masked.csv")
    assert np.array_equal(found, predicted(models, "last", table[None], mask=mask[None]))
    assert np.allclose(found, predicted(models, "last", table[mask][None]), atol=1e-6)
    (tmp_path / "masked.csv").write_text(text.replace("1.0\n", "maybe\n", 1))
    result = call("predict", models / "last.keras", tmp_path / "masked.csv", "--mask=ok", code=1)
    assert "masked.csv:2: column 'ok': got 'maybe', expected 1 or true" in result.stderr


def test_several_inputs_take_their_columns_in_order(models, tmp_path, table):
    # The whole sequence's own feature is that of its last row.
    _, found = predict(models, tmp_path, "two_inputs", "--window", "4", "--columns", "b,a,c")
    parts = windows(table, 4)
    expected = predicted(models, "two_inputs", parts[:, :, [1, 0]], parts[:, -1, 2:])
    assert np.array_equal(found, expected)


def test_several_outputs_have_their_names_and_can_be_chosen(models, tmp_path, table):
    sequence, hidden, cell = predicted(models, "with_state", table[None])
    result = call("predict", models / "with_state.keras", tmp_path / "data.csv", code=1)
    assert "only lstm have a row for every time step" in result.stderr
    head, found = predict(models, tmp_path, "with_state", "--outputs", "lstm")
    assert head == ["lstm_0", "lstm_1"]
    assert np.array_equal(found, sequence[0])
    _, found = predict(models, tmp_path, "with_state", "--outputs", "lstm_2,lstm_1")
    assert np.array_equal(found, np.hstack([cell, hidden]))
    _, found = predict(models, tmp_path, "with_state", "--window", "4", "--stride", "1")
    assert np.array_equal(found[:, :2], found[:, 2:4])
    result = call(
        "predict", models / "with_state.keras", tmp_path / "data.csv", "--outputs=x", code=1
    )
    assert "no output 'x'; the model has lstm, lstm_1, lstm_2" in result.stderr


def test_sequences_of_json_have_a_line_each_in_their_order(models, tmp_path):
    lengths = [5, 2, 5, 1, 2]
    sequences = [numbers(length, seed=seed) for seed, length in enumerate(lengths)]
    text = "".join(json.dumps(sequence.astype(float).tolist()) + "\n" for sequence in sequences)
    expected = [predicted(models, "steps", sequence[None])[0] for sequence in sequences]
    arguments = ("predict", models / "steps.keras", "-", "--input-format", "jsonl")
    result = call(*arguments, "--output-format", "jsonl", stdin=text)
    found = [json.loads(line)["prediction"] for line in result.stdout.splitlines()]
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(np.float32(ours), theirs)
    head, flat = read_csv(call(*arguments, stdin=text).stdout)
    assert head == ["sequence", "step", "prediction_0", "prediction_1"]
    assert np.array_equal(flat[:, 2:], np.concatenate(expected))
    assert flat[5:7, :2].tolist() == [[2, 1], [2, 2]]
    arguments = ("predict", models / "last.keras", *arguments[2:])
    _, found = read_csv(call(*arguments, stdin=text).stdout)
    for ours, sequence in zip(found, sequences, strict=True):
        assert np.array_equal(ours, predicted(models, "last", sequence[None])[0])


def test_indices_are_sequences_of_tokens(models, tmp_path):
    text = "[3, 1, 4]\n[1, 5]\n[12]\n"
    arguments = ("predict", models / "tokens.keras", "-", "--input-format=jsonl")
    result = call(*arguments, "--output-format=jsonl", stdin="[3, 1, 4]\n[1, 5]\n")
    found = [json.loads(line)["prediction"] for line in result.stdout.splitlines()]
    expected = predicted(models, "tokens", np.array([[3, 1, 4]]))[0]
    assert np.array_equal(np.float32(found[0]), expected)
    assert "12" in call(*arguments, stdin=text, code=1).stderr
    result = call("predict", models / "tokens.keras", "-", stdin="3\n1\n4\n")
    assert np.array_equal(read_csv(result.stdout)[1], expected)
    result = call("predict", models / "tokens.keras", "-", stdin="3\n1.5\n", code=1)
    assert "<stdin>:2: column 1: got '1.5', expected an integer" in result.stderr


def test_an_index_beyond_the_table_is_named_and_skipped(models, tmp_path):
    text = "3\n10\n1\n-1\n4\n"
    arguments = ("predict", models / "tokens.keras", "-")
    error = call(*arguments, stdin=text, code=1).stderr
    assert error.startswith("Error: <stdin>:2: column 1: got '10', expected an index from 0 to 9;")
    expected = predicted(models, "tokens", np.array([[3, 1, 4]]))[0]
    result = call(*arguments, "--skip-bad", stdin=text)
    assert "skipped 2 bad rows; the first: <stdin>:2: column 1" in result.stderr
    assert np.array_equal(read_csv(result.stdout)[1], expected)
    error = call(*arguments, "--missing=-1", stdin="3\nNA\n", code=1).stderr
    assert "<stdin>:2: column 1: got --missing -1 for 'NA', expected an index from" in error

    text = "[3, 1, 4]\n[3, 10, 4]\n[3, 1, 4]\n"
    arguments = (*arguments, "--input-format=jsonl", "--output-format=jsonl")
    error = call(*arguments, stdin=text, code=1).stderr
    assert error.startswith("Error: <stdin>:2: time step 2: column 1: got 10, expected an index")
    result = call(*arguments, "--skip-bad", stdin=text)
    found = [json.loads(line)["prediction"] for line in result.stdout.splitlines()]
    assert np.array_equal(np.float32(found), [expected, expected])

    np.save(tmp_path / "ids.npy", [[3, 1, 4], [3, 1, 99]])
    error = call("predict", models / "tokens.keras", tmp_path / "ids.npy", code=1).stderr
    assert "ids.npy: sequence 2: time step 3: column 1: got 99, expected an index" in error


def test_an_index_beyond_the_table_names_its_layer(models):
    with pytest.raises(ValueError, match=r"Embedding 'embedding[_0-9]*': indices .* got 10"):
        recurra.load(models / "tokens.keras").open().step(10)


def test_a_sample_that_the_model_refuses_is_named_and_skipped(models):
    """Its inputs have different numbers of time steps, which the first layer cannot join."""
    good = {"left": [[1, 2], [3, 4]], "right": [[1], [2]]}
    bad = {"left": [[1, 2], [3, 4]], "right": [[1], [2], [3]]}
    text = "".join(json.dumps(sample) + "\n" for sample in (good, bad, good))
    arguments = ("predict", models / "side_by_side.keras", "-", "--input-format=jsonl")
    error = call(*arguments, stdin=text, code=1).stderr
    words = "the inputs have different numbers of time steps ('left' 2, 'right' 3): "
    assert error.startswith(f"Error: <stdin>:2: {words}")
    assert error.count("\n") == 1
    result = call(*arguments, "--output-format=jsonl", "--skip-bad", stdin=text)
    assert result.stderr.startswith(
        f"recurra predict: skipped 1 bad row; the first: <stdin>:2: {words}"
    )
    assert len(set(result.stdout.splitlines())) == 1
    assert result.stdout.count("\n") == 2


def test_samples_of_an_array_keep_their_shape(models, tmp_path):
    values = numbers(6 * 4).reshape(6, 4, 3)
    np.save(tmp_path / "data.npy", values)
    for name in ("fixed", "tagger", "steps"):
        out = tmp_path / f"{name}.npy"
        call("predict", models / f"{name}.keras", tmp_path / "data.npy", "-o", out)
        assert np.array_equal(np.load(out), predicted(models, name, values))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "npy", "parquet"])
def test_every_format_holds_the_same_numbers(models, tmp_path, table, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{suffix}"
    call("predict", models / "steps.keras", tmp_path / "data.csv", "-o", out, "--progress")
    expected = predicted(models, "steps", table[None])[0]
    if suffix == "npy":
        found = np.load(out)
    elif suffix == "jsonl":
        found = np.float32([json.loads(line)["prediction"] for line in out.open()])
    elif suffix == "parquet":
        import pyarrow.parquet

        found = np.column_stack(list(pyarrow.parquet.read_table(out).to_pydict().values()))
    else:
        _, found = read_csv(out.read_text().replace("\t", ","))
    assert np.array_equal(found.astype(np.float32), expected)
    if suffix == "jsonl":
        return
    columns = "1,2,1" if suffix == "npy" else "prediction_0,prediction_1,prediction_0"
    _, again = predict(models, tmp_path, "rows", "--columns", columns, data=out.name)
    assert np.array_equal(again, predicted(models, "rows", expected[:, [0, 1, 0]]))


def test_bad_rows_stop_it_or_are_counted(models, tmp_path, table):
    lines = csv_text(table, "a,b,c").splitlines()
    lines[3:3] = ["1,n/a,3", "1,2"]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    out = tmp_path / "out.csv"
    out.write_text("old")
    arguments = ("predict", models / "steps.keras", tmp_path / "data.csv", "-o", out)
    result = call(*arguments, code=1)
    assert result.stderr.startswith(
        f"Error: {tmp_path}/data.csv:4: column 'b': got 'n/a', expected"
    )
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    result = call(*arguments, "--skip-bad")
    assert result.stderr.startswith("recurra predict: skipped 2 bad rows; the first: ")
    _, found = read_csv(out.read_text())
    assert np.array_equal(found, predicted(models, "steps", table[None])[0])


@pytest.mark.parametrize(
    ("model", "data", "options", "code", "words"),
    [
        ("step", "data.csv", [], 1, "Did you mean {models}/steps.keras?"),
        ("steps", "dat.csv", [], 1, "Did you mean {folder}/data.csv?"),
        ("steps", "data.csv", ["--window=3", "--stride=0"], 2, "--stride"),
        ("steps", "data.csv", ["--stride=2"], 2, "give --window too"),
        ("rows", "data.csv", ["--window=2"], 2, "every row is a sample"),
        ("rows", "data.csv", ["--by=a", "--columns=a,b,c"], 2, "takes no time steps"),
        ("fixed", "data.csv", ["--window=5"], 2, "leave --window out, or say --window 4"),
        ("last", "data.csv", ["--window=12"], 1, "has 11 rows of numbers, too few for a window"),
        (
            "steps",
            "data.csv",
            ["--columns=a,b"],
            1,
            "names 2 columns (a, b), but the model takes 3",
        ),
        ("steps", "data.csv", ["--keep=a"], 1, "has 2 columns (b, c), but the model takes 3"),
        ("steps", "data.csv", ["-o", "{folder}/data.csv"], 1, "would be overwritten"),
        ("steps", "data.csv", ["-o", "{models}/steps.keras", "--output-format=csv"], 1, "overwri"),
        ("steps", "data.csv", ["-o", "{folder}/no/out.csv"], 1, "cannot be written"),
        ("steps", "data.csv", ["-o", "{folder}/out.xls"], 2, "--output-format csv|jsonl"),
        ("steps", "data.csv", ["--delimiter=ab"], 2, "one character"),
        (
            "steps",
            "data.csv",
            ["-o", "{folder}/out.npy", "--keep=a", "--columns=a,b,c"],
            1,
            "--keep",
        ),
        ("steps", "text.csv", [], 1, "text.csv: has 1 column"),
        ("steps", "header.csv", [], 1, "header.csv: has no rows of numbers"),
        ("steps", "folder.csv", [], 1, "is a folder"),
        ("steps", "cube.npy", ["--window=2"], 2, "holds whole sequences"),
        ("fixed", "cube.npy", [], 1, "has 3 time steps, but the model takes 4"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    models, tmp_path, table, model, data, options, code, words
):
    (tmp_path / "text.csv").write_text("hello world\nthis is text\n")
    (tmp_path / "header.csv").write_text("a,b,c\n")
    (tmp_path / "folder.csv").mkdir()
    np.save(tmp_path / "cube.npy", np.zeros((2, 3, 3), np.float32))
    before = (tmp_path / "data.csv").read_text()
    places = {"folder": tmp_path, "models": models}
    options = [option.format(**places) for option in options]
    result = call("predict", models / f"{model}.keras", tmp_path / data, *options, code=code)
    assert words.format(**places) in " ".join(result.stderr.split())
    if code == 1:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "data.csv").read_text() == before


def test_a_reader_that_goes_away_ends_it_quietly(models, tmp_path):
    np.save(tmp_path / "data.npy", numbers(200_000))
    process = start("predict", models / "steps.keras", tmp_path / "data.npy")
    assert process.stdout.readline() == b"prediction_0,prediction_1\n"
    process.stdout.close()
    assert process.wait(timeout=60) == -13
    assert process.stderr.read() == b""


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_results_come_before_the_input_has_ended(models, unbuffered):
    """A table of any length goes through: what has been answered is not kept."""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    process = start("predict", models / "steps.keras", "-", env=environment, bufsize=0)
    rows = csv_text(numbers(2048)).encode()
    process.stdin.write(rows * 2)
    process.stdin.flush()
    assert process.stdout.readline() == b"prediction_0,prediction_1\n"
    # It waits for its reader by now; being stopped meanwhile makes writes end in the middle.
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(rows, timeout=60)
    assert (process.returncode, err) == (0, b"")
    session = recurra.load(models / "steps.keras").open()
    expected = session.run(np.tile(numbers(2048), (3, 1)))
    assert np.array_equal(read_csv("names\n" + out.decode())[1], expected)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_no_part_of_a_file(models, tmp_path, name):
    out = tmp_path / "out.csv"
    out.write_text("old")
    process = start("predict", models / "steps.keras", "-", "-o", out, bufsize=0)
    process.stdin.write(csv_text(numbers(2048)).encode())
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) == 1:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=60) == -getattr(signal, name)
    assert process.stderr.read() == b""
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_text() == "old"


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("command", ["predict", "stream", "info"])
def test_a_closed_stream_is_told(models, command, number):
    if (command, number) == ("info", 0):
        pytest.skip("reads nothing")
    data = ["-"] if command == "predict" else []
    process = start(command, models / "steps.keras", *data, preexec_fn=lambda: os.close(number))
    _, err = process.communicate(b"" if number == 0 else b"1,2,3\n", timeout=60)
    assert process.returncode == 1
    assert err.startswith(b"Error: " + (b"stdin", b"stdout")[number] + b" is closed; ")
    assert err.count(b"\n") == 1


def test_a_file_that_is_no_model_is_told(models, tmp_path, table):
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 and no more")
    result = call("predict", tmp_path / "broken.keras", tmp_path / "data.csv", code=1)
    assert result.stderr.startswith("Error: ")
    assert "broken.keras" in result.stderr
    result = call("predict", tmp_path / "data.csv", tmp_path / "data.csv", code=1)
    assert "expected .keras, .h5, .hdf5, .onnx" in result.stderr
