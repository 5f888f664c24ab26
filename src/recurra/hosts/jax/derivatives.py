"""Derivatives of the primitives: of `recurra_scan` the backward pass, of the others an error.

A scan that nothing needs a gradient of saves nothing and takes no part in the backward call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.interpreters import ad, mlir

from recurra.engine import cpu
from recurra.hosts.jax.primitives import (
    Part,
    Parts,
    backward_p,
    flat,
    forward_p,
    named_inputs,
    named_outputs,
    tangent_p,
)

FORWARD_MODE = (
    "Recurra's engine has reverse-mode derivatives only, and this asks for a forward-mode one "
    "(jax.jvp, jax.jacfwd, jax.linearize, jax.hessian). Use jax.grad, jax.vjp or jax.jacrev, or "
    'build the layer with engine="keras", whose scan JAX differentiates in any way.'
)
SECOND_DERIVATIVE = (
    "Recurra's engine has first derivatives only, and this asks for a derivative of its gradient "
    "(jax.grad of jax.grad, jax.hessian, a gradient penalty). Build the layer with "
    'engine="keras", whose scan JAX differentiates any number of times.'
)


def register() -> None:
    """Tell JAX the rules of this module."""
    ad.primitive_jvps[forward_p] = _forward_jvp
    ad.primitive_jvps[tangent_p] = _refuse(FORWARD_MODE)
    ad.primitive_jvps[backward_p] = _refuse(SECOND_DERIVATIVE)
    ad.primitive_transposes[tangent_p] = _tangent_transpose
    # Computing the linear map is what forward mode amounts to.
    tangent_p.def_impl(_refuse(FORWARD_MODE))
    mlir.register_lowering(tangent_p, _refuse(FORWARD_MODE))


def _refuse(message: str) -> Callable[..., Any]:
    def rule(*arguments: Any, **parameters: Any) -> Any:
        raise NotImplementedError(message)

    return rule


def _forward_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, parts: Parts
) -> tuple[list[Any], list[Any]]:
    moving = [
        {
            name: tangent
            for name, tangent in named.items()
            if name in cpu.DIFFERENTIABLE and not isinstance(tangent, ad.Zero)
        }
        for named in named_inputs(parts, tangents)
    ]
    saving = tuple(
        part._replace(outputs=_saved_outputs(part)) if directions else part
        for part, directions in zip(parts, moving, strict=True)
    )
    results = named_outputs(saving, forward_p.bind(*primals, parts=saving))

    linear, residuals, directions = [], [], []
    for part, inputs, outputs, moves in zip(
        parts, named_inputs(parts, primals), results, moving, strict=True
    ):
        if not moves:
            continue
        # What the backward pass reads, under the names that it uses.
        saved = inputs | outputs
        if "hidden_state" in outputs:
            saved.pop("sequence", None)
        saved = {n: saved[n] for n in cpu.residuals(part.config) if n in saved}
        linear.append(Part(part.config, tuple(saved), _smooth_outputs(part), tuple(moves)))
        residuals.append(saved)
        directions.append(moves)
    moved: Iterator[Any] = iter(())
    if linear:
        moved = iter(tangent_p.bind(*flat(residuals), *flat(directions), parts=tuple(linear)))

    values, derivatives = [], []
    for part, outputs, moves in zip(parts, results, moving, strict=True):
        smooth = {name: next(moved) for name in _smooth_outputs(part)} if moves else {}
        for name in part.outputs:
            values.append(outputs[name])
            zero = ad.Zero(jax.typeof(outputs[name]).to_tangent_aval())
            derivatives.append(smooth.get(name, zero))
    return values, derivatives


def _saved_outputs(part: Part) -> tuple[str, ...]:
    """The outputs of a scan whose gradient may be asked for."""
    return cpu.present_outputs(
        part.config,
        mask="mask" in part.inputs,
        last_output="last_output" in part.outputs,
        sequence="sequence" in part.outputs,
        slots=True,
    )


def _smooth_outputs(part: Part) -> tuple[str, ...]:
    """The outputs that have a derivative: of the slots, those in the public trace.

    From the others nothing can be computed.
    """
    slots, trace = part.config.slots, part.config.spec.trace_names
    return tuple(name for name in part.outputs if name not in slots or name in trace)


def _tangent_transpose(cotangents: Sequence[Any], *arguments: Any, parts: Parts) -> list[Any]:
    count = sum(len(part.inputs) for part in parts)
    directions = iter(arguments[count:])
    calls, arrays, gradients = [], [], []
    for part, saved, by_output in zip(
        parts,
        named_inputs(parts, arguments),
        named_outputs(parts, cotangents),
        strict=True,
    ):
        own = {name: next(directions) for name in part.tangents}
        if not all(ad.is_undefined_primal(direction) for direction in own.values()):
            # Linear in some of the tangents, the others are numbers.
            raise NotImplementedError(FORWARD_MODE)
        gradients.append({name: ad.Zero(direction.aval) for name, direction in own.items()})
        given = saved | {
            f"d_{name}": cotangent
            for name, cotangent in by_output.items()
            if not isinstance(cotangent, ad.Zero)
        }
        if len(given) == len(saved):
            continue
        given = {n: given[n] for n in cpu.backward_inputs(part.config) if n in given}
        ordered = tuple(name for name in cpu.DIFFERENTIABLE if name in own)
        calls.append((Part(part.config, tuple(given), ordered), gradients[-1]))
        arrays.append(given)
    if calls:
        backward = tuple(part for part, _ in calls)
        values = named_outputs(backward, backward_p.bind(*flat(arrays), parts=backward))
        for (_, target), named in zip(calls, values, strict=True):
            target.update(named)
    return [None] * count + flat(gradients)


def pullback(
    function: Callable[[list[Any]], Sequence[Any]], *, compiled: bool = False
) -> Callable[[Sequence[Any], Sequence[Any]], tuple[list[Any], list[Any]]]:
    """Reverse-mode differentiation of a function of tensors; see `recurra.hosts`."""

    def pull(tensors: list[Any], cotangents: list[Any]) -> tuple[list[Any], list[Any]]:
        results, back = jax.vjp(lambda given: list(function(given)), tensors)
        return results, back(cotangents)[0]

    call = jax.jit(pull) if compiled else pull
    return lambda tensors, cotangents: call(list(tensors), list(cotangents))
