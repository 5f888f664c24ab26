"""Traces that are made by hand, of any size and at once, to test reports and their page with."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from recurra.insight.structure import Cell, Node, Recurrent, Structure, Tensor
from recurra.insight.tracing import LayerTrace, Trace


def sample_trace(
    *,
    batch: int = 4,
    time_steps: int = 12,
    features: int = 3,
    units: int = 5,
    cell: str = "lstm",
    layers: int = 1,
    padded: bool = True,
    gradients: bool = False,
    classes: int = 0,
    names: str = "lstm",
) -> Trace:
    """A model of stacked layers, with values that look like a trained one's, though it is none.

    Unit 0 is dead, unit 1 has an open forget gate; the others come and go at rates of their own.

    Args:
        padded: whether row 1 ends after two thirds of the steps, and row 2 begins after one third.
        gradients: whether the trace has those of a loss.
        classes: how many the output has, one set for each row; 0 for a number at every step.
        names: of the layers: "lstm", "lstm_1", ...
    """
    random = np.random.default_rng(3)
    mask = None
    if padded:
        mask = np.ones((batch, time_steps), bool)
        if batch > 1:
            mask[1, 2 * time_steps // 3 :] = False
        if batch > 2:
            mask[2, : time_steps // 3] = False
    x = _waves(random, batch, time_steps, features) * 3
    traced = {}
    given = x
    for number in range(layers):
        path = names if number == 0 else f"{names}_{number}"
        traced[path] = _layer(random, path, cell, given, units, mask, gradients)
        given = traced[path].arrays["hidden_state"]
    outputs = given.mean(axis=2, keepdims=True)
    if classes:
        logits = random.normal(size=(batch, classes))
        outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Trace(
        layers=traced,
        structure=_structure(tuple(traced), features, units, cell, outputs.shape, bool(padded)),
        inputs={"series": x},
        outputs={"forecast": outputs.astype(np.float32)},
        masks={} if mask is None else {"series": mask},
    )


def _waves(random: Any, batch: int, time_steps: int, channels: int) -> np.ndarray:
    """(batch, time_steps, channels) between -1 and 1: waves with some noise."""
    steps = np.arange(time_steps)[None, :, None]
    rate = random.uniform(0.02, 0.6, size=(1, 1, channels))
    phase = random.uniform(0, 6, size=(batch, 1, channels))
    noise = random.normal(scale=0.1, size=(batch, time_steps, channels))
    return np.tanh(1.2 * np.sin(rate * steps + phase) + noise).astype(np.float32)


def _layer(
    random: Any, path: str, cell: str, x: np.ndarray, units: int, mask: Any, gradients: bool
) -> LayerTrace:
    batch, time_steps, _ = x.shape

    def waves() -> np.ndarray:
        return _waves(random, batch, time_steps, units)

    arrays = {"input": x}
    gates = {
        "lstm": ("input_gate", "forget_gate", "candidate", "output_gate"),
        "gru": ("update_gate", "reset_gate", "candidate"),
        "simple_rnn": (),
    }[cell]
    for gate in gates:
        arrays[gate] = waves() if gate == "candidate" else (waves() + 1) / 2
    if cell == "lstm":
        arrays["forget_gate"][..., 1] = 0.99
        arrays["cell_state"] = waves() * 2.3
    hidden = waves()
    hidden[..., 0] = 0
    arrays["hidden_state"] = hidden
    if mask is not None:
        for gate in gates:
            arrays[gate][~mask] = 0
    arrays["state_h"] = hidden[:, -1]
    if cell == "lstm":
        arrays["state_c"] = arrays["cell_state"][:, -1]
    if gradients:
        fading = np.float32(10) ** np.linspace(-9, -1, time_steps, dtype=np.float32)
        arrays["dhidden_state"] = waves() * fading[None, :, None]
    activations = {gate: "tanh" if gate == "candidate" else "sigmoid" for gate in gates}
    name = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN"}[cell]
    info = {"class_name": name, "units": units, "activations": activations}
    return LayerTrace(path, cell, arrays, mask, info=info)


def _structure(
    paths: tuple[str, ...],
    features: int,
    units: int,
    cell: str,
    result: tuple[int, ...],
    masked: bool,
) -> Structure:
    name = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN"}[cell]
    tensors = [Tensor(0, "series", (None, None, features), masked=masked)]
    nodes = []
    last = len(paths) - 1
    for number, path in enumerate(paths):
        sequences = number < last or len(result) == 3
        shape = (None, None, units) if sequences else (None, units)
        tensors.append(Tensor(number + 1, path, shape, masked=masked and sequences))
        recurrent = Recurrent(
            class_name=name,
            library="recurra",
            layer_name=path,
            cells=(Cell("cell", f"{name}Cell", cell, units, features if number == 0 else units),),
            return_sequences=sequences,
            engine="cpu",
            reason="every setting is one that the engine has",
        )
        nodes.append(
            Node(
                path,
                name,
                (number,),
                (number + 1,),
                parameters=100 * (number + 1),
                recurrent=recurrent,
                mask_role="uses" if masked else "none",
            )
        )
    made = len(tensors)
    tensors.append(Tensor(made, "forecast", (None, *result[1:])))
    config = {"activation": "softmax"} if len(result) == 2 else {}
    nodes.append(Node("forecast", "Dense", (made - 1,), (made,), parameters=6, config=config))
    return Structure("sample", "Functional", tuple(tensors), tuple(nodes), (0,), (made,))


def decoded(blob: dict[str, Any], channels: int, part: str = "data") -> np.ndarray:
    """(columns, channels) of a blob, NaN where there is no value; as the page reads it."""
    data = base64.b64decode(blob[part], validate=True)
    if blob["dtype"] == "float32":
        return np.frombuffer(data, "<f4").reshape(channels, -1).T
    codes = np.frombuffer(data, np.uint8).reshape(channels, -1).T
    ends = np.asarray(blob.get("ranges") or [blob["range"]], np.float64)
    values = ends[:, 0] + codes * (ends[:, 1] - ends[:, 0]) / 254
    return np.where(codes == 255, np.nan, values)
