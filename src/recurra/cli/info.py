"""`recurra info`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from recurra.cli.failures import told

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_HEAD = ("layer", "class", "output shape", "parameters", "called on")


@app.command()
def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A trained model: .keras, .h5 or .onnx.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Tell what a model takes and gives, its layers, and whether it streams."""
    with told():
        from recurra.cli.facts import facts_of
        from recurra.cli.files import require_output

        require_output()
        facts = facts_of(model)
        if as_json:
            import json

            print(json.dumps(facts, indent=2))
        elif sys.stdout.isatty():
            _show(facts)
        else:
            print("\n".join([*(f"{name}: {value}" for name, value in _lines(facts)), ""]))
            print(_plain(facts["layers"]))


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts in words, but for the layers."""
    version = "" if facts["keras_version"] is None else f", Keras {facts['keras_version']}"
    lines = [
        ("file", f"{facts['file']} ({facts['file_bytes']:,} bytes)"),
        ("format", f"{facts['format']}{version}"),
        ("model", facts["model"]),
        ("digest", facts["digest"]),
    ]
    for what in ("inputs", "outputs"):
        for tensor in facts[what]:
            name = what.removesuffix("s")
            lines.append((name, f"{tensor['name']} {_shape(tensor['shape'])} {tensor['dtype']}"))
    lines.append(("parameters", f"{facts['parameters']:,}"))
    if facts["streams"]:
        lines.append(("streams", f"yes, {facts['state_bytes']:,} bytes of state for each session"))
    else:
        lines.append(("streams", f"no: {facts['reason']}"))
    return lines


def _rows(layers: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            layer["name"] + (" (shared)" if layer["shared"] else ""),
            layer["class"],
            ", ".join(_shape(shape) for shape in layer["output_shapes"]),
            f"{layer['parameters']:,}",
            ", ".join(layer["called_on"]),
        )
        for layer in layers
    ]


def _plain(layers: Sequence[dict[str, Any]]) -> str:
    """The layers in columns that a pipe can take apart at two spaces."""
    rows = [_HEAD, *_rows(layers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column == 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    about = Table.grid(padding=(0, 2))
    for name, value in _lines(facts):
        about.add_row(Text(name, "bold"), Text(value, overflow="fold"))
    console.print(about)
    table = Table()
    for column, heading in enumerate(_HEAD):
        table.add_column(heading, justify="right" if column == 3 else "left", overflow="fold")
    for row in _rows(facts["layers"]):
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _shape(shape: Sequence[int | None]) -> str:
    from recurra.runtime.arrays import shape_text

    return shape_text(shape)
