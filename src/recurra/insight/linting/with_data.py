"""Rules that look at a model together with the data that it is given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recurra.insight.linting.data import (
    Array,
    Data,
    Padding,
    equal_steps,
    padding_of,
    reads_tokens,
    runs,
)
from recurra.insight.linting.masks import loser
from recurra.insight.linting.rules import Found, rule
from recurra.insight.linting.view import (
    MERGES,
    NEIGHBOURS,
    STEPWISE,
    View,
    argument,
    kind,
    reached,
    shape_text,
)
from recurra.insight.structure import Node

# Layers behind which values are as large as before.
_SAME_SIZE = frozenset({"Dropout", "GaussianNoise", "Identity", "Masking", "SpatialDropout1D"})

_LARGE = 10.0


def _series(view: View, data: Data) -> Iterator[tuple[int, Array]]:
    """The inputs that are sequences, as the model reads them."""
    for tensor, array in data.x.items():
        tokens = any(reads_tokens(node) for node in view.readers.get(tensor, []))
        if array.ndim == 3 or (array.ndim == 2 and tokens):
            yield tensor, array


def _shown(padding: Padding) -> str:
    where = "end in" if padding.at_end else "begin with"
    value = f"{padding.value:g}"
    return f"{padding.rows} of {len(padding.lengths)} rows {where} steps of nothing but {value}"


@rule(
    "R206",
    "warning",
    "padded sequences without a mask",
    "`Masking()`, or `Embedding(..., mask_zero=True)`",
    needs="x",
)
def padded_without_mask(view: View, data: Data) -> Iterator[Found]:
    """Rows were padded to one length, and the recurrent layer is not told which steps are real.

    It then reads the padding like everything else: its last output is what it makes of a row of
    zeros, and more so the shorter the sequence was.

        Sequential([Input((None, 3)), Masking(), LSTM(32)])
        Sequential([Embedding(words, 16, mask_zero=True), LSTM(32)])
    """
    for tensor, array in _series(view, data):
        padding = padding_of(array)
        if padding is None:
            continue
        straight = [*reached(view, tensor, STEPWISE | MERGES)]
        for node in straight or reached(view, tensor, STEPWISE | MERGES | NEIGHBOURS):
            given = view.input(node)
            if given is None or given.masked or "mask" in node.others:
                continue
            if not straight:
                if loser(view, node.inputs[0]) is not None:
                    continue  # R201
                advice = (
                    "Convolutions and pooling hand no masks on: give the layer mask= for the steps "
                    f"that it gets, {shape_text(given)}, True where one is real; or leave "
                    "convolutions behind it."
                )
            elif array.ndim == 2:
                advice = "Write Embedding(..., mask_zero=True), and keep 0 for padding."
            else:
                advice = (
                    f"Put Masking(mask_value={padding.value:g}) in front, or give the layer "
                    "mask=(batch, time_steps), True where a step is real."
                )
            yield Found(
                node.path,
                f"{_shown(padding)} in {view.label(tensor)}, and {kind(node)} {node.path!r} gets "
                "no mask.",
                "It reads the padding as if it were data, so what it returns depends on how far a "
                "sequence was padded.",
                advice,
            )
            break


def _maskers(view: View, data: Data) -> Iterator[tuple[Node, int, Array, float]]:
    """Calls that make a mask from an input: (call, input, array, the value they leave out)."""
    for tensor, array in _series(view, data):
        for node in view.readers.get(tensor, []):
            if node.class_name == "Masking" and array.ndim == 3:
                yield node, tensor, array, float(argument(node, "mask_value") or 0.0)
            elif reads_tokens(node) and argument(node, "mask_zero") and array.ndim == 2:
                yield node, tensor, array, 0.0


@rule(
    "R207",
    "warning",
    "Masking looks for another value than the padding",
    "`Masking(mask_value=...)` with the value that was padded with",
    needs="x",
)
def other_padding_value(view: View, data: Data) -> Iterator[Found]:
    """Masking leaves out the steps whose features all equal its `mask_value`, 0.0 by default.

    If the sequences were padded with another number, no step is left out.

        x = pad_sequences(rows, value=-1.0, dtype="float32")
        Masking()(x)                   # looks for 0.0
        Masking(mask_value=-1.0)(x)
    """
    for node, tensor, array, value in _maskers(view, data):
        padding = padding_of(array)
        if padding is None or padding.value == value or equal_steps(array, value).any():
            continue
        yield Found(
            node.path,
            f"{node.path!r} leaves out steps of {value:g}, of which there are none; "
            f"{_shown(padding)} in {view.label(tensor)}.",
            "No step is masked, and the padding is read as if it were data.",
            f"Write Masking(mask_value={padding.value:g}).",
        )


@rule(
    "R208",
    "hint",
    "steps in the midst of sequences are masked",
    "a padding value that no real step has",
    needs="x",
)
def masked_between(view: View, data: Data) -> Iterator[Found]:
    """A mask by value cannot tell padding from real steps that look like it.

    A step of zeros in the midst of a series, or the word number 0, is skipped: states are carried
    over it as if it did not exist.

        Masking(mask_value=-999.0)                   # with rows padded by -999.0
        Embedding(words + 1, 16, mask_zero=True)     # with words numbered from 1
    """
    for node, tensor, array, value in _maskers(view, data):
        between = runs(equal_steps(array, value))[2]
        if not between.any():
            continue
        yield Found(
            node.path,
            f"{node.path!r} leaves out {int(between.sum())} steps that lie between real ones, in "
            f"{int((between > 0).sum())} of {len(array)} rows of {view.label(tensor)}: they hold "
            f"nothing but {value:g}.",
            "Recurrent layers skip them, as if they were padding.",
            "If they are real, pad with a value that no real step has: Masking(mask_value=-999.0); "
            "number words from 1.",
        )


@rule("R502", "error", "the data holds NaN or infinity", "fill or leave out", needs="x")
def not_finite(view: View, data: Data) -> Iterator[Found]:
    """One NaN makes all states after it NaN, and with the first gradient all weights.

    A mask does not help: NaN equals no mask_value, and gradients of masked steps are NaN too.

        x = numpy.nan_to_num(x)                               # or
        x[numpy.isnan(x).any(axis=-1)] = -999.0               # with Masking(mask_value=-999.0)
    """
    for tensor, array in data.x.items():
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array)
        if bad.any():
            rows = int(bad.reshape(len(array), -1).any(1).sum())
            yield Found(
                "",
                f"{int(bad.sum())} values in {rows} of {len(array)} rows of {view.label(tensor)} "
                "are NaN or infinite.",
                "Every state after such a step is NaN, and with the first gradient all weights.",
                "Fill them in, leave those rows out, or set the steps to a value that Masking "
                "leaves out.",
            )


@rule(
    "R503",
    "hint",
    "large numbers go into a recurrent layer",
    "`Normalization()` in front, adapted to the training data",
    needs="x",
)
def not_scaled(view: View, data: Data) -> Iterator[Found]:
    """Gates are sigmoids: from about 5 on they are open or shut, and learn no more.

    Prices, years or pressures as they are drive them there in the first step. A recurrent layer
    wants inputs of about the size of one.

        scale = Normalization();  scale.adapt(x_train)
        Sequential([Input((None, 3)), scale, LSTM(32)])
    """
    for tensor, array in data.x.items():
        if array.ndim != 3 or array.dtype.kind not in "fiu" or not array.size:
            continue
        padding = padding_of(array)
        real = (
            np.ones(array.shape[:2], bool)
            if padding is None
            else ~equal_steps(array, padding.value)
        )
        sizes = np.median(np.abs(array[real].astype("float64")), axis=0) if real.any() else []
        large = [index for index, size in enumerate(sizes) if size > _LARGE]
        node = next(reached(view, tensor, _SAME_SIZE), None)
        if not large or node is None:
            continue
        which = "feature" if len(large) == 1 else "features"
        shown = ", ".join(map(str, large[:5])) + (", ..." if len(large) > 5 else "")
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} reads {view.label(tensor)} as it is, and {which} {shown} "
            f"of it {'is' if len(large) == 1 else 'are'} typically as large as "
            f"{max(sizes):.3g}.",
            "Such numbers shut or open all gates for good, and training hardly moves them.",
            "Put Normalization() in front, adapted to the training data, or scale the data to "
            "about the size of one.",
        )


@rule(
    "R504",
    "error",
    "a word that the Embedding does not have",
    "`Embedding(highest number + 1, ...)`",
    needs="x",
)
def unknown_words(view: View, data: Data) -> Iterator[Found]:
    """An Embedding of n words knows the numbers 0 to n-1.

    What others become depends on the framework: an error, the last word, or NaN.

        Embedding(int(x.max()) + 1, 16)
    """
    for tensor, array in data.x.items():
        for node in view.readers.get(tensor, []):
            words = argument(node, "input_dim")
            if not reads_tokens(node) or not isinstance(words, int) or not array.size:
                continue
            low, high = array.min(), array.max()
            if low < 0 or high >= words:
                yield Found(
                    node.path,
                    f"The words in {view.label(tensor)} are numbered from {low:g} to {high:g}; "
                    f"Embedding {node.path!r} knows 0 to {words - 1}.",
                    "Depending on the framework that is an error, another word's vector, or NaN.",
                    f"Write Embedding({int(high) + 1}, ...), or number the words from 0 on.",
                )
