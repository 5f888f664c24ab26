"""Where a model's masks start, who uses them, and where they end."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.insight.explanation.flow import Flow, reads
from recurra.insight.structure import Node

_WORDS = {
    "passes": ("hands it on.", "hand it on."),
    "loses": ("loses it.", "lose it."),
    "has again": (
        "has it again: the layer around hands it on.",
        "have it again: the layers around hand it on.",
    ),
    "uses": (
        "uses it: padded steps change nothing. It ends there.",
        "use it: padded steps change nothing. It ends there.",
    ),
    "uses and passes": (
        "uses it, and hands it on: padded steps change no state.",
        "use it, and hand it on: padded steps change no state.",
    ),
    "misses": (
        "does not get it: it is called on states too, and Keras hands masks on to calls with one "
        "tensor only. It takes padded steps for real ones.",
        "do not get it: they are called on states too, and Keras hands masks on to calls with one "
        "tensor only. They take padded steps for real ones.",
    ),
}
_WORDS["weighs"] = (
    "uses it: padded steps get no weight. It ends there.",
    "use it: padded steps get no weight. It ends there.",
)
_WORDS["weighs and passes"] = (
    "uses it, and hands it on: padded steps get no weight.",
    "use it, and hand it on: padded steps get no weight.",
)
_WORDS["takes"] = (
    "is given it, and does with it what its own code says. It ends there.",
    "are given it, and do with it what their own code says. It ends there.",
)
_WORDS["takes and passes"] = (
    "is given it, and hands it on.",
    "are given it, and hand it on.",
)
_WORDS["misses and passes"] = (
    f"{_WORDS['misses'][0]} Its output has the mask all the same.",
    f"{_WORDS['misses'][1]} Their outputs have the mask all the same.",
)
_WORDS["is not given"] = (
    "does not get it: it takes padded steps for real ones.",
    "do not get it: they take padded steps for real ones.",
)
_WORDS["is not given and passes"] = _WORDS["is not given"]
"""What calls do with a mask: said of one, and of several."""


def mask_sentences(flow: Flow) -> list[str]:
    """One sentence per station of the masks, in the order of the data; empty without masks."""
    sentences = []
    for verb, nodes in _stations(flow):
        first = nodes[0]
        sentences += [_given(flow, node) for node in nodes if node.others.get("mask")]
        if verb == "makes":
            sentences.append(_makes(first))
        elif verb == "spoils":
            sentences.append(_spoils(flow, first))
        else:
            one, many = _WORDS[verb]
            sentences.append(
                f"{names([node.path for node in nodes])} {one if len(nodes) == 1 else many}"
            )
    ends = [flow.place(index) for index in flow.structure.outputs if flow.is_masked(index)]
    if ends:
        several = len(set(ends)) > 1
        sentences.append(
            f"The output{'s' * several} of {names(ends)} still {'have' if several else 'has'} it: "
            "losses and metrics in `fit` leave padded steps out."
        )
    return sentences


def _stations(flow: Flow) -> list[tuple[str, list[Node]]]:
    """What happens to masks, and at which calls; neighbours that do the same are together."""
    found: list[tuple[str, list[Node]]] = []
    for node in flow.nodes:
        verb: str = node.mask_role
        goes_on = flow.is_masked(*node.outputs)
        if goes_on and node.inputs and not flow.is_masked(*reads(node)):
            verb = "makes" if verb == "makes" else "has again"
        if verb == "none":
            continue
        if verb == "uses":
            verb = _use(node) + (" and passes" * goes_on)
        elif node.recurrent is not None and verb in ("passes", "loses"):
            verb = ("misses" if node.states else "is not given") + (" and passes" * goes_on)
        elif verb == "loses" and _recurrent_after(flow, node):
            verb = "spoils"
        if found and found[-1][0] == verb and verb in _WORDS:
            found[-1][1].append(node)
        else:
            found.append((verb, [node]))
    return found


_WEIGH = frozenset(
    {
        *("AdditiveAttention", "Attention", "GroupQueryAttention", "GroupedQueryAttention"),
        *("MultiHeadAttention", "Average", "GlobalAveragePooling1D", "Maximum", "Minimum"),
        *("BatchNormalization", "Softmax"),
    }
)
"""Layers without states that leave padded steps out of what they sum up."""


def _use(node: Node) -> str:
    if node.recurrent is not None:
        return "uses"
    return "weighs" if node.class_name in _WEIGH else "takes"


def _makes(node: Node) -> str:
    if node.class_name == "Embedding":
        return f"`{node.path}` makes it: steps whose index is 0 are padding (mask_zero=True)."
    if node.class_name == "Masking":
        value = node.config.get("mask_value", 0.0)
        shown = f"{value:g}" if isinstance(value, int | float) else value
        return f"`{node.path}` makes it: steps whose features all equal {shown} are padding."
    return f"`{node.path}` ({node.class_name}) makes it."


def _given(flow: Flow, node: Node) -> str:
    makers = [flow.place(index) for index in node.others["mask"]]
    return f"{names(makers)} makes the one that `{node.path}` is given as `mask=`."


def _spoils(flow: Flow, node: Node) -> str:
    after = _recurrent_after(flow, node)
    take = "take" if len(after) > 1 else "takes"
    return (
        f"`{node.path}` ({node.class_name}) loses it, so {names(after)} {take} padded steps for "
        "real ones."
    )


def _recurrent_after(flow: Flow, node: Node) -> list[str]:
    """Recurrent layers that read what a call gives, with only other calls in between.

    The way ends where a mask comes with the data again.
    """
    found: list[str] = []
    waiting, seen = list(node.outputs), set(node.outputs)
    while waiting:
        index = waiting.pop(0)
        if flow.is_masked(index):
            continue
        for user in flow.users(index):
            if user.recurrent is not None:
                found += [user.path] if index in user.inputs else []
                continue
            new = [index for index in user.outputs if index not in seen]
            seen.update(new)
            waiting += new
    return list(dict.fromkeys(found))


def names(paths: Sequence[str]) -> str:
    quoted = [f"`{path}`" for path in dict.fromkeys(paths)]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
