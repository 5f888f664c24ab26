"""`recurra.explain`: what a layer or model takes, does and returns."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from recurra.insight.explanation.explanation import Explanation, check_detail
from recurra.insight.explanation.flow import Flow
from recurra.insight.explanation.layer_page import Detail
from recurra.insight.explanation.model_facts import model_facts, node_facts
from recurra.insight.explanation.results import is_cell
from recurra.insight.linting import lint
from recurra.insight.structure import Recurrent, Structure, Tensor


def explain(thing: Any, x: Any = None, *, detail: Detail = "normal") -> Explanation:
    """Tell what a recurrent layer or a model takes, does and returns, in words and numbers.

    Of a layer: each result with name, shape and meaning, which of them are equal, what happens in
    a step, the weights gate by gate, the count of the parameters, the engine that runs it and why.
    Of a model: the data's way with the shapes, where masks start and end, who starts from whose
    states, and common mistakes.

    Args:
        thing: a recurrent layer, cell or wrapper of Keras or Recurra, built or not, or a class of
            them; a Keras model; a loaded model (`recurra.load`); the path of a saved model; or a
            `recurra.insight.structure.Structure`.
        x: data for it, or what has their shape: (batch, time_steps, features). Of a layer that is
            not built, the number of features is read from it; a model is checked with it.
        detail: "brief", "normal" or "full"; "full" tells a model's layers one by one too.

    Returns:
        The explanation: `print` it, show it in a notebook, or read `to_dict()`.

    Raises:
        TypeError: for things that are none of these.
        ValueError: for models without known shapes, and for another detail.
        ModelFileError, OSError: for files that cannot be read.

    Example:
        >>> print(recurra.explain(LSTM(64, return_sequences=True)))
    """
    check_detail(detail)
    structure = thing if isinstance(thing, Structure) else _structure(thing, x)
    if x is not None and structure.kind == "Layer":
        structure = _given(structure, x)
    findings = lint(structure, x)
    node = structure.nodes[0] if len(structure.nodes) == 1 else None
    if structure.kind == "Layer" and node is not None and node.recurrent is not None:
        facts: Any = node_facts(Flow(structure), node)
    else:
        facts = model_facts(structure)
    return Explanation(facts, structure, findings, detail)


def _structure(thing: Any, x: Any) -> Structure:
    from recurra.insight.structure import structure_of

    keras = sys.modules.get("keras")
    if keras is None:
        return structure_of(thing)
    if isinstance(thing, type) and issubclass(thing, keras.Layer):
        raise TypeError(
            f"explain() got the class {thing.__name__}; expected a layer: {thing.__name__}(64), "
            "for example."
        )
    if _is_keras_cell(keras, thing):
        return _as_cell(structure_of(keras.layers.RNN(thing, name=thing.name)))
    structure = structure_of(thing, x)
    if structure.kind == "Layer" and not structure.recurrent():
        raise TypeError(
            f"explain() got {structure.name!r}, a {type(thing).__name__}, which is not recurrent "
            "and holds no recurrent layer; expected a recurrent layer, a cell, a wrapper of one, "
            "or a model."
        )
    return structure


def _is_keras_cell(keras: Any, thing: Any) -> bool:
    return (
        isinstance(thing, keras.Layer)
        and hasattr(thing, "state_size")
        and not isinstance(thing, (keras.layers.RNN, keras.layers.StackedRNNCells))
    )


def _as_cell(structure: Structure) -> Structure:
    """The structure of a layer as that of the one cell in it, which reads one step."""
    (node,) = structure.nodes
    assert node.recurrent is not None
    name = node.recurrent.cells[0].class_name
    layer = dataclasses.replace(node.recurrent, class_name=name)
    tensors = tuple(
        dataclasses.replace(tensor, shape=(tensor.shape[0], *tensor.shape[2:]))
        if tensor.index in node.inputs and tensor.shape is not None
        else tensor
        for tensor in structure.tensors
    )
    node = dataclasses.replace(node, class_name=name, recurrent=layer)
    return dataclasses.replace(structure, tensors=tensors, nodes=(node,))


def _given(structure: Structure, x: Any) -> Structure:
    """A single layer's structure with the shape of its data in it."""
    node = structure.nodes[0]
    shape = getattr(x, "shape", None)
    if shape is None or not node.inputs or node.recurrent is None:
        return structure
    sizes = tuple(None if size is None else int(size) for size in shape)
    if len(sizes) < (2 if is_cell(node.recurrent) else 3):
        return structure
    features = sizes[-1]
    return dataclasses.replace(
        structure,
        tensors=tuple(
            dataclasses.replace(tensor, shape=_known(tensor, sizes, tensor.index in node.inputs))
            for tensor in structure.tensors
        ),
        nodes=(dataclasses.replace(node, recurrent=_with_features(node.recurrent, features)),),
    )


def _known(tensor: Tensor, sizes: Sequence[int | None], is_input: bool) -> Any:
    if is_input:
        return tuple(sizes)
    if tensor.shape is None:
        return None
    known = list(tensor.shape)
    known[:1] = sizes[:1]
    if len(known) > 1 and known[1] is None:
        known[1] = sizes[1]
    return tuple(known)


def _with_features(layer: Recurrent | None, features: int | None) -> Recurrent | None:
    if layer is None:
        return None
    cells = [*layer.cells]
    if cells and cells[0].features is None:
        cells[0] = dataclasses.replace(cells[0], features=features)
    return dataclasses.replace(
        layer,
        cells=tuple(cells),
        parts=tuple((n, _with_features(part, features)) for n, part in layer.parts),  # type: ignore[misc]
    )
