"""TimeDistributed wrapper: a layer over every item of a sequence of items, in one call."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops, tree
from keras.src import backend

from recurra.layers import checks, legacy, provenance, rows
from recurra.layers.metaclass import LayerType
from recurra.layers.saving import recurra_classes, register, unpickle

_stock = keras.layers.TimeDistributed
_MASK_MAKERS = (keras.layers.Masking, keras.layers.Embedding)


@register
class TimeDistributed(keras.layers.TimeDistributed, metaclass=LayerType):
    """`keras.layers.TimeDistributed`: a layer applied to every item along axis 1.

    Where the layer treats each row of a batch by itself (recurrent layers, Dense, convolutions,
    models of such, ...), all items are computed in one call on batch · items rows. Elsewhere
    (stateful layers, BatchNormalization in training, dropout in training, a user's own layers) the
    layer is called item by item, as Keras does.

    Args:
        layer: the layer to apply.
        **kwargs: as for keras.layers.TimeDistributed (name, dtype, ...).

    Call arguments:
        inputs: (batch, items, ...), at least 3 axes; for a recurrent layer
            (batch, items, time_steps, features).
        mask: (batch, items), True where an item is real, or (batch, items, time_steps) for layers
            that read sequences. Of an item that is not real, a recurrent layer reads nothing.
        training: handed on to the layer.

    Returns:
        What the layer returns, with the axis of items after the batch: (batch, items, ...). For a
        layer with several results, such as LSTM(4, return_state=True), the same tuple of results,
        each (batch, items, ...).

    Raises:
        ValueError: for inputs with too few axes and masks that do not fit.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import LSTM, TimeDistributed
        >>> documents = np.zeros((2, 6, 9, 3))  # 6 sentences of 9 words each
        >>> output, state_h, state_c = TimeDistributed(LSTM(4, return_state=True))(documents)
        >>> output.shape, state_c.shape
        ((2, 6, 4), (2, 6, 4))
    """

    __init__ = legacy.constructor(_stock)

    def __reduce__(self) -> Any:
        _, arguments = super().__reduce__()
        return unpickle, arguments

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The layer that `get_config` describes, with Recurra's recurrent layers inside."""
        with recurra_classes():
            return super().from_config(dict(config), custom_objects=custom_objects)

    # --- Shapes ---

    def _get_child_input_shape(self, input_shape: Any) -> tuple[Any, ...]:
        if isinstance(input_shape, (list, tuple)) and len(input_shape) < 3:
            self._refuse_without_items(tuple(input_shape))
        shape = super()._get_child_input_shape(input_shape)
        if rows.reads_sequences(self.layer) and len(shape) < 3:
            kind = type(self.layer).__name__
            raise ValueError(
                f"TimeDistributed {self.name!r} calls {self.layer.name!r} on every item of axis 1, "
                f"and {checks.article(kind)} {kind} reads sequences: expected an input of shape "
                f"(batch, items, time_steps, features), got {tuple(input_shape)}. To read axis 1 "
                "itself as the sequence, use the layer without TimeDistributed."
            )
        return shape

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The layer's shapes, nested as its results are, with the axis of items after the batch."""
        shapes = self.layer.compute_output_shape(self._get_child_input_shape(input_shape))
        return tree.map_shape_structure(lambda s: (s[0], input_shape[1], *s[1:]), shapes)

    def compute_output_spec(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Symbolic results, in the structure that `call` returns."""
        item = keras.KerasTensor(self._get_child_input_shape(inputs.shape), dtype=inputs.dtype)
        # These cast to their own dtype; in others this layer's policy rules, as with Keras.
        own_dtype = rows.reads_sequences(self.layer) or isinstance(self.layer, keras.Model)

        def spread(spec: Any) -> Any:
            of_ours = backend.is_float_dtype(spec.dtype) and not own_dtype
            return keras.KerasTensor(
                (inputs.shape[0], inputs.shape[1], *spec.shape[1:]),
                dtype=self.compute_dtype if of_ours else spec.dtype,
            )

        return tree.map_structure(spread, self.layer.compute_output_spec(item))

    # --- Calling ---

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else kwargs.get("inputs")
        checks.check_not_whole_result(inputs, self.name)
        shape = getattr(inputs, "shape", None)
        if shape is not None and len(shape) < 3:
            self._refuse_without_items(tuple(shape), inputs)
        return super().__call__(*args, **kwargs)

    def _refuse_without_items(self, shape: tuple[Any, ...], inputs: Any = None) -> None:
        kind = type(self.layer).__name__
        advice = provenance.advice_to_keep_time(inputs, self.name) if len(shape) == 2 else ""
        raise ValueError(
            "`TimeDistributed` Layer should be passed an `input_shape` with at least 3 dimensions, "
            f"received: {shape}. TimeDistributed {self.name!r} applies {self.layer.name!r} to "
            "every step of (batch, time_steps, ...). "
            + (advice or f"Without time steps use {kind}(...) by itself.")
        )

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Run the layer on all items; see the class for the arguments and results."""
        if mask is not None:
            self._check_mask_fits(inputs, mask)
        steps = inputs.shape[1]
        if steps == 0:
            return self._results_of_nothing(inputs)
        # Without a fixed number of items Keras draws in no particular order either.
        if rows.independent(self.layer, training, drawn_alike=steps is not None):
            results = self._call_layer(
                _fold(inputs), None if mask is None else _fold(mask), training
            )
            return tree.map_structure(lambda value: _unfold(value, inputs), results)
        if steps is None:
            return self._mapped(inputs, mask, training)
        items = [
            self._call_layer(inputs[:, i], None if mask is None else mask[:, i], training)
            for i in range(steps)
        ]
        return tree.map_structure(lambda *values: ops.stack(values, axis=1), *items)

    def _call_layer(self, inputs: Any, mask: Any, training: Any) -> Any:
        arguments = {}
        if mask is not None and self.layer._call_has_mask_arg:
            mask = self._mask_for_layer(inputs, mask)
            if mask is not None:
                arguments["mask"] = mask
        if self.layer._call_has_training_arg:
            arguments["training"] = training
        return self.layer.call(inputs, **arguments)

    def _mask_for_layer(self, inputs: Any, mask: Any) -> Any:
        """One mask per row, (rows,), as the layer understands it."""
        if len(mask.shape) > 2 or (len(mask.shape) == 2 and mask.shape[1] != 1):
            return mask
        if rows.reads_sequences(self.layer):
            every_step = ops.ones((1, ops.shape(inputs)[1]), dtype="bool")
            keep = ops.cast(mask if len(mask.shape) == 2 else ops.expand_dims(mask, -1), "bool")
            return ops.logical_and(keep, every_step)
        inner = self.layer._flatten_layers() if isinstance(self.layer, keras.Model) else ()
        # Inside a model that mask would reach layers that expect one per step.
        return None if any(rows.reads_sequences(layer) for layer in inner) else mask

    def _mapped(self, inputs: Any, mask: Any, training: Any) -> Any:
        """Item by item, without knowing at this point how many there are."""
        inputs, mask = (
            ops.swapaxes(inputs, 0, 1),
            None if mask is None else ops.swapaxes(mask, 0, 1),
        )

        def at(i: Any) -> Any:
            return self._call_layer(inputs[i], None if mask is None else mask[i], training)

        results = backend.vectorized_map(at, ops.arange(ops.shape(inputs)[0]))
        return tree.map_structure(lambda value: ops.swapaxes(value, 0, 1), results)

    def _results_of_nothing(self, inputs: Any) -> Any:
        batch = ops.shape(inputs)[0]
        spec = self.compute_output_spec(keras.KerasTensor(inputs.shape, dtype=self.compute_dtype))
        return tree.map_structure(
            lambda s: ops.zeros((batch, 0, *s.shape[2:]), dtype=s.dtype), spec
        )

    # --- Masks ---

    def _check_mask_fits(self, inputs: Any, mask: Any) -> None:
        shape, given = tuple(inputs.shape), tuple(mask.shape)
        if len(given) < 2:
            raise ValueError(
                f"The `mask` passed to the `TimeDistributed` layer has a shape {given}, "
                f"{len(given)} axis; expected at least 2: (batch, items), True where an item is "
                f"real, for inputs of shape {shape}."
            )
        if any(
            a is not None and b is not None and a != b
            for a, b in zip(shape[:2], given, strict=False)
        ):
            hint = " Its axes are swapped: pass mask.T." if given == shape[1::-1] else ""
            raise ValueError(
                f"The `mask` passed to the `TimeDistributed` layer has a shape {given} that does "
                f"not fit inputs of shape {shape}; expected (batch, items) = {shape[:2]}, True "
                f"where an item is real.{hint}"
            )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """What is real of each result: the layer's own mask per item, or which items are real.

        Symbolic masks become a part of the model, so only Keras's own operations are used on them.
        """
        if tree.is_nested(mask):
            mask = next((each for each in tree.flatten(mask) if each is not None), None)
        layer, axes = self.layer, 2  # in front: the batch, and the items of every wrapper
        while isinstance(layer, _stock):
            layer, axes = layer.layer, axes + 1
        if isinstance(layer, _MASK_MAKERS):  # both work on any number of axes
            made = layer.compute_mask(inputs, mask)
            if made is not None:
                return made
        if mask is None:
            return None
        real = mask
        if len(mask.shape) > axes:
            real = ops.any(ops.cast(mask, "bool"), axis=tuple(range(axes, len(mask.shape))))
        # A model's masks are on its results already, unless they are symbolic.
        if not layer.supports_masking or isinstance(layer, keras.Model):
            return real
        if rows.reads_sequences(layer) or type(layer).compute_mask is keras.Layer.compute_mask:
            inner = layer.compute_mask(inputs, mask)  # the very mask or None, for every result
            return tree.map_structure(lambda m: real if m is None else mask, inner)
        if _is_symbolic(inputs) or axes > 2:
            return real
        inner = layer.compute_mask(_fold(inputs), self._mask_for_layer(_fold(inputs), _fold(mask)))
        return tree.map_structure(lambda m: real if m is None else _unfold(m, inputs), inner)


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _fold(value: Any) -> Any:
    """(batch, items, ...) as (batch · items, ...)."""
    batch, items, *rest = ops.shape(value)
    return ops.reshape(value, (batch * items, *rest))


def _unfold(value: Any, like: Any) -> Any:
    """(batch · items, ...) as (batch, items, ...), `like` giving those; so its mask."""
    result = ops.reshape(value, (*ops.shape(like)[:2], *ops.shape(value)[1:]))
    mask = backend.get_keras_mask(value)
    if mask is not None:
        backend.set_keras_mask(result, _unfold(mask, like))
    return result
