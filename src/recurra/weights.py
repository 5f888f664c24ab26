"""Layouts of recurrent weights: Keras's, PyTorch's, ONNX's. The only place that reorders gates.

Keras's layout, the one used everywhere else, is {"kernel": (F, G*U), "recurrent_kernel": (U, G*U),
"bias": (G*U,), or (2, G*U) for GRU with reset_after=True}; without "bias" if there is none. F is
features, U units, G the number of gates, in the order of the cell's definition.

    PyTorch   weight_ih (G*U, F), weight_hh (G*U, U), bias_ih and bias_hh (G*U,).
              Documentation of torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN.
    ONNX      W (directions, G*U, F), R (directions, G*U, U), B (directions, 2*G*U): the input's
              biases, then the recurrent ones. Operators LSTM, GRU, RNN of the ONNX standard.

Both always have two biases. Where Keras has one, their sum is what counts: reading adds them up,
writing leaves the recurrent one zero. Arrays keep their dtype and are never aliased.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurra.cells import CELLS, CellSpec

Weights = dict[str, NDArray]

GATE_ORDER: dict[str, dict[str, tuple[str, ...]]] = {
    "PyTorch": {
        "lstm": ("input_gate", "forget_gate", "candidate", "output_gate"),
        "gru": ("reset_gate", "update_gate", "candidate"),
        "simple_rnn": ("candidate",),
    },
    "ONNX": {
        "lstm": ("input_gate", "output_gate", "forget_gate", "candidate"),
        "gru": ("update_gate", "reset_gate", "candidate"),
        "simple_rnn": ("candidate",),
    },
}
"""Order of the gates' blocks in each foreign layout, in Recurra's names."""


def from_torch(
    cell: str, parameters: Mapping[str, ArrayLike], *, layer: int = 0, reverse: bool = False
) -> Weights:
    """Weights of one direction of one layer of torch.nn.LSTM, GRU or RNN, in Keras's layout.

    A GRU comes out as reset_after=True, the only kind that PyTorch has.

    Args:
        cell: "lstm", "gru" or "simple_rnn".
        parameters: a `state_dict()` on the CPU, or arrays under its names: weight_ih_l0 (G*U, F),
            weight_hh_l0 (G*U, U) and, unless the module has none, bias_ih_l0 and bias_hh_l0 (G*U,).
        layer: which layer of a stack.
        reverse: whether to read the backward direction of a bidirectional module.

    Returns:
        {"kernel", "recurrent_kernel"[, "bias"]}, new arrays of the dtype given.

    Raises:
        ValueError: for a missing name, a shape that does not fit, or an LSTM with projections.

    Example:
        >>> import numpy as np
        >>> shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4)}
        >>> given = {name: np.zeros(shape) for name, shape in shapes.items()}
        >>> {name: array.shape for name, array in from_torch("gru", given).items()}
        {'kernel': (3, 12), 'recurrent_kernel': (4, 12)}
    """
    spec = _spec(cell)
    suffix = f"_l{layer}{'_reverse' if reverse else ''}"
    if f"weight_hr{suffix}" in parameters:
        raise ValueError(
            f"weight_hr{suffix} was given: an LSTM with projections (proj_size > 0) has no "
            "counterpart in Keras. Use proj_size=0."
        )
    weight_ih = _require(parameters, f"weight_ih{suffix}", "PyTorch")
    weight_hh = _require(parameters, f"weight_hh{suffix}", "PyTorch")
    _, units = _sizes(spec, f"weight_ih{suffix}", weight_ih, f"weight_hh{suffix}", weight_hh)
    biases = None
    if f"bias_ih{suffix}" in parameters or f"bias_hh{suffix}" in parameters:
        pair = [
            _require(parameters, f"{name}{suffix}", "PyTorch") for name in ("bias_ih", "bias_hh")
        ]
        for name, bias in zip(("bias_ih", "bias_hh"), pair, strict=True):
            _shape(f"{name}{suffix}", bias, (len(spec.gates) * units,))
        biases = np.stack(pair)
    return _to_keras(spec, "PyTorch", weight_ih, weight_hh, biases, reset_after=True)


def to_torch(
    cell: str,
    weights: Mapping[str, ArrayLike],
    *,
    reset_after: bool = True,
    layer: int = 0,
    reverse: bool = False,
) -> Weights:
    """Keras weights under the names and in the layout of torch.nn.LSTM, GRU or RNN.

    Args:
        cell: "lstm", "gru" or "simple_rnn".
        weights: {"kernel": (F, G*U), "recurrent_kernel": (U, G*U)[, "bias"]}.
        reset_after: the GRU's option; PyTorch has no GRU with reset_after=False.
        layer, reverse: which layer and direction the names are for.

    Returns:
        weight_ih_l0 (G*U, F), weight_hh_l0 (G*U, U)[, bias_ih_l0, bias_hh_l0 (G*U,)]; new arrays.

    Raises:
        ValueError: for a missing name, a shape that does not fit, or reset_after=False for a GRU.

    Example:
        >>> import numpy as np
        >>> weights = {"kernel": np.zeros((3, 4)), "recurrent_kernel": np.zeros((4, 4))}
        >>> list(to_torch("simple_rnn", weights))
        ['weight_ih_l0', 'weight_hh_l0']
    """
    spec = _spec(cell)
    if "reset_after" in spec.options and not reset_after:
        raise ValueError(
            f"{spec.layer} with reset_after=False has no counterpart in PyTorch, which applies the "
            "reset gate after the product. Use reset_after=True, or ONNX (`to_onnx`)."
        )
    weight_ih, weight_hh, biases = _from_keras(spec, "PyTorch", weights, reset_after=True)
    suffix = f"_l{layer}{'_reverse' if reverse else ''}"
    result = {f"weight_ih{suffix}": weight_ih, f"weight_hh{suffix}": weight_hh}
    if biases is not None:
        result |= {f"bias_ih{suffix}": biases[0].copy(), f"bias_hh{suffix}": biases[1].copy()}
    return result


def from_onnx(
    cell: str,
    tensors: Mapping[str, ArrayLike],
    *,
    linear_before_reset: bool = True,
    direction: int = 0,
) -> Weights:
    """Weights of one direction of an ONNX LSTM, GRU or RNN node, in Keras's layout.

    Args:
        cell: "lstm", "gru" or "simple_rnn".
        tensors: the node's inputs {"W": (directions, G*U, F), "R": (directions, G*U, U)[,
            "B": (directions, 2*G*U)]}.
        linear_before_reset: the GRU node's attribute; it is Keras's reset_after. (The ONNX
            standard's default is 0.)
        direction: which direction to read; 1 is the backward one of a bidirectional node.

    Returns:
        {"kernel", "recurrent_kernel"[, "bias"]}, new arrays of the dtype given.

    Raises:
        ValueError: for a missing name, a shape that does not fit, or peephole weights ("P").

    Example:
        >>> import numpy as np
        >>> tensors = {"W": np.zeros((1, 12, 3)), "R": np.zeros((1, 12, 4)), "B": np.ones((1, 24))}
        >>> from_onnx("gru", tensors, linear_before_reset=False)["bias"].shape
        (12,)
    """
    spec = _spec(cell)
    if tensors.get("P") is not None:
        raise ValueError("P was given: peephole weights have no counterpart in Keras. Leave P out.")
    found = {name: _require(tensors, name, "ONNX") for name in ("W", "R")}
    if tensors.get("B") is not None:
        found["B"] = _require(tensors, "B", "ONNX")
    for name, array in found.items():
        if array.ndim != (2 if name == "B" else 3) or not 0 <= direction < len(array):
            raise ValueError(
                f"{name} has shape {array.shape}; expected {'two' if name == 'B' else 'three'} "
                f"dimensions, the first being directions, more than direction={direction}."
            )
    w, r = found["W"][direction], found["R"][direction]
    _, units = _sizes(spec, f"W[{direction}]", w, f"R[{direction}]", r)
    biases = None
    if "B" in found:
        biases = found["B"][direction]
        _shape(f"B[{direction}]", biases, (2 * len(spec.gates) * units,))
        biases = biases.reshape(2, -1)
    return _to_keras(spec, "ONNX", w, r, biases, reset_after=bool(linear_before_reset))


def to_onnx(cell: str, weights: Mapping[str, ArrayLike], *, reset_after: bool = True) -> Weights:
    """Keras weights as the inputs of a forward ONNX LSTM, GRU or RNN node.

    A GRU node must carry the attribute linear_before_reset=int(reset_after).

    Args:
        cell: "lstm", "gru" or "simple_rnn".
        weights: {"kernel": (F, G*U), "recurrent_kernel": (U, G*U)[, "bias"]}.
        reset_after: the GRU's option.

    Returns:
        {"W": (1, G*U, F), "R": (1, G*U, U)[, "B": (1, 2*G*U)]}; new arrays.

    Raises:
        ValueError: for a missing name or a shape that does not fit.

    Example:
        >>> import numpy as np
        >>> weights = {"kernel": np.zeros((3, 16)), "recurrent_kernel": np.zeros((4, 16))}
        >>> to_onnx("lstm", weights)["W"].shape
        (1, 16, 3)
    """
    w, r, biases = _from_keras(_spec(cell), "ONNX", weights, reset_after=reset_after)
    result = {"W": w[np.newaxis], "R": r[np.newaxis]}
    if biases is not None:
        result["B"] = biases.reshape(1, -1)
    return result


def _to_keras(
    spec: CellSpec,
    layout: str,
    w: NDArray,
    r: NDArray,
    biases: NDArray | None,
    *,
    reset_after: bool,
) -> Weights:
    """w (G*U, F), r (G*U, U), biases (2, G*U) in a foreign gate order -> Keras's layout."""
    foreign = GATE_ORDER[layout][spec.name]
    result = {
        "kernel": _reorder(w.T, foreign, spec.gates),
        "recurrent_kernel": _reorder(r.T, foreign, spec.gates),
    }
    if biases is not None:
        two = len(spec.weight_shapes(1, 1, reset_after)["bias"]) == 2
        result["bias"] = _reorder(biases if two else biases[0] + biases[1], foreign, spec.gates)
    return result


def _from_keras(
    spec: CellSpec, layout: str, weights: Mapping[str, ArrayLike], *, reset_after: bool
) -> tuple[NDArray, NDArray, NDArray | None]:
    """The inverse of `_to_keras`, with shapes checked."""
    kernel = _require(weights, "kernel", "Keras")
    recurrent_kernel = _require(weights, "recurrent_kernel", "Keras")
    features, units = _sizes(
        spec, "kernel", kernel, "recurrent_kernel", recurrent_kernel, gates_last=True
    )
    foreign = GATE_ORDER[layout][spec.name]
    biases = None
    if weights.get("bias") is not None:
        bias = np.asarray(weights["bias"])
        _shape("bias", bias, spec.weight_shapes(features, units, reset_after)["bias"])
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        biases = _reorder(both, spec.gates, foreign)
    w = np.ascontiguousarray(_reorder(kernel, spec.gates, foreign).T)
    r = np.ascontiguousarray(_reorder(recurrent_kernel, spec.gates, foreign).T)
    return w, r, biases


def _reorder(array: NDArray, source: tuple[str, ...], target: tuple[str, ...]) -> NDArray:
    """Permute the gates' blocks along the last axis; always a new array."""
    blocks = dict(zip(source, np.split(array, len(source), axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in target], axis=-1)


def _spec(cell: str) -> CellSpec:
    if cell not in CELLS:
        raise ValueError(f"cell={cell!r} is not a cell; expected one of {', '.join(CELLS)}.")
    return CELLS[cell]


def _require(arrays: Mapping[str, ArrayLike], name: str, layout: str) -> NDArray:
    if arrays.get(name) is None:
        raise ValueError(
            f"{name} is missing from the {layout} weights; they have {', '.join(arrays) or 'none'}."
        )
    return np.asarray(arrays[name])


def _sizes(
    spec: CellSpec, w_name: str, w: NDArray, r_name: str, r: NDArray, *, gates_last: bool = False
) -> tuple[int, int]:
    """(features, units) from the two weights' shapes, which must fit each other."""
    count = len(spec.gates)
    if r.ndim != 2:
        raise ValueError(f"{r_name} has shape {r.shape}; expected two dimensions.")
    units = r.shape[0] if gates_last else r.shape[1]
    _shape(r_name, r, (units, count * units) if gates_last else (count * units, units))
    gate_axis = 1 if gates_last else 0
    if w.ndim != 2 or w.shape[gate_axis] != count * units:
        expected = f"(features, {count * units})" if gates_last else f"({count * units}, features)"
        raise ValueError(
            f"{w_name} has shape {w.shape}; expected {expected} for {spec.layer} with "
            f"{units} units, as {r_name} has."
        )
    return w.shape[1 - gate_axis], units


def _shape(name: str, array: NDArray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}; expected {expected}.")
