"""From calls of layers, as any kind of model has them, to a `Structure`.

A reader (of Keras models, of loaded ones) lists `Call`s whose tensors are `Value`s; `assemble` then
follows the masks, leaves out the operations that only Keras's own mask keeping needs, and numbers
tensors and repeated calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recurra.cells import CELLS
from recurra.insight.structure.model import MaskRole, Node, Recurrent, Shape, Structure, Tensor

Hands = Callable[[Sequence[bool], int], Sequence[bool]]
"""Which of a call's outputs carry a mask, from which of its inputs do, and how many outputs."""


@dataclass(eq=False)
class Value:
    """A tensor, known by its identity."""

    name: str
    shape: Shape | None
    dtype: str = "float32"


def nothing(masked: Sequence[bool], count: int) -> Sequence[bool]:
    """The outputs of a layer that does not support masks."""
    return [False] * count


def first_on(masked: Sequence[bool], count: int) -> Sequence[bool]:
    """The outputs of a layer that hands the masks of its inputs on, one by one."""
    return [*masked[:count], *[False] * (count - len(masked))]


@dataclass(eq=False)
class Call:
    """One call of a layer or operation; fields that a `Node` has too mean the same.

    layer: what is the same for all calls of one layer.
    operation: whether it is a function of `keras.ops`, not a layer.
    makes: whether the layer makes a mask of its own.
    uses: whether it treats masked steps differently.
    hands: see `Hands`.
    takes: whether it takes the masks away from its inputs, for all calls after it.
    shown: False for what is no call at all, but tells what a layer does with masks whose inside is
        listed call by call.
    """

    layer: Hashable
    path: str
    class_name: str
    inputs: list[Value]
    outputs: list[Value]
    states: list[Value] = field(default_factory=list)
    others: dict[str, list[Value]] = field(default_factory=dict)
    parameters: int = 0
    recurrent: Recurrent | None = None
    config: dict[str, Any] = field(default_factory=dict)
    operation: bool = False
    makes: bool = False
    uses: bool = False
    hands: Hands = nothing
    takes: bool = False
    shown: bool = True
    mask_role: MaskRole = "none"

    def given(self) -> Iterable[Value]:
        """All tensors that the call gets."""
        yield from (*self.inputs, *self.states, *(v for each in self.others.values() for v in each))


def assemble(
    name: str,
    kind: str,
    calls: Sequence[Call],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    *,
    source: str = "",
    gaps: Sequence[str] = (),
) -> Structure:
    """The structure that calls make up, in the order in which they are given.

    Calls get their numbered paths in place: "lstm:2".
    """
    masks = _follow_masks(calls)
    needless = _needless(calls, masks, outputs)
    kept = [call for call in calls if call not in needless and call.shown]
    numbers: dict[Value, int] = {}
    used = {value for call in kept for value in (*call.given(), *call.outputs)}
    for value in (*inputs, *(v for call in kept for v in call.outputs), *outputs):
        numbers.setdefault(value, len(numbers))
    for value in used:
        numbers.setdefault(value, len(numbers))
    nodes: list[Node] = []
    seen: dict[str, int] = {}
    counted: set[Hashable] = set()
    names: dict[Value, str] = {}
    alone: dict[str, str] = {}
    for call in kept:
        seen[call.path] = times = seen.get(call.path, 0) + 1
        call.path = path = call.path if times == 1 else f"{call.path}:{times}"
        labels = output_names(call.recurrent, len(call.outputs))
        own = ("output", *CELL_STATES.get(call.class_name, ()))
        if call.recurrent is None and call.class_name in CELL_STATES:
            labels = own if len(own) == len(labels) else labels
            alone.setdefault(call.path.partition(":")[0], call.class_name)
        for value, label in zip(call.outputs, labels, strict=True):
            names.setdefault(value, path if value is call.outputs[0] else f"{path}:{label}")
        nodes.append(
            Node(
                path=path,
                class_name=call.class_name,
                inputs=tuple(numbers[v] for v in call.inputs),
                outputs=tuple(numbers[v] for v in call.outputs),
                states=tuple(numbers[v] for v in call.states),
                others={n: tuple(numbers[v] for v in group) for n, group in call.others.items()},
                output_names=labels,
                parameters=0 if call.layer in counted else call.parameters,
                recurrent=_with_features(call),
                mask_role=call.mask_role,
                config=call.config,
                operation=call.operation,
            )
        )
        counted.add(call.layer)
    tensors = [
        Tensor(
            number, names.get(value, value.name), value.shape, value.dtype, bool(masks.get(value))
        )
        for value, number in numbers.items()
    ]
    return Structure(
        name=name,
        kind=kind,
        tensors=tuple(sorted(tensors, key=lambda tensor: tensor.index)),
        nodes=tuple(nodes),
        inputs=tuple(numbers[v] for v in inputs),
        outputs=tuple(numbers[v] for v in outputs),
        source=source,
        gaps=(*gaps, *(_of_cell(path, class_name) for path, class_name in alone.items())),
    )


CELL_STATES = {f"{spec.layer}Cell": spec.state_outputs for spec in CELLS.values()}
"""What cells return behind their output, by their class."""


def _of_cell(path: str, class_name: str) -> str:
    return (
        f"The cell {path!r} ({class_name}) is called step by step by the model's own code, not by "
        "a layer: how its states go on is not told, and recurra.trace does not show it. A layer "
        f"RNN({class_name}(...)) would be shown."
    )


def output_names(recurrent: Recurrent | None, count: int) -> tuple[str, ...]:
    """What a call's outputs are called.

    Args:
        recurrent: of the layer; None for one that is not recurrent.
        count: how many outputs there are.

    Example:
        >>> output_names(lstm_that_returns_its_states, 3)
        ('output', 'state_h', 'state_c')
    """
    names = [] if recurrent is None else _result_names(recurrent)
    if len(names) != count:
        names = ["output", *(f"output_{n}" for n in range(1, count))][:count]
    return tuple(names)


def _result_names(recurrent: Recurrent) -> list[str]:
    if recurrent.class_name == "TimeDistributed" and recurrent.parts:
        return _result_names(recurrent.parts[0][1])
    if len(recurrent.parts) == 2:
        both = [_result_names(part) for _, part in recurrent.parts]
        first = ["output"] if recurrent.merge_mode is not None else ["forward_output"]
        first += [] if recurrent.merge_mode is not None else ["backward_output"]
        rest = [
            f"{side}_{name}"
            for side, names in zip(("forward", "backward"), both, strict=True)
            for name in names[1:]
        ]
        return first + rest
    names = ["output"]
    if recurrent.return_state or recurrent.return_trace:
        for index, cell in enumerate(recurrent.cells):
            known = cell.spec.state_outputs if cell.spec is not None else ()
            if cell.class_name.startswith("ConvLSTM"):
                known = CELLS["lstm"].state_outputs
            own = known or tuple(f"state_{n}" for n in range(len(cell.state_sizes)))
            several = len(recurrent.cells) > 1
            names += [f"cell_{index}/{each}" if several else each for each in own]
    spec = recurrent.cells[0].spec if recurrent.cells else None
    if recurrent.return_trace and spec is not None:
        names += sorted(spec.trace_names)  # Keras flattens a dict in the order of its keys
    return names


def _with_features(call: Call) -> Recurrent | None:
    """What is recurrent about a call, with its features where only the call's input tells them."""
    found = call.recurrent
    if found is None or not found.cells or found.cells[0].features is not None:
        return found
    shape = call.inputs[0].shape if call.inputs else None
    if shape is None or len(shape) != 3 or not isinstance(shape[-1], int):
        return found
    first = dataclasses.replace(found.cells[0], features=shape[-1])
    return dataclasses.replace(found, cells=(first, *found.cells[1:]))


# --- Masks ---

Masks = Mapping[Value, frozenset[Value]]
"""For every tensor that has a mask, what that mask was computed from."""


def _follow_masks(calls: Sequence[Call]) -> dict[Value, frozenset[Value]]:
    """Which tensors are made with a mask; the calls' roles are set in place."""
    made: dict[Value, frozenset[Value]] = {}
    present: dict[Value, frozenset[Value]] = {}
    roots = _roots(calls)
    for call in calls:
        found, source = _handed_on(call, present, roots)
        fresh = {value: source for value in found if value not in present}
        made |= fresh
        present |= fresh
        call.mask_role = _role(call, present)
        if call.takes:
            for value in call.given():
                present.pop(value, None)
    return made


def _handed_on(
    call: Call, masks: Masks, roots: Mapping[Value, frozenset[Value]]
) -> tuple[list[Value], frozenset[Value]]:
    """Which outputs have a mask, and what it is computed from."""
    if call.makes:
        return call.outputs[:1], frozenset(call.inputs[:1])
    given = [each in masks for each in call.inputs]
    source: frozenset[Value] = frozenset().union(*(masks.get(v, ()) for v in call.inputs))
    explicit = call.others.get("mask")
    if explicit and not call.operation:
        # One mask is for the first input; a list has one for each of them.
        given = [index < len(explicit) for index in range(len(call.inputs))]
        source = frozenset().union(*(roots[v] for v in explicit))
    if not any(given):
        return [], source
    made = call.hands(given, len(call.outputs))
    return [v for v, has in zip(call.outputs, made, strict=False) if has], source


class _Roots(dict[Value, frozenset[Value]]):
    def __missing__(self, value: Value) -> frozenset[Value]:
        return frozenset((value,))


def _roots(calls: Sequence[Call]) -> _Roots:
    """For the results of operations, which tensors they were computed from by operations alone."""
    roots = _Roots()
    for call in calls:
        if call.operation and call.inputs:
            found = frozenset().union(*(roots[v] for v in call.given()))
            if call.class_name in ("OnesLike", "ZerosLike"):
                found = frozenset()  # only the shape comes from there
            roots |= dict.fromkeys(call.outputs, found)
    return roots


def _needless(calls: Sequence[Call], masks: Masks, outputs: Sequence[Value]) -> set[Call]:
    """The operations that compute masks which Keras hands on by itself.

    Keras writes such masks into a functional model as if its user had given them. Each `mask`
    argument that is just what goes with the input anyway is taken out of its call, and then all
    operations whose results nobody uses any more.
    """
    roots = _roots(calls)
    operations = {value: call for call in calls if call.operation for value in call.outputs}
    for call in calls:
        explicit = call.others.get("mask", [])
        if not explicit or call.states or not all(v in operations for v in explicit):
            continue
        source = frozenset().union(*(masks.get(v, frozenset()) for v in call.inputs))
        if source and frozenset().union(*(roots[v] for v in explicit)) <= source:
            del call.others["mask"]
    needless: set[Call] = set()
    used = {value for call in calls if not call.operation for value in call.given()} | {*outputs}
    for call in reversed(calls):
        if not call.operation:
            continue
        computed_by_hand = used.intersection(call.outputs)
        if not computed_by_hand and _is_of_masks(call):
            needless.add(call)
        else:
            used.update(call.given())
    return needless


def _is_of_masks(call: Call) -> bool:
    """Whether an operation may be one of Keras's own mask keeping: its results are booleans."""
    return all(value.dtype == "bool" for value in call.outputs) or call.class_name in _MASK_HELPERS


_MASK_HELPERS = frozenset(
    {"BroadcastTo", "Cast", "Concatenate", "ExpandDims", "Flip", "OnesLike", "Reshape", "ZerosLike"}
)


def _role(call: Call, masks: Masks) -> MaskRole:
    if call.makes:
        return "makes"
    explicit = bool(call.others.get("mask"))
    if not explicit and not any(value in masks for value in call.given()):
        return "none"
    # Keras hands a mask to a call with one tensor only: with states the call must name it.
    if call.uses and (explicit or not call.states):
        return "uses"
    return "passes" if any(value in masks for value in call.outputs) else "loses"
