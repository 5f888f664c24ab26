"""What is fixed about a scan in TensorFlow: names of arrays, and the operations' numbers for them.

The attribute `problems` of the compiled operations holds integers for each scan, described in
`tensorflow_op.cpp`. `Plan` writes them and `Plan.decode` reads them back, so that an operation's
gradient follows from the operation alone, also in a graph that was loaded from somewhere.

Imports no framework.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from recurra.engine import cpu
from recurra.engine.config import Config

NUMBERS = 14
"""Integers per scan in the operations' attribute `problems`."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Names of one scan's arrays, in the engine's order.

    inputs: the arrays given, the mask included.
    outputs: the results that the caller sees, and gradients flow from.
    cached: the slots that only the backward pass reads.
    """

    config: Config
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cached: tuple[str, ...]

    @functools.cached_property
    def arrays(self) -> tuple[str, ...]:
        """The inputs that are numbers, and not truth values."""
        return tuple(name for name in self.inputs if name != "mask")

    @functools.cached_property
    def kept(self) -> tuple[str, ...]:
        """The outputs that the backward pass reads."""
        stands_in = cpu.hidden_state_is_sequence(
            self.config, mask="mask" in self.inputs, sequence="sequence" in self.outputs
        )
        return tuple(
            name
            for name in self.outputs
            if name in self.config.slots or (stands_in and name == "sequence")
        )

    @functools.cached_property
    def numbers(self) -> tuple[int, ...]:
        """The forward operation's integers."""
        outputs = cpu.forward_outputs(self.config)
        return (
            *_fixed_numbers(self.config),
            _bits(self.inputs, cpu.FORWARD_INPUTS),
            _bits(self.cached, outputs),
            _bits(self.outputs, outputs),
        )

    def backward_numbers(
        self, cotangents: Sequence[str], gradients: Sequence[str]
    ) -> tuple[int, ...]:
        """The backward operation's integers.

        Args:
            cotangents: names of outputs, as in `outputs`, whose cotangents are given.
            gradients: names of inputs to differentiate with respect to.
        """
        inputs = cpu.backward_inputs(self.config)
        given = [name for name in self.inputs if name in cpu.residuals(self.config)]
        return (
            *_fixed_numbers(self.config),
            _bits([*given, *self.kept, *(f"d_{name}" for name in cotangents)], inputs),
            _bits(self.cached, inputs),
            _bits(gradients, cpu.DIFFERENTIABLE),
        )

    @staticmethod
    @functools.cache
    def decode(numbers: tuple[int, ...]) -> Plan:
        """The plan that has these `numbers`."""
        config = Config.from_numbers(numbers[:_OPTIONS])
        outputs = cpu.forward_outputs(config)
        inputs_given, cached, results = numbers[-3:]
        return Plan(
            config,
            _names(inputs_given, cpu.FORWARD_INPUTS),
            _names(results, outputs),
            _names(cached, outputs),
        )


_OPTIONS = len(Config("lstm").numbers)


@functools.cache
def make(
    config: Config, inputs: tuple[str, ...], last_output: bool, sequence: bool, trace: bool
) -> Plan:
    """The plan of one scan: always the same object for the same arguments.

    Args:
        config: the cell and its options.
        inputs: names out of `cpu.FORWARD_INPUTS`, in that order: the arrays given.
        last_output, sequence, trace: which results are wanted besides the states.
    """
    if trace:
        config = config.saving_every_step()
    names = cpu.present_outputs(
        config, mask="mask" in inputs, last_output=last_output, sequence=sequence, slots=True
    )
    private = set(config.slots) - (set(config.spec.trace_names) if trace else set())
    return Plan(
        config,
        inputs,
        tuple(name for name in names if name not in private),
        tuple(name for name in names if name in private),
    )


@dataclass(frozen=True, eq=False)
class ForwardCall:
    """One forward operation.

    problems: its attribute.
    results: how many arrays it returns besides the cache.
    """

    problems: list[int]
    results: int


@functools.cache
def forward_call(plans: tuple[Plan, ...]) -> ForwardCall:
    """The forward operation that runs these scans."""
    return ForwardCall(
        [number for plan in plans for number in plan.numbers],
        sum(len(plan.outputs) for plan in plans),
    )


@dataclass(frozen=True, eq=False)
class BackwardCall:
    """One backward operation.

    problems: its attribute.
    arrays: which arrays it takes: positions in the list of the forward operation's arrays, then
        its outputs, then their cotangents.
    gradients: for each of its results the position of the array that it belongs to.
    """

    problems: list[int]
    arrays: tuple[int, ...]
    gradients: tuple[int, ...]


@functools.cache
def backward_call(
    plans: tuple[Plan, ...], given: tuple[bool, ...], wanted: tuple[bool, ...]
) -> BackwardCall:
    """The backward operation for these scans.

    Args:
        given: for each of the scans' outputs whether it has a cotangent.
        wanted: for each of the scans' arrays whether its gradient is asked for.
    """
    problems: list[int] = []
    arrays: list[int] = []
    gradients: list[int] = []
    array = output = 0
    first_output = sum(len(plan.arrays) for plan in plans)
    first_cotangent = first_output + sum(len(plan.outputs) for plan in plans)
    for plan in plans:
        position = {name: array + i for i, name in enumerate(plan.arrays)}
        arrays += [position[name] for name in plan.arrays if name in cpu.residuals(plan.config)]
        at = {name: output + i for i, name in enumerate(plan.outputs)}
        arrays += [first_output + at[name] for name in plan.kept]
        cotangents = [name for name in plan.outputs if given[at[name]]]
        arrays += [first_cotangent + at[name] for name in cotangents]
        names = [n for n in cpu.DIFFERENTIABLE if n in position and wanted[position[n]]]
        gradients += [position[name] for name in names]
        problems += plan.backward_numbers(cotangents, names)
        array += len(plan.arrays)
        output += len(plan.outputs)
    return BackwardCall(problems, tuple(arrays), tuple(gradients))


@functools.cache
def _fixed_numbers(config: Config) -> tuple[int, ...]:
    bias = config.weight_shapes(1, 1)["bias"]
    return (
        *config.numbers,
        len(config.slots),
        len(config.spec.gates),
        bias[0] if len(bias) > 1 else 1,
    )


def _bits(names: Sequence[str], numbering: Sequence[str]) -> int:
    return sum(1 << numbering.index(name) for name in names)


def _names(bits: int, numbering: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(numbering) if bits >> i & 1)
