"""Bidirectional and TimeDistributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurra.runtime.create import make_layer
from recurra.runtime.custom import FunctionLayer
from recurra.runtime.errors import UnsupportedLayerError
from recurra.runtime.layer import Array, Call, Layer, Mask, Result, Shape, Variable, register
from recurra.runtime.layers import config as checked
from recurra.runtime.layers.cells import run
from recurra.runtime.layers.recurrent import Recurrent, initial_states, scan_mask

_MERGES = ("concat", "sum", "ave", "mul")


@register("Bidirectional")
class Bidirectional(Layer):
    """A recurrent layer in both directions of time, computed side by side.

    Attributes:
        forward_layer, backward_layer: the two recurrent layers.
        merge_mode: "concat", "sum", "ave", "mul", or None for two outputs.
    """

    parameters = ("sequences", "initial_state", "mask")

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.merge_mode = None
        if config.get("merge_mode", "concat") is not None:
            self.merge_mode = checked.choice(config, "merge_mode", where, _MERGES, default="concat")
        entry = config.get("layer")
        other = config.get("backward_layer")
        self.forward_layer = self._direction("forward_layer", entry)
        if other is None and isinstance(entry, Mapping):
            options = {**entry["config"], "go_backwards": not self.forward_layer.go_backwards}
            other = {**entry, "config": options}
        self.backward_layer = self._direction("backward_layer", other)
        first, second = self.forward_layer, self.backward_layer
        for name in ("return_sequences", "return_state"):
            if getattr(first, name) != getattr(second, name):
                raise self.fail(f"its two layers differ in {name}.")
        if first.go_backwards == second.go_backwards:
            raise self.fail("its two layers run in the same direction.")
        self.return_sequences, self.return_state = first.return_sequences, first.return_state

    def _direction(self, part: str, entry: Any) -> Recurrent:
        if isinstance(entry, Mapping) and isinstance(entry.get("config"), Mapping):
            options = entry["config"]
            # Keras has masked steps zero where there is a sequence.
            zero = bool(options.get("return_sequences"))
            entry = {**entry, "config": {**options, "zero_output_for_mask": zero}}
        try:
            layer = make_layer(entry, f"{self.where}/{part}")
        except UnsupportedLayerError as error:
            what = str(error).partition(": ")[2].partition(". ")[0]
        else:
            if isinstance(layer, Recurrent):
                return layer
            what = f"it is a {layer.keras_class}"
        raise self.unsupported(
            f"of its {part} {what}; the runtime runs LSTM, GRU, SimpleRNN and RNN over their cells "
            "in two directions. To run it, give a NumPy function for the whole layer: "
            f'custom={{"{self.name}": function}}.'
        )

    @property
    def directions(self) -> tuple[tuple[str, Recurrent], ...]:
        """Both layers, by Keras's names."""
        return ("forward_layer", self.forward_layer), ("backward_layer", self.backward_layer)

    def variables(self) -> list[Variable]:
        """The forward layer's, then the backward layer's."""
        return [v.inside(part) for part, layer in self.directions for v in layer.variables()]

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Give both layers their weights."""
        for part, layer in self.directions:
            layer.build(inside(weights, part), shapes)
        if self.merge_mode not in (None, "concat"):
            units = [layer.units for _, layer in self.directions]
            if units[0] != units[1]:
                raise self.fail(f"merge_mode={self.merge_mode!r} cannot join {units} units.")

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The merged output's or both outputs', then all states'."""
        first, second = (layer.output_shapes(shapes) for _, layer in self.directions)
        merged = [first[0], second[0]]
        if self.merge_mode is not None:
            width = first[0][-1] or 0
            merged = [
                (*first[0][:-1], width + (second[0][-1] or 0))
                if self.merge_mode == "concat"
                else first[0]
            ]
        return merged + first[1:] + second[1:]

    def compute(self, call: Call) -> Result:
        """Both scans in one call of the engine, then the merge."""
        x = np.ascontiguousarray(call.inputs[0], np.float32)
        sizes = [layer.state_sizes for _, layer in self.directions]
        given = initial_states(self, call, sizes[0] + sizes[1])
        states = [given and given[: len(sizes[0])], given and given[len(sizes[0]) :]]
        mask = scan_mask(call)
        scans = [
            layer.scan(x, state, mask)
            for (_, layer), state in zip(self.directions, states, strict=True)
        ]
        made = run(*scans)
        first, second = (
            layer.outputs(scanned)
            for (_, layer), scanned in zip(self.directions, made, strict=True)
        )
        merged = self._merge(first[0], second[0][:, ::-1] if self.return_sequences else second[0])
        outputs = merged + first[1:] + second[1:]
        kept = call.masks[0] if self.return_sequences else None
        masks = [kept] * len(merged) + [None] * (len(outputs) - len(merged))
        return Result(outputs, masks)

    def _merge(self, first: Array, second: Array) -> list[Array]:
        if self.merge_mode is None:
            return [first, second]
        if self.merge_mode == "concat":
            return [np.concatenate([first, second], axis=-1)]
        if self.merge_mode == "mul":
            return [first * second]
        total = first + second
        return [total / np.float32(2) if self.merge_mode == "ave" else total]


@register("TimeDistributed")
class TimeDistributed(Layer):
    """A layer, or a model, at every step by itself.

    Attributes:
        layer: that layer, built for inputs of shape (batch, ...) without the time axis.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        super().__init__(config, where)
        self.layer = make_layer(config.get("layer"), f"{where}/layer")

    def variables(self) -> list[Variable]:
        """The inner layer's."""
        return [variable.inside("layer") for variable in self.layer.variables()]

    @property
    def takes_all_weights(self) -> bool:
        """Whether the inner layer is a user's function, which gets whatever is stored."""
        return isinstance(self.layer, FunctionLayer)

    def build(self, weights: Mapping[str, Array], shapes: Sequence[Shape]) -> None:
        """Build the inner layer for one step."""
        checked.rank(shapes[0], self.where, least=3)
        if self.takes_all_weights:
            own = {name.removeprefix("layer/"): value for name, value in weights.items()}
        else:
            own = inside(weights, "layer")
        self.layer.build(own, [_step(shapes[0])])

    def output_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The inner layer's, with the time axis."""
        batch, time_steps = shapes[0][:2]
        return [
            (batch, time_steps, *shape[1:])
            for shape in self.layer.output_shapes([_step(shapes[0])])
        ]

    def compute(self, call: Call) -> Result:
        """All steps as one batch of the inner layer.

        A mask with more axes than (batch, time_steps) says which parts of each step are real, and
        the inner layer gets that part of it.
        """
        x, mask = call.inputs[0], call.masks[0]
        batch, time_steps = x.shape[:2]
        rows = batch * time_steps
        inner: Mask = None
        if mask is not None and mask.ndim > 2:
            inner = mask.reshape(rows, *mask.shape[2:])
            mask = np.asarray(mask.any(axis=tuple(range(2, mask.ndim))))
        flat = x.reshape(rows, *x.shape[2:])
        if rows == 0:
            shapes = self.layer.output_shapes([flat.shape])
            made = [np.zeros((0, *(n or 0 for n in s[1:])), np.float32) for s in shapes]
        else:
            made = list(self.layer.compute(Call([flat], [inner])).outputs)
        outputs = [array.reshape(batch, time_steps, *array.shape[1:]) for array in made]
        return Result(outputs, [mask] * len(outputs))


def inside(weights: Mapping[str, Array], part: str) -> dict[str, Array]:
    """The weights of one part of a layer, by the names that they have there."""
    prefix = f"{part}/"
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def _step(shape: Shape) -> Shape:
    return (shape[0], *shape[2:])
