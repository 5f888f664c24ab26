"""Products over features: Dense and EinsumDense."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.layer import Array, Call, Layer, Result, Shape, Variable, register
from recurra.runtime.layers import config as read
from recurra.runtime.layers.activations import activation
from recurra.runtime.layers.product import pack, product
from recurra.runtime.layers.results import dropping, keeping


def kernel_and_bias(use_bias: bool) -> Sequence[Variable]:
    """The variables of a layer with a kernel and perhaps a bias."""
    return (Variable("kernel"), Variable("bias", index=1))[: 1 + use_bias]


@register("Dense")
class Dense(Layer):
    """activation(x @ kernel + bias), over the last axis.

    Attributes:
        kernel: (features, units).
        bias: (units,) or None.
        activation: of the result.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.units = read.integer(config, "units", where)
        self.use_bias = read.boolean(config, "use_bias", where, default=True)
        self.activation = activation(config.get("activation"), where)
        self.kernel: Array
        self.bias: Array | None = None

    def variables(self) -> Sequence[Variable]:
        return kernel_and_bias(self.use_bias)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        read.rank(shapes[0], self.where, least=2)
        features = read.size(shapes[0], -1, self.where, "features")
        self.kernel = read.weight(weights, "kernel", (features, self.units), self.where)
        if self.use_bias:
            self.bias = read.weight(weights, "bias", (self.units,), self.where)
        self._packed = pack(self.kernel, self.bias)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [self.activation.shape((*shapes[0][:-1], self.units))]

    def compute(self, call: Call) -> Result:
        return keeping(call, self.activation(product(call.inputs[0], self._packed)))


class Equation:
    """An EinsumDense layer's equation, as one product: which letters stand for what.

    Letters of the input are kept ("rows" of the product), contracted with the kernel, or shared:
    in input, kernel and output alike. The kernel's other letters are new.
    """

    def __init__(self, text: str, rank: int, layer: Layer) -> None:
        dots = re.fullmatch(
            r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?", text
        )
        if dots is None:
            raise layer.fail(f"equation is {read.shown(text)}, but must be like 'abc,cd->abd'.")
        left, inputs, right, kernel, left_out, outputs, right_out = dots.groups()
        free = rank - len(inputs)
        if (left, right) != (left_out, right_out) or (left and right) or free < 0 or free > 20:
            raise layer.fail(f"equation {read.shown(text)} does not fit an input of {rank} axes.")
        if not left and not right and free:
            raise layer.fail(f"equation {read.shown(text)} does not fit an input of {rank} axes.")
        dotted = "".join(chr(0x100 + i) for i in range(free))  # letters that no equation has
        self.inputs = dotted + inputs if left else inputs + dotted
        self.outputs = dotted + outputs if left else outputs + dotted
        self.kernel, self.dotted, self.written = kernel, dotted, outputs
        for part in (self.inputs, self.kernel, self.outputs):
            if len(set(part)) != len(part):
                raise layer.unsupported(
                    f"equation {read.shown(text)} repeats a letter within one operand."
                )
        batch = self.inputs[0]
        if self.outputs[0] != batch or batch in kernel:
            raise layer.unsupported(
                f"equation {read.shown(text)} does not keep the batch as first axis."
            )
        if set(self.outputs) - set(self.inputs) - set(kernel) or set(kernel) - set(
            self.inputs
        ) - set(self.outputs):
            raise layer.fail(f"equation {read.shown(text)} has a letter on one side only.")
        if set(self.inputs) - set(self.outputs) - set(kernel):
            raise layer.unsupported(
                f"equation {read.shown(text)} sums over an axis of the input alone."
            )
        self.rows = [c for c in self.inputs if c not in kernel]
        self.shared = [c for c in self.inputs if c in kernel and c in self.outputs]
        self.contracted = [c for c in self.inputs if c in kernel and c not in self.outputs]
        self.new = [c for c in kernel if c not in self.inputs]

    def sizes(
        self, shape: Shape, output: Sequence[int | None], layer: Layer
    ) -> dict[str, int | None]:
        """The size of every letter, from the input's shape and the configured output's."""
        sizes: dict[str, int | None] = dict(zip(self.inputs, shape, strict=True))
        # The batch is not configured; dots on the left stand for it as well.
        named = self.written if self.dotted and self.outputs[0] in self.dotted else self.written[1:]
        if len(output) != len(named):
            raise layer.fail(f"output_shape has {len(output)} axes, but must have {len(named)}.")
        for letter, configured in zip(named, output, strict=True):
            known = sizes.get(letter)
            if known is None:
                sizes[letter] = configured
            elif configured is not None and configured != known:
                raise layer.fail(f"output_shape has {configured} where its input has {known}.")
        return sizes


@register("EinsumDense")
class EinsumDense(Layer):
    """A product over any axes, given as an equation; Keras drops masks here."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.text = read.text(config, "equation", where)
        listed = config.get("output_shape")
        listed = list(listed) if isinstance(listed, (list, tuple)) else [listed]
        self.configured = [
            None if n is None else read.integer({"output_shape": n}, "output_shape", where)
            for n in listed
        ]
        self.bias_axes = config.get("bias_axes")
        if not isinstance(self.bias_axes, (str, type(None))):
            raise read.wrong(where, "bias_axes", self.bias_axes, "letters of the output")
        self.activation = activation(config.get("activation"), where)
        self.bias: Array | None = None

    def variables(self) -> Sequence[Variable]:
        return kernel_and_bias(bool(self.bias_axes))

    def _read(self, shape: Shape) -> tuple[Equation, dict[str, int | None]]:
        equation = Equation(self.text, len(shape), self)
        return equation, equation.sizes(shape, self.configured, self)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        equation, sizes = self._read(shapes[0])
        known = []
        for letter in equation.kernel:
            found = sizes.get(letter)
            if found is None:
                raise self.fail(
                    f"the size of {letter!r} in equation {read.shown(self.text)} must be known."
                )
            known.append(found)
        kernel = read.weight(weights, "kernel", known, self.where)
        if self.bias_axes:
            self.bias = read.weight(weights, "bias", self._bias_shape(equation, sizes), self.where)
        order = equation.shared + equation.contracted + equation.new
        kernel = kernel.transpose([equation.kernel.index(c) for c in order])
        lengths = [
            [int(sizes[c] or 0) for c in part]
            for part in (equation.shared, equation.contracted, equation.new)
        ]
        shared, contracted, new = (int(np.prod(part)) for part in lengths)
        self._tail = (*lengths[0], *lengths[2])
        self._kernel = np.ascontiguousarray(kernel).reshape(shared, contracted, new)
        self._packed = pack(self._kernel[0]) if not equation.shared else None
        self._order = [
            equation.inputs.index(c) for c in equation.rows + equation.shared + equation.contracted
        ]
        given = equation.rows + equation.shared + equation.new
        self._back = [given.index(c) for c in equation.outputs]
        self._rows = len(equation.rows)

    def _bias_shape(self, equation: Equation, sizes: Mapping[str, int | None]) -> list[int]:
        axes = self.bias_axes or ""
        if set(axes) - set(equation.written):
            raise self.fail(f"bias_axes {read.shown(axes)} are not all letters of the output.")
        first = min(equation.written.index(c) for c in axes)
        shape = [(sizes[c] or 0) if c in axes else 1 for c in equation.written[first:]]
        right = equation.dotted if equation.outputs[-1:] == equation.dotted[-1:] else ""
        return shape + [1] * len(right)

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        equation, sizes = self._read(shapes[0])
        return [self.activation.shape(tuple(sizes[c] for c in equation.outputs))]

    def compute(self, call: Call) -> Result:
        x = call.inputs[0].transpose(self._order)
        rows = x.shape[: self._rows]
        shared, contracted, _ = self._kernel.shape
        if self._packed is not None:
            y = product(x.reshape(*rows, contracted), self._packed)
        else:
            y = np.matmul(x.reshape(*rows, shared, 1, contracted), self._kernel)
        y = y.reshape(*rows, *self._tail).transpose(self._back)
        return dropping(self.activation(y if self.bias is None else y + self.bias))
