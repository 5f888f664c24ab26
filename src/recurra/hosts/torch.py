"""The engine as a differentiable torch operation: gradient wiring and nothing else.

The functions that every host offers; the operators behind them are in `recurra.hosts.torch_ops`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from recurra.engine import cpu
from recurra.engine.config import Config
from recurra.hosts import torch_calls as calls
from recurra.hosts import torch_ops as ops


def scan(
    config: Config,
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    *,
    bias: Any = None,
    h0: Any = None,
    c0: Any = None,
    mask: Any = None,
    dropout_x: Any = None,
    dropout_h: Any = None,
    last_output: bool = True,
    sequence: bool = False,
    trace: bool = False,
) -> dict[str, Any]:
    """Run a cell over a sequence on the compiled engine, differentiably.

    Works under autograd, no_grad, inference_mode, autocast, torch.compile, torch.export,
    torch.func's grad, vjp, jacrev and vmap, and torch.utils.checkpoint. Gradients flow to x,
    kernel, recurrent_kernel, bias, h0 and c0, from every output; mask and dropout factors are
    constants.

    Args:
        config: the cell and its options.
        x: (B, T, F), a tensor on the CPU. Its dtype is the results'; float32 and float64 are
            computed as they are, float16 in float32, bfloat16 in float32 but for the operands of
            matrix products.
        kernel, recurrent_kernel: (F, G·U), (U, G·U).
        bias: (G·U,), or (2, G·U) for GRU with reset_after=True; None for no bias.
        h0, c0: (B, U); None for zeros.
        mask: (B, T), bool, True = keep; None to keep all.
        dropout_x, dropout_h: (1 or G, B, F), (1 or G, B, U): factors; None for none.
        last_output, sequence, trace: which of the outputs below are wanted.

    Returns:
        By name: "last_output" (B, U), "state_h" (B, U), for LSTM "state_c" (B, U), "sequence"
        (B, T, U) and every name of the cell's trace (B, T, U).

    Raises:
        ValueError: if a shape does not fit, or x is no floating-point tensor on the CPU.
        NotImplementedError: when differentiated in forward mode or twice.

    Example:
        >>> import torch
        >>> w = {"kernel": torch.ones(2, 3), "recurrent_kernel": torch.zeros(3, 3)}
        >>> config = Config("simple_rnn", activation="linear")
        >>> scan(config, torch.ones(1, 4, 2), **w)["last_output"].tolist()
        [[2.0, 2.0, 2.0]]
    """
    given = (x, kernel, recurrent_kernel, bias, h0, c0, mask, dropout_x, dropout_h)
    arrays = [array for array in given if array is not None]
    present = _bits(given)
    dtype = _unify(arrays, present)
    call = _choose(config, dtype, present, last_output, sequence, trace)
    values = ops.run(arrays, call.options)
    return _results(call, values, dtype)


def scan_many(scans: Sequence[tuple[Config, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Run several scans that do not depend on each other, in one call of the engine.

    Args:
        scans: for each its configuration and the arguments of `scan` by name. All of one dtype
            after the conversion that `scan` does.

    Returns:
        What `scan` returns, for each.

    Raises:
        ValueError: as `scan`; and if some scans compute in float32 and others in float64.

    Example:
        >>> import torch
        >>> x = torch.ones(1, 4, 2)
        >>> w = {"kernel": torch.ones(2, 3), "recurrent_kernel": torch.zeros(3, 3)}
        >>> both = [(Config("simple_rnn", go_backwards=b), {"x": x, **w}) for b in (False, True)]
        >>> [tuple(result["state_h"].shape) for result in scan_many(both)]
        [(1, 3), (1, 3)]
    """
    chosen: list[calls.Call] = []
    arrays: list[Any] = []
    dtypes: list[Any] = []
    options: list[int] = []
    for config, arguments in scans:
        given = [arguments.get(name) for name in cpu.FORWARD_INPUTS]
        own = [array for array in given if array is not None]
        present = _bits(given)
        dtypes.append(_unify(own, present))
        call = _choose(
            config,
            dtypes[-1],
            present,
            arguments.get("last_output", True),
            arguments.get("sequence", False),
            arguments.get("trace", False),
        )
        if chosen and own[calls.X].dtype != arrays[calls.X].dtype:
            raise ValueError(
                f"scan_many got scans that compute in {arrays[calls.X].dtype} and in "
                f"{own[calls.X].dtype}; convert their inputs x to one dtype, or call scan for each."
            )
        chosen.append(call)
        arrays += own
        options += call.options
    if not chosen:
        return []
    values = ops.run(arrays, options)
    results, start = [], 0
    for call, dtype in zip(chosen, dtypes, strict=True):
        results.append(_results(call, values[start : start + len(call.outputs)], dtype))
        start += len(call.outputs)
    return results


def platform() -> str:
    """Where Keras places tensors by default: "cpu", "cuda", "mps" or "xpu".

    `unavailable` tells for the tensors of one call.
    """
    chosen = os.environ.get("KERAS_TORCH_DEVICE")
    if chosen:
        return chosen.split(":")[0].lower().replace("gpu", "cuda")
    if torch.backends.mps.is_available():
        return "mps"
    for name in ("cuda", "xpu"):
        if hasattr(torch, name) and getattr(torch, name).is_available():
            return name
    return "cpu"


# torch.compile calls it instead of tracing it.
platform._dynamo_marked_constant = True  # type: ignore[attr-defined]


def engine_note() -> str | None:
    """How the host calls the engine."""
    threads = (
        "torch's own threads" if ops.OPENMP else "the engine's own threads: torch has no OpenMP"
    )
    return f"compiled operators torch.ops.recurra.forward and .backward, on {threads}"


def unavailable(x: Any) -> str | None:
    """Why the engine cannot run this call, and what to change; None if it can.

    Args:
        x: the layer's input.
    """
    if x.device.type not in ("cpu", "meta"):
        return (
            f"the compiled engine runs on the CPU and the input is on {str(x.device)!r}; "
            "move model and input to the CPU to use it"
        )
    if forward_ad._current_level >= 0:
        return (
            "the compiled engine has reverse-mode derivatives only and this is a forward-mode one; "
            "use torch.func.grad, vjp or jacrev to have it run"
        )
    # Nobody exports to ONNX who has not imported torch.onnx, which is slow to import.
    onnx = sys.modules.get("torch.onnx")
    if onnx is not None and onnx.is_in_onnx_export():
        return (
            "ONNX has no operator for the compiled engine; nothing needs changing: the exported "
            "model computes the same with ONNX's own"
        )
    return None


def equivalent_activations() -> dict[Callable[..., Any], str]:
    """torch's functions that compute the engine's activations, by function."""
    functional = torch.nn.functional
    return {
        torch.tanh: "tanh",
        functional.tanh: "tanh",
        torch.sigmoid: "sigmoid",
        torch.special.expit: "sigmoid",
        functional.sigmoid: "sigmoid",
        functional.hardsigmoid: "hard_sigmoid",
        torch.relu: "relu",
        functional.relu: "relu",
        functional.softsign: "softsign",
        functional.elu: "elu",
        torch.selu: "selu",
        functional.selu: "selu",
        functional.gelu: "gelu",
        functional.silu: "silu",
        torch.exp: "exponential",
        functional.softplus: "softplus",
    }


def pullback(
    function: Callable[[list[Any]], Sequence[Any]], *, compiled: bool = False
) -> Callable[[Sequence[Any], Sequence[Any]], tuple[list[Any], list[Any]]]:
    """Reverse-mode differentiation, under no_grad too; see `recurra.hosts`."""

    def pull(tensors: Sequence[Any], cotangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        with torch.inference_mode(False), torch.enable_grad():
            given = [tensor.detach().clone().requires_grad_() for tensor in tensors]
            results = list(function(given))
            # What hangs on none of the tensors has no graph that could be walked.
            pairs = [(r, c) for r, c in zip(results, cotangents, strict=True) if r.requires_grad]
            if not pairs or not given:
                return results, [torch.zeros_like(tensor) for tensor in given]
            gradients = torch.autograd.grad(
                [result for result, _ in pairs],
                given,
                [cotangent for _, cotangent in pairs],
                allow_unused=True,
                materialize_grads=True,
            )
        return [result.detach() for result in results], list(gradients)

    return pull


def _choose(config: Config, dtype: Any, *rest: Any) -> calls.Call:
    lower = dtype is torch.bfloat16
    if not torch.compiler.is_compiling():
        return calls.choose(config.computing("bfloat16") if lower else config, *rest)
    return calls.choose_by_options(
        config.cell,
        config.reset_after,
        config.activation,
        config.recurrent_activation,
        config.go_backwards,
        config.zero_output_for_mask,
        config.checkpoint_every,
        config.bfloat16 or lower,
        *rest,
    )


def _bits(given: Sequence[Any]) -> int:
    """Which of the arrays are there, as a bit mask."""
    bits = 0
    bit = 1
    for array in given:
        if array is not None:
            bits += bit
        bit += bit
    return bits


def _unify(arrays: list[Any], present: int) -> Any:
    """Bring one scan's arrays to one dtype, in place; returns the dtype of its results."""
    x = arrays[calls.X]
    if type(x) not in ops.PLAIN_TYPES and not isinstance(x, torch.Tensor):
        x = arrays[calls.X] = torch.as_tensor(x)
    result = x.dtype
    if result in ops.DTYPES:
        dtype = result
    elif result.is_floating_point:
        dtype = torch.float32
    else:
        raise ValueError(
            f"x has dtype {result}; expected a floating-point dtype: convert it with x.float()."
        )
    # The mask and the dropout factors are the last, and constants.
    constants = (present & ((1 << calls.MASK) - 1)).bit_count()
    mask = constants if present >> calls.MASK & 1 else -1
    for i, array in enumerate(arrays):
        if type(array) not in ops.PLAIN_TYPES and not isinstance(array, torch.Tensor):
            array = arrays[i] = torch.as_tensor(array)
        if i >= constants and array.requires_grad:
            array = arrays[i] = array.detach()
        if i == mask:
            if array.dtype is not torch.bool:
                arrays[i] = array.to(torch.bool)
        elif array.dtype is not dtype:
            arrays[i] = array.to(dtype)
    return result


def _results(call: calls.Call, values: Sequence[Any], dtype: Any) -> dict[str, Any]:
    results = dict(zip(call.outputs, values, strict=False))
    if call.sequence_is_trace:
        results["hidden_state"] = results["sequence"]
    if dtype not in ops.DTYPES:
        results = {name: value.to(dtype) for name, value in results.items()}
    return results
