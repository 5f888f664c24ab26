"""Tracing on each host: every model of the zoo, against a plain loop in NumPy over its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from insight_zoo import LOADS, MODELS, PATHS, made
from keras import ops, tree

import recurra
from recurra.insight import Trace

LOADED = [name for name, loads in LOADS.items() if loads]

EXACT = {"atol": 3e-6, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """A trace warns where a layer gave something else than it shows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*did not return what its cell computes.*")
        yield


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda v: np.maximum(v, 0),
    "linear": lambda v: v,
    "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1),
}


def lstm_step(x: Any, h: Any, c: Any, w: Any, act: Any, gate: Any) -> dict[str, Any]:
    kernel, recurrent, bias = w
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
    i, f, g, o = gate(i), gate(f), act(g), gate(o)
    c = f * c + i * g
    return {
        "input_gate": i,
        "forget_gate": f,
        "candidate": g,
        "output_gate": o,
        "cell_state": c,
        "hidden_state": o * act(c),
    }


def gru_step(x: Any, h: Any, w: Any, act: Any, gate: Any) -> dict[str, Any]:
    kernel, recurrent, bias = w
    xz, xr, xh = np.split(x @ kernel + (bias[0] if bias.ndim == 2 else bias), 3, axis=-1)
    units = h.shape[-1]
    if bias.ndim == 2:  # reset_after
        hz, hr, hh = np.split(h @ recurrent + bias[1], 3, axis=-1)
        z, r = gate(xz + hz), gate(xr + hr)
        candidate = act(xh + r * hh)
    else:
        hz, hr = np.split(h @ recurrent[:, : 2 * units], 2, axis=-1)
        z, r = gate(xz + hz), gate(xr + hr)
        candidate = act(xh + (r * h) @ recurrent[:, 2 * units :])
    return {
        "update_gate": z,
        "reset_gate": r,
        "candidate": candidate,
        "hidden_state": z * h + (1 - z) * candidate,
    }


def plain_loop(cell: Any, x: Any, mask: Any, start: Any, backwards: bool) -> dict[str, Any]:
    """A cell over a sequence, one step after the other, in float64."""
    kind = type(cell).__name__
    w = [np.asarray(ops.convert_to_numpy(v.value), np.float64) for v in cell.weights]
    gates = {"LSTMCell": 4, "GRUCell": 3, "SimpleRNNCell": 1}[kind]
    if len(w) == 2:
        rows = (2,) if getattr(cell, "reset_after", False) else ()
        w.append(np.zeros((*rows, gates * cell.units)))
    act = ACTIVATIONS[cell.activation.__name__]
    batch, time_steps = x.shape[:2]
    zeros = np.zeros((batch, cell.units))
    h = np.asarray(start.get("state_h", zeros), np.float64)
    c = np.asarray(start.get("state_c", zeros), np.float64)
    rows: dict[int, dict[str, Any]] = {}
    for t in reversed(range(time_steps)) if backwards else range(time_steps):
        x_t = x[:, t].astype(np.float64)
        keep = np.ones((batch, 1), bool) if mask is None else mask[:, t, None]
        if kind == "LSTMCell":
            new = lstm_step(x_t, h, c, w, act, ACTIVATIONS[cell.recurrent_activation.__name__])
            c = np.where(keep, new["cell_state"], c)
        elif kind == "GRUCell":
            new = gru_step(x_t, h, w, act, ACTIVATIONS[cell.recurrent_activation.__name__])
        else:
            new = {"hidden_state": act(x_t @ w[0] + h @ w[1] + w[2])}
        h = np.where(keep, new["hidden_state"], h)
        rows[t] = {name: np.where(keep, value, 0) for name, value in new.items()}
        rows[t] |= {"hidden_state": h} | ({"cell_state": c} if "cell_state" in new else {})
    stacked = {n: np.stack([rows[t][n] for t in range(time_steps)], 1) for n in rows[0]}
    return stacked | {"state_h": h} | ({"state_c": c} if kind == "LSTMCell" else {})


def layer_at(model: Any, path: str) -> Any:
    """The layer that a trace's path stands for, and for cells of a stack which."""
    layer = model
    *parts, last = [part.partition(":")[0] for part in path.split("/")]
    for part in [*parts, last]:
        if part.startswith("cell_") and hasattr(layer, "cell"):
            return layer, layer.cell.cells[int(part.removeprefix("cell_"))]
        inner = getattr(layer, part, None)
        layers = layer.layers if isinstance(layer, keras.Model) else layer._layers
        layer = inner or next(each for each in layers if each.name == part)
    return layer, layer.cell


def assert_right(trace: Trace, model: Any) -> None:
    """Every array of every layer of Keras's own cells is what the plain loop gives."""
    for path, layer in trace.layers.items():
        if layer.cell is None:
            continue
        outer, cell = layer_at(model, path)
        assert layer.go_backwards == outer.go_backwards
        expected = plain_loop(
            cell, layer.arrays["input"], layer.mask, layer.initial, layer.go_backwards
        )
        assert list(layer.arrays) == ["input", *expected]
        for name, array in expected.items():
            np.testing.assert_allclose(layer.arrays[name], array, **EXACT, err_msg=f"{path} {name}")


def assert_same_outputs(trace: Trace, result: Any) -> None:
    """The traced outputs are the model's own, to the bit."""
    for given, tensor in zip(trace.outputs.values(), tree.flatten(result), strict=True):
        assert given.tobytes() == np.asarray(ops.convert_to_numpy(tensor)).tobytes()


def variables_of(model: Any) -> list[bytes]:
    return [np.asarray(ops.convert_to_numpy(v.value)).tobytes() for v in model.variables]


@pytest.mark.parametrize("library", ["recurra", "keras"])
@pytest.mark.parametrize("name", MODELS)
def test_trace_of_every_model(name: str, library: str) -> None:
    model, x, _ = made(name, library)
    before = variables_of(model)
    trace = recurra.trace(model, x)
    assert variables_of(model) == before
    assert sorted(trace) == sorted(PATHS[name])
    assert_right(trace, model)
    assert_same_outputs(trace, model(x))
    if name == "stateful":
        for layer in model.layers:
            getattr(layer, "reset_state", lambda: None)()
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


@pytest.mark.parametrize("name", LOADED)
def test_loaded_model_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    """To the bit wherever a layer's input is the same to the bit."""
    model, x, _ = made(name)
    model.save(tmp_path / "model.keras")
    loaded = recurra.load(tmp_path / "model.keras")
    trace, again = recurra.trace(model, x), recurra.trace(loaded, x)
    assert list(again) == list(trace)
    assert list(again.inputs) == list(trace.inputs)
    assert list(again.outputs) == list(trace.outputs)
    for output, predicted in zip(
        again.outputs.values(), tree.flatten(loaded.predict(x)), strict=True
    ):
        assert output.tobytes() == predicted.tobytes()
    for path, layer in trace.layers.items():
        other = again.layers[path]
        assert list(other.arrays) == list(layer.arrays)
        assert list(other.initial) == list(layer.initial)
        assert (other.mask is None) == (layer.mask is None)
        assert other.info == layer.info | {"class_name": other.info["class_name"]}
        same = layer.arrays["input"].tobytes() == other.arrays["input"].tobytes() and all(
            layer.initial[name].tobytes() == other.initial[name].tobytes() for name in layer.initial
        )
        for name, array in layer.arrays.items():
            np.testing.assert_allclose(other.arrays[name], array, **EXACT, err_msg=f"{path} {name}")
            if same:
                assert other.arrays[name].tobytes() == array.tobytes(), (path, name)
