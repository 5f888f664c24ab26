"""Which columns of a table are a model's inputs, and which go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from recurra.cli.failures import CommandError, UsageError


@dataclass(frozen=True)
class Wanted:
    """What the user says about columns, by name or, without names, by position from 1.

    carries: whether the command has an output that `--keep` carries columns over to.
    """

    columns: Sequence[str] = ()
    keep: Sequence[str] = ()
    by: str | None = None
    mask: str | None = None
    carries: bool = True


@dataclass(frozen=True)
class Choice:
    """Columns by their positions from 0.

    Args:
        inputs: the model's, in its order.
        keep: carried over to the output.
        by: tells the groups apart.
        mask: says which rows count.
        names: of all columns; None where they have none.
    """

    inputs: Sequence[int]
    keep: Sequence[int] = ()
    by: int | None = None
    mask: int | None = None
    names: list[str] | None = None
    integers: Sequence[bool] = field(default=())

    def label(self, column: int) -> str:
        """What a message calls a column."""
        return f"column {label(self.names, column)}"

    @property
    def kept_names(self) -> list[str]:
        if self.names is None:
            return [f"column_{column + 1}" for column in self.keep]
        return [self.names[column] for column in self.keep]


def label(names: list[str] | None, column: int) -> str:
    """A column's name in quotes, or its position from 1."""
    return str(column + 1) if names is None else repr(names[column])


def listed(options: Sequence[str] | None) -> list[str]:
    """Names given as `a,b,c`, or by several options."""
    names = [name.strip() for option in options or () for name in option.split(",")]
    if not all(names):
        raise UsageError(f"got an empty name in {','.join(options or ())!r}.")
    return names


def choose(
    source: str,
    names: list[str] | None,
    width: int,
    wanted: Wanted,
    integers: Sequence[bool],
    first: Sequence[object] = (),
) -> Choice:
    """Find the columns that are asked for, or take all for a model of just so many.

    Args:
        source: the table's name, for messages.
        names: of its columns; None if they have none.
        width: how many columns it has.
        wanted: the user's words.
        integers: for each feature that the model takes, whether it has to be an integer.
        first: the first row's cells, to tell which columns cannot be features.

    Raises:
        CommandError: if a column is not there, or there are too few or too many.
    """

    def find(name: str) -> int:
        if names is not None and name in names:
            if names.count(name) > 1:
                raise CommandError(f"{source}: {names.count(name)} columns are called {name!r}.")
            return names.index(name)
        if names is None and name.isdecimal() and 1 <= int(name) <= width:
            return int(name) - 1
        raise CommandError(_missing(source, names, width, name))

    keep = [find(name) for name in wanted.keep]
    by = None if wanted.by is None else find(wanted.by)
    mask = None if wanted.mask is None else find(wanted.mask)
    features = len(integers)
    if wanted.columns:
        inputs = [find(name) for name in wanted.columns]
        if len(inputs) != features:
            raise CommandError(
                f"--columns names {_count(len(inputs), 'column')} "
                f"({', '.join(wanted.columns)}), but the model takes {features}."
            )
    else:
        aside = {*keep, by, mask}
        inputs = [column for column in range(width) if column not in aside]
        if len(inputs) != features:
            raise CommandError(_mismatch(source, names, inputs, features, first, wanted.carries))
    return Choice(inputs, keep, by, mask, names, tuple(integers))


def _missing(source: str, names: list[str] | None, width: int, name: str) -> str:
    if names is None:
        return (
            f"{source}: has no names of columns, so there is no {name!r}; "
            f"say a position from 1 to {width}"
            + (", or --header if the first line has the names." if source else ".")
        )
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    if not near:
        near = [other for other in names if other.lower() == name.lower()]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{source}: no column {name!r}; there are {_some(names)}.{hint}"


def _mismatch(
    source: str,
    names: list[str] | None,
    inputs: Sequence[int],
    features: int,
    first: Sequence[object],
    carries: bool,
) -> str:
    called = "" if names is None else f" ({_some([names[column] for column in inputs])})"
    has = f"{source}: has {_count(len(inputs), 'column')}{called}, but the model takes {features}"
    if len(inputs) < features:
        hint = ""
        if len(inputs) == 1 and first and any(mark in str(first[0]) for mark in ";\t|"):
            hint = " If columns are separated otherwise, say so: --delimiter ';' or tab."
        return f"{has}.{hint}"
    words = [column for column in inputs if column < len(first) and not _is_number(first[column])]
    if words and len(inputs) - len(words) == features:
        if not carries:
            left = [column for column in inputs if column not in words]
            which = ",".join(str(c + 1) if names is None else names[c] for c in left)
            return f"{has}: choose them, in the model's order: --columns {which}"
        which = ",".join(str(c + 1) if names is None else names[c] for c in words)
        return f"{has}. Set the others aside, and carry them over to the output: --keep {which}"
    some = inputs[:features]
    example = ",".join(str(column + 1) if names is None else names[column] for column in some)
    return f"{has}: choose them, in the model's order, as by --columns {example}"


def _is_number(cell: object) -> bool:
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", ... {len(names)} in all" if len(names) > 12 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
