"""Writing a loaded model as an ONNX file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from recurra.runtime.graph import Graph, Node, Tensor
from recurra.runtime.layer import Shape
from recurra.runtime.onnx import description
from recurra.runtime.onnx.builder import IR_VERSION, OPSET, TYPES, Builder, State, Value, identifier
from recurra.runtime.onnx.package import onnx
from recurra.runtime.onnx.writers import load as load_writers
from recurra.runtime.onnx.writers.registry import Site, write_layer

LARGEST = 2**31 - 2**20
"""Bytes of the largest file: the format's limit is 2 GiB."""


class Port(NamedTuple):
    """An input or output of the file.

    Args:
        name: as ONNX Runtime takes it.
        dtype: NumPy's name of its type.
        shape: sizes; the names of those that are free: ("batch", "time_steps", 8).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Report(NamedTuple):
    """What was written.

    Args:
        path: of the file.
        inputs, outputs: all of them, states included.
        states: (input, output) of each state of a stateful model: give back what came out.
        opset: version of the operators.
        size: of the file, in bytes.
    """

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[tuple[str, str], ...]
    opset: int
    size: int


def export(model: Any, path: str | os.PathLike[str], *, stateful: bool = False) -> Report:
    """Write a model as an ONNX file with native LSTM, GRU and RNN operators.

    The file is checked by `onnx.checker` before it takes its place; nothing half-written is left.

    Args:
        model: a `Runtime`, a graph, or the path of a model that `recurra.load` reads.
        path: of the file to write; it is replaced if it exists.
        stateful: every recurrent layer starts from states that are inputs of the file and gives
            them back as outputs, (batch, units) each, named after the layer: "lstm_hidden_state"
            and "lstm_hidden_state_out". Calls of any number of time steps, one after the other,
            then give what one call of the whole sequence gives.

    Returns:
        What was written: names, types and shapes of inputs, outputs and states.

    Raises:
        UnsupportedLayerError: for a layer that has no ONNX operators, naming it.
        StreamingError: with stateful, for a model that cannot run step by step.
        ModelFileError: if `model` is a path and the file is not a model.
        ImportError: if the package onnx is not installed.

    Example:
        >>> report = export("model.keras", "model.onnx", stateful=True)  # doctest: +SKIP
        >>> report.states  # doctest: +SKIP
        (('lstm_hidden_state', 'lstm_hidden_state_out'), ('lstm_cell_state', 'lstm_cell_state_out'))
    """
    onnx()
    graph = _graph(model)
    if stateful:
        _require_stream(graph)
        graph = _with_free_time(graph)
    b, ports = write_graph(graph, stateful=stateful)
    proto = _model(graph, b, *ports)
    if proto.ByteSize() > LARGEST:
        raise ValueError(
            f"The model takes {proto.ByteSize() / 2**30:.1f} GiB, and an ONNX file of one piece "
            "2 GiB at most. Use Recurra's runtime for it."
        )
    onnx().checker.check_model(proto, full_check=True)
    target = Path(path)
    data = proto.SerializeToString()
    _replace(target, data)
    states = tuple((state.input, state.output) for state in b.states)
    return Report(target, *ports, states, OPSET, len(data))


def write_graph(
    graph: Graph, *, stateful: bool
) -> tuple[Builder, tuple[tuple[Port, ...], tuple[Port, ...]]]:
    """The operators of a graph, and the file's inputs and outputs."""
    load_writers()
    b = Builder(stateful)
    values: dict[int, Value] = {}
    inputs, outputs = [], []
    for tensor, name in zip(graph.inputs, _names(b, graph.inputs), strict=True):
        dtype = tensor.dtype if tensor.dtype in TYPES else "float32"
        values[tensor.index] = Value(name, tensor.shape, dtype)
        inputs.append(Port(name, dtype, _dimensions(tensor.shape)))
    names = _names(b, graph.outputs)
    write_nodes(b, graph.nodes, values)
    for tensor, name in zip(graph.outputs, names, strict=True):
        value = values[tensor.index]
        b.rename(value.name, name)
        outputs.append(Port(name, value.dtype, _dimensions(tensor.shape)))
    for state in b.states:
        shape = _dimensions(state.shape)
        inputs.append(Port(state.input, "float32", shape))
        outputs.append(Port(state.output, "float32", shape))
    return b, (tuple(inputs), tuple(outputs))


def write_nodes(b: Builder, nodes: Sequence[Node], values: dict[int, Value]) -> None:
    """The operators of calls; what they give is added to `values`, by the tensors' indices."""
    for node in nodes:
        _write_node(b, node, values)


def _write_node(b: Builder, node: Node, values: dict[int, Value]) -> None:
    b.scope = b.name(node.layer.where)
    arguments = {key: _resolve(value, values) for key, value in node.arguments.items()}
    inputs = [values[tensor.index] for tensor in node.inputs]
    if "mask" in arguments:
        inputs = _masked(b, inputs, arguments["mask"])
    shapes = [tensor.shape for tensor in node.outputs]
    written = write_layer(b, node.layer, Site(inputs, arguments, shapes))
    for tensor, value in zip(node.outputs, written, strict=True):
        values[tensor.index] = value


def _resolve(value: Any, values: Mapping[int, Value]) -> Any:
    """An argument of a call, with the values of its tensors."""
    if isinstance(value, Tensor):
        return values[value.index]
    if isinstance(value, (list, tuple)):
        return [_resolve(item, values) for item in value]
    return value


def _masked(b: Builder, inputs: Sequence[Value], mask: Any) -> list[Value]:
    """Inputs with the masks that the call names instead of their own."""
    masks = list(mask) if isinstance(mask, list) else [mask]
    masks += [None] * (len(inputs) - len(masks))
    found = []
    for value, given in zip(inputs, masks, strict=False):
        name = given.name if isinstance(given, Value) else None
        if isinstance(given, Value) and given.dtype != "bool":
            name = b.cast(given.name, "bool")
        if isinstance(given, Value) and name is not None:
            b.mask_ranks[name] = given.rank
        found.append(replace(value, mask=name))
    return found


def _names(b: Builder, tensors: Sequence[Tensor]) -> list[str]:
    """Names for inputs or outputs: the tensors' own where they are free and plain."""
    return [b.name(identifier(tensor.name)) for tensor in tensors]


def _dimensions(shape: Shape) -> tuple[int | str, ...]:
    """A shape with names for what is free: batch, time_steps, and then axis_2 ..."""
    usual = ("batch", "time_steps")
    return tuple(
        size if size is not None else usual[i] if i < 2 else f"axis_{i}"
        for i, size in enumerate(shape)
    )


def _model(graph: Graph, b: Builder, inputs: Sequence[Port], outputs: Sequence[Port]) -> Any:
    helper = onnx().helper

    def info(port: Port) -> Any:
        kind = getattr(onnx().TensorProto, TYPES[port.dtype])
        return helper.make_tensor_value_info(port.name, kind, list(port.shape))

    text = description.describe(graph, b)
    proto = helper.make_model(
        helper.make_graph(
            b.nodes,
            identifier(graph.name) or "model",
            [info(port) for port in inputs],
            [info(port) for port in outputs],
            b.initializers,
        ),
        producer_name="recurra",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(proto, {description.KEY: text})
    return proto


def _graph(model: Any) -> Graph:
    if isinstance(model, (str, os.PathLike)):
        from recurra.runtime.model import load

        model = load(model)
    graph = getattr(model, "graph", model)
    if not isinstance(graph, Graph):
        raise TypeError(
            f"export(model, ...) got model of type {type(model).__name__}; expected a Runtime "
            "(recurra.load(path)) or the path of a model file."
        )
    return graph


def _require_stream(graph: Graph) -> None:
    """Refuse a model that cannot run step by step.

    Raises:
        StreamingError: naming the layer and the reason.
    """
    from recurra.runtime.streaming import program_of

    program_of(graph)


def _with_free_time(graph: Graph) -> Graph:
    """The graph of a model that streams, for calls of any number of time steps.

    Models may fix the number; it then stands in the shapes of all tensors that have time: those of
    (batch, time_steps, features), and inputs of indices.
    """
    timed = [t for t in graph.inputs if len(t.shape) == 3 or t.dtype != "float32"]
    fixed = {t.shape[1] for t in timed if len(t.shape) > 1} - {None}
    ids = {t.index for t in timed if len(t.shape) == 2}

    def freed(tensor: Tensor) -> Tensor:
        shape = tensor.shape
        if (len(shape) == 3 or tensor.index in ids) and shape[1] in fixed:
            return replace(tensor, shape=(shape[0], None, *shape[2:]))
        return tensor

    nodes = [
        replace(
            node,
            inputs=[freed(tensor) for tensor in node.inputs],
            outputs=[freed(tensor) for tensor in node.outputs],
        )
        for node in graph.nodes
    ]
    return replace(
        graph,
        inputs=[freed(tensor) for tensor in graph.inputs],
        outputs=[freed(tensor) for tensor in graph.outputs],
        nodes=nodes,
    )


def _replace(path: Path, data: bytes) -> None:
    """Write a file in one piece: beside its place first, then there."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: there is no folder {str(path.parent)!r}; make it, or name another file."
        )
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


__all__ = ["Port", "Report", "State", "export", "write_graph"]
