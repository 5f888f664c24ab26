"""What stands out in a trace: saturated gates, dead units, memory lengths, norms, gradient flow.

summary = trace.summary()
print(summary)                  a table by layer, and what is worth a look, in sentences
summary["lstm"].dead            numbers of the units that do nothing
summary["lstm"].units_table()   a row per unit, for a DataFrame
summary.to_dict()               everything, as what JSON can hold
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from recurra.cells import CELLS
from recurra.insight.tracing import statistics
from recurra.insight.tracing.statistics import Array

if TYPE_CHECKING:
    from recurra.insight.tracing import LayerTrace, Trace

MEMORY_FORMULA = "-1 / ln(mean of the {gate} over all real steps)"
MEMORY_SOURCE = (
    "Tallec and Ollivier (2018), Can recurrent neural networks warp time?; Mahto, Vo, Turek and "
    "Huth (2021), Multi-timescale representation learning in LSTM language models."
)

_KEEPS = {"lstm": "forget_gate", "gru": "update_gate"}  # which gate scales what was there before

VANISHES, EXPLODES = 1e-3, 1e3
"""What the gradient at the step read first is, in parts of that at the step read last, from where
on it is said to vanish or to explode."""

MOSTLY = 0.95
"""A unit's gate counts as saturated if it is so at this share of the real steps."""


@dataclass(frozen=True)
class GateSummary:
    """One gate over all real steps; arrays are (units,).

    activation: its name; "" if it is not known.
    kind: "gate" for activations from 0 to 1, "candidate" for those from -1 to 1, "unbounded".
    mean: its mean.
    low, high: shares of the steps at which it is closed (< 0.05) and open (> 0.95), of a candidate
        beyond -0.95 and 0.95; None for unbounded ones.
    """

    activation: str
    kind: Literal["gate", "candidate", "unbounded"]
    mean: Array
    low: Array | None
    high: Array | None


@dataclass(frozen=True)
class Memory:
    """How long each unit keeps what it has stored.

    gate: the gate that it follows from: an LSTM's forget gate, a GRU's update gate (Keras's: what
        is kept).
    steps: (units,), steps after which 1/e (37 %) of a unit's content is left. This is the way
        through the unit itself; what it passes on through the recurrent weights may live longer.
    """

    gate: str
    steps: Array

    @property
    def formula(self) -> str:
        """How `steps` is computed."""
        return MEMORY_FORMULA.format(gate=self.gate.replace("_", " "))


@dataclass(frozen=True)
class Flow:
    """How the loss's gradient travels back through time.

    norms: {"hidden_state": (time_steps,), "cell_state": ...}: the Euclidean norm over the units of
        the loss's gradient by that step's state, mean over rows; NaN where every row is padded.
    first, last: that of the hidden state at the step that is read first, and last; means over rows.
    peak: the largest.
    verdict: "vanishes", "explodes", "steady", or "none" if the loss does not depend on the layer.
    """

    norms: Mapping[str, Array]
    first: float
    last: float
    peak: float
    verdict: Literal["vanishes", "explodes", "steady", "none"]

    @property
    def ratio(self) -> float | None:
        """first / last; None where the last is zero."""
        return self.first / self.last if self.last > 0 else None


@dataclass(frozen=True)
class Observation:
    """Something worth a look, in a sentence.

    kind: "dead_units", "constant_units", "saturated_gates", "memory", "gradient", "not_finite".
    units: the units that it is about.
    """

    kind: str
    text: str
    units: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class LayerSummary:
    """One layer's part of a summary. All of it is over real steps; padded ones count nowhere.

    rows, time_steps, units: the traced sizes.
    real_steps, padded_steps: over all rows.
    hidden: of the hidden state, by unit.
    scale: what "small" is measured in: 1 where the hidden state is bounded by 1, else its root mean
        square.
    dead: units whose hidden state stays below 0.01 · scale in absolute value.
    constant: units that are not dead and whose hidden state moves by less than 0.01 · scale.
    memory: None for cells without a gate that keeps (SimpleRNN, the user's own).
    norms: {"hidden_state": (time_steps,), "cell_state": ...}: the state's Euclidean norm over the
        units, mean over the rows whose step is real; NaN where there are none.
    gradient: None unless the trace was made with a loss.
    observations: what is worth a look.
    """

    path: str
    class_name: str
    cell: str | None
    units: int
    time_steps: int
    rows: int
    real_steps: int
    padded_steps: int
    go_backwards: bool
    gates: Mapping[str, GateSummary]
    hidden: statistics.Spread
    scale: float
    dead: tuple[int, ...]
    constant: tuple[int, ...]
    memory: Memory | None
    norms: Mapping[str, Array]
    gradient: Flow | None
    observations: tuple[Observation, ...] = field(default=())

    def units_table(self) -> list[dict[str, Any]]:
        """A row per unit: unit, mean, std, max, memory, <gate>_low, <gate>_high, dead, constant.

        Columns that the cell does not have are left out. `pandas.DataFrame(...)` takes it.
        """
        from recurra.insight.tracing import summary_data

        return summary_data.units_table(self)

    def to_dict(self, *, series: bool = True) -> dict[str, Any]:
        """As what JSON can hold; see `Summary.to_dict`."""
        from recurra.insight.tracing import summary_data

        return summary_data.layer_dict(self, series)


@dataclass(frozen=True, eq=False)
class Summary(Mapping[str, LayerSummary]):
    """What `Trace.summary` gives: a `LayerSummary` by path. It prints itself, in notebooks too.

    batch: how many rows were traced.
    loss: its value, if the trace was made with one.
    """

    layers: Mapping[str, LayerSummary]
    batch: int
    loss: float | None = None

    def __getitem__(self, path: str) -> LayerSummary:
        return self.layers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def to_dict(self, *, series: bool = True) -> dict[str, Any]:
        """Everything as what JSON can hold; what is undefined is None.

        Args:
            series: whether norms and gradients by time step are among it.
        """
        from recurra.insight.tracing import summary_data

        return summary_data.summary_dict(self, series)

    def __rich__(self) -> Any:
        from recurra.insight.tracing import summary_text

        return summary_text.rich(self)

    def __str__(self) -> str:
        from recurra.insight.tracing import summary_text

        return summary_text.text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from recurra.insight.tracing import summary_text

        return summary_text.html(self)


def summarize(trace: Trace) -> Summary:
    """What stands out in a trace; the same as `trace.summary()`.

    Args:
        trace: of `recurra.trace`. Gradient flow is part of it if it was made with a loss.

    Example:
        >>> summary = recurra.trace(model, x).summary()
        >>> summary["lstm"].memory.steps.max()
        23.1
    """
    layers = {path: summarize_layer(layer) for path, layer in trace.layers.items()}
    return Summary(layers, trace.batch, getattr(trace, "loss", None))


def summarize_layer(layer: LayerTrace) -> LayerSummary:
    """One layer's summary."""
    from recurra.insight.tracing import observations

    hidden = statistics.sequence(layer, "hidden_state")
    rows, time_steps, units = hidden.shape
    keep = None if layer.mask is None or layer.mask.all() else np.asarray(layer.mask, bool)
    real = rows * time_steps if keep is None else int(keep.sum())

    seen = statistics.spread(hidden, keep, None)
    gates = {
        name: _gate(statistics.sequence(layer, name), keep, activation)
        for name, activation in gate_activations(layer).items()
    }
    scale = _scale(layer, seen)
    still = statistics.STILL * scale
    is_dead = seen.size < still
    is_constant = (seen.largest - seen.smallest < still) & ~is_dead
    summary = LayerSummary(
        path=layer.path,
        class_name=str(layer.info.get("class_name") or _class_name(layer)),
        cell=layer.cell,
        units=units,
        time_steps=time_steps,
        rows=rows,
        real_steps=real,
        padded_steps=rows * time_steps - real,
        go_backwards=layer.go_backwards,
        gates=gates,
        hidden=seen,
        scale=scale,
        dead=_numbers(is_dead),
        constant=_numbers(is_constant),
        memory=_memory(layer, gates),
        norms={
            name: statistics.mean_by_step(statistics.norms(statistics.sequence(layer, name), keep))
            for name in ("hidden_state", "cell_state")
            if name in layer.arrays
        },
        gradient=_flow(layer, keep),
    )
    return replace(summary, observations=observations.of(summary, layer))


def gate_activations(layer: LayerTrace) -> dict[str, str]:
    """Names of the activations of the gates that a trace has, "" where one is not known.

    SimpleRNN's only gate is its hidden state, and not among them.
    """
    kind = _computes_as(layer)
    if kind is None:
        return {}
    known = layer.info.get("activations") or {}
    return {gate: str(known.get(gate, "")) for gate in CELLS[kind].gates if gate in layer.arrays}


def _computes_as(layer: LayerTrace) -> str | None:
    """The cell whose gates a layer has: a ConvLSTM's are those of an LSTM at every place."""
    if layer.cell is None and "filters" in layer.info and "forget_gate" in layer.arrays:
        return "lstm"
    return layer.cell


def _gate(values: NDArray[np.floating], keep: Any, activation: str) -> GateSummary:
    kind: Literal["gate", "candidate", "unbounded"] = "unbounded"
    limits = None
    if activation in statistics.GATES:
        kind, limits = "gate", (statistics.CLOSED, statistics.OPEN)
    elif activation in statistics.BOUNDED:
        kind, limits = "candidate", (-statistics.SATURATED, statistics.SATURATED)
    seen = statistics.spread(values, keep, limits)
    return GateSummary(activation, kind, seen.mean, seen.low, seen.high)


def _memory(layer: LayerTrace, gates: Mapping[str, GateSummary]) -> Memory | None:
    name = _KEEPS.get(_computes_as(layer) or "")
    if name is None or name not in gates or gates[name].kind != "gate":
        return None
    mean = gates[name].mean
    return None if np.isnan(mean).any() else Memory(name, statistics.memory_lengths(mean))


def _flow(layer: LayerTrace, keep: NDArray[np.bool_] | None) -> Flow | None:
    if "dhidden_state" not in layer.arrays:
        return None
    by_row = {
        name: statistics.norms(statistics.sequence(layer, f"d{name}"), keep)
        for name in ("hidden_state", "cell_state")
        if f"d{name}" in layer.arrays
    }
    norms = {name: statistics.mean_by_step(values) for name, values in by_row.items()}
    first, last = statistics.at_ends(by_row["hidden_state"], layer.go_backwards)
    known = norms["hidden_state"][~np.isnan(norms["hidden_state"])]
    peak = float(known.max()) if len(known) else 0.0
    verdict: Literal["vanishes", "explodes", "steady", "none"] = "steady"
    if not peak > 0:
        verdict = "none"
    elif last > 0 and first / last < VANISHES:
        verdict = "vanishes"
    elif last > 0 and first / last > EXPLODES:
        verdict = "explodes"
    return Flow(norms, first, last, peak, verdict)


def flow_sentence(flow: Flow) -> str:
    """How much of the gradient gets to the step that is read first."""
    if flow.verdict == "none":
        return "The loss does not depend on this layer: its gradient is zero at every step."
    if flow.ratio is None:
        return (
            f"The gradient is {flow.peak:.3g} where it is largest, and none at the last step read."
        )
    known = (
        f"The gradient at the step read first is {flow.ratio:.3g} times that at the step read last"
    )
    return {
        "vanishes": f"{known}: it vanishes on its way back, so early steps hardly learn.",
        "explodes": f"{known}: it explodes on its way back; clip gradients (clipnorm=1.0).",
    }.get(flow.verdict, f"{known}.")


def _scale(layer: LayerTrace, seen: statistics.Spread) -> float:
    spec = layer.spec
    activations = dict(layer.info.get("activations") or {})
    candidate = activations.get("candidate")
    if spec is not None and candidate in statistics.BOUNDED | statistics.GATES:
        return 1.0
    square = float(np.mean(seen.mean**2 + seen.std**2))
    return math.sqrt(square) if math.isfinite(square) and square > 0 else 1.0


def _class_name(layer: LayerTrace) -> str:
    return layer.spec.layer if layer.spec is not None else "RNN"


def _numbers(where: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(unit) for unit in np.flatnonzero(where))
