"""`recurra trace`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recurra.cli.failures import CommandError, UsageError, note, told
from recurra.cli.options import (
    COLUMNS,
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
    from recurra.cli.form import Form
    from recurra.cli.sequences import Batch, Sample
    from recurra.cli.tables.reading import Table

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_RESULTS = "Results"

_FEW = 16
"""Sequences that are traced unless something else is said."""


@app.command()
def trace(
    model: TrainedModel,
    data: DataTable,
    html: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write a page for the browser.", rich_help_panel=_RESULTS
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write all arrays, as .npz: recurra.insight.Trace.load reads it.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="Print what stands out: saturated gates, dead units, memory lengths. Done anyway "
            "if nothing else is asked for.",
            rich_help_panel=_RESULTS,
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print that as one JSON object.", rich_help_panel=_RESULTS),
    ] = False,
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Some of the layers.", rich_help_panel=_RESULTS),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Of the page.", rich_help_panel=_RESULTS)
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(
            metavar="MB",
            min=0.1,
            max=2000,
            help="What does not fit into a page of so many megabytes (24) is left out, and the "
            "page says so.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    rows: Annotated[
        int,
        typer.Option(min=1, help="How many sequences or windows: the first.", rich_help_panel=ROWS),
    ] = _FEW,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Windows of so many rows. Without: the table is one sequence, or the model's own "
            "number of steps.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows from one window to the next; a whole window without.",
            rich_help_panel=ROWS,
        ),
    ] = None,
    by: By = None,
    skip_bad: SkipBad = False,
    missing: Missing = None,
    columns: Features = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="What each sequence is, or each step of one; the page shows it.",
            rich_help_panel=COLUMNS,
        ),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The text of each step, as words; the page colours it by a unit's activity.",
            rich_help_panel=COLUMNS,
        ),
    ] = None,
    mask: MaskColumn = None,
    forecast: Annotated[
        bool,
        typer.Option(
            "--forecast",
            help="The outputs are the steps after the last one; the page draws them there.",
            rich_help_panel=_RESULTS,
        ),
    ] = False,
    forecast_of: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Likewise, of this feature: the page draws its past before them.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    input_format: InputFormat = None,
    header: Header = None,
    delimiter: Delimiter = None,
) -> None:
    """Look into a model while it runs: every state and gate at every step."""
    with told():
        from recurra.cli.files import check_input
        from recurra.cli.form import Form
        from recurra.cli.models import load
        from recurra.cli.predicting import make_plan
        from recurra.cli.sequences import batch_of, first_sequences
        from recurra.cli.tables import format_of
        from recurra.cli.tables.columns import Wanted, listed
        from recurra.cli.tables.opening import choose_columns, open_table
        from recurra.insight.report.sizes import MAX_BYTES

        for_page = {
            "--title": title,
            "--labels": labels,
            "--tokens": tokens,
            "--forecast": forecast,
            "--forecast-of": forecast_of,
            "--max-size": max_size,
        }
        _check_results(html, save, [model, data], for_page)
        source_format = format_of(data, input_format, "--input-format")
        check_input(data, "a table of numbers")
        kept = [name for name in (labels, tokens) if name is not None]
        wanted = Wanted(listed(columns), kept, by, mask, carries=False)
        runtime = load(model)
        form = Form(runtime)
        with open_table(data, source_format, form, delimiter, header) as table:
            choose_columns(table, form, wanted, missing=missing, skip_bad=skip_bad)
            plan = make_plan(form, table, [], window=window, stride=stride, wide=False, nested=True)
            samples, more = first_sequences(form, table, plan, rows)
            features = _feature_names(form, table)
            going_on = _feature(forecast_of, form, features)
            skipped = table.numbers.report()
        if skipped:
            note("trace", skipped)
        batch = batch_of(form, samples)
        traced = _trace(runtime, form, batch, listed(layers) or None, data)
        notes = []
        if more:
            count = "The first sequence" if rows == 1 else f"The first {rows:,} sequences"
            notes.append(f"{count} of {data}; --rows says how many.")
        if html is not None:
            about = {
                "labels": _labels(samples, None if labels is None else 0),
                "tokens": _texts(samples, form, None if tokens is None else len(kept) - 1),
                "features": features,
                "forecast": forecast if going_on is None else going_on,
                "title": title,
                "max_bytes": MAX_BYTES if max_size is None else int(max_size * 2**20),
                "rows": len(samples),
                "names": [sample.name for sample in samples],
                "notes": notes,
            }
            notes = _write_page(traced, html, about)
        for line in notes:
            note("trace", line)
        if save is not None:
            traced.save(save)
        if as_json:
            import json

            print(json.dumps(traced.summary().to_dict(), indent=2))
        elif summary or (html is None and save is None):
            _print(traced.summary())


def _check_results(
    html: str | None, save: str | None, inputs: Sequence[str], html_only: dict[str, Any]
) -> None:
    """Refuse what cannot be written before anything is computed."""
    from recurra.cli.files import check_output, require_output
    from recurra.insight.report.writing import check_path

    if html is None:
        for option, given in html_only.items():
            if given not in (None, False):
                raise UsageError(f"{option} is about the page: give --html FILE too.")
        if save is None:
            require_output()
    else:
        try:
            check_path(html)
        except ValueError as error:
            raise UsageError(f"--html {error}") from None
        check_output(html, inputs)
    if save is not None:
        if not save.lower().endswith(".npz"):
            raise UsageError(f"--save {save}: expected a name that ends in .npz, as trace.npz.")
        folder = os.path.dirname(save) or "."
        if not os.path.isdir(folder):
            raise CommandError(f"{save}: there is no folder {folder!r}; make it, or name another.")
        check_output(save, inputs)


def _trace(runtime: Any, form: Form, batch: Batch, layers: list[str] | None, data: str) -> Any:
    from recurra.cli.sequences import check_padding
    from recurra.insight.tracing import trace

    try:
        traced = trace(runtime, batch.x, mask=batch.mask, layers=layers)
    except KeyError as error:
        raise CommandError(f"--layers: {error.args[0]}") from None
    except ValueError as error:
        raise CommandError(f"{data}: {error}") from None
    if not traced.layers:
        raise CommandError(
            "the model has no recurrent layer, so there is nothing to trace; `recurra info` lists "
            "its layers."
        )
    check_padding(runtime, form, batch, list(traced.outputs.values()))
    return traced


def _write_page(traced: Any, path: str, about: dict[str, Any]) -> list[str]:
    """Write the page; what it has left out, in sentences."""
    from recurra.cli.files import replacing
    from recurra.cli.signals import cleaned_up
    from recurra.insight.report.sizes import PageTooLarge
    from recurra.insight.report.writing import report_page

    try:
        page, notes = report_page(traced, **about)
    except PageTooLarge as error:
        enough = math.ceil(error.needed / 2**20 * 10) / 10
        raise CommandError(
            f"--max-size is too small for this trace: the least page has {enough:g} MB. Say "
            f"--max-size {enough:g}, or look at some of the layers: --layers "
            f"{','.join(list(traced.layers)[:1])}"
        ) from None
    except ValueError as error:
        raise CommandError(f"--html {path}: {error}") from None
    with cleaned_up(), replacing(path) as file:
        file.write(page)
    return notes


def _feature_names(form: Form, table: Table) -> dict[str, list[str]] | None:
    """Names of the columns that each input has, or their positions."""
    if table.samples:
        return None
    columns = table.choice.inputs
    names = [str(c + 1) if table.names is None else table.names[c] for c in columns]
    found, first = {}, 0
    for entry in form.inputs:
        found[entry.name] = names[first : first + entry.width]
        first += entry.width
    return found


def _feature(
    wanted: str | None, form: Form, features: dict[str, list[str]] | None
) -> str | int | None:
    """The feature that is forecast, as reports take it.

    Raises:
        UsageError: if there is none of this name.
    """
    if wanted is None:
        return None
    along = [entry for entry in form.inputs if entry.steps]
    if features is None:  # sequences whose columns have no names: by position
        most = max((entry.width for entry in along), default=0)
        if not wanted.isdecimal() or not 1 <= int(wanted) <= most:
            raise UsageError(
                f"--forecast-of {wanted}: expected the position of a feature, 1 to {most}."
            )
        return int(wanted) - 1
    known = [name for entry in along for name in features[entry.name]]
    if wanted not in known:
        raise UsageError(
            f"--forecast-of {wanted}: the model is given no such column at each time step; it is "
            f"given {', '.join(known)}."
        )
    return wanted


def _labels(samples: Sequence[Sample], place: int | None) -> Any:
    """A label for each sequence: the column's, if it is one for all of its rows.

    Otherwise the column has labels of single steps. None without a column.
    """
    if place is None:
        return None
    cells = [sample.cells(place) for sample in samples]
    if all(each is None or len(set(map(str, each))) == 1 for each in cells):
        return [sample.cell(place) for sample in samples]
    return [[] if each is None else each for each in cells]


def _texts(samples: Sequence[Sample], form: Form, place: int | None) -> list[list[Any]] | None:
    """The texts of each sequence's steps."""
    if place is None:
        return None
    texts = []
    for sample in samples:
        cells = sample.cells(place)
        if cells is None and isinstance(sample.kept[place], str):
            cells = list(sample.kept[place])
        if cells is None:
            raise CommandError(
                f"{sample.name}: --tokens expects a text for each time step, got "
                f"{sample.kept[place]!r:.60}."
            )
        steps = max(
            len(array)
            for entry, array in zip(form.inputs, sample.arrays, strict=True)
            if entry.steps
        )
        if len(cells) > steps:
            raise CommandError(
                f"{sample.name}: --tokens expects at most one text for each of its {steps} time "
                f"steps, got {len(cells)}."
            )
        texts.append(cells)
    return texts


def _print(summary: Any) -> None:
    import sys

    if not sys.stdout.isatty():
        print(summary)
        return
    from rich.console import Console

    Console(highlight=False).print(summary)
