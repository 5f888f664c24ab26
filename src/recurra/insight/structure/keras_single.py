"""A single Keras layer, built or not, as a structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from recurra.insight.structure.calls import Value, assemble
from recurra.insight.structure.keras_layers import is_recurrent
from recurra.insight.structure.keras_masks import masks_of
from recurra.insight.structure.model import Structure

if TYPE_CHECKING:
    from recurra.insight.structure.keras_models import Reader


def single_layer(layer: Any, reader: Reader) -> Structure:
    """The structure of a layer by itself: one call on one input.

    Args:
        layer: built, or not: then the number of features is not known.
        reader: an empty one.
    """
    shape = _built_shape(layer)
    x = Value("input", shape)
    call = reader.call(layer, layer.name, [x])
    call.outputs = [Value(layer.name, each) for each in _output_shapes(layer, shape)]
    masks_of(layer, call)
    reader.calls.append(call)
    return assemble(layer.name, "Layer", reader.calls, [x], call.outputs)


def _built_shape(layer: Any) -> tuple[int | None, ...] | None:
    known = getattr(layer, "_build_shapes_dict", None) or {}
    for shape in known.values():
        if isinstance(shape, (tuple, list)) and all(n is None or isinstance(n, int) for n in shape):
            free = is_recurrent(layer) and len(shape) == 3
            return (None, None, *shape[2:]) if free else (None, *shape[1:])
    return (None,) * _rank(layer) if is_recurrent(layer) else None


def _rank(layer: Any) -> int:
    """How many axes the sequences have that a recurrent layer reads."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return 1 + _rank(layer.layer)
    inner = getattr(layer, "forward_layer", layer)
    return 3 + int(getattr(getattr(inner, "cell", None), "rank", 0))


def _output_shapes(layer: Any, shape: Any) -> list[Any]:
    if shape is None:
        return [None]
    try:
        with keras.StatelessScope():
            made = layer.compute_output_shape(shape)
    except Exception:  # it may not be able to tell without running
        return [None]
    return _flat(made)


def _flat(shapes: Any) -> list[Any]:
    """Shapes in a row, those in a dict in the order of its keys, as Keras has them."""
    if shapes is None:
        return [None]
    if isinstance(shapes, Mapping):
        return [each for key in sorted(shapes) for each in _flat(shapes[key])]
    if all(n is None or isinstance(n, int) for n in shapes):
        return [tuple(shapes)]
    return [each for inner in shapes for each in _flat(inner)]
