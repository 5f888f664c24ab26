"""Opening a table of any format, and saying which of its columns are what."""

from __future__ import annotations

from recurra.cli.failures import UsageError
from recurra.cli.form import Form
from recurra.cli.tables.columns import Wanted
from recurra.cli.tables.reading import Table


def open_table(
    path: str, kind: str, form: Form, delimiter: str | None, header: bool | None
) -> Table:
    """A table of a format, open; UsageError for options that are not for it."""
    if kind != "csv" and (delimiter is not None or header is not None):
        raise UsageError("--delimiter, --header and --no-header are for CSV.")
    if kind == "csv":
        from recurra.cli.tables import delimiter_of
        from recurra.cli.tables.csv_tables import CsvTable

        return CsvTable(path, delimiter=delimiter_of(path, delimiter), header=header)
    if kind == "jsonl":
        from recurra.cli.tables.json_lines import JsonTable

        return JsonTable(path, form)
    from recurra.cli.tables.arrays import NpyTable, ParquetTable

    return NpyTable(path, form) if kind == "npy" else ParquetTable(path)


def choose_columns(
    table: Table,
    form: Form,
    wanted: Wanted,
    *,
    missing: float | None = None,
    skip_bad: bool = False,
) -> None:
    """Say which columns of an open table a model is given; before anything is read.

    Raises:
        CommandError: if a column is not there, or there are too few or too many.
        UsageError: if a column is asked for that sequences on lines of their own do not have.
    """
    table.choose(wanted, form.integers, missing=missing, skip_bad=skip_bad, limits=form.limits)
    options = {"--by": wanted.by, "--mask": wanted.mask}
    given = [option for option, column in options.items() if column]
    if table.samples and given:
        raise UsageError(
            f"{table.source} holds whole sequences; {' and '.join(given)} "
            f"{'is' if len(given) == 1 else 'are'} for tables with a time step in each row."
        )
