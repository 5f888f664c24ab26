"""Writing a report: one HTML file that needs nothing else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recurra.insight.report.data import report_data
from recurra.insight.report.sizes import MAX_BYTES
from recurra.insight.tracing import Trace

SUFFIXES = (".html", ".htm")


def write_report(
    trace: Trace,
    path: str | os.PathLike[str],
    *,
    labels: Any = None,
    tokens: Any = None,
    targets: Any = None,
    features: Any = None,
    classes: Any = None,
    forecast: bool | str | int = False,
    rows: int | Sequence[int] | None = None,
    title: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Write a trace as one page for the browser, which works offline; see `Trace.report`.

    The page shows the model, and of each recurrent layer every unit's states and gates over the
    time steps. What does not fit into `max_bytes` is left out, and the page says so: the last rows
    go first. Where not even one fits, four or more steps share a column, which shows their mean,
    least and greatest value; and if that is not enough, the units that vary least are left out.
    Values are as in the trace where the page has up to 8 MB; in larger ones those of the layers are
    rounded to 1/254 of the range of their colours.

    Args:
        trace: of `recurra.trace`.
        path: an .html file; one that is there is replaced, in one piece.
        labels: what each row is, one for each: texts or numbers. Or, for each row, a list with one
            for each time step.
        tokens: for each row, the texts of its time steps: a list, or a string for its characters.
            Rows may be shorter than the input: what they lack is padding. Where encoder and
            decoder have tokens of their own: {"name of input or layer": [...]}. Of a model that
            takes indices also a vocabulary: {0: "", 1: "the", ...}.
        targets: what the output should have been: an array like it, or numbers of classes; or
            {"name of output": array}.
        features: names of the input's features; or {"name of input": names}.
        classes: names of the output's values; or {"name of output": names}.
        forecast: True if outputs continue the input: an output (batch, K) is then drawn as the K
            steps after the input's last one. Or, to see the past in the same drawing, the name or
            number of the feature that is forecast, if both are in the same units.
        rows: how many to show, or a list of their numbers; the first 32 without.
        title: of the page; the model's name without.
        max_bytes: how large the file may be.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: if the folder is not there.
        TypeError, ValueError: if something does not fit the trace; the message says what would.

    Example:
        >>> trace = recurra.trace(model, x_test[:20])
        >>> trace.report("report.html", labels=y_test[:20])
        PosixPath('report.html')
    """
    target = check_path(path)
    page, _ = report_page(
        trace,
        labels=labels,
        tokens=tokens,
        targets=targets,
        features=features,
        classes=classes,
        forecast=forecast,
        rows=rows,
        title=title,
        max_bytes=max_bytes,
    )
    _replace(target, page)
    return target


def report_page(
    trace: Trace, *, max_bytes: int = MAX_BYTES, **about: Any
) -> tuple[bytes, list[str]]:
    """The page that `write_report` writes, in UTF-8, and what it says to have left out.

    Args:
        trace, max_bytes, about: as of `write_report`; and `names`, `notes` as of `report_data`.
    """
    from recurra.insight.report.page import html_page

    empty = len(html_page({}).encode("utf-8"))  # to know how much its data may be
    data = report_data(trace, max_bytes=max_bytes, page_bytes=empty, **about)
    # "replace": of parts of characters, as file names and tables of other encodings have them.
    return html_page(data).encode("utf-8", "replace"), data["notes"]


def check_path(path: str | os.PathLike[str]) -> Path:
    """A report's path, if a report can be written there.

    Raises:
        TypeError, ValueError: if it is no name of an .html file.
        FileNotFoundError: if its folder is not there.
        IsADirectoryError: if it is a folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"path is {path!r:.60}; expected the name of an .html file, as 'report.html'."
        )
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(
            f"{target}: is a folder; name a file in it: {target / 'report.html'}."
        )
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{target}: a report is a page for the browser, so its name has to end in .html; call "
            f"it {str(target.with_suffix('.html'))!r}."
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{target}: there is no folder {str(target.parent)!r}; make it, or name another file."
        )
    return target


def _replace(path: Path, data: bytes) -> None:
    """Write a file in one piece: beside its place first, then there."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
