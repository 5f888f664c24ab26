"""A loaded model: predict whole batches, open sessions that go step by step."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.runtime import arrays
from recurra.runtime.arrays import Spec
from recurra.runtime.errors import ModelFileError, StreamingError
from recurra.runtime.graph import Graph
from recurra.runtime.interpreter import Interpreter, Watch
from recurra.runtime.layer import Array, Mask

if TYPE_CHECKING:
    from recurra.runtime.session import Session
    from recurra.runtime.streaming import Program

_CHUNK = 2**22
"""Numbers that the largest tensor of a batch should have, by default: 16 MB."""

_MOST_ROWS = 1024


def load(
    path: str | os.PathLike[str],
    custom: Mapping[str, Callable[..., Any]] | None = None,
    **limits: int,
) -> Runtime:
    """Load a trained model, without Keras.

    Args:
        path: a .keras file, an .h5 file of Keras 2 or 3, or an .onnx file that Recurra or PyTorch
            wrote.
        custom: NumPy functions for layers that the runtime has no code for, by the name of the
            class or of the layer; see `recurra.runtime.register_layer`. No code in the file is run.
        **limits: how much the file may hold, far above what models need: max_bytes and others, see
            `recurra.runtime.files.Limits`.

    Returns:
        The model; it computes in float32, whatever it was trained in.

    Raises:
        FileNotFoundError: if there is no such file.
        recurra.runtime.UnsupportedLayerError: for a layer that it has no code for, named with its
            place in the model and what to do.
        recurra.runtime.ModelFileError: for files that are damaged or no model.

    Example:
        >>> model = recurra.load("forecaster.keras")
        >>> model.predict(x)  # (batch, time_steps, features)
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"There is no file {name!r}.")
    if os.path.splitext(name)[1].lower() == ".onnx":
        from recurra.runtime.onnx.load import load_graph

        if custom or set(limits) - {"max_bytes"}:
            raise TypeError("For an ONNX file there is no custom=, and of the limits max_bytes.")
        return Runtime(load_graph(name, **limits))
    from recurra.runtime.build import build
    from recurra.runtime.files import read

    saved = read(name, **limits)
    try:
        built = build(saved, custom)
    except ModelFileError as error:
        if name in str(error):
            raise
        raise type(error)(f"{name}: {error}") from error.__cause__
    finally:
        saved.close()
    return Runtime(built.graph, built.inputs, built.outputs)


class Runtime:
    """A trained model that runs without the framework it was trained in.

    Made by `recurra.load`. It is never changed after it is made, and any number of threads may use
    it at once.

    Args:
        graph: the model.
        input_structure, output_structure: how Keras nests its inputs and outputs: an index into
            the graph's, or lists and dicts of such. None for one array, or a list of several.
    """

    def __init__(
        self, graph: Graph, input_structure: Any = None, output_structure: Any = None
    ) -> None:
        self.graph = graph
        self._nesting = [
            _default(structure, len(tensors))
            for structure, tensors in (
                (input_structure, graph.inputs),
                (output_structure, graph.outputs),
            )
        ]
        self._interpreter = Interpreter(graph)
        self._lock = threading.Lock()
        self._plan: Program | StreamingError | None = None
        self._inputs = _specs(graph.inputs, self._nesting[0])
        self._outputs = _specs(graph.outputs, self._nesting[1])

    @property
    def name(self) -> str:
        """The model's name."""
        return self.graph.name

    @property
    def inputs(self) -> tuple[Spec, ...]:
        """Name, shape and dtype of each input.

        Example:
            >>> model.inputs
            (<x: (batch, time_steps, 8), float32>,)
        """
        return self._inputs

    @property
    def outputs(self) -> tuple[Spec, ...]:
        """Name, shape and dtype of each output."""
        return self._outputs

    @property
    def nesting(self) -> tuple[Any, Any]:
        """How Keras nests the inputs and the outputs: their numbers, in lists and dicts."""
        return self._nesting[0], self._nesting[1]

    @property
    def digest(self) -> str:
        """Of the configuration and all weights, hexadecimal: equal for equal models."""
        return self.graph.digest

    def __repr__(self) -> str:
        takes = ", ".join(f"{s.name}: {arrays.shape_text(s.shape)}" for s in self.inputs)
        gives = ", ".join(f"{s.name}: {arrays.shape_text(s.shape)}" for s in self.outputs)
        return f"<Runtime {self.name!r}, {takes} -> {gives}>"

    def predict(
        self,
        x: Any,
        mask: Any = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Any:
        """Run the model on whole sequences.

        Every row is computed by itself and starts from zero states, those of stateful layers too:
        a session (`open`) is what carries states on. For models that stream, these are the very
        bits that a session's steps give.

        Args:
            x: (batch, time_steps, features) or what the model takes, any numbers; a list, or a dict
                by name, for several inputs. Computed in float32; indices stay integers.
            mask: (batch, time_steps), True where a step is real; a list or dict for several inputs.
                None to leave it to the model's own Masking and Embedding layers. As with Keras's
                model(x, mask=mask), recurrent layers that are given an initial state ignore it.
            batch_size: rows that are computed at a time, which bounds the memory; None for a number
                that suits the model. Results do not depend on it.
            progress: whether to show a progress bar on stderr.

        Returns:
            What Keras's predict returns: an array, or a list or dict of them.

        Raises:
            ValueError: if an array does not fit, saying what to change; or from a layer.
            TypeError: if something is no array of numbers.

        Example:
            >>> model.predict(np.zeros((2, 24, 8))).shape
            (2, 1)
        """
        if batch_size is not None and (isinstance(batch_size, bool) or int(batch_size) < 1):
            raise ValueError(f"batch_size={batch_size!r}; expected a number of rows, 1 or more.")
        given = self._given(x)
        masks = self._masks(mask, given)
        total = len(given[0])
        if total == 0:
            blank = [np.zeros((1, *array.shape[1:]), array.dtype) for array in given]
            made = self._run(blank, [None] * len(blank))
            return arrays.nested(self._nesting[1], [array[:0] for array in made])
        rows = int(batch_size) if batch_size is not None else self._rows(given)
        results: list[Array] = []
        starts = range(0, total, rows)
        for start in _shown(starts, total, rows) if progress else starts:
            chunk = slice(start, min(start + rows, total))
            made = self._run(
                [a[chunk] for a in given], [m if m is None else m[chunk] for m in masks]
            )
            if rows >= total:
                results = made
                break
            if not results:
                results = [np.empty((total, *array.shape[1:]), array.dtype) for array in made]
            for whole, part in zip(results, made, strict=True):
                whole[chunk] = part
        return arrays.nested(self._nesting[1], results)

    def watched(
        self, x: Any, mask: Any, watch: Watch
    ) -> tuple[list[Array], list[Mask], list[Array]]:
        """Run the model layer by layer on whole sequences, and tell of each call.

        Args:
            x, mask: as for `predict`.
            watch: is given every layer and its call, before it runs.

        Returns:
            The inputs as they were computed with, their masks, and what `predict` gives, flat.

        Raises:
            ValueError, TypeError: as `predict`.
        """
        given = self._given(x)
        masks = self._masks(mask, given)
        ready = [arrays.converted(a, spec) for a, spec in zip(given, self.inputs, strict=True)]
        outputs = self._interpreter.run(ready, masks, watch)
        with contextlib.suppress(StreamingError):
            self.program()  # whose last bits may differ, and which `predict` takes
            outputs = self._run(given, masks)
        return ready, masks, outputs

    def open(self, batch: int = 1) -> Session:
        """Begin a session: the model one time step after the other, or stretch by stretch.

        Args:
            batch: rows that go side by side, each with its own state.

        Raises:
            StreamingError: if the model has to see whole sequences, naming the layer and why.

        Example:
            >>> session = model.open()
            >>> session.step(x_t)  # (features,) -> (outputs,)
        """
        from recurra.runtime.session import open_session

        return open_session(self.program(), batch)

    def restore(self, data: bytes) -> Session:
        """A session that goes on from a snapshot, with as many rows as it was taken with.

        Args:
            data: what `Session.snapshot` gave, here or in another process.

        Raises:
            SnapshotError: for bytes that are damaged, of another model or another version.
            StreamingError: as `open`.
        """
        from recurra.runtime.session import restored

        return restored(self.program(), data)

    def step_many(self, sessions: Sequence[Session], xs: Any) -> Any:
        """One step of many sessions in one call, each with the same bits as alone.

        Args:
            sessions: n sessions that this runtime opened with batch=1, all different.
            xs: (n, features), an array or a list of n steps; for several inputs a dict of such by
                name, or a tuple of them in the model's order.

        Returns:
            (n, units), or a list of such arrays for several outputs.

        Raises:
            TypeError: for something else than sessions.
            ValueError: if a session is there twice, has another batch or another runtime, or if xs
                does not fit.

        Example:
            >>> sessions = [model.open() for _ in range(1000)]
            >>> y = model.step_many(sessions, x)  # (1000, features) -> (1000, outputs)
        """
        from recurra.runtime.session import step_many

        return step_many(self.program(), sessions, xs)

    @property
    def state_bytes(self) -> int:
        """How much memory the state of one stream takes, in bytes.

        Raises:
            StreamingError: as `open`.
        """
        return self.program().plan.state_bytes

    def export_onnx(self, path: str | os.PathLike[str], *, stateful: bool = False) -> None:
        """Write the model as an ONNX file; see `recurra.runtime.onnx.export`.

        Args:
            path: of the file.
            stateful: whether states are inputs and outputs, to go on step by step.

        Example:
            >>> model.export_onnx("model.onnx", stateful=True)
        """
        from recurra.runtime.onnx import export

        export(self, path, stateful=stateful)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print a table of the layers: types, shapes, parameters, what each is called on.

        Args:
            print_fn: gets the text.
        """
        from recurra.runtime.summary import summary_text

        print_fn(summary_text(self))

    def program(self) -> Program:
        """The model as a compiled plan of one step.

        Raises:
            StreamingError: if it has none, naming the layer and why.
        """
        found = self._plan
        if found is None:
            with self._lock:
                if self._plan is None:
                    self._plan = self._compiled()
                found = self._plan
        if isinstance(found, StreamingError):
            raise StreamingError(*found.args)
        return found

    def _compiled(self) -> Program | StreamingError:
        from recurra.runtime.streaming import program_of

        try:
            return program_of(self.graph, [spec.name for spec in self.inputs])
        except StreamingError as error:
            return error

    def _given(self, x: Any) -> list[Array]:
        """x as one array per input, shapes checked, types as they were."""
        found = [
            arrays.fitted(arrays.as_array(value, f"The input '{spec.name}'"), spec)
            for value, spec in zip(
                arrays.by_input(x, self.inputs, self._nesting[0], "x"), self.inputs, strict=True
            )
        ]
        counts = {len(array) for array in found}
        if len(counts) > 1:
            listed = ", ".join(
                f"'{spec.name}' has {len(array)}"
                for spec, array in zip(self.inputs, found, strict=True)
            )
            raise ValueError(f"The inputs must have equally many rows: {listed}.")
        return found

    def _masks(self, mask: Any, given: Sequence[Array]) -> list[Mask]:
        """One mask or None per input."""
        return [
            arrays.checked_mask(each, array, spec)
            for each, array, spec in zip(
                arrays.by_input(mask, self.inputs, self._nesting[0], "mask"),
                given,
                self.inputs,
                strict=True,
            )
        ]

    def _rows(self, given: Sequence[Array]) -> int:
        """How many rows make a batch whose tensors are not too large."""
        time_steps = max([a.shape[1] for a in given if a.ndim > 1], default=1)
        largest = max(
            _numbers(tensor.shape, time_steps)
            for tensors in (self.graph.inputs, *(node.outputs for node in self.graph.nodes))
            for tensor in tensors
        )
        return max(1, min(_MOST_ROWS, _CHUNK // max(largest, 1)))

    def _run(self, given: Sequence[Array], masks: Sequence[Mask]) -> list[Array]:
        """One batch."""
        ready = [arrays.converted(a, spec) for a, spec in zip(given, self.inputs, strict=True)]
        try:
            program = self.program()
            timed = zip(ready, program.inputs, strict=True)
            if len({array.shape[1] for array, spec in timed if spec.timed}) <= 1:
                return program.predict(ready, masks)
            # A plan's inputs go side by side; whole sequences may differ in length.
            return self._interpreter.run(ready, masks)
        except StreamingError:
            return self._interpreter.run(ready, masks)


def _numbers(shape: Sequence[int | None], time_steps: int) -> int:
    return int(np.prod([time_steps if n is None else n for n in shape[1:]], dtype=np.float64))


def _default(structure: Any, count: int) -> Any:
    if structure is not None:
        return structure
    return 0 if count == 1 else [*range(count)]


def _specs(tensors: Sequence[Any], structure: Any) -> tuple[Spec, ...]:
    keys = {}
    if isinstance(structure, Mapping):
        keys = {index: key for key, index in structure.items() if isinstance(index, int)}
    return tuple(
        Spec(keys.get(index, tensor.name), tuple(tensor.shape), tensor.dtype)
        for index, tensor in enumerate(tensors)
    )


def _shown(starts: Sequence[int], total: int, rows: int) -> Iterator[int]:
    """The starts, with a bar of the rows done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task("predict", total=total)
        for start in starts:
            yield start
            bar.update(task, completed=min(start + rows, total))
