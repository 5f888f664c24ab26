"""Which recurrent layers a Keras model has, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from recurra.insight.tracing import names
from recurra.insight.tracing.scan import cell_paths
from recurra.layers.cells import cells_of


def roots_of(model: Any) -> list[tuple[str, Any]]:
    """The outermost recurrent layers and wrappers of a model, by path, each once.

    Args:
        model: a model or any layer; if it is itself recurrent, it is the one.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def visit(layer: Any, path: str) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if is_root(layer):
            key, count = path, 1
            while key in found:
                count += 1
                key = f"{path}:{count}"
            found[key] = layer
            return
        for each in layer.layers if isinstance(layer, keras.Model) else layer._layers:
            visit(each, f"{path}/{each.name}" if path else each.name)

    visit(model, model.name if is_root(model) else "")
    return list(found.items())


def is_root(layer: Any) -> bool:
    """Whether a layer is recurrent, or wraps what is."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return is_root(layer.layer) or bool(roots_of(layer.layer))
    return isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))


def leaves_of(path: str, root: Any) -> list[tuple[str, Any]]:
    """The layers with cells inside of an outermost one, by path; for a stack each cell's path."""
    if isinstance(root, keras.layers.Bidirectional):
        return [
            leaf
            for part in ("forward_layer", "backward_layer")
            for leaf in leaves_of(f"{path}/{part}", getattr(root, part))
        ]
    if isinstance(root, keras.layers.TimeDistributed):
        if is_root(root.layer):
            return leaves_of(f"{path}/layer", root.layer)
        return [
            leaf
            for inner, layer in roots_of(root.layer)
            for leaf in leaves_of(f"{path}/layer/{inner}", layer)
        ]
    if not isinstance(root, keras.layers.RNN):
        return []  # a layer of the user's in a Bidirectional
    return [(each, root) for each in cell_paths(path, len(cells_of(root)))]


def wanted_of(layers: Sequence[Any] | Any, leaves: Sequence[tuple[str, Any]]) -> set[str]:
    """The paths that `layers=` asks for, by name or as layers; all without.

    Raises:
        KeyError: for what is not there.
    """
    if layers is None:
        return {path for path, _ in leaves}
    own = {path: leaf.name for path, leaf in leaves}
    found: set[str] = set()
    for each in [layers] if isinstance(layers, keras.Layer) else names.listed(layers):
        same = {path for path, leaf in leaves if leaf is each}
        name = each.name if isinstance(each, keras.Layer) else each
        found |= same or names.wanted([name], own)
    return found
