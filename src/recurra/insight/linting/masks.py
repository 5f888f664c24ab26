"""Rules about masks: where they get lost, and who then reads padding as if it were data."""

from __future__ import annotations

from collections.abc import Iterator

from recurra.insight.linting.rules import Found, rule
from recurra.insight.linting.view import (
    MERGES,
    STEPWISE,
    View,
    argument,
    inner,
    kind,
    rank,
    reached,
    shape_text,
    size_at,
)
from recurra.insight.structure import Node

# Layers and operations that make one of all steps.
_MIXES_STEPS = frozenset({"Flatten", "GlobalMaxPooling1D"})
_REDUCES = frozenset({"Max", "Mean", "Min", "Sum", "Std", "Var"})


def loser(view: View, tensor: int) -> Node | None:
    """The call on the way to a tensor where its steps lost their mask; None if none did."""
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        current = waiting.pop()
        maker = view.makers.get(current)
        if current in seen or maker is None or (rank(view.tensors.get(current)) or 3) < 3:
            continue
        seen.add(current)
        masked = [t for t in maker.inputs if t in view.tensors and view.tensors[t].masked]
        if maker.mask_role == "loses" and masked and maker.recurrent is None:
            return maker
        if maker.recurrent is None and maker.class_name not in ("RepeatVector", *_MIXES_STEPS):
            waiting += maker.inputs
    return None


def mask_source(view: View, node: Node) -> Node | None:
    """The call that made the mask of a call's input."""
    seen: set[int] = set()
    waiting = list(node.inputs)
    while waiting:
        tensor = waiting.pop(0)
        maker = view.makers.get(tensor)
        if tensor in seen or maker is None or not view.tensors[tensor].masked:
            continue
        seen.add(tensor)
        if maker.mask_role == "makes":
            return maker
        waiting += maker.inputs
    return None


def layer_name(node: Node) -> str:
    """A layer's own name, as a program may call it."""
    return node.path.split("/")[-1].partition(":")[0]


def pass_by_hand(view: View, lost: Node, reader: Node) -> str:
    """How to give a layer the mask that got lost on the way."""
    source = mask_source(view, lost)
    made = "mask=(B, T), True where a step is real"
    if source is not None:
        made = f"mask = {layer_name(source)}.compute_mask(x)"
    before, after = view.input(lost), view.output(lost)
    steps = size_at(before, 1), size_at(after, 1)
    if rank(after) == 3 and steps[0] == steps[1]:
        return f"Give it the mask by hand: {made}, then {layer_name(reader)}(y, mask=mask)."
    return (
        f"Put {reader.path!r} before {lost.path!r}, or give it a mask of its own length: "
        "mask=(B, T), True where a step is real."
    )


@rule(
    "R201",
    "warning",
    "a mask is lost before a recurrent layer",
    "a layer that hands masks on, or `mask=` by hand",
)
def lost_before_recurrent(view: View) -> Iterator[Found]:
    """Masks travel from layer to layer, as long as each of them supports masks.

    Convolutions, Reshape, Permute, Lambda and plain operations (`x * 2`, `x + y`) do not: whatever
    follows reads padded steps as real ones, and its last output is what the padding made of it.

        x = embedding(tokens);            x = Conv1D(8, 3, padding="same")(x);  x = LSTM(32)(x)
        mask = embedding.compute_mask(tokens); ...;                    LSTM(32)(x, mask=mask)
    """
    for node, _ in view.recurrent():
        tensor = view.tensors.get(node.inputs[0])
        if tensor is None or tensor.masked or "mask" in node.others:
            continue
        lost = loser(view, node.inputs[0])
        if lost is None:
            continue
        source = mask_source(view, lost)
        of = f" that {source.path!r} makes" if source else ""
        yield Found(
            node.path,
            f"The mask{of} is lost in {lost.class_name} {lost.path!r}, which does not hand masks "
            f"on, before {kind(node)} {node.path!r}.",
            f"{node.path!r} reads padded steps as if they were data, so padding changes what it "
            "returns.",
            pass_by_hand(view, lost, node),
        )


def _started_without_mask(view: View) -> Iterator[tuple[Node, bool]]:
    """Recurrent calls with initial states and no mask, and whether every padded step matters."""
    for node, recurrent in view.recurrent():
        tensor = view.tensors.get(node.inputs[0])
        if not node.states or tensor is None or not tensor.masked or "mask" in node.others:
            continue
        leaves = [layer for _, layer in recurrent.leaves(node.path)]
        forwards = not any(layer.go_backwards for layer in leaves)
        states_used = any(view.is_used(output) for output in node.outputs[1:])
        yield node, not (forwards and inner(recurrent).return_sequences and not states_used)


@rule(
    "R202",
    "warning",
    "a call with initial_state goes without the mask",
    "`layer(x, initial_state=states, mask=mask)`",
)
def initial_state_without_mask(view: View) -> Iterator[Found]:
    """Keras hands a mask on by itself only to calls with a single tensor argument.

    A recurrent call with `initial_state=` has several, so the mask of its input never arrives,
    without a word; padded steps are read like all others.

        LSTM(32)(x, initial_state=[h, c])                                  # x's mask is not used
        mask = embedding.compute_mask(tokens)
        LSTM(32)(x, initial_state=[h, c], mask=mask)
    """
    for node, matters in _started_without_mask(view):
        if matters:
            yield Found(node.path, *_unmasked(view, node, "padding changes what it returns"))


@rule(
    "R203",
    "hint",
    "a decoder with initial_state goes without the mask",
    "`layer(x, initial_state=states, mask=mask)`, or padding at the end",
)
def decoder_without_mask(view: View) -> Iterator[Found]:
    """The same as R202 where only the outputs of every step are used, as in a decoder.

    Padding at the end then comes after everything that counts, and changes nothing. Padding in
    front, which is what `keras.utils.pad_sequences` does by default, changes every output.

        pad_sequences(sequences, padding="post")                           # or
        decoder(y, initial_state=states, mask=embedding.compute_mask(tokens))
    """
    if view.padded_at_end:
        return
    for node, matters in _started_without_mask(view):
        if not matters:
            problem, _, advice = _unmasked(view, node, "")
            advice = advice.partition(": ")[2]
            yield Found(
                node.path,
                problem,
                "Padding at the end does no harm here; padding in front changes every output.",
                f'Pad at the end (padding="post"), or give it the mask by hand: {advice}',
            )


def _unmasked(view: View, node: Node, effect: str) -> tuple[str, str, str]:
    source = mask_source(view, node)
    mask = "mask=mask" if source is None else f"mask={layer_name(source)}.compute_mask(...)"
    return (
        f"{kind(node)} {node.path!r} is called with initial_state, and so without the mask of "
        f"{view.label(node.inputs[0])}: Keras hands masks on only to calls with a single tensor.",
        f"It reads padded steps as if they were data, so {effect}.",
        f"Give it the mask by hand: layer(x, initial_state=states, {mask}).",
    )


@rule(
    "R204",
    "warning",
    "padded steps are flattened or pooled with the others",
    "`GlobalAveragePooling1D`, which heeds masks, or the last output",
)
def mixed_with_padding(view: View) -> Iterator[Found]:
    """Flatten, GlobalMaxPooling1D, `ops.mean(y, axis=1)` and the like do not heed masks.

    They mix what stands at padded steps (zeros, or repeats of the last real step) into their
    result, so that it depends on how far a sequence was padded.

        GlobalMaxPooling1D()(LSTM(32, return_sequences=True)(x))
        GlobalAveragePooling1D()(LSTM(32, return_sequences=True)(x))    # heeds the mask
        LSTM(32)(x)                                                     # its last real step
    """
    for node in view.nodes:
        tensor = view.input(node)
        if tensor is None or not tensor.masked or node.mask_role != "loses":
            continue
        reduces = node.class_name in _REDUCES and argument(node, "axis") in (1, (1,), [1], -2)
        if (node.class_name not in _MIXES_STEPS and not reduces) or rank(tensor) != 3:
            continue
        verb = "flattens" if node.class_name == "Flatten" else "reduces"
        yield Found(
            node.path,
            f"{node.class_name} {node.path!r} {verb} {shape_text(tensor)} with a mask, from "
            f"{view.label(node.inputs[0])}, and does not heed the mask.",
            "What stands at padded steps goes into the result, which so depends on the padding.",
            "Use GlobalAveragePooling1D, which heeds masks, or a recurrent layer without "
            "return_sequences, which returns the last real step.",
        )


@rule(
    "R205",
    "hint",
    "predictions for every step have lost their mask",
    "`sample_weight` of (batch, time_steps), 0 at padded steps",
)
def output_without_mask(view: View) -> Iterator[Found]:
    """Keras leaves padded steps out of loss and metrics by the mask of the model's output.

    Where that mask got lost on the way, padded steps count like all others: easy zeros that make
    the loss look better than it is.

        model.fit(x, y, sample_weight=(tokens != 0).astype("float32"))
    """
    if not view.trains or not view.structure.recurrent():
        return
    for tensor in dict.fromkeys(view.structure.outputs):
        output = view.tensors[tensor]
        lost = None if output.masked or rank(output) != 3 else loser(view, tensor)
        if lost is None:
            continue
        yield Found(
            lost.path,
            f"An output of the model, {view.label(tensor)} {shape_text(output)}, has no mask: it "
            f"was lost in {lost.class_name} {lost.path!r}.",
            "Loss and metrics count padded steps like real ones.",
            "Give fit and evaluate sample_weight of shape (batch, time_steps), 0 at padded steps, "
            f"or put a layer that hands masks on in the place of {lost.path!r}.",
        )


# Layers of Keras's that take the time axis away without heeding masks, by the user's will.
_MEANT = (
    STEPWISE
    | MERGES
    | frozenset({"Dot", "GlobalAveragePooling1D", "Lambda", "Permute", "Reshape", *_MIXES_STEPS})
)


@rule(
    "R209",
    "hint",
    "a layer of one's own sums up steps without their mask",
    "`supports_masking = True`, and `mask` as an argument of its `call`",
)
def summed_up_without_mask(view: View) -> Iterator[Found]:
    """Attention pooling and the like, written as a layer, weighs padded steps like all others.

    Keras gives a layer the mask if its `call` has an argument of that name.

        class Pooling(keras.Layer):
            supports_masking = True

            def call(self, y, mask=None): ...    # scores of masked steps: -1e9
            def compute_mask(self, y, mask=None): return None
    """
    for node in view.nodes:
        tensor = view.input(node)
        if tensor is None or not tensor.masked or node.mask_role != "loses" or node.operation:
            continue
        if node.recurrent is not None or "mask" in node.others or node.class_name in _MEANT:
            continue
        if rank(tensor) != 3 or rank(view.output(node)) != 2:
            continue
        yield Found(
            node.path,
            f"{node.class_name} {node.path!r} makes {shape_text(view.output(node))} of "
            f"{shape_text(tensor)} with a mask, from {view.label(node.inputs[0])}, and does not "
            "take the mask.",
            "Unless it picks single steps, what stands at padded steps goes into the result.",
            "Give its call an argument mask, set supports_masking = True, and leave padded steps "
            "out.",
        )


@rule(
    "R210",
    "warning",
    "keras.layers.TimeDistributed around a layer that makes a mask",
    "`Embedding(..., mask_zero=True)` or `Masking()` without it",
)
def mask_not_made(view: View) -> Iterator[Found]:
    """Keras's TimeDistributed calls its layer for every item, and asks it for no mask.

    Embedding and Masking read any number of axes, and need no wrapper: a document of sentences of
    words, (batch, sentences, words), gets a mask of the same shape. Recurra's TimeDistributed does
    hand the mask on, but is saved as Keras's; so what loads the file makes none.

        y = keras.layers.TimeDistributed(Embedding(words, 16, mask_zero=True))(x)    # no mask
        y = Embedding(words, 16, mask_zero=True)(x)
        y = recurra.layers.TimeDistributed(LSTM(32))(y)
    """
    for node in view.nodes:
        if node.class_name != "TimeDistributed" or node.mask_role == "makes":
            continue
        inside = argument(node, "layer")
        if inside != "Masking" and not (inside == "Embedding" and argument(node, "mask_zero")):
            continue
        reader = next(reached(view, node.outputs[0], STEPWISE | MERGES), None)
        given = None if reader is None else view.input(reader)
        if reader is None or given is None or given.masked or "mask" in reader.others:
            continue
        yield Found(
            node.path,
            f"TimeDistributed {node.path!r} holds {inside}, and hands on no mask of it to "
            f"{kind(reader)} {reader.path!r}.",
            f"{reader.path!r} reads padding as if it were data.",
            f"Use {inside} without TimeDistributed: it reads inputs with more axes too, and masks "
            "every item. Around recurrent layers use recurra.layers.TimeDistributed.",
        )
