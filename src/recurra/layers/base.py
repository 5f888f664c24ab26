"""A call of a recurrent layer, whatever its cell: states in, one scan or several, states out.

`Recurrent` replaces what happens in the call of Keras's RNN classes. Where the engine knows the
cells, each is one fused operation over the whole sequence; elsewhere the cell runs in Keras's own
scan, with masks applied here, around the cell.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops, tree
from keras.src import backend

from recurra import hosts
from recurra.engine import Choice, Config, choose
from recurra.layers import (
    cell_scan,
    cells,
    checks,
    legacy,
    shuffling,
    state_checks,
    states,
    traced_scan,
    usage,
)
from recurra.layers.metaclass import LayerType

_log = logging.getLogger("recurra")

Requests = Generator[Any, Any, None]
"""A call in progress: yields each scan that it needs of the engine, (Config, arguments), is sent
the scan's results by name, and yields `Done` with the layer's result. It returns nothing because
torch.compile does not know what a generator returns."""


@dataclass
class Outcome:
    """What a scan gave: `output` is the sequence's or the last step's; `states` nested as given."""

    output: Any
    states: list[Any]
    trace: dict[str, Any] | None = None


@dataclass
class Done:
    """The last thing that a call in progress yields: its result."""

    value: Any


def drive(*calls: Requests) -> list[Any]:
    """Run calls side by side, with one call of the engine for all that ask at the same time.

    Args:
        *calls: of layers that do not depend on each other, from `Recurrent.requests`.

    Returns:
        The layers' results.
    """
    results: list[Any] = [None] * len(calls)
    asking: dict[int, tuple[Config, dict[str, Any]]] = {}

    def advance(index: int, answer: dict[str, Any] | None) -> None:
        asked = calls[index].send(answer)
        if isinstance(asked, Done):
            asking.pop(index, None)
            results[index] = asked.value
        else:
            asking[index] = asked

    for index in range(len(calls)):
        advance(index, None)
    while asking:
        host = hosts.get(backend.backend())
        assert host is not None
        # One call is of one precision; layers with other dtypes wait for the next round.
        dtype = str(next(iter(asking.values()))[1]["x"].dtype)
        present = [i for i, (_, arrays) in asking.items() if str(arrays["x"].dtype) == dtype]
        if len(present) == 1:
            config, arrays = asking[present[0]]
            answers = [host.scan(config, **arrays)]
        else:
            answers = host.scan_many([asking[index] for index in present])
        for index, answer in zip(present, answers, strict=True):
            advance(index, answer)
    return results


class Recurrent(metaclass=LayerType):
    """Mixin for subclasses of Keras's RNN; comes before the stock class among the bases.

    A class sets `stock`, the Keras class that it stands for.
    """

    stock: ClassVar[Any]
    engine = "auto"
    return_trace = False
    checkpoint_every: int | str | None = None
    _fallback_told = False
    _shuffling_looked_at = False

    def call(
        self: Any,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Run the layer; see the class for the arguments and results."""
        return drive(self.requests(sequences, initial_state, mask, training))[0]

    def requests(
        self: Any,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Requests:
        """`call` as a generator for `drive`, which may run several layers at once."""
        x = ops.convert_to_tensor(sequences)
        if keras.backend.standardize_dtype(x.dtype) != self.compute_dtype:
            x = ops.cast(x, self.compute_dtype)
        keep = self._keep(mask, x)
        if self.stateful:
            states.check_batch(self, x.shape[0])
            # Under rematerialization `training` is a traced value.
            if not self._shuffling_looked_at and training is True:
                shuffling.tell_of_shuffling(self)
        initial = self._initial_states(initial_state, x)
        choice = self._choose_engine(x)
        usage.record(self, choice)
        if choice.engine == "cpu":
            # Not `yield from`: torch.compile cannot send through it.
            scans = self._fused_scans(x, initial, keep, training)
            outcome = scans.send(None)
            while not isinstance(outcome, Outcome):
                answer = yield outcome
                outcome = scans.send(answer)
        else:
            self._tell_fallback(choice)
            outcome = self._keras_scan(x, initial, keep, training)
        if self.stateful:
            states.assign(self, outcome.states)
        yield Done(self._result(outcome))

    def _result(self: Any, outcome: Outcome) -> Any:
        return (outcome.output, *outcome.states) if self.return_state else outcome.output

    def compute_mask(self: Any, inputs: Any, mask: Any) -> Any:
        """The mask of the outputs: the input's for a sequence, in the sequence's order, else None.

        Keras leaves the mask as it is where go_backwards turns the sequence round.
        """
        mask = next((m for m in tree.flatten(mask) if m is not None), None)
        if mask is not None and self.go_backwards and self.return_sequences:
            mask = ops.flip(mask, axis=1)
        return self.stock.compute_mask(self, inputs, mask)

    # --- What goes in ---

    def _keep(self: Any, mask: Any, x: Any) -> Any:
        """The mask as (batch, time_steps), bool; None for none."""
        if tree.is_nested(mask):
            mask = next((m for m in tree.flatten(mask) if m is not None), None)
        if mask is None:
            return None
        mask = ops.convert_to_tensor(mask)
        checks.check_mask(mask, x, self.name)
        mask = ops.cast(mask, "bool")
        return ops.squeeze(mask, -1) if len(mask.shape) == 3 else mask

    def _initial_states(self: Any, initial_state: Any, x: Any) -> list[Any] | None:
        """The states to start from, flat; None for zeros."""
        if initial_state is None and self.stateful:
            initial_state = states.read(self)
        if initial_state is None:
            if type(self).get_initial_state is keras.layers.RNN.get_initial_state:
                return None
            initial_state = self.get_initial_state(batch_size=ops.shape(x)[0])
        return tree.flatten(initial_state)

    # --- States kept from call to call ---

    def build(self: Any, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Make the cell's weights and, for a stateful layer, the states."""
        shape = legacy.with_batch(self, sequences_shape)
        if self.stateful and self.states is None and shape[0] is None:
            states.create(self, None)  # says what to do
        super().build(shape, initial_state_shape)  # type: ignore[misc]

    def _create_state_variables(self: Any, batch_size: int) -> None:
        states.create(self, batch_size)

    def reset_state(self: Any, states: Any = None) -> None:
        """Set the states of a stateful layer, to zeros unless they are given.

        Args:
            states: arrays (batch, units), nested as the layer's initial states are: a list, one per
                state; of a list per cell where cells are stacked. None for the initial states.

        Raises:
            ValueError: if number or shapes do not fit, or the layer keeps no states.
        """
        _reset(self, states)

    def reset_states(self: Any, states: Any = None) -> None:
        """The same as `reset_state`, by the name that it had in Keras 2."""
        self.reset_state(states)

    # --- The engine ---

    def _fused_scans(
        self: Any, x: Any, initial: list[Any] | None, mask: Any, training: bool
    ) -> Generator[Any, Any, None]:
        """One scan per cell, then the Outcome.

        In a stack each cell reads the sequence that the one below it wrote.
        """
        stack = cells.cells_of(self)
        given = self._checked_states(stack, initial)
        final: list[list[Any]] = []
        for index, cell in enumerate(stack):
            first, last = index == 0, cell is stack[-1] and index == len(stack) - 1
            spec = cells.spec_of(cell)
            assert spec is not None
            x = ops.cast(x, cell.compute_dtype)
            start = [] if given is None else [ops.cast(given.pop(0), x.dtype) for _ in spec.states]
            dropout_x, dropout_h = cells.dropout_factors(
                cell, x, training=training, drops_inputs=self._drops_inputs(mask)
            )
            results = yield (
                cells.engine_config(
                    cell,
                    go_backwards=self.go_backwards and first,
                    zero_output_for_mask=self.zero_output_for_mask and last,
                    checkpoint_every=self.checkpoint_every,
                ),
                {
                    "x": x,
                    **cells.weights(cell),
                    **dict(zip(("h0", "c0"), start, strict=False)),
                    "mask": mask,
                    "dropout_x": dropout_x,
                    "dropout_h": dropout_h,
                    "last_output": last and not self.return_sequences,
                    "sequence": not last or self.return_sequences,
                    "trace": self.return_trace,
                },
            )
            final.append([self._cast(results[name]) for name in spec.state_outputs])
            if not last:
                x = results["sequence"]
                if mask is not None and first and self.go_backwards:
                    mask = ops.flip(mask, axis=1)  # the sequence is in processing order
        output = self._cast(results["sequence" if self.return_sequences else "last_output"])
        trace = None
        if self.return_trace:  # of a single cell
            assert spec is not None
            trace = {name: self._cast(results[name]) for name in spec.trace_names}
        stacked = isinstance(self.cell, keras.layers.StackedRNNCells)
        yield Outcome(output, list(final) if stacked else final[0], trace)

    def _checked_states(
        self: Any, stack: Sequence[Any], given: list[Any] | None
    ) -> list[Any] | None:
        if given is None:
            return None
        state_checks.check_stacked_states(
            given, [(cells.spec_of(cell), cell.units) for cell in stack], self.name
        )
        return [ops.convert_to_tensor(state) for state in given]

    def _drops_inputs(self: Any, mask: Any) -> bool | None:
        """Whether the layer's `dropout` drops anything; None for what the cell says."""
        return None

    def _cast(self: Any, value: Any) -> Any:
        same = keras.backend.standardize_dtype(value.dtype) == self.compute_dtype
        return value if same else ops.cast(value, self.compute_dtype)

    # --- Keras's scan ---

    def _keras_scan(
        self: Any, x: Any, initial: list[Any] | None, mask: Any, training: bool
    ) -> Outcome:
        structure = self.get_initial_state(batch_size=ops.shape(x)[0])
        dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
        given = tree.flatten(structure) if initial is None else initial
        if len(given) != len(tree.flatten(structure)):
            raise ValueError(
                f"initial_state of layer {self.name!r} has {len(given)} arrays; expected "
                f"{len(tree.flatten(structure))}, as get_initial_state gives them."
            )
        for state, example in zip(given, tree.flatten(structure), strict=True):
            if not _may_equal(tuple(state.shape), tuple(example.shape)):
                raise ValueError(
                    f"initial_state of layer {self.name!r} has an array of shape "
                    f"{tuple(state.shape)}; expected {tuple(example.shape)}, as get_initial_state "
                    "gives it."
                )
        given = [ops.convert_to_tensor(state, dtype=dtype) for state in given]
        nested = tree.pack_sequence_as(structure, given)
        if x.shape[1] == 0:
            output = self._cast(cell_scan.output_of_nothing(self, x, nested))
            return Outcome(output, nested, self._trace_of_nothing(x))
        if self.return_trace:
            return self._traced_scan(x, given, mask, training)
        # A cell of the user's may ask for its masks in inference too; they must not be drawn inside
        # of the scan.
        stack = cells.cells_of(self)
        dropping = any(
            getattr(c, "dropout", 0) or getattr(c, "recurrent_dropout", 0) for c in stack
        )
        if dropping and (training or self._may_drop_in_inference(stack)):
            self._maybe_config_dropout_masks(self.cell, x[:, 0], nested)
        try:
            last, sequence, nested = self.inner_loop(x, nested, mask, training=training)
        finally:
            self._maybe_reset_dropout_masks(self.cell)
        output = sequence if self.return_sequences else last
        return Outcome(self._cast(output), tree.map_structure(self._cast, list(nested)))

    def _may_drop_in_inference(self: Any, stack: Sequence[Any]) -> bool:
        return any(cells.spec_of(cell) is None for cell in stack)

    def _trace_of_nothing(self: Any, x: Any) -> dict[str, Any] | None:
        spec = cells.spec_of(self.cell)
        if not self.return_trace or spec is None:
            return None
        empty = ops.zeros((ops.shape(x)[0], 0, self.units), dtype=self.compute_dtype)
        return {name: empty for name in spec.trace_names}

    def _traced_scan(self: Any, x: Any, initial: list[Any], mask: Any, training: bool) -> Outcome:
        cell, spec = self.cell, cells.spec_of(self.cell)
        assert spec is not None
        dropout_x, dropout_h = cells.dropout_factors(
            cell, x, training=training, drops_inputs=self._drops_inputs(mask)
        )
        weights = {
            name: value if value is None else ops.cast(value, self.compute_dtype)
            for name, value in cells.weights(cell).items()
        }
        results = traced_scan.scan(
            spec,
            x,
            **weights,
            states=initial,
            mask=mask,
            dropout_x=dropout_x,
            dropout_h=dropout_h,
            activation=cell.activation,
            recurrent_activation=getattr(cell, "recurrent_activation", None),
            reset_after=getattr(cell, "reset_after", None),
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
        )
        return Outcome(
            results["sequence" if self.return_sequences else "last_output"],
            [results[name] for name in spec.state_outputs],
            {name: results[name] for name in spec.trace_names},
        )

    def inner_loop(
        self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> Any:
        """Keras's scan over the cell: (last output, outputs of every step, final states)."""
        if self._uses_cudnn():
            return self.stock.inner_loop(self, sequences, initial_state, mask, training=training)
        return cell_scan.scan(self, sequences, initial_state, mask, training)

    def _uses_cudnn(self: Any) -> bool:
        """Whether stock's own loop is wanted, which runs cuDNN: by name, or on a GPU."""
        use = getattr(self, "use_cudnn", False)
        host = hosts.get(backend.backend())
        return use is True or (use == "auto" and host is not None and host.platform() == "gpu")

    # --- Which engine ---

    def _choose_engine(self: Any, x: Any = None) -> Choice:
        """The engine for a call on x, or in general."""
        name = backend.backend()
        host = hosts.get(name)
        obstacle = self._obstacle()
        if obstacle is None and host is not None and x is not None:
            obstacle = host.unavailable(x)
        config = None
        if obstacle is None:
            config = cells.engine_config(
                cells.cells_of(self)[0],
                go_backwards=self.go_backwards,
                zero_output_for_mask=self.zero_output_for_mask,
            )
        return choose(
            config,
            dtype=self.compute_dtype,
            host=None if host is None else name,
            platform="cpu" if host is None else host.platform(),
            engine=self.engine,
            obstacle=obstacle,
        )

    def _obstacle(self: Any) -> str | None:
        """Why this layer's options rule the compiled engine out, and what to change; else None."""
        if type(self).inner_loop is not Recurrent.inner_loop:
            return f"{type(self).__name__} overrides inner_loop, which the engine would skip"
        for cell in cells.cells_of(self):
            reason = cells.obstacle(cell)
            if reason is not None:
                return reason
        if getattr(self, "use_cudnn", "auto") is True:
            return "use_cudnn=True asks for cuDNN; leave use_cudnn at 'auto'"
        return None

    def _tell_fallback(self: Any, choice: Choice) -> None:
        if self.engine == "auto" and not self._fallback_told:
            self._fallback_told = True
            unused = (
                ""
                if self.checkpoint_every is None
                else f" It keeps every step: checkpoint_every={self.checkpoint_every!r} has no "
                "effect there."
            )
            _log.warning(
                "Layer %r (%s) runs on Keras's own scan, not on Recurra's engine: %s.%s",
                self.name,
                self.stock.__name__,
                choice.reason,
                unused,
            )


# A method named `reset_state` has an argument called `states`, as users of Keras 2 know it.
_reset = states.reset


def _may_equal(a: tuple[int | None, ...], b: tuple[int | None, ...]) -> bool:
    """Whether two shapes can be the same, with None for sizes that are not known."""
    return len(a) == len(b) and all(
        i == j or not isinstance(i, int) or not isinstance(j, int)
        for i, j in zip(a, b, strict=True)
    )
