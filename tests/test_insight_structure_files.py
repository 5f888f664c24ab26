"""Structures of files that the runtime cannot run, of damaged ones, and without Keras."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import quick_weights
import recurra
import recurra.layers as L
from insight_zoo import made
from recurra.insight import structure_of
from recurra.insight.diagram import diagram_svg
from recurra.insight.structure import Structure
from recurra.runtime import ModelFileError

no_random_weights = quick_weights.no_random_weights


def shape_of(structure: Structure, name: str) -> Any:
    return next(t.shape for t in structure.tensors if t.name == name)


def test_files_with_layers_that_there_is_no_code_for(tmp_path: Path) -> None:
    for ending in ("keras", "h5"):
        path = tmp_path / f"custom.{ending}"
        made("custom_layers").model.save(path)
        found = structure_of(path)
        assert [node.path for node in found.nodes] == ["masking", "first", "second", "last", "out"]
        assert shape_of(found, "second") == (None, None, 4)
        assert len(found.gaps) == 2
        assert "Residual" in found.gaps[0]
        total = made("custom_layers").model.count_params()
        assert sum(node.parameters for node in found.nodes) == total
    made("custom_cell").model.save(tmp_path / "cell.keras")
    own = structure_of(tmp_path / "cell.keras").nodes[0]
    assert own.recurrent.cells[0].class_name == "MinimalCell"
    assert own.recurrent.cells[0].units == 3
    model = keras.Sequential(
        [keras.Input((None, 3)), L.LSTM(4), L.Lambda(lambda t: t * 2, name="twice"), L.Dense(1)]
    )
    model.save(tmp_path / "lambda.keras")
    found = structure_of(tmp_path / "lambda.keras")
    assert shape_of(found, "twice") == (None, 4)
    assert "never run" in found.gaps[0]


class Around(keras.Layer):
    """As people write it: no get_config, so that Keras leaves its name out of the file."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inside = L.LSTM(3, return_sequences=True)

    def call(self, x: Any) -> Any:
        return self.inside(x)


def test_layers_without_names_in_the_file(tmp_path: Path) -> None:
    stack = [L.LSTM(4, return_sequences=True), Around(name="a"), Around(name="b"), L.Dense(1)]
    model = keras.Sequential([keras.Input((5, 2)), *stack])
    model.save(tmp_path / "own.keras")
    found = structure_of(tmp_path / "own.keras")
    assert [node.path for node in found.nodes][1:3] == ["around", "around_1"]
    assert [t.shape for t in found.tensors][-2:] == [(None, 5, 3), (None, 5, 1)]
    assert sum(node.parameters for node in found.nodes) == model.count_params()
    assert "the user's class Around" in found.gaps[0]
    doubled = recurra.load(
        tmp_path / "own.keras",
        custom={"Around": lambda x, config, weights: x[..., :3]},
    )
    assert doubled.predict(np.zeros((2, 5, 2), "float32")).shape == (2, 5, 1)


def test_without_keras(tmp_path: Path) -> None:
    made("tagger").model.save(tmp_path / "tagger.keras")
    made("custom_layers").model.save(tmp_path / "custom.keras")
    code = (
        "import sys\nsys.modules['keras'] = None\n"
        "from recurra.insight.structure import structure_of\n"
        "from recurra.insight.diagram import diagram_svg\n"
        f"for name in ('tagger', 'custom'):\n"
        f"    made = structure_of({str(tmp_path)!r} + '/' + name + '.keras')\n"
        "    print(len(made.nodes), '<svg' in diagram_svg(made))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "4 True\n5 True\n", run.stderr


JUNK = [None, 0, -1, 10**12, "x", [], {}, [None, 4], True, [[[]]], {"class_name": "LSTM"}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where anything stands in a configuration."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in pairs:
        yield (*path, key)
        if isinstance(each, (dict, list)):
            yield from places(each, (*path, key))


@pytest.mark.parametrize("name", ["custom_layers", "custom_cell"])
def test_damaged_configurations_are_refused_or_read(name: str, tmp_path: Path) -> None:
    """Whatever stands in a file: a structure that can be drawn, or an error about the file."""
    made(name).model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    found = list(places(json.loads(parts["config.json"])))
    chance, read = random.Random(3), 0
    for _ in range(60):
        config = json.loads(parts["config.json"])
        *way, last = chance.choice(found)
        inner = config
        for key in way:
            inner = inner[key]
        if chance.random() < 0.3:
            del inner[last]
        else:
            inner[last] = chance.choice(JUNK)
        with zipfile.ZipFile(tmp_path / "damaged.keras", "w") as archive:
            for entry, data in parts.items():
                archive.writestr(entry, json.dumps(config) if entry == "config.json" else data)
        try:
            structure = structure_of(tmp_path / "damaged.keras")
        except ModelFileError:
            continue
        assert diagram_svg(structure)
        read += 1
    assert 0 < read < 60
