"""Small models for the runtime's tests: graphs of layers with random weights, without Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.cells import CELLS
from recurra.runtime import layers
from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.layer import LAYERS, Layer, Shape

_CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}


def make_layer(
    class_name: str, name: str, shape: Shape, rng: np.random.Generator, **config: Any
) -> Layer:
    """A layer for inputs of a shape, with random weights."""
    layers.load()
    layer = LAYERS[class_name]({"name": name, **config}, name)
    shapes = _weight_shapes(class_name, shape, config)
    weights = {
        variable.name: rng.normal(0, 0.5, shapes[variable.name]).astype(np.float32)
        for variable in layer.variables()
    }
    if "moving_variance" in weights:
        weights["moving_variance"] = np.abs(weights["moving_variance"])
    layer.build(weights, [shape])
    return layer


def _weight_shapes(
    class_name: str, shape: Shape, config: Mapping[str, Any]
) -> Mapping[str, tuple[int, ...]]:
    if class_name == "Embedding":
        return {"embeddings": (config["input_dim"], config["output_dim"])}
    features = shape[-1] or 0
    if class_name in _CELLS:
        return CELLS[_CELLS[class_name]].weight_shapes(
            features, config["units"], config.get("reset_after", True)
        )
    if class_name == "RNN":
        found = {}
        for entry in config["cell"]["config"]["cells"]:
            kind, cell = entry["class_name"].removesuffix("Cell"), entry["config"]
            prefix = {"LSTM": "lstm_cell", "GRU": "gru_cell", "SimpleRNN": "simple_rnn_cell"}[kind]
            for each, size in CELLS[_CELLS[kind]].weight_shapes(features, cell["units"]).items():
                found[f"{prefix}/{each}"] = size
            features = cell["units"]
        return found
    if class_name == "Dense":
        return {"kernel": (features, config["units"]), "bias": (config["units"],)}
    if class_name == "Conv1D":
        inner = features // config.get("groups", 1)
        kernel = (config["kernel_size"], inner, config["filters"])
        return {"kernel": kernel, "bias": (config["filters"],)}
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return {name: (features,) for name in names}


class Model:
    """A graph that grows, a call at a time.

    Example:
        >>> model = Model(seed=1)
        >>> x = model.input("x", (None, None, 3))
        >>> graph = model.graph([model("LSTM", x, units=4)])
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs: list[Tensor] = []
        self.nodes: list[Node] = []
        self._names: dict[str, int] = {}
        self._tensors = 0

    def tensor(self, name: str, shape: Shape, dtype: str = "float32") -> Tensor:
        self._tensors += 1
        return Tensor(self._tensors - 1, name, shape, dtype)

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> Tensor:
        """A new input."""
        self.inputs.append(self.tensor(name, shape, dtype))
        return self.inputs[-1]

    def __call__(
        self,
        class_name: str,
        inputs: Tensor | Sequence[Tensor],
        initial_state: Sequence[Tensor] | None = None,
        **config: Any,
    ) -> Any:
        """The output of a new layer, or a list of outputs."""
        listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        count = self._names[class_name] = self._names.get(class_name, 0) + 1
        name = class_name.lower() + (f"_{count - 1}" if count > 1 else "")
        layer = make_layer(class_name, name, listed[0].shape, self.rng, **config)
        return self.call(layer, listed, initial_state)

    def call(
        self, layer: Layer, inputs: Sequence[Tensor], initial_state: Sequence[Tensor] | None = None
    ) -> Any:
        """The output of a layer that there is, or a list of outputs."""
        shapes = layer.output_shapes([tensor.shape for tensor in inputs])
        outputs = [self.tensor(layer.name, shape) for shape in shapes]
        arguments = {} if initial_state is None else {"initial_state": list(initial_state)}
        self.nodes.append(Node(layer, inputs, outputs, arguments))
        return outputs[0] if len(outputs) == 1 else outputs

    def graph(self, outputs: Sequence[Tensor], digest: str = "0123") -> Graph:
        """The model so far."""
        return Graph("model", self.inputs, outputs, self.nodes, digest)


def stack(*cells: tuple[str, int]) -> dict[str, Any]:
    """The configuration of StackedRNNCells: ("LSTM", units), ... of different classes."""
    entries = [
        {
            "class_name": f"{kind}Cell",
            "module": "keras.layers",
            "config": {"name": f"{kind.lower()}_cell", "units": units},
        }
        for kind, units in cells
    ]
    return {"class_name": "StackedRNNCells", "module": "keras.layers", "config": {"cells": entries}}
