"""The engine called from TensorFlow through NumPy: for machines without a C++ compiler.

`forward` and `backward` take the place of the compiled operations. Eagerly they call the engine at
once, in a graph through `tf.numpy_function`. `differentiable` is for graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from recurra.engine import cpu
from recurra.engine.config import Config
from recurra.hosts.tensorflow_plan import Plan

Plans = tuple[Plan, ...]


def forward(
    plans: Plans, arrays: Sequence[Any], masks: Sequence[Any], save: bool
) -> tuple[list[Any], list[Any]]:
    """Run the scans; returns all outputs, and all cached slots if `save`, else none."""
    results = _call(
        lambda *flat: _forward(plans, flat, save), [*arrays, *masks], _shapes(plans, arrays, save)
    )
    count = sum(len(plan.outputs) for plan in plans)
    return results[:count], results[count:]


def backward(
    plans: Plans,
    arrays: Sequence[Any],
    masks: Sequence[Any],
    outputs: Sequence[Any],
    cache: Sequence[Any],
    cotangents: Sequence[Any],
    wanted: Sequence[bool],
    refuse: Callable[..., Any],
) -> list[Any]:
    """Gradients of the scans' arrays, None where they are not wanted.

    Args:
        outputs: those of `forward`; None where the plan does not keep them.
        cotangents: one for each output, None for zero.
        refuse: a function that raises, for a derivative of these gradients.
    """
    groups = [list(group) for group in (arrays, masks, outputs, cache, cotangents)]
    there = [[array is not None for array in group] for group in groups]
    positions = [i for i, asked in enumerate(wanted) if asked]
    result: list[Any] = [None] * len(arrays)
    if not positions:
        return result

    def run(*flat: Any) -> list[Any]:
        rest = iter(flat)
        filled = [[next(rest) if is_there else None for is_there in group] for group in there]
        return _backward(plans, filled, wanted)

    @tf.custom_gradient
    def once(*flat: Any) -> Any:
        shapes = [arrays[i].shape for i in positions]
        return _call(run, list(flat), shapes), refuse

    present = [array for group in groups for array in group if array is not None]
    for position, gradient in zip(positions, once(*present), strict=True):
        result[position] = gradient
    return result


def differentiable(
    plans: Plans, arrays: Sequence[Any], masks: Sequence[Any], refuse: Callable[..., Any]
) -> list[Any]:
    """The scans' outputs in a graph, with their gradient.

    The cache is saved if a tape is open while the graph is built, as it is in a training step. If
    none is and a gradient is asked for nevertheless, the forward pass runs a second time.
    """
    save = record.could_possibly_record()

    @tf.custom_gradient
    def run(*arrays: Any) -> Any:
        outputs, cache = forward(plans, arrays, masks, save)
        names = [name for plan in plans for name in plan.arrays]

        def gradient(*cotangents: Any) -> list[Any]:
            saved = cache if save else forward(plans, arrays, masks, True)[1]
            wanted = [name in cpu.DIFFERENTIABLE for name in names]
            return backward(plans, arrays, masks, outputs, saved, cotangents, wanted, refuse)

        return outputs, gradient

    return list(run(*arrays))


def _call(
    function: Callable[..., list[Any]], arrays: list[Any], shapes: list[tf.TensorShape]
) -> list[Any]:
    """A function of NumPy arrays, now or in the graph; all results have the first array's type."""
    if tf.executing_eagerly():
        return [tf.convert_to_tensor(result) for result in function(*(a.numpy() for a in arrays))]
    results = tf.numpy_function(
        function, arrays, [arrays[0].dtype] * len(shapes), stateful=False, name="Recurra"
    )
    for result, shape in zip(results, shapes, strict=True):
        result.set_shape(shape)
    return list(results)


def _shapes(plans: Plans, arrays: Sequence[Any], save: bool) -> list[tf.TensorShape]:
    """Shapes of what `forward` returns, as far as they are known."""
    outputs, cached = [], []
    rest = iter(arrays)
    for plan in plans:
        by_name = dict(zip(plan.arrays, rest, strict=False))
        x, recurrent_kernel = by_name["x"].shape, by_name["recurrent_kernel"].shape
        size = (x[0], x[1], recurrent_kernel[0])
        outputs += [cpu.output_shape(plan.config, name, *size) for name in plan.outputs]
        cached += [_cached_shape(plan.config, name, *size) for name in plan.cached if save]
    return [tf.TensorShape(shape) for shape in outputs + cached]


def _cached_shape(config: Config, name: str, *size: Any) -> tuple[Any, ...]:
    batch, time_steps, units = size
    if config.checkpoint_every and time_steps is None:
        return (batch, None, units)
    return cpu.output_shape(config, name, batch, time_steps, units)


def _forward(plans: Plans, flat: Sequence[Any], save: bool) -> list[Any]:
    arrays = iter(flat)
    masks = iter(flat[sum(len(plan.arrays) for plan in plans) :])
    outputs, cached = [], []
    for plan in plans:
        given = {name: next(arrays) for name in plan.arrays}
        if "mask" in plan.inputs:
            given["mask"] = next(masks)
        result = cpu.forward(
            plan.config,
            **given,
            last_output="last_output" in plan.outputs,
            sequence="sequence" in plan.outputs,
            slots=save or any(name in plan.config.slots for name in plan.outputs),
        )
        outputs += [result[name] for name in plan.outputs]
        cached += [result[name] for name in plan.cached if save]
    return outputs + cached


def _backward(plans: Plans, groups: list[list[Any]], wanted: Sequence[bool]) -> list[Any]:
    arrays, masks, outputs, cache, cotangents = (iter(group) for group in groups)
    asked = iter(wanted)
    gradients = []
    for plan in plans:
        given, results, cached, incoming = (
            {name: next(rest) for name in names}
            for rest, names in zip(
                (arrays, outputs, cache, cotangents),
                (plan.arrays, plan.outputs, plan.cached, plan.outputs),
                strict=True,
            )
        )
        if "mask" in plan.inputs:
            given["mask"] = next(masks)
        names = [name for name in plan.arrays if next(asked)]
        saved = {name: results[name] for name in plan.kept} | cached
        found = cpu.backward(plan.config, given, saved, incoming, names)
        gradients += [np.asarray(found[name]) for name in names]
    return gradients
