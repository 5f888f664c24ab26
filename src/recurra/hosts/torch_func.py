"""The torch operation under torch.func: grad, vjp, jacrev and vmap.

torch's function transforms want an autograd.Function of another kind than the quickest one, so
that the usual calls do without this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from recurra.hosts import torch_calls as calls
from recurra.hosts import torch_ops as ops


def run(arrays: Sequence[Any], options: Sequence[int]) -> Sequence[Any]:
    """`torch.ops.recurra.forward` where a transform of torch.func is active."""
    decoded = calls.decode(options)
    saving = tuple(number for call in decoded for number in call.saving)
    outputs = []
    values = iter(_Scan.apply(tuple(options), saving, *arrays))
    for call in decoded:
        outputs += [next(values) for _ in call.outputs]
        if call.stacked:
            next(values)
    return outputs


class _Scan(torch.autograd.Function):
    """The forward pass with the slots saved; stacks are among its outputs."""

    @staticmethod
    def forward(options: tuple[int, ...], saving: tuple[int, ...], *arrays: Any) -> Any:
        return tuple(ops.run(list(arrays), list(saving)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        options, _, *arrays = inputs
        ctx.set_materialize_grads(False)
        ctx.calls = decoded = calls.decode(options)
        saved: list[Any] = []
        without_stacks: list[int] = []
        given = taken = 0
        for call in decoded:
            for position, array in zip(
                call.positions, arrays[given : given + len(call.positions)], strict=True
            ):
                if position != call.unread:
                    saved.append(array)
            given += len(call.positions)
            own = output[taken : taken + len(call.outputs)]
            without_stacks += range(taken, taken + len(own))
            taken += len(own)
            saved += [own[index] for index in call.residuals]
            if call.stacked:
                saved.append(output[taken])
                ctx.mark_non_differentiable(output[taken])
                taken += 1
        ctx.results = without_stacks
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        needed = ctx.needs_input_grad
        gradients: list[Any] = [None] * len(needed)
        arrays, options, places = ops.backward_call(
            ctx.calls, ctx.saved_tensors, [cotangents[i] for i in ctx.results], needed[2:]
        )
        if places:
            values = _Gradients.apply(tuple(options), *arrays)
            for place, value in zip(places, values, strict=True):
                gradients[2 + place] = value
        return tuple(gradients)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(ops.FORWARD_MODE)

    @staticmethod
    def vmap(info: Any, in_dims: Any, options: Any, saving: Any, *arrays: Any) -> Any:
        return _map(_Scan, info, in_dims[2:], (options, saving), arrays)


class _Gradients(torch.autograd.Function):
    """The backward pass; its derivative only raises."""

    @staticmethod
    def forward(options: tuple[int, ...], *arrays: Any) -> Any:
        return tuple(torch.ops.recurra.backward(list(arrays), list(options)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise NotImplementedError(ops.SECOND_DERIVATIVE)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(ops.SECOND_DERIVATIVE)

    @staticmethod
    def vmap(info: Any, in_dims: Any, options: Any, *arrays: Any) -> Any:
        return _map(_Gradients, info, in_dims[1:], (options,), arrays)


def _map(function: Any, info: Any, axes: Any, constants: Any, arrays: Sequence[Any]) -> Any:
    """One call of the engine per element of the mapped axis, which comes first in the results."""
    moved = [
        array if axis is None else array.movedim(axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    ]

    def call(pick: Callable[[Any], Any]) -> Any:
        return function.apply(
            *constants,
            *(
                array if axis is None else pick(array)
                for array, axis in zip(moved, axes, strict=True)
            ),
        )

    def element(index: int) -> Any:
        return call(lambda array: array[index])

    if info.batch_size == 0:  # the shapes are those of some element
        shapes = call(lambda array: array.new_zeros(array.shape[1:]))
        results = tuple(value.new_empty((0, *value.shape)) for value in shapes)
    else:
        each = [element(index) for index in range(info.batch_size)]
        results = tuple(torch.stack(values) for values in zip(*each, strict=True))
    return results, (0,) * len(results)
