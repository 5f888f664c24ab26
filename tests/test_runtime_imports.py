"""A loaded model needs no framework: none is imported, whatever the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import pytest

import runtime_zoo as zoo

FRAMEWORKS = ("jax", "jaxlib", "keras", "ml_dtypes", "tensorflow", "tf_keras", "torch")
NOT_NEEDED = (*FRAMEWORKS, "onnx", "onnxruntime", "pandas", "pyarrow", "rich", "typer")

PROGRAM = """
import sys
import numpy as np
import recurra

model = recurra.load(sys.argv[1])
rows = [np.ones([2, *(5 if n is None else n for n in s.shape[1:])]) for s in model.inputs]
made = model.predict(rows if len(rows) > 1 else rows[0])
try:
    session = model.open()
except recurra.runtime.StreamingError as error:
    print("whole sequences:", error)
else:
    step = [np.zeros(s.shape[2:], "float32") for s in model.inputs]
    print("a step:", session.step(*step))
repr(model), model.summary()
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("name", ["forecaster", "tagger", "attention_translator"])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_no_framework_is_imported(name: str, ending: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    path = tmp_path / f"model.{ending}"
    zoo.ARCHITECTURES[name](keras.layers)[0].save(path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("a step:" in done.stdout) == (name == "forecaster")
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert "numpy" in loaded
    assert "recurra" in loaded
    assert not loaded & set(NOT_NEEDED)


def test_importing_recurra_is_importing_nothing() -> None:
    program = "import sys, recurra; print(*(m for m in sys.modules if m.startswith('recurra.')))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
