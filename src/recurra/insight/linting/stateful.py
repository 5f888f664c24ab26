"""Rules about stateful layers: states that are kept where that makes no sense."""

from __future__ import annotations

import re
from collections.abc import Iterator

from recurra.insight.linting.rules import Found, rule
from recurra.insight.linting.view import View, kind
from recurra.insight.structure import Node, Recurrent


def _stateful(view: View) -> Iterator[tuple[Node, list[Recurrent]]]:
    for node in view.nodes:
        if node.recurrent is not None:
            leaves = [leaf for _, leaf in node.recurrent.leaves(node.path) if leaf.stateful]
            if leaves:
                yield node, leaves


@rule(
    "R305",
    "hint",
    "stateful layers need batches that continue each other",
    "`fit(..., shuffle=False)`, and `reset_states` between sequences",
)
def stateful(view: View) -> Iterator[Found]:
    """With `stateful=True`, row i of a batch goes on where row i of the batch before ended.

    That is right only if the data is laid out like that. `fit` shuffles by default, and states are
    kept until they are reset, from one epoch to the next and from training into evaluation.

        for epoch in range(epochs):
            model.fit(x, y, batch_size=B, shuffle=False)
            recurra.models.reset_states(model)
    """
    names = [repr(node.path) for node, _ in _stateful(view) if ":" not in node.path]
    if names and view.trains:
        yield Found(
            "",
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} stateful: every row goes on "
            "from the state in which the same row of the batch before ended.",
            "By default fit shuffles the rows, which mixes the states of different sequences, and "
            "states stay until they are reset.",
            "Train with fit(..., shuffle=False), rows in the order of time, and call "
            "recurra.models.reset_states(model) where new sequences begin.",
        )


@rule(
    "R306",
    "warning",
    "a stateful layer reads backwards in time",
    "`stateful=True` in forward layers only",
)
def stateful_backwards(view: View) -> Iterator[Found]:
    """A layer that goes backwards ends at the first step of its batch.

    Kept for the next batch, which comes later in time, that state is put behind a step that it does
    not border on. In Bidirectional it concerns the backward half.

        Bidirectional(LSTM(8, stateful=True))    # the backward layer's states fit no next batch
        LSTM(8, stateful=True)
    """
    for node, leaves in _stateful(view):
        if not any(leaf.go_backwards for leaf in leaves):
            continue
        which = "its backward layer" if node.recurrent and node.recurrent.parts else "it"
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} is stateful, and {which} goes backwards in time.",
            "It ends at a batch's first step and would go on at the next batch's last one: two "
            "steps that do not border on each other.",
            "Leave stateful=True out here, or give the batches in reversed order of time.",
        )


@rule(
    "R307",
    "warning",
    "a stateful layer is used in two places",
    "a layer for each place, or `initial_state` by hand",
)
def stateful_shared(view: View) -> Iterator[Found]:
    """A stateful layer keeps one set of states, whoever calls it.

    Used twice in one model, the second call goes on where the first one ended, and the first one of
    the next batch where the second one did.

        memory = LSTM(8, stateful=True);    memory(a), memory(b)
        LSTM(8, stateful=True)(a), LSTM(8, stateful=True)(b)
    """
    for node, _ in _stateful(view):
        if re.search(r":\d+(/|$)", node.path):
            first = re.sub(r":\d+(?=/|$)", "", node.path)
            yield Found(
                node.path,
                f"{kind(node)} {first!r} is stateful and is called in more than one place of the "
                "model.",
                "It keeps one set of states: the second call goes on where the first one ended.",
                "Use a layer of its own in each place, or leave stateful=True out and hand states "
                "on with initial_state.",
            )
