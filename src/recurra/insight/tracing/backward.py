"""The loss's gradient by every step's state: a scan's way back through time, on NumPy arrays.

What a layer's results cost (their cotangents) comes from the host's autodiff; what its states cost
at every step no framework shows, so the way back is walked here. It follows from the cell's
definition alone. A step is elementwise but for its recurrent products, so each of its results is,
to first order, a sum of (elementwise factor) · (change of an input of the step), and a recurrent
product's change is a matrix product. Reverse-mode differentiation of the definition gives the
factors, for many steps at once; the loop over time that is left multiplies and adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra._tape import Var, gradients
from recurra.cells import CellSpec
from recurra.engine import Config
from recurra.engine.cpu import forward
from recurra.reference import ACTIVATION_FUNCTIONS

Array = NDArray[Any]

_BLOCK = 1 << 15  # elements of a state for which factors are computed at once


@dataclass(frozen=True)
class Pulled:
    """What a way back gives; time in processing order.

    states: {name of a state: (batch, time_steps, units)}: the loss's gradient by the state as it is
        after that step, through everything that reads it. For masked steps it is that of the state
        that they carry on.
    dx: (batch, time_steps, features), by the input; None unless it was asked for.
    """

    states: dict[str, Array]
    dx: Array | None = None


Cotangents = Mapping[str, Array]
"""The loss's gradient by results of a scan, what is left out is zero: "sequence" (batch,
time_steps, units), "last_output" (batch, units), the final states by their names ("state_h"), and
anything that a layer's own trace shows, by name (batch, time_steps, units)."""


def scan_gradients(
    config: Config,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    *,
    x: Array,
    states: Sequence[Array] | None = None,
    mask: Array | None = None,
    cotangents: Cotangents,
    wants_dx: bool = False,
) -> Pulled:
    """Walk back through the scan of a cell that the engine computes.

    Args:
        config: the cell; its go_backwards is ignored, time runs as in x here.
        kernel, recurrent_kernel, bias: as for `recurra.engine.cpu.forward`, of x's type.
        x: (batch, time_steps, features), float32 or float64.
        states: to start from, (batch, units) each; None for zeros.
        mask: (batch, time_steps), True = keep; None to keep all.
        cotangents: see `Cotangents`.
        wants_dx: whether the gradient by x is computed too.
    """
    walk = _Walk(config, kernel, recurrent_kernel, bias, x, states, mask, cotangents, wants_dx)
    walk.run()
    return Pulled(walk.states, walk.dx)


class _Walk:
    """The loop backwards; arrays inside of it are time-major, (time_steps, batch, ...)."""

    def __init__(
        self,
        config: Config,
        kernel: Array,
        recurrent_kernel: Array,
        bias: Array | None,
        x: Array,
        states: Sequence[Array] | None,
        mask: Array | None,
        cotangents: Cotangents,
        wants_dx: bool,
    ) -> None:
        self.config, self.spec = config, config.spec
        self.x, self.kernel, self.recurrent_kernel = x, kernel, recurrent_kernel
        self.batch, self.time_steps, _ = x.shape
        self.units = recurrent_kernel.shape[0]
        self.dtype = x.dtype
        self.bias: Array | None = bias
        self.recurrent_bias: Array | None = None
        if bias is not None and bias.ndim == 2:
            self.bias, self.recurrent_bias = bias[0], bias[1]
        self.before = self._states_before(bias, states, mask)
        # What is kept at each step, (time_steps, batch, 1); None where nothing is masked.
        self.keep = None
        if mask is not None and not mask.all():
            self.keep = np.asarray(mask, bool).T[..., np.newaxis]
        self.cotangents = {name: self._ready(array) for name, array in cotangents.items()}
        shape = (self.batch, self.time_steps, self.units)
        self.states = {name: np.zeros(shape, self.dtype) for name in self.spec.states}
        self.dx = np.zeros(x.shape, self.dtype) if wants_dx else None
        self.transposed: dict[tuple[str, ...], Array] = {}

    def _states_before(
        self, bias: Array | None, states: Sequence[Array] | None, mask: Array | None
    ) -> dict[str, Array]:
        """Every state as it is before each step."""
        table = self.spec.state_table
        start = dict(zip((f"{s.symbol}0" for s in table), states or (), strict=False))
        found = forward(
            _forwards(self.config),
            x=self.x,
            kernel=self.kernel,
            recurrent_kernel=self.recurrent_kernel,
            bias=bias,
            mask=mask,
            last_output=False,
            sequence=False,
            slots=True,
            **start,
        )
        before = {}
        for index, state in enumerate(table):
            array = np.empty((self.time_steps, self.batch, self.units), self.dtype)
            if self.time_steps:
                array[0] = 0 if states is None else states[index]
                array[1:] = found[state.name].transpose(1, 0, 2)[:-1]
            before[state.name] = array
        return before

    def _ready(self, array: Array) -> Array:
        array = np.asarray(array, self.dtype)
        return array.transpose(1, 0, 2) if array.ndim == 3 else array

    def run(self) -> None:
        """Fill `states` and `dx`."""
        zeros = np.zeros((self.batch, self.units), self.dtype)
        # By what comes after the step: the states that it hands on, and the output that later
        # masked steps repeat.
        after = {s.name: self.cotangents.get(s.output, zeros) for s in self.spec.state_table}
        output = self.cotangents.get("last_output", zeros)
        steps = max(1, _BLOCK // max(1, self.batch * self.units))
        for stop in range(self.time_steps, 0, -steps):
            block = slice(max(0, stop - steps), stop)
            after, output = self._block(block, after, output)

    def _block(
        self, block: slice, after: dict[str, Array], output: Array
    ) -> tuple[dict[str, Array], Array]:
        timed = [a[block] for a in self.cotangents.values() if a.ndim == 3]
        if not any(array.any() for array in (*timed, *after.values(), output)):
            return after, output  # the gradient has vanished; all of it is zero from here on
        factors = self._factors(block)
        names = self.spec.states
        hidden = names[0]
        given = {name: self.cotangents.get(name) for name in ("sequence", *names)}
        records = {g: self.cotangents[g] for g in factors.records}
        count = block.stop - block.start
        size = (count, self.batch, self.units)
        changes: dict[str, Array] = {name: np.empty(size, self.dtype) for name in factors.results}
        for i in range(count - 1, -1, -1):
            t = block.start + i
            keep = None if self.keep is None else self.keep[t]
            if given["sequence"] is not None:
                cotangent = given["sequence"][t]
                if keep is not None and self.config.zero_output_for_mask:
                    cotangent = np.where(keep, cotangent, 0)
                output = output + cotangent
            for name in names:
                if (cotangent := given[name]) is not None:
                    after[name] = after[name] + cotangent[t]
            by_state = {**after, hidden: after[hidden] + output}
            self.states[hidden][:, t] = by_state[hidden]
            now = {
                name: by_state[name] if keep is None else np.where(keep, by_state[name], 0)
                for name in names
            }
            for name in names[1:]:
                direct = factors.among_states[name]
                through = sum(direct[other][i] * now[other] for other in direct)
                self.states[name][:, t] = by_state[name] + through
            for name in names:
                changes[name][i] = now[name]
            for gate, cotangent in records.items():
                changes[gate][i] = cotangent[t] if keep is None else np.where(keep, cotangent[t], 0)
            before = self._step_back(factors, i, changes)
            if keep is None:
                after, output = before, np.zeros_like(output)
            else:
                after = {name: np.where(keep, before[name], after[name]) for name in names}
                output = np.where(keep, 0, output)
        if self.dx is not None:
            self._add_dx(block, factors, changes)
        return after, output

    def _step_back(self, factors: _Factors, i: int, changes: dict[str, Array]) -> dict[str, Array]:
        """From the gradients by a step's results to those by the states before it."""
        for index in range(len(factors.phases) - 1, -1, -1):
            gates, by_result = factors.phases[index]
            products = _weighted(by_result, changes, i)
            if products is not None:
                transposed = self._transposed(gates)
                changes[f"phase_{index}"][i] = products.reshape(self.batch, -1) @ transposed
            else:
                changes[f"phase_{index}"][i] = 0
        before = {}
        for name, by_new in factors.states.items():
            total = np.zeros((self.batch, self.units), self.dtype)
            for result, factor in by_new.items():
                change = changes[result][i]
                total += change if factor is None else factor[i] * change
            before[name] = total
        return before

    def _add_dx(self, block: slice, factors: _Factors, changes: dict[str, Array]) -> None:
        assert self.dx is not None
        count = block.stop - block.start
        width = len(self.spec.gates) * self.units
        total = np.zeros((count, self.batch, len(self.spec.gates), self.units), self.dtype)
        for result, factor in factors.inputs.items():
            total += factor * changes[result][:, :, np.newaxis]
        by_input = total.reshape(count * self.batch, width) @ self.kernel.T
        self.dx[:, block] = by_input.reshape(count, self.batch, -1).transpose(1, 0, 2)

    def _transposed(self, gates: tuple[str, ...]) -> Array:
        """The gates' columns of the recurrent kernel, one below the other, transposed."""
        if gates not in self.transposed:
            self.transposed[gates] = np.ascontiguousarray(
                np.concatenate([self.recurrent_kernel[:, self._columns(g)] for g in gates], 1).T
            )
        return self.transposed[gates]

    def _columns(self, gate: str) -> slice:
        index = self.spec.gates.index(gate)
        return slice(index * self.units, (index + 1) * self.units)

    # --- The factors ---

    def _factors(self, block: slice) -> _Factors:
        """Differentiate the definition's step at all of a block's steps."""
        spec = self.spec
        given = self.x[:, block].transpose(1, 0, 2) @ self.kernel
        if self.bias is not None:
            given = given + self.bias
        gx = {gate: Var(given[..., self._columns(gate)]) for gate in spec.gates}
        states = {name: Var(array[block]) for name, array in self.before.items()}
        arguments: list[Var] = []
        products: list[dict[str, Var]] = []

        def recurrent(h: Var, gates: tuple[str, ...]) -> dict[str, Var]:
            value = h.value.astype(self.dtype)
            found = {}
            for gate in gates:
                columns = self._columns(gate)
                product = value @ self.recurrent_kernel[:, columns]
                if self.recurrent_bias is not None:
                    product = product + self.recurrent_bias[columns]
                found[gate] = Var(product)
            arguments.append(h)
            products.append(found)
            return found

        names = spec.gate_activations(self.config.activation, self.config.recurrent_activation)
        by_role = {gate.role: names[gate.name] for gate in spec.gate_table}
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            new, record = spec.step(
                gx,
                states,
                recurrent,
                _on_tape(by_role.get("activation", self.config.activation)),
                _on_tape(by_role.get("recurrent_activation", self.config.activation)),
                **spec.choose(self.config.reset_after),
            )
            records = tuple(gate for gate in spec.gates if gate in self.cotangents)
            results = {
                **new,
                **{gate: record[gate] for gate in records},
                **{f"phase_{i}": argument for i, argument in enumerate(arguments)},
            }
            return _differentiate(spec, results, new, gx, states, products, records, self.dtype)


@dataclass(frozen=True)
class _Factors:
    """Elementwise factors of a block of steps, (steps, batch, units) each, by result.

    results: the new states, recorded gates that have a cotangent, and "phase_<i>": what is
        multiplied with the recurrent kernel.
    phases: for each recurrent product its gates, and by result (steps, batch, gates, units).
    states: {state before the step: {result: factor, or None for 1}}.
    inputs: {result: (steps, batch, gates, units)}, by the input's products.
    among_states: {new state: {other new state: factor}}: what of the second is the first's doing.
    """

    results: tuple[str, ...]
    records: tuple[str, ...]
    phases: list[tuple[tuple[str, ...], dict[str, Array]]]
    states: dict[str, dict[str, Array | None]]
    inputs: dict[str, Array]
    among_states: dict[str, dict[str, Array]]


def _differentiate(
    spec: CellSpec,
    results: Mapping[str, Var],
    new: Mapping[str, Var],
    gx: Mapping[str, Var],
    states: Mapping[str, Var],
    products: Sequence[Mapping[str, Var]],
    records: tuple[str, ...],
    dtype: Any,
) -> _Factors:
    leaves = [*gx.values(), *(v for phase in products for v in phase.values()), *states.values()]
    phases: list[tuple[tuple[str, ...], dict[str, Array]]] = [(tuple(p), {}) for p in products]
    by_state: dict[str, dict[str, Array | None]] = {name: {} for name in states}
    inputs: dict[str, Array] = {}
    for result, var in results.items():
        leaf = next((name for name, state in states.items() if state is var), None)
        if leaf is not None:
            by_state[leaf][result] = None
            continue
        found = iter(gradients([(var, np.ones(var.shape))], leaves))
        _put(inputs, result, [next(found) for _ in gx], dtype)
        for gates, by_result in phases:
            _put(by_result, result, [next(found) for _ in gates], dtype)
        for name in states:
            factor = next(found)
            if factor.any():
                by_state[name][result] = factor.astype(dtype)
    among: dict[str, dict[str, Array]] = {name: {} for name in spec.states[1:]}
    for name, factors in among.items():
        for other in spec.states:
            if other != name:
                (factor,) = gradients([(new[other], np.ones(new[other].shape))], [new[name]])
                if factor.any():
                    factors[other] = factor.astype(dtype)
    return _Factors(tuple(results), records, phases, by_state, inputs, among)


def _put(where: dict[str, Array], result: str, factors: list[Array], dtype: Any) -> None:
    if any(factor.any() for factor in factors):
        where[result] = np.stack(factors, axis=2).astype(dtype)


def _weighted(by_result: Mapping[str, Array], changes: Mapping[str, Array], i: int) -> Any:
    """The sum of factor · change over results, (batch, gates, units); None if there are none."""
    total = None
    for result, factor in by_result.items():
        part = factor[i] * changes[result][i][:, np.newaxis]
        total = part if total is None else np.add(total, part, out=part)
    return total


# Of the usual activations the slope follows from the value, without another exponential.
_SLOPES_OF_VALUES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda y: y * (1.0 - y),
    "tanh": lambda y: 1.0 - y * y,
}


def _on_tape(name: str) -> Callable[[Var], Var]:
    """An activation whose slope is computed once, however many results are differentiated."""
    function, slope_at = ACTIVATION_FUNCTIONS[name]
    slope_of_value = _SLOPES_OF_VALUES.get(name)

    def activate(var: Var) -> Var:
        value = function(var.value)
        slope = slope_at(var.value) if slope_of_value is None else slope_of_value(value)
        return Var(value, ((var, lambda d: d * slope),))

    return activate


def _forwards(config: Config) -> Config:
    return replace(config, go_backwards=False, checkpoint_every=0)
