"""Operators that only move numbers, or work out shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recurra.runtime.onnx.reading import Node, Reader
from recurra.runtime.onnx.views import (
    Dims,
    Fill,
    Known,
    LayoutError,
    Size,
    Stack,
    View,
    as_dims,
    as_numbers,
    simplified,
    size_of,
)

LARGEST_CONSTANT = 2**16
"""Numbers of a constant that other constants may be computed to."""


def _dims_of(value: Known) -> tuple[Size, ...]:
    if isinstance(value, np.ndarray):
        return tuple(Size(n) for n in value.shape)
    if isinstance(value, Dims):
        return () if value.scalar else (Size(len(value.sizes)),)
    return value.dims()


def _axes(reader: Reader, node: Node, place: int = 1) -> list[int] | None:
    """Axes, an attribute or an input as the operators' versions have it."""
    if len(node.inputs) > place and node.inputs[place]:
        return as_numbers(reader.value(node.inputs[place]))
    found = node.get("axes")
    return None if found is None else [int(n) for n in found]


def constant(reader: Reader, node: Node) -> Sequence[Known]:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        found = node.get(name)
        if found is not None:
            array = np.asarray(found)
            return [array.astype(np.float32) if array.dtype.kind == "f" else array]
    raise node.unsupported("its value is not a number.")


def same(reader: Reader, node: Node) -> Sequence[Known]:
    """Identity, and Dropout as outside training."""
    return [reader.value(node.inputs[0])]


def cast(reader: Reader, node: Node) -> Sequence[Known]:
    value, kind = reader.value(node.inputs[0]), int(node.get("to", 1))
    if isinstance(value, np.ndarray):
        types = {1: np.float32, 10: np.float32, 11: np.float32, 6: np.int32, 7: np.int64, 9: bool}
        if kind not in types:
            raise node.unsupported(f"a cast to ONNX's type {kind}.")
        return [value.astype(types[kind])]
    if isinstance(value, (View, Stack)) and kind not in (1, 10, 11, 6, 7):
        raise node.unsupported(f"a cast to ONNX's type {kind}.")
    if isinstance(value, Dims) and kind not in (6, 7):
        raise node.unsupported("a shape as a number to compute with.")
    return [value]


def shape(reader: Reader, node: Node) -> Sequence[Known]:
    sizes = _dims_of(reader.value(node.inputs[0]))
    start, end = node.get("start", 0), node.get("end")
    return [simplified(Dims(sizes[start:end]))]


def constant_of_shape(reader: Reader, node: Node) -> Sequence[Known]:
    value = node.get("value")
    number = 0.0 if value is None else float(np.asarray(value).reshape(-1)[0])
    return [Fill(number, as_dims(reader.value(node.inputs[0])).sizes)]


def expand(reader: Reader, node: Node) -> Sequence[Known]:
    value = reader.value(node.inputs[0])
    target = as_dims(reader.value(node.inputs[1])).sizes
    if isinstance(value, np.ndarray) and value.size == 1:
        return [Fill(float(value.reshape(-1)[0]), target)]
    if isinstance(value, Fill):
        return [Fill(value.number, target)]
    if isinstance(value, (View, Stack)):
        sizes = _dims_of(value)
        fits = len(sizes) == len(target) and all(
            t in (Size(1), s) for s, t in zip(sizes, target, strict=True)
        )
        if fits:
            return [value]
    raise node.unsupported("it repeats numbers; put a RepeatVector's work outside of the model.")


def transpose(reader: Reader, node: Node) -> Sequence[Known]:
    value = reader.value(node.inputs[0])
    rank = len(_dims_of(value))
    order = [int(n) for n in node.get("perm", range(rank)[::-1])]
    if sorted(order) != list(range(rank)):
        raise node.unsupported(f"perm={order} for a tensor of {rank} axes.")
    if isinstance(value, np.ndarray):
        return [value.transpose(order)]
    if isinstance(value, Fill):
        return [Fill(value.number, tuple(value.sizes[n] for n in order))]
    return [value if order == sorted(order) else reader.view(node, 0).transposed(order)]


def reshape(reader: Reader, node: Node) -> Sequence[Known]:
    value, target = reader.value(node.inputs[0]), as_dims(reader.value(node.inputs[1])).sizes
    if isinstance(value, np.ndarray):
        return [value.reshape(as_numbers(Dims(target)))]
    if isinstance(value, Dims):
        return [Dims(value.sizes, scalar=len(target) == 0)]
    if isinstance(value, Fill):
        return [Fill(value.number, target)]
    return [reader.view(node, 0).reshaped(target)]


def flatten(reader: Reader, node: Node) -> Sequence[Known]:
    view = reader.view(node, 0)
    axis = int(node.get("axis", 1)) % (len(view.axes) + 1)
    atoms = [[a for axes in part for a in axes] for part in (view.axes[:axis], view.axes[axis:])]
    return [View(view.source, view.base, (tuple(atoms[0]), tuple(atoms[1])))]


def squeeze(reader: Reader, node: Node) -> Sequence[Known]:
    value, axes = reader.value(node.inputs[0]), _axes(reader, node)
    if isinstance(value, np.ndarray):
        return [np.squeeze(value, None if axes is None else tuple(axes))]
    if isinstance(value, Dims):
        return [Dims(value.sizes, scalar=True)]
    if isinstance(value, Stack) and len(value.items) == 1 and axes in (None, [0], [-3]):
        return [value.items[0]]
    if isinstance(value, Fill):
        chosen = {n % len(value.sizes) for n in axes or ()}
        kept = tuple(s for n, s in enumerate(value.sizes) if n not in chosen)
        return [Fill(value.number, kept)]
    return [reader.view(node, 0).squeezed(axes)]


def unsqueeze(reader: Reader, node: Node) -> Sequence[Known]:
    value, axes = reader.value(node.inputs[0]), _axes(reader, node) or []
    if isinstance(value, np.ndarray):
        return [np.expand_dims(value, tuple(axes))]
    if isinstance(value, Dims):
        return [Dims(value.sizes)]
    if isinstance(value, Fill):
        sizes = list(value.sizes)
        for axis in sorted(n % (len(sizes) + len(axes)) for n in axes):
            sizes.insert(axis, Size(1))
        return [Fill(value.number, tuple(sizes))]
    if isinstance(value, View) and len(value.axes) == 2 and axes in ([0], [-3]):
        return [Stack((value,))]
    return [reader.view(node, 0).unsqueezed(axes)]


def gather(reader: Reader, node: Node) -> Sequence[Known]:
    """A place of a shape or of constants, a step of a sequence, or rows of an embedding."""
    value, axis = reader.value(node.inputs[0]), int(node.get("axis", 0))
    indices = reader.value(node.inputs[1])
    if isinstance(value, np.ndarray) and isinstance(indices, View):
        return [_embedded(reader, node, value, indices, axis)]
    if not isinstance(indices, np.ndarray):
        raise node.unsupported("its indices are computed.")
    if isinstance(value, np.ndarray):
        if value.size * indices.size > LARGEST_CONSTANT:
            raise node.unsupported("it picks from a large constant.")
        return [np.take(value, indices, axis=axis)]
    if isinstance(value, Dims):
        picked = tuple(value.sizes[int(n)] for n in indices.reshape(-1))
        return [simplified(Dims(picked, scalar=indices.ndim == 0))]
    if indices.size != 1 or indices.ndim > 1:
        raise node.unsupported("it picks several places; one can be read.")
    index = int(indices.reshape(-1)[0])
    picked_one = _place(reader, node, value, axis, index)
    if indices.ndim == 1:
        if isinstance(picked_one, View):
            rank = len(picked_one.axes) + 1
            if rank == 3 and axis % rank == 0:
                return [Stack((picked_one,))]
            return [picked_one.unsqueezed([axis % rank])]
        raise node.unsupported("it picks from a constant.")
    return [picked_one]


def _place(reader: Reader, node: Node, value: Known, axis: int, index: int) -> Known:
    """One place along an axis, which goes."""
    if isinstance(value, Stack) and axis % 3 == 0:
        return value.items[index]
    if isinstance(value, Fill):
        kept = list(value.sizes)
        del kept[axis]
        return Fill(value.number, tuple(kept))
    view = reader.view(node, 0)
    axis %= len(view.axes)
    if not view.axes[axis]:
        return view.squeezed([axis])
    place = view.places()[axis]
    if place is None or place == 0:
        raise node.unsupported("it picks rows of the batch, and the runtime computes each alone.")
    size = size_of(view.base[place]).known()
    if place == 1 and len(view.base) == 3 and (index == -1 or index + 1 == size):
        source = reader.drafts.last(view.source)
    else:
        source = reader.drafts.take(view.source, [*[slice(None)] * place, index])
    base = tuple(each for n, each in enumerate(view.base) if n != place)
    return View(source, base, tuple(each for n, each in enumerate(view.axes) if n != axis))


def _embedded(reader: Reader, node: Node, table: np.ndarray, ids: View, axis: int) -> Known:
    if table.ndim != 2 or axis != 0 or table.dtype != np.float32:
        raise node.unsupported("it picks from a constant that is no table of embeddings.")
    rows, features = table.shape
    config = {"input_dim": rows, "output_dim": features}
    source = reader.drafts.layer(
        "Embedding", config, [ids.source], {"embeddings": table}, "pointwise"
    )
    new = (reader.atom("embedding", features),)
    seen = ids.like(source, ids.base)
    return View(source, (*ids.base, new), (*seen.axes, new))


def slice_(reader: Reader, node: Node) -> Sequence[Known]:
    value = reader.value(node.inputs[0])
    starts, ends = (as_dims(reader.value(node.inputs[n])).sizes for n in (1, 2))
    axes = _axes(reader, node, 3)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(axes)
    if len(node.inputs) > 4 and node.inputs[4]:
        steps = as_numbers(reader.value(node.inputs[4]))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        value = _sliced(reader, node, value, axis, start, end, step)
    return [value]


def _sliced(
    reader: Reader, node: Node, value: Known, axis: int, first: Size, last: Size, step: int
) -> Known:
    sizes = _dims_of(value)
    axis %= len(sizes)
    start, stop = first.known(), last.known()
    if last == sizes[axis]:
        stop = None  # up to the end, however long it is
    elif stop is None:
        raise node.unsupported("its end depends on the input's size.")
    if stop is not None and stop >= 2**31 - 1:
        stop = None
    if start is None:
        raise node.unsupported("its start depends on the input's size.")
    known = sizes[axis].known()
    part = slice(start, stop, step)
    if step == 1 and start == 0 and (stop is None or (known is not None and stop >= known)):
        return value
    length = None if known is None else len(range(*part.indices(known)))
    if isinstance(value, np.ndarray):
        return value[(*[slice(None)] * axis, part)]
    if isinstance(value, Dims):
        return simplified(Dims(value.sizes[part]))
    if isinstance(value, Fill):
        free = Size(1, (f"sliced {node.name}",)) if length is None else Size(length)
        return Fill(value.number, (*sizes[:axis], free, *sizes[axis + 1 :]))
    if isinstance(value, Stack) and axis == 0:
        return Stack(value.items[part])
    view = reader.joined(value) if isinstance(value, Stack) else value
    assert isinstance(view, View)
    place = view.places()[axis]
    if place is None or place == 0:
        raise node.unsupported("it cuts the batch, and the runtime computes each row alone.")
    if start == -1 and stop is None and step == 1 and place == 1 and len(view.base) == 3:
        last_step = View(
            reader.drafts.last(view.source),
            (view.base[0], view.base[2]),
            tuple(() if n == axis else each for n, each in enumerate(view.axes)),
        )
        return last_step
    source = reader.drafts.take(view.source, [*[slice(None)] * place, part])
    new = (reader.atom("sliced", length),)
    base = tuple(new if n == place else each for n, each in enumerate(view.base))
    return View(source, base, tuple(new if n == axis else e for n, e in enumerate(view.axes)))


def split(reader: Reader, node: Node) -> Sequence[Known]:
    value = reader.value(node.inputs[0])
    axis, sizes = int(node.get("axis", 0)), _dims_of(value)
    known = sizes[axis].known()
    if known is None:
        raise node.unsupported("it splits an axis of free size.")
    given = _axes(reader, node, 1) or node.get("split")
    count = len(node.outputs)
    lengths = [int(n) for n in given] if given else [-(-known // count)] * count
    found, start = [], 0
    for length in lengths:
        end = Size(min(start + length, known))
        found.append(_sliced(reader, node, value, axis, Size(start), end, 1))
        start += length
    return found


def concat(reader: Reader, node: Node) -> Sequence[Known]:
    values, axis = [reader.value(name) for name in node.inputs], int(node.get("axis", 0))
    if all(isinstance(value, np.ndarray) for value in values):
        arrays = [value for value in values if isinstance(value, np.ndarray)]
        if sum(array.size for array in arrays) > LARGEST_CONSTANT:
            raise node.unsupported("it joins large constants.")
        return [np.concatenate(arrays, axis=axis)]
    if all(isinstance(value, (Dims, np.ndarray)) for value in values):
        return [Dims(tuple(size for value in values for size in as_dims(value).sizes))]
    stacks = [value for value in values if isinstance(value, Stack)]
    if len(stacks) == len(values) and axis % 3 == 0:
        return [Stack(tuple(item for stack in stacks for item in stack.items))]
    views = [reader.view(node, place) for place in range(len(values))]
    first = views[0]
    places = [view.places() for view in views]
    place = places[0][axis % len(first.axes)]
    if place in (None, 0) or any(each != places[0] for each in places):
        raise LayoutError("what is joined is turned round in different ways")
    assert place is not None
    sources = [view.source for view in views]
    total: int | None = 0
    for view in views:
        size = size_of(view.base[place]).known()
        total = None if size is None or total is None else total + size
    # Joining features leaves time steps apart.
    features = place == len(first.base) - 1
    source = reader.drafts.layer(
        "Concatenate",
        {"axis": -1 if features else place},
        sources,
        kind="merge" if features else "other",
    )
    new = (reader.atom("joined", total),)
    return [first.like(source, tuple(new if n == place else e for n, e in enumerate(first.base)))]


def arithmetic(reader: Reader, node: Node) -> Known | None:
    """Sums and products of shapes and of constants; None if data is among the operands."""
    values = [reader.value(name) for name in node.inputs[:2]]
    if all(isinstance(value, np.ndarray) for value in values):
        one, two = (value for value in values if isinstance(value, np.ndarray))
        if math.prod(np.broadcast_shapes(one.shape, two.shape)) > LARGEST_CONSTANT:
            raise node.unsupported("it computes with large constants.")
        function = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}.get(node.kind)
        if function is not None:
            return np.asarray(function(one, two))
        if one.dtype.kind in "iu" and not np.any(two == 0):
            return np.asarray(one // two)
        return np.asarray(one / two, np.float32)
    if not all(isinstance(value, (Dims, np.ndarray)) for value in values):
        return None
    first, second = (as_dims(value) for value in values)
    if len(first.sizes) != 1 or len(second.sizes) != 1 or node.kind != "Mul":
        raise node.unsupported("it computes with the input's size.")
    product = first.sizes[0].times(second.sizes[0])
    return simplified(Dims((product,), first.scalar and second.scalar))


OPERATORS = {
    "Constant": constant,
    "Identity": same,
    "Dropout": same,
    "Cast": cast,
    "Shape": shape,
    "ConstantOfShape": constant_of_shape,
    "Expand": expand,
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Gather": gather,
    "Slice": slice_,
    "Split": split,
    "Concat": concat,
}
"""How each operator is read."""
