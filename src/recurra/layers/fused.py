"""What Recurra's recurrent layers share: Keras's layers, computed by an engine.

A layer here is a subclass of the stock class: constructor, weights, configuration, state variables
and saved files are Keras's. Replaced is what happens in a call: one fused operation for the whole
sequence instead of a scan over the cell, named-tuple results, the trace, and errors that teach.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any, ClassVar

import keras
from keras import ops, tree
from keras.src.backend import AutocastScope
from keras.src.models.functional import Functional

from recurra import hosts
from recurra.cells import ACTIVATIONS, CellSpec
from recurra.engine import Choice, Config, check_engine, choose
from recurra.layers import checks, outputs, plain, unpack
from recurra.layers.activations import check_activation, engine_name
from recurra.layers.saving import copies_as_recurra, reading_as_recurra, unpickle

_log = logging.getLogger("recurra")
_config = functools.lru_cache(maxsize=None)(Config)

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
    ]
    *stock_parameters, keywords = signature.parameters.values()

    def __init__(
        self: Any, *args: Any, return_trace: bool = False, engine: str = "auto", **kwargs: Any
    ) -> None:
        check_engine(engine)
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
        self.return_trace = bool(return_trace)
        self.engine = engine
        self._fallback_told = self._wrapper_told = False
        if engine == "cpu":
            self._choose_engine()

    __init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*stock_parameters, *own, keywords]
    )
    return __init__


def _check_keywords(stock: Any, given: dict[str, Any]) -> None:
    """Raise ValueError for a keyword that no constructor takes, naming the one that was meant."""
    known = {"return_trace", "engine"}
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


class FusedRNN:
    """Mixin for the layers; comes before the stock class among the bases.

    A class sets `cell_spec`, `stock` (the Keras class) and `stock_cell` (the class of its cell).
    """

    cell_spec: ClassVar[CellSpec]
    stock: ClassVar[Any]
    stock_cell: ClassVar[Any]

    # --- Calling ---

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        names = ("sequences", "initial_state", "mask")
        positional = [
            checks.arrays_from_lists(name, value, self.name)
            for name, value in zip(names, args, strict=False)
        ]
        args = (*positional, *args[len(positional) :])
        for name in names:
            if name in kwargs:
                kwargs[name] = checks.arrays_from_lists(name, kwargs[name], self.name)
        call = dict(zip(names, args, strict=False)) | kwargs
        sequences = call.get("sequences")
        if sequences is not None:
            features = self.cell.kernel.shape[0] if self.built else None
            checks.check_inputs(sequences, features, self.cell_spec, self.name)
            checks.check_initial_state(
                call.get("initial_state"), sequences, self.units, self.cell_spec, self.name
            )
            if not tree.is_nested(call.get("mask")):
                checks.check_mask(call.get("mask"), sequences, self.name)
        result = self._call_without_trace_losses(args, kwargs)
        if hasattr(result, "shape"):
            self._check_unpacking(sys._getframe(1), result)
        return result

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
        hidden = any(layer is self for layer in _regularizing_themselves.get())
        return None if hidden else self._activity_regularizer

    @activity_regularizer.setter
    def activity_regularizer(self: Any, regularizer: Any) -> None:
        self._activity_regularizer = regularizer

    def call(
        self: Any,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Run the layer; see the class for the arguments and results."""
        choice = self._choose_engine()
        if choice.engine == "keras":
            self._tell_fallback(choice)
            if not self.return_trace:
                result = self.stock.call(
                    self, sequences, initial_state=initial_state, mask=mask, training=training
                )
                if self.return_state:
                    return outputs.make_result(self.cell_spec, result[0], list(result[1:]))
                return result

        arrays = self._arrays(sequences, initial_state, mask, training)
        results = self._run(choice, arrays)
        states = [results[name] for name in self.cell_spec.state_outputs]
        if self.stateful:
            for variable, state in zip(self.states, states, strict=True):
                variable.assign(state)
        output = results["sequence" if self.return_sequences else "last_output"]
        if not (self.return_state or self.return_trace):
            return output
        trace = None
        if self.return_trace:
            trace = {name: results[name] for name in self.cell_spec.trace_names}
            self._add_activity_losses((output, *states))
        return outputs.make_result(self.cell_spec, output, states, trace)

    def _run(self: Any, choice: Choice, arrays: dict[str, Any]) -> dict[str, Any]:
        if choice.engine == "cpu":
            host = hosts.get(keras.backend.backend())
            assert host is not None
            states = arrays.pop("states") or (None, None)
            return host.scan(
                self._engine_config(),
                **arrays,
                **dict(zip(("h0", "c0"), states, strict=False)),
                last_output=not self.return_sequences,
                sequence=self.return_sequences,
                trace=self.return_trace,
            )
        batch = ops.shape(arrays["x"])[0]
        arrays["states"] = arrays["states"] or self.get_initial_state(batch_size=batch)
        for name in ("kernel", "recurrent_kernel", "bias"):
            if arrays[name] is not None:
                arrays[name] = ops.cast(arrays[name], self.compute_dtype)
        return plain.scan(
            self.cell_spec,
            **arrays,
            activation=self.cell.activation,
            recurrent_activation=getattr(self.cell, "recurrent_activation", None),
            reset_after=getattr(self.cell, "reset_after", None),
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
        )

    def _arrays(
        self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool
    ) -> dict[str, Any]:
        """The arrays of one call by the engine's names; "states" holds the initial ones or None."""
        x = ops.convert_to_tensor(sequences)
        if keras.backend.standardize_dtype(x.dtype) != self.compute_dtype:
            x = ops.cast(x, self.compute_dtype)
        if self.stateful:
            self._check_stateful_batch(x.shape[0])
            initial_state = self.states if initial_state is None else initial_state
        states = None
        if initial_state is not None:
            states = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
            states = [ops.convert_to_tensor(s, dtype=self.compute_dtype) for s in states]
        if tree.is_nested(mask):
            mask = tree.flatten(mask)[0]
        if mask is not None:
            checks.check_mask(mask, x, self.name)
            mask = ops.cast(mask, "bool")
            mask = ops.squeeze(mask, -1) if len(mask.shape) == 3 else mask
        dropout_x, dropout_h = self._dropout_factors(x, states, mask, training)
        # The engine computes in float32 at least, so half-precision policies give it the variables
        # as they are kept instead of rounding them first.
        with AutocastScope(None):
            weights = {
                name: None if variable is None else variable.value
                for name, variable in (
                    ("kernel", self.cell.kernel),
                    ("recurrent_kernel", self.cell.recurrent_kernel),
                    ("bias", self.cell.bias),
                )
            }
        return {
            "x": x,
            **weights,
            "states": states,
            "mask": mask,
            "dropout_x": dropout_x,
            "dropout_h": dropout_h,
        }

    def _check_stateful_batch(self: Any, batch: int | None) -> None:
        expected = self._expected_batch_size
        if expected is not None and batch is not None and batch != expected:
            raise ValueError(
                "If an RNN is stateful, the batch size of the input sequences must be the same as "
                "the batch size of the initial state. \n"
                f"- Expected batch size: {expected}\n"
                f"- Received batch size: {batch}"
            )

    # --- Dropout: Keras's masks, drawn by the same calls in the same order ---

    def _dropout_factors(
        self: Any, x: Any, states: list[Any] | None, mask: Any, training: bool
    ) -> tuple[Any, Any]:
        cell = self.cell
        if cell.dropout == 0 and cell.recurrent_dropout == 0:
            return None, None
        step = x[:, 0, :] if x.shape[1] != 0 else ops.zeros((ops.shape(x)[0], x.shape[2]), x.dtype)
        state = states or self.get_initial_state(batch_size=ops.shape(x)[0])
        # Drawn in inference too, as stock does: the seed generator must advance alike.
        self._maybe_config_dropout_masks(cell, step, state)
        factors = (
            _stacked(cell.get_dropout_mask(step))
            if training and self._drops_inputs(mask)
            else None,
            _stacked(cell.get_recurrent_dropout_mask(state[0]))
            if training and self._drops_states()
            else None,
        )
        self._maybe_reset_dropout_masks(cell)
        return factors

    def _drops_inputs(self: Any, mask: Any) -> bool:
        return 0.0 < self.cell.dropout < 1.0

    def _drops_states(self: Any) -> bool:
        return 0.0 < self.cell.recurrent_dropout < 1.0

    # --- Which engine ---

    def _choose_engine(self: Any) -> Choice:
        backend = keras.backend.backend()
        host = hosts.get(backend)
        obstacle = self._obstacle()
        return choose(
            None if obstacle else self._engine_config(),
            dtype=self.compute_dtype,
            host=None if host is None else backend,
            platform="cpu" if host is None else host.platform(),
            engine=self.engine,
            obstacle=obstacle,
        )

    def _obstacle(self: Any) -> str | None:
        """Why this layer's options rule the compiled engine out, and what to change; else None."""
        if type(self).inner_loop is not self.stock.inner_loop:
            return f"{type(self).__name__} overrides inner_loop, which the engine would skip"
        if type(self.cell) is not self.stock_cell:
            return (
                f"its cell is a {type(self.cell).__name__}, not Keras's {self.stock_cell.__name__}"
            )
        for argument in self._activations():
            function = getattr(self.cell, argument)
            if engine_name(function) is None:
                shown = getattr(function, "__name__", None) or repr(function)
                return (
                    f"{argument}={shown} is not compiled into the engine; "
                    f"to use the engine choose one of {', '.join(ACTIVATIONS)}"
                )
        if getattr(self, "use_cudnn", "auto") is True:
            return "use_cudnn=True asks for cuDNN; leave use_cudnn at 'auto'"
        return None

    def _activations(self) -> tuple[str, ...]:
        both = ("activation", "recurrent_activation")
        return both if self.cell_spec.uses_recurrent_activation else both[:1]

    def _engine_config(self: Any) -> Config:
        names = {
            argument: engine_name(getattr(self.cell, argument)) for argument in self._activations()
        }
        return _config(
            self.cell_spec.name,
            reset_after=getattr(self.cell, "reset_after", True),
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
            **names,
        )

    def _tell_fallback(self: Any, choice: Choice) -> None:
        if self.engine == "auto" and not self._fallback_told:
            self._fallback_told = True
            _log.warning(
                "Layer %r (%s) runs on Keras's own scan, not on Recurra's engine: %s.",
                self.name,
                self.cell_spec.layer,
                choice.reason,
            )

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
        masks = self.stock.compute_mask(self, inputs, mask)
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
        config = self.stock.get_config(self)
        if self.return_trace:
            config["return_trace"] = True
        if self.engine != "auto":
            config["engine"] = self.engine
        return config


def holds_recurra(layer: Any) -> bool:
    """Whether a layer or model is one of Recurra's recurrent layers or holds any."""
    return any(isinstance(inner, FusedRNN) for inner in layer._flatten_layers())


for _class in (
    keras.Model,
    keras.Sequential,
    Functional,
    keras.layers.Bidirectional,
    keras.layers.TimeDistributed,
):
    copies_as_recurra(_class, holds_recurra)


def _stacked(masks: Any) -> Any:
    """Keras's dropout masks, one (batch, width) or a list per gate, as the engine takes them."""
    return ops.stack(masks) if isinstance(masks, list) else ops.expand_dims(masks, 0)
