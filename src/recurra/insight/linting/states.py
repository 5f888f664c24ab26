"""Rules about states: handed on in the wrong order, dropped, or kept where that makes no sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recurra.insight.linting.rules import Found, rule
from recurra.insight.linting.view import MERGES, View, inner, kind, output_name
from recurra.insight.structure import Node, Recurrent


@dataclass(frozen=True)
class Origin:
    """Where a state comes from.

    node: the recurrent call that returned it.
    name: of its output: "forward_state_h".
    """

    node: Node
    name: str

    @property
    def state(self) -> str:
        """Which of the cell's states: "state_h", which a layer's last output is too."""
        if self.name == "output":
            return "state_h"
        return self.name.removeprefix("forward_").removeprefix("backward_")

    @property
    def direction(self) -> str:
        """ "forward" or "backward" of a Bidirectional layer, else ""."""
        head = self.name.partition("_")[0]
        return head if head in ("forward", "backward") else ""

    @property
    def text(self) -> str:
        """For a sentence."""
        return f"{self.name} of {self.node.path!r}"


def origins(view: View, tensor: int) -> list[Origin] | None:
    """The states that a tensor consists of; None unless it consists of states alone."""
    maker = view.makers.get(tensor)
    if maker is None:
        return None
    if maker.recurrent is not None:
        origin = Origin(maker, output_name(maker, tensor))
        if origin.name == "output" and not _is_hidden_state(maker.recurrent):
            return None
        return [origin] if origin.state in ("state_h", "state_c") else None
    if maker.class_name in ("Identity", "Dropout") or maker.class_name in MERGES:
        found = [origins(view, each) for each in maker.inputs]
        if not found or None in found:
            return None
        return [origin for each in found for origin in each or ()]
    return None


def _is_hidden_state(layer: Recurrent) -> bool:
    """Whether a layer's first result is its final hidden state."""
    return (
        not layer.parts
        and not layer.return_sequences
        and len(layer.cells) == 1
        and layer.cells[0].spec is not None
    )


@dataclass(frozen=True)
class Slot:
    """A place in a call's initial_state: what belongs there, and what was given."""

    state: str
    direction: str
    given: list[Origin]

    @property
    def name(self) -> str:
        """ "forward_state_h"."""
        return f"{self.direction}_{self.state}".lstrip("_")

    @property
    def states(self) -> set[str]:
        """Which states were given: {"state_h"}."""
        return {origin.state for origin in self.given}

    @property
    def directions(self) -> set[str]:
        """Which directions' states were given."""
        return {origin.direction for origin in self.given}

    @property
    def text(self) -> str:
        """What was given, for a sentence."""
        return " with ".join(dict.fromkeys(origin.text for origin in self.given))


def slots(view: View, node: Node) -> list[Slot]:
    """What a call's initial_state consists of; [] where that is not wholly known."""
    layers: list[tuple[str, Recurrent]] = []
    if node.recurrent is not None and not node.recurrent.parts:
        layers = [("", node.recurrent)]
    elif node.class_name == "Bidirectional" and node.recurrent is not None:
        layers = [(name.removesuffix("_layer"), part) for name, part in node.recurrent.parts]
    wanted: list[tuple[str, str]] = []
    for direction, layer in layers:
        for cell in layer.cells:
            if cell.spec is None:
                return []
            wanted += [(state, direction) for state in cell.spec.state_outputs]
    if len(wanted) != len(node.states):
        return []
    given = [origins(view, tensor) for tensor in node.states]
    if any(each is None for each in given):
        return []
    return [
        Slot(state, direction, each or [])
        for (state, direction), each in zip(wanted, given, strict=True)
    ]


def _is_swapped(found: Sequence[Slot]) -> bool:
    """Whether the two states of an LSTM come in the other order."""
    return len(found) == 2 and [slot.states for slot in found] == [{"state_c"}, {"state_h"}]


def _names(found: Sequence[Slot]) -> str:
    return f"[{', '.join(slot.name for slot in found)}]"


def _wrong(found: Sequence[Slot]) -> list[Slot]:
    """The places that got the other state of a cell that has both."""
    return [
        slot
        for slot in found
        if any(
            origin.state != slot.state
            and (origin.state == "state_c" or _has_cell_state(origin.node))
            for origin in slot.given
        )
    ]


def _has_cell_state(node: Node) -> bool:
    return any(name.endswith("state_c") for name in node.output_names)


def _crossed(slot: Slot) -> bool:
    return bool(slot.direction) and slot.directions in (
        {"forward"} if slot.direction == "backward" else {"backward"},
    )


_FORGETS = (
    "The cell state takes the place of the hidden state: shapes fit, so nothing fails, but the "
    "layer starts from numbers that mean something else."
)


@rule(
    "R301",
    "warning",
    "an LSTM's two states come in the wrong order",
    "`initial_state=[state_h, state_c]`",
)
def swapped(view: View) -> Iterator[Found]:
    """An LSTM returns `output, state_h, state_c` and starts from `[state_h, state_c]`.

    Both have the same shape, so swapped ones go unnoticed. The model still learns something, with
    an encoder whose memory arrives in the wrong place.

        output, h, c = encoder(x)
        decoder(y, initial_state=[c, h])    # the cell state as the hidden state
        decoder(y, initial_state=[h, c])
    """
    for node, _ in view.recurrent():
        found = slots(view, node)
        halves = [found] if len(found) == 2 else [found[:2], found[2:]] if len(found) == 4 else []
        if not any(_is_swapped(half) for half in halves):
            continue
        if len(halves) == 2 and any({"forward", "backward"} & s.directions for s in found):
            continue  # a Bidirectional layer's states: see R302
        if len({frozenset(slot.directions) for slot in found}) > 1:
            continue  # of different directions too: R302
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} starts from {', '.join(slot.text for slot in found)}; its "
            f"initial_state is {_names(found)}.",
            _FORGETS,
            f"Write initial_state={_names(found)}, in this order.",
        )


@rule(
    "R302",
    "warning",
    "a Bidirectional layer's states come in the wrong order",
    "`[forward_state_h, forward_state_c, backward_state_h, backward_state_c]`",
)
def bidirectional_order(view: View) -> Iterator[Found]:
    """Bidirectional returns the forward layer's states first, then the backward layer's.

    For LSTM: `output, forward_state_h, forward_state_c, backward_state_h, backward_state_c`. A
    plain decoder has one hidden and one cell state: join each kind of both directions, and give the
    decoder as many units as both have together.

        h = Concatenate()([forward_h, backward_h])
        c = Concatenate()([forward_c, backward_c])
        LSTM(2 * units)(y, initial_state=[h, c])
    """
    for node, _ in view.recurrent():
        found = slots(view, node)
        from_both = any({"forward", "backward"} & slot.directions for slot in found)
        if not found or not from_both:
            continue
        plain = not found[0].direction
        crossed = any(map(_crossed, found))
        # A plain layer's two states are of one direction, or each of both.
        crossed |= plain and len({frozenset(slot.directions) for slot in found}) > 1
        if not _wrong(found) and not crossed:
            continue
        if plain and not crossed and _is_swapped(found):
            continue  # R301
        right = _names(found)
        advice = f"Write initial_state={right}, in this order."
        if plain and len(found) == 2:
            advice = (
                "Join each kind of both directions: state_h = Concatenate()([forward_state_h, "
                "backward_state_h]), state_c likewise; initial_state=[state_h, state_c], and a "
                "decoder with as many units as both directions together."
            )
        elif plain:
            advice = (
                "Give it hidden states only: Concatenate()([forward_state_h, backward_state_h])"
            )
            advice += ", and as many units as both directions together."
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} starts from {', '.join(slot.text for slot in found)}; its "
            f"initial_state is {right}.",
            "Shapes fit, so nothing fails, but states arrive in places that mean something else.",
            advice,
        )


@rule(
    "R303",
    "warning",
    "a state is handed on as one of another kind",
    "hidden states for hidden states, cell states for cell states",
)
def wrong_kind(view: View) -> Iterator[Found]:
    """A hidden state lies between -1 and 1; a cell state is what an LSTM has added up inside.

    `[h, h]` throws the encoder's memory away, and a cell state as a GRU's state is a number that
    the GRU would never have come to itself.

        decoder(y, initial_state=[h, h])    # the cell state got lost
        decoder(y, initial_state=[h, c])
    """
    for node, _ in view.recurrent():
        found = slots(view, node)
        wrong = _wrong(found)
        if not wrong or any({"forward", "backward"} & slot.directions for slot in found):
            continue
        if _is_swapped(found) or (
            len(found) == 4 and any(map(_is_swapped, (found[:2], found[2:])))
        ):
            continue
        slot = wrong[0]
        source = slot.given[0].node
        if _has_cell_state(source) and slot.state == "state_c":
            advice = f"Give it state_c of {source.path!r} there: initial_state={_names(found)}."
        else:
            advice = f"Give it hidden states: state_h of {source.path!r}."
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} gets {slot.text} as its {slot.name}; its initial_state is "
            f"{_names(found)}.",
            "Shapes fit, so nothing fails, but hidden and cell state mean different things: one is "
            "what the cell tells, the other what it remembers.",
            advice,
        )


@rule(
    "R304",
    "hint",
    "states are returned and not used",
    "leave `return_state=True` out, or hand the states on",
)
def unused_states(view: View) -> Iterator[Found]:
    """A layer with `return_state=True` whose states go nowhere.

    Harmless, if the states are not wanted. In an encoder it often means that the decoder does not
    start from them: then it knows nothing of the input. Calls that start from given states are left
    alone, since decoders return states for a later use, and so are parts of nested models.

        output, h, c = encoder(x);    decoder(y)                           # starts from zeros
        output, h, c = encoder(x);    decoder(y, initial_state=[h, c])
    """
    for node, recurrent in view.recurrent():
        states = [
            tensor for tensor in node.outputs if "state" in output_name(node, tensor).split("_")
        ]
        if not inner(recurrent).return_state or node.states or not states or not node.outputs:
            continue
        # A part of a layer or model of its own may return them for other uses than this one.
        if any(view.is_used(tensor) for tensor in states) or {":", "/"} & set(node.path):
            continue
        names = ", ".join(output_name(node, tensor) for tensor in states)
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} returns its states ({names}), and nothing uses them.",
            "That is harmless if they are not wanted; if another layer was to start from them, it "
            "starts from zeros instead.",
            "Leave return_state=True out, or give the other layer initial_state=[...].",
        )


@rule(
    "R308",
    "hint",
    "of an LSTM's results only the cell state is used",
    "`output, state_h, state_c = LSTM(32, return_state=True)(x)`, and `output`",
)
def cell_state_alone(view: View) -> Iterator[Found]:
    """What an LSTM tells others is its hidden state; the cell state is what it keeps for itself.

    `return_state=True` makes three results of one: the output first, the cell state last.

        *_, y = LSTM(32, return_state=True)(x);    Dense(1)(y)    # the cell state
        y = LSTM(32)(x);                           Dense(1)(y)
    """
    for node, recurrent in view.recurrent():
        if recurrent.parts or node.states or len(recurrent.cells) > 1:
            continue
        used = [output_name(node, t) for t in node.outputs if view.is_used(t)]
        if used != ["state_c"] or any(
            node_reads.recurrent is not None
            for t in node.outputs
            for node_reads in view.readers.get(t, [])
        ):
            continue
        yield Found(
            node.path,
            f"Of what {kind(node)} {node.path!r} returns ({', '.join(node.output_names)}), only "
            "state_c is used.",
            "The cell state has no bounds, and lacks the output gate; a layer's answer is its "
            "output, which equals state_h.",
            "Use the first result, or leave return_state=True out.",
        )


@rule(
    "R309",
    "hint",
    "a layer's output is joined with its state_h",
    "`Concatenate()([output, state_c])`, or the output alone",
)
def output_and_hidden_state(view: View) -> Iterator[Found]:
    """Without `return_sequences` the output is the final hidden state: the same numbers twice.

    output, h, c = LSTM(32, return_state=True)(x)
    Concatenate()([output, h])    # 64 values, 32 of them twice
    output
    """
    for node in view.nodes:
        if node.class_name not in MERGES:
            continue
        makers = [(view.makers.get(t), t) for t in node.inputs]
        names: dict[str, set[str]] = {}
        for maker, tensor in makers:
            if maker is not None and maker.recurrent and _is_hidden_state(maker.recurrent):
                names.setdefault(maker.path, set()).add(output_name(maker, tensor))
        for path, those in names.items():
            if {"output", "state_h"} <= those:
                yield Found(
                    node.path,
                    f"{node.class_name} {node.path!r} gets both output and state_h of {path!r}.",
                    "Without return_sequences they are the same numbers.",
                    "Leave one of them out.",
                )
