"""Reverse-mode differentiation over NumPy arrays, as small as `recurra.reference` needs.

A `Var` is an array that remembers how it was made. `gradients` walks that record backwards. The
cells' step functions run on `Var`s unchanged, so the reference's gradients follow from the cell
definitions and share no code with the engine's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pullback = Callable[[Array], Array]

_counter = itertools.count()


class Var:
    """An array in float64 with the record of its making.

    parents: pairs (Var, pullback); the pullback turns the cotangent of this array into the
        parent's share of it.
    """

    # Makes ndarray + Var call Var.__radd__ instead of broadcasting over the Var's elements.
    __array_ufunc__ = None
    __slots__ = ("order", "parents", "value")

    def __init__(self, value: Any, parents: tuple[tuple[Var, Pullback], ...] = ()) -> None:
        self.value: Array = np.asarray(value, dtype=np.float64)
        self.parents = parents
        self.order = next(_counter)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __add__(self, other: Any) -> Var:
        other = _var(other)
        return Var(
            self.value + other.value,
            ((self, lambda d: _sum_to(d, self.shape)), (other, lambda d: _sum_to(d, other.shape))),
        )

    def __neg__(self) -> Var:
        return Var(-self.value, ((self, lambda d: -d),))

    def __sub__(self, other: Any) -> Var:
        return self + -_var(other)

    def __rsub__(self, other: Any) -> Var:
        return _var(other) - self

    def __mul__(self, other: Any) -> Var:
        other = _var(other)
        return Var(
            self.value * other.value,
            (
                (self, lambda d: _sum_to(d * other.value, self.shape)),
                (other, lambda d: _sum_to(d * self.value, other.shape)),
            ),
        )

    __radd__ = __add__
    __rmul__ = __mul__

    def __matmul__(self, other: Var) -> Var:
        return Var(
            self.value @ other.value,
            ((self, lambda d: d @ other.value.T), (other, lambda d: self.value.T @ d)),
        )

    def __getitem__(self, index: Any) -> Var:
        def pullback(d: Array) -> Array:
            full = np.zeros(self.shape)
            full[index] = d
            return full

        return Var(self.value[index], ((self, pullback),))

    def map(self, function: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Var:
        """Apply an elementwise function, given together with its derivative."""
        return Var(function(self.value), ((self, lambda d: d * slope(self.value)),))


def where(condition: NDArray[np.bool_], yes: Any, no: Any) -> Var:
    """Elementwise choice; the branch that is not taken gets an exact zero as its cotangent."""
    yes, no = _var(yes), _var(no)
    return Var(
        np.where(condition, yes.value, no.value),
        (
            (yes, lambda d: _sum_to(np.where(condition, d, 0.0), yes.shape)),
            (no, lambda d: _sum_to(np.where(condition, 0.0, d), no.shape)),
        ),
    )


def gradients(outputs: Iterable[tuple[Var, Array]], inputs: Sequence[Var]) -> list[Array]:
    """Sum over outputs of cotangent · d output / d input, for each input, in float64.

    Args:
        outputs: pairs (Var, cotangent) of equal shapes.
        inputs: the Vars to differentiate by; one that no output depends on gets zeros.
    """
    total: dict[Var, Array] = {}
    for var, cotangent in outputs:
        _accumulate(total, var, np.asarray(cotangent, dtype=np.float64))
    # A Var is made after its parents, so descending order of making visits users before makers.
    for var in sorted(_ancestors(total), key=lambda v: v.order, reverse=True):
        for parent, pullback in var.parents:
            _accumulate(total, parent, pullback(total[var]))
    return [total.get(var, np.zeros(var.shape)) for var in inputs]


def _ancestors(roots: Iterable[Var]) -> set[Var]:
    found: set[Var] = set()
    pending = list(roots)
    while pending:
        var = pending.pop()
        if var not in found:
            found.add(var)
            pending.extend(parent for parent, _ in var.parents)
    return found


def _accumulate(total: dict[Var, Array], var: Var, cotangent: Array) -> None:
    total[var] = total[var] + cotangent if var in total else cotangent


def _var(value: Any) -> Var:
    return value if isinstance(value, Var) else Var(value)


def _sum_to(cotangent: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: sum over the axes along which an operand was repeated."""
    extra = cotangent.ndim - len(shape)
    cotangent = cotangent.sum(axis=tuple(range(extra)))
    stretched = tuple(
        axis for axis, size in enumerate(shape) if size == 1 and cotangent.shape[axis] != 1
    )
    return cotangent.sum(axis=stretched, keepdims=True)
