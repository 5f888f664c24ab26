"""What Recurra's recurrent layers share: Keras's layers, computed by an engine.

A layer here is a subclass of the stock class: constructor, weights, configuration, state variables
and saved files are Keras's. Replaced is what happens in a call: one fused operation for the whole
sequence instead of a scan over the cell, named-tuple results, the trace, and errors that teach.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any, ClassVar

import keras
from keras import ops, tree
from keras.src.models.functional import Functional

from recurra import hosts
from recurra.cells import CellSpec
from recurra.engine import check_engine
from recurra.layers import cells, checks, legacy, outputs, sequential, state_checks, unpack
from recurra.layers.activations import check_activation
from recurra.layers.base import Outcome, Recurrent
from recurra.layers.saving import copies_as_recurra, reading_as_recurra, unpickle

_log = logging.getLogger("recurra")

# Layers whose `call` adds the losses of its activities, in this thread's present calls. Nothing is
# changed on the layer, because other threads may be calling it.
_regularizing_themselves: ContextVar[tuple[Any, ...]] = ContextVar(
    "regularizing_themselves", default=()
)


def constructor(stock: Any) -> Callable[..., None]:
    """The `__init__` of a fused layer: the stock class's arguments, then Recurra's by keyword."""
    signature = inspect.signature(stock.__init__)
    own = [
        inspect.Parameter("return_trace", inspect.Parameter.KEYWORD_ONLY, default=False),
        inspect.Parameter("engine", inspect.Parameter.KEYWORD_ONLY, default="auto"),
        inspect.Parameter("checkpoint_every", inspect.Parameter.KEYWORD_ONLY, default=None),
    ]
    *stock_parameters, keywords = signature.parameters.values()

    def __init__(
        self: Any,
        *args: Any,
        return_trace: bool = False,
        engine: str = "auto",
        checkpoint_every: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        check_engine(engine)
        checkpoint_every = checks.check_checkpoint_every(checkpoint_every, engine)
        kwargs, batch = legacy.modernize(stock, kwargs)
        _check_keywords(stock, kwargs)
        given = signature.bind_partial(self, *args, **kwargs).arguments
        if "units" in given:
            # As a Python int, which Keras insists on: sizes often come from NumPy.
            units = checks.check_units(given["units"])
            args = (units, *args[1:]) if args else args
            kwargs = kwargs if args else {**kwargs, "units": units}
        for name in ("activation", "recurrent_activation"):
            if name in given:
                check_activation(name, given[name])
        stock.__init__(self, *args, **kwargs)
        self._batch_of_constructor = batch
        if return_trace and self.cell_spec is None:
            raise ValueError(
                f"return_trace=True was passed to {stock.__name__}, but its cell is a "
                f"{type(self.cell).__name__}, of which no gates are known; expected a single "
                "LSTMCell, GRUCell or SimpleRNNCell. Stack layers instead of cells to trace each."
            )
        self.return_trace = bool(return_trace)
        self.engine = engine
        self.checkpoint_every = checkpoint_every
        if keras.backend.backend() == "tensorflow" and engine != "keras" and not self._obstacle():
            # XLA cannot call the engine. Keras then runs the model without XLA, which is faster
            # than the scan that XLA would compile, and warns if jit_compile=True was asked for.
            self.supports_jit = False
        if engine == "cpu":
            self._choose_engine()

    __init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*stock_parameters, *own, keywords]
    )
    return __init__


def _check_keywords(stock: Any, given: dict[str, Any]) -> None:
    """Raise ValueError for a keyword that no constructor takes, naming the one that was meant."""
    known = {"return_trace", "engine", "checkpoint_every"}
    for cls in stock.__mro__:
        if cls is not object and "__init__" in vars(cls):
            known |= set(inspect.signature(cls.__init__).parameters)
    for name in given:
        close = difflib.get_close_matches(name, known, n=1)
        if name not in known and close:
            raise ValueError(
                f"Unrecognized keyword argument {name!r} passed to {stock.__name__}. Did you mean "
                f"{close[0]!r}?"
            )


class FusedRNN(Recurrent):
    """Mixin for the layers of one known cell; comes before the stock class among the bases.

    A class sets `cell_spec` and `stock` (the Keras class). RNN's depends on its cell; where it is
    None, what follows from a definition (names, teaching errors, the trace) is left out.
    """

    cell_spec: ClassVar[CellSpec | None]
    _wrapper_told = False

    # --- Calling ---

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs, call = checks.call_arguments(args, kwargs, self.name)
        sequences = call.get("sequences")
        self.check_sequences(sequences, self.name)
        if sequences is not None and self.cell_spec is not None:
            state_checks.check_initial_state(
                call.get("initial_state"), sequences, self.units, self.cell_spec, self.name
            )
            if not tree.is_nested(call.get("mask")):
                checks.check_mask(call.get("mask"), sequences, self.name)
        elif call.get("initial_state") is not None:
            self._check_stacked_states(call["initial_state"])
        result = self._call_without_trace_losses(args, kwargs)
        if hosts.is_traced():
            return result
        if isinstance(result, tuple):
            sequential.check_next_layer(self, sys._getframe(1), result)
        elif hasattr(result, "shape") and self.cell_spec is not None:
            self._check_unpacking(sys._getframe(1), result)
        return result

    def _check_stacked_states(self: Any, initial_state: Any) -> None:
        """Raise ValueError for states that do not fit stacked cells; any other cell's are its own.

        States that Keras is to make into arrays first are looked at in the call.
        """
        stack = [(cells.spec_of(cell), cell) for cell in cells.cells_of(self)]
        given = tree.flatten(initial_state)
        if all(spec for spec, _ in stack) and all(hasattr(state, "shape") for state in given):
            known = [(spec, cell.units) for spec, cell in stack]
            state_checks.check_stacked_states(given, known, self.name)

    def check_sequences(self: Any, sequences: Any, name: str) -> None:
        """Raise ValueError unless the first cell can read the input, if the engine knows it.

        Args:
            sequences: the input.
            name: what to call the layer in the error.
        """
        first = cells.cells_of(self)[0]
        spec = cells.spec_of(first)
        if sequences is not None and spec is not None:
            features = first.kernel.shape[0] if first.built else None
            checks.check_inputs(sequences, features, spec, name)

    def _call_without_trace_losses(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Keras regularizes every output of a layer; the trace is none, so `call` does it here."""
        if not self.return_trace or self.activity_regularizer is None:
            return self.stock.__call__(self, *args, **kwargs)
        token = _regularizing_themselves.set((*_regularizing_themselves.get(), self))
        try:
            return self.stock.__call__(self, *args, **kwargs)
        finally:
            _regularizing_themselves.reset(token)

    @property
    def activity_regularizer(self: Any) -> Any:
        """Keras's attribute; None for Keras's own code during a call with a trace."""
        if not self.return_trace or self._activity_regularizer is None:
            return self._activity_regularizer
        hidden = any(layer is self for layer in _regularizing_themselves.get())
        return None if hidden else self._activity_regularizer

    @activity_regularizer.setter
    def activity_regularizer(self: Any, regularizer: Any) -> None:
        self._activity_regularizer = regularizer

    def _result(self: Any, outcome: Outcome) -> Any:
        if not (self.return_state or self.return_trace):
            return outcome.output
        if self.return_trace:
            self._add_activity_losses((outcome.output, *outcome.states))
        return outputs.make_result(self.cell_spec, outcome.output, outcome.states, outcome.trace)

    # --- Shapes, masks, losses, configuration ---

    def compute_output_shape(
        self: Any, sequences_shape: Any, initial_state_shape: Any = None
    ) -> Any:
        """Shapes of the results: one tuple, or a tuple of them with return_state/return_trace."""
        batch, time_steps = sequences_shape[0], sequences_shape[1]
        state = (batch, self.units)
        output = (batch, time_steps, self.units) if self.return_sequences else state
        if not (self.return_state or self.return_trace):
            return output
        shapes: tuple[Any, ...] = (output, *(state for _ in self.cell_spec.states))
        if self.return_trace:
            each = (batch, time_steps, self.units)
            shapes += ({name: each for name in self.cell_spec.trace_names},)
        return shapes

    def compute_output_spec(
        self: Any,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Symbolic results, in the structure that `call` returns."""

        def tensor(shape: Any) -> Any:
            return keras.KerasTensor(shape, dtype=self.compute_dtype)

        shapes = self.compute_output_shape(sequences.shape)
        if not (self.return_state or self.return_trace):
            return tensor(shapes)
        count = 1 + len(self.cell_spec.states)
        output, *states = (tensor(shape) for shape in shapes[:count])
        trace = None
        if self.return_trace:
            trace = {name: tensor(shape) for name, shape in shapes[-1].items()}
        return outputs.make_result(self.cell_spec, output, states, trace)

    def compute_mask(self: Any, inputs: Any, mask: Any) -> Any:
        """The input's mask for an output with time steps, None for everything else."""
        masks = super().compute_mask(inputs, mask)
        if not self.return_trace:
            return masks
        output_mask = masks[0] if isinstance(masks, list) else masks
        states = [None for _ in self.cell_spec.states]
        return [output_mask, *states, {name: None for name in self.cell_spec.trace_names}]

    def _add_activity_losses(self: Any, results: tuple[Any, ...]) -> None:
        regularizer = self._activity_regularizer
        if regularizer is None:
            return
        for result in results:
            loss = regularizer(result)
            self.add_loss(loss / ops.cast(ops.maximum(ops.shape(result)[0], 1), loss.dtype))

    def _check_unpacking(self: Any, frame: FrameType, result: Any) -> None:
        """Raise ValueError if the caller is about to unpack a single tensor into other than it."""
        count = unpack.names_awaiting_call(
            frame,
            lambda callee: (
                callee is self or (isinstance(callee, type) and isinstance(self, callee))
            ),
        )
        if count is None:
            return
        message = outputs.describe_unpacking(self.cell_spec, count, {"output": result})
        if isinstance(result, keras.KerasTensor) or result.shape[0] != count:
            raise ValueError(message)
        _log.warning(
            "The rows of a batch are unpacked, which works only because the batch has %d: %s",
            count,
            message,
        )

    def __reduce__(self: Any) -> Any:
        _, arguments = self.stock.__reduce__(self)
        return unpickle, arguments

    def _tell_stock_wrapper(self: Any, frame: FrameType | None) -> None:
        """Warn if Keras's Bidirectional is about to make stock layers of this one."""
        for _ in range(4):  # Keras's serialization is between the wrapper and here
            if frame is None:
                return
            if frame.f_code is keras.layers.Bidirectional.__init__.__code__:
                wrapper = frame.f_locals.get("self")
                told = self._wrapper_told
                if type(wrapper) is keras.layers.Bidirectional and not reading_as_recurra():
                    self._wrapper_told = True
                    if not told:
                        _log.warning(
                            "keras.layers.Bidirectional makes stock layers of Recurra's layer %r. "
                            "Use recurra.layers.Bidirectional to keep it on Recurra's engine.",
                            self.name,
                        )
                return
            frame = frame.f_back

    def get_config(self: Any) -> dict[str, Any]:
        """Keras's configuration; Recurra's arguments only where they differ from the defaults.

        So stock Keras loads the layer unless it needs what only Recurra has.
        """
        self._tell_stock_wrapper(sys._getframe(1))
        config = self.stock.get_config(self) | legacy.batch_config(self)
        if self.return_trace:
            config["return_trace"] = True
        if self.engine != "auto":
            config["engine"] = self.engine
        if self.checkpoint_every is not None:
            config["checkpoint_every"] = self.checkpoint_every
        return config


def holds_recurra(layer: Any) -> bool:
    """Whether a layer or model is one of Recurra's recurrent layers or holds any."""
    return any(isinstance(inner, Recurrent) for inner in layer._flatten_layers())


for _class in (
    keras.Model,
    keras.Sequential,
    Functional,
    keras.layers.Bidirectional,
    keras.layers.TimeDistributed,
):
    copies_as_recurra(_class, holds_recurra)
