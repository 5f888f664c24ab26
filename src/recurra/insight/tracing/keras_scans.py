"""From a call of a Keras layer to its cells' scans."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from recurra.insight.tracing.keras_cells import computing, rounded, to_numpy, traced_cells
from recurra.insight.tracing.keras_layers import is_root
from recurra.insight.tracing.recording import Recorded
from recurra.insight.tracing.result import Array, LayerTrace
from recurra.insight.tracing.scan import Scan


def before(layer: Any, arguments: Any) -> list[Array] | None:
    """The states that a call of a stateful layer starts from, for `Recording.before`."""
    if isinstance(layer, keras.layers.TimeDistributed) or not layer.stateful:
        return None
    states = getattr(layer, "states", None)
    if isinstance(layer, keras.layers.Bidirectional):
        parts = [
            getattr(part, "states", None) for part in (layer.forward_layer, layer.backward_layer)
        ]
        states = None if None in parts else parts
    return None if states is None else [to_numpy(v.value) for v in tree.flatten(states)]


def scans_of_call(path: str, call: Recorded) -> list[Scan]:
    """What the cells of a layer were given in a recorded call."""

    def array(value: Any) -> Array:
        return to_numpy(value, f"Layer {path!r}")

    first, *_ = call.arguments.values()
    given = call.arguments.get("initial_state")
    states = call.kept if given is None else [array(state) for state in tree.flatten(given)]
    mask = next((m for m in tree.flatten(call.arguments.get("mask")) if m is not None), None)
    keep = None if mask is None else array(mask).astype(bool)
    return scans_of(path, call.layer, array(first), states, keep)


def scans_of(
    path: str, layer: Any, x: Array, states: Sequence[Array] | None, mask: Array | None
) -> list[Scan]:
    """What the cells of a layer are given, if the layer is given these arrays.

    Args:
        path: the layer's.
        layer: a recurrent layer or a wrapper.
        x, mask: its input and what of it is real; None for all.
        states: to start from, flat; None for its own.
    """
    if isinstance(layer, keras.layers.TimeDistributed):
        return _distributed(path, layer, x, mask)
    if isinstance(layer, keras.layers.Bidirectional):
        parts = [(part, getattr(layer, part)) for part in ("forward_layer", "backward_layer")]
        halves: list[Sequence[Array] | None] = [None, None]
        if states is not None:
            first = _state_count(parts[0][1], len(states))
            halves = [states[:first], states[first:]]
        return [
            each
            for (part, inner), own in zip(parts, halves, strict=True)
            for each in scans_of(f"{path}/{part}", inner, x, own, mask)
        ]
    if not isinstance(layer, keras.layers.RNN):
        return []  # a layer of the user's in a Bidirectional
    if mask is not None and mask.ndim == 3:
        mask = mask[:, :, 0]
    dtype = layer.compute_dtype
    return [
        Scan(
            path,
            traced_cells(layer),
            rounded(x, dtype),
            None if states is None else [s.astype(computing(dtype)) for s in states],
            mask,
            layer.go_backwards,
        )
    ]


def _state_count(layer: Any, both: int) -> int:
    """How many of the states of two directions are the first layer's."""
    if not isinstance(layer, keras.layers.RNN):
        return both // 2
    return sum(cell.states for cell in traced_cells(layer))


def _distributed(path: str, layer: Any, x: Array, mask: Array | None) -> list[Scan]:
    """A layer for every item of a sequence of items: batch and items become one axis."""
    rows, inner = x.shape[0] * x.shape[1], layer.layer
    if any(getattr(each, "stateful", False) for each in inner._flatten_layers()):
        warnings.warn(
            f"{path!r} is left out of the trace: TimeDistributed calls its stateful layer item by "
            "item, each from the states of the one before. Build it with stateful=False to trace "
            "it.",
            UserWarning,
            stacklevel=2,
        )
        return []
    folded = x.reshape(rows, *x.shape[2:])
    keep = None if mask is None else mask.reshape(rows, *mask.shape[2:])
    if not is_root(inner):
        from recurra.insight.tracing.keras_models import capture

        given = keep if keep is not None and keep.ndim > 1 else None
        calls = capture(inner, folded, given, prefix=f"{path}/layer/").calls
        return [scan for call in calls for scan in call.scans]
    if keep is not None and not isinstance(inner, keras.layers.TimeDistributed):
        # Of an item that is not real, the layer reads nothing.
        keep = np.array(np.broadcast_to(keep.reshape(rows, -1), folded.shape[:2]))
    return scans_of(f"{path}/layer", inner, folded, None, keep)


def compare(trace: LayerTrace, call: Recorded) -> None:
    """Warn where a layer gave something else than its trace: it does more than run its cell.

    Args:
        trace: of the layer's topmost cell.
        call: of a layer with cells, no wrapper.
    """
    layer = call.layer
    first = call.result[0] if isinstance(call.result, (tuple, list)) else call.result
    given, shown = to_numpy(first), trace.arrays["hidden_state"]
    order = slice(None, None, -1 if trace.go_backwards else 1)
    shown = shown[:, order]
    real: Array = np.ones(shown.shape[:2], bool)
    if trace.mask is not None:
        real = trace.mask[:, order]
    if not layer.return_sequences:
        # Stock layers' last output may be one of the zeros for masked steps.
        zeroed = layer.zero_output_for_mask
        real = real[:, -1:] if zeroed else np.any(real, axis=1, keepdims=True)
        shown = shown[:, -1:]
        given = given[:, np.newaxis]
    if not shown.shape[1]:
        return
    if given.shape == shown.shape:
        given, shown = given[real].astype(np.float64), shown[real].astype(np.float64)
        half = layer.compute_dtype in ("float16", "bfloat16")
        allowed = (0.1 if half else 0.01) * max(1.0, float(np.max(np.abs(given), initial=0.0)))
        if np.array_equal(np.isfinite(given), np.isfinite(shown)):
            difference = np.abs(np.where(np.isfinite(given), given - shown, 0.0))
            if float(np.max(difference, initial=0.0)) <= allowed:
                return
    warnings.warn(
        f"Layer {trace.path!r} ({type(layer).__name__}) did not return what its cell computes from "
        "its input: its class changes the input or the output, or it drops out even in inference. "
        "Its trace shows the cell, on the input that the layer was given.",
        UserWarning,
        stacklevel=2,
    )
