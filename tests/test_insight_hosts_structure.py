"""The structure of every model of the zoo on each host, of stock layers and of Recurra's."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import tree

from insight_zoo import LIBRARIES, MODELS, PATHS, made
from recurra.insight import structure_of


def state_of(model: Any) -> list[Any]:
    """What looking at a model must not change: recorded calls, variables, random states."""
    layers = model._flatten_layers()
    calls = [(len(each._inbound_nodes), len(each._outbound_nodes), each.built) for each in layers]
    values = [keras.ops.convert_to_numpy(each.value).tobytes() for each in model.variables]
    return [calls, values]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", MODELS)
def test_structure_of_the_zoo(name: str, library: str) -> None:
    model = made(name, library).model
    before = state_of(model)
    found = structure_of(model)
    assert state_of(model) == before
    assert not found.gaps
    leaves = [leaf for node in found.recurrent() for leaf in node.recurrent.leaves(node.path)]
    paths = [
        f"{path}/{cell.name}" if len(layer.cells) > 1 else path
        for path, layer in leaves
        for cell in layer.cells
    ]
    assert tuple(paths) == PATHS[name]
    engines = {
        "keras"
        if layer.library == "keras" or any(cell.cell is None for cell in layer.cells)
        else "cpu"
        for _, layer in leaves
    }
    assert {layer.engine for _, layer in leaves} == engines
    assert all(layer.reason for _, layer in leaves)
    assert sum(node.parameters for node in found.nodes) == model.count_params()


@pytest.mark.parametrize("name", MODELS)
def test_shapes_of_the_results(name: str) -> None:
    """Of Recurra's layers: stock Bidirectional tells a wrong one where directions differ."""
    model, x, _ = made(name)
    found = structure_of(model)
    outputs = [tuple(y.shape) for y in tree.flatten(model(x))]
    told = [found.tensors[number].shape for number in found.outputs]
    for shape, known in zip(outputs, told, strict=True):
        assert known is not None
        assert len(shape) == len(known)
        assert all(size in (None, real) for size, real in zip(known, shape, strict=True))
