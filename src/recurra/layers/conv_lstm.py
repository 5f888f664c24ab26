"""ConvLSTM layers: Keras's, with right masks and states on every host."""

from __future__ import annotations

from typing import Any

import keras

from recurra.layers import legacy
from recurra.layers.base import Outcome, Recurrent
from recurra.layers.metaclass import LayerType
from recurra.layers.saving import register
from recurra.layers.wrapper_results import Contents


class ConvRecurrent(Recurrent, metaclass=LayerType):
    """Mixin for the ConvLSTM layers; comes before the stock class among the bases."""

    def _obstacle(self: Any) -> str | None:
        return "the engine computes no convolutional cells"

    def _tell_fallback(self: Any, choice: Any) -> None:
        """Nothing: there is nothing that a user could change."""

    def _may_drop_in_inference(self: Any, stack: Any) -> bool:
        return False

    def _result(self: Any, outcome: Outcome) -> Any:
        if not self.return_state:
            return outcome.output
        return self._contents().named([outcome.output, *outcome.states])

    def _contents(self: Any) -> Contents:
        when = "every step" if self.return_sequences else "the last kept step"
        return Contents(
            self.stock.__name__,
            (
                ("output", f"Hidden state of {when}."),
                ("state_h", "Hidden state after the last kept step."),
                ("state_c", "Cell state after the last kept step."),
            ),
            "For the output alone build the layer without return_state=True.",
        )

    def compute_output_spec(
        self: Any,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Symbolic results, in the structure that `call` returns."""
        shapes = self.compute_output_shape(sequences.shape)
        if not self.return_state:
            return keras.KerasTensor(shapes, dtype=self.compute_dtype)
        return self._contents().named(
            keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes
        )


@register
class ConvLSTM1D(ConvRecurrent, keras.layers.ConvLSTM1D):
    """`keras.layers.ConvLSTM1D`: an LSTM over a sequence of rows, whose products are convolutions.

    Keras's equations in Keras's scan; no convolutional cell is compiled into the engine. Recurra's
    part is that masks, states and empty sequences come out right on every host.

    Args:
        filters, kernel_size, ...: all arguments of keras.layers.ConvLSTM1D, in the same order.

    Call arguments:
        sequences: (batch, time_steps, length, channels), or (batch, time_steps, channels, length)
            with data_format="channels_first".
        initial_state: [state_h, state_c], each shaped like the output of one step; None for zeros.
        mask: (batch, time_steps), True where the step is kept; None to keep all.
        training: whether dropout is applied.

    Returns:
        The output of the last kept step, (batch, length', filters), or of every step with
        return_sequences, (batch, time_steps, length', filters); length' is what the convolution
        leaves of length. With return_state a named tuple (output, state_h, state_c).

    Raises:
        ValueError: for arguments, inputs, states or masks that do not fit.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import ConvLSTM1D
        >>> ConvLSTM1D(6, 3)(np.zeros((2, 7, 9, 1))).shape
        (2, 7, 6)

    Source: Shi et al., 2015, https://arxiv.org/abs/1506.04214, without peepholes.
    """

    stock = keras.layers.ConvLSTM1D
    __init__ = legacy.constructor(keras.layers.ConvLSTM1D)


@register
class ConvLSTM2D(ConvRecurrent, keras.layers.ConvLSTM2D):
    """`keras.layers.ConvLSTM2D`: an LSTM over a sequence of images.

    As `ConvLSTM1D`, with two spatial axes: sequences are (batch, time_steps, height, width,
    channels), outputs (batch, height', width', filters) or with return_sequences (batch,
    time_steps, height', width', filters).

    Raises:
        ValueError: as `ConvLSTM1D`.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import ConvLSTM2D
        >>> ConvLSTM2D(6, 3, padding="same")(np.zeros((2, 7, 8, 9, 1))).shape
        (2, 8, 9, 6)

    Source: as `ConvLSTM1D`.
    """

    stock = keras.layers.ConvLSTM2D
    __init__ = legacy.constructor(keras.layers.ConvLSTM2D)


@register
class ConvLSTM3D(ConvRecurrent, keras.layers.ConvLSTM3D):
    """`keras.layers.ConvLSTM3D`: an LSTM over a sequence of volumes.

    As `ConvLSTM1D`, with three spatial axes: sequences are (batch, time_steps, depth, height,
    width, channels), outputs (batch, depth', height', width', filters) or with return_sequences
    (batch, time_steps, depth', height', width', filters).

    Raises:
        ValueError: as `ConvLSTM1D`.

    Example:
        >>> import numpy as np
        >>> from recurra.layers import ConvLSTM3D
        >>> ConvLSTM3D(6, 3, padding="same")(np.zeros((2, 7, 4, 8, 9, 1))).shape
        (2, 4, 8, 9, 6)

    Source: as `ConvLSTM1D`.
    """

    stock = keras.layers.ConvLSTM3D
    __init__ = legacy.constructor(keras.layers.ConvLSTM3D)
