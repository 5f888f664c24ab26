"""The command line: `recurra` and `python -m recurra`.

Every command is a module of its own, imported when it is called or when the help lists it, and
imports what it needs when it runs: `recurra stream` has to start fast, and loads no framework.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, MutableMapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

COMMANDS = ("demo", "run", "predict", "stream", "info", "explain", "trace", "export")
"""In the order of the help; each is the `app` of a module here."""


class _Commands(MutableMapping[str, Any]):
    """The commands by their names, made when they are asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._made:
            module = importlib.import_module(f"recurra.cli.{name}")
            command = typer.main.get_command(module.app)
            command.name = name
            self._made[name] = command
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Group(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)


app = typer.Typer(
    name="recurra",
    cls=_Group,
    help="Keras 3's recurrent layers on an engine of their own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        import recurra

        typer.echo(f"recurra {recurra.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keras 3's recurrent layers on an engine of their own."""


def main() -> None:
    """The command `recurra`: parse the command line, then do what it says.

    A program that is to be run is run out here, not inside Typer, which would take the program's
    exceptions for its own.
    """
    from recurra.cli.start import Start

    hook = sys.excepthook
    try:
        app(prog_name="recurra")
        return
    except Start as start:
        run = start.run
    sys.excepthook = hook  # Typer has put its own there
    from recurra.accelerate.program import ProgramError

    try:
        run.start()
    except ProgramError as error:
        message = str(error)
    else:
        return
    print(f"recurra run: {message}", file=sys.stderr)
    sys.exit(2)  # as Python's for what it cannot open
