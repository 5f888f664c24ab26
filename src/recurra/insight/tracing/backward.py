"""The loss's gradient by every step's state: a scan's way back through time, on NumPy arrays.

What a layer's results cost (their cotangents) comes from the host's autodiff; what its states cost
at every step no framework shows, so the way back is walked here. It follows from the cell's
definition alone. The engine's backward pass gives the gradients by the gates' pre-activations: they
are the gradients by x where x holds the input's products and its kernel is 1. From these follows
what recurrent products cost, for all steps at once. All else in a step is elementwise: each of its
results is, to first order, a sum of (factor) · (change of a state before it). Reverse-mode
differentiation of the definition gives the factors, and the loop over time that is left multiplies
and adds.
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
from recurra.engine.cpu import backward, forward
from recurra.reference import ACTIVATION_FUNCTIONS

Array = NDArray[Any]

_AT_ONCE = 1 << 26  # pre-activations of all steps that are held at a time: 256 MiB in float32
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
    batch, time_steps, _ = x.shape
    rows = max(1, _AT_ONCE // max(1, time_steps * kernel.shape[1]))
    found = []
    for start in range(0, max(batch, 1), rows):
        part = slice(start, start + rows)
        walk = _Walk(
            config,
            kernel,
            recurrent_kernel,
            bias,
            x[part],
            None if states is None else [state[part] for state in states],
            None if mask is None else mask[part],
            {name: array[part] for name, array in cotangents.items()},
        )
        walk.run()
        found.append(Pulled(walk.states, walk.dx() if wants_dx else None))
    if len(found) == 1:
        return found[0]
    return Pulled(
        {name: np.concatenate([each.states[name] for each in found]) for name in found[0].states},
        np.concatenate([each.dx for each in found]) if wants_dx else None,
    )


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
    ) -> None:
        self.config, self.spec = config, config.spec
        self.kernel, self.recurrent_kernel = kernel, recurrent_kernel
        self.batch, self.time_steps, _ = x.shape
        self.units = recurrent_kernel.shape[0]
        self.dtype = x.dtype
        self.bias: Array | None = bias
        self.recurrent_bias: Array | None = None
        if bias is not None and bias.ndim == 2:
            self.bias, self.recurrent_bias = bias[0], bias[1]
        # What is kept at each step, (time_steps, batch, 1); None where nothing is masked.
        self.keep = None
        if mask is not None and not mask.all():
            self.keep = np.asarray(mask, bool).T[..., np.newaxis]
        given = {name: np.asarray(array, self.dtype) for name, array in cotangents.items()}
        self.cotangents = {
            name: array.transpose(1, 0, 2) if array.ndim == 3 else array
            for name, array in given.items()
        }
        shape = (self.batch, self.time_steps, self.units)
        self.states = {name: np.zeros(shape, self.dtype) for name in self.spec.states}
        self.gx = x @ kernel
        self.before, self.dgx = self._by_pre_activation(bias, states, mask, given)
        self.transposed: dict[tuple[str, ...], Array] = {}

    def dx(self) -> Array:
        """The gradient by the input."""
        return self.dgx @ self.kernel.T

    def _by_pre_activation(
        self,
        bias: Array | None,
        states: Sequence[Array] | None,
        mask: Array | None,
        cotangents: Cotangents,
    ) -> tuple[dict[str, Array], Array]:
        """Every state as it is before each step, and the gradient by the input's products."""
        table = self.spec.state_table
        # Its products in bfloat16 would round the pre-activations, which are not rounded there.
        config = replace(self.config, go_backwards=False, checkpoint_every=0, bfloat16=False)
        inputs = {
            "x": self.gx,
            "kernel": np.eye(self.kernel.shape[1], dtype=self.dtype),
            "recurrent_kernel": self.recurrent_kernel,
            "bias": bias,
            "mask": mask,
            **dict(zip((f"{s.symbol}0" for s in table), states or (), strict=False)),
        }
        found = forward(
            config,
            **inputs,  # type: ignore[arg-type]
            last_output=False,
            sequence=False,
            slots=True,
        )
        before = {}
        for index, state in enumerate(table):
            array = np.empty((self.time_steps, self.batch, self.units), self.dtype)
            if self.time_steps:
                array[0] = 0 if states is None else states[index]
                array[1:] = found[state.name].transpose(1, 0, 2)[:-1]
            before[state.name] = array
        return before, backward(config, inputs, found, cotangents, wanted=("x",))["x"]

    def run(self) -> None:
        """Fill `states`."""
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
        changes = {name: np.empty(size, self.dtype) for name in (*names, *records)}
        changes |= self._by_products(block, factors)
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
        return after, output

    def _step_back(self, factors: _Factors, i: int, changes: dict[str, Array]) -> dict[str, Array]:
        """From the gradients by a step's results to those by the states before it."""
        before = {}
        for name, by_result in factors.states.items():
            total = np.zeros((self.batch, self.units), self.dtype)
            for result, factor in by_result.items():
                change = changes[result][i]
                total += change if factor is None else factor[i] * change
            before[name] = total
        return before

    def _by_products(self, block: slice, factors: _Factors) -> dict[str, Array]:
        """What is multiplied with the recurrent kernel, by "phase_<i>": (steps, batch, units)."""
        dgx = self.dgx[:, block].transpose(1, 0, 2)
        count = len(dgx)
        found = {}
        for index, through in enumerate(factors.phases):
            costs = np.concatenate(
                [
                    dgx[..., self._columns(gate)] * (1 if factor is None else factor)
                    for gate, factor in through.items()
                ],
                axis=2,
            )
            products = costs.reshape(count * self.batch, -1) @ self._transposed(tuple(through))
            found[f"phase_{index}"] = products.reshape(count, self.batch, self.units)
        return found

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
        given = self.gx[:, block].transpose(1, 0, 2)
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
            pre = {gate: record[f"pre_{gate}"] for gate in spec.gates}
            return _differentiate(spec, results, new, pre, states, products, records, self.dtype)


@dataclass(frozen=True)
class _Factors:
    """Elementwise factors of a block of steps, (steps, batch, units) each, by result.

    records: gates that have a cotangent of their own.
    phases: for each recurrent product {gate: what a change of the product is to the gate's
        pre-activation, or None for 1}.
    states: {state before the step: {result: factor, or None for 1}}. Results are the new states,
        the records, and "phase_<i>": what is multiplied with the recurrent kernel.
    among_states: {new state: {other new state: factor}}: what of the second is the first's doing.
    """

    records: tuple[str, ...]
    phases: list[dict[str, Array | None]]
    states: dict[str, dict[str, Array | None]]
    among_states: dict[str, dict[str, Array]]


def _differentiate(
    spec: CellSpec,
    results: Mapping[str, Var],
    new: Mapping[str, Var],
    pre: Mapping[str, Var],
    states: Mapping[str, Var],
    products: Sequence[Mapping[str, Var]],
    records: tuple[str, ...],
    dtype: Any,
) -> _Factors:
    def slopes(of: Var, by: Sequence[Var]) -> list[Array]:
        return [each.astype(dtype) for each in gradients([(of, np.ones(of.shape))], by)]

    phases: list[dict[str, Array | None]] = []
    for phase in products:
        through = {gate: slopes(pre[gate], [product])[0] for gate, product in phase.items()}
        phases.append({gate: None if np.all(f == 1) else f for gate, f in through.items()})
    by_state: dict[str, dict[str, Array | None]] = {name: {} for name in states}
    for result, var in results.items():
        leaf = next((name for name, state in states.items() if state is var), None)
        if leaf is not None:
            by_state[leaf][result] = None
            continue
        for name, factor in zip(states, slopes(var, [*states.values()]), strict=True):
            if factor.any():
                by_state[name][result] = factor
    among: dict[str, dict[str, Array]] = {name: {} for name in spec.states[1:]}
    for name, factors in among.items():
        for other in spec.states:
            if other != name:
                (factor,) = slopes(new[other], [new[name]])
                if factor.any():
                    factors[other] = factor
    return _Factors(records, phases, by_state, among)


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
