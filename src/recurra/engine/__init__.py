"""Which engine runs a recurrent layer, and why.

    choose(config, dtype="float32", host="jax", platform="cpu", engine="auto")

gives a `Choice`: "cpu" is the compiled engine (`recurra.engine.cpu`), "keras" is Keras's own scan.
An explicit request runs or raises with the reason; only "auto" falls back.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from recurra.engine import cpu
from recurra.engine.config import Config

__all__ = ["ENGINES", "Choice", "Config", "choose", "cpu", "set_num_threads"]

ENGINES = ("auto", "cpu", "keras")
"""Values of a layer's `engine` argument."""


@dataclass(frozen=True)
class Choice:
    """The engine that runs, and the reason in one sentence for people.

    engine: "cpu" or "keras".
    reason: why, and for a fallback what to change.
    """

    engine: str
    reason: str


def check_engine(engine: str) -> None:
    """Raise ValueError unless `engine` is one of `ENGINES`."""
    if engine not in ENGINES:
        close = difflib.get_close_matches(str(engine), ENGINES, n=1, cutoff=0.7)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"engine={engine!r} is not an engine.{hint} Expected 'auto' (the compiled engine where "
            "it can, else Keras's scan), 'cpu' (the compiled engine, or an error that says why "
            "not) or 'keras' (always Keras's scan)."
        )


def choose(
    config: Config | None,
    *,
    dtype: str,
    host: str | None,
    platform: str = "cpu",
    engine: str = "auto",
    obstacle: str | None = None,
) -> Choice:
    """Choose the engine for one layer.

    Args:
        config: what is to be computed; None if it cannot be expressed for the compiled engine, and
            then `obstacle` says why.
        dtype: name of the layer's compute dtype.
        host: name of the framework that Keras runs on if Recurra has a host for it, else None.
        platform: where that framework computes.
        engine: the layer's `engine` argument, one of `ENGINES`.
        obstacle: a reason known beforehand why the compiled engine cannot run.

    Returns:
        The choice and its reason.

    Raises:
        ValueError: for an unknown `engine`, and for "cpu" where it cannot run.

    Example:
        >>> choose(Config("lstm"), dtype="float32", host="jax", engine="keras").engine
        'keras'
    """
    check_engine(engine)
    if engine == "keras":
        return Choice("keras", "engine='keras' asks for Keras's own scan")
    if obstacle is not None or config is None:
        runs, reason = False, obstacle or "the cell cannot be expressed for the compiled engine"
    elif host is None:
        runs, reason = (
            False,
            (
                "Recurra has no host for the framework that Keras runs on; set KERAS_BACKEND=jax "
                "(or torch, or tensorflow)"
            ),
        )
    else:
        runs, reason = cpu.verify(config, dtype, platform)
    if runs:
        return Choice("cpu", reason)
    if engine == "cpu":
        raise ValueError(f"engine='cpu' was asked for, but {reason}.")
    return Choice("keras", reason)


# torch.compile calls it instead of tracing it.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use: n >= 1, or 0 for the host's setting or one per core."""
    from recurra import _engine

    _engine.set_num_threads(n)
