"""What a layer gives back: with the mask of its input, or without one."""

from __future__ import annotations

from recurra.runtime.layer import Array, Call, Result


def keeping(call: Call, output: Array) -> Result:
    """One output with the first input's mask."""
    return Result([output], [call.masks[0]])


def dropping(output: Array) -> Result:
    """One output without a mask: what Keras gives where a layer does not support masks."""
    return Result([output], [None])
