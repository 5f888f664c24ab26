"""`recurra stream`."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recurra.cli.failures import CommandError, UsageError, a_float32, die_by, note, told

if TYPE_CHECKING:
    from recurra.cli.form import Form
    from recurra.cli.streaming import Stream

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_FORMATS = ("csv", "jsonl")


@app.command()
def stream(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A trained model: .keras, .h5 or .onnx.")
    ],
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Go on from the state in this file if it is there, and save the state to it at "
            "the end, also on Ctrl-C and SIGTERM.",
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(min=0, metavar="LINES", help="Save the state after so many lines, too.")
    ] = 0,
    format: Annotated[
        str, typer.Option(metavar="csv|jsonl", help="Of the lines that come and go.")
    ] = "csv",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,C",
            help="The model's features, in its order, by name (by position from 1 without names).",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Columns that go before the results, as time."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Give no result for bad lines, and count them.")
    ] = False,
    missing: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            callback=a_float32,
            help="What to put for empty cells, NA and null.",
        ),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Begin with a line of names, in CSV.")
    ] = False,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line of CSV has names; else seen by itself.",
            show_default=False,
        ),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHARACTER", help="Of CSV, as ';' or tab.")
    ] = None,
) -> None:
    """Answer each line of stdin by a line on stdout, carrying the model's state.

    A line is a time step. Results come as soon as they are known. A bad line ends the stream after
    the results before it, unless --skip-bad is given.
    """
    with told():
        from recurra.cli.files import STANDARD, require_output, standard_input
        from recurra.cli.form import Form
        from recurra.cli.models import load
        from recurra.cli.signals import Stop
        from recurra.cli.sink import LineSink
        from recurra.cli.state_file import StateFile
        from recurra.cli.streaming import Stream

        if format not in _FORMATS:
            raise UsageError(f"--format {format}: expected csv or jsonl.")
        if every and resume is None:
            raise UsageError("--every says when to save the state: give --resume FILE too.")
        if format != "csv" and (names or header is not None or delimiter is not None):
            raise UsageError("--names, --header, --no-header and --delimiter are for CSV.")
        if resume in ("", STANDARD):
            raise UsageError(f"--resume {resume!r}: the state needs a file; name one.")
        standard_input()
        require_output()
        if resume is not None and os.path.exists(resume) and os.path.samefile(resume, model):
            raise UsageError(f"--resume {resume}: is the model; name another file.")
        state = None if resume is None else StateFile(resume)
        with Stop() as stop:
            runtime = load(model)
            session = runtime.open()
            goes_on = state is not None and state.restore(session)
            form = Form(runtime, stepwise=True)
            lines, writer = _formats(
                form, format, columns, keep, skip_bad, missing, header, delimiter, goes_on
            )
            sink = LineSink(stop)
            if names:
                kept = [name for option in keep or () for name in option.split(",")]
                sink.write([_header(form, kept, delimiter)])
            going = Stream(session, form, lines, writer, sink, stop, state, every)
            try:
                going.run()
            except BaseException:
                if going.results:  # they are out, so they have to be in the state
                    going.save()
                raise
            going.save()
            _tell(going, sink.error, stop.name)
            if lines.numbers is not None and lines.numbers.skipped:
                note("stream", lines.numbers.report())
        if isinstance(sink.error, BrokenPipeError):
            die_by("SIGPIPE")
        if sink.error is not None:
            raise CommandError(f"stdout: {sink.error.strerror}.")
        if stop.name is not None:
            die_by(stop.name)


def _formats(
    form: Form,
    format: str,
    columns: list[str] | None,
    keep: list[str] | None,
    skip_bad: bool,
    missing: float | None,
    header: bool | None,
    delimiter: str | None,
    goes_on: bool,
) -> tuple[Any, Any]:
    from recurra.cli.form import choose_outputs
    from recurra.cli.lines import CsvLines, JsonLines
    from recurra.cli.tables import delimiter_of
    from recurra.cli.tables.columns import Wanted, listed
    from recurra.cli.tables.writing import CsvWriter, JsonWriter

    kept = listed(keep)
    wanted = Wanted(listed(columns), kept)
    outputs = [form.outputs[index].name for index in choose_outputs(form, ())]
    nowhere: Any = None  # the sink writes, not they
    if format == "jsonl":
        lines = JsonLines(form, wanted, skip_bad=skip_bad, missing=missing)
        return lines, JsonWriter(nowhere, kept, outputs, ())
    mark = delimiter_of("", delimiter)
    return (
        CsvLines(
            form,
            wanted,
            skip_bad=skip_bad,
            missing=missing,
            delimiter=mark,
            header=header,
            goes_on=goes_on,
        ),
        CsvWriter(nowhere, kept, outputs, (), delimiter=mark, header=False),
    )


def _header(form: Form, kept: list[str], delimiter: str | None) -> bytes:
    import io

    from recurra.cli.form import column_names
    from recurra.cli.tables import delimiter_of
    from recurra.cli.tables.writing import csv_writer

    text = io.StringIO()
    names = [*kept]
    for output in form.outputs:
        shape = output.shape[form.per_step(output) :]
        names += column_names(output.name, [1 if size is None else size for size in shape])
    csv_writer(text, delimiter_of("", delimiter)).writerow(names)
    return text.getvalue().encode(errors="surrogateescape")


def _tell(going: Stream, error: OSError | None, signal: str | None) -> None:
    """What was read but not answered, for who wants to go on from there."""
    if going.lost:
        reason = "stdout cannot be written" if error is not None else "there was no time left"
        with contextlib.suppress(OSError):
            note(
                "stream",
                f"{reason}: {going.lost} lines that were read have no result; the state is that "
                f"after {going.results} results.",
            )
    if going.unfinished and signal is not None:
        note("stream", f"{going.unfinished} bytes of an unfinished line were read but not used.")
