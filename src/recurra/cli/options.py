"""Options that several commands share: how a table is read, and which columns are what."""

from __future__ import annotations

from typing import Annotated

import typer

from recurra.cli.failures import a_float32

ROWS = "Rows"
COLUMNS = "Columns"
FORMATS = "Formats"

TrainedModel = Annotated[
    str, typer.Argument(metavar="MODEL", help="A trained model: .keras, .h5 or .onnx.")
]
DataTable = Annotated[
    str,
    typer.Argument(metavar="DATA", help="A table: CSV, JSON lines, .npy, Parquet; - for stdin."),
]
By = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Each value's rows are a sequence.", rich_help_panel=ROWS),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave bad rows out, and count them.", rich_help_panel=ROWS),
]
Missing = Annotated[
    float | None,
    typer.Option(
        metavar="NUMBER",
        callback=a_float32,
        help="What to put for empty cells, NA and null; else they are bad.",
        rich_help_panel=ROWS,
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B,C",
        help="The model's features, in its order, by name (by position from 1 where columns "
        "have no names). Without: all but those below.",
        rich_help_panel=COLUMNS,
    ),
]
MaskColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="1 for rows that count, 0 else.", rich_help_panel=COLUMNS),
]
InputFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="csv, jsonl, npy or parquet; else by the file's name.",
        rich_help_panel=FORMATS,
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether CSV begins with names; else seen by itself.",
        show_default=False,
        rich_help_panel=FORMATS,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(metavar="CHARACTER", help="Of CSV, as ';' or tab.", rich_help_panel=FORMATS),
]
