"""The primitives under `jax.vmap`.

A mapped axis of the forward pass joins the batch: one call, and every row keeps its bits. Weights
that differ from element to element, and all gradients, are one call per element.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching

from recurra.hosts.jax.primitives import (
    Parts,
    backward_p,
    flat,
    forward_p,
    named_inputs,
    named_outputs,
    tangent_p,
)

_BATCH_AXIS = {"x": 0, "h0": 0, "c0": 0, "mask": 0, "dropout_x": 1, "dropout_h": 1}


def register() -> None:
    """Tell JAX the rules of this module."""
    batching.primitive_batchers[forward_p] = _forward_batch
    batching.primitive_batchers[tangent_p] = functools.partial(_batch_by_loop, tangent_p)
    batching.primitive_batchers[backward_p] = functools.partial(_batch_by_loop, backward_p)


def _forward_batch(
    arrays: Sequence[Any], axes: Sequence[int | None], *, parts: Parts
) -> tuple[Sequence[Any], Sequence[int | None]]:
    named_axes = named_inputs(parts, axes)
    if any(
        axis is not None and name not in _BATCH_AXIS
        for named in named_axes
        for name, axis in named.items()
    ):
        return _batch_by_loop(forward_p, arrays, axes, parts=parts)
    count = _mapped_size(arrays, axes)
    mapped = [any(axis is not None for axis in named.values()) for named in named_axes]
    merged = [
        {name: _into_batch(name, array, own[name], count) for name, array in named.items()}
        if is_mapped
        else named
        for named, own, is_mapped in zip(
            named_inputs(parts, arrays), named_axes, mapped, strict=True
        )
    ]
    results: list[Any] = []
    result_axes: list[int | None] = []
    outputs = named_outputs(parts, forward_p.bind(*flat(merged), parts=parts))
    xs, x_axes = ([named["x"] for named in named_inputs(parts, v)] for v in (arrays, axes))
    for named, x, axis, is_mapped in zip(outputs, xs, x_axes, mapped, strict=True):
        batch = x.shape[1 if axis == 0 else 0]
        for value in named.values():
            results.append(value)
            result_axes.append(None)
            if is_mapped:
                results[-1] = value.reshape((count, batch, *value.shape[1:]))
                result_axes[-1] = 0
    return results, result_axes


def _into_batch(name: str, array: Any, axis: int | None, count: int) -> Any:
    """The array with its mapped axis merged into its batch axis; weights are as they were."""
    if name not in _BATCH_AXIS:
        return array
    target = _BATCH_AXIS[name]
    if axis is None:
        shape = (*array.shape[:target], count, *array.shape[target:])
        array = jnp.broadcast_to(jnp.expand_dims(array, target), shape)
    else:
        array = jnp.moveaxis(array, axis, target)
    shape = array.shape
    return array.reshape((*shape[:target], shape[target] * shape[target + 1], *shape[target + 2 :]))


def _batch_by_loop(
    primitive: Primitive, arrays: Sequence[Any], axes: Sequence[int | None], **parameters: Any
) -> tuple[Sequence[Any], Sequence[int]]:
    """One call per element: weights and their gradients differ from element to element."""
    mapped = [
        jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
        if axis is not None
    ]

    def call(slices: list[Any]) -> list[Any]:
        rest = iter(slices)
        full = [
            array if axis is None else next(rest) for array, axis in zip(arrays, axes, strict=True)
        ]
        return primitive.bind(*full, **parameters)

    results = jax.lax.map(call, mapped)
    return results, [0] * len(results)


def _mapped_size(arrays: Sequence[Any], axes: Sequence[int | None]) -> int:
    return next(
        array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None
    )
