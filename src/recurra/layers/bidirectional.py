"""Bidirectional wrapper: both directions in one call of the engine."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from recurra import hosts
from recurra.layers import (
    cells,
    checks,
    legacy,
    sequential,
    state_checks,
    states,
    unpack,
    usage,
)
from recurra.layers.base import Recurrent, drive
from recurra.layers.fused import FusedRNN, holds_recurra
from recurra.layers.metaclass import LayerType
from recurra.layers.saving import recurra_classes, register, unpickle
from recurra.layers.wrapper_results import Contents

_log = logging.getLogger("recurra")

_ConvLSTM = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)


@register
class Bidirectional(keras.layers.Bidirectional, metaclass=LayerType):
    """`keras.layers.Bidirectional`: a layer over a sequence and its copy over the reversed one.

    Two of Recurra's layers run side by side, in one call of the engine. All others (stock layers, a
    user's own) are called one after the other.

    Args:
        layer: the layer for the forward direction; a copy with new weights is made of it.
        merge_mode: how the directions' outputs become one: "concat" (default), "sum", "mul", "ave";
            None to return both.
        weights: initial values for the forward layer's weights, then the backward layer's, as
            `get_weights` gives them; None for the layers' initializers.
        backward_layer: the layer for the backward direction, with the other `go_backwards` and the
            same return_sequences, return_state and stateful; None for a copy of `layer`.
        **kwargs: as for keras.layers.Bidirectional (name, dtype, ...).

    Call arguments:
        sequences: (batch, time_steps, features).
        initial_state: the forward layer's states, then the backward layer's, in one list; for LSTM
            [forward_state_h, forward_state_c, backward_state_h, backward_state_c]. None for zeros.
        mask: (batch, time_steps), True where the step is kept; None to keep all. With
            return_sequences, outputs are zero at the other steps.
        training: whether dropout is applied.

    Returns:
        With B, T, U for batch, time_steps, units: the output, (B, 2·U), or (B, T, 2·U) with
        return_sequences, where both directions' outputs for one step are at that step; (.., U) with
        another merge_mode, and a named tuple (forward_output, backward_output) with None.
        With return_state=True in the layer, a named tuple of the output or outputs and all states,
        for LSTM (output, forward_state_h, forward_state_c, backward_state_h, backward_state_c).

    Raises:
        ValueError: for layers that do not match, for states and masks that do not fit, for a layer
            with return_trace=True but not return_state=True, and for unpacking the result into a
            wrong number of names.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import LSTM, Bidirectional
        >>> result = Bidirectional(LSTM(4, return_state=True))(np.zeros((3, 5, 2)))
        >>> result.output.shape, result.backward_state_c.shape
        ((3, 8), (3, 4))
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        _check_layer(layer, backward_layer)
        given: list[Any] = [v for v in (layer, backward_layer) if isinstance(v, Recurrent)]
        for inner in given:
            if inner.return_trace and not inner.return_state:
                raise ValueError(
                    f"Bidirectional got layer {inner.name!r} with return_trace=True and "
                    "return_state=False. It hands on what comes after a layer's output as states: "
                    "add return_state=True to get, for either direction, the states and the trace, "
                    "or leave return_trace out."
                )
        # Keras makes the two layers from the given one's configuration, by class name.
        ours = isinstance(layer, keras.Layer) and holds_recurra(layer)
        with recurra_classes() if ours else contextlib.nullcontext():
            kwargs, batch = legacy.modernize(keras.layers.Bidirectional, kwargs)
            super().__init__(layer, merge_mode=merge_mode, backward_layer=backward_layer, **kwargs)
        batch = batch or getattr(layer, "_batch_of_constructor", None)
        self.forward_layer._batch_of_constructor = batch
        self.backward_layer._batch_of_constructor = batch
        usage.tell_held(self)
        self._given_weights = None if weights is None else tuple(weights)
        self._kind_of_result: tuple[Any, Any] = (None, None)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The layer that `get_config` describes, with Recurra's recurrent layers inside."""
        with recurra_classes():
            return super().from_config(config, custom_objects=custom_objects)

    def __reduce__(self) -> Any:
        _, arguments = super().__reduce__()
        return unpickle, arguments

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Make both layers' weights."""
        super().build(sequences_shape)
        if all(getattr(layer, "cell_spec", None) for layer in self._layer_pair()):
            # Makes the result's class, which torch.compile could not do in a call.
            self.compute_output_spec(keras.KerasTensor(tuple(sequences_shape)))
        weights, self._given_weights = self._given_weights, None
        if weights is None:
            return
        own, other = self.forward_layer.weights, self.backward_layer.weights
        if len(weights) != len(own) + len(other):
            raise ValueError(
                f"Bidirectional {self.name!r} got weights= with {len(weights)} arrays; expected "
                f"{len(own) + len(other)}: those of the forward layer, "
                f"{', '.join(v.name for v in own)}, then those of the backward layer."
            )
        self.forward_layer.set_weights(weights[: len(own)])
        self.backward_layer.set_weights(weights[len(own) :])

    # --- Calling ---

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs, call = checks.call_arguments(args, kwargs, self.name)
        if call.get("sequences") is not None:
            self._check_call(call)
        result = super().__call__(*args, **kwargs)
        if hosts.is_traced():
            return result
        if isinstance(result, tuple):
            sequential.check_next_layer(self, sys._getframe(1), result)
        elif hasattr(result, "shape"):
            self._check_unpacking(sys._getframe(1), result)
        return result

    def _check_call(self, call: dict[str, Any]) -> None:
        sequences, forward = call["sequences"], self.forward_layer
        if isinstance(forward, FusedRNN):
            forward.check_sequences(sequences, self.name)
        given = self._split(call.get("initial_state"))
        for layer, state in zip(self._layer_pair(), given, strict=True):
            spec = getattr(layer, "cell_spec", None)
            if spec is not None:
                name = f"{self.name}/{layer.name}"
                state_checks.check_initial_state(state, sequences, layer.units, spec, name)
        if isinstance(forward, Recurrent) and not tree.is_nested(call.get("mask")):
            checks.check_mask(call.get("mask"), sequences, self.name)

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: Any = None,
    ) -> Any:
        """Run both directions; see the class for the arguments and results."""
        layers, given = self._layer_pair(), self._split(initial_state)
        if all(_is_called_plainly(layer) for layer in layers):
            results = drive(
                *(
                    layer.requests(sequences, state, mask, training)
                    for layer, state in zip(layers, given, strict=True)
                )
            )
        else:
            results = [
                self._call_layer(layer, sequences, state, mask, training)
                for layer, state in zip(layers, given, strict=True)
            ]
        return self._result(*results, merge=self._merge)

    def _layer_pair(self) -> tuple[Any, Any]:
        return self.forward_layer, self.backward_layer

    def _call_layer(self, layer: Any, sequences: Any, state: Any, mask: Any, training: Any) -> Any:
        arguments: dict[str, Any] = {}
        if layer._call_has_training_arg:
            arguments["training"] = training
        if layer._call_has_mask_arg:
            arguments["mask"] = mask
        return layer(sequences, initial_state=state, **arguments)

    def _merge(self, forward: Any, backward: Any) -> tuple[Any, ...]:
        forward = ops.cast(forward, self.compute_dtype)
        backward = ops.cast(backward, self.compute_dtype)
        self._check_widths(forward.shape, backward.shape)
        if self.return_sequences:
            backward = ops.flip(backward, axis=1)
        match self.merge_mode:
            case "concat":
                return (ops.concatenate([forward, backward], axis=-1),)
            case "sum":
                return (forward + backward,)
            case "ave":
                return ((forward + backward) / 2,)
            case "mul":
                return (forward * backward,)
        return forward, backward

    def _check_widths(self, forward: Any, backward: Any) -> None:
        if self.merge_mode in ("sum", "ave", "mul") and tuple(forward) != tuple(backward):
            raise ValueError(
                f"Bidirectional {self.name!r} with merge_mode={self.merge_mode!r} needs outputs of "
                f"one shape from both layers; got {tuple(forward)} from the forward layer and "
                f"{tuple(backward)} from the backward layer. Give both the same number of units, "
                "or use merge_mode='concat' or None."
            )

    # --- States ---

    def _split(self, initial_state: Any, argument: str = "initial_state") -> tuple[Any, Any]:
        """One list of both directions' states as the forward and the backward layer's."""
        if initial_state is None:
            return None, None
        if not isinstance(initial_state, (list, tuple)):
            raise ValueError(
                f"{argument} of layer {self.name!r} is of type {type(initial_state).__name__}; "
                f"expected a list: {self._expected_states()}."
            )
        given = list(initial_state)
        for forward, backward in self._state_counts():
            if len(given) == forward + backward:
                return given[:forward], given[forward:]
        if not self._state_counts() and len(given) % 2 == 0:
            half = len(given) // 2
            return given[:half], given[half:]
        hint = ""
        outputs = 2 if self.merge_mode is None else 1
        (forward, backward), *_ = self._state_counts() or [(0, 0)]
        if len(given) == forward == backward:
            hint = " To start both directions from the same states: [*states, *states]."
        elif len(given) == forward + backward + outputs:
            hint = (
                " It looks like a whole result: pass the states, which come after the "
                f"{'outputs' if outputs == 2 else 'output'}, result[{outputs}:]."
            )
        raise ValueError(
            f"{argument} of layer {self.name!r} has {len(given)} "
            f"{'array' if len(given) == 1 else 'arrays'}; expected {self._expected_states()}.{hint}"
        )

    def _state_counts(self) -> list[tuple[int, int]]:
        """How many states the two layers have: nested by cell, and in flat lists. [] if unknown."""
        forward, backward = map(_state_size, self._layer_pair())
        if forward is None or backward is None:
            return []
        nested = len(forward), len(backward)
        flat = len(tree.flatten(forward)), len(tree.flatten(backward))
        return list(dict.fromkeys([nested, flat]))

    def _expected_states(self) -> str:
        counts = self._state_counts()
        if not counts:
            return "the forward layer's states, then as many of the backward layer"
        names = [
            f"{direction}_{name}"
            for direction, layer, count in zip(
                ("forward", "backward"), self._layer_pair(), counts[0], strict=True
            )
            for name in _state_names(layer, count)
        ]
        return f"{len(names)} states, [{', '.join(names)}]"

    @property
    def states(self) -> tuple[Any, ...] | None:
        """The state variables of both layers, forward first; None where they are not stateful."""
        forward, backward = (getattr(layer, "states", None) for layer in self._layer_pair())
        return (*forward, *backward) if forward and backward else None

    def reset_state(self, states: Any = None) -> None:
        """Set the states of a stateful layer to the given ones, or to the initial ones.

        Args:
            states: the forward layer's states, then the backward layer's, in one list of arrays;
                None for the initial states (zeros).

        Raises:
            AttributeError: if the layer is not stateful.
            ValueError: if the states do not fit in number or shape.
        """
        if not self.stateful:
            raise AttributeError(
                f"Layer must be stateful. Layer {self.name!r} keeps no states between calls: build "
                "the layer inside with stateful=True."
            )
        for layer, given in zip(self._layer_pair(), self._split(states, "states"), strict=True):
            _reset(layer, given)

    def reset_states(self, states: Any = None) -> None:
        """The older name of `reset_state`."""
        self.reset_state(states)

    # --- Results ---

    def _result(self, forward: Any, backward: Any, *, merge: Any) -> Any:
        """Two layers' results as this layer's, for tensors and their specifications alike."""
        if not self.return_state:
            outputs = merge(forward, backward)
            if len(outputs) == 1:
                return outputs[0]
            return self._result_class(None, None)(*outputs)
        outputs = merge(forward[0], backward[0])
        cls = self._result_class(forward, backward)
        return cls(*outputs, *forward[1:], *backward[1:])

    def _result_class(self, forward: Any, backward: Any) -> Any:
        """The class of this layer's named tuples; made anew only if an option has changed."""
        options = (self.merge_mode, self.return_sequences, self.return_state)
        known, cls = self._kind_of_result
        if known == options:
            return cls
        names: list[list[str]] = [[], []]
        if forward is not None:
            names = [
                list(getattr(result, "_fields", ())[1:]) or _state_names(layer, len(result) - 1)
                for result, layer in zip((forward, backward), self._layer_pair(), strict=True)
            ]
        cls = self._contents(*names).result_class()
        self._kind_of_result = (options, cls)
        return cls

    def _contents(self, forward_names: Sequence[str], backward_names: Sequence[str]) -> Contents:
        when = "every step" if self.return_sequences else "the last kept step"
        fields = [("output", f"Outputs of {when}, both directions' by {self.merge_mode!r}.")]
        if self.merge_mode is None:
            back = (
                "every step" if self.return_sequences else "its last kept step, the first in time"
            )
            fields = [
                ("forward_output", f"Outputs of {when}, forward direction."),
                ("backward_output", f"Outputs of {back}, backward direction."),
            ]
        for direction, layer, names in (
            ("forward", self.forward_layer, forward_names),
            ("backward", self.backward_layer, backward_names),
        ):
            spec = getattr(layer, "cell_spec", None)
            for name in names:
                meaning = f"State of the {direction} layer."
                if name == "trace":
                    meaning = "Every gate and state at every step."
                elif spec is not None and name in spec.state_outputs:
                    meaning = spec.meaning(name)
                fields.append((f"{direction}_{name}", f"{direction.title()} layer: {meaning}"))
        kind = type(self.forward_layer).__name__
        if self.return_state:
            advice = f"For the output alone build the {kind} without return_state=True."
        else:
            advice = (
                f"Build the {kind} with return_state=True to get the states of both directions too."
            )
        return Contents(f"{type(self).__name__}({kind})", tuple(fields), advice)

    def _check_unpacking(self, frame: Any, result: Any) -> None:
        """Raise ValueError if the caller is about to unpack a single tensor into other than it."""
        count = unpack.names_awaiting_call(
            frame,
            lambda callee: (
                callee is self or (isinstance(callee, type) and isinstance(self, callee))
            ),
        )
        if count is None:
            return
        message = self._contents([], []).describe_unpacking(count, [result])
        if isinstance(result, keras.KerasTensor) or result.shape[0] != count:
            raise ValueError(message)
        _log.warning(
            "The rows of a batch are unpacked, which works only because the batch has %d: %s",
            count,
            message,
        )

    # --- Shapes and masks ---

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Shapes of the results: one tuple, or a tuple of them where there are several results."""
        shapes = [
            layer.compute_output_shape(tuple(sequences_shape)) for layer in self._layer_pair()
        ]
        if not self.return_state:
            outputs = self._merged_shapes(*shapes)
            return outputs[0] if len(outputs) == 1 else outputs
        forward, backward = shapes
        return (*self._merged_shapes(forward[0], backward[0]), *forward[1:], *backward[1:])

    def _merged_shapes(self, forward: Any, backward: Any) -> tuple[Any, ...]:
        forward, backward = tuple(forward), tuple(backward)
        self._check_widths(forward, backward)
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode == "concat":
            return ((*forward[:-1], forward[-1] + backward[-1]),)
        return (forward,)

    def compute_output_spec(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: Any = None,
    ) -> Any:
        """Symbolic results, in the structure that `call` returns."""

        def merge(forward: Any, backward: Any) -> tuple[Any, ...]:
            return tuple(
                keras.KerasTensor(shape, dtype=self.compute_dtype)
                for shape in self._merged_shapes(forward.shape, backward.shape)
            )

        specs = (layer.compute_output_spec(sequences) for layer in self._layer_pair())
        return self._result(*specs, merge=merge)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The input's mask for outputs with time steps, None for everything else."""
        if isinstance(mask, (list, tuple)):
            mask = next((each for each in mask if each is not None), None)
        # Where the forward layer goes backwards, so do the outputs.
        if mask is not None and self.forward_layer.go_backwards:
            mask = ops.flip(mask, axis=1)
        output_mask = mask if self.return_sequences else None
        outputs = [output_mask] * (2 if self.merge_mode is None else 1)
        if not self.return_state:
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        masks = [layer.compute_mask(inputs, mask) for layer in self._layer_pair()]
        others = [each[1:] if isinstance(each, (list, tuple)) else [] for each in masks]
        return [*outputs, *others[0], *others[1]]


def _check_layer(layer: Any, backward_layer: Any) -> None:
    for name, given in (("layer", layer), ("backward_layer", backward_layer)):
        if isinstance(given, keras.Layer) and not hasattr(given, "go_backwards"):
            kind = type(given).__name__
            hint = f" Wrap the cell: Bidirectional(RNN({kind}(...)))." if _is_cell(given) else ""
            raise ValueError(
                f"Bidirectional got {name}={given.name!r}, {checks.article(kind)} {kind}; expected "
                "a recurrent layer (LSTM, GRU, SimpleRNN, RNN, ConvLSTM, ...), one with "
                f"go_backwards.{hint}"
            )
    if backward_layer is None and getattr(layer, "go_backwards", False):
        raise ValueError(
            f"Bidirectional got layer {layer.name!r} with go_backwards=True and no backward_layer; "
            "its copy for the other direction would go backwards too. Pass a layer without "
            "go_backwards, or a backward_layer with go_backwards=False."
        )


def _is_cell(value: Any) -> bool:
    return hasattr(value, "state_size") and not isinstance(value, keras.layers.RNN)


_TORCH_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def _is_called_plainly(layer: Any) -> bool:
    """Whether calling a layer comes to nothing more than its `requests`."""
    return (
        isinstance(layer, Recurrent)
        and type(layer).call is Recurrent.call
        and _is_of_a_library(type(layer), "__call__")
        and (layer.return_trace or getattr(layer, "activity_regularizer", None) is None)
        and getattr(layer, "_remat_mode", None) is None
        and not {"call", "forward", "__call__"} & vars(layer).keys()
        and not any(getattr(layer, hooks, None) for hooks in _TORCH_HOOKS)
        and keras.distribution.distribution() is None
    )


def _is_of_a_library(cls: type, method: str) -> bool:
    owner = next(each for each in cls.__mro__ if method in vars(each))
    return owner.__module__.split(".")[0] in ("recurra", "keras")


def _state_size(layer: Any) -> Any:
    """The sizes of a layer's states, nested as its states are; None if it does not tell."""
    if isinstance(layer, _ConvLSTM):  # their one size is a placeholder
        return [None, None]
    return getattr(layer, "state_size", None)


def _state_names(layer: Any, count: int) -> list[str]:
    """Names for a layer's states where its result gives none."""
    spec = cells.spec_of(getattr(layer, "cell", None))
    names = ["state_h", "state_c"] if isinstance(layer, _ConvLSTM) else []
    if spec is not None:
        names = list(spec.state_outputs)
    return names if len(names) == count else [f"state_{index}" for index in range(count)]


def _reset(layer: Any, given: Any) -> None:
    if isinstance(layer, Recurrent) or (given is None and hasattr(layer, "reset_state")):
        layer.reset_state(*(() if given is None else (given,)))
    else:
        states.reset(layer, given)
