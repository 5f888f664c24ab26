"""What a report's page is given: `report_data(trace) -> dict`, and its schema.

The page holds this as one JSON object. Every text in it (names, labels, tokens, meanings) comes
from the model, its user or Recurra and is plain text, never HTML; the one exception is `diagram`,
markup that `diagram_svg` has made and escaped. What is not as in the trace (rows left out, steps
pooled) is said where it is, and once more, in sentences for people, in `notes`.

    {"format": "recurra-report", "version": 1,
     "title": "Temperature, hourly", "created": "2026-11-21 16:40", "recurra": "0.6.0",
     "notes": ["Rows: 3 of 40, the first ones ...", ...],
     "batch": 40,                            rows of the trace
     "loss": 0.31 | null,                    of the batch, if the trace has gradients
     "limits": {"max_bytes": 25165824, "rows": [3, 40], "units": null, "stride": 1,
                "exact": true},              for programs; units: how many a layer may show
     "model": {"name": "forecaster", "kind": "Functional", "source": "model.keras" or "",
               "parameters": 18753 | null, "gaps": [sentences]},
     "diagram": "<svg ...>" or "",           boxes of recurrent layers have data-path="lstm"
     "findings": [{"code": "R101", "severity", "where", "problem", "why", "advice"}, ...],
     "axes": [                               the kinds of time steps there are
         {"name": "encoder_inputs",          whose steps they are, for people
          "time_steps": 10000, "columns": 1250, "stride": 8}, ...],
                                             column c holds steps c * stride to
                                             min((c + 1) * stride, time_steps) - 1
     "rows": [                               the samples that are here, in this order
         {"index": 0,                        in the trace
          "label": "cat" | null,
          "facts": [["predicted", "cat (0.93)"], ...],
          "tokens": [{"axis": 0, "items": [text per step, "" where there is none]}, ...],
          "tags": [{"axis": 0, "items": [text per step]}, ...]}, ...],
                                             tags: what was given as labels of single steps
     "series": [                             the model's own inputs and outputs, and the targets
         {"name": "inputs", "role": "input" | "output" | "target",
          "of": null | "dense",              of targets: the output that they are for
          "kind": "numbers" | "indices" | "probabilities",
                                             probabilities: add up to 1, or are a sigmoid's;
                                             indices: integers, as of an Embedding
          "axis": 0 | null,                  null: no time steps, one value per channel
          "start": 0,                        step of its first value; a forecast begins at the
                                             axis's end: value k belongs to step start + k
          "continues": ["inputs", 0] | null, of a forecast: the input and the number of its channel
                                             that it goes on with, in the same units
          "columns": 1250, "stride": 8,      1 and 1 without an axis; a forecast has stride 1
          "names": ["open", ...] | null,     of the channels that are here
          "total": 8,                        channels in the model
          "channel_index": [0, 1] | null,    which ones are here; null for all
          "rows": [blob, ...]}, ...],        float32
     "layers": [                             in the order in which they run
         {"path": "bi/forward_layer", "node": "bi",     node: data-path of the box
          "class_name": "LSTM", "cell": "lstm" | null,  null: a cell of the user's
          "units": 512, "features": 8 | null,
          "unit_index": [3, 17, ...] | null,            the units that are here; null for all
          "unit_names": ["(0, 1, 2)", ...] | null,      of units that are no plain numbers
          "axis": 0,
          "outer": 1,                        rows of the layer per row of the report, as inside of
                                             TimeDistributed; blob number = row * outer + k
          "go_backwards": false,             time runs as in the input either way
          "facts": [["Engine", "cpu: ..."], ...],
          "initial": "Starts from ..." or "",
          "equations": ["i = ...", ...], "source": "Hochreiter ...",
          "masks": [text | null, ...],       by row * outer + k: a character per column, "1" real,
                                             "0" padded, "2" partly; null for all real
          "arrays": [
              {"name": "forget_gate", "title": "Forget gate", "symbol": "f",
               "meaning": "How much of ...",
               "role": "state" | "gate" | "candidate" | "input" | "gradient",
               "scale": "diverging" | "unit" | "symmetric" | "range",
                                             diverging: fixed at [-1, 1]; unit: fixed at [0, 1];
                                             symmetric: own, about 0; range: own
               "range": [-1, 1] | null,      null: every channel has its own (blob.ranges)
               "total": 512,                 channels in the model
               "channel_index": [3, 17] | null, "channel_names": [...] | null,
               "rows": [blob, ...]}, ...],
          "curves": [                        one number per step, of all units
              {"name": "hidden_state_norm", "title": "Length of h", "symbol": "|h|",
               "meaning": "...", "group": "norm" | "gradient",
               "log": false,                 true: values are log10 of the quantity
               "rows": [blob, ...]}, ...],
          "summary": null | {                of ALL rows and steps of the trace, at full precision
              "sentences": ["3 of 64 units are dead: ...", ...],
              "columns": [{"key": "memory", "name": "Memory", "meaning": "...",
                           "format": "steps" | "share" | "number" | "flag"}, ...],
              "units": {"memory": [1.5, null, ...], ...}}}, ...]}    by ALL units of the layer

Blobs hold numbers, channels one after the other, each with its columns next to each other:

    {"dtype": "uint8", "range": [low, high], "data": base64}
    {"dtype": "uint8", "ranges": [[low, high] per channel], "data": base64}
    {"dtype": "float32", "data": base64}     little-endian

Layers' arrays, which have "range" or "ranges", are float32 where the page stays small, and uint8
else, all of them. The others are float32.

uint8: value = low + code * (high - low) / 254, so that the middle of the range is exact, and a
value differs from the trace's by at most (high - low) / 508. Code 255, and NaN in float32, is no
value: a padded step, or what is not finite in the trace. Where stride is above 1, "data" is the
mean of each column's real steps, and "low" and "high" hold its least and greatest value likewise.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.insight.report.annotations import Tokens, labels_of, tags_of, tokens_of
from recurra.insight.report.axes import Axes
from recurra.insight.report.layers import layer_data, shown_arrays
from recurra.insight.report.notes import left_out
from recurra.insight.report.series import Series, row_facts, series_of
from recurra.insight.report.sizes import MAX_BYTES, MAX_ROWS, fit
from recurra.insight.report.tables import table_of
from recurra.insight.tracing import Trace

_MAX_DIAGRAM = 2**20
"""Characters of a diagram that a page still has: one of many thousand boxes helps nobody."""


def report_data(
    trace: Trace,
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
    names: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    page_bytes: int = 2**18,
) -> dict[str, Any]:
    """What a report's page is given; the arguments are those of `write_report`.

    Args:
        names: of the rows, for those that have no label.
        notes: sentences that the page says besides.
        page_bytes: what the page has besides: its styles and programs.

    Returns:
        The object that this module's docstring describes, all of it what JSON can hold.

    Raises:
        TypeError, ValueError: if something does not fit the trace; the message says what would.
    """
    _check(title, max_bytes)
    if not trace.layers:
        raise ValueError(
            "the trace has no recurrent layer, so there is nothing to report; trace a model that "
            "has one, and without layers=[] to record all of them."
        )
    if not trace.batch:
        raise ValueError("the trace has no rows, so there is nothing to report; trace some.")
    axes = Axes(trace)
    by_row, by_step = labels_of(labels, trace.batch, axes)
    texts = tokens_of(tokens, axes, trace.batch, trace.inputs)
    tags = tags_of(by_step, axes)
    series = series_of(
        trace, axes, targets=targets, features=features, classes=classes, forecast=forecast
    )
    order, chosen = _rows(rows, trace.batch)
    whole = {
        path: count
        for path, layer in trace.items()
        if (count := axes.outer(path, trace.batch, layer)) is not None
        and layer.arrays["hidden_state"].shape[1]
    }
    if not whole:
        raise ValueError(
            "no layer of the trace has time steps that belong to the traced rows, so there is "
            "nothing to report; its layers have "
            + ", ".join(f"{p!r} {each.arrays['hidden_state'].shape}" for p, each in trace.items())
            + f", of {trace.batch} rows."
        )
    said = list(notes)
    entries = [_row(row, by_row or names, texts, tags, axes, series) for row in order]
    data: dict[str, Any] = {
        "format": "recurra-report",
        "version": 1,
        "title": title or trace.structure.name or "Recurra",
        "created": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "recurra": _version(),
        "notes": said,
        "batch": trace.batch,
        "loss": _finite(trace.loss),
        "limits": {},
        "model": _model(trace),
        "diagram": _diagram(trace, said),
        "findings": [finding.to_dict() for finding in _findings(trace)],
        "axes": [],
        "rows": entries,
        "series": [],
        "layers": [],
    }
    tables = _tables(trace)
    # What has to be there in any case, measured by writing it.
    of_rows = [_bytes(entry) for entry in entries]
    other = page_bytes + _bytes([data, tables]) - sum(of_rows) + 8192 * len(whole)
    arrays = {path: shown_arrays(trace.layers[path]) for path in whole}
    sizes = fit(trace, axes, order, chosen, arrays, int(max_bytes), other, of_rows)
    data["rows"] = entries[: len(sizes.rows)]
    data["series"] = [each.data(axes, sizes) for each in series]
    data["layers"] = [
        layer_data(trace.layers[path], path, axes, sizes, outer, tables.get(path))
        for path, outer in whole.items()
    ]
    data["axes"] = [
        {
            "name": axis.name,
            "time_steps": axis.time_steps,
            "columns": sizes.of(axis.time_steps).count,
            "stride": sizes.of(axis.time_steps).stride,
        }
        for axis in axes.all
    ]
    strides = [axis["stride"] for axis in data["axes"]]
    data["limits"] = {
        "max_bytes": int(max_bytes),
        "rows": [len(sizes.rows), trace.batch],
        "units": sizes.units,
        "exact": sizes.exact,
        "stride": max(strides, default=1),
    }
    missing = [path for path in trace.layers if path not in whole]
    said += left_out(trace, axes, sizes, series, missing, len(order), chosen, max_bytes)
    return data


def _check(title: Any, max_bytes: Any) -> None:
    if title is not None and not isinstance(title, str):
        raise TypeError(f"title is {title!r:.60}; expected a text.")
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int | float | np.number):
        raise TypeError(f"max_bytes is {max_bytes!r:.60}; expected a number of bytes.")
    if not 0 < max_bytes < math.inf:
        raise ValueError(f"max_bytes is {max_bytes}; expected a number of bytes above 0.")


def _rows(rows: int | Sequence[int] | None, batch: int) -> tuple[list[int], bool]:
    """Numbers of the rows to show, and whether the user has named them."""
    if rows is None:
        return list(range(min(batch, MAX_ROWS))), False
    listed = isinstance(rows, Sequence | np.ndarray) and not isinstance(rows, str | bytes)
    if isinstance(rows, bool) or not (listed or isinstance(rows, int | np.integer)):
        raise TypeError(f"rows is {rows!r:.60}; expected how many, or a list of their numbers.")
    if isinstance(rows, int | np.integer):
        if rows < 1:
            raise ValueError(f"rows is {rows}; expected at least 1, or a list of rows' numbers.")
        return list(range(min(batch, int(rows)))), False
    numbers = []
    for row in rows:
        if isinstance(row, bool | np.bool_) or not isinstance(row, int | np.integer):
            raise TypeError(
                f"rows has {row!r:.60}; expected whole numbers, those of the rows to show."
            )
        numbers.append(int(row))
    if not numbers:
        raise ValueError("rows is empty; leave it out to see the first ones, or name some.")
    for row in numbers:
        if not -batch <= row < batch:
            raise ValueError(
                f"rows has {row}, but the trace has {batch} rows; expected numbers from 0 to "
                f"{batch - 1}."
            )
    return list(dict.fromkeys(row % batch for row in numbers)), True


def _row(
    row: int,
    labels: Sequence[str] | None,
    tokens: Sequence[Tokens],
    tags: Tokens | None,
    axes: Axes,
    series: Sequence[Series],
) -> dict[str, Any]:
    return {
        "index": row,
        "label": None if labels is None else labels[row],
        "facts": row_facts(series, row),
        "tokens": [{"axis": each.axis, "items": each.items(row, axes)} for each in tokens],
        "tags": [] if tags is None else [{"axis": tags.axis, "items": tags.items(row, axes)}],
    }


def _model(trace: Trace) -> dict[str, Any]:
    structure = trace.structure
    parameters = sum(node.parameters for node in structure.nodes)
    return {
        "name": structure.name,
        "kind": structure.kind,
        "source": structure.source,
        "parameters": parameters if structure.nodes else None,
        "gaps": list(structure.gaps),
    }


def _diagram(trace: Trace, notes: list[str]) -> str:
    if not trace.structure.nodes:
        return ""
    from recurra.insight.diagram import diagram_svg

    svg = diagram_svg(trace.structure)
    if len(svg) > _MAX_DIAGRAM:
        notes.append(
            f"The diagram is not here: {len(trace.structure.nodes):,} calls of layers make it too "
            "large."
        )
        return ""
    return svg


def _findings(trace: Trace) -> list[Any]:
    from recurra.insight.linting import lint

    return lint(trace.structure) if trace.structure.nodes else []


def _tables(trace: Trace) -> dict[str, Any]:
    """The page's tables by path; of layers whose units are no plain row of numbers none."""
    from recurra.insight.tracing.summary import summarize_layer

    return {
        path: table_of(summarize_layer(layer).to_dict(series=False), layer.spec)
        for path, layer in trace.items()
        if layer.arrays["hidden_state"].ndim == 3 and layer.arrays["hidden_state"].size
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _bytes(data: Any) -> int:
    """What JSON of it takes in the page, at most."""
    text = json.dumps(data)
    return len(text) + 5 * text.count("<")


def _version() -> str:
    import recurra

    try:
        return recurra.__version__
    except ModuleNotFoundError:  # run from its sources, and not installed
        return ""
