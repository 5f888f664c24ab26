"""LSTM, GRU and RNN operators as recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recurra import weights as layouts
from recurra.runtime.create import make_layer
from recurra.runtime.layer import Array, Layer
from recurra.runtime.onnx.drafts import Draft, Weights
from recurra.runtime.onnx.reading import Node, Reader
from recurra.runtime.onnx.views import Axis, Fill, Known, LayoutError, Stack, View

_CELLS = {"LSTM": ("lstm", "LSTM"), "GRU": ("gru", "GRU"), "RNN": ("simple_rnn", "SimpleRNN")}
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def recurrent(reader: Reader, node: Node) -> Sequence[Known | None]:
    """One operator, in one direction or both."""
    _check(node)
    x = reader.view(node, 0)
    batch, time_steps = _axes(x)
    cells = _weights(reader, node)
    units = cells[0]["recurrent_kernel"].shape[0]
    functions = list(_activations(node, len(cells)))
    kinds = 2 if node.kind == "LSTM" else 1
    starts = [_states(reader, node, place, len(cells)) for place in (5, 6)[:kinds]]
    given = [s for s in starts if s is not None]
    if given and len(given) < kinds:
        given = [s or _zeros(reader, node) for s in starts]
    # Keras's order: all states of the forward direction first.
    states = [given[kind][d] for d in range(len(cells)) for kind in range(kinds)] if given else []
    numbers = [reader.drafts.number() for _ in range(1 + kinds * len(cells))]
    name = reader.drafts.name(_CELLS[node.kind][0])
    config = _config(node, name, units, "bias" in cells[0], functions[0])
    other = None
    if len(cells) == 2:
        other = {
            **_config(node, name, units, "bias" in cells[1], functions[1]),
            "go_backwards": True,
        }
    last = numbers[1] if len(cells) == 1 else None
    reader.drafts.add(
        Draft(
            "recurrent",
            lambda used: _made(node.kind, name, config, other, cells, used),
            [x.source],
            numbers,
            states,
            {"last": last},
        )
    )
    each = (reader.atom("units", units),)
    both = (reader.atom("directions", 2),) if len(cells) == 2 else ()
    merged = (*both, *each)
    sequence = View(numbers[0], (batch, time_steps, merged), (time_steps, both, batch, each))
    final = []
    for kind in range(kinds):
        views = []
        for direction in range(len(cells)):
            axes = (batch, (reader.atom("units", units),))
            views.append(View(numbers[1 + direction * kinds + kind], axes, axes))
        final.append(Stack(tuple(views)))
    return [sequence, *final]


def _check(node: Node) -> None:
    """Refuse what Keras's layers do not have."""
    if int(node.get("layout", 0)):
        raise node.unsupported("layout=1. Export with layout=0, as all exporters do.")
    if node.get("direction", "forward") not in ("forward", "bidirectional"):
        raise node.unsupported(
            f"direction={node.get('direction')}; forward and bidirectional can be read."
        )
    if node.get("clip") is not None or int(node.get("input_forget", 0)):
        raise node.unsupported("clip and input_forget, which Keras's layers do not have.")
    if len(node.inputs) > 4 and node.inputs[4]:
        raise node.unsupported(
            "sequence_lens, as packed sequences have. Export the model without them, and give the "
            "lengths as a mask to predict."
        )
    if len(node.inputs) > 7 and node.inputs[7]:
        raise node.unsupported("peephole weights (P), which Keras's LSTM does not have.")
    if len(node.inputs) < 3:
        raise node.unsupported("it has no weights.")


def _axes(x: View) -> tuple[Axis, Axis]:
    """Batch and time steps of an input (time_steps, batch, features)."""
    if len(x.base) != 3 or x.axes != (x.base[1], x.base[0], x.base[2]):
        raise LayoutError("its input is not (time_steps, batch, features)")
    return x.base[0], x.base[1]


def _weights(reader: Reader, node: Node) -> list[dict[str, Array]]:
    """The weights of each direction, in Keras's layout."""
    tensors = {"W": reader.constant(node, 1, "W"), "R": reader.constant(node, 2, "R")}
    if len(node.inputs) > 3 and node.inputs[3]:
        tensors["B"] = reader.constant(node, 3, "B")
    count = 2 if node.get("direction", "forward") == "bidirectional" else 1
    if any(len(array) != count for array in tensors.values()):
        raise node.unsupported("its weights are not of as many directions as it has.")
    return [
        layouts.from_onnx(
            _CELLS[node.kind][0],
            tensors,
            linear_before_reset=bool(node.get("linear_before_reset", 0)),
            direction=direction,
        )
        for direction in range(count)
    ]


def _states(reader: Reader, node: Node, place: int, count: int) -> list[int] | None:
    """Numbers of the initial states of each direction; None for zeros."""
    if len(node.inputs) <= place or not node.inputs[place]:
        return None
    value = reader.value(node.inputs[place])
    zero = (isinstance(value, Fill) and value.number == 0) or (
        isinstance(value, np.ndarray) and not np.any(value)
    )
    if zero:
        return None
    if not isinstance(value, Stack) or len(value.items) != count:
        raise node.unsupported(
            "its initial states are neither zeros nor inputs of the model nor other states."
        )
    return [reader.plain(item) for item in value.items]


def _zeros(reader: Reader, node: Node) -> list[int]:
    raise node.unsupported("one of its two initial states is zeros and the other is not.")


def _activations(node: Node, count: int) -> Iterator[list[Any]]:
    """The functions of each direction, as Keras's configurations have them."""
    usual = _DEFAULTS[node.kind]
    names = [str(name) for name in node.get("activations") or usual * count]
    alphas = [float(n) for n in node.get("activation_alpha") or ()]
    betas = [float(n) for n in node.get("activation_beta") or ()]
    if len(names) != len(usual) * count:
        raise node.unsupported(f"it has {len(names)} activations.")
    found = [_activation(node, name, alphas, betas) for name in names]
    for direction in range(count):
        yield found[direction * len(usual) : (direction + 1) * len(usual)]


def _activation(node: Node, name: str, alphas: list[float], betas: list[float]) -> Any:
    """One function; those with parameters take theirs from the lists, in order."""

    def alpha(usual: float) -> float:
        return alphas.pop(0) if alphas else usual

    def beta(usual: float) -> float:
        return betas.pop(0) if betas else usual

    plain = {"Tanh": "tanh", "Sigmoid": "sigmoid", "Relu": "relu", "Softsign": "softsign"}
    plain["Softplus"] = "softplus"
    if name in plain:
        return plain[name]
    if name == "LeakyRelu":
        return {"class_name": "LeakyReLU", "config": {"negative_slope": alpha(0.01)}}
    if name == "ThresholdedRelu":
        return {"class_name": "ReLU", "config": {"threshold": alpha(1.0)}}
    if name == "Elu":
        return {"class_name": "ELU", "config": {"alpha": alpha(1.0)}}
    if name == "Affine" and (alpha(1.0), beta(0.0)) == (1.0, 0.0):
        return "linear"
    if name == "HardSigmoid" and np.allclose([alpha(0.2), beta(0.5)], [1 / 6, 0.5], rtol=1e-6):
        return "hard_sigmoid"
    raise node.unsupported(f"its activation {name} with these parameters is none of Keras's.")


def _config(
    node: Node, name: str, units: int, use_bias: bool, functions: Sequence[Any]
) -> dict[str, Any]:
    """The layer's configuration but for what it returns."""
    config: dict[str, Any] = {"name": name, "units": units, "use_bias": use_bias}
    if node.kind == "RNN":
        return {**config, "activation": functions[0]}
    if node.kind == "LSTM" and functions[1] != functions[2]:
        raise node.unsupported("it has different activations for its candidate and its output.")
    if node.kind == "GRU":
        config["reset_after"] = bool(node.get("linear_before_reset", 0))
    return {**config, "activation": functions[1], "recurrent_activation": functions[0]}


def _made(
    kind: str,
    name: str,
    config: dict[str, Any],
    other: dict[str, Any] | None,
    cells: Sequence[Weights],
    used: Sequence[bool],
) -> tuple[Layer, Weights, Sequence[int | None]]:
    """The layer that returns what is used: the sequence, the states, or the last output alone."""
    sequence, states = used[0], any(used[1:])
    alone = not sequence and other is None and not any(used[2:])
    returns = {"return_sequences": sequence, "return_state": states and not alone}
    class_name = _CELLS[kind][1]
    entry: dict[str, Any] = {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {**config, **returns},
    }
    places: list[int | None] = [0 if sequence else None]
    if alone:
        places += [0] + [None] * (len(used) - 2)
    else:
        places += [*range(1, len(used))] if states else [None] * (len(used) - 1)
    if other is None:
        return make_layer(entry, name), cells[0], places
    backward = {**entry, "config": {**other, **returns}}
    both = {"name": name, "merge_mode": "concat", "layer": entry, "backward_layer": backward}
    outer = {"module": "keras.layers", "class_name": "Bidirectional", "config": both}
    weights = {
        f"{part}/{label}": array
        for part, given in zip(("forward_layer", "backward_layer"), cells, strict=True)
        for label, array in given.items()
    }
    return make_layer(outer, name), weights, places


OPERATORS = {"LSTM": recurrent, "GRU": recurrent, "RNN": recurrent}
"""How each operator is read."""
