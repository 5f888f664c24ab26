"""A loaded model as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recurra.runtime.arrays import shape_text
from recurra.runtime.errors import StreamingError
from recurra.runtime.interpreter import tensors_in

if TYPE_CHECKING:
    from recurra.runtime.graph import Tensor
    from recurra.runtime.model import Runtime

_HEAD = ("layer", "type", "output shape", "params", "called on")
_WIDEST = 48


def summary_text(runtime: Runtime) -> str:
    """Layers with types, output shapes, parameters and inputs; and whether the model streams."""
    graph = runtime.graph
    rows = [(t.name, "Input", shape_text(t.shape), "0", "") for t in graph.inputs]
    names = {t.index: t.name for t in graph.inputs}
    for node in graph.nodes:
        for index, made in enumerate(node.outputs):
            names[made.index] = made.name + (f"[{index}]" if len(node.outputs) > 1 else "")

    def listed(tensors: Sequence[Tensor]) -> str:
        return ", ".join(names[tensor.index] for tensor in tensors)

    seen: set[int] = set()
    total = 0
    for node in graph.nodes:
        parameters = 0
        if id(node.layer) not in seen:
            parameters = sum(array.size for array in node.layer.weights.values())
            total += parameters
        shared = "" if id(node.layer) not in seen else " (shared)"
        seen.add(id(node.layer))
        rows.append(
            (
                _short(node.layer.where) + shared,
                node.layer.keras_class,
                ", ".join(shape_text(t.shape) for t in node.outputs),
                f"{parameters:,}",
                _short(", ".join([listed(node.inputs), *_arguments(node.arguments, listed)])),
            )
        )
    widths = [max(len(row[i]) for row in (_HEAD, *rows)) for i in range(len(_HEAD))]

    def line(row: tuple[str, ...]) -> str:
        cells = [
            text.rjust(width) if i == 3 else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [f"Model: {runtime.name}", line(_HEAD), rule, *(line(row) for row in rows), rule]
    lines.append(f"Parameters: {total:,} ({4 * total:,} bytes)")
    lines.append(f"Outputs: {listed(graph.outputs)}")
    lines.append(f"Streams: {_streams(runtime)}")
    return "\n".join(lines)


def _streams(runtime: Runtime) -> str:
    try:
        program = runtime.program()
    except StreamingError as error:
        return f"no. {error}"
    return f"yes, with {program.plan.state_bytes:,} bytes of state for each row"


def _arguments(
    arguments: Mapping[str, Any], listed: Callable[[Sequence[Tensor]], str]
) -> list[str]:
    """The tensors among a call's arguments: "initial_state=h, c"."""
    found = {name: tensors_in(value) for name, value in arguments.items()}
    return [f"{name}={listed(tensors)}" for name, tensors in found.items() if tensors]


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
