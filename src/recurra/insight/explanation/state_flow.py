"""Which layer's states start which layer."""

from __future__ import annotations

from collections.abc import Mapping

from recurra.insight.explanation.flow import Flow
from recurra.insight.explanation.layer_facts import LayerFacts
from recurra.insight.explanation.masks import names
from recurra.insight.structure import Node


def origins(flow: Flow, node: Node) -> str:
    """Where a call's states come from, if it is given any; "" if not."""
    if not node.states:
        return ""
    return f"{', '.join(_places(flow, node))}, given as `initial_state`"


def state_sentences(flow: Flow, layers: Mapping[str, LayerFacts]) -> list[str]:
    """Where each recurrent layer's states come from, and which final ones nobody reads."""
    zeros: list[str] = []
    kept: list[str] = []
    given: list[str] = []
    unused: dict[str, list[str]] = {}
    for node in flow.structure.recurrent():
        facts = layers[node.path]
        if node.states:
            given.append(_given(flow, node, facts))
        elif _is_stateful(facts):
            kept.append(node.path)
        else:
            zeros.append(node.path)
        for place, index in enumerate(node.outputs[1:], 1):
            if flow.users(index) or index in flow.structure.outputs:
                continue
            name = node.output_names[place] if place < len(node.output_names) else ""
            if "state" in name:
                unused.setdefault(node.path, []).append(name)
    sentences = given
    if kept:
        keep = "keeps" if len(kept) == 1 else "keep"
        sentences.append(
            f"{names(kept)} {keep} states from call to call (stateful=True), row by row, until "
            "`reset_state()`."
        )
    if zeros:
        start = "starts" if len(zeros) == 1 else "start"
        sentences.append(f"{names(zeros)} {start} from zeros at every call.")
    if unused:
        states = "; ".join(f"{', '.join(found)} of `{path}`" for path, found in unused.items())
        sentences.append(f"Returned, but unused: {states}.")
    return sentences


def _given(flow: Flow, node: Node, facts: LayerFacts) -> str:
    own = [state.name for state in facts.results.states]
    places = _places(flow, node)
    if len(own) != len(places):
        return f"`{node.path}` starts from {', '.join(places)}."
    pairs = ", ".join(f"{name} ← {place}" for name, place in zip(own, places, strict=True))
    return f"`{node.path}` starts from given states: {pairs}."


def _places(flow: Flow, node: Node) -> list[str]:
    found = []
    for index in node.states:
        maker = flow.maker(index)
        if maker is None:
            name = flow.tensors[index].name
            found.append(f"`{name}` (an input)")
            continue
        place = maker.outputs.index(index)
        name = maker.output_names[place] if place < len(maker.output_names) else ""
        found.append(f"`{maker.path}.{name}`" if name and maker.outputs[1:] else f"`{maker.path}`")
    return found


def _is_stateful(facts: LayerFacts) -> bool:
    return facts.layer.stateful or any(_is_stateful(part) for part in facts.parts)
