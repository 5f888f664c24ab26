"""Tables of numbers: CSV, JSON lines, NumPy's .npy and Parquet, read and written in pieces.

A table's rows are time steps or samples; what they mean to a model is not known here. Lines of JSON
and arrays of one more dimension may hold whole sequences.
"""

from __future__ import annotations

import os

from recurra.cli.failures import UsageError
from recurra.cli.files import STANDARD

FORMATS = ("csv", "jsonl", "npy", "parquet")

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".npy": "npy",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def format_of(path: str, given: str | None, option: str) -> str:
    """The format of a file: as said, or as its name ends; CSV for standard input and output.

    Raises:
        UsageError: if neither says.
    """
    if given is not None:
        if given not in FORMATS:
            raise UsageError(f"{option} {given}: not known; choose one of {', '.join(FORMATS)}.")
        return given
    if path == STANDARD:
        return "csv"
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix == ".gz":
        raise UsageError(
            f"{path}: is compressed; decompress it on the way: gunzip -c {path} | recurra ... -"
        )
    known = ", ".join(_SUFFIXES)
    raise UsageError(
        f"{path}: the name does not tell the format (it would by {known}); "
        f"say it: {option} {'|'.join(FORMATS)}."
    )


def delimiter_of(path: str, given: str | None) -> str:
    """What stands between the columns of a CSV file: as said, or a tab in .tsv, or a comma.

    Raises:
        UsageError: if it is not one character.
    """
    if given is None:
        return "\t" if path.lower().endswith(".tsv") else ","
    named = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";"}
    character = named.get(given, given)
    if len(character) != 1 or character in '"\r\n':
        raise UsageError(f"--delimiter {given!r}: expected one character, as ';' or tab.")
    return character
