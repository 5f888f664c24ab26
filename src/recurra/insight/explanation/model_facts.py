"""What there is to tell about a model: the data's way, its masks and its states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recurra.insight.explanation.flow import Flow, reads
from recurra.insight.explanation.layer_facts import LayerFacts, layer_facts
from recurra.insight.explanation.masks import mask_sentences
from recurra.insight.explanation.results import is_cell, wraps
from recurra.insight.explanation.sizes import SymbolicShape, shape_text, symbolic
from recurra.insight.explanation.state_flow import origins, state_sentences
from recurra.insight.structure import Node, Structure


@dataclass(frozen=True)
class Made:
    """A tensor that a step of the way makes.

    name: "output", "state_h"; users: paths of the calls that read it.
    leaves: whether it is an output of the model.
    """

    name: str
    shape: SymbolicShape
    masked: bool
    users: tuple[str, ...]
    leaves: bool
    meaning: str = ""


@dataclass(frozen=True)
class Step:
    """An input of the model, or a call of one of its layers.

    path: of the first, where it stands for several layers (`count` of them).
    title: "LSTM, 64 units"; "input".
    reads: names of what it takes: "encoder", or "encoder: state_h" of several results.
    follows: whether it reads the step before it, and nothing else.
    note: what it does with the mask, or where its states come from.
    """

    path: str
    title: str
    recurrent: bool
    reads: tuple[str, ...]
    follows: bool
    made: tuple[Made, ...]
    note: str = ""
    count: int = 1


@dataclass(frozen=True)
class ModelFacts:
    """A model, as it is explained."""

    name: str
    kind: str
    source: str
    inputs: tuple[tuple[str, SymbolicShape, str], ...]
    outputs: tuple[tuple[str, SymbolicShape, str], ...]
    steps: tuple[Step, ...]
    masks: tuple[str, ...]
    states: tuple[str, ...]
    layers: tuple[LayerFacts, ...]
    parameters: int
    gaps: tuple[str, ...]
    structure: Structure

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "inputs": [_tensor(*tensor) for tensor in self.inputs],
            "outputs": [_tensor(*tensor) for tensor in self.outputs],
            "way": [
                {
                    "path": step.path,
                    "title": step.title,
                    "recurrent": step.recurrent,
                    "reads": list(step.reads),
                    "note": step.note,
                    "makes": [
                        {
                            "name": made.name,
                            "shape": list(made.shape),
                            "masked": made.masked,
                            "users": list(made.users),
                            "is_output": made.leaves,
                            "meaning": made.meaning,
                        }
                        for made in step.made
                    ],
                }
                for step in self.steps
            ],
            "masks": list(self.masks),
            "states": list(self.states),
            "layers": [layer.to_dict() for layer in self.layers],
            "parameters": self.parameters,
            "gaps": list(self.gaps),
            "structure": self.structure.to_dict(),
        }


def _tensor(name: str, shape: SymbolicShape, dtype: str) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "dtype": dtype}


def model_facts(structure: Structure) -> ModelFacts:
    """What there is to tell about a model."""
    flow = Flow(structure)
    layers = {node.path: node_facts(flow, node) for node in structure.recurrent()}
    named, shapes = flow.tensors, flow.shapes
    return ModelFacts(
        name=structure.name,
        kind=structure.kind,
        source=structure.source,
        inputs=tuple((named[i].name, shapes[i], named[i].dtype) for i in structure.inputs),
        outputs=tuple((named[i].name, shapes[i], named[i].dtype) for i in structure.outputs),
        steps=tuple(_steps(flow, layers)),
        masks=tuple(mask_sentences(flow)),
        states=tuple(state_sentences(flow, layers)),
        layers=tuple(layers.values()),
        parameters=sum(node.parameters for node in structure.nodes),
        gaps=structure.gaps,
        structure=structure,
    )


def node_facts(flow: Flow, node: Node) -> LayerFacts:
    """What there is to tell about the layer of one call."""
    assert node.recurrent is not None
    shapes = flow.shapes
    given = shapes[node.inputs[0]] if node.inputs else ()
    items = wraps(node.recurrent) == "items"
    if is_cell(node.recurrent):
        features = node.recurrent.cells[0].features
        return layer_facts(node.recurrent, node.path, (given[0] if given else "B", features or "F"))
    if not given or (items and len(given) == 3):
        given = symbolic((None,) * (4 if items else 3), "BNTF" if items else "BTF")
        known = [part.cells[0].features for _, part in node.recurrent.leaves("") if part.cells]
        if known and known[0] is not None:
            given = (*given[:-1], known[0])
    return layer_facts(
        node.recurrent,
        node.path,
        given,
        output=shapes[node.outputs[0]] if node.outputs else (),
        masked=node.mask_role == "uses" or (None if flow.structure.kind == "Layer" else False),
        starts=origins(flow, node),
        parameters=node.parameters or None,
    )


# --- The way ---


def _steps(flow: Flow, layers: Mapping[str, LayerFacts]) -> list[Step]:
    inputs = flow.structure.inputs
    told: set[int] = set()
    steps: list[Step] = []
    before: tuple[int, ...] = ()

    def tell_inputs(indices: tuple[int, ...]) -> None:
        nonlocal before
        for index in indices:
            if index in inputs and index not in told:
                told.add(index)
                tensor = flow.tensors[index]
                made = _made(flow, index, "", "")
                kind = "" if tensor.dtype.startswith("float") else f", {tensor.dtype}"
                steps.append(Step(tensor.name, f"input{kind}", False, (), False, (made,)))
                before = (index,)

    for node in flow.nodes:
        others = tuple(i for group in node.others.values() for i in group)
        tell_inputs(reads(node))
        facts = layers.get(node.path)
        meanings = () if facts is None else facts.results.results
        several = len(node.outputs) > 1
        made = tuple(
            _made(
                flow,
                index,
                _output_name(node, i, several),
                meanings[i].brief if i < len(meanings) and meanings[i].kind != "trace" else "",
            )
            for i, index in enumerate(node.outputs)
        )
        steps.append(
            Step(
                node.path,
                _title(node, facts),
                facts is not None,
                tuple(_source(flow, i) for i in (*node.inputs, *others)),
                node.inputs == before[:1] and not others and bool(node.inputs),
                made,
                _note(flow, node),
            )
        )
        before = node.outputs
    tell_inputs(inputs)
    return steps


def _made(flow: Flow, index: int, name: str, meaning: str) -> Made:
    users = tuple(dict.fromkeys(node.path for node in flow.users(index)))
    leaves = index in flow.structure.outputs
    return Made(name, flow.shapes[index], flow.is_masked(index), users, leaves, meaning)


def _output_name(node: Node, place: int, several: bool) -> str:
    if not several:
        return ""
    names = node.output_names
    return names[place] if place < len(names) else f"result {place}"


def _source(flow: Flow, index: int) -> str:
    """What a tensor is called where it is read: "encoder", or "encoder: state_h"."""
    maker = flow.maker(index)
    if maker is None:
        return flow.tensors[index].name
    if len(maker.outputs) == 1:
        return maker.path
    place = maker.outputs.index(index)
    name = _output_name(maker, place, True)
    return maker.path if name == "output" else f"{maker.path}: {name}"


def _title(node: Node, facts: LayerFacts | None) -> str:
    if facts is None:
        return node.class_name
    stacks = [", ".join(str(cell.units) for cell in leaf.cells) for leaf in facts.unlike()]
    units = " and ".join(dict.fromkeys(stacks))
    if facts.leaf.layer.class_name.startswith("ConvLSTM"):
        return f"{facts.title}, {units} filters"
    return f"{facts.title}, {units} units" if units else facts.title


def _note(flow: Flow, node: Node) -> str:
    notes = []
    match node.mask_role:
        case "makes":
            notes.append("makes a mask")
        case "loses":
            notes.append("loses the mask")
        case "uses" if node.recurrent is None:
            notes.append("uses the mask")
    if node.states:
        makers = dict.fromkeys(_source(flow, index).partition(":")[0] for index in node.states)
        notes.append(f"initial_state ← {', '.join(makers)}")
    if node.recurrent is not None and node.recurrent.go_backwards:
        notes.append("go_backwards: reads the last step first")
    return "; ".join(notes)


def shown(shape: SymbolicShape) -> str:
    """A shape, or that it is not known."""
    return shape_text(shape) if shape else "(shape not known)"
