"""How an ONNX tensor looks at one of the runtime's, which has the batch first and features last.

PyTorch's exports turn tensors round before and after every LSTM and work out shapes as they go.
Nothing of that computes anything, so none of it becomes a layer: every axis of a tensor is a list
of atoms, the axes that it was made of, and transposing, squeezing and reshaping only move these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from recurra.runtime.layer import Array

MOST_AXES = 32
"""Axes of a tensor."""

MOST_STATES = 1000
"""States that are joined."""


class LayoutError(ValueError):
    """The axes do not stand where an operator needs them, as the input's axes were understood."""


class Size(NamedTuple):
    """A size: a number times the sizes of free axes, by their names."""

    number: int
    free: tuple[str, ...] = ()

    def times(self, other: Size) -> Size:
        """The product.

        Raises:
            LayoutError: if it is beyond what a tensor's size can be.
        """
        number, free = self.number * other.number, (*self.free, *other.free)
        if abs(number) >= 2**62 or len(free) > MOST_AXES:
            raise LayoutError("a shape is too large")
        return Size(number, tuple(sorted(free)))

    def known(self) -> int | None:
        """The number, if it does not hang on free axes."""
        return None if self.free else self.number


ONE = Size(1)


class Atom(NamedTuple):
    """An axis that something has been made with; different atoms have different names."""

    name: str
    size: Size


Axis = tuple[Atom, ...]
Axes = tuple[Axis, ...]


def size_of(axis: Axis) -> Size:
    """The product of the atoms' sizes."""
    total = ONE
    for atom in axis:
        total = total.times(atom.size)
    return total


@dataclass(frozen=True)
class View:
    """A tensor as an operator sees it.

    Args:
        source: the number of the runtime's tensor.
        base: that tensor's axes: batch, time steps, features.
        axes: the axes here: the same atoms, moved; () is an axis of size 1.
    """

    source: int
    base: Axes
    axes: Axes

    @property
    def batch(self) -> Axis:
        return self.base[0]

    def dims(self) -> tuple[Size, ...]:
        return tuple(size_of(axis) for axis in self.axes)

    def places(self) -> list[int | None]:
        """For every axis the base's axis that it is, None for one of size 1.

        Raises:
            LayoutError: if an axis is only a part of the base's, or several.
        """
        found: list[int | None] = []
        for axis in self.axes:
            if axis and axis not in self.base:
                raise LayoutError("an axis is part of another one")
            found.append(self.base.index(axis) if axis else None)
        if {place for place in found if place is not None} != set(range(len(self.base))):
            raise LayoutError("axes are missing")
        return found

    def like(self, source: int, base: Axes) -> View:
        """A tensor of another's axes, seen in the same way; axes are matched by their places."""
        places = self.places()
        return View(source, base, tuple(() if p is None else base[p] for p in places))

    def transposed(self, order: Sequence[int]) -> View:
        return replace(self, axes=tuple(self.axes[n] for n in order))

    def squeezed(self, places: Sequence[int] | None) -> View:
        rank = len(self.axes)
        if places is None:
            chosen = {n for n, axis in enumerate(self.axes) if size_of(axis) == ONE}
        else:
            chosen = {n % rank for n in places}
        if any(size_of(self.axes[n]) != ONE for n in chosen):
            raise LayoutError("an axis that is not of size 1 is squeezed")
        return self._regrouped([axis for n, axis in enumerate(self.axes) if n not in chosen])

    def unsqueezed(self, places: Sequence[int]) -> View:
        rank = len(self.axes) + len(places)
        if rank > MOST_AXES:
            raise LayoutError(f"{rank} axes")
        new, axes = {n % rank for n in places}, iter(self.axes)
        return replace(self, axes=tuple(() if n in new else next(axes) for n in range(rank)))

    def reshaped(self, target: Sequence[Size]) -> View:
        """The same numbers in another shape; 0 keeps an axis, -1 takes what is left.

        PyTorch writes a number for a free axis at times, that of the example it was given.

        Raises:
            LayoutError: if the target's axes are not made of whole atoms.
        """
        try:
            return self._reshaped(target, False)
        except LayoutError:
            return self._reshaped(target, True)

    def _reshaped(self, target: Sequence[Size], loosely: bool) -> View:
        sizes = [
            size_of(self.axes[n]) if size == Size(0) else size for n, size in enumerate(target)
        ]
        atoms = [atom for axis in self.axes for atom in axis]
        if Size(-1) in sizes:
            place = sizes.index(Size(-1))
            front, atoms = _take(atoms, sizes[:place], loosely)
            back, middle = _take(atoms[::-1], sizes[:place:-1], loosely, turned=True)
            return self._regrouped([*front, tuple(middle[::-1]), *back[::-1]])
        axes, left = _take(atoms, sizes, loosely)
        if left:
            if any(atom.size != ONE for atom in left):
                raise LayoutError("a shape does not fit")
            axes[-1] = (*axes[-1], *left)
        return self._regrouped(axes)

    def _regrouped(self, axes: Sequence[Axis]) -> View:
        """With these axes; atoms of size 1 that have got lost stand with a neighbour."""
        kept = {atom for axis in axes for atom in axis}
        lost = [atom for axis in self.axes for atom in axis if atom not in kept]
        base = tuple(tuple(atom for atom in axis if atom not in lost) for axis in self.base)
        if not lost:
            return replace(self, axes=tuple(axes))
        return View(self.source, base, tuple(axes))


def _take(
    atoms: Sequence[Atom], sizes: Sequence[Size], loosely: bool, turned: bool = False
) -> tuple[list[Axis], list[Atom]]:
    """Axes of these sizes from the atoms in their order, and the atoms that are left.

    Loosely, a number stands for any free axis.
    """
    left, axes = list(atoms), []
    for size in sizes:
        axis: list[Atom] = []
        while size_of(tuple(axis)) != size:
            if not left:
                raise LayoutError("a shape does not fit")
            axis.append(left.pop(0))
            if loosely and len(axis) == 1 and axis[0].size.free and not size.free:
                break
        if not axis and left and left[0].size == ONE and size == ONE:
            axis.append(left.pop(0))
        axes.append(tuple(axis[::-1] if turned else axis))
    return axes, left


@dataclass(frozen=True)
class Stack:
    """States of several layers or directions, (count, batch, units): a (batch, units) of each."""

    items: tuple[View, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.items) <= MOST_STATES:
            raise LayoutError(f"{len(self.items)} states")

    def dims(self) -> tuple[Size, ...]:
        return (Size(len(self.items)), *self.items[0].dims())


@dataclass(frozen=True)
class Dims:
    """Whole numbers that hang on free sizes: a shape or a part of one; `scalar` is one alone."""

    sizes: tuple[Size, ...]
    scalar: bool = False

    def __post_init__(self) -> None:
        if len(self.sizes) > MOST_AXES:
            raise LayoutError(f"a shape of {len(self.sizes)} axes")


@dataclass(frozen=True)
class Fill:
    """One number everywhere, of a shape that hangs on free sizes."""

    number: float
    sizes: tuple[Size, ...]

    def dims(self) -> tuple[Size, ...]:
        return self.sizes


Known = View | Stack | Dims | Fill | Array
"""What the tensors of an ONNX graph can be while it is read; arrays are constants."""


def as_dims(value: Known) -> Dims:
    """Whole numbers as sizes.

    Raises:
        LayoutError: if they are none.
    """
    if isinstance(value, Dims):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim < 2:
        if value.size > MOST_AXES:
            raise LayoutError(f"a shape of {value.size} axes")
        return Dims(tuple(Size(int(n)) for n in value.reshape(-1)), value.ndim == 0)
    raise LayoutError("a shape is computed from the data")


def as_numbers(value: Known) -> list[int]:
    """Whole numbers that are known.

    Raises:
        LayoutError: if they are not.
    """
    found = [size.known() for size in as_dims(value).sizes]
    if None in found:
        raise LayoutError("a number depends on the input's size")
    return [n for n in found if n is not None]


def simplified(value: Dims) -> Known:
    """A constant, if nothing hangs on free sizes."""
    known = [size.known() for size in value.sizes]
    if None in known:
        return value
    array = np.array(known, np.int64)
    return array.reshape(()) if value.scalar else array


def count(sizes: Sequence[Size]) -> int | None:
    """The product, if it is known."""
    known = [size.known() for size in sizes]
    return None if None in known else math.prod(n for n in known if n is not None)
