"""How far bfloat16 takes results and gradients from float64: Recurra's layers and stock Keras's.

    python benchmarks/bfloat16_error.py            # prints a table
    python benchmarks/bfloat16_error.py --record   # and keeps it for docs/performance.md

Recurra's layers have the policy mixed_bfloat16. Keras's have the policy bfloat16, which computes
the same: with the mixed one its GRU cannot be trained on JAX (`stateless_call` fails in Keras
3.15). The weights are the same.
Input and gradient of the output are bfloat16 numbers to begin with, so what is measured is the
layer's doing.
The exact results are those of `recurra.reference`.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np

from recurra import _engine, layers, reference
from tables import keep, machine, record_option, show

SHAPES = ((32, 30, 8, 64), (64, 100, 64, 128), (32, 100, 256, 512))
CELLS = ("LSTM", "GRU")
QUANTITIES = ("output", "d input", "d kernel", "d recurrent kernel", "d bias")

Arrays = dict[str, Any]


def inputs(shape: tuple[int, int, int, int]) -> tuple[Any, Any]:
    """x and the gradient of the output sequence, bfloat16."""
    batch, steps, features, units = shape
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((batch, steps, features)), jnp.bfloat16)
    return x, jnp.asarray(rng.standard_normal((batch, steps, units)), jnp.bfloat16)


def of_layer(layer: Any, x: Any, d: Any) -> Arrays:
    """A layer's results and gradients."""
    variables = [variable.value for variable in layer.trainable_variables]
    state = [variable.value for variable in layer.non_trainable_variables]

    @jax.jit
    def run(variables: Any, x: Any, d: Any) -> Any:
        output, pull = jax.vjp(lambda v, x: layer.stateless_call(v, state, x)[0], variables, x)
        return output, pull(d)

    output, (dvariables, dx) = run(variables, x, d)
    values = (output, dx, *dvariables)
    return dict(zip(QUANTITIES, (np.asarray(v, np.float64) for v in values), strict=True))


def exact(cell: str, layer: Any, x: Any, d: Any) -> Arrays:
    """The same in float64."""
    kernel, recurrent_kernel, bias = (np.asarray(v.value) for v in layer.trainable_variables)
    arguments = {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": bias}
    x, d = np.asarray(x, np.float64), np.asarray(d, np.float64)
    output = reference.forward(cell, x, **arguments).sequence
    gradients = reference.backward(cell, x, **arguments, d_sequence=d)
    values = (
        output,
        gradients.dx,
        gradients.dkernel,
        gradients.drecurrent_kernel,
        gradients.dbias,
    )
    return dict(zip(QUANTITIES, values, strict=True))


def error(found: Any, expected: Any) -> dict[str, float]:
    """Largest error relative to the largest element, and root mean squares relative likewise."""
    difference = found - expected
    return {
        "max": float(np.max(np.abs(difference)) / np.max(np.abs(expected))),
        "rms": float(np.sqrt(np.mean(difference**2) / np.mean(expected**2))),
    }


def measure(cell: str, shape: tuple[int, int, int, int]) -> list[Arrays]:
    x, d = inputs(shape)
    keras.utils.set_random_seed(0)
    ours = getattr(layers, cell)(
        shape[3], return_sequences=True, dtype="mixed_bfloat16", engine="cpu"
    )
    stock = getattr(keras.layers, cell)(
        shape[3],
        return_sequences=True,
        dtype="bfloat16",
        recurrent_initializer="zeros",  # the default one does not exist in bfloat16
    )
    for layer in (ours, stock):
        layer.build(x.shape)
    stock.set_weights(ours.get_weights())
    expected = exact(cell.lower(), ours, x, d)
    found = {"recurra": of_layer(ours, x, d), "keras": of_layer(stock, x, d)}
    return [
        {
            "cell": cell,
            "shape": list(shape),
            "of": name,
            **{peer: error(results[name], expected[name]) for peer, results in found.items()},
        }
        for name in QUANTITIES
    ]


def report(measured: list[Arrays]) -> Arrays:
    """What is kept: the numbers, and a table of them for people."""

    def cells(one: Arrays) -> list[str]:
        name = f"{one['cell']} {','.join(map(str, one['shape']))}"
        peers = [f"{one[peer][kind]:.1e}" for peer in ("recurra", "keras") for kind in error_kinds]
        return [name, one["of"], *peers]

    error_kinds = ("rms", "max")
    return {
        "machine": machine({"keras": keras.__version__, "jax": jax.__version__}, "mixed_bfloat16"),
        "command": "python benchmarks/bfloat16_error.py",
        "notes": [
            "Errors against float64, relative to the root mean square (rms) or the largest element "
            "(max) of what is computed. Recurra's layers have the policy mixed_bfloat16, Keras's "
            "bfloat16: with the mixed one its GRU cannot be trained on JAX.",
            "Inputs and the gradient of the output are bfloat16 numbers; the output and the "
            "gradient of the input are rounded to bfloat16, which alone costs an rms of about "
            "1.7e-3.",
            f"Recurra ran on {_engine.isa()}; every instruction set gives these errors.",
        ],
        "columns": [
            "layer and (batch, steps, features, units)",
            "of",
            "Recurra rms",
            "Recurra max",
            "Keras on JAX rms",
            "Keras on JAX max",
        ],
        "rows": [cells(one) for one in measured],
        "measured": measured,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    record_option(parser)
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="only the first so many")
    arguments = parser.parse_args()
    if arguments.record and arguments.shapes < len(SHAPES):
        parser.error("--record keeps full runs only")
    shapes = SHAPES[: arguments.shapes]
    measured = [one for shape in shapes for cell in CELLS for one in measure(cell, shape)]
    result = report(measured)
    show(result)
    keep("bfloat16_error", result, record=arguments.record)


if __name__ == "__main__":
    main()
