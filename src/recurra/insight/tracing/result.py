"""What `recurra.trace` gives: every recurrent layer's sequences, states and gates, by name."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.cells import CELLS, CellSpec
from recurra.insight.structure import Structure
from recurra.insight.tracing.names import candidates, resolve

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class LayerTrace(Mapping[str, Any]):
    """One recurrent layer (or direction, or cell of a stack) over the traced batch.

    Time runs as in the input, for layers that go backwards too: step t of every array belongs to
    step t of the input. (A layer's own `return_trace=True` gives the order of processing.) Masked
    steps carry the states on; their gates are 0.

    `layer["hidden_state"]` is an `xarray.DataArray` with named axes where xarray is installed, else
    the array; `layer.arrays["hidden_state"]` is always the NumPy array.

    Args:
        path: as in `recurra.insight.structure.Node`: "lstm", "bi/forward_layer", "rnn/cell_0".
        cell: its name in `recurra.cells.CELLS`; None for a cell of the user's.
        arrays: NumPy arrays by name, in this order: "input" (batch, time_steps, features); every
            name of the cell's `trace_names` (batch, time_steps, units): gates, "cell_state",
            "hidden_state"; the final states "state_h", "state_c" (batch, units); and, where a loss
            was given, "dhidden_state", "dcell_state" (batch, time_steps, units). For a cell of the
            user's: "input", "hidden_state" (its output), "state_0", "state_1", ... sequences.
            ConvLSTM's are called as LSTM's and have axes of space beside the filters.
        mask: (batch, time_steps), True where the step is real; None for all.
        go_backwards: whether the layer reads the last step first.
        initial: {"state_h": (batch, units), ...} that the layer started from; empty for zeros.
        info: units, features, class_name, activations and the like, for people.
    """

    path: str
    cell: str | None
    arrays: Mapping[str, Array]
    mask: Array | None = None
    go_backwards: bool = False
    initial: Mapping[str, Array] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> CellSpec | None:
        """The cell's definition; None for a cell of the user's."""
        return None if self.cell is None else CELLS[self.cell]

    @property
    def final_states(self) -> tuple[str, ...]:
        """Names of the states after the last real step, the arrays without an axis of time."""
        if self.spec is not None:
            return self.spec.state_outputs
        return tuple(self.info.get("final", ()))

    def __getitem__(self, name: str) -> Any:
        if name not in self.arrays:
            close = difflib.get_close_matches(str(name), self.arrays, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise KeyError(
                f"{self.path!r} has no array {name!r}.{hint} It has {', '.join(self.arrays)}."
            )
        return labelled(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __repr__(self) -> str:
        return f"<LayerTrace {_told_at_length(self)}>"

    def __len__(self) -> int:
        return len(self.arrays)


@dataclass(frozen=True, eq=False)
class Trace(Mapping[str, LayerTrace]):
    """Every recurrent layer of a model over one batch, by path: what `recurra.trace` gives.

    `trace["encoder/lstm"]` is a layer's `LayerTrace`; the end of a path ("lstm") or a layer's own
    name will do where only one is meant. Iterating gives the paths.

    Args:
        layers: in the order in which they run.
        structure: the model.
        inputs, outputs: the model's own, by name: what it was given and what it made of it.
        masks: of the inputs, as far as they have any.
        loss: of the batch, where one was given.
    """

    layers: Mapping[str, LayerTrace]
    structure: Structure
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    masks: Mapping[str, Array] = field(default_factory=dict)
    loss: float | None = None

    def __getitem__(self, path: str) -> LayerTrace:
        return self.layers[resolve(path, self._own_names())]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and len(candidates(path, self._own_names())) == 1

    def _own_names(self) -> dict[str, str]:
        return {path: str(layer.info.get("layer_name", "")) for path, layer in self.layers.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        rows = f"{self.batch} {'row' if self.batch == 1 else 'rows'}"
        lines = [f"\n  {_told_at_length(layer)}" for layer in self.layers.values()]
        return f"<Trace of {self.structure.name!r}, {rows}:{''.join(lines) or ' no layers'}>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the trace to a file that `Trace.load` reads, and `numpy.load` too.

        Args:
            path: of the file; ".npz" is added if it has no such ending. Written whole or not at
                all.

        Returns:
            The file's path.

        Raises:
            OSError: if it cannot be written.

        Example:
            >>> trace.save("trace.npz")
            PosixPath('trace.npz')
        """
        from recurra.insight.tracing.saving import save

        return save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Read a trace that `save` wrote; nothing in the file is executed.

        Args:
            path: of the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no trace, is damaged, or was written by a newer version.

        Example:
            >>> recurra.insight.Trace.load("trace.npz")["lstm"]["hidden_state"].shape
            (4, 24, 64)
        """
        from recurra.insight.tracing.saving import load

        return load(path)

    def summary(self) -> Any:
        """What the numbers say of each layer and unit.

        Saturated gates, dead and constant units, how many steps a unit remembers, norms over time
        and, where a loss was given, how the gradient flows. Padded steps count nowhere.

        Returns:
            A `recurra.insight.tracing.summary.Summary`: text when printed, `to_dict()` for
            programs.

        Example:
            >>> print(trace.summary())
        """
        from recurra.insight.tracing.summary import summarize

        return summarize(self)

    def plot(self, *args: Any, **options: Any) -> Any:
        """Heat maps, traces of units, norms as a matplotlib figure.

        Args:
            *args, **options: see `recurra.insight.plotting.plot`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: if matplotlib is not installed.

        Example:
            >>> trace.plot("lstm", row=0).savefig("lstm.png")
        """
        from recurra.insight.plotting import plot

        return plot(self, *args, **options)

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write one page for a browser that shows the trace, to look through; needs no network.

        Args:
            path: of the file.
            **options: labels, tokens, title and others, see `recurra.insight.report.write_report`.

        Returns:
            The file's path.

        Example:
            >>> trace.report("report.html", labels=["first", "second"])
        """
        from recurra.insight.report import write_report

        return write_report(self, path, **options)

    @property
    def batch(self) -> int:
        """How many rows were traced."""
        return len(next(iter(self.inputs.values()))) if self.inputs else 0


def _told_at_length(layer: LayerTrace) -> str:
    """A layer's arrays, those of one shape together."""
    groups: list[tuple[tuple[int, ...], list[str]]] = []
    for name, array in layer.arrays.items():
        if not groups or groups[-1][0] != array.shape:
            groups.append((array.shape, []))
        groups[-1][1].append(name)
    listed = "; ".join(f"{', '.join(names)} {shape}" for shape, names in groups)
    return f"{layer.path!r} ({layer.info.get('class_name') or layer.cell}): {listed}"


def labelled(layer: LayerTrace, name: str) -> Any:
    """An array with names of its axes, where xarray is installed; else as it is."""
    array = layer.arrays[name]
    xarray = _xarray()
    if xarray is None:
        return array
    return xarray.DataArray(array, dims=dims_of(layer, name), name=name, attrs=_told(layer, name))


def dims_of(layer: LayerTrace, name: str) -> tuple[str, ...]:
    """What the axes of an array are called.

    Example:
        >>> dims_of(trace["lstm"], "hidden_state")
        ('batch', 'time_steps', 'units')
    """
    rank = np.ndim(layer.arrays[name])
    first = ("batch",) if name in layer.final_states else ("batch", "time_steps")
    rest = rank - len(first)
    known = layer.info.get("input_axes" if name == "input" else "axes", ())
    if len(known) == rest:
        return first + tuple(known)
    last = "features" if name == "input" else "units"
    return first + tuple(f"axis_{i}" for i in range(rest - 1)) + ((last,) if rest else ())


def _told(layer: LayerTrace, name: str) -> dict[str, str]:
    """What an array is, for people."""
    told = {"layer": layer.path}
    if layer.spec is not None:
        with contextlib.suppress(KeyError):  # the input, gradients
            told["long_name"] = layer.spec.meaning(name)
    return told


@functools.cache
def _xarray() -> Any:
    try:
        import xarray
    except ImportError:
        return None
    return xarray


def steps_of(layer: LayerTrace) -> int:
    """How many time steps a layer has seen."""
    return int(np.shape(layer.arrays["hidden_state"])[1])
