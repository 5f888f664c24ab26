"""What a page leaves out of its trace, in sentences for people."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from recurra.insight.report.axes import Axes
from recurra.insight.report.series import Series
from recurra.insight.report.sizes import MAX_CHANNELS, Sizes
from recurra.insight.tracing import Trace


def left_out(
    trace: Trace,
    axes: Axes,
    sizes: Sizes,
    series: Sequence[Series],
    missing: Collection[str],
    wanted: int,
    chosen: bool,
    max_bytes: int,
) -> list[str]:
    """The notes of a page; none if it shows everything.

    Args:
        trace: whose page it is.
        axes: of the trace.
        sizes: what is shown.
        series: the inputs and outputs.
        missing: paths of layers that are not shown.
        wanted: how many rows could have been shown.
        chosen: whether the user has named them.
        max_bytes: the limit.
    """
    limit = f"so that the page stays below {_megabytes(max_bytes)}"
    notes = []
    shown = len(sizes.rows)
    verb = "is" if shown == 1 else "are"
    if shown < trace.batch and not (chosen and shown == wanted):
        why = f", {limit}" if shown < wanted else ""
        notes.append(
            f"{shown:,} of {trace.batch:,} rows {verb} here, the first{why}. Tables and findings "
            "are about all of them. report(rows=[...]) chooses others."
        )
    elif shown < trace.batch:
        notes.append(
            f"{shown:,} of {trace.batch:,} rows {verb} here, as asked for. Tables and findings are "
            "about all of them."
        )
    for axis in axes.all:
        columns = sizes.of(axis.time_steps)
        if columns.stride > 1:
            notes.append(
                f"Time steps of {axis.name!r}: each column stands for {columns.stride} of the "
                f"{axis.time_steps:,} steps, {limit}. Its colour is their mean; curves show the "
                "mean, and the least and the greatest value as a band around it. Padded steps are "
                "left out of all three."
            )
    if not sizes.exact:
        notes.append(
            "Values of the layers are rounded to 1/254 of the range that is given beside their "
            "colours, as there are many; tables are exact."
        )
    if sizes.units is not None:
        for path, layer in trace.items():
            units = math.prod(layer.arrays["hidden_state"].shape[2:])
            if path not in missing and units > sizes.units:
                notes.append(
                    f"{sizes.units} of {units:,} units of {path!r} are here, those whose hidden "
                    f"state varies most, {limit}. Tables are about all of them."
                )
    notes += [
        f"{MAX_CHANNELS} of {each.channels:,} values at each step of {each.name!r} are here, the "
        "first."
        for each in series
        if each.channels > MAX_CHANNELS
    ]
    notes += [
        f"Layer {path!r} is not here: its {len(trace.layers[path].arrays['hidden_state']):,} rows "
        f"do not belong to the {trace.batch:,} rows of the trace, or it has no time steps."
        for path in trace.layers
        if path in missing
    ]
    broken = [path for path, layer in trace.items() if _broken(layer.arrays["hidden_state"])]
    notes += [
        f"Layer {path!r} has values that are not finite (NaN or infinity); they are drawn as "
        "missing."
        for path in broken
    ]
    return notes


def _broken(values: object) -> bool:
    import numpy as np

    return not bool(np.isfinite(np.sum(np.asarray(values), dtype=np.float64)))


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.3g} MB"
