"""Rules that compare a model with its data's shapes."""

from __future__ import annotations

from collections.abc import Iterator

from recurra.insight.linting.data import Data
from recurra.insight.linting.rules import Found, rule
from recurra.insight.linting.view import STEPWISE, View, kind, rank, reached, shape_text, size_at


@rule(
    "R501",
    "error",
    "the data does not have the shape of the model's input",
    "(batch, time_steps, features)",
    needs="x",
)
def wrong_shape(view: View, data: Data) -> Iterator[Found]:
    """The model was built for other axes or sizes than the data has.

    A series of single values has one feature: (batch, time_steps, 1).

        model.predict(x)                 # x of shape (batch, time_steps)
        model.predict(x[..., None])
    """
    for index, array in data.x.items():
        tensor = view.tensors[index]
        if tensor.shape is None:
            continue
        sizes = list(zip(tensor.shape[1:], array.shape[1:], strict=False))
        fits = len(tensor.shape) == array.ndim and all(a in (None, b) for a, b in sizes)
        if fits:
            continue
        if len(tensor.shape) == array.ndim + 1 and tensor.shape[-1] == 1:
            advice = "Add the features axis: x[..., None]."
        elif len(tensor.shape) == array.ndim + 1:
            advice = "Add the batch axis, x[None], or the features axis, x[..., None]."
        elif (
            len(tensor.shape) == 3
            and array.ndim == 3
            and all(
                a in (None, b) for a, b in zip(tensor.shape[1:], array.shape[:0:-1], strict=True)
            )
        ):
            advice = "Time and features are swapped: x.swapaxes(1, 2)."
        else:
            advice = "Give it data of that shape, or build the model for this one."
        name = view.tensors[index].name
        yield Found(
            "",
            f"The data for the input {name!r} has shape {array.shape}; the model reads "
            f"{shape_text(tensor)}.",
            "Neither fit nor predict can run with it.",
            advice,
        )


@rule(
    "R505",
    "error",
    "the rows do not fill a stateful model's batches",
    "a multiple of the batch",
    needs="x",
)
def incomplete_batch(view: View, data: Data) -> Iterator[Found]:
    """A stateful model has one state for each row of its batch, whose size is fixed.

    The last batch must be as large as the others.

        n = len(x) // B * B
        model.fit(x[:n], y[:n], batch_size=B, shuffle=False)
    """
    stateful = any(
        leaf.stateful
        for node in view.structure.recurrent()
        if node.recurrent is not None
        for _, leaf in node.recurrent.leaves(node.path)
    )
    for index, array in data.x.items():
        shape = view.tensors[index].shape
        batch = shape[0] if shape and rank(view.tensors[index]) else None
        if not stateful or not batch or not array.ndim or len(array) % batch == 0:
            continue
        yield Found(
            "",
            f"The data has {len(array)} rows, and the stateful model's batch is {batch}.",
            "The last batch would have fewer rows than there are states.",
            f"Give it a multiple of {batch} rows, with batch_size={batch}: "
            f"{len(array) // batch * batch} of these.",
        )
        return


@rule(
    "R506",
    "warning",
    "the data's sequences have a single step",
    "time on axis 1: (batch, time_steps, features)",
    needs="x",
)
def single_steps(view: View, data: Data) -> Iterator[Found]:
    """The same as R102, of a model that leaves the number of steps open.

    model.predict(x.reshape(n, 1, 60))    # one step of 60 features
    model.predict(x.reshape(n, 60, 1))    # 60 steps of one feature, of a model built for those
    """
    for tensor, array in data.x.items():
        if array.ndim != 3 or array.shape[1] != 1 or array.shape[2] < 2:
            continue
        node = next(reached(view, tensor, STEPWISE), None)
        if node is None or node.recurrent is None or node.states or len(node.outputs) > 1:
            continue
        leaves = [leaf for _, leaf in node.recurrent.leaves(node.path)]
        known = size_at(view.input(node), 1) == 1  # R102
        if known or any(leaf.stateful for leaf in leaves) or size_at(view.tensors[tensor], 1) == 1:
            continue
        features = array.shape[2]
        yield Found(
            node.path,
            f"{kind(node)} {node.path!r} gets sequences of one step: the data for "
            f"{view.label(tensor)} has shape {array.shape}.",
            "It starts from zeros and stops after that step, so its recurrent weights have no "
            "effect at all.",
            "Put time on axis 1: (batch, time_steps, features). If the "
            f"{features} features are steps of one series, that is (B, {features}, 1).",
        )


@rule(
    "R507",
    "error",
    "inputs and targets have different numbers of rows",
    "a target for every row of the inputs",
    needs="x",
)
def rows_do_not_match(view: View, data: Data) -> Iterator[Found]:
    """Row i of every input and every target belongs to the same sequence.

    Windows cut from a series are fewer than its values: the targets have to be cut alike.

        model.fit(x[:-horizon], y[horizon:])
    """
    rows = {f"the input {view.tensors[t].name!r}": len(a) for t, a in data.x.items() if a.ndim}
    rows |= {f"the target of {view.label(t)}": len(a) for t, a in data.y.items() if a.ndim}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        yield Found(
            "",
            f"The arrays have different numbers of rows: {listed}.",
            "Every row of one belongs to the same row of the others, and fit refuses the rest.",
            "Cut all of them to the same sequences.",
        )
