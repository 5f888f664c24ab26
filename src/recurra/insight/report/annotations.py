"""What the user says about the samples of a report: labels and tokens, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.insight.report.axes import Axes


@dataclass(frozen=True)
class Tokens:
    """Texts of an axis's steps: for each row of the trace one list, perhaps shorter."""

    axis: int
    rows: list[list[str]]

    def items(self, row: int, axes: Axes) -> list[str]:
        """A row's texts, beginning at the axis's first step.

        Where there are as many as the row has real steps, they are those steps' texts: padding may
        stand before them.
        """
        texts, axis = self.rows[row], axes.all[self.axis]
        real = None if axis.mask is None else np.flatnonzero(axis.mask[row])
        if real is None or len(real) != len(texts) or len(texts) == axis.time_steps:
            return texts
        placed = [""] * (int(real[-1]) + 1 if len(real) else 0)
        for step, text in zip(real.tolist(), texts, strict=True):
            placed[step] = text
        return placed


def labels_of(
    labels: Any, batch: int, axes: Axes
) -> tuple[list[str] | None, list[list[str]] | None]:
    """Labels as texts: one per row, or one per step of each row.

    Raises:
        TypeError: if they are no sequence.
        ValueError: if there are too few or too many, or an array of another shape.
    """
    if labels is None:
        return None, None
    if hasattr(labels, "__array__"):
        labels = _column(np.asarray(labels), axes)
    rows = _rows(labels, "labels", "row", batch)
    if rows and all(_is_list(row) for row in rows):
        return None, [[text_of(item) for item in row] for row in rows]
    return [text_of(row) for row in rows], None


def _column(labels: Any, axes: Axes) -> Any:
    """An array (batch,), or (batch, time_steps); axes of one label are left out."""
    steps = [axis.time_steps for axis in axes.all]
    shape = labels.shape
    while labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.ndim > 2 or (labels.ndim == 2 and labels.shape[1] not in steps):
        have = " or ".join(f"({shape[0]}, {count})" for count in dict.fromkeys(steps))
        raise ValueError(
            f"labels has shape {shape}; expected one label for each row, ({shape[0]},), or one for "
            f"each step{', ' if have else ''}{have}. Of classes as they are for a loss (one-hot), "
            "give the numbers, labels.argmax(-1), or their names."
        )
    return labels


def tags_of(tags: list[list[str]] | None, axes: Axes) -> Tokens | None:
    """Labels of single steps, on the axis that has as many.

    Raises:
        ValueError: if there is none.
    """
    return None if tags is None else Tokens(_axis_for(tags, axes, "labels"), tags)


def tokens_of(tokens: Any, axes: Axes, batch: int, inputs: Mapping[str, Any]) -> list[Tokens]:
    """Tokens as texts, each on the axis whose steps they are.

    Args:
        tokens: for each row a text for each step (or a string: its characters); or a mapping from
            the name of an input or a layer to such; or, for a model that takes indices, a mapping
            from index to text.
        axes: of the trace.
        batch: rows of the trace.
        inputs: the model's.

    Raises:
        TypeError, ValueError: if they do not fit the trace; the message says what would.
    """
    if tokens is None:
        return []
    if isinstance(tokens, Mapping):
        if tokens and all(_is_index(key) for key in tokens):
            return _from_vocabulary(tokens, axes, inputs)
        found = []
        for name, rows in tokens.items():
            axis = axes.of(name)
            if axis is None:
                known = [member for each in axes.all for member in each.members]
                raise ValueError(
                    f"tokens has the key {name!r}, which is no input with time steps and no layer "
                    f"of the trace; expected one of {', '.join(map(repr, known))}, or integers: "
                    "{index: text}."
                )
            texts = _token_rows(rows, f"tokens[{name!r}]", batch)
            steps = axes.all[axis].time_steps
            _check_lengths(texts, f"tokens[{name!r}]", steps, f"{name!r} has {steps}")
            found.append(Tokens(axis, texts))
        return found
    texts = _token_rows(tokens, "tokens", batch)
    return [Tokens(_axis_for(texts, axes, "tokens"), texts)]


def text_of(item: Any) -> str:
    """A label or a token as text."""
    if isinstance(item, str):
        return item
    if isinstance(item, bytes):
        return item.decode("utf-8", "replace")
    if item is None:
        return ""
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, float):
        return f"{item:g}"
    return str(item)


def _rows(value: Any, name: str, what: str, batch: int) -> list[Any]:
    """A sequence with one item for each row of the trace."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise TypeError(
            f"{name} is {type(value).__name__} ({value!r:.60}); expected a list with one {what} "
            f"for each of the {_count(batch, 'row')} that were traced."
        )
    rows = list(value)
    if len(rows) != batch:
        hint = ""
        if batch == 1:
            hint = f" For the only row, write {name}=[...] around it."
        raise ValueError(
            f"{name} has {_count(len(rows), 'item')}, but {_count(batch, 'row')} "
            f"{'was' if batch == 1 else 'were'} traced; give one for each, in their order.{hint}"
        )
    return rows


def _token_rows(value: Any, name: str, batch: int) -> list[list[str]]:
    rows = _rows(value, name, "list of texts", batch)
    for index, row in enumerate(rows):
        if not isinstance(row, str) and not _is_list(row):
            raise TypeError(
                f"{name}[{index}] is {row!r:.60}; expected the texts of row {index}'s steps: a "
                "list of strings, or one string for its characters."
            )
    return [[text_of(item) for item in row] for row in rows]


def _axis_for(rows: Sequence[Sequence[str]], axes: Axes, name: str) -> int:
    """The axis with just as many steps as the longest row; else the first that is long enough."""
    longest = max((len(row) for row in rows), default=0)
    if not axes.all:
        raise ValueError(f"{name} has texts for time steps, but nothing in the trace has any.")
    for index, axis in enumerate(axes.all):
        if axis.time_steps == longest:
            return index
    for index, axis in enumerate(axes.all):
        if axis.time_steps > longest:
            return index
    lengths = ", ".join(f"{axis.name!r} has {axis.time_steps}" for axis in axes.all)
    _check_lengths(rows, name, max(axis.time_steps for axis in axes.all), lengths)
    raise AssertionError("one of the rows is too long")


def _check_lengths(rows: Sequence[Sequence[str]], name: str, steps: int, have: str) -> None:
    for index, row in enumerate(rows):
        if len(row) > steps:
            raise ValueError(
                f"{name}[{index}] has {_count(len(row), 'text')}, but there are not so many time "
                f"steps: {have}. Give at most one for each step; fewer leave the rest without."
            )


def _from_vocabulary(words: Mapping[Any, Any], axes: Axes, inputs: Mapping[str, Any]) -> list[Any]:
    """The texts of every input of indices, by a mapping from index to text."""
    texts = {int(index): text_of(word) for index, word in words.items()}
    found = []
    for name, array in inputs.items():
        axis = axes.of(name)
        if axis is None or array.ndim != 2:
            continue
        if not np.array_equal(array, np.rint(array)):
            continue
        rows = [[texts.get(int(item), f"#{int(item)}") for item in row] for row in array]
        found.append(Tokens(axis, rows))
    if not found:
        shapes = ", ".join(f"{name!r} {np.shape(array)}" for name, array in inputs.items())
        raise ValueError(
            "tokens maps indices to texts, but the model takes no indices (batch, time_steps); it "
            f"was given {shapes}. Give a list of texts for each row."
        )
    return found


def _is_list(value: Any) -> bool:
    return not isinstance(value, str | bytes | Mapping) and hasattr(value, "__len__")


def _is_index(key: Any) -> bool:
    return isinstance(key, int | np.integer) and not isinstance(key, bool)


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
