"""`recurra.explain`: what a layer or model takes, does and returns."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from recurra.insight.explanation.explanation import Explanation, check_detail
from recurra.insight.explanation.layer_facts import LayerFacts
from recurra.insight.explanation.layer_page import Detail
from recurra.insight.explanation.model_facts import model_facts, node_facts
from recurra.insight.linting import Finding, lint
from recurra.insight.structure import Node, Recurrent, Structure, Tensor


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
    structure = thing if isinstance(thing, Structure) else _structure(thing)
    if x is not None and structure.kind == "Layer":
        structure = _given(structure, x)
    findings = _findings(structure, x)
    node = structure.nodes[0] if len(structure.nodes) == 1 else None
    if structure.kind == "Layer" and node is not None and node.recurrent is not None:
        facts: Any = node_facts(structure, node)
    else:
        facts = model_facts(structure)
    return Explanation(facts, structure, findings, detail)


def _findings(structure: Structure, x: Any) -> list[Finding]:
    return lint(structure, x)


def _structure(thing: Any) -> Structure:
    from recurra.insight.structure import structure_of

    return structure_of(_as_layer(thing))


def _as_layer(thing: Any) -> Any:
    """A cell or a class as a layer that holds one; other things as they are."""
    keras = sys.modules.get("keras")
    if keras is None:
        return thing
    if isinstance(thing, type) and issubclass(thing, keras.Layer):
        raise TypeError(
            f"explain() got the class {thing.__name__}; expected a layer: {thing.__name__}(64), "
            "for example."
        )
    is_cell = (
        isinstance(thing, keras.Layer)
        and hasattr(thing, "state_size")
        and not isinstance(thing, keras.layers.RNN)
    )
    return keras.layers.RNN(thing, name=thing.name) if is_cell else thing


def _given(structure: Structure, x: Any) -> Structure:
    """A single layer's structure with the shape of its data in it."""
    shape = tuple(getattr(x, "shape", x) if not hasattr(x, "shape") else x.shape)
    sizes = tuple(None if size is None else int(size) for size in shape)
    node = structure.nodes[0]
    if not node.inputs or len(sizes) < 3:
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


__all__ = ["Explanation", "LayerFacts", "Node", "explain"]
