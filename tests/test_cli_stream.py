"""`recurra stream`: a result for each line as it comes, and a state that no end of it loses."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest

import recurra
from command_line import csv_text, make_models, numbers, read_csv, start


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory)


@pytest.fixture(scope="module")
def long(models):
    """More lines than any pipe holds, and the results of an uninterrupted run."""
    values = numbers(20_000)
    text = csv_text(values).encode()
    out, err, code = finish(start("stream", models / "steps.keras"), text)
    assert (err, code) == (b"", 0)
    assert np.array_equal(rows_of(out), whole(models, "steps", values))
    return text.splitlines(keepends=True), out.splitlines(keepends=True)


def finish(process, stdin=b""):
    out, err = process.communicate(stdin, timeout=120)
    return out, err, process.returncode


def rows_of(out: bytes) -> np.ndarray:
    return np.array([line.split(b",") for line in out.splitlines()], np.float32)


def whole(models, name, values):
    """The results of a whole sequence in one go."""
    runtime = recurra.load(models / f"{name}.keras")
    return runtime.predict(values[None])[0]


def readline(process, seconds=60.0) -> bytes:
    """A line of stdout, or b"" if none comes in time; no more is taken from the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            return b""
        byte = os.read(process.stdout.fileno(), 1)
        if not byte:
            return line
        line += byte
    return line


def test_each_line_is_answered_before_the_next_is_sent(models):
    values = numbers(5)
    process = start("stream", models / "steps.keras", "--names")
    assert readline(process) == b"prediction_0,prediction_1\n"
    answers = []
    for line in csv_text(values).encode().splitlines(keepends=True):
        os.write(process.stdin.fileno(), line[:4])
        os.write(process.stdin.fileno(), line[4:])
        answers.append(readline(process))
    assert finish(process) == (b"", b"", 0)
    assert np.array_equal(rows_of(b"".join(answers)), whole(models, "steps", values))


def test_no_framework_is_loaded_and_little_else(models):
    """A stream is there at once: what takes time to import is not imported."""
    program = (
        "import sys; sys.argv[1:] = ['stream', sys.argv[1]]\n"
        "from recurra.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('keras', 'jax', 'torch', 'tensorflow', 'rich.console', "
        "'pyarrow', 'recurra.layers', 'recurra.cli.predict') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, models / "steps.keras"]
    done = subprocess.run(command, input=b"1,2,3\n", capture_output=True, timeout=60, check=True)
    assert done.stdout.splitlines()[1] == b"[]"


@pytest.mark.parametrize("name", ["last", "two_inputs", "with_state"])
def test_every_kind_of_model_answers_for_what_it_has_seen(models, name):
    values = numbers(4)
    out, err, code = finish(start("stream", models / f"{name}.keras"), csv_text(values).encode())
    assert (err, code) == (b"", 0)
    session = recurra.load(models / f"{name}.keras").open()
    for line, row in zip(rows_of(out), values, strict=True):
        inputs = (row[:2], row[2:]) if name == "two_inputs" else (row,)
        outputs = session.step(*inputs)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        assert np.array_equal(line, np.concatenate([np.ravel(output) for output in outputs]))


def test_json_lines_come_and_go(models):
    values = numbers(3)
    lines = [
        {"t": f"{row}", "b": float(b), "a": float(a), "c": float(c)}
        for row, (a, b, c) in enumerate(values)
    ]
    text = "\n".join(map(json.dumps, lines))  # the last line has no end
    process = start(
        "stream", models / "steps.keras", "--format=jsonl", "--columns=a,b,c", "--keep=t"
    )
    out, err, code = finish(process, text.encode())
    assert (err, code) == (b"", 0)
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["t"] for line in found] == ["0", "1", "2"]
    expected = whole(models, "steps", values)
    assert np.array_equal(np.float32([line["prediction"] for line in found]), expected)


def test_columns_are_chosen_and_carried_over_by_name(models):
    values = numbers(3)
    table = np.column_stack([values[:, 2], values[:, :2]])
    lines = [f'"mon, {row}";' + ";".join(map(str, cells)) for row, cells in enumerate(table)]
    text = "\ufeffwhen;c;a;b\r\n\r\n" + "\r\n".join(lines) + "\r\n"
    options = ("--delimiter=;", "--columns=a,b,c", "--keep=when", "--names")
    out, err, code = finish(start("stream", models / "steps.keras", *options), text.encode())
    assert (err, code) == (b"", 0)
    head, *rows = out.decode().splitlines()
    assert head == "when;prediction_0;prediction_1"
    assert [row.split(";")[0] for row in rows] == ["mon, 0", "mon, 1", "mon, 2"]
    found = np.array([row.split(";")[1:] for row in rows], np.float32)
    assert np.array_equal(found, whole(models, "steps", values))


def test_a_first_line_of_missing_cells_is_a_time_step(models):
    for first in (b",,", b"NA,,null"):
        text = first + b"\n1,2,3\n"
        out, err, code = finish(start("stream", models / "steps.keras", "--missing", "0"), text)
        assert (err, code) == (b"", 0)
        expected = whole(models, "steps", np.float32([[0, 0, 0], [1, 2, 3]]))
        assert np.array_equal(rows_of(out), expected)


def test_a_run_that_goes_on_takes_no_line_for_names_unless_they_are_asked_for(models, tmp_path):
    arguments = ("stream", models / "steps.keras", "--resume", tmp_path / "state.bin")
    expected = whole(models, "steps", np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    out, err, code = finish(start(*arguments), b"a,b,c\n1,2,3\n")
    assert (err, code) == (b"", 0)
    again, err, code = finish(start(*arguments), b"a,b,c\n4,5,6\n")
    assert (again, code) == (b"", 1)
    assert err.startswith(b"Error: <stdin>:1: column 1: got 'a', expected a number")
    out += finish(start(*arguments, "--header"), b"a,b,c\n4,5,6\n")[0]
    out += finish(start(*arguments, "--columns=c,b,a"), b"c,b,a\n9,8,7\n")[0]
    found = rows_of(out)
    assert np.array_equal(found[:2], expected[:2])
    session = recurra.load(models / "steps.keras").open()
    for row in ([1, 2, 3], [4, 5, 6]):
        session.step(np.float32(row))
    assert np.array_equal(found[2], session.step(np.float32([9, 8, 7])))


def test_a_carriage_return_ends_no_line(models):
    out, err, code = finish(
        start("stream", models / "steps.keras", "--keep", "1"), b"x\ry,1,2,3\nz,4,5,6\n"
    )
    assert (err, code) == (b"", 0)
    assert [line.split(b",")[0] for line in out.split(b"\n")] == [b'"x\ry"', b"z", b""]


BAD = [
    (b"1,n/a,3", "column 2: got 'n/a', expected a number"),
    (b"1,2", "got 2 columns, expected 3"),
    (b"1,2,inf", "column 3: got 'inf', expected a finite number"),
    (b'1,"2"x,3', "not CSV"),
    (b"\xff,2,3", "column 1: got '\\udcff', expected a number"),
]


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_a_bad_line_ends_it_after_the_results_before_it(models, tmp_path, bad, words):
    values = numbers(6)
    lines = csv_text(values).encode().splitlines(keepends=True)
    state = tmp_path / "state.bin"
    text = b"".join([*lines[:3], bad, b"\n", *lines[3:]])
    arguments = ("stream", models / "steps.keras", "--resume", state)
    out, err, code = finish(start(*arguments), text)
    assert code == 1
    assert err.decode().startswith(f"Error: <stdin>:4: {words}")
    assert err.count(b"\n") == 1
    rest, err, code = finish(start(*arguments), b"".join(lines[3:]))
    assert (err, code) == (b"", 0)
    assert np.array_equal(rows_of(out + rest), whole(models, "steps", values))


def test_bad_lines_are_skipped_and_counted(models):
    values = numbers(6)
    lines = csv_text(values).encode().splitlines()
    for place, (bad, _) in enumerate(BAD):
        lines.insert(1 + 2 * place, bad)
    process = start("stream", models / "steps.keras", "--skip-bad")
    out, err, code = finish(process, b"\n".join(lines))
    assert code == 0
    assert err.decode().startswith("recurra stream: skipped 5 bad rows; the first: <stdin>:2: ")
    assert np.array_equal(rows_of(out), whole(models, "steps", values))


def test_an_index_beyond_the_table_leaves_the_state_as_it_was(models):
    expected = whole(models, "tokens", np.array([3, 1, 4]))
    text = b"3\n10\n1\n-1\n4\n"
    out, err, code = finish(start("stream", models / "tokens.keras", "--skip-bad"), text)
    assert code == 0
    assert b"skipped 2 bad rows; the first: <stdin>:2: " in err
    assert np.array_equal(rows_of(out), expected)
    out, err, code = finish(start("stream", models / "tokens.keras"), text)
    assert code == 1
    assert err.startswith(b"Error: <stdin>:2: ")
    assert np.array_equal(rows_of(out), expected[:1])


def test_a_run_goes_on_where_the_last_one_ended(models, tmp_path, long):
    lines, results = long
    state = tmp_path / "state.bin"
    arguments = ("stream", models / "steps.keras", "--resume", state)
    found = b""
    for part in (slice(0, 1), slice(1, 1), slice(1, 700), slice(700, 3000)):
        out, err, code = finish(start(*arguments), b"".join(lines[part]))
        assert (err, code) == (b"", 0)
        found += out
    assert found == b"".join(results[:3000])
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.bin"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("busy", [True, False])
def test_a_signal_loses_nothing(models, tmp_path, long, name, busy):
    """In the middle of much input, or while waiting for more: resumed, the results are the same."""
    lines, results = long
    state = tmp_path / "state.bin"
    arguments = ("stream", models / "steps.keras", "--resume", state)
    if busy:
        (tmp_path / "in.csv").write_bytes(b"".join(lines))
        with open(tmp_path / "in.csv", "rb") as file:
            process = start(*arguments, stdin=file)
        first = readline(process)
    else:
        process = start(*arguments)
        os.write(process.stdin.fileno(), b"".join(lines[:2]) + lines[2][:5])
        first = readline(process)
        first += readline(process)
    process.send_signal(getattr(signal, name))
    if not busy:
        process.wait(timeout=60)  # before its stdin is closed
    out, err = process.communicate(timeout=60)
    assert process.returncode == -getattr(signal, name)
    done = (first + out).splitlines(keepends=True)
    assert done == results[: len(done)]
    if busy:
        assert len(done) < len(lines)
    else:
        assert len(done) == 2
        assert b"5 bytes of an unfinished line" in err
    rest, err, code = finish(start(*arguments), b"".join(lines[len(done) :]))
    assert (err, code) == (b"", 0)
    assert b"".join(done) + rest == b"".join(results)


@pytest.mark.parametrize("lines_read", [1, 300])
def test_a_reader_that_goes_away_loses_nothing_but_what_it_did_not_read(
    models, tmp_path, long, lines_read
):
    """The state is that after the last result which the pipe has taken."""
    lines, results = long
    (tmp_path / "in.csv").write_bytes(b"".join(lines))
    state = tmp_path / "state.bin"
    read, write = os.pipe()
    with open(tmp_path / "in.csv", "rb") as file:
        process = start(
            *("stream", models / "steps.keras", "--resume", state), stdin=file, stdout=write
        )
    os.close(write)
    taken = b""
    while taken.count(b"\n") < lines_read:
        part = os.read(read, 1 << 12)
        assert part
        taken += part
    process.send_signal(signal.SIGSTOP)  # so that it writes nothing while its reader goes
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    waiting = _bytes_in(read)  # they count as written
    os.close(read)
    process.send_signal(signal.SIGCONT)
    _, err, code = finish(process)
    assert code == -signal.SIGPIPE
    assert b"lines that were read have no result; the state is that after" in err
    written = b"".join(results)[: len(taken) + waiting].count(b"\n")
    assert f"after {written} results".encode() in err
    rest, _, code = finish(
        start("stream", models / "steps.keras", "--resume", state), lines[written]
    )
    assert code == 0
    assert rest == results[written]


def _fill(pipe: int) -> None:
    """Wait until a pipe gets no more, because it is full."""
    deadline = time.monotonic() + 60
    before, same = 0, 0
    while same < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        now = _bytes_in(pipe)
        same = same + 1 if now == before > 30_000 else 0
        before = now


def _bytes_in(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4), sys.byteorder)


def test_a_reader_that_does_not_read_is_not_waited_for(models, tmp_path, long):
    lines, results = long
    (tmp_path / "in.csv").write_bytes(b"".join(lines))
    state = tmp_path / "state.bin"
    with open(tmp_path / "in.csv", "rb") as file:
        process = start("stream", models / "steps.keras", "--resume", state, stdin=file)
    _fill(process.stdout.fileno())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == -signal.SIGTERM
    done = process.stdout.read().splitlines(keepends=True)
    assert done == results[: len(done)]
    assert f"the state is that after {len(done)} results".encode() in process.stderr.read()
    arguments = ("stream", models / "steps.keras", "--resume", state)
    rest, _, code = finish(start(*arguments), b"".join(lines[len(done) :]))
    assert code == 0
    assert b"".join(done) + rest == b"".join(results)


def test_a_second_interrupt_ends_it_at_once(models, tmp_path, long):
    lines, _ = long
    (tmp_path / "in.csv").write_bytes(b"".join(lines))
    state = tmp_path / "state.bin"
    with open(tmp_path / "in.csv", "rb") as file:
        process = start("stream", models / "steps.keras", "--resume", state, stdin=file)
    _fill(process.stdout.fileno())
    process.send_signal(signal.SIGINT)  # waits for the reader for two seconds
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    assert process.stderr.read() == b""
    assert not state.exists()


def test_the_state_is_saved_every_so_many_lines(models, tmp_path, long):
    lines, results = long
    state = tmp_path / "state.bin"
    arguments = ("stream", models / "steps.keras", "--resume", state, "--every", "2")
    process = start(*arguments)
    for line in lines[:3]:
        os.write(process.stdin.fileno(), line)
        assert readline(process)
    process.kill()  # nothing can be done then
    process.wait()
    rest, _, _ = finish(start(*arguments), lines[2])
    assert rest == results[2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "are no snapshot"),
        (b"something else altogether", "are no snapshot"),
        ("damaged", "state.bin: "),
        ("other", "of another model"),
    ],
)
def test_a_state_that_is_not_this_models_is_refused_and_kept(models, tmp_path, content, words):
    state = tmp_path / "state.bin"
    if content == "other":
        content = recurra.load(models / "last.keras").open().snapshot()
    elif content == "damaged":
        content = bytearray(recurra.load(models / "steps.keras").open().snapshot())
        content[len(content) // 2] ^= 1
    state.write_bytes(content)
    process = start("stream", models / "steps.keras", "--resume", state)
    out, err, code = finish(process, b"1,2,3\n")
    assert (out, code) == (b"", 1)
    assert words in err.decode()
    assert err.startswith(f"Error: {state}: ".encode())
    assert err.count(b"\n") == 1
    assert state.read_bytes() == bytes(content)


@pytest.mark.parametrize(
    ("model", "options", "stdin", "code", "words"),
    [
        ("both_sides", [], b"", 1, "its backward layer starts from the sequence's end"),
        ("steps", ["--every", "5"], b"", 2, "give --resume FILE too"),
        ("steps", ["--format", "xml"], b"", 2, "expected csv or jsonl"),
        ("steps", ["--resume", "/no/such/folder/state"], b"", 1, "there is no folder"),
        ("steps", ["--resume", "{models}/steps.keras"], b"", 2, "is the model"),
        ("steps", ["--resume", "{models}"], b"", 1, "is a folder"),
        ("steps", ["--resume", "-"], b"1,2,3\n", 2, "--resume '-': the state needs a file"),
        ("steps", ["--resume", ""], b"1,2,3\n", 2, "--resume '': the state needs a file"),
        ("steps", ["--resume", "new.bin"], b"1,2\n", 1, "has 2 columns, but the model takes 3"),
        ("steps", ["--columns", "a,b,d"], b"a,b,c\n", 1, "no column 'd'; there are a, b, c"),
        ("steps", [], b"[1, 2, 3]\n", 1, "add --format jsonl"),
        ("steps", ["--format", "jsonl"], b"[[1, 2, 3]]\n", 1, "use recurra predict"),
        ("steps", ["--format", "jsonl"], b"{\n", 1, "<stdin>:1: column 2: not JSON"),
        ("steps", ["--format", "jsonl", "--names"], b"", 2, "are for CSV"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    models, tmp_path, model, options, stdin, code, words
):
    options = [option.format(models=models) for option in options]
    process = start("stream", models / f"{model}.keras", *options, cwd=tmp_path)
    out, err, found = finish(process, stdin)
    assert (out, found) == (b"", code), err
    assert err.startswith(b"Error: ")
    assert words in err.decode()
    assert err.count(b"\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told(models):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        process = start("stream", models / "steps.keras", stdout=full)
    _, err, code = finish(process, b"1,2,3\n")
    assert code == 1
    assert b"stdout: No space left on device" in err


def test_predict_gives_the_very_same_numbers(models, tmp_path, long):
    lines, results = long
    process = start("predict", models / "steps.keras", "-")
    out, _, code = finish(process, b"".join(lines[:5000]))
    assert code == 0
    assert np.array_equal(read_csv(out.decode())[1], rows_of(b"".join(results[:5000])))


@pytest.mark.parametrize("value", ["nan", "inf", "-1e50"])
def test_missing_values_are_numbers_that_a_state_survives(models, value):
    process = start("stream", models / "steps.keras", "--missing", value)
    out, err, code = finish(process, b"1,,3\n")
    assert code == 2
    assert not out
    words = " ".join(err.decode().replace("│", " ").split())
    assert "expected a finite number within float32" in words
