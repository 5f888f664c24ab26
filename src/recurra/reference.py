"""The oracle: any cell's scan in float64 NumPy, forward and backward.

Written to be read, never optimised. The forward pass is the cell's own `step` in a plain loop over
time; the backward pass is reverse-mode differentiation of that same loop (`recurra._tape`), so no
derivative of a cell is written by hand here and the engine's are checked against it.

Both functions take the arrays and options of one call by name:

    x                 (batch, time_steps, features)
    kernel            (features, G * units), G being the number of gates, in Keras's gate order
    recurrent_kernel  (units, G * units)
    bias              (G * units,), or (2, G * units) for GRU with reset_after=True; or None
    h0, c0            (batch, units); None for zeros. c0 only for cells that have a cell state
    mask              (batch, time_steps), bool, True = keep; or None
    dropout_x         (1 or G, batch, features): factors on x, for all gates or for each; or None
    dropout_h         (1 or G, batch, units): factors on the previous hidden state where it enters
                      the recurrent product; or None

A masked step carries the state unchanged and repeats the previous output (zeros before the first
kept step, even if h0 is given), or gives zeros with zero_output_for_mask=True. The last output is
that of the last kept step either way.

With bfloat16=True every operand of a matrix product, in the backward pass as well, is rounded to
bfloat16 before it is multiplied: what the engine does for layers that compute in bfloat16. All else
stays exact.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurra._tape import Array, Var, gradients, where
from recurra.cells import CELLS, CellSpec

_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


@dataclass(frozen=True)
class Forward:
    """What `forward` computes, all float64; time runs in processing order, as in Keras's outputs.

    last_output  (batch, units): the last kept step's hidden state; zeros if a row has none, and
                 the initial hidden state if time_steps is 0.
    states       {state name: (batch, units)} after the last kept step, in the cell's order.
    sequence     (batch, time_steps, units): the output at every step.
    slots        {slot name: (batch, time_steps, units)}, in the order of `CellSpec.slots`. At a
                 masked step the states are the carried ones and everything else is 0.
    """

    last_output: Array
    states: dict[str, Array]
    sequence: Array
    slots: dict[str, Array]


@dataclass(frozen=True)
class Gradients:
    """What `backward` computes, each in the shape of its argument, float64.

    dbias is None if there is no bias. dh0 and dc0 are there even when the initial state was left
    out, as the gradient at zeros; dc0 is None for cells without a cell state.
    """

    dx: Array
    dkernel: Array
    drecurrent_kernel: Array
    dbias: Array | None
    dh0: Array
    dc0: Array | None


def forward(cell: str | CellSpec, x: ArrayLike, **arguments: Any) -> Forward:
    """Run a cell over a sequence.

    Args:
        cell: a name in `recurra.cells.CELLS`, or a definition.
        x: (batch, time_steps, features), any real dtype; computed in float64.
        **arguments: kernel, recurrent_kernel, and optionally bias, h0, c0, mask, dropout_x,
            dropout_h (arrays, see the top of this module), activation, recurrent_activation
            (names), reset_after, go_backwards, zero_output_for_mask, bfloat16 (bool).

    Raises:
        ValueError: if an array's shape does not fit, or an activation is unknown.

    Example:
        >>> import numpy as np
        >>> w = {"kernel": np.ones((2, 3)), "recurrent_kernel": np.zeros((3, 3))}
        >>> forward("simple_rnn", np.ones((1, 4, 2)), **w, activation="linear").last_output
        array([[2., 2., 2.]])

    Source: the equations of each definition in `recurra.cells`.
    """
    run = _Run(cell, x, **arguments)
    return Forward(
        last_output=run.last_output.value,
        states={name: var.value for name, var in run.state.items()},
        sequence=_stack(run.sequence, run.output_shape),
        slots={name: _stack(steps, run.output_shape) for name, steps in run.slots.items()},
    )


def backward(
    cell: str | CellSpec,
    x: ArrayLike,
    *,
    d_last: ArrayLike | None = None,
    d_state_h: ArrayLike | None = None,
    d_state_c: ArrayLike | None = None,
    d_sequence: ArrayLike | None = None,
    d_slots: Mapping[str, ArrayLike | None] | None = None,
    **arguments: Any,
) -> Gradients:
    """Gradients of `forward` for given cotangents of its results; None means zero.

    Args:
        cell, x, **arguments: as for `forward`.
        d_last, d_state_h, d_state_c: (batch, units), cotangents of the last output and the states.
        d_sequence: (batch, time_steps, units), of the sequence.
        d_slots: {slot name: (batch, time_steps, units)}, of any of the slots.

    Raises:
        ValueError: if an array's shape does not fit, or d_slots names a slot that does not exist.

    Example:
        >>> import numpy as np
        >>> w = {"kernel": np.ones((2, 3)), "recurrent_kernel": np.zeros((3, 3))}
        >>> x = np.ones((1, 4, 2))
        >>> backward("simple_rnn", x, **w, activation="linear", d_last=np.ones((1, 3))).dkernel
        array([[1., 1., 1.],
               [1., 1., 1.]])

    Source: reverse-mode differentiation of the loop in this module.
    """
    run = _Run(cell, x, **arguments)
    batch_units = (run.batch, run.units)
    outputs: list[tuple[Var, Array]] = []

    def seed(name: str, var: Var, cotangent: ArrayLike | None) -> None:
        if cotangent is not None:
            outputs.append((var, _checked(name, cotangent, batch_units)))

    def seed_steps(name: str, steps: list[Var], cotangent: ArrayLike | None) -> None:
        if cotangent is not None:
            array = _checked(name, cotangent, run.output_shape)
            outputs.extend((var, array[:, t]) for t, var in enumerate(steps))

    seed("d_last", run.last_output, d_last)
    for state in run.spec.state_table:
        given = {"state_h": d_state_h, "state_c": d_state_c}[state.output]
        seed(f"d_{state.output}", run.state[state.name], given)
    if d_state_c is not None and "state_c" not in run.spec.state_outputs:
        raise ValueError(f"d_state_c was given, but {run.spec.layer} has no cell state.")
    seed_steps("d_sequence", run.sequence, d_sequence)
    for name, cotangent in (d_slots or {}).items():
        if name not in run.slots:
            raise ValueError(f"d_slots names {name!r}; the slots are {', '.join(run.slots)}.")
        seed_steps(f"d_slots[{name!r}]", run.slots[name], cotangent)

    leaves = [run.kernel, run.recurrent_kernel, run.bias, *run.initial.values(), *run.x]
    dkernel, drecurrent_kernel, dbias, *rest = gradients(outputs, leaves)
    dinitial = dict(zip((s.symbol for s in run.spec.state_table), rest, strict=False))
    dsteps = rest[len(dinitial) :]
    dx = np.zeros((run.batch, len(dsteps), run.features))
    for t, dstep in enumerate(dsteps):
        dx[:, t] = dstep
    return Gradients(
        dx=dx,
        dkernel=dkernel,
        drecurrent_kernel=drecurrent_kernel,
        dbias=dbias if run.has_bias else None,
        dh0=dinitial["h"],
        dc0=dinitial.get("c"),
    )


class _Run:
    """The loop over time, on `Var`s: the attributes are its arguments and results."""

    def __init__(
        self,
        cell: str | CellSpec,
        x: ArrayLike,
        *,
        kernel: ArrayLike,
        recurrent_kernel: ArrayLike,
        bias: ArrayLike | None = None,
        h0: ArrayLike | None = None,
        c0: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        dropout_x: ArrayLike | None = None,
        dropout_h: ArrayLike | None = None,
        activation: str = "tanh",
        recurrent_activation: str | None = "sigmoid",
        reset_after: bool | None = None,
        go_backwards: bool = False,
        zero_output_for_mask: bool = False,
        bfloat16: bool = False,
    ) -> None:
        spec = self.spec = CELLS[cell] if isinstance(cell, str) else cell
        values = np.asarray(x, dtype=np.float64)
        if values.ndim != 3:
            raise ValueError(f"x has shape {values.shape}; expected (batch, time_steps, features).")
        self.batch, time_steps, self.features = values.shape
        self.units = np.shape(recurrent_kernel)[0]
        self.output_shape = (self.batch, time_steps, self.units)
        batch_units = (self.batch, self.units)

        # Weights. A missing bias is a bias of zeros whose gradient nobody asks for.
        shapes = spec.weight_shapes(self.features, self.units, reset_after)
        self.has_bias = bias is not None
        self.kernel = Var(_checked("kernel", kernel, shapes["kernel"]))
        self.recurrent_kernel = Var(
            _checked("recurrent_kernel", recurrent_kernel, shapes["recurrent_kernel"])
        )
        self.bias = Var(
            np.zeros(shapes["bias"]) if bias is None else _checked("bias", bias, shapes["bias"])
        )
        two_biases = len(shapes["bias"]) == 2
        kernels = self._by_gate(self.kernel)
        recurrent_kernels = self._by_gate(self.recurrent_kernel)
        biases = self._by_gate(self.bias[0] if two_biases else self.bias)
        recurrent_biases = self._by_gate(self.bias[1]) if two_biases else None

        # State.
        given = {"h": ("h0", h0), "c": ("c0", c0)}
        self.initial: dict[str, Var] = {}
        for state in spec.state_table:
            name, start = given.pop(state.symbol)
            self.initial[state.name] = Var(
                np.zeros(batch_units) if start is None else _checked(name, start, batch_units)
            )
        for name, start in given.values():
            if start is not None:
                raise ValueError(f"{name} was given, but {spec.layer} has no such state.")

        # Masks.
        if mask is not None and np.shape(mask) != (self.batch, time_steps):
            raise ValueError(
                f"mask has shape {np.shape(mask)}; expected {(self.batch, time_steps)}, "
                "(batch, time_steps)."
            )
        keep = np.ones((self.batch, time_steps), bool) if mask is None else np.asarray(mask, bool)
        factors_x = self._factors("dropout_x", dropout_x, self.features)
        factors_h = self._factors("dropout_h", dropout_h, self.units)

        # Activations.
        names = spec.gate_activations(activation, recurrent_activation)
        by_role = {gate.role: names[gate.name] for gate in spec.gate_table}
        act = _on_tape(by_role.get("activation", activation))
        recurrent_act = _on_tape(by_role.get("recurrent_activation", activation))
        slot_names = spec.slots(activation, recurrent_activation, reset_after)

        product = _bfloat16_product if bfloat16 else operator.matmul

        def recurrent(h: Var, gates: tuple[str, ...]) -> dict[str, Var]:
            products = {
                gate: product(h * factors_h[gate], recurrent_kernels[gate]) for gate in gates
            }
            if recurrent_biases is None:
                return products
            return {gate: products[gate] + recurrent_biases[gate] for gate in gates}

        # The scan.
        zeros = np.zeros(batch_units)
        self.x = [Var(values[:, t]) for t in range(time_steps)]
        self.state = dict(self.initial)
        self.sequence: list[Var] = []
        self.slots: dict[str, list[Var]] = {name: [] for name in slot_names}
        self.last_output = self.initial["hidden_state"] if time_steps == 0 else Var(zeros)
        order = reversed(range(time_steps)) if go_backwards else range(time_steps)
        with np.errstate(over="ignore", invalid="ignore"):
            for t in order:
                kept = keep[:, t, np.newaxis]
                gx = {
                    gate: product(self.x[t] * factors_x[gate], kernels[gate]) + biases[gate]
                    for gate in spec.gates
                }
                new_state, record = spec.step(
                    gx, self.state, recurrent, act, recurrent_act, **spec.choose(reset_after)
                )
                output = new_state["hidden_state"]
                self.state = {n: where(kept, new_state[n], self.state[n]) for n in spec.states}
                self.last_output = where(kept, output, self.last_output)
                self.sequence.append(
                    where(kept, output, zeros) if zero_output_for_mask else self.last_output
                )
                for name, steps in self.slots.items():
                    is_state = name in spec.states
                    steps.append(self.state[name] if is_state else where(kept, record[name], zeros))

    def _by_gate(self, weights: Var) -> dict[str, Var]:
        """Split the last axis into the gates' blocks."""
        width = self.units
        return {
            gate: weights[..., i * width : (i + 1) * width]
            for i, gate in enumerate(self.spec.gates)
        }

    def _factors(self, name: str, given: ArrayLike | None, width: int) -> dict[str, Any]:
        """Dropout factors by gate: (batch, width) each, or 1.0 for none."""
        gates = self.spec.gates
        if given is None:
            return dict.fromkeys(gates, 1.0)
        array = np.asarray(given, dtype=np.float64)
        if array.shape not in {(1, self.batch, width), (len(gates), self.batch, width)}:
            raise ValueError(
                f"{name} has shape {array.shape}; expected (1, {self.batch}, {width}) for one "
                f"mask or ({len(gates)}, {self.batch}, {width}) for one per gate."
            )
        return {gate: array[i if len(array) > 1 else 0] for i, gate in enumerate(gates)}


def _checked(name: str, array: ArrayLike, shape: tuple[int, ...]) -> Array:
    values = np.asarray(array, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}; expected {shape}.")
    return values


def _stack(steps: list[Var], shape: tuple[int, ...]) -> Array:
    """Per-step arrays (batch, units) as one of `shape`, (batch, time_steps, units)."""
    stacked = np.zeros(shape)
    for t, step in enumerate(steps):
        stacked[:, t] = step.value
    return stacked


def to_bfloat16(values: ArrayLike) -> Array:
    """Each value as float32, rounded to the nearest bfloat16, ties to even; in float64.

    Example:
        >>> to_bfloat16([1.0, 1.00390625, 1.01171875, float("inf")])
        array([1.     , 1.     , 1.015625,      inf])
    """
    with np.errstate(over="ignore"):
        single = np.asarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    nearest = bits + (0x7FFF + (bits >> 16 & 1)).astype(np.uint32)
    kept = np.where(np.isnan(single), bits | 0x400000, nearest) & np.uint32(0xFFFF0000)
    return kept.astype(np.uint32).view(np.float32).astype(np.float64)


def _bfloat16_product(a: Var, b: Var) -> Var:
    """a @ b of rounded operands, differentiated as if nothing were rounded but operands."""

    def rounded(var: Var) -> Var:
        return Var(to_bfloat16(var.value), ((var, lambda d: d),))

    product = rounded(a) @ rounded(b)
    return Var(product.value, ((product, to_bfloat16),))


def _on_tape(name: str) -> Callable[[Var], Var]:
    function, slope = ACTIVATION_FUNCTIONS[name]
    return lambda var: var.map(function, slope)


# The activations and their derivatives. At a kink the derivative is the one that follows from the
# function's value alone: 0 for relu and hard_sigmoid, the left one for selu.


def sigmoid(v: Array) -> Array:
    """1 / (1 + exp(-v)), without overflow and with full relative precision for negative v."""
    small = np.exp(-np.abs(v))
    return np.where(v >= 0, 1.0, small) / (1.0 + small)


def _erfc(v: Array) -> Array:
    return np.vectorize(math.erfc, otypes=[np.float64])(v)


def _normal_cdf(v: Array) -> Array:
    return 0.5 * _erfc(-v / math.sqrt(2.0))


def _normal_pdf(v: Array) -> Array:
    return np.exp(-0.5 * v * v) / math.sqrt(2.0 * math.pi)


def _elu(v: Array) -> Array:
    return np.where(v > 0, v, np.expm1(np.minimum(v, 0.0)))


def _elu_slope(v: Array) -> Array:
    return np.where(v > 0, 1.0, np.exp(np.minimum(v, 0.0)))


def _inside(v: NDArray[np.bool_]) -> Array:
    return v.astype(np.float64)


ACTIVATION_FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "linear": (lambda v: v, np.ones_like),
    "tanh": (np.tanh, lambda v: 1.0 - np.tanh(v) ** 2),
    "sigmoid": (sigmoid, lambda v: sigmoid(v) * sigmoid(-v)),
    "hard_sigmoid": (
        lambda v: np.clip(v / 6.0 + 0.5, 0.0, 1.0),
        lambda v: _inside(np.abs(v) < 3.0) / 6.0,
    ),
    "relu": (lambda v: np.maximum(v, 0.0), lambda v: _inside(v > 0)),
    "softsign": (lambda v: v / (1.0 + np.abs(v)), lambda v: 1.0 / (1.0 + np.abs(v)) ** 2),
    "elu": (_elu, _elu_slope),
    "selu": (
        lambda v: _SELU_SCALE * np.where(v > 0, v, _SELU_ALPHA * _elu(v)),
        lambda v: _SELU_SCALE * np.where(v > 0, 1.0, _SELU_ALPHA * _elu_slope(v)),
    ),
    "gelu": (lambda v: v * _normal_cdf(v), lambda v: _normal_cdf(v) + v * _normal_pdf(v)),
    "silu": (
        lambda v: v * sigmoid(v),
        lambda v: sigmoid(v) * (1.0 + v * sigmoid(-v)),
    ),
    "exponential": (np.exp, np.exp),
    "softplus": (lambda v: np.logaddexp(v, 0.0), sigmoid),
}
"""{name: (function, derivative)} on float64 arrays, one for every name in `cells.ACTIVATIONS`."""
