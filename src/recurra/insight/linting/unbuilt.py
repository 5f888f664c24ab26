"""A Sequential model that is not built yet: what can be told of it without shapes."""

from __future__ import annotations

import dataclasses
from typing import Any

from recurra.insight import structure
from recurra.insight.linting.view import STEPWISE, inner
from recurra.insight.structure import Node, Structure, Tensor
from recurra.insight.structure.model import Shape


def is_unbuilt_sequential(thing: Any) -> bool:
    """Whether this is a Keras Sequential model that does not know its input's shape."""
    sequential = any(
        cls.__name__ == "Sequential" and cls.__module__.startswith("keras.")
        for cls in type(thing).__mro__
    )
    return sequential and not thing.built


def structure_of_unbuilt(model: Any) -> Structure:
    """An unbuilt Sequential model, with sizes that are not known as None.

    Mistakes that keep a model from being built are found in this.
    """
    tensors = [Tensor(0, "input", None)]
    nodes = []
    for layer in model.layers:
        try:
            node = structure.structure_of(layer).nodes[0]
        except (ValueError, TypeError, IndexError):  # a nested model, for example
            node = Node(layer.name, type(layer).__name__, (0,), (1,))
        last = len(tensors) - 1
        tensors.append(Tensor(last + 1, layer.name, _shape(node, tensors[last].shape)))
        nodes.append(
            dataclasses.replace(
                node, path=layer.name, inputs=(last,), outputs=(last + 1,), output_names=("output",)
            )
        )
    return Structure(
        name=model.name,
        kind="Sequential",
        tensors=tuple(tensors),
        nodes=tuple(nodes),
        inputs=(0,),
        outputs=(len(tensors) - 1,),
        gaps=("The model is not built yet, so its shapes are not known.",),
    )


def _shape(node: Node, given: Shape | None) -> Shape | None:
    units = node.config.get("units")
    if node.recurrent is not None and node.class_name != "TimeDistributed":
        layer = inner(node.recurrent)
        if layer.class_name.startswith("ConvLSTM") or not layer.cells:
            return None
        units = layer.cells[-1].units
        if node.recurrent.parts:
            units = None
        return (None, None, units) if layer.return_sequences else (None, units)
    if node.class_name not in STEPWISE or given is None:
        return None
    return (*given[:-1], units) if node.class_name == "Dense" else given
