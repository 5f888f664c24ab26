"""The table at the end of `recurra run --report`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_MOST = 40  # rows; a program that makes layers in a loop would print thousands


def show(rows: Sequence[Any], remarks: Sequence[str], file: IO[str] | None = None) -> None:
    """Print what ran on what.

    Args:
        rows: of `recurra.layers.usage.Row`.
        remarks: sentences that go beneath the table, or in its place if there are no rows.
        file: where to; standard error by default.
    """
    file = file or sys.stderr
    # A pipe has no width of its own, and a table broken at 80 columns cannot be searched.
    wide = None if file.isatty() or "COLUMNS" in os.environ else 160
    console = Console(file=file, width=wide, highlight=False)
    console.print()
    if rows:
        table = Table(title="Recurrent layers, and what ran them", title_justify="left")
        for heading in ("layer", "class", "calls", "runs on", "why", "to change"):
            table.add_column(
                heading,
                justify="right" if heading == "calls" else "left",
                overflow="fold",
                no_wrap=heading in ("calls", "runs on"),
            )
        shown = _merged(rows)
        for row in shown[:_MOST]:
            runs = "Keras's scan" if row.engine == "keras" else f"engine ({row.engine})"
            table.add_row(
                Text(row.name),
                Text(row.layer),
                str(row.calls),
                Text(runs, style="yellow" if row.engine == "keras" else "green"),
                Text(row.reason),
                Text(row.advice),
            )
        console.print(table)
        if len(shown) > _MOST:
            console.print(f"and {len(shown) - _MOST} rows more")
        on_scan = sum(row.engine == "keras" for row in shown)
        if on_scan == len(shown):
            outcome = "Nothing ran on Recurra's engine."
        elif on_scan:
            outcome = (
                f"{len(shown) - on_scan} of {len(shown)} rows ran on Recurra's engine, {on_scan} "
                "on Keras's scan."
            )
        else:
            outcome = "All ran on Recurra's engine."
        console.print(f"{outcome} A layer in a compiled function is called once per compilation.")
    for remark in remarks:
        console.print(Text(remark))


def _merged(rows: Sequence[Any]) -> list[Any]:
    """Rows that say the same of layers of the same name, as one with the sum of their calls."""
    merged: dict[Any, Any] = {}
    for row in rows:
        key = replace(row, calls=0)
        merged[key] = replace(row, calls=row.calls + (merged[key].calls if key in merged else 0))
    return list(merged.values())
