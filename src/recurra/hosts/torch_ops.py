"""The engine as two torch operators, and their derivatives.

Arrays are those that are there, scan after scan in the engine's order; options are integers, for
each scan those of `Config.numbers`, then which of the engine's inputs are given and which of
its outputs are wanted, as bit masks.

    torch.ops.recurra.forward(arrays, options)      the forward pass. Differentiable: where a
                                                    gradient can be asked for it saves the slots
    torch.ops.recurra.backward(arrays, options)     the backward pass, for the gradients wanted

torch.compile, torch.export and every other tracer see these operators. Calls on plain tensors go
to the engine directly (`run`): the dispatcher would cost more than a short scan does.

Slots that only the backward pass reads are saved as one tensor, the "stack" (slots, B, T, U), or
with checkpoints (states, B, checkpoints, U), because to allocate a tensor takes about a
microsecond. It follows a scan's other arrays, both as an output of the forward pass (one more bit)
and as an input of the backward pass.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.autograd import forward_ad

from recurra import _engine
from recurra.engine import cpu
from recurra.hosts import torch_calls as calls

FORWARD_MODE = (
    "Recurra's engine has reverse-mode derivatives only, and this asks for a forward-mode one "
    "(torch.func.jvp, jacfwd, linearize or hessian, torch.autograd.forward_ad). Use "
    'torch.func.grad, vjp or jacrev, or build the layer with engine="keras", whose scan torch '
    "differentiates in any way."
)
SECOND_DERIVATIVE = (
    "Recurra's engine has first derivatives only, and this asks for a derivative of its gradient "
    "(a second backward pass after create_graph=True, a gradient penalty, torch.func.hessian). "
    'Build the layer with engine="keras", whose scan torch differentiates any number of times.'
)

_IS_DOUBLE = {torch.float32: False, torch.float64: True}
DTYPES = frozenset(_IS_DOUBLE)
"""Types the engine computes in."""

PLAIN_TYPES = frozenset({torch.Tensor, torch.nn.Parameter})
"""Types of tensors that may lie in memory as they claim to."""

# Private, but stable since torch 2.0: what a Python function has to ask that does not go through
# the dispatcher.
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_transform = torch._C._functorch.peek_interpreter_stack
_jit_tracer = torch._C._get_tracing_state
_is_grad_enabled = torch.is_grad_enabled
_get_num_threads = torch.get_num_threads


def run(arrays: list[Any], options: list[int]) -> Sequence[Any]:
    """`torch.ops.recurra.forward` by the shortest way.

    Raises:
        ValueError: if a shape does not fit, or an array is on a device that is not the CPU.
        NotImplementedError: for a forward-mode derivative.
    """
    if torch.compiler.is_compiling():
        return torch.ops.recurra.forward(arrays, options)
    if forward_ad._current_level >= 0:
        _refuse_tangents(arrays)
    if _is_plain(arrays):
        if _is_grad_enabled():
            for array in arrays:
                if array.requires_grad:
                    return _Scan.apply(None, options, *arrays)
        return _forward(arrays, options)
    for array in arrays:
        if array.device.type not in ("cpu", "meta"):
            raise ValueError(
                f"got a tensor on {str(array.device)!r}; Recurra's compiled engine runs on the "
                'CPU: move it there with .cpu(), or build the layer with engine="keras".'
            )
    if _function_transform() is not None:
        from recurra.hosts import torch_func

        return torch_func.run(arrays, options)
    return torch.ops.recurra.forward(arrays, options)


def _refuse_tangents(arrays: Sequence[Any]) -> None:
    if any(forward_ad.unpack_dual(array).tangent is not None for array in arrays):
        raise NotImplementedError(FORWARD_MODE)


def _is_plain(arrays: Sequence[Any]) -> bool:
    """Whether the tensors' memory can be read now: nothing watches, wraps or traces the call."""
    if _dispatch_modes() or _function_transform() is not None or _jit_tracer() is not None:
        return False
    for array in arrays:
        if type(array) not in PLAIN_TYPES or not array.is_cpu or array.is_neg():
            return False
    return True


# --- The engine, on tensors with memory ---


def _find_openmp() -> bool:
    """Have the engine share work out on the OpenMP threads that torch itself uses.

    Two pools would fight for the cores: OpenMP's threads go on spinning for a while after their
    work. The function is looked up in what torch's library is linked with, because there can be
    several OpenMP libraries in a process. Where there is none the engine's own pool does the work.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        loaded = ctypes.CDLL(str(library), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        address = ctypes.cast(loaded["GOMP_parallel"], ctypes.c_void_p).value
    except (AttributeError, OSError):
        return False
    if address is None:
        return False
    _engine.set_openmp(address)
    return True


OPENMP = _find_openmp()
"""Whether the engine runs on torch's own threads."""


def _address(array: Any, kept: list[Any]) -> int:
    """Where a tensor's elements lie, one after the other; a copy that is needed goes to `kept`."""
    if not array.is_contiguous():
        array = array.contiguous()
        kept.append(array)
    return array.data_ptr() or _address_of_nothing(array)


def _address_of_nothing(array: Any) -> int:
    if array.numel():
        raise ValueError(f"got a tensor of shape {tuple(array.shape)} that has no memory.")
    return 64  # to the engine, 0 is an absent array


def _place(at: list[int], offset: int, numbers: Sequence[int], stack: Any) -> None:
    """Fill in the addresses of the slots in a stack, which is contiguous."""
    base = stack.data_ptr() or _address_of_nothing(stack)
    step = stack.nbytes // len(numbers)
    for number in numbers:
        at[offset + number] = base
        base += step


def _check_stack(call: calls.BackwardCall, stack: Any, size: Sequence[Any]) -> None:
    expected = calls.stack_shape(call, size)
    if stack.shape != expected:
        raise ValueError(f"the stack has shape {tuple(stack.shape)}; expected {expected}.")


def _run_engine(backward: bool, dtype: Any, problems: list[int], addresses: list[int]) -> None:
    threads = _engine.requested_threads() or _get_num_threads()
    _engine.run(backward, _IS_DOUBLE[dtype], problems, addresses, OPENMP, threads)


def _forward(arrays: Sequence[Any], options: Sequence[int]) -> list[Any]:
    """`recurra.forward` on tensors with memory."""
    problems: list[int] = []
    addresses: list[int] = []
    outputs: list[Any] = []
    kept: list[Any] = []
    first = arrays[calls.X]
    start = 0
    for call in calls.decode(options):
        own = arrays[start : start + len(call.positions)]
        start += len(call.positions)
        size = calls.fit(call, own)
        problems += call.numbers
        problems += size
        at = [0] * (calls.INPUTS + call.output_count)
        for position, array in zip(call.positions, own, strict=True):
            at[position] = _address(array, kept)
        new = _new_outputs(call, first, size)
        outputs += new
        for number, output in zip(call.produced, new, strict=False):
            at[calls.INPUTS + number] = output.data_ptr() or 64
        if call.has_stack:
            _place(at, calls.INPUTS, call.stacked, new[-1])
        addresses += at
    _run_engine(False, first.dtype, problems, addresses)
    return outputs


def _new_outputs(call: calls.Call, like: Any, size: Sequence[Any]) -> list[Any]:
    batch, time_steps, _, units, _, _ = size
    steps = (batch, time_steps, units)
    outputs: list[Any] = []
    for number in call.produced:
        if number >= calls.STATES:
            outputs.append(like.new_empty(steps))
        elif outputs:  # empty_like is quicker
            outputs.append(torch.empty_like(outputs[0]))
        else:
            outputs.append(like.new_empty((batch, units)))
    if call.has_stack:
        outputs.append(like.new_empty(calls.stack_shape(call, size)))
    return outputs


def _backward(arrays: Sequence[Any], options: Sequence[int]) -> list[Any]:
    """`recurra.backward` on tensors with memory."""
    problems: list[int] = []
    addresses: list[int] = []
    gradients: list[Any] = []
    kept: list[Any] = []
    first = arrays[calls.X]
    for call, own in _split_backward(arrays, options):
        size = calls.fit(call, own)
        problems += call.numbers
        problems += size
        at = [0] * (call.input_count + len(cpu.DIFFERENTIABLE))
        for position, array in zip(call.positions, own, strict=False):
            at[position] = _address(array, kept)
        if call.has_stack:
            stack = own[-1].contiguous()
            kept.append(stack)
            _check_stack(call, stack, size)
            _place(at, 0, call.stacked, stack)
        for number, shape in zip(call.gradients, call.gradient_shapes(size), strict=True):
            gradient = first.new_empty(shape)
            gradients.append(gradient)
            at[call.input_count + number] = gradient.data_ptr() or 64
        addresses += at
    _run_engine(True, first.dtype, problems, addresses)
    return gradients


def _split_backward(
    arrays: Sequence[Any], options: Sequence[int]
) -> list[tuple[calls.BackwardCall, Sequence[Any]]]:
    split, start = [], 0
    for call in calls.decode_backward(options):
        end = start + len(call.positions) + call.has_stack
        split.append((call, arrays[start:end]))
        start = end
    return split


# --- Derivatives ---


class _Scan(torch.autograd.Function):
    """The forward pass with the slots saved.

    `keys` is None to call the engine directly, else what the dispatcher gave the operator.
    """

    @staticmethod
    def forward(ctx: Any, keys: Any, options: Sequence[int], *arrays: Any) -> Any:
        ctx.set_materialize_grads(False)
        ctx.calls = decoded = calls.decode(options)
        saving = decoded[0].saving
        for call in decoded[1:]:
            saving = saving + call.saving
        values: Sequence[Any]
        if keys is None:
            values = _forward(arrays, saving)
        else:
            values = _below_autograd(torch.ops.recurra.forward.default, keys, arrays, saving)
        outputs: list[Any] = []
        saved: list[Any] = []
        given = taken = 0
        for call in decoded:
            for position, array in zip(
                call.positions, arrays[given : given + len(call.positions)], strict=True
            ):
                if position != call.unread:
                    saved.append(array)
            given += len(call.positions)
            own = values[taken : taken + len(call.produced)]
            taken += len(own)
            outputs += own
            saved += [own[index] for index in call.residuals]
            if call.stacked:
                saved.append(values[taken])
                taken += 1
        ctx.save_for_backward(*saved)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        needed = ctx.needs_input_grad
        gradients: list[Any] = [None] * len(needed)
        arrays, options, places = backward_call(
            ctx.calls, ctx.saved_tensors, cotangents, needed[2:]
        )
        if not places:
            return tuple(gradients)
        if not _is_plain(arrays):
            values = torch.ops.recurra.backward(arrays, options)
        elif _is_grad_enabled():
            values = _Gradients.apply(None, options, *arrays)
        else:
            values = _backward(arrays, options)
        for place, value in zip(places, values, strict=True):
            gradients[2 + place] = value
        return tuple(gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(FORWARD_MODE)


def backward_call(
    decoded: Sequence[calls.Call],
    saved: Sequence[Any],
    cotangents: Sequence[Any],
    needed: Sequence[bool],
) -> tuple[list[Any], list[int], list[int]]:
    """The call of the backward operator that gives the gradients needed.

    Args:
        decoded: the forward calls.
        saved: for each its arrays without the unread one, its residuals and its stack.
        cotangents: of the outputs without stacks, None for zeros.
        needed: for each array of the forward call whether its gradient is needed.

    Returns:
        The operator's arrays and options, and the indices of its gradients among the forward
        call's arrays. Scans without a cotangent, or whose gradients nobody needs, are left out.
    """
    arrays: list[Any] = []
    options: list[int] = []
    places: list[int] = []
    array = kept = output = 0
    for call in decoded:
        inputs, count = len(call.positions), call.saved_count
        own = saved[kept : kept + count + bool(call.stacked)]
        wanted = 0
        own_places = []
        for index, number in call.differentiable:
            if needed[array + index]:
                wanted |= 1 << number
                own_places.append(array + index)
        present = call.residual_bits
        given = []
        for bit, cotangent in zip(
            call.cotangent_bits, cotangents[output : output + len(call.outputs)], strict=True
        ):
            if cotangent is not None:
                present |= bit
                given.append(cotangent)
        if wanted and given:
            arrays += own[:count]
            arrays += given
            arrays += own[count:]
            options += (*call.numbers, present, wanted)
            places += own_places
        array += inputs
        kept += len(own)
        output += len(call.outputs)
    return arrays, options, places


class _Gradients(torch.autograd.Function):
    """The backward pass where its result may be differentiated again: which only raises."""

    @staticmethod
    def forward(ctx: Any, keys: Any, options: Sequence[int], *arrays: Any) -> Any:
        if keys is None:
            return tuple(_backward(arrays, options))
        operator = torch.ops.recurra.backward.default
        return tuple(_below_autograd(operator, keys, arrays, options))

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise NotImplementedError(SECOND_DERIVATIVE)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(SECOND_DERIVATIVE)


# --- The operators ---


def _below_autograd(
    operator: Any, keys: Any, arrays: Sequence[Any], options: Sequence[int]
) -> Sequence[Any]:
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keys & torch._C._after_autograd_keyset, list(arrays), options)


def _forward_autograd(keys: Any, arrays: list[Any], options: list[int]) -> Sequence[Any]:
    if _is_grad_enabled() and any(array.requires_grad for array in arrays):
        return list(_Scan.apply(keys, options, *arrays))
    return _below_autograd(torch.ops.recurra.forward.default, keys, arrays, options)


def _backward_autograd(keys: Any, arrays: list[Any], options: list[int]) -> Sequence[Any]:
    if _is_grad_enabled() and any(array.requires_grad for array in arrays):
        return list(_Gradients.apply(keys, options, *arrays))
    return _below_autograd(torch.ops.recurra.backward.default, keys, arrays, options)


def _forward_shapes(arrays: Sequence[Any], options: Sequence[int]) -> list[Any]:
    """Results of `recurra.forward` without values."""
    outputs, start = [], 0
    for call in calls.decode(options):
        own = arrays[start : start + len(call.positions)]
        start += len(own)
        outputs += _new_outputs(call, own[calls.X], calls.fit(call, own))
    return outputs


def _backward_shapes(arrays: Sequence[Any], options: Sequence[int]) -> list[Any]:
    """Results of `recurra.backward` without values."""
    return [
        own[calls.X].new_empty(shape)
        for call, own in _split_backward(arrays, options)
        for shape in call.gradient_shapes(calls.fit(call, own))
    ]


def _register() -> Any:
    """Define the operators; they live as long as the library object that is returned."""
    library = torch.library.Library("recurra", "DEF")
    for name, compute, decode, shapes, autograd in (
        ("forward", _forward, calls.decode, _forward_shapes, _forward_autograd),
        ("backward", _backward, calls.decode_backward, _backward_shapes, _backward_autograd),
    ):
        library.define(
            f"{name}(Tensor[] arrays, int[] options) -> Tensor[]",
            tags=(torch.Tag.pt2_compliant_tag,),
        )
        library.impl(name, _checked(compute, decode), "CPU")
        library.impl(name, autograd, "Autograd", with_keyset=True)
        torch.library.register_fake(f"recurra::{name}", shapes, lib=library)
    return library


def _checked(compute: Callable[..., list[Any]], decode: Callable[..., Any]) -> Any:
    """The operator for anybody's arrays: the engine reads memory, so nothing is taken on trust."""

    def checked(arrays: list[Any], options: list[int]) -> list[Any]:
        decoded = decode(options)
        kinds: list[int] = []
        for call in decoded:
            kinds += call.kinds
            if isinstance(call, calls.BackwardCall) and call.has_stack:
                kinds.append(calls.STEPS)
        if not decoded or len(kinds) != len(arrays):
            raise ValueError(
                f"got {len(arrays)} arrays and {len(options)} options; these options describe "
                f"{len(decoded)} scans with {len(kinds)} arrays."
            )
        dtype = arrays[calls.X].dtype
        if dtype not in DTYPES:
            raise ValueError(f"x has dtype {dtype}; expected torch.float32 or torch.float64.")
        for index, (kind, array) in enumerate(zip(kinds, arrays, strict=True)):
            expected = torch.bool if kind == calls.MASK_KIND else dtype
            if array.dtype is not expected:
                raise ValueError(f"array {index} has dtype {array.dtype}; expected {expected}.")
        return compute([array.resolve_neg() for array in arrays], options)

    return checked


_LIBRARY = _register()
