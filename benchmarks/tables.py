"""Results that come with their table: how they are described, shown and kept.

Programs beside run.py measure what does not fit its turns; page.py puts their tables into the
documents.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

from turns import allowed_cpus, processor

RESULTS = Path(__file__).with_name("results")


def machine(versions: dict[str, str], dtype: str = "float32") -> dict[str, Any]:
    """Where and with what numbers were made."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": len(allowed_cpus()),
        "dtype": dtype,
        "versions": {"python": platform.python_version(), **versions},
    }


def status(field: str, process: int | str = "self") -> int:
    """A size of a process in bytes, as Linux counts it: "VmRSS", "VmHWM"."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads memory from /proc/self/status, which only Linux has")


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    rows = [report["columns"], *report["rows"]]
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)))


def keep(name: str, report: dict[str, Any], *, record: bool) -> Path:
    """Write a report: what the documents are made from, or beside it."""
    path = RESULTS / f"{name}{'' if record else '.local'}.json"
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(path)
    return path


def record_option(parser: argparse.ArgumentParser) -> None:
    """The option to make the documents from what is measured."""
    parser.add_argument("--record", action="store_true", help="keep the results for the docs")
