"""Tables: what is read from each format, what is refused and how, and what is written."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from recurra.cli.failures import CommandError, UsageError
from recurra.cli.files import check_output, replacing
from recurra.cli.form import Form, column_names
from recurra.cli.tables import delimiter_of, format_of
from recurra.cli.tables.arrays import NpyTable, ParquetTable
from recurra.cli.tables.columns import Wanted, listed
from recurra.cli.tables.csv_tables import CsvTable
from recurra.cli.tables.json_lines import JsonTable
from recurra.cli.tables.numbers import DataError
from recurra.cli.tables.reading import Table
from recurra.cli.tables.writing import CsvWriter, JsonWriter, NpyWriter, ParquetWriter


def form(*shapes, dtype="float32", outputs=((None, 1),)):
    """The form of a model with inputs x, x1, ... and outputs y, y1, ... of these shapes."""

    def specs(name, shapes, dtype):
        names = [name, *(f"{name}{index}" for index in range(1, len(shapes)))]
        return [
            SimpleNamespace(name=name, shape=shape, dtype=dtype)
            for name, shape in zip(names, shapes, strict=True)
        ]

    graph = SimpleNamespace(inputs=[], nodes=[])
    inputs, results = specs("x", shapes, dtype), specs("y", outputs, "float32")
    return Form(SimpleNamespace(inputs=inputs, outputs=results, graph=graph))


SEQUENCES = form((None, None, 2))
ROWS = form((None, 2))
TOKENS = form((None, None), dtype="int32")


def values(table: Table, features: int = 2, rows: int = 2, **settings) -> list:
    """All numbers of a table, read two rows at a time."""
    wanted = Wanted(
        **{name: settings.pop(name) for name in ("columns", "keep", "by") if name in settings}
    )
    table.choose(wanted, settings.pop("integers", [False] * features), **settings)
    return [row for block in table.blocks(rows) for row in block.values.tolist()]


def csv_table(tmp_path, text, **settings):
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CsvTable(str(path), **settings)


@pytest.mark.parametrize(
    ("first", "named"),
    [
        ("a,b", True),
        (",b", True),  # beside the index that some programs write
        (",", False),
        ("NA,b", False),
        ("a,NaN", False),
        ("a,", False),
        ("a,1", False),
    ],
)
def test_a_first_row_has_names_if_no_cell_is_a_number_or_absent(tmp_path, first, named):
    assert (csv_table(tmp_path, f"{first}\n1,2\n").names is not None) == named


def json_table(tmp_path, text, model=SEQUENCES):
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    return JsonTable(str(path), model)


@pytest.mark.parametrize(
    ("text", "settings", "names"),
    [
        ("a,b\n1,2\n3,4\n5,6\n", {}, ["a", "b"]),
        ("1,2\n3,4\n5,6", {}, None),
        ("\ufeffa,b\r\n1,2\r\n\r\n3,4\r\n5,6\r\n", {}, ["a", "b"]),
        ('"a ","b"\n"1"," 2"\n3,4\n5,6e0\n', {}, ["a", "b"]),
        ('"a\nline",b\n1,2\n3,4\n5,6\n', {}, ["a\nline", "b"]),
        ("a;b\n1;2\n3;4\n5;6\n", {"delimiter": ";"}, ["a", "b"]),
        ("1,2\n1,2\n3,4\n5,6\n", {"header": True}, ["1", "2"]),
    ],
)
def test_csv_is_read_with_and_without_names(tmp_path, text, settings, names):
    table = csv_table(tmp_path, text, **settings)
    assert table.names == names
    assert values(table) == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("named", [True, False])
def test_columns_are_taken_by_name_or_by_position(tmp_path, named):
    text = "time,a,b\n" * named + "mon,1,2\ntue,3,4\n"
    table = csv_table(tmp_path, text)
    time, a, b = ("time", "a", "b") if named else ("1", "2", "3")
    assert values(table, columns=[b, a], keep=[time]) == [[2, 1], [4, 3]]
    assert values(csv_table(tmp_path, text), keep=[time]) == [[1, 2], [3, 4]]
    table = csv_table(tmp_path, text)
    table.choose(Wanted([a], [b, time], by=time), [False])
    (block,) = table.blocks()
    assert block.kept == [("2", "mon"), ("4", "tue")]
    assert block.groups == ["mon", "tue"]
    assert list(block.lines) == ([2, 3] if named else [1, 2])


@pytest.mark.parametrize(
    ("text", "wanted", "words"),
    [
        ("price,size\n1,2\n", {"columns": ["pric", "size"]}, "Did you mean 'price'?"),
        ("price,size\n1,2\n", {"columns": ["Price", "size"]}, "Did you mean 'price'?"),
        ("price,size\n1,2\n", {"columns": ["price"]}, "names 1 column (price), but"),
        ("1,2\n", {"columns": ["a", "b"]}, "a position from 1 to 2"),
        ("a,b,c\n1,2,3\n", {}, "--columns a,b"),
        ("t,b,c\nmon,2,3\n", {}, "--keep t"),
        ("a\n1\n", {}, "has 1 column (a), but the model takes 2"),
        ("a;b\n1;2\n", {}, "--delimiter ';'"),
        ("a,a\n1,2\n", {"columns": ["a", "a"]}, "2 columns are called 'a'"),
    ],
)
def test_columns_that_do_not_fit_are_told_with_what_to_do(tmp_path, text, wanted, words):
    with pytest.raises(CommandError) as caught:
        values(csv_table(tmp_path, text), **wanted)
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "--columns" in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("n/a", "column 'price': got 'n/a', expected a number (--missing 0"),
        ("", "column 'price': got '', expected a number (--missing 0"),
        ("abc", "column 'price': got 'abc', expected a number;"),
        ("1_000", "column 'price': got '1_000', expected a number"),
        ('"1,5"', "column 'price': got '1,5', expected a number (1.5, with a point?)"),
        ("inf", "column 'price': got 'inf', expected a finite number"),
        ("-1e39", "column 'price': got '-1e39', expected a number within float32's range"),
        ("1,2", "got 3 columns, expected 2"),
        ("\udcff", "column 'price': got '\\udcff', expected a number"),
        ("9" * 60, "99...', expected a number within"),
    ],
)
def test_a_bad_cell_is_told_with_file_line_and_column(tmp_path, cell, words):
    text = f"price,size\n1,2\n\n{cell},3\n5,6\n".encode(errors="surrogateescape")
    table = csv_table(tmp_path, text)
    with pytest.raises(DataError) as caught:
        values(table)
    assert str(caught.value).startswith(f"{tmp_path}/data.csv:4: ")
    assert words in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    table = csv_table(tmp_path, text)
    assert values(table, skip_bad=True) == [[1, 2], [5, 6]]
    assert table.numbers.skipped == 1
    assert "skipped 1 bad row; the first: " in table.numbers.report()
    assert "data.csv:4" in table.numbers.report()


def test_absent_cells_may_be_given_a_number(tmp_path):
    table = csv_table(tmp_path, "a,b\nNA,1\n2,\nnull,nan\n")
    assert values(table, missing=-1.0) == [[-1, 1], [2, -1], [-1, -1]]
    assert not table.numbers.report()


@pytest.mark.parametrize("cell", ["1.5", "1e-3"])
def test_indices_have_to_be_integers(tmp_path, cell):
    table = csv_table(tmp_path, f"id\n3\n4.0\n{cell}\n")
    with pytest.raises(DataError, match=rf"data.csv:4: column 'id': got '{cell}', expected an int"):
        values(table, integers=[True])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x93NUMPY\x01", "--input-format npy"),
        (b"PAR1....", "--input-format parquet"),
        (b"\x1f\x8b\x08", "gunzip"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b'a,b\n1,"2"x\n', "data.csv:2: not CSV"),
    ],
)
def test_what_is_not_csv_is_told(tmp_path, content, words):
    with pytest.raises(CommandError, match=words):
        values(csv_table(tmp_path, content))


def test_a_broken_row_in_the_middle_may_be_skipped(tmp_path):
    table = csv_table(tmp_path, 'a,b\n1,2\n3,"4"x\n5,6\n')
    assert values(table, skip_bad=True) == [[1, 2], [5, 6]]
    assert "data.csv:3: not CSV" in table.numbers.report()


@pytest.mark.parametrize(
    ("text", "model", "names"),
    [
        ("[1, 2]\n[3, 4]\n", SEQUENCES, None),
        ('{"a": 1, "b": 2}\n\n{"b": 4, "a": 3, "c": 5}\n', SEQUENCES, ["a", "b"]),
        ("[1, 2]\n[3, 4.0]", ROWS, None),
    ],
)
def test_json_rows(tmp_path, text, model, names):
    table = json_table(tmp_path, text, model)
    assert (table.names, table.samples) == (names, False)
    assert values(table) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("[[1, 2], [3, 4]]\n[[5, 6]]\n", SEQUENCES, [[[1, 2], [3, 4]], [[5, 6]]]),
        ('{"a": [1, 3], "b": [2, 4]}\n', SEQUENCES, [[[1, 2], [3, 4]]]),
        ('{"x": [[1, 2], [3, 4]]}\n', SEQUENCES, [[[1, 2], [3, 4]]]),
        ("[3, 1, 2]\n[4]\n", TOKENS, [[3, 1, 2], [4]]),
    ],
)
def test_json_sequences(tmp_path, text, model, expected):
    table = json_table(tmp_path, text, model)
    assert table.samples
    table.choose(Wanted(), model.integers)
    items = list(table.items())
    assert [item.arrays[0].tolist() for item in items] == expected
    assert items[0].arrays[0].dtype == ("int32" if model is TOKENS else "float32")


def test_json_objects_with_an_array_for_each_input(tmp_path):
    model = form((None, None, 2), (None, 3))
    line = {"x1": [5, 6, 7], "x": [[1, 2], [3, 4]], "id": "first"}
    table = json_table(tmp_path, json.dumps(line) + "\n", model)
    table.choose(Wanted(keep=["id"]), model.integers)
    (item,) = table.items()
    assert [array.tolist() for array in item.arrays] == [[[1, 2], [3, 4]], [5, 6, 7]]
    assert item.kept == ("first",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"a": 1, "b": ', "column 14: not JSON"),
        ('{"a": null, "b": 2}', "column 'a': got null, expected a number"),
        ('{"a": true, "b": 2}', "column 'a': got true, expected a number"),
        ('{"a": "7", "b": 2}', "column 'a': got '7', expected a number"),
        ('{"a": NaN, "b": 2}', "column 'a': got nan, expected a finite number"),
        ('{"a": 1e400, "b": 2}', "column 'a': got inf, expected a finite number"),
        ('{"b": 2}', "column 'a': got nothing, expected a number"),
        ('{"a": [1], "b": 2}', "column 'a': got [1], expected a number"),
        ("[1, 2]", "expected an object"),
        ("[" * 100_000, "not JSON: nested too deep"),
        (
            '{"a": ' + "9" * 5000 + ', "b": 2}',
            "got an integer of more than 4300 digits, expected numbers",
        ),
    ],
)
def test_bad_json_is_told_with_file_line_and_column(tmp_path, line, words):
    text = f'{{"a": 1, "b": 2}}\n{line}\n{{"a": 3, "b": 4}}\n'
    with pytest.raises(DataError) as caught:
        values(json_table(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/data.jsonl:2: {words}")
    assert values(json_table(tmp_path, text), skip_bad=True) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[[1, 2], [3, null]]", "time step 2: column 2: got null"),
        ("[[1, 2], [3]]", "time step 2: got 1 columns, expected 2"),
        ("[]", "no time steps"),
        ("7", "expected an array of time steps"),
    ],
)
def test_bad_sequences_are_told_with_their_step(tmp_path, line, words):
    table = json_table(tmp_path, f"[[1, 2]]\n{line}\n")
    table.choose(Wanted(), [False, False])
    with pytest.raises(DataError, match=r"data.jsonl:2: ") as caught:
        list(table.items())
    assert words in str(caught.value)
    table = json_table(tmp_path, f"[[1, 2]]\n{line}\n")
    table.choose(Wanted(), [False, False], skip_bad=True)
    assert len(list(table.items())) == 1


@pytest.mark.parametrize(
    ("shape", "model", "samples"),
    [
        ((6, 2), SEQUENCES, False),
        ((3, 2, 2), SEQUENCES, True),
        ((6, 2), ROWS, False),
        ((6,), TOKENS, False),
        ((3, 4), TOKENS, True),
        ((6,), form((None, None, 1)), False),
    ],
)
def test_npy_arrays_are_tables_or_samples_by_their_dimensions(tmp_path, shape, model, samples):
    array = np.arange(np.prod(shape), dtype=np.int16 if model is TOKENS else np.float64)
    np.save(tmp_path / "data.npy", array.reshape(shape))
    table = NpyTable(str(tmp_path / "data.npy"), model)
    assert table.samples == samples
    if samples:
        table.choose(Wanted(), model.integers)
        found = [item.arrays[0] for item in table.items()]
        assert np.array_equal(found, array.reshape(shape))
    else:
        found = values(table, integers=model.integers)
        assert np.array_equal(found, array.reshape(len(found), -1))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 2, 2)), "has shape"),
        (np.zeros(3, "U4"), "holds <U4"),
        (np.zeros((2, 2), complex), "holds complex128"),
        (np.array([{}], object), "is no .npy array"),
    ],
)
def test_npy_arrays_of_something_else_are_refused(tmp_path, array, words):
    np.save(tmp_path / "data.npy", array, allow_pickle=True)
    with pytest.raises(CommandError, match=words):
        NpyTable(str(tmp_path / "data.npy"), SEQUENCES)


def test_a_truncated_npy_array_is_refused(tmp_path):
    np.save(tmp_path / "data.npy", np.zeros((100, 2)))
    data = (tmp_path / "data.npy").read_bytes()
    for length in (5, 60, 300):
        (tmp_path / "data.npy").write_bytes(data[:length])
        with pytest.raises(CommandError, match="is no .npy array"):
            NpyTable(str(tmp_path / "data.npy"), SEQUENCES)


def test_numbers_that_are_not_finite_are_bad_rows_of_an_array(tmp_path):
    np.save(tmp_path / "data.npy", [[1, 2], [np.nan, 3], [4, 5]])
    table = NpyTable(str(tmp_path / "data.npy"), SEQUENCES)
    with pytest.raises(DataError, match="data.npy: row 2: column 1: got nan, expected a finite"):
        values(table)
    table = NpyTable(str(tmp_path / "data.npy"), SEQUENCES)
    assert values(table, skip_bad=True) == [[1, 2], [4, 5]]


def test_parquet_is_read_in_batches(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "data.parquet")
    columns = {"when": ["mon", "tue", "wed"], "a": [1.5, None, 3.0], "b": [4, 5, 6]}
    parquet.write_table(pyarrow.table(columns), path)
    table = ParquetTable(path)
    assert table.names == ["when", "a", "b"]
    with pytest.raises(CommandError, match="--keep when"):
        values(table)
    with pytest.raises(DataError, match="data.parquet: row 2: column 'a': got null"):
        values(table, keep=["when"])
    assert values(ParquetTable(path), columns=["b", "a"], missing=0.0) == [[4, 1.5], [5, 0], [6, 3]]
    assert values(ParquetTable(path), keep=["when"], skip_bad=True) == [[1.5, 4], [3, 6]]
    (tmp_path / "data.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(CommandError, match="is no Parquet file"):
        ParquetTable(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(CommandError, match=r'pip install "recurra\[parquet\]"'):
        ParquetTable(str(tmp_path / "data.parquet"))


RESULTS = np.array([[0.1, -2], [1e-8, 3]], np.float32)


def test_csv_has_float32s_own_digits_and_quotes_what_needs_it():
    file = io.BytesIO()
    writer = CsvWriter(file, ["when"], ["y"], [(2,)])
    writer.rows([("a,b",), ('say "x"',)], [RESULTS])
    writer.close()
    assert file.getvalue().decode() == 'when,y_0,y_1\n"a,b",0.1,-2.0\n"say ""x""",1e-08,3.0\n'


def test_json_has_numbers_and_arrays_and_no_nan():
    file = io.BytesIO()
    writer = JsonWriter(file, ["id"], ["y", "z"], [(2,), (1,)])
    writer.rows([(7,), (None,)], [RESULTS, np.array([[np.nan], [0.5]], np.float32)])
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {"id": 7, "y": [0.1, -2.0], "z": None},
        {"id": None, "y": [1e-8, 3.0], "z": 0.5},
    ]


@pytest.mark.parametrize("seekable", [True, False])
def test_npy_is_written_in_pieces(tmp_path, seekable):
    file = io.BytesIO()
    file.seekable = lambda: seekable
    writer = NpyWriter(file, [], ["y"], [(2,)])
    for _ in range(6):
        writer.rows([(), ()], [RESULTS])
    writer.close()
    file.seek(0)
    assert np.array_equal(np.load(file), np.tile(RESULTS, (6, 1)))
    with pytest.raises(CommandError, match="arrays of one shape"):
        writer.rows([()], [np.zeros((1, 3), np.float32)])
    with pytest.raises(CommandError, match="no place for --keep"):
        NpyWriter(file, ["when"], ["y"], [(2,)])
    with pytest.raises(CommandError, match="--outputs y"):
        NpyWriter(file, [], ["y", "z"], [(2,), (1,)])


def test_parquet_is_written_in_pieces(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    with open(tmp_path / "out.parquet", "wb") as file:
        writer = ParquetWriter(file, ["when"], ["y"], [(2,)])
        writer.rows([("mon",), ("tue",)], [RESULTS])
        writer.rows([("wed",)], [RESULTS[:1]])
        writer.close()
    found = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert found["when"] == ["mon", "tue", "wed"]
    assert np.array_equal(np.float32(found["y_0"]), RESULTS[[0, 1, 0], 0])


@pytest.mark.parametrize("kind", [CsvWriter, NpyWriter, ParquetWriter])
def test_no_rows_make_an_empty_table(tmp_path, kind):
    if kind is ParquetWriter:
        pytest.importorskip("pyarrow")
    file = io.BytesIO()
    writer = kind(file, [], ["y"], [(2,)])
    writer.close()
    if kind is CsvWriter:
        assert file.getvalue() == b"y_0,y_1\n"
    elif kind is NpyWriter:
        file.seek(0)
        assert np.load(file).shape == (0, 2)
    else:
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(file).column_names == ["y_0", "y_1"]


def test_names_of_columns_tell_the_place_in_an_array():
    assert column_names("y", (1,)) == ["y"]
    assert column_names("y", ()) == ["y"]
    assert column_names("y", (2, 2)) == ["y_0_0", "y_0_1", "y_1_0", "y_1_1"]


def test_a_file_is_replaced_in_full_or_not_at_all(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    path.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(path)

    def write(failing):
        with replacing(str(link)) as file:
            file.write(b"new")
            if failing:
                raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write(failing=True)
    assert path.read_text() == "old"
    write(failing=False)
    assert path.read_text() == "new"
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.csv", "out.csv"]
    with pytest.raises(CommandError, match="overwritten"):
        check_output(str(link), [str(path)])


def test_formats_are_told_by_names_and_options():
    assert [format_of(name, None, "--to") for name in ("a.csv", "b.TSV", "c.ndjson", "-")] == [
        "csv",
        "csv",
        "jsonl",
        "csv",
    ]
    assert format_of("a.csv", "npy", "--to") == "npy"
    with pytest.raises(UsageError, match="--to csv"):
        format_of("a.dat", None, "--to")
    with pytest.raises(UsageError, match="gunzip -c a.csv.gz"):
        format_of("a.csv.gz", None, "--to")
    with pytest.raises(UsageError, match="xml: not known"):
        format_of("a.csv", "xml", "--to")
    assert [delimiter_of(*each) for each in (("a.tsv", None), ("a.csv", "tab"), ("a", ";"))] == [
        "\t",
        "\t",
        ";",
    ]
    with pytest.raises(UsageError, match="one character"):
        delimiter_of("a.csv", "::")
    assert listed(["a, b", "c"]) == ["a", "b", "c"]
    with pytest.raises(UsageError, match="empty name"):
        listed(["a,,b"])
