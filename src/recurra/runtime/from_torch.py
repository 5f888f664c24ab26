"""PyTorch's recurrent modules as models of the runtime; torch itself is never imported here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra import weights as layouts
from recurra.runtime.build import Writer
from recurra.runtime.create import make_layer
from recurra.runtime.graph import Graph, Tensor
from recurra.runtime.layer import Array
from recurra.runtime.model import Runtime

CELLS = {
    "LSTM": ("lstm", "LSTM"),
    "GRU": ("gru", "GRU"),
    "RNN_TANH": ("simple_rnn", "SimpleRNN"),
    "RNN_RELU": ("simple_rnn", "SimpleRNN"),
}
"""Names in `recurra.cells` and Keras's classes, by PyTorch's `module.mode`."""

STATES = {"h": "hidden_state", "c": "cell_state"}


def from_torch(module: Any) -> Runtime:
    """A torch.nn.LSTM, GRU or RNN module as a runtime model, with a copy of its weights.

    Whatever `batch_first` says, the runtime's arrays have the batch first: an input "input"
    (batch, time_steps, input_size) and several outputs. "output" is (batch, time_steps,
    directions * hidden_size), as PyTorch's first result with batch_first=True. PyTorch's h_n (and
    c_n of an LSTM), of shape (layers * directions, batch, hidden_size), come as one array
    (batch, hidden_size) for each layer and direction, in that order, hidden states first, named as
    PyTorch names weights: "hidden_state_l0", "hidden_state_l0_reverse", "hidden_state_l1", ...,
    "cell_state_l0", ... A call starts from zero states. Dropout between layers is left out, as in
    `module.eval()`.

    Unidirectional modules stream (`Runtime.open`); bidirectional ones need whole sequences.

    Args:
        module: a torch.nn.LSTM, torch.nn.GRU or torch.nn.RNN on any device.

    Returns:
        The model; it computes in float32.

    Raises:
        TypeError: for anything else; layers around it have to be written by hand or go through
            ONNX (`torch.onnx.export`, then `recurra.load`).
        ValueError: for an LSTM with projections (proj_size > 0), which Keras does not have.

    Example:
        >>> import torch, recurra  # doctest: +SKIP
        >>> lstm = torch.nn.LSTM(3, 5, num_layers=2, batch_first=True)  # doctest: +SKIP
        >>> model = recurra.from_torch(lstm)  # doctest: +SKIP
        >>> [output.name for output in model.outputs]  # doctest: +SKIP
        ['output', 'hidden_state_l0', 'hidden_state_l1', 'cell_state_l0', 'cell_state_l1']
        >>> output, h0, h1, c0, c1 = model.predict(numpy.zeros((4, 10, 3)))  # doctest: +SKIP
    """
    mode = getattr(module, "mode", None)
    if mode not in CELLS or not callable(getattr(module, "state_dict", None)):
        raise TypeError(
            f"from_torch(module) got {_kind(module)}; expected one torch.nn.LSTM, torch.nn.GRU or "
            "torch.nn.RNN. Modules around it (Sequential, Linear, your own classes) are not read: "
            "give the recurrent module inside (module.lstm), or export the whole model with "
            "torch.onnx.export and load that file with recurra.load."
        )
    if getattr(module, "proj_size", 0):
        raise ValueError(
            f"from_torch(module) got an LSTM with proj_size={module.proj_size}: Keras has no "
            "projections. Use proj_size=0."
        )
    directions = 2 if module.bidirectional else 1
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if module.bias else 2]
    # As attributes: `state_dict` has what a weight is computed from where it is parametrized.
    parameters = {
        name: _array(name, getattr(module, name))
        for layer in range(module.num_layers)
        for suffix in ("", "_reverse")[:directions]
        for name in [f"{kind}_l{layer}{suffix}" for kind in kinds]
    }
    return Runtime(_graph(mode, parameters, module.num_layers, directions))


def _kind(module: Any) -> str:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"


def _array(name: str, value: Any) -> Array:
    """A parameter as float32, on the CPU."""
    if getattr(value, "is_meta", False):
        raise ValueError(
            f"from_torch(module) got a module on the device 'meta', where {name} has no values: "
            "load its weights on the CPU first (module.to_empty(device='cpu'), load_state_dict)."
        )
    return np.array(value.detach().cpu().float().numpy(), np.float32)


def _graph(mode: str, parameters: Mapping[str, Array], layers: int, directions: int) -> Graph:
    cell, class_name = CELLS[mode]
    given: dict[int, dict[str, Array]] = {}
    writer = Writer(given)
    features = parameters["weight_ih_l0"].shape[1]
    x = inputs = writer.tensor("input", (None, None, features))
    states: dict[str, list[Tensor]] = {"h": [], "c": []}
    for number in range(layers):
        read = [
            layouts.from_torch(cell, parameters, layer=number, reverse=bool(direction))
            for direction in range(directions)
        ]
        layer = make_layer(_entry(class_name, mode, read, number), _name(class_name, number))
        given[id(layer)] = dict(read[0])
        if directions == 2:
            given[id(layer)] = {
                f"{part}/{name}": array
                for part, weights in zip(("forward_layer", "backward_layer"), read, strict=True)
                for name, array in weights.items()
            }
        x, *made = writer.layer(layer, [x], {}).flat
        kinds = ("h", "c") if mode == "LSTM" else ("h",)
        for index, tensor in enumerate(made):
            reverse = "_reverse" if index >= len(kinds) else ""
            kind = kinds[index % len(kinds)]
            name = f"{STATES[kind]}_l{number}{reverse}"
            states[kind].append(Tensor(tensor.index, name, tensor.shape))
    outputs = [Tensor(x.index, "output", x.shape), *states["h"], *states["c"]]
    return Graph(class_name.lower(), [inputs], outputs, writer.nodes, _digest(mode, parameters))


def _name(class_name: str, number: int) -> str:
    base = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}[class_name]
    return f"{base}_l{number}"


def _entry(
    class_name: str, mode: str, weights: Sequence[Mapping[str, Array]], number: int
) -> dict[str, Any]:
    """A layer's description as Keras would write it."""
    config: dict[str, Any] = {
        "name": _name(class_name, number),
        "units": weights[0]["recurrent_kernel"].shape[0],
        "use_bias": "bias" in weights[0],
        "return_sequences": True,
        "return_state": True,
    }
    if mode.startswith("RNN"):
        config["activation"] = mode.removeprefix("RNN_").lower()
    entry = {"module": "keras.layers", "class_name": class_name, "config": config}
    if len(weights) == 1:
        return entry
    options = {"name": config["name"], "merge_mode": "concat", "layer": entry}
    return {"module": "keras.layers", "class_name": "Bidirectional", "config": options}


def _digest(mode: str, parameters: Mapping[str, Array]) -> str:
    """Of the module's kind and all its weights."""
    digest = hashlib.sha256(mode.encode())
    for name in sorted(parameters):
        array = np.ascontiguousarray(parameters[name])
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
