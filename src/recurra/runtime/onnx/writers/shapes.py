"""Layers that move, repeat or cut numbers, and TimeDistributed. Keras drops masks at the former."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.runtime.layers.operations import Operation
from recurra.runtime.onnx.builder import Builder, Value
from recurra.runtime.onnx.writers.registry import Site, write_layer, writes
from recurra.runtime.onnx.writers.windows import FOREVER


@writes("Flatten")
def write_flatten(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """All axes but the batch as one."""
    x = site.x.name
    if layer.channels_first and site.x.rank > 2:
        x = b.transpose(x, 0, *range(2, site.x.rank), 1)
    return [Value(b.reshape(x, 0, -1), site.shapes[0])]


@writes("Reshape")
def write_reshape(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """0 stands for the batch as it is."""
    return [Value(b.reshape(site.x.name, 0, *layer.target_shape), site.shapes[0])]


@writes("Permute")
def write_permute(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """The axes in another order."""
    return [Value(b.transpose(site.x.name, 0, *layer.dims), site.shapes[0])]


@writes("RepeatVector")
def write_repeat_vector(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """One row at each of n steps."""
    one = b.op("Unsqueeze", site.x.name, b.ints(1))
    return [Value(b.op("Expand", one, b.ints(1, layer.n, 1)), site.shapes[0])]


@writes("Cropping1D")
def write_cropping(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Without the first and last steps."""
    start, end = layer.cropping
    return [Value(b.slice(site.x.name, 1, start, -end if end else FOREVER), site.shapes[0])]


@writes("ZeroPadding1D")
def write_zero_padding(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Zeros before and after."""
    before, after = [0, 0, 0], [0, 0, 0]
    before[layer.axis], after[layer.axis] = layer.padding
    return [Value(b.op("Pad", site.x.name, b.ints(*before, *after)), site.shapes[0])]


@writes("UpSampling1D")
def write_up_sampling(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """Each step several times."""
    several = b.op("Unsqueeze", site.x.name, b.ints(2))
    repeated = b.op("Expand", several, b.ints(1, 1, layer.size, 1))
    features = site.x.shape[2]
    last = b.size(site.x.name, 2) if features is None else features
    return [Value(b.reshape(repeated, 0, -1, last), site.shapes[0])]


@writes("TimeDistributed")
def write_time_distributed(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """All steps as one batch of the inner layer.

    A mask with more axes than (batch, time_steps) says which parts of each step are real.
    """
    x, inner = site.x, layer.layer
    mask, within = x.mask, None
    rank = b.mask_ranks.get(mask, 2) if mask else 2
    if mask and rank > 2:
        rest = b.slice(b.op("Shape", mask), 0, 2, FOREVER)
        within = b.op("Reshape", mask, b.op("Concat", b.ints(-1), rest, axis=0))
        b.mask_ranks[within] = rank - 1
        numbers = b.op("ReduceMax", b.cast(mask, "float32"), axes=[*range(2, rank)], keepdims=0)
        mask = b.cast(numbers, "bool")
    b.inside(layer, "layer", inner)
    sizes = b.op("Shape", x.name)
    leading = b.slice(sizes, 0, 0, 2)
    rest = b.slice(sizes, 0, 2, FOREVER)
    flat = b.op("Reshape", x.name, b.op("Concat", b.ints(-1), rest, axis=0))
    one: Any = (None, *x.shape[2:])
    shapes = inner.output_shapes([one])
    written = write_layer(b, inner, Site([Value(flat, one, x.dtype, within)], {}, shapes))
    values = []
    for value, shape in zip(written, site.shapes, strict=True):
        ends = b.slice(b.op("Shape", value.name), 0, 1, FOREVER)
        target = b.op("Concat", leading, ends, axis=0)
        values.append(Value(b.op("Reshape", value.name, target), shape, value.dtype, mask))
    return values


@writes("Sequential", "Functional", "Model")
def write_model(b: Builder, layer: Any, site: Site) -> Sequence[Value]:
    """A model as a layer: the operators of its graph; masks end here."""
    from recurra.runtime.onnx.exporter import write_nodes

    for node in layer.graph.nodes:
        if not isinstance(node.layer, Operation):
            b.inside(layer, node.layer.where.removeprefix(f"{layer.where}/"), node.layer)
    values = {layer.graph.inputs[0].index: site.x}
    scope = b.scope
    write_nodes(b, layer.graph.nodes, values)
    b.scope = scope
    return [values[tensor.index].unmasked() for tensor in layer.graph.outputs]
