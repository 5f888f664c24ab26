"""What a recurrent layer returns: named tuples, and errors that say what is in them.

    output, state_h, state_c = LSTM(4, return_state=True)(x)
    result = LSTM(4, return_trace=True)(x); result.trace["forget_gate"]

They are tuples in every respect (isinstance, indexing, slicing, `*rest`), except that unpacking
into a wrong number of names says what each output is and which argument to change.
"""

from __future__ import annotations

import difflib
import sys
from collections import namedtuple
from collections.abc import Iterator, Sequence
from typing import Any

from recurra import hosts
from recurra.cells import CELLS, CellSpec
from recurra.layers import unpack


# A function of the module, not a closure: torch.compile can read it.
def _iterate(self: Any) -> Iterator[Any]:
    if hosts.is_traced():
        return tuple.__iter__(self)
    count = unpack.names_being_unpacked(sys._getframe(1))
    if count is not None and count != len(self):
        outputs = {name: self[index] for index, name in enumerate(self._fields)}
        raise ValueError(describe_unpacking(type(self)._spec, count, outputs))
    return tuple.__iter__(self)


def _no_attribute(self: Any, name: str) -> Any:
    raise AttributeError(describe_attribute(type(self), type(self)._spec.layer, name))


def describe_attribute(cls: Any, layer: str, name: str) -> str:
    """The message for an attribute that a tuple of results does not have.

    Args:
        cls: the tuple's class.
        layer: what the layer is, as in "LSTM".
        name: the attribute.
    """
    fields = cls._fields
    message = f"{cls.__name__!r} object has no attribute {name!r}"
    if name.startswith("_"):  # what programs look for in any object
        return message
    close = difflib.get_close_matches(name, fields, n=1)
    take = f"result.{close[0]}" if close else f"result.{fields[0]}, or {', '.join(fields)} = result"
    return (
        f"{message}: it is no tensor, but all that this {layer} returns, ({', '.join(fields)}). "
        f"Take one of them: {take}."
    )


def _result_class(spec: CellSpec, trace: bool) -> type:
    fields = ("output", *spec.state_outputs, *(("trace",) if trace else ()))
    name = f"{spec.layer}{'Traced' if trace else ''}Result"
    base = namedtuple(name, fields)  # type: ignore[misc]
    return type(
        name,
        (base,),
        {
            "__slots__": (),
            "__module__": __name__,
            "__doc__": f"Outputs of a {spec.layer}: {', '.join(fields)}.",
            "_spec": spec,
            "__iter__": _iterate,
            "__getattr__": _no_attribute,
        },
    )


LSTMResult = _result_class(CELLS["lstm"], trace=False)
LSTMTracedResult = _result_class(CELLS["lstm"], trace=True)
GRUResult = _result_class(CELLS["gru"], trace=False)
GRUTracedResult = _result_class(CELLS["gru"], trace=True)
SimpleRNNResult = _result_class(CELLS["simple_rnn"], trace=False)
SimpleRNNTracedResult = _result_class(CELLS["simple_rnn"], trace=True)

_CLASSES = {
    ("lstm", False): LSTMResult,
    ("lstm", True): LSTMTracedResult,
    ("gru", False): GRUResult,
    ("gru", True): GRUTracedResult,
    ("simple_rnn", False): SimpleRNNResult,
    ("simple_rnn", True): SimpleRNNTracedResult,
}


def make_result(
    spec: CellSpec, output: Any, states: Sequence[Any], trace: dict[str, Any] | None = None
) -> Any:
    """The named tuple (output, state_h[, state_c][, trace]) of a cell's layer."""
    extra = () if trace is None else (trace,)
    return _CLASSES[spec.name, trace is not None](output, *states, *extra)


def describe_unpacking(spec: CellSpec, count: int, outputs: dict[str, Any]) -> str:
    """The message for `count` names on the left of a layer that returns `outputs`, by name."""
    number = len(outputs)
    names = "1 name" if count == 1 else f"{count} names"
    returned = "1 output" if number == 1 else f"{number} outputs"
    lines = [f"{names} on the left, but this {spec.layer} returns {returned}:"]
    rows = [
        (name, shape_text(value), _meaning(spec, name, value)) for name, value in outputs.items()
    ]
    name_width = max(len(name) for name, _, _ in rows)
    shape_width = max(len(shape) for _, shape, _ in rows)
    lines += [
        f"  {name:{name_width}}  {shape:{shape_width}}  {meaning}" for name, shape, meaning in rows
    ]
    if number == 1:
        states = ", ".join(("output", *spec.state_outputs))
        lines.append(
            f"Write `output = layer(x)`; build the layer with return_state=True to get "
            f"`{states} = layer(x)`, with return_trace=True for every gate and state per step. "
            "return_sequences=True changes the output's shape, not the number of outputs."
        )
    else:
        argument = "return_trace" if "trace" in outputs else "return_state"
        lines.append(
            f"Write `{', '.join(outputs)} = layer(x)` or `output, *rest = layer(x)`; for the "
            f"output alone build the layer without {argument}=True."
        )
        if count == number + 1 and "trace" not in outputs:
            lines.append("For one output more, the gates and states per step: return_trace=True.")
    return "\n".join(lines)


def shape_text(value: Any) -> str:
    """A result's shape for people, nested as the result is."""
    if isinstance(value, dict):
        return f"dict of {len(value)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shape_text, value))}]"
    shape = getattr(value, "shape", None)
    return str(tuple(shape)) if shape is not None else type(value).__name__


def _meaning(spec: CellSpec, name: str, value: Any) -> str:
    if name == "trace":
        return "Every gate and state at every step: " + ", ".join(spec.trace_names) + "."
    if name == "output" and len(getattr(value, "shape", ())) == 3:
        return "Hidden state of every step (return_sequences=True)."
    if name == "output":
        return "Hidden state of the last kept step."
    return spec.meaning(name)
