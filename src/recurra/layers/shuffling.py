"""Stateful layers in a `fit` that shuffles: it runs, and learns something else than was meant."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from recurra import hosts

_log = logging.getLogger("recurra")


def tell_of_shuffling(layer: Any) -> None:
    """Warn, once per layer, if a stateful layer is being trained by a fit that shuffles its rows.

    To be called from a layer's call in training. Data that fit cannot shuffle (generators,
    datasets) is left alone, and so is a single batch.
    """
    if hosts.is_traced():
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fit" and "shuffle" in frame.f_locals:
            layer._shuffling_looked_at = True
            if _mixes_rows(frame.f_locals):
                _log.warning(
                    "Layer %r is stateful, and fit shuffles the rows (its default): each row then "
                    "goes on from the state of some other row. Write fit(..., shuffle=False), with "
                    "rows in the order of time, and reset the states where new sequences begin "
                    "(recurra.models.reset_states).",
                    layer.name,
                )
            return
        frame = frame.f_back


def _mixes_rows(arguments: Mapping[str, Any]) -> bool:
    if not arguments["shuffle"] or not hasattr(arguments.get("self"), "compute_loss"):
        return False
    x = arguments.get("x")
    while isinstance(x, (list, tuple, Mapping)) and x:
        x = next(iter(x.values() if isinstance(x, Mapping) else x))
    if getattr(x, "shape", None) is None:
        return False
    batches = getattr(arguments.get("epoch_iterator"), "num_batches", None)
    return batches is None or batches > 1
