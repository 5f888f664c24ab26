"""`recurra explain`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from recurra.cli.failures import CommandError, UsageError, told

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_DATA = "Data"

_LOOKED_AT = 1024
"""Sequences of a table."""


@app.command()
def explain(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A saved model: .keras, .h5 or .onnx.")
    ],
    layer: Annotated[
        str | None,
        typer.Argument(metavar="[LAYER]", help="One of its recurrent layers, by name."),
    ] = None,
    brief: Annotated[bool, typer.Option("--brief", help="Say less.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Explain every recurrent layer, one by one.")
    ] = False,
    lint: Annotated[
        bool,
        typer.Option("--lint", help="Only the common mistakes; the exit code is 1 if there are."),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Look for padding that no mask leaves out in this table too, as `recurra predict` "
            "reads it.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,C",
            help="Of the table: the model's features, in its order.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Each value's rows are a sequence.", rich_help_panel=_DATA
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(min=1, help="Sequences are windows of so many rows.", rich_help_panel=_DATA),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="As a page with the model's diagram; - is stdout."),
    ] = None,
) -> None:
    """Tell what a model's layers take, do and return, where masks and states go, and mistakes."""
    with told():
        from recurra.cli.files import check_output, replacing, require_output

        if brief and full:
            raise UsageError("--brief and --full ask for opposite things; leave one out.")
        if as_json and html is not None:
            raise UsageError("--json and --html both say what to write; leave one out.")
        if lint and html is not None:
            raise UsageError("--html writes the whole explanation; leave --lint or --html out.")
        if data is None and (columns or by or window):
            raise UsageError("--columns, --by and --window are about a table: give --data too.")
        if html is not None:
            check_output(html, [model, *([data] if data else [])])
        require_output()
        x = None if data is None else _read(model, data, columns, by, window)
        detail = "brief" if brief else "full" if full else "normal"
        explanation = _explanation(model, layer, x, detail)
        if lint:
            raise typer.Exit(_tell_findings(explanation, as_json))
        if html is not None:
            with replacing(html) as file:
                file.write(explanation.html().encode())
        elif as_json:
            _print_json(explanation.to_dict())
        else:
            _show(explanation)


def _read(
    model: str, data: str, columns: list[str] | None, by: str | None, window: int | None
) -> Any:
    """The first sequences of a table, as the model takes them."""
    from recurra.cli.files import check_input
    from recurra.cli.form import Form
    from recurra.cli.models import load
    from recurra.cli.predicting import make_plan
    from recurra.cli.sequences import batch_of, first_sequences
    from recurra.cli.tables import format_of
    from recurra.cli.tables.columns import Wanted, listed
    from recurra.cli.tables.opening import choose_columns, open_table

    kind = format_of(data, None, "--data")
    check_input(data, "a table of numbers")
    form = Form(load(model))
    with open_table(data, kind, form, None, None) as table:
        wanted = Wanted(listed(columns), [], by, None, carries=False)
        choose_columns(table, form, wanted)
        plan = make_plan(form, table, [], window=window, stride=None, wide=False, nested=True)
        samples, _ = first_sequences(form, table, plan, _LOOKED_AT)
    return batch_of(form, samples).x


def _explanation(model: str, layer: str | None, x: Any, detail: Any) -> Any:
    from recurra.cli.models import check

    check(model)
    import recurra

    found = recurra.explain(model, x, detail=detail)
    if layer is None:
        return found
    try:
        return found[layer]
    except KeyError as error:
        raise CommandError(f"{model}: {error.args[0]}") from None


def _tell_findings(explanation: Any, as_json: bool) -> int:
    """Print what lint found; 1 if any of it is more than a hint."""
    findings = explanation.findings
    if as_json:
        _print_json({"findings": [finding.to_dict() for finding in findings]})
    else:
        for finding in findings:
            print(finding)
        if not findings:
            print("No common mistakes.")
    return int(any(finding.severity != "hint" for finding in findings))


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))


def _show(explanation: Any) -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(explanation)
        return
    text = str(explanation)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode("ascii", "replace").decode()
    print(text)


_PLAIN = {
    ord(sign): plain
    for sign, plain in {
        "→": "->",
        "←": "<-",
        "·": "*",
        "∘": "o",
        "│": "|",
        "┆": ":",
        "…": "...",
    }.items()
}
"""Signs for streams that have none of ours, as some on Windows."""
