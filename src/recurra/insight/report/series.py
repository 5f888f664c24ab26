"""A model's own inputs and outputs, and what it should have given, along the time axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recurra.insight.report.annotations import text_of
from recurra.insight.report.axes import Axes
from recurra.insight.report.encoding import Columns, floats_blob
from recurra.insight.report.sizes import MAX_CHANNELS, Sizes
from recurra.insight.tracing import Trace

Array = NDArray[Any]
Role = Literal["input", "output", "target"]

_NUMBERS = "biufV"
"""Kinds of arrays that are drawn; V: bfloat16, which is not NumPy's own."""


@dataclass(frozen=True)
class Series:
    """One of the arrays.

    Args:
        name: the model's, or the target's output's.
        role: what it is.
        values: (batch, time_steps, channels); one step if it has no axis.
        axis: its number; None without time steps.
        start: the axis's step that its first value belongs to.
        kind: "numbers", "indices" or "probabilities".
        names: of all channels; None if they have none.
        of: for a target, the output that it is for.
        forecast: whether it stands behind the axis's end.
        continues: the input and its channel that it goes on with; None if that is not known.
    """

    name: str
    role: Role
    values: Array
    axis: int | None
    start: int = 0
    kind: str = "numbers"
    names: Sequence[str] | None = None
    of: str | None = None
    forecast: bool = False
    continues: tuple[str, int] | None = None

    @property
    def channels(self) -> int:
        """How many it has."""
        return int(self.values.shape[-1])

    def data(self, axes: Axes, sizes: Sizes) -> dict[str, Any]:
        """The entry of the page's `series`."""
        columns = Columns(self.values.shape[1])
        mask = None
        if self.axis is not None and not self.forecast:
            columns = sizes.of(self.values.shape[1])
            mask = axes.all[self.axis].mask
        kept = min(self.channels, MAX_CHANNELS)
        names = None if self.names is None else [text_of(name) for name in self.names[:kept]]
        return {
            "name": self.name,
            "role": self.role,
            "of": self.of,
            "kind": self.kind,
            "axis": self.axis,
            "start": self.start,
            "continues": None if self.continues is None else list(self.continues),
            "columns": columns.count,
            "stride": columns.stride,
            "names": names,
            "total": self.channels,
            "channel_index": None if kept == self.channels else list(range(kept)),
            "rows": [
                floats_blob(
                    self.values[row, :, :kept], None if mask is None else mask[row], columns
                )
                for row in sizes.rows
            ],
        }


def series_of(
    trace: Trace,
    axes: Axes,
    *,
    targets: Any = None,
    features: Any = None,
    classes: Any = None,
    forecast: bool | str | int = False,
) -> list[Series]:
    """The inputs, the outputs, and the targets beside the outputs that they are for.

    Args:
        trace: whose they are.
        axes: of the trace.
        targets: an array like the output; or {output: array}.
        features: names of the input's channels; or {input: names}.
        classes: names of the output's channels; or {output: names}.
        forecast: whether outputs that do not run along the input go on where it ends; or the
            feature that they go on with.

    Raises:
        TypeError, ValueError: for names or targets that do not fit; the message says what would.
    """
    found = []
    named = _by_name(features, trace.inputs, "features", "input")
    for name, array in trace.inputs.items():
        if array.dtype.kind not in _NUMBERS:
            continue  # texts, which are no curves
        axis = axes.of(name)
        values = _three(array, axis is not None)
        indices = bool(np.issubdtype(array.dtype, np.integer)) and values.shape[-1] == 1
        names = _names(named.get(name), values.shape[-1], "features", name)
        kind = "indices" if indices else "numbers"
        found.append(Series(name, "input", values, axis, kind=kind, names=names))
    continued = _continued(found, forecast)
    named = _by_name(classes, trace.outputs, "classes", "output")
    asked = _by_name(targets, trace.outputs, "targets", "output")
    for place, (name, array) in enumerate(trace.outputs.items()):
        if array.dtype.kind not in _NUMBERS:
            continue
        axis, start, steps, ahead = _place(trace, axes, array, place, forecast is not False)
        values = _three(array, steps)
        names = _names(named.get(name), values.shape[-1], "classes", name)
        kind = _kind(trace, place, values)
        goes_on = continued if ahead and values.shape[-1] == 1 else None
        output = Series(
            name, "output", values, axis, start, kind, names, None, ahead, continues=goes_on
        )
        found.append(output)
        if name in asked:
            found.append(_target(output, asked[name], steps))
    return found


def row_facts(all_series: Sequence[Series], row: int) -> list[list[str]]:
    """What the model said about a row, and what is true, for the list of rows."""
    facts = []
    for series in all_series:
        if series.role == "input" or series.axis is not None:
            continue
        said = "true" if series.role == "target" else "predicted"
        outputs = [each for each in all_series if each.role == "output"]
        if len(outputs) > 1:
            said = f"{series.of or series.name}, {said}"
        text = _said(series, series.values[row, 0])
        if text:
            facts.append([said, text])
    return facts


def _continued(inputs: Sequence[Series], forecast: bool | str | int) -> tuple[str, int] | None:
    """The input and the number of the feature that is forecast."""
    if isinstance(forecast, bool):
        return None
    if not isinstance(forecast, str | int | np.integer):
        raise TypeError(f"forecast is {forecast!r:.60}; expected True, or a feature's name.")
    along = [series for series in inputs if series.axis is not None]
    for series in along:
        names = list(series.names or ())
        if isinstance(forecast, str):
            if forecast in names:
                return series.name, names.index(forecast)
        elif 0 <= forecast < series.channels:
            return series.name, int(forecast)
    known = [str(name) for series in along for name in series.names or ()]
    raise ValueError(
        f"forecast={forecast!r}: the model's inputs have no such feature; "
        + (
            f"there are {', '.join(map(repr, known))}."
            if known
            else "give features=[...], their names, or the feature's number from 0."
        )
    )


def _said(series: Series, values: Array) -> str:
    if not np.all(np.isfinite(values)):
        return "not a number"
    if series.kind != "probabilities" or len(values) == 1:
        return ", ".join(f"{value:.4g}" for value in values) if len(values) <= 3 else ""
    best = int(np.argmax(values))
    name = f"class {best}" if series.names is None else text_of(series.names[best])
    return name if series.role == "target" else f"{name} ({values[best]:.2f})"


def _place(
    trace: Trace, axes: Axes, array: Array, place: int, forecast: bool
) -> tuple[int | None, int, bool, bool]:
    """An output's axis and start, whether it has steps, and whether it is a forecast."""
    tensors = trace.structure.outputs
    tensor = tensors[place] if len(tensors) == len(trace.outputs) else None
    inputs = {axes.of(name) for name in trace.inputs} - {None}
    if array.ndim >= 3:
        axis = axes.of_output(tensor, array.shape[1])
        if not forecast or axis in inputs or not axes.all:
            return axis, 0, True, False
    if forecast and inputs:
        main = min(number for number in inputs if number is not None)
        return main, axes.all[main].time_steps, True, True
    return None, 0, False, False


def _three(array: Array, steps: bool) -> Array:
    """(batch, time_steps, channels): with one step for what has none."""
    values = np.asarray(array)
    if not steps:
        return values.reshape(len(values), 1, -1)
    if values.ndim == 1:
        return values.reshape(len(values), 1, 1)
    return values.reshape(len(values), values.shape[1], -1)


def _kind(trace: Trace, place: int, values: Array) -> str:
    tensors = trace.structure.outputs
    maker = trace.structure.maker(tensors[place]) if len(tensors) > place else None
    if maker is not None:
        activation = maker.config.get("activation")
        if activation in ("softmax", "sigmoid"):
            return "probabilities"
    known = values[np.isfinite(values).all(axis=-1)]
    if values.shape[-1] > 1 and len(known) and known.min() >= 0:
        return "probabilities" if np.allclose(known.sum(axis=-1), 1, atol=1e-3) else "numbers"
    return "numbers"


def _target(output: Series, target: Any, steps: bool) -> Series:
    """A target like its output; of classes also their numbers."""
    values = np.asarray(target)
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
        raise TypeError(
            f"targets for {output.name!r} holds {values.dtype}; expected numbers. Names of what a "
            "row is go into labels=."
        )
    batch, time_steps, channels = output.values.shape
    expected = (batch, time_steps, channels)
    whole = math.prod(expected)
    of_classes = output.kind == "probabilities" or values.dtype.kind in "iu"
    if of_classes and channels > 1 and values.size == batch * time_steps:
        numbers = values.reshape(batch, time_steps)
        if not np.all((numbers >= 0) & (numbers < channels) & (numbers == np.rint(numbers))):
            raise ValueError(
                f"targets for {output.name!r} must be numbers of classes from 0 to {channels - 1}; "
                f"got {values.min():g} to {values.max():g}."
            )
        values = np.eye(channels, dtype=np.float32)[numbers.astype(int)]
    elif values.size != whole or len(values) != batch:
        raise ValueError(
            f"targets for {output.name!r} has shape {values.shape}; expected that of the output, "
            f"{expected if steps else (batch, channels)}"
            + (" or a class for each" if output.kind == "probabilities" else "")
            + "."
        )
    return Series(
        f"{output.name}, true",
        "target",
        values.reshape(expected).astype(np.float32),
        output.axis,
        output.start,
        output.kind,
        output.names,
        output.name,
        output.forecast,
        output.continues,
    )


def _by_name(given: Any, arrays: Mapping[str, Array], option: str, what: str) -> dict[str, Any]:
    """What is given for each of the arrays, by their names."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in arrays]
        if unknown:
            raise ValueError(
                f"{option} has the key {unknown[0]!r}, but the model has no such {what}; it has "
                f"{', '.join(map(repr, arrays))}."
            )
        return dict(given)
    if len(arrays) > 1:
        raise ValueError(
            f"the model has {len(arrays)} {what}s, so say for which {option} are: "
            f"{option}={{{next(iter(arrays))!r}: ...}}; there are {', '.join(map(repr, arrays))}."
        )
    return dict.fromkeys(arrays, given)


def _names(names: Any, channels: int, option: str, of: str) -> list[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise TypeError(f"{option} is {names!r:.60}; expected a list of {channels} names.")
    listed = list(names)
    if len(listed) != channels:
        raise ValueError(
            f"{option} has {len(listed)} names, but {of!r} has {channels} values at each step: "
            "give one for each, in their order."
        )
    return listed
