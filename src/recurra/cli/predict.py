"""`recurra predict`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recurra.cli.failures import note, told
from recurra.cli.options import (
    COLUMNS,
    FORMATS,
    ROWS,
    By,
    DataTable,
    Delimiter,
    Features,
    Header,
    InputFormat,
    MaskColumn,
    Missing,
    SkipBad,
    TrainedModel,
)

if TYPE_CHECKING:
    from recurra.cli.tables.reading import Table

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def predict(
    model: TrainedModel,
    data: DataTable,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Where to; - is stdout, as CSV.")
    ] = "-",
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Windows of so many rows slide over the table; a prediction for each, beside its "
            "last row. Without: the table is one sequence, or the model's own number of steps.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows from one window to the next: 1, or a whole window if the model gives a row "
            "for every time step.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    by: By = None,
    wide: Annotated[
        bool,
        typer.Option(
            "--wide", help="A sequence's output steps side by side in a row.", rich_help_panel=ROWS
        ),
    ] = False,
    skip_bad: SkipBad = False,
    missing: Missing = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Sequences or windows at a time.", rich_help_panel=ROWS)
    ] = 256,
    columns: Features = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B", help="Carried over to the output, as time.", rich_help_panel=COLUMNS
        ),
    ] = None,
    mask: MaskColumn = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Some of the model's outputs.", rich_help_panel=COLUMNS),
    ] = None,
    input_format: InputFormat = None,
    output_format: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="Likewise, of --out.", rich_help_panel=FORMATS),
    ] = None,
    header: Header = None,
    delimiter: Delimiter = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Show how far it is, on stderr.")
    ] = False,
) -> None:
    """Predict from a table, and write a table."""
    with told():
        from recurra.cli.files import check_input, check_output, replacing
        from recurra.cli.form import Form, choose_outputs
        from recurra.cli.models import load
        from recurra.cli.predicting import Predictor, make_plan
        from recurra.cli.signals import cleaned_up
        from recurra.cli.tables import delimiter_of, format_of
        from recurra.cli.tables.columns import Wanted, listed
        from recurra.cli.tables.opening import choose_columns, open_table
        from recurra.cli.tables.writing import WRITERS

        source_format = format_of(data, input_format, "--input-format")
        target_format = format_of(out, output_format, "--output-format")
        check_input(data, "a table of numbers")
        check_output(out, [model, data])
        wanted = Wanted(listed(columns), listed(keep), by, mask)
        runtime = load(model)
        form = Form(runtime)
        chosen = choose_outputs(form, listed(outputs))
        with open_table(data, source_format, form, delimiter, header) as table:
            choose_columns(table, form, wanted, missing=missing, skip_bad=skip_bad)
            nested = target_format in ("jsonl", "npy")
            plan = make_plan(
                form, table, chosen, window=window, stride=stride, wide=wide, nested=nested
            )
            kept = [*([by] if by else []), *table.choice.kept_names]
            if table.samples and plan.rows_per_step and not nested:
                kept += ["sequence", "step"]
            shapes = []
            for index, each in zip(chosen, plan.per_step, strict=True):
                shape = form.outputs[index].shape[each:]
                shapes.append(tuple(1 if size is None else size for size in shape))
            with cleaned_up(), replacing(out) as file, _ticking(table, progress) as tick:
                names = [form.outputs[index].name for index in chosen]
                settings: dict[str, Any] = {}
                if target_format == "csv":
                    settings["delimiter"] = delimiter_of(out, delimiter)
                writer = WRITERS[target_format](file, kept, names, shapes, **settings)
                predictor = Predictor(runtime, form, table, plan, writer.rows, batch_size, tick)
                predictor.run()
                writer.close()
            skipped = table.numbers.report()
            if skipped:
                note("predict", skipped)
            if predictor.left_over and plan.rows_per_step:
                count = predictor.left_over
                rows = "last row has" if count == 1 else f"last {count} rows have"
                note(
                    "predict",
                    f"the {rows} no prediction: too few for another window of {plan.window}",
                )


@contextlib.contextmanager
def _ticking(table: Table, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Something to call with rows that have been read; shows a bar if that is wanted."""
    if not wanted:
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.completed:,.0f} rows"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("rows", total=table.rows)
        yield lambda rows: bar.advance(task, rows)
