"""Rules about the axis of time: whether there is one, and which way it runs."""

from __future__ import annotations

from collections.abc import Iterator

from recurra.insight.linting.rules import Found, rule
from recurra.insight.linting.view import (
    ATTENTION,
    MERGES,
    STEPWISE,
    View,
    argument,
    inner,
    kind,
    rank,
    shape_text,
    size_at,
)
from recurra.insight.structure import Node


def single_output_maker(view: View, tensor: int) -> Node | None:
    """The recurrent call without return_sequences that a tensor without time comes from."""
    maker = view.makers.get(tensor)
    while maker is not None:
        if maker.recurrent is not None:
            return None if inner(maker.recurrent).return_sequences else maker
        if maker.class_name not in STEPWISE or not maker.inputs:
            return None
        maker = view.makers.get(maker.inputs[0])
    return None


def keep_sequence(node: Node) -> str:
    """How to build a recurrent layer so that it gives a sequence."""
    assert node.recurrent is not None
    layer = inner(node.recurrent)
    units = layer.cells[-1].units if layer.cells else None
    first = "" if units is None else f"{units}, "
    call = f"{layer.class_name}({first}return_sequences=True)"
    return f"{node.class_name}({call})" if node.recurrent.parts else call


@rule(
    "R101",
    "error",
    "a recurrent layer gets no time axis",
    "`return_sequences=True` in the recurrent layer before it",
)
def no_time_axis(view: View) -> Iterator[Found]:
    """A recurrent layer reads sequences, (batch, time_steps, features).

    One without `return_sequences=True` returns its last output only, (batch, units): there are no
    steps left for the next one.

        Sequential([LSTM(32), LSTM(16)])                           # the second one cannot run
        Sequential([LSTM(32, return_sequences=True), LSTM(16)])    # every step goes on
    """
    for node, _ in view.recurrent():
        if rank(view.input(node)) != 2:
            continue
        maker = single_output_maker(view, node.inputs[0])
        if maker is None:
            where = view.label(node.inputs[0])
            advice = (
                "Give it (B, T, F): a sequence of single values gets its features axis by "
                "x[..., None]."
            )
        else:
            where = f"{maker.path!r}, which returns its last step only"
            advice = f"Write {keep_sequence(maker)} for {maker.path!r}, so that every step goes on."
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} gets {shape_text(view.input(node))} from {where}.",
            "A recurrent layer reads (batch, time_steps, features); there are no steps to go over.",
            advice,
        )


@rule(
    "R102",
    "warning",
    "every sequence has a single step",
    "time on axis 1: (batch, time_steps, features)",
)
def single_step(view: View) -> Iterator[Found]:
    """With one time step and no state to start from, nothing recurs.

    The recurrent weights are multiplied by zeros, and the layer is a Dense layer with gates. Often
    the axes are mixed up: 60 past values of one series are 60 steps of 1 feature, not 1 step of 60.

        x.reshape(n, 1, 60)    # one step of 60 features
        x.reshape(n, 60, 1)    # 60 steps of one feature
    """
    for node, recurrent in view.recurrent():
        tensor = view.input(node)
        leaves = [layer for _, layer in recurrent.leaves(node.path)]
        streams = any(layer.stateful for layer in leaves) or bool(node.states)
        # A step model returns its states for the next step.
        streams = streams or any(view.is_used(t) for t in node.outputs[1:])
        if rank(tensor) != 3 or size_at(tensor, 1) != 1 or streams:
            continue
        features = size_at(tensor, 2)
        swap = (
            f" If the {features} features are steps of one series, that is (B, {features}, 1)."
            if features is not None and features > 1
            else ""
        )
        advice = f"Put time on axis 1: (batch, time_steps, features).{swap}"
        maker = view.makers.get(node.inputs[0])
        if maker is not None and maker.class_name in ("ExpandDims", "RepeatVector", "Reshape"):
            advice = (
                f"Let {maker.path!r} give as many steps as the output is to have, or take Dense "
                f"in the place of {node.path!r} for an output of one step."
            )
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} gets {shape_text(tensor)} from "
            f"{view.label(node.inputs[0])}: sequences of one step.",
            "It starts from zeros and stops after that step, so its recurrent weights have no "
            "effect at all.",
            advice,
        )


@rule(
    "R103",
    "warning",
    "attention over a recurrent layer's last output",
    "`return_sequences=True` in the recurrent layer",
)
def attention_without_time(view: View) -> Iterator[Found]:
    """Attention weighs steps against each other.

    Without `return_sequences=True` a recurrent layer gives it one vector per row, (batch, units);
    some attention layers take that without an error and then compare rows of the batch.

        x = LSTM(32)(x);                        MultiHeadAttention(2, 8)(x, x)    # no steps
        x = LSTM(32, return_sequences=True)(x); MultiHeadAttention(2, 8)(x, x)
    """
    for node in view.nodes:
        if node.class_name not in ATTENTION:
            continue
        for tensor in dict.fromkeys(
            (*node.inputs, *(t for group in node.others.values() for t in group))
        ):
            maker = single_output_maker(view, tensor)
            if maker is None or rank(view.tensors.get(tensor)) != 2:
                continue
            yield Found(
                node.path,
                f"{node.class_name} {node.path!r} gets {shape_text(view.tensors[tensor])} from "
                f"{kind(maker)} {maker.path!r}, which returns its last step only.",
                "Attention weighs the steps of a sequence; here there are none.",
                f"Write {keep_sequence(maker)} for {maker.path!r}.",
            )
            break


def orders(view: View) -> dict[int, tuple[bool, str]]:
    """Which way time runs in a tensor, as far as it is known.

    Returns:
        (whether the last step of the input comes first, path of the call that turned it) by tensor.
    """
    known: dict[int, tuple[bool, str]] = {tensor: (False, "") for tensor in view.structure.inputs}
    for node in view.nodes:
        given = known.get(node.inputs[0]) if node.inputs else None
        if given is None or not node.outputs:
            continue
        recurrent = node.recurrent
        if recurrent is not None and node.class_name != "TimeDistributed":
            layer = inner(recurrent)
            if not layer.return_sequences:
                continue
            count = 2 if recurrent.parts and recurrent.merge_mode is None else 1
            turned = (not given[0], node.path) if layer.go_backwards else given
            known |= {tensor: turned for tensor in node.outputs[:count]}
        elif node.class_name == "Flip" and argument(node, "axis") in (1, (1,), [1], -2):
            known[node.outputs[0]] = (not given[0], node.path)
        elif node.class_name in MERGES:
            ways = [known.get(t) for t in node.inputs if (rank(view.tensors.get(t)) or 0) >= 3]
            if None not in ways and len({way[0] for way in ways if way}) == 1:
                known[node.outputs[0]] = given
        elif node.class_name in STEPWISE:
            known[node.outputs[0]] = given
    return known


_TURN = (
    "flip it back with keras.ops.flip(y, axis=1), or let Bidirectional(...) do both: it lines the "
    "directions up"
)


@rule(
    "R104",
    "warning",
    "a reversed sequence is merged with one that is not",
    "`keras.ops.flip(y, axis=1)` first, or `Bidirectional`",
)
def reversed_meets_forward(view: View) -> Iterator[Found]:
    """`go_backwards=True` with `return_sequences=True` returns the steps in processing order.

    The last step of the input comes first. Added to or joined with a sequence in the input's order,
    step 0 of the one meets the last step of the other.

        back = LSTM(8, go_backwards=True, return_sequences=True)(x)
        Concatenate()([forward, back])                            # steps do not belong together
        Concatenate()([forward, keras.ops.flip(back, axis=1)])    # as Bidirectional does it
    """
    known = orders(view)
    for node in view.nodes:
        if node.class_name not in MERGES:
            continue
        ways = {t: known[t] for t in node.inputs if t in known and rank(view.tensors[t]) == 3}
        turned = [tensor for tensor, way in ways.items() if way[0]]
        straight = [tensor for tensor, way in ways.items() if not way[0]]
        if turned and straight:
            by = ways[turned[0]][1]
            yield Found(
                node.path,
                f"{node.class_name} {node.path!r} puts {view.label(turned[0])}, whose steps run "
                f"backwards since {by!r}, together with {view.label(straight[0])}, whose steps run "
                "forwards.",
                "Step t of the one is combined with step T-1-t of the other.",
                f"{_TURN[0].upper()}{_TURN[1:]}.",
            )


@rule(
    "R105",
    "hint",
    "the model's output runs backwards in time",
    "`keras.ops.flip(y, axis=1)`, or targets in the same order",
)
def reversed_output(view: View) -> Iterator[Found]:
    """The steps of a layer with `go_backwards=True` come out last step first.

    As the model's output, step 0 is the prediction for the last step of the input; targets in the
    input's order do not fit it.

        y = LSTM(8, go_backwards=True, return_sequences=True)(x)
        y = keras.ops.flip(y, axis=1)                       # in the input's order again
    """
    known = orders(view)
    for tensor in dict.fromkeys(view.structure.outputs):
        way = known.get(tensor)
        if way is not None and way[0] and rank(view.tensors[tensor]) == 3:
            yield Found(
                way[1],
                f"An output of the model, {view.label(tensor)}, runs backwards in time since "
                f"{way[1]!r}: its step 0 belongs to the last step of the input.",
                "Targets and predictions in the input's order do not line up with it.",
                f"If that is not meant, {_TURN}.",
            )


@rule(
    "R106",
    "warning",
    "the last step of a bidirectional sequence is taken",
    "`return_sequences=False`, which joins both directions' final outputs",
)
def last_of_bidirectional(view: View) -> Iterator[Found]:
    """`Bidirectional(LSTM(8, return_sequences=True))(x)[:, -1]` is half a summary.

    At the last step the forward layer has read the whole sequence, and the backward layer one step:
    it starts there. Without `return_sequences` the wrapper joins the forward layer's output at the
    last step with the backward layer's output at the first one, which both have read everything.

        Bidirectional(LSTM(8, return_sequences=True))(x)[:, -1]
        Bidirectional(LSTM(8))(x)
    """
    for node in view.nodes:
        if node.class_name != "GetItem" or not node.inputs:
            continue
        if not takes_last_step(argument(node, "key")):
            continue
        maker = view.makers.get(node.inputs[0])
        while maker is not None and maker.class_name in ("Dropout", "Identity"):
            maker = view.makers.get(maker.inputs[0]) if maker.inputs else None
        if maker is None or maker.recurrent is None or maker.class_name != "Bidirectional":
            continue
        if not inner(maker.recurrent).return_sequences or _is_taken_apart(view, node):
            continue
        if maker.recurrent.merge_mode is None and node.inputs[0] in _ways(view, maker.outputs[0]):
            continue  # the forward layer's own sequence
        layer = inner(maker.recurrent)
        units = layer.cells[-1].units if layer.cells else None
        yield Found(
            node.path,
            f"{node.path!r} takes the last step of the sequence of {kind(maker)} {maker.path!r}.",
            "There the backward layer has read that one step only: half of the vector knows next "
            "to nothing of the sequence.",
            f"Write {maker.class_name}({layer.class_name}({'...' if units is None else units})) "
            "without return_sequences: it joins the outputs at the ends that each direction "
            "reaches last.",
        )


def _is_taken_apart(view: View, node: Node) -> bool:
    """Whether only pieces of a call's result are used, such as one direction's units."""
    readers = view.readers.get(node.outputs[0], [])
    parts = {"GetItem", "Split", "Slice"}
    returned = node.outputs[0] in view.structure.outputs
    return bool(readers) and not returned and all(each.class_name in parts for each in readers)


def _ways(view: View, tensor: int) -> set[int]:
    """A tensor, and what layers that change nothing make of it."""
    found = {tensor}
    for node in view.nodes:
        if node.class_name in ("Dropout", "Identity") and found & set(node.inputs):
            found |= set(node.outputs)
    return found


@rule(
    "R107",
    "hint",
    "the first step of a recurrent layer's sequence is taken",
    "`y[:, -1]`, or `return_sequences=False`",
)
def first_of_sequence(view: View) -> Iterator[Found]:
    """`LSTM(8, return_sequences=True)(x)[:, 0]` comes from a single step.

    Step 0 is the one that the layer reads first, with `go_backwards=True` too: it knows nothing of
    the others.

        LSTM(8, return_sequences=True)(x)[:, 0]
        LSTM(8)(x)
    """
    for node in view.nodes:
        if node.class_name != "GetItem" or not node.inputs or len(node.outputs) != 1:
            continue
        if not takes_step(argument(node, "key"), 0):
            continue
        maker = view.makers.get(node.inputs[0])
        while maker is not None and maker.class_name in ("Dropout", "Identity"):
            maker = view.makers.get(maker.inputs[0]) if maker.inputs else None
        if maker is None or maker.recurrent is None or maker.recurrent.parts or maker.states:
            continue
        tensor = view.output(maker)
        if not maker.recurrent.return_sequences or maker.recurrent.stateful:
            continue
        if size_at(tensor, 1) == 1 or not maker.recurrent.cells:
            continue
        if view.readers[node.inputs[0]] != [node] or node.inputs[0] in view.structure.outputs:
            continue  # other steps are used too
        yield Found(
            node.path,
            f"{node.path!r} takes step 0 of the sequence of {kind(maker)} {maker.path!r}.",
            "That is the step that it reads first: what is taken knows nothing of the others.",
            f"For a summary of the sequence take [:, -1], or build {maker.path!r} without "
            "return_sequences.",
        )


def takes_last_step(key: object) -> bool:
    """Whether an index means `[:, -1]` or `[:, -1, :]`."""
    return takes_step(key, -1)


def takes_step(key: object, step: int) -> bool:
    """Whether an index means `[:, step]` or `[:, step, :]`."""
    text = "".join(str(key).split()).strip("[]()")
    full = "slice(None,None,None)"
    return text.replace(full, ":") in {f":,{step}{rest}" for rest in ("", ",:", ",...")}
