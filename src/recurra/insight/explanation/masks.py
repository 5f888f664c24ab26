"""Where a model's masks start, who uses them, and where they end."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.insight.explanation.order import chained
from recurra.insight.structure import Node, Structure


def mask_sentences(structure: Structure) -> list[str]:
    """One sentence per station of the masks, in the order of the calls; empty without masks."""
    tensors = {tensor.index: tensor for tensor in structure.tensors}
    sentences = []
    passing: list[str] = []

    def tell_passing() -> None:
        if passing:
            sentences.append(f"{names(passing)} {'hands' if len(passing) == 1 else 'hand'} it on.")
            passing.clear()

    for node in chained(structure):
        if node.mask_role == "passes" and node.recurrent is None:
            passing.append(node.path)
            continue
        tell_passing()
        if node.mask_role == "makes":
            sentences.append(_makes(node))
        elif node.mask_role == "loses":
            sentences.append(_loses(structure, node))
        elif node.mask_role in ("uses", "passes"):
            goes_on = any(tensors[index].masked for index in node.outputs)
            sentences.append(_uses(node, goes_on))
    tell_passing()
    ends = [_maker(structure, index) for index in structure.outputs if tensors[index].masked]
    if ends:
        output = "outputs" if len(ends) > 1 else "output"
        sentences.append(
            f"The {output} of {names(ends)} still {'have' if len(ends) > 1 else 'has'} it: "
            "losses and metrics in `fit` leave padded steps out."
        )
    return sentences


def _makes(node: Node) -> str:
    if node.class_name == "Embedding":
        return f"`{node.path}` makes it: steps whose index is 0 are padding (mask_zero=True)."
    if node.class_name == "Masking":
        value = node.config.get("mask_value", 0.0)
        return f"`{node.path}` makes it: steps whose features all equal {value:g} are padding."
    return f"`{node.path}` ({node.class_name}) makes it."


def _uses(node: Node, goes_on: bool) -> str:
    given = " that it is given as `mask=`" if "mask" in node.others else ""
    if node.recurrent is None:
        after = "and hands it on" if goes_on else "and it ends there"
        return f"`{node.path}` ({node.class_name}) uses it{given}, {after}."
    if goes_on:
        return f"`{node.path}` uses it{given}: padded steps change no state; it hands it on."
    return (
        f"`{node.path}` uses it{given}: padded steps change no state; it ends there, for one "
        "result per sequence has no steps."
    )


def _loses(structure: Structure, node: Node) -> str:
    after = _recurrent_after(structure, node)
    what = (
        f", so {names(after)} {'take' if len(after) > 1 else 'takes'} padded steps for real ones"
        if after
        else ""
    )
    return f"`{node.path}` ({node.class_name}) loses it{what}."


def _recurrent_after(structure: Structure, node: Node) -> list[str]:
    """Recurrent layers that read what a call gives, with only other calls in between."""
    found: list[str] = []
    waiting, seen = list(node.outputs), set(node.outputs)
    while waiting:
        for user in structure.users(waiting.pop(0)):
            if user.recurrent is not None:
                found.append(user.path)
                continue
            new = [index for index in user.outputs if index not in seen]
            seen.update(new)
            waiting += new
    return list(dict.fromkeys(found))


def _maker(structure: Structure, index: int) -> str:
    maker = structure.maker(index)
    if maker is not None:
        return maker.path
    return next(tensor.name for tensor in structure.tensors if tensor.index == index)


def names(paths: Sequence[str]) -> str:
    quoted = [f"`{path}`" for path in dict.fromkeys(paths)]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
