"""What a diagram shows: boxes, groups of them, and wires between them; sizes, but no places yet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from recurra.insight.diagram.text import cut, width_of
from recurra.insight.structure import Node, Recurrent, Structure, Tensor

Kind = Literal["input", "output", "recurrent", "layer", "operation", "unknown"]
Flow = Literal["data", "state", "mask", "order"]
"""What goes along a wire; "order" is not drawn and only says what stands below what."""

_LONGEST_NAME = 30
_LONGEST_LINE = 38
NAME_SIZE, LINE_SIZE, LABEL_SIZE = 13.0, 11.0, 11.0


@dataclass(eq=False)
class Box:
    """Something to draw as a box.

    kind: what it is, for its look.
    name, line: its two lines of text; line may be empty.
    mark, warns: what it does with masks, and whether that is to be warned of; "" for nothing.
    path: of the layer, "" for inputs and outputs.
    tip: what is shown where the pointer rests on it.
    """

    kind: Kind
    name: str
    line: str = ""
    mark: str = ""
    warns: bool = False
    path: str = ""
    tip: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        if self.kind in ("operation", "input", "output"):
            text = width_of(self.name, LINE_SIZE if self.kind == "operation" else NAME_SIZE)
            if self.line:
                text += width_of(f"  {self.line}", LINE_SIZE)
            return max(44.0, text + 24.0), 24.0
        marked = width_of(f" · {self.mark}", LINE_SIZE) if self.mark else 0.0
        lines = (
            width_of(self.name, NAME_SIZE, bold=True),
            width_of(self.line, LINE_SIZE) + marked,
        )
        return max(84.0, *lines) + 28.0, 44.0


@dataclass(eq=False)
class Group:
    """A nested model, or a layer of the user's, with what is in it."""

    name: str
    path: str
    items: list[Box | Group] = field(default_factory=list)

    def boxes(self) -> Iterator[Box]:
        """All boxes in it, at any depth."""
        for item in self.items:
            if isinstance(item, Box):
                yield item
            else:
                yield from item.boxes()


@dataclass(eq=False)
class Wire:
    """A tensor on its way from a box to one that uses it.

    tensor: its number in the structure.
    label: its shape.
    masked: whether a mask comes with it.
    tip: as in `Box`.
    """

    source: Box
    target: Box
    tensor: int
    flow: Flow = "data"
    label: str = ""
    masked: bool = False
    tip: str = ""


@dataclass(eq=False)
class Picture:
    """Everything that is drawn; the outermost group has no frame."""

    root: Group
    wires: list[Wire]
    title: str
    description: str


def picture_of(structure: Structure) -> Picture:
    """What the diagram of a model shows."""
    shapes = _shape_texts(structure)
    boxes = [_box_of(node) for node in structure.nodes]
    makers: dict[int, Box] = {
        tensor: box
        for node, box in zip(structure.nodes, boxes, strict=True)
        for tensor in node.outputs
    }
    inputs = []
    for number in structure.inputs:
        tensor = structure.tensors[number]
        box = makers[number] = Box("input", cut(tensor.name, _LONGEST_NAME), tip="input")
        inputs.append(box)
    wires = []
    for node, box in zip(structure.nodes, boxes, strict=True):
        for flow, argument, number in _given(node):
            source = makers.get(number)
            if source is None:  # it was made where nothing could be followed
                tensor = structure.tensors[number]
                source = makers[number] = Box("unknown", cut(tensor.name, _LONGEST_NAME))
                inputs.append(source)
            tensor = structure.tensors[number]
            wires.append(_wire(source, box, tensor, shapes[number], flow, argument))
    outputs = []
    for place, number in enumerate(structure.outputs):
        several = len(structure.outputs) > 1
        box = Box("output", f"output {place + 1}" if several else "output", tip="output")
        if number in makers:
            wires.append(_wire(makers[number], box, structure.tensors[number], shapes[number]))
        outputs.append(box)
    _name_states(wires, structure)
    wires += _below_each_other(structure, boxes)
    root = _grouped(structure, boxes)
    root.items = [*inputs, *root.items, *outputs]
    return Picture(root, wires, structure.name or structure.kind, _described(structure))


def _given(node: Node) -> Iterator[tuple[Flow, str, int]]:
    for number in node.inputs:
        yield "data", "", number
    for number in node.states:
        yield "state", "initial_state", number
    for name, group in node.others.items():
        for number in group:
            yield "mask" if name.endswith("mask") else "data", name, number


def _wire(
    source: Box, target: Box, tensor: Tensor, shape: str, flow: Flow = "data", argument: str = ""
) -> Wire:
    tip = f"{tensor.name} {shape} {tensor.dtype}"
    tip += f", as {argument}" if argument else ""
    tip += ", with a mask" if tensor.masked else ""
    return Wire(source, target, tensor.index, flow, shape, tensor.masked, tip)


def _name_states(wires: list[Wire], structure: Structure) -> None:
    """Write one label for all states that go from one layer to another."""
    bundles: dict[tuple[Box, Box, str], list[Wire]] = {}
    for wire in wires:
        if wire.flow == "state":
            bundles.setdefault((wire.source, wire.target, wire.label), []).append(wire)
    for (_, _, shape), bundle in bundles.items():
        names = [structure.tensors[wire.tensor].name.rpartition(":") for wire in bundle]
        told = [name for _, colon, name in names if colon and not name.isdecimal()]
        if len(bundle) > 2:
            told = [f"{len(bundle)} states"]
        bundle[0].label = f"{', '.join(told)} {shape}".strip()
        for wire in bundle[1:]:
            wire.label = ""


def _shape_texts(structure: Structure) -> dict[int, str]:
    """Shapes as `recurra.explain` writes them: "(B, T, 64)"."""
    from recurra.insight.explanation.letters import shapes_of

    return {
        tensor: f"({', '.join(str(size) for size in shape)})" if shape else "(?)"
        for tensor, shape in shapes_of(structure).items()
    }


def _below_each_other(structure: Structure, boxes: list[Box]) -> list[Wire]:
    """Order for the layers that nothing is known of but that they are there."""
    lonely = [
        box
        for node, box in zip(structure.nodes, boxes, strict=True)
        if not node.outputs and not [*_given(node)]
    ]
    return [Wire(first, second, -1, "order") for first, second in itertools.pairwise(lonely)]


# --- Boxes ---

_MARKS = {"makes": "makes mask", "loses": "loses mask", "uses": "uses mask"}


def _box_of(node: Node) -> Box:
    name = node.path.rpartition("/")[2]
    kind: Kind = "recurrent" if node.recurrent is not None else "layer"
    line = node.class_name if node.recurrent is None else _recurrent_line(node.recurrent)
    if node.recurrent is None:
        told = _told(node)
        line += f" · {told}" if told else ""
        if node.operation:
            kind, line = "operation", told if node.class_name == "GetItem" else ""
    mark = _MARKS.get(node.mask_role, "")
    ignored = node.recurrent is not None and node.mask_role in ("passes", "loses")
    if ignored:
        mark = "ignores mask"
    return Box(
        kind,
        cut(name, _LONGEST_NAME),
        cut(line, _LONGEST_LINE),
        "" if kind == "operation" else mark,
        node.mask_role == "loses" or ignored,
        node.path,
        _tip(node),
    )


def _recurrent_line(recurrent: Recurrent) -> str:
    """ "LSTM · 64 units", "Bidirectional(GRU) · 2 × 32 units"."""
    leaves = [leaf for _, leaf in recurrent.leaves("")]
    sizes = ["+".join(str(cell.units or "?") for cell in leaf.cells) for leaf in leaves]
    units = " + ".join(sizes)
    if len(recurrent.parts) == 2 and len(set(sizes)) == 1:
        units = f"2 × {sizes[0]}"
    line = kind_of(recurrent) + (f" · {units} units" if any(sizes) else "")
    if recurrent.merge_mode not in (None, "concat"):
        line += f", {recurrent.merge_mode}"
    if recurrent.go_backwards and not recurrent.parts:
        line += ", backwards"
    return line + (", stateful" if recurrent.stateful else "")


def kind_of(recurrent: Recurrent) -> str:
    """The class, with what it holds: "Bidirectional(LSTM)", "RNN(LSTMCell, GRUCell)"."""
    if recurrent.parts:
        return f"{recurrent.class_name}({kind_of(recurrent.parts[0][1])})"
    names = [cell.class_name for cell in recurrent.cells]
    if names == [f"{recurrent.class_name}Cell"] or not names:
        return recurrent.class_name
    return f"{recurrent.class_name}({', '.join(names)})"


def _told(node: Node) -> str:
    config = node.config
    if node.class_name == "TimeDistributed":
        return str(config.get("layer", ""))
    if node.class_name == "Embedding":
        return f"{config.get('input_dim', '?')} × {config.get('output_dim', '?')}"
    if node.class_name == "GetItem":
        return str(config.get("key", ""))
    found = [
        str(config[name])
        for name in ("units", "filters", "rate", "target_shape", "activation")
        if name in config
    ]
    return ", ".join(found)


def _tip(node: Node) -> str:
    parts = [f"{node.path}: {node.class_name}"]
    if node.parameters:
        parts.append(f"{node.parameters:,} parameters")
    if node.recurrent is not None and node.recurrent.engine:
        parts.append(f"engine {node.recurrent.engine}")
    if node.mask_role in _MARKS:
        parts.append(_MARKS[node.mask_role])
    return ", ".join(parts)


# --- Groups ---


@dataclass
class _Open:
    """A group that calls are put into now.

    first: the layer that was called first in it.
    made: the tensors that were made in it.
    """

    name: str
    first: str
    group: Group
    made: set[int] = field(default_factory=set)


def _grouped(structure: Structure, boxes: list[Box]) -> Group:
    """The boxes in groups of what is called within one call of a nested model or layer.

    The calls inside of one call follow each other. A second call begins where the first of its
    layers comes again, on what was not made in the group.
    """
    root = Group("", "")
    stack: list[_Open] = []
    for node, box in zip(structure.nodes, boxes, strict=True):
        *names, _ = node.path.split("/")
        layer, _, number = node.path.rpartition(":")
        layer = layer if number.isdecimal() else node.path
        given = {tensor for _, _, tensor in _given(node)}
        depth = 0
        for name, at in zip(names, stack, strict=False):
            if at.name != name or (at.first == layer and not at.made & given):
                break
            depth += 1
        del stack[depth:]
        for level in range(depth, len(names)):
            group = Group(names[level], "/".join(names[: level + 1]))
            (stack[-1].group if stack else root).items.append(group)
            stack.append(_Open(names[level], layer, group))
        (stack[-1].group if stack else root).items.append(box)
        for at in stack:
            at.made.update(node.outputs)
    return root


def _described(structure: Structure) -> str:
    recurrent = structure.recurrent()
    said = [
        f"{structure.kind} {structure.name!r}",
        f"{len(structure.nodes)} calls of layers",
    ]
    if recurrent:
        said.append("recurrent: " + ", ".join(node.path for node in recurrent[:12]))
    return "; ".join(said) + ("; ..." if len(recurrent) > 12 else "")
