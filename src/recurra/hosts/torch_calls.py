"""What the integers of a call to the torch operators mean; see `recurra.hosts.torch_ops`.

No torch in here: names and numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.engine import cpu
from recurra.engine.config import Config

X, KERNEL, RECURRENT_KERNEL, BIAS = range(4)
"""The engine's numbers of inputs, forward and backward."""

INPUTS = len(cpu.FORWARD_INPUTS)
MASK = cpu.FORWARD_INPUTS.index("mask")
STATES = 3
"""Outputs below this number are (B, U), the others (B, T, U)."""

_OPTIONS = len(Config("lstm").numbers) + 2  # integers per scan

MASK_KIND, STEPS = 6, 7
# What shape an array must have, by its name; everything else is STEPS, (B, T, U). See `fit`.
_KINDS = {"x": 0, "kernel": 1, "recurrent_kernel": 2, "h0": 5, "c0": 5, "mask": MASK_KIND}
_KINDS |= {"dropout_x": 8, "dropout_h": 9}
_KINDS |= {f"d_{name}": 5 for name in ("last_output", "state_h", "state_c")}
_DROPOUT = 8


def stack_shape(call: Call | BackwardCall, size: Sequence[Any]) -> tuple[Any, ...]:
    """Shape of a call's stack; `size` as `fit` gives it."""
    batch, time_steps, _, units, *_ = size
    config = call.config
    steps = config.checkpoints(time_steps) if config.checkpoint_every else time_steps
    return (len(call.stacked), batch, steps, units)


class Call:
    """One scan's forward call, decoded from its integers: made once and kept.

    config, numbers: the configuration, also as the engine's numbers.
    positions, kinds: of the arrays given: the engine's numbers, and numbers of shapes.
    outputs, produced: the results' names and the engine's numbers of them.
    output_count: how many outputs the engine numbers.
    has_stack: whether a stack follows the results; stacked: the engine's numbers of the slots in
        it, in order (without has_stack: those that would be in it).
    options: the integers; saving: those of the same call with a stack.
    unread: the engine's number of the input that the backward pass does not read, -1 for none.
    residuals: indices of the results that the backward pass reads; saved_count: how many arrays
        that makes with the inputs it reads; residual_bits: its mask of these and the stack;
        cotangent_bits: and of cotangents, by result.
    differentiable: pairs (index among the arrays given, index in DIFFERENTIABLE).
    sequence_is_trace: whether `sequence` is also the trace's hidden state.
    """

    __slots__ = (
        "config",
        "cotangent_bits",
        "differentiable",
        "gates",
        "has_stack",
        "kinds",
        "numbers",
        "options",
        "output_count",
        "outputs",
        "positions",
        "produced",
        "residual_bits",
        "residuals",
        "saved_count",
        "saving",
        "sequence_is_trace",
        "stacked",
        "unread",
    )

    def __init__(self, options: Sequence[int], *, sequence_is_trace: bool = False) -> None:
        *numbers, present, wanted = options
        self.options = list(options)
        self.numbers = numbers
        self.config = config = Config.from_numbers(numbers)
        self.gates = len(config.spec.gates)
        names = cpu.forward_outputs(config)
        self.output_count = len(names)
        self.positions = tuple(i for i in range(INPUTS) if present >> i & 1)
        self.kinds = tuple(_kind(config, cpu.FORWARD_INPUTS[i]) for i in self.positions)
        self.differentiable = tuple(
            (i, position) for i, position in enumerate(self.positions) if position < MASK
        )
        self.produced = tuple(i for i in range(len(names)) if wanted >> i & 1)
        self.outputs = tuple(names[i] for i in self.produced)
        self.sequence_is_trace = sequence_is_trace
        stand_in = cpu.hidden_state_is_sequence(
            config, mask=bool(present >> MASK & 1), sequence="sequence" in self.outputs
        )
        self.has_stack = bool(wanted >> len(names) & 1)
        self.stacked = tuple(
            i
            for i, name in enumerate(names)
            if name in config.slots
            and name not in self.outputs
            and not (stand_in and name == "hidden_state")
        )
        self.saving = [*numbers, present, wanted | (1 << len(names) if self.stacked else 0)]
        self.residuals = tuple(
            i
            for i, name in enumerate(self.outputs)
            if name in config.slots or (stand_in and name == "sequence")
        )
        backward = _backward_inputs(config)
        self.unread = -1 if "bias" in cpu.residuals(config) else BIAS
        saved = {cpu.FORWARD_INPUTS[i] for i in self.positions if i != self.unread}
        saved |= {self.outputs[i] for i in self.residuals}
        saved |= {"stack"} if self.stacked else set()
        self.residual_bits = sum(1 << backward.index(name) for name in saved)
        self.saved_count = len(saved) - bool(self.stacked)
        self.cotangent_bits = tuple(1 << backward.index(f"d_{name}") for name in self.outputs)


class BackwardCall:
    """One scan's backward call, decoded from its integers: made once and kept.

    positions, kinds: of the arrays given without the stack, as in `Call`.
    input_count: how many inputs the engine numbers.
    has_stack, stacked: whether a stack is given; the engine's numbers of the slots in it.
    gradients: indices in DIFFERENTIABLE of the gradients wanted.
    bias_rows: how many rows a bias has, 1: it is a vector.
    """

    __slots__ = (
        "bias_rows",
        "config",
        "gates",
        "gradients",
        "has_stack",
        "input_count",
        "kinds",
        "numbers",
        "positions",
        "stacked",
    )

    def __init__(self, options: Sequence[int]) -> None:
        *numbers, present, wanted = options
        self.numbers = numbers
        self.config = config = Config.from_numbers(numbers)
        self.gates = len(config.spec.gates)
        bias = config.weight_shapes(1, 1)["bias"]
        self.bias_rows = bias[0] if len(bias) == 2 else 1
        *names, _ = _backward_inputs(config)
        self.input_count = len(names)
        self.positions = tuple(i for i in range(len(names)) if present >> i & 1)
        given = {names[i] for i in self.positions}
        self.kinds = tuple(_kind(config, names[i]) for i in self.positions)
        self.has_stack = bool(present >> len(names) & 1)
        self.stacked = tuple(
            names.index(name)
            for name in config.slots
            if name not in given and not (name == "hidden_state" and "sequence" in given)
        )
        self.gradients = tuple(i for i in range(len(cpu.DIFFERENTIABLE)) if wanted >> i & 1)

    def gradient_shapes(self, size: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Shapes of the gradients wanted; `size` as `fit` gives it."""
        batch, time_steps, features, units, *_ = size
        width = self.gates * units
        state = (batch, units)
        # In the order of DIFFERENTIABLE.
        shapes: tuple[tuple[Any, ...], ...] = (
            (batch, time_steps, features),
            (features, width),
            (units, width),
            (width,) if self.bias_rows == 1 else (self.bias_rows, width),
            state,
            state,
        )
        return [shapes[i] for i in self.gradients]


_chosen: dict[tuple[Any, ...], Call] = {}
_calls: dict[tuple[int, ...], tuple[Call, ...]] = {}
_backward_calls: dict[tuple[int, ...], tuple[BackwardCall, ...]] = {}


def choose(config: Config, present: int, last_output: bool, sequence: bool, trace: bool) -> Call:
    """The call of one scan, without a stack.

    Args:
        present: which of FORWARD_INPUTS are given, as a bit mask.
        last_output, sequence, trace: what is wanted.
    """
    key = (config, present, last_output, sequence, trace)
    call = _chosen.get(key)
    if call is None:
        if trace:
            config = config.saving_every_step()
        names = cpu.present_outputs(
            config,
            mask=bool(present >> MASK & 1),
            last_output=last_output,
            sequence=sequence,
            slots=trace,
        )
        private = set(config.slots) - set(config.spec.trace_names)
        numbering = cpu.forward_outputs(config)
        wanted = sum(1 << numbering.index(name) for name in names if name not in private)
        call = _chosen[key] = Call(
            [*config.numbers, present, wanted],
            sequence_is_trace=trace and "hidden_state" not in names,
        )
    return call


def choose_by_options(
    cell: str,
    reset_after: bool,
    activation: str,
    recurrent_activation: str,
    go_backwards: bool,
    zero_output_for_mask: bool,
    checkpoint_every: int,
    bfloat16: bool,
    *rest: Any,
) -> Call:
    """`choose`, with the configuration's fields one by one.

    For torch.compile, which calls this function instead of tracing it: a configuration that is made
    in what it traces would not reach us whole.
    """
    config = Config(
        cell,
        reset_after=reset_after,
        activation=activation,
        recurrent_activation=recurrent_activation,
        go_backwards=go_backwards,
        zero_output_for_mask=zero_output_for_mask,
        checkpoint_every=checkpoint_every,
        bfloat16=bfloat16,
    )
    return choose(config, *rest)


choose_by_options._dynamo_marked_constant = True  # type: ignore[attr-defined]


def decode(options: Sequence[int]) -> tuple[Call, ...]:
    """The forward calls, one per `_OPTIONS` integers."""
    key = tuple(options)
    calls = _calls.get(key)
    if calls is None:
        calls = _calls[key] = tuple(Call(one) for one in _split(key))
    return calls


def decode_backward(options: Sequence[int]) -> tuple[BackwardCall, ...]:
    """The backward calls, one per `_OPTIONS` integers."""
    key = tuple(options)
    calls = _backward_calls.get(key)
    if calls is None:
        calls = _backward_calls[key] = tuple(BackwardCall(one) for one in _split(key))
    return calls


def fit(call: Call | BackwardCall, arrays: Sequence[Any]) -> list[Any]:
    """Batch, time steps, features, units, and how many dropout factors there are for x and h.

    Args:
        arrays: one scan's arrays that are there.

    Raises:
        ValueError: for the first array that does not fit the others.
    """
    x, recurrent_kernel = arrays[X], arrays[RECURRENT_KERNEL]
    if len(x.shape) != 3:
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected 3 dimensions: (batch, time_steps, features)"
        )
    if len(recurrent_kernel.shape) != 2:
        raise ValueError(
            f"recurrent_kernel has shape {tuple(recurrent_kernel.shape)}; expected 2 dimensions: "
            "(units, gates * units)"
        )
    batch, time_steps, features = x.shape
    units = recurrent_kernel.shape[0]
    width = call.gates * units
    shapes = (
        (batch, time_steps, features),
        (features, width),
        (units, width),
        (width,),
        (2, width),
        (batch, units),
        (batch, time_steps),
        (batch, time_steps, units),
    )
    counts = [0, 0]
    for index, (kind, array) in enumerate(zip(call.kinds, arrays, strict=False)):
        if kind < _DROPOUT:
            if array.shape != shapes[kind]:
                raise _misfit(call, index, array, shapes[kind], units, x)
        else:
            # One factor array for all gates, or one for each.
            shape = array.shape
            count = counts[kind - _DROPOUT] = call.gates if shape[0] == call.gates else 1
            expected = (count, batch, features if kind == _DROPOUT else units)
            if shape != expected:
                raise _misfit(call, index, array, expected, units, x)
    return [batch, time_steps, features, units, *counts]


def _misfit(
    call: Call | BackwardCall, index: int, array: Any, expected: Sequence[Any], units: Any, x: Any
) -> ValueError:
    config, position = call.config, call.positions[index]
    names = cpu.FORWARD_INPUTS if isinstance(call, Call) else cpu.backward_inputs(config)
    return ValueError(
        f"{names[position]} has shape {tuple(array.shape)}; expected {tuple(expected)} for a "
        f"{config.spec.layer} with {units} units on x of shape {tuple(x.shape)}."
    )


def _kind(config: Config, name: str) -> int:
    if name == "bias":
        return 2 + len(config.weight_shapes(1, 1)["bias"])
    return _KINDS.get(name, STEPS)


def _backward_inputs(config: Config) -> tuple[str, ...]:
    return (*cpu.backward_inputs(config), "stack")


def _split(options: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [options[i : i + _OPTIONS] for i in range(0, len(options), _OPTIONS)]
