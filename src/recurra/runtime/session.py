"""A stream's carried state, and steps with it.

A `Session` is an engine object with names: `step` and `run` are compiled, and come back here only
for what is not a float32 array of the right size (`Session._prepare`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from recurra import _engine
from recurra.runtime.layer import Array

if TYPE_CHECKING:
    from recurra.runtime.streaming.program import Field, Program

MOST_ROWS = 2**24
"""The largest batch of one session."""


class Session(_engine.StreamSession):
    """A stream through a model, or a batch of streams: made by `Runtime.open`.

    `step` takes one time step and `run` a stretch of them, in any order and any sizes: the outputs
    are bit for bit those of the whole sequence in one go.

        step(x)   batch=1: x (features,) -> (units,), or (1, features) -> (1, units)
                  otherwise: x (batch, features) -> (batch, units)
        run(x)    batch=1: x (time_steps, features) -> (time_steps, units), or with a leading 1
                  otherwise: x (batch, time_steps, features) -> (batch, time_steps, units)

    An output without time steps, such as that of an LSTM with return_sequences=False, is what
    `predict` would give for everything that the stream has seen so far. Indices for an Embedding
    have no features: (batch,) or a number in a step, (batch, time_steps) in a run. Inputs without
    time, of shape (batch, features) in the model, are given as such to `step` and `run` alike.
    Several inputs are given in the model's order, or as one dict by their names; several outputs
    come as a list. Lists, numbers and arrays of other types are converted.

    Any number of sessions may be used on any number of threads at once; calls of one session wait
    for each other.

    Example:
        >>> import recurra
        >>> session = recurra.load("model.keras").open()  # doctest: +SKIP
        >>> for x in measurements:  # doctest: +SKIP
        ...     y = session.step(x)
    """

    __slots__ = ("_program",)

    def __init__(self, program: Program, batch: int = 1) -> None:
        super().__init__(program.plan, _checked_batch(batch))
        self._program = program

    @property
    def state(self) -> State:
        """What the session carries, by name: "lstm/hidden_state" is (batch, units), float32.

        It is a picture of the moment, all of it between the same two steps: its arrays do not
        change as the session goes on, and cannot be written to. `session.state[name] = array` sets
        one in the session, `session.state = mapping` sets all.

        Raises:
            KeyError: for a name that there is not.
            ValueError, TypeError: for an array that does not fit, before anything is changed.
        """
        return State(self)

    @state.setter
    def state(self, values: Mapping[str, Any]) -> None:
        fields = self._program.fields
        if not isinstance(values, Mapping):
            raise TypeError(
                f"session.state = ... got {type(values).__name__}; expected a mapping of names to "
                f"arrays: {_names(fields)}."
            )
        missing = [name for name in fields if name not in values]
        surplus = [str(name) for name in values if name not in fields]
        if missing or surplus:
            raise ValueError(
                "session.state = ... must have every state of the session and no other. "
                + (f"Missing: {', '.join(missing)}. " if missing else "")
                + (f"Unknown: {', '.join(surplus)}. " if surplus else "")
                + "To set some of them, use session.state[name] = array."
            )
        written = np.zeros((self.batch, self._program.plan.state_bytes), np.uint8)
        for name, field in fields.items():
            written[:, field.offset : field.offset + field.bytes] = _encoded(
                field, values[name], self.batch
            )
        self.write_state(0, written)

    def reset(self, rows: int | slice | Sequence[int] | Array | None = None) -> None:
        """Start anew: forget everything that was seen.

        Args:
            rows: the streams of the batch that start anew: a number, numbers, a slice, or a bool
                for each; None for all.

        Raises:
            IndexError: for a row that there is not.
            TypeError, ValueError: for anything else, or bools of another number than batch.
        """
        self.clear(None if rows is None else _chosen(rows, self.batch))

    def fork(self) -> Session:
        """A new session that goes on from here; the two know nothing of each other."""
        copy = Session(self._program, self.batch)
        copy.copy_from(self)
        return copy

    def snapshot(self) -> bytes:
        """The state as bytes, to be restored in another process or on another machine.

        Equal states give equal bytes. The format is described in `recurra.runtime.snapshot`.
        """
        from recurra.runtime import snapshot

        return snapshot.dump(self._program, self.read_state(0, self._program.plan.state_bytes))

    def restore(self, data: bytes) -> None:
        """Go on from a snapshot.

        Args:
            data: what `snapshot` gave, of a session with as many rows.

        Raises:
            SnapshotError: for bytes that are damaged, of another model, another batch or another
                version of the format; nothing is changed then.
            TypeError: for something that is not bytes.
        """
        from recurra.runtime import snapshot

        self.write_state(0, snapshot.load(self._program, data, self.batch))

    def _prepare(self, inputs: tuple[Any, ...], run: bool) -> tuple[Array, ...]:
        """What the engine calls for arguments that are not the arrays it takes as they are."""
        from recurra.runtime.prepare import prepare

        return prepare(self._program, inputs, self.batch, run)

    def __copy__(self) -> Session:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return self.fork()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "A session cannot be pickled: it is tied to its loaded model. Send "
            "session.snapshot(), and restore it with Runtime.restore(data) there."
        )

    def __repr__(self) -> str:
        states = ", ".join(f"{n} {(self.batch, *f.shape)}" for n, f in self._program.fields.items())
        return f"<Session of {self._program.name!r}, batch={self.batch}, state: {states or 'none'}>"


class State(MutableMapping[str, Array]):
    """A session's states by name; see `Session.state`."""

    __slots__ = ("_session", "_values")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._values = session.read_state(0, session._program.plan.state_bytes)

    def __getitem__(self, name: str) -> Array:
        field = self._field(name)
        values = self._values[:, field.offset : field.offset + field.bytes].copy()
        array = values.view(field.dtype).reshape(self._session.batch, *field.shape)
        array.flags.writeable = False
        return array

    def __setitem__(self, name: str, value: Any) -> None:
        field = self._field(name)
        written = _encoded(field, value, self._session.batch)
        # A state that is set by hand is not replaced by the model's initial state.
        started = self._fields.get(f"{name.rpartition('/')[0]}/started")
        if started is not None and started is not field:
            self._write(started, np.ones((self._session.batch, 1), np.uint8))
        self._write(field, written)

    def _write(self, field: Field, values: Array) -> None:
        self._session.write_state(field.offset, values)
        self._values[:, field.offset : field.offset + field.bytes] = values

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError("A state cannot be deleted; session.reset() sets all of them to zero.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        batch = self._session.batch
        shapes = (f"{f.name!r}: {f.dtype} {(batch, *f.shape)}" for f in self._fields.values())
        return f"<State {{{', '.join(shapes)}}}>"

    @property
    def _fields(self) -> Mapping[str, Field]:
        return self._session._program.fields

    def _field(self, name: str) -> Field:
        try:
            return self._fields[name]
        except (KeyError, TypeError):
            raise KeyError(
                f"There is no state {name!r}; this session has {_names(self._fields)}."
            ) from None


def open_session(program: Program, batch: int = 1) -> Session:
    """A session at the zero state.

    Raises:
        TypeError, ValueError: for a batch that is not a whole number from 1.
    """
    return Session(program, batch)


def restored(program: Program, data: bytes) -> Session:
    """A new session that goes on from a snapshot, with as many rows as it has.

    Raises:
        SnapshotError: for bytes that are damaged, of another model or another version.
    """
    from recurra.runtime import snapshot

    state = snapshot.load(program, data)
    session = Session(program, len(state))
    session.write_state(0, state)
    return session


def step_many(program: Program, sessions: Sequence[Session], xs: Any) -> Any:
    """One step of many sessions in one call, each with the bits it has alone.

    Args:
        program: of the runtime that opened them.
        sessions: n different sessions with batch=1.
        xs: (n, features), an array or a list of n steps; for several inputs a dict of them by name,
            or a tuple in the model's order.

    Returns:
        (n, units), or a list of such arrays for several outputs.

    Raises:
        TypeError: for something else than sessions.
        ValueError: if a session is there twice, has another batch or another model.
    """
    from recurra.runtime.prepare import prepare_many

    listed = list(sessions)  # which no other thread changes meanwhile
    if not listed:
        raise ValueError("step_many() got no sessions; expected one or more.")
    if getattr(listed[0], "_program", None) is not program:
        _check_sessions(program, listed)
    arrays = prepare_many(program, xs, len(listed))
    try:
        return _engine.step_many(listed, arrays)
    except (TypeError, ValueError):
        _check_sessions(program, listed)  # says it better, and takes time only now
        raise


def _check_sessions(program: Program, sessions: list[Session]) -> None:
    for index, session in enumerate(sessions):
        if not isinstance(session, Session):
            raise TypeError(
                f"step_many() got {type(session).__name__} as sessions[{index}]; expected "
                "sessions, as Runtime.open() gives them."
            )
        if session._program is not program:
            raise ValueError(
                f"step_many() got sessions[{index}] of another runtime (model "
                f"'{session._program.name}'); expected sessions that this one opened."
            )
        if session.batch != 1:
            raise ValueError(
                f"step_many() got sessions[{index}] with batch={session.batch}; expected sessions "
                "with batch=1: a session of several rows is one call already."
            )
    if len(set(map(id, sessions))) != len(sessions):
        seen: dict[int, int] = {}
        for index, session in enumerate(sessions):
            first = seen.setdefault(id(session), index)
            if first != index:
                raise ValueError(
                    f"step_many() got one session twice, as sessions[{first}] and "
                    f"sessions[{index}]; expected different ones: a step follows from the one "
                    "before it. Take a fork(), or two calls."
                )


def _checked_batch(batch: int) -> int:
    try:
        rows = operator.index(batch)
    except TypeError:
        rows = None
    if rows is None or isinstance(batch, (bool, np.bool_)):
        raise TypeError(f"open(batch={batch!r}) got no whole number; expected how many streams.")
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError(f"open(batch={rows}) is not in 1 to {MOST_ROWS}, how many streams.")
    return rows


def _names(fields: Mapping[str, Field]) -> str:
    return ", ".join(fields) or "none at all"


def _encoded(field: Field, value: Any, batch: int) -> Array:
    """An array as bytes of a field, (batch, bytes), checked."""
    expected = (batch, *field.shape)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"state {field.name!r} got no array: {error}.") from None
    allowed = "b" if field.dtype.kind == "b" else "fiu"
    if array.dtype.kind not in allowed:
        raise TypeError(
            f"state {field.name!r} got an array of {array.dtype}; expected {field.dtype}, of shape "
            f"{expected}."
        )
    if array.shape != expected and not (batch == 1 and array.shape == field.shape):
        raise ValueError(
            f"state {field.name!r} got an array of shape {array.shape}; expected {expected}."
        )
    values = np.ascontiguousarray(array, field.dtype).reshape(batch, -1)
    return values.view(np.uint8).reshape(batch, field.bytes)


def _chosen(rows: Any, batch: int) -> Array:
    """Rows as a bool for each."""
    chosen = np.zeros(batch, bool)
    if isinstance(rows, slice):
        chosen[rows] = True
        return chosen
    array = np.asarray(rows)
    if array.dtype.kind == "b" and array.ndim:
        if array.shape != (batch,):
            raise ValueError(
                f"reset(rows) got bools of shape {array.shape}; expected ({batch},), one for each "
                "row of the batch."
            )
        return array
    if array.size == 0 and array.ndim == 1:
        return chosen
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TypeError(
            f"reset(rows) got {rows!r}; expected a row's number, several of them, a slice, or a "
            "bool for each row."
        )
    outside = array[(array < -batch) | (array >= batch)]
    if outside.size:
        raise IndexError(
            f"reset(rows) got row {int(outside.flat[0])}; this session has batch={batch}, rows 0 "
            f"to {batch - 1}."
        )
    chosen[array] = True
    return chosen
