"""Loaded models as calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.insight.structure.calls import Call, Value, assemble, first_on, nothing
from recurra.insight.structure.model import Cell, Recurrent, Structure
from recurra.insight.structure.telling import plain_value, telling, written_key
from recurra.runtime.build import WithMask
from recurra.runtime.graph import Graph
from recurra.runtime.graph import Node as RuntimeNode
from recurra.runtime.graph import Tensor as RuntimeTensor
from recurra.runtime.interpreter import tensors_in
from recurra.runtime.layer import Layer
from recurra.runtime.layers.cells import Cell as RuntimeCell
from recurra.runtime.layers.model import ModelLayer
from recurra.runtime.layers.operations import Operation, Slot
from recurra.runtime.layers.recurrent import Recurrent as RuntimeRecurrent
from recurra.runtime.layers.wrappers import Bidirectional, TimeDistributed
from recurra.runtime.model import Runtime


def structure_of_runtime(runtime: Runtime) -> Structure:
    """The structure of a loaded model; paths are those of the Keras model that was saved."""
    return structure_of_graph(runtime.graph, [spec.name for spec in runtime.inputs])


def structure_of_graph(graph: Graph, inputs: Sequence[str], gaps: Sequence[str] = ()) -> Structure:
    """The structure of a graph.

    Args:
        graph: of a loaded model; tensors of which nothing is known may have the shape None.
        inputs: names of its inputs.
        gaps: as in `Structure`.
    """
    values: dict[int, Value] = {}

    def value(tensor: RuntimeTensor) -> Value:
        if tensor.index not in values:
            shape = None if tensor.shape is None else tuple(tensor.shape)
            values[tensor.index] = Value(tensor.name, shape, tensor.dtype)
        return values[tensor.index]

    given = [value(tensor) for tensor in graph.inputs]
    for each, name in zip(given, inputs, strict=True):
        each.name = name
    calls = []
    for node in graph.nodes:
        if isinstance(node.layer, WithMask):  # says which mask a nested model gets: no call
            values[node.outputs[0].index] = value(node.inputs[0])
        else:
            calls.append(_call(node, value))
    outputs = [value(tensor) for tensor in graph.outputs]
    return assemble(graph.name, "Runtime", calls, given, outputs, gaps=gaps)


def _call(node: RuntimeNode, value: Any) -> Call:
    layer = node.layer
    others = {name: [value(t) for t in tensors_in(v)] for name, v in node.arguments.items()}
    others = {name: group for name, group in others.items() if group}
    inputs = [value(t) for t in node.inputs]
    call = Call(
        layer=id(layer),
        path=layer.where,
        class_name=layer.keras_class,
        inputs=inputs,
        outputs=[value(t) for t in node.outputs],
        parameters=sum(array.size for array in layer.weights.values()),
        recurrent=recurrent_of(layer),
        operation=isinstance(layer, Operation),
    )
    if call.recurrent is not None:
        call.states = others.pop("initial_state", [])
    if isinstance(layer, Operation):
        call.inputs = inputs + [v for group in others.values() for v in group]
        call.config = _constants(layer)
        for made in call.outputs:
            made.dtype = "bool" if call.class_name in _TRUTHS else made.dtype
    else:
        if layer.operands > 1:
            names = layer.parameters[1 : len(inputs)]
            others |= {name: [v] for name, v in zip(names, inputs[1:], strict=True)}
            call.inputs = inputs[:1]
        call.others = others
        call.config = _config(layer)
    _masks(layer, call)
    return call


def recurrent_of(layer: Layer) -> Recurrent | None:
    """What is recurrent about a runtime's layer; None if nothing is."""
    if isinstance(layer, RuntimeRecurrent):
        slow = next((cell.obstacle for cell in layer.cells if cell.obstacle), None)
        return Recurrent(
            class_name=layer.keras_class,
            library="runtime",
            layer_name=layer.name,
            cells=tuple(_cell(cell, index, layer) for index, cell in enumerate(layer.cells)),
            return_sequences=layer.return_sequences,
            return_state=layer.return_state,
            return_trace=layer.return_trace,
            go_backwards=layer.go_backwards,
            stateful=layer.stateful,
            zero_output_for_mask=layer.zero_output_for_mask,
            engine="runtime",
            reason=_REASON if slow is None else f"NumPy computes it step by step: {slow}",
        )
    if isinstance(layer, Bidirectional):
        return _wrapper(layer, list(layer.directions), layer.merge_mode)
    if isinstance(layer, TimeDistributed):
        parts = _inner(layer.layer, "layer")
        return _wrapper(layer, parts) if parts else None
    return getattr(layer, "recurrent", None)  # of layers that only a description is known of


_REASON = "the compiled engine computes the whole sequence"


def _inner(layer: Layer, place: str) -> list[tuple[str, Layer]]:
    if isinstance(layer, ModelLayer):
        return [
            found
            for node in layer.graph.nodes
            for found in _inner(node.layer, place + node.layer.where.removeprefix(layer.where))
        ]
    return [(place, layer)] if recurrent_of(layer) is not None else []


def _wrapper(layer: Layer, inner: list[Any], merge_mode: str | None = None) -> Recurrent:
    parts = tuple((place, recurrent_of(each)) for place, each in inner)
    first = parts[0][1]
    assert first is not None
    return Recurrent(
        class_name=layer.keras_class,
        library="runtime",
        layer_name=layer.name,
        parts=parts,  # type: ignore[arg-type]
        return_sequences=first.return_sequences,
        return_state=first.return_state,
        go_backwards=first.go_backwards,
        stateful=first.stateful,
        zero_output_for_mask=first.zero_output_for_mask,
        merge_mode=merge_mode,
        engine=first.engine,
        reason=first.reason,
    )


def _cell(cell: RuntimeCell, index: int, layer: RuntimeRecurrent) -> Cell:
    spec = cell.spec
    options = spec.choose(cell.reset_after)
    if not cell.use_bias:
        options["use_bias"] = False
    named = {"kernel": cell.kernel, "recurrent_kernel": cell.recurrent_kernel, "bias": cell.bias}
    config: Any = layer._cell_configs()[index][1]
    return Cell(
        name="cell" if len(layer.cells) == 1 else f"cell_{index}",
        class_name=f"{spec.layer}Cell",
        cell=cell.kind,
        units=cell.units,
        features=int(cell.kernel.shape[0]) or None,
        activations={g.name: getattr(cell, g.role).name for g in spec.gate_table},
        options=options,
        weights={
            n: tuple(int(s) for s in w.shape)
            for n, w in named.items()
            if w is not None and w.size  # unbuilt layers have empty ones
        },
        state_sizes=tuple((cell.units,) for _ in spec.states),
        dropout=_rate(config.get("dropout")),
        recurrent_dropout=_rate(config.get("recurrent_dropout")),
    )


def _rate(rate: Any) -> float:
    return float(rate) if isinstance(rate, (int, float)) else 0.0


def _config(layer: Layer) -> dict[str, Any]:
    if isinstance(layer, TimeDistributed):
        inner = {} if recurrent_of(layer) is not None else _config(layer.layer)
        return {"layer": layer.layer.keras_class} | inner
    return {} if recurrent_of(layer) is not None else telling(layer.config)


def _constants(layer: Operation) -> dict[str, Any]:
    """What an operation is called with that is no tensor, and what it was made with."""
    told: dict[str, Any] = {}
    numbered = {f"x{n}": value for n, value in enumerate(layer.arguments, 1)}
    for name, value in {**layer.config, **numbered, **layer.keywords}.items():
        if layer.keras_class == "GetItem" and name in ("key", "x2"):
            written = written_key(value)
            told |= {} if written is None else {"key": written}
        elif name not in ("name", "trainable", "dtype") and not _has_slots(value):
            plain = plain_value(value)
            plain = plain[0] if name == "axis" and _is_alone(plain) else plain
            told |= {} if plain is None else {name: plain}
    return told


def _is_alone(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def _has_slots(value: Any) -> bool:
    if isinstance(value, Slot):
        return True
    return isinstance(value, (list, tuple)) and any(_has_slots(each) for each in value)


# --- Masks ---

_TRUTHS = frozenset(
    {
        "All",
        "Any",
        "Equal",
        "Greater",
        "GreaterEqual",
        "Less",
        "LessEqual",
        "LogicalAnd",
        "LogicalNot",
        "LogicalOr",
        "NotEqual",
    }
)
"""Operations whose results are true or false."""

_USERS = frozenset(
    {
        "AdditiveAttention",
        "Attention",
        "Average",
        "GlobalAveragePooling1D",
        "GroupedQueryAttention",
        "Maximum",
        "Minimum",
        "MultiHeadAttention",
        "Softmax",
    }
)

_HAND_ON = frozenset(
    {
        "Activation",
        "ActivityRegularization",
        "AlphaDropout",
        "BatchNormalization",
        "Dense",
        "Dropout",
        "ELU",
        "GaussianDropout",
        "GaussianNoise",
        "GroupNormalization",
        "GroupQueryAttention",
        "GroupedQueryAttention",
        "Identity",
        "LayerNormalization",
        "LeakyReLU",
        "MultiHeadAttention",
        "Normalization",
        "PReLU",
        "ReLU",
        "Rescaling",
        "Softmax",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "SyncBatchNormalization",
        "ThresholdedReLU",
        "TimeDistributed",
        "UnitNormalization",
    }
)
"""Layers whose outputs have their inputs' masks."""

_JOIN = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})

_FIRST = frozenset({"AdditiveAttention", "Attention"})


def _masks(layer: Layer, call: Call) -> None:
    name = call.class_name
    call.makes = _makes(layer)
    call.takes = layer.takes_masks
    call.uses = not call.operation and (call.recurrent is not None or name in _USERS)
    if call.operation:
        call.hands = nothing
    elif call.recurrent is not None and not isinstance(layer, TimeDistributed):
        call.hands = _recurrent_hands(call.recurrent)
    elif name in _JOIN:
        call.hands = lambda masked, count: [all(masked)] * count
    elif name == "Concatenate":
        call.hands = lambda masked, count: [any(masked)] * count
    elif name in _FIRST:
        call.hands = lambda masked, count: [masked[0], *[False] * (count - 1)]
    elif name in _HAND_ON or getattr(layer, "takes_mask", False):
        call.hands = first_on


def _makes(layer: Layer) -> bool:
    # TimeDistributed makes none of the layer that it holds, as in Keras.
    return layer.keras_class == "Masking" or (
        layer.keras_class == "Embedding" and bool(layer.config.get("mask_zero"))
    )


def _recurrent_hands(layer: Recurrent) -> Any:
    outputs = 2 if len(layer.parts) == 2 and layer.merge_mode is None else 1

    def hands(masked: Sequence[bool], count: int) -> Sequence[bool]:
        kept = bool(layer.return_sequences and masked and masked[0])
        return [kept and index < outputs for index in range(count)]

    return hands
