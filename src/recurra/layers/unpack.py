"""Finding out, from the caller's bytecode, into how many names a result is being unpacked.

`a, b = layer(x)` on a layer with three outputs fails in Python with "too many values to unpack",
which says nothing about what the outputs are. On a layer with one output it can even succeed: a
tensor with a batch of two unpacks into two names. The functions here see the mistake when it
happens, so that the error can say what each output is.

Only CPython's own bytecode is read, and only to word an error better: wherever it looks different
from what is expected, nothing is concluded.
"""

from __future__ import annotations

import dis
import weakref
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_UNPACK = dis.opmap.get("UNPACK_SEQUENCE", -1)
_CACHE = dis.opmap.get("CACHE", 0)
_ROOTS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_CONSTANTS = ("LOAD_CONST", "LOAD_SMALL_INT")

# How a called object is written: a name, then attributes and constant subscripts.
_Path = tuple[tuple[str, Any], ...]

# By id of the code object, as long as it lives: by position, the number of names on the left and
# the path of the called object.
_calls: dict[int, tuple[weakref.ref[CodeType], dict[int, tuple[int | None, _Path]]]] = {}


def names_being_unpacked(frame: FrameType) -> int | None:
    """How many names stand on the left if `frame` is just now unpacking something, else None.

    Args:
        frame: the frame that asks for an iterator (the caller of `__iter__`).

    Example:
        `a, b = result` in `frame` gives 2; `for a in result` and `first, *rest = result` give None.
    """
    position, code = frame.f_lasti, frame.f_code.co_code
    if 0 <= position < len(code) and code[position] == _UNPACK:
        return code[position + 1]
    return None


def names_awaiting_call(frame: FrameType, is_callee: Callable[[Any], bool]) -> int | None:
    """How many names `frame` will unpack the result of the call it is in into, or None.

    None as well if the called object is not visibly the one asked about: in
    `a, b = list(map(layer, xs))` the call that is unpacked is `list`'s.

    Args:
        frame: the caller's frame, while it is inside the call.
        is_callee: tells whether an object is the one being called, or a class of it
            (`a, b = LSTM(4)(x)`).
    """
    code, position = frame.f_code, frame.f_lasti
    entry = _calls.get(id(code))
    if entry is None or entry[0]() is not code:
        entry = _calls[id(code)] = (_reference(code), {})
    known = entry[1].get(position)
    if known is None:
        known = entry[1][position] = _read_call(code, position)
    count, path = known
    if count is None or not path:
        return None
    found, value = _look_up(frame, path)
    return count if found and is_callee(value) else None


def _reference(code: CodeType) -> weakref.ref[CodeType]:
    key = id(code)

    def forget(reference: weakref.ref[CodeType]) -> None:
        entry = _calls.get(key)
        if entry is not None and entry[0] is reference:
            del _calls[key]

    return weakref.ref(code, forget)


def _read_call(code: CodeType, position: int) -> tuple[int | None, _Path]:
    raw = code.co_code
    if not 0 <= position < len(raw) or not dis.opname[raw[position]].startswith("CALL"):
        return None, ()
    following = position + 2
    while following < len(raw) and raw[following] == _CACHE:
        following += 2
    if following >= len(raw) or raw[following] != _UNPACK:
        return None, ()
    return raw[following + 1], _callee(code, position)


def _callee(code: CodeType, position: int) -> _Path:
    """The called expression as a path: (("name", "d"), ("item", "a")) for `d["a"](x)`.

    Every part of `a.b.c(x)` and of `a.b(4)(x)` starts in the source where the whole call starts,
    so the instructions that start there and come before the call name the callee.
    """
    instructions = [
        instruction
        for instruction in dis.get_instructions(code)
        if instruction.offset <= position and instruction.positions is not None
    ]
    call = instructions[-1].positions
    if call is None or call.lineno is None or call.col_offset is None:
        return ()
    start = (call.lineno, call.col_offset)
    path: list[tuple[str, Any]] = []
    for index in range(len(instructions) - 2, -1, -1):
        instruction = instructions[index]
        where = instruction.positions
        if where is None or (where.lineno, where.col_offset) != start:
            continue
        if instruction.opname in _ATTRIBUTES:
            path.append(("attribute", str(instruction.argval)))
        elif instruction.opname == "BINARY_SUBSCR" or instruction.argrepr == "[]":
            key = instructions[index - 1]
            if not key.opname.startswith(_CONSTANTS):
                return ()
            path.append(("item", key.argval))
        elif instruction.opname.startswith(_ROOTS) and isinstance(instruction.argval, str):
            path.append(("name", instruction.argval))
            return tuple(reversed(path))
    return ()


def _look_up(frame: FrameType, path: _Path) -> tuple[bool, Any]:
    """Evaluate a path without running any code of the objects on it."""
    root = path[0][1]
    for names in (frame.f_locals, frame.f_globals, frame.f_builtins):
        if root in names:
            value = names[root]
            break
    else:
        return False, None
    for kind, key in path[1:]:
        try:
            if kind == "attribute":
                value = object.__getattribute__(value, "__dict__")[key]
            else:
                container = next(c for c in (dict, list, tuple) if isinstance(value, c))
                value = container.__getitem__(value, key)
        except (AttributeError, LookupError, StopIteration, TypeError):
            return False, None
    return True, value
