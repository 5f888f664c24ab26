"""The oracle of compiled plans: a plan's operations in float64 NumPy, over whole sequences.

What a plan gives step by step is what this gives for the steps so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra import reference
from recurra.engine import Config
from recurra.runtime.layers import functions

_MERGES = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def run(plan: Any, arrays: Sequence[Any]) -> list[Any]:
    """Compute a plan.

    Args:
        plan: (tensors, ops, inputs, outputs), as `recurra._engine.Plan` takes them.
        arrays: the inputs: "steps" (batch, time_steps, width), "ids" (batch, time_steps),
            "row" (batch, width), "id_row" (batch,), "mask" (batch, time_steps).
    """
    values: dict[int, Any] = {}
    for number, array in zip(plan.inputs, arrays, strict=True):
        array = np.asarray(array)
        values[number] = array.astype(np.float64) if array.dtype.kind == "f" else array
    for op in plan.ops:
        for name, value in _OPS[op["op"]](op, values).items():
            kind, width = plan.tensors[op[name]]
            shape = (1,) * 0 if kind in ("mask", "ids", "id_row") else (width,)
            assert value.shape[value.ndim - len(shape) :] == shape, (op["op"], value.shape, width)
            assert value.ndim == {"steps": 3, "row": 2, "mask": 2}[kind]
            assert op[name] not in values, "a tensor is written twice"
            values[op[name]] = value
    return [values[number] for number in plan.outputs]


def _recurrent(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    config = Config.from_numbers(op["numbers"])
    initial = [values[number] for number in op.get("initial") or ()]
    mask = op.get("mask")
    result = reference.forward(
        config.cell,
        values[op["input"]],
        kernel=op["kernel"],
        recurrent_kernel=op["recurrent_kernel"],
        bias=op["bias"],
        mask=None if mask is None else values[mask],
        activation=config.activation,
        recurrent_activation=config.recurrent_activation,
        reset_after=config.reset_after,
        zero_output_for_mask=config.zero_output_for_mask,
        **dict(zip(("h0", "c0"), initial, strict=False)),
    )
    found = {"sequence": result.sequence, "last_output": result.last_output}
    for state in config.spec.state_table:
        found[state.output] = result.states[state.name]
    return {name: value for name, value in found.items() if op.get(name) is not None}


def _dense(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    bias = 0 if op["bias"] is None else op["bias"]
    return {"output": values[op["input"]] @ op["kernel"].astype(np.float64) + bias}


def _conv(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    x, kernel, dilation = values[op["input"]], op["kernel"], op["dilation"]
    past = (len(kernel) - 1) * dilation
    padded = np.concatenate([np.zeros((len(x), past, x.shape[2])), x], axis=1)
    terms = [
        padded[:, k * dilation : k * dilation + x.shape[1]] @ kernel[k].astype(np.float64)
        for k in range(len(kernel))
    ]
    return {"output": sum(terms) + (0 if op["bias"] is None else op["bias"])}


def _embedding(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    return {"output": op["table"].astype(np.float64)[values[op["input"]]]}


def _masking(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    x = values[op["input"]]
    mask = np.any(x != np.float32(op["value"]), axis=-1)
    found = {"output": np.where(mask[..., np.newaxis], x, 0.0), "mask": mask}
    return {name: value for name, value in found.items() if op.get(name) is not None}


def _mask_ids(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    return {"mask": values[op["input"]] != 0}


def _mask_or(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    return {"output": np.any([values[number] for number in op["inputs"]], axis=0)}


def _affine(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    return {"output": (values[op["input"]] - op["shift"]) * op["scale"] + op["offset"]}


def _layer_norm(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    x = values[op["input"]]
    grouped = x.reshape(*x.shape[:-1], op.get("groups", 1), -1)
    if op["centered"]:
        grouped = grouped - grouped.mean(axis=-1, keepdims=True)
    grouped = grouped / np.sqrt((grouped**2).mean(axis=-1, keepdims=True) + op["epsilon"])
    scale = 1 if op["scale"] is None else op["scale"]
    return {
        "output": grouped.reshape(x.shape) * scale + (0 if op["offset"] is None else op["offset"])
    }


def _activation(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    x, name, parameters = values[op["input"]], op["function"], op["parameters"]
    if name == "prelu":
        return {"output": np.where(x > 0, x, x * parameters)}
    if name == "gelu_tanh":
        name, parameters = "gelu", [True]
    return {"output": np.asarray(getattr(functions, name)(x, *parameters), np.float64)}


def _merge(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    arrays = [values[number] for number in op["inputs"]]
    if op["function"] == "average":
        return {"output": sum(arrays) / len(arrays)}
    result = arrays[0]
    for array in arrays[1:]:
        result = _MERGES[op["function"]](result, array)
    return {"output": result}


def _concat(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    return {"output": np.concatenate([values[number] for number in op["inputs"]], axis=-1)}


def _where(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    other = values[op["other"]] if "other" in op else op["value"]
    kept = values[op["mask"]][..., np.newaxis]
    return {"output": np.where(kept, values[op["input"]], other)}


def _last(op: dict[str, Any], values: dict[int, Any]) -> dict[str, Any]:
    return {"output": values[op["input"]][:, -1]}


_OPS = {
    "where": _where,
    "last": _last,
    "recurrent": _recurrent,
    "dense": _dense,
    "conv": _conv,
    "embedding": _embedding,
    "masking": _masking,
    "mask_ids": _mask_ids,
    "mask_or": _mask_or,
    "affine": _affine,
    "layer_norm": _layer_norm,
    "activation": _activation,
    "merge": _merge,
    "concat": _concat,
}
