"""Recurrent cells: what their configurations say, their weights, and their scans.

A scan is a generator: it yields what it needs of the engine, (Config, arguments of
`recurra.engine.cpu.forward`), and is sent the result. `run` drives several of them side by side, so
that both directions of a Bidirectional are one call of the engine.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurra.cells import ACTIVATIONS, CELLS
from recurra.engine.config import Config
from recurra.runtime.layer import Array, Mask, Variable
from recurra.runtime.layers import config as checked
from recurra.runtime.layers.activations import Activation, activation, make
from recurra.runtime.layers.config import MOST
from recurra.runtime.layers.config import Config as LayerConfig
from recurra.runtime.layers.product import pack, product

KINDS: Mapping[str, str] = {
    "LSTM": "lstm",
    "LSTMCell": "lstm",
    "CuDNNLSTM": "lstm",
    "GRU": "gru",
    "GRUCell": "gru",
    "CuDNNGRU": "gru",
    "SimpleRNN": "simple_rnn",
    "SimpleRNNCell": "simple_rnn",
}
"""Names of `recurra.cells` by the classes of Keras's cells and layers."""


class Options(NamedTuple):
    """How a layer scans its cells."""

    go_backwards: bool = False
    zero_output_for_mask: bool = False
    return_sequences: bool = False
    trace: bool = False


DEFAULTS = Options()


class Cell:
    """One cell.

    Attributes:
        kind: its name in `recurra.cells`.
        units: as in Keras.
        config: for the engine; None if the engine has no such activation.
        obstacle: why the engine cannot run it; None if it can.
        kernel, recurrent_kernel, bias: float32, in Keras's layout; bias None without one.
    """

    def __init__(
        self, class_name: str, config: LayerConfig, where: str, options: Options = DEFAULTS
    ) -> None:
        self.where, self.name = where, where.rpartition("/")[2]
        self.kind = KINDS[class_name]
        self.spec = CELLS[self.kind]
        self.cudnn = class_name.startswith("CuDNN")
        self.units = checked.integer(config, "units", where, most=MOST // 8)
        self.use_bias = checked.boolean(config, "use_bias", where, default=True)
        self.reset_after = checked.boolean(config, "reset_after", where, default=True)
        default = self.spec.default_activation, self.spec.default_recurrent_activation or "linear"
        self.activation = activation(config.get("activation", default[0]), where)
        self.recurrent_activation = activation(
            config.get("recurrent_activation", default[1]), where
        )
        self.go_backwards = options.go_backwards
        self.zero_output_for_mask = options.zero_output_for_mask
        self.obstacle = self._obstacle()
        self.config = None if self.obstacle else self._engine_config()
        self.kernel: Array = np.zeros((0, 0), np.float32)
        self.recurrent_kernel: Array = self.kernel
        self.bias: Array | None = None

    def _obstacle(self) -> str | None:
        used = [self.activation]
        if self.spec.uses_recurrent_activation:
            used.append(self.recurrent_activation)
        for each in used:
            if not _in_engine(each):
                return f"the engine has no activation {each.name!r} with these parameters"
        return None

    def _engine_config(self) -> Config:
        return Config(
            self.kind,
            reset_after=self.reset_after,
            activation=self.activation.name,
            recurrent_activation=self.recurrent_activation.name
            if self.spec.uses_recurrent_activation
            else "linear",
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
        )

    def variables(self) -> list[Variable]:
        """kernel, recurrent_kernel and bias, as the cell's own."""
        names = ["kernel", "recurrent_kernel"] + ["bias"] * self.use_bias
        return [Variable(name, index=index) for index, name in enumerate(names)]

    def build(self, weights: Mapping[str, Array], features: int) -> None:
        """Take the weights, of which the shapes are checked."""
        gates = len(self.spec.gates)
        shapes = self.spec.weight_shapes(features, self.units, self.reset_after)
        if self.cudnn:
            shapes["bias"] = (2 * gates * self.units,)
        self.kernel = checked.weight(weights, "kernel", shapes["kernel"], self.where)
        self.recurrent_kernel = checked.weight(
            weights, "recurrent_kernel", shapes["recurrent_kernel"], self.where
        )
        if self.use_bias:
            self.bias = checked.weight(weights, "bias", shapes["bias"], self.where)
        if self.cudnn and self.bias is not None:
            self.kernel = _untransposed(self.kernel, gates, self.units)
            self.recurrent_kernel = _untransposed(self.recurrent_kernel, gates, self.units)
            both = self.bias.reshape(2, -1)
            self.bias = both.sum(axis=0) if self.kind == "lstm" else both

    def forward(
        self,
        x: Array,
        states: Sequence[Array] | None,
        mask: Mask,
        *,
        last_output: bool,
        sequence: bool,
        trace: bool,
    ) -> Generator[Any, Any, dict[str, Array]]:
        """One scan; arrays by the engine's names, with trace those of the trace too."""
        start = dict(zip(("h0", "c0"), states or (), strict=False))
        if self.config is None:
            result = self._numpy_scan(x, start, mask)
        else:
            result = yield (
                self.config,
                {
                    "x": x,
                    "kernel": self.kernel,
                    "recurrent_kernel": self.recurrent_kernel,
                    "bias": self.bias,
                    **start,
                    "mask": mask,
                    "last_output": last_output,
                    "sequence": sequence or trace,
                    "slots": trace,
                },
            )
        if trace:
            result.setdefault("hidden_state", result["sequence"])
        return result

    def _numpy_scan(self, x: Array, start: Mapping[str, Array], mask: Mask) -> dict[str, Array]:
        """The same in NumPy, for activations that the engine does not have; float32."""
        spec, units = self.spec, self.units
        batch, time_steps = x.shape[:2]
        columns = {g: slice(i * units, (i + 1) * units) for i, g in enumerate(spec.gates)}
        input_bias, recurrent_bias = self.bias, None
        if self.bias is not None and self.bias.ndim == 2:
            input_bias, recurrent_bias = self.bias
        given = product(x, pack(self.kernel, input_bias))
        packed = {
            gate: pack(
                self.recurrent_kernel[:, part],
                None if recurrent_bias is None else recurrent_bias[part],
            )
            for gate, part in columns.items()
        }

        def recurrent(h: Array, gates: Sequence[str]) -> dict[str, Array]:
            return {gate: product(h, packed[gate]) for gate in gates}

        state = {
            each.name: np.array(start[f"{each.symbol}0"])
            if f"{each.symbol}0" in start
            else np.zeros((batch, units), np.float32)
            for each in spec.state_table
        }
        names = [*spec.trace_names]
        slots = {n: np.zeros((batch, time_steps, units), np.float32) for n in names}
        sequence = np.zeros((batch, time_steps, units), np.float32)
        last = np.zeros((batch, units), np.float32) if time_steps else state["hidden_state"]
        order = range(time_steps)
        for place, t in enumerate(reversed(order) if self.go_backwards else order):
            gx = {gate: given[:, t, columns[gate]] for gate in spec.gates}
            new, record = spec.step(
                gx,
                state,
                recurrent,
                self.activation,
                self.recurrent_activation,
                **spec.choose(self.reset_after),
            )
            output = new["hidden_state"]
            if mask is None:
                state, last = new, output
                sequence[:, place] = output
            else:
                kept = mask[:, t, np.newaxis]
                state = {n: np.where(kept, new[n], state[n]) for n in spec.states}
                last = np.where(kept, output, last)
                sequence[:, place] = (
                    np.where(kept, output, 0) if self.zero_output_for_mask else last
                )
            for name in names:
                value = state[name] if name in spec.states else record[name]
                slots[name][:, place] = (
                    value if mask is None else np.where(kept | (name in spec.states), value, 0)
                )
        states = {each.output: state[each.name] for each in spec.state_table}
        return {"sequence": sequence, "last_output": last, **states, **slots}


class Scanned(NamedTuple):
    """What a scan of one or several cells gives.

    Args:
        output: (batch, time_steps, units) with return_sequences, else (batch, units).
        states: (batch, units) each, cell by cell.
        trace: {name: (batch, time_steps, units)}; empty unless asked for.
    """

    output: Array
    states: list[Array]
    trace: dict[str, Array]


Scan = Generator[Any, Any, Scanned]


def scan(
    cells: Sequence[Cell], x: Array, states: Sequence[Array] | None, mask: Mask, options: Options
) -> Scan:
    """A stack of cells over a sequence.

    Args:
        cells: from the input upwards.
        x: (batch, time_steps, features), float32.
        states: flat, cell by cell; None for zeros.
        mask: (batch, time_steps), bool, or None.
    """
    given, final = list(states or ()), []
    for index, cell in enumerate(cells):
        last = index == len(cells) - 1
        count = len(cell.spec.states)
        start, given = given[:count], given[count:]
        result = yield from cell.forward(
            x,
            start or None,
            mask,
            last_output=last and not options.return_sequences,
            sequence=not last or options.return_sequences,
            trace=options.trace and last,
        )
        final += [result[name] for name in cell.spec.state_outputs]
        if not last:
            x = result["sequence"]
            if mask is not None and cell.go_backwards:
                mask = mask[:, ::-1]  # the sequence is in processing order
    output = result["sequence" if options.return_sequences else "last_output"]
    trace = {name: result[name] for name in cell.spec.trace_names} if options.trace else {}
    return Scanned(output, final, trace)


def run(*scans: Scan) -> list[Scanned]:
    """Drive scans that do not depend on each other, with one call of the engine at a time."""
    from recurra.engine.cpu import forward_many

    results: dict[int, Scanned] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(scans)))
    while answers:
        asking = []
        for index, answer in answers.items():
            try:
                asking.append((index, scans[index].send(answer)))
            except StopIteration as stop:
                results[index] = stop.value
        made = forward_many([request for _, request in asking]) if asking else []
        answers = {index: answer for (index, _), answer in zip(asking, made, strict=True)}
    return [results[index] for index in range(len(scans))]


def _in_engine(function: Activation) -> bool:
    """Whether the engine's activation of that name is this one."""
    return function.name in ACTIVATIONS and function == make(function.name)


def _untransposed(kernel: Array, gates: int, units: int) -> Array:
    """A kernel of a cuDNN layer, of which every gate's block is stored transposed."""
    rows = kernel.shape[0]
    blocks = [block.reshape(units, rows).T for block in np.split(kernel, gates, axis=1)]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1))
