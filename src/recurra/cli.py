"""The command line: `recurra` and `python -m recurra`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperCommand

if TYPE_CHECKING:
    from recurra.accelerate.run import Run

app = typer.Typer(
    name="recurra",
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


def main() -> None:
    """The command `recurra`: parse the command line, then do what it says.

    A program that is to be run is run out here, not inside Typer, which would take the program's
    exceptions for its own.
    """
    hook = sys.excepthook
    try:
        app(prog_name="recurra")
        return
    except _Start as start:
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


class _Start(BaseException):
    """Carries what to run out of Typer, which handles exceptions that are derived from others."""

    def __init__(self, run: Run) -> None:
        self.run = run


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keras 3's recurrent layers on an engine of their own."""


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the picture and the trained model.", file_okay=False)
    ] = Path("recurra-demo"),
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training windows: 8, or 2 with --quick."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of weights, noise and order.")
    ] = 0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Few windows: all works, but too short to forecast well."),
    ] = False,
) -> None:
    """Train a weather forecaster on Recurra and on stock Keras, side by side."""
    from recurra.demo import DemoError, run

    try:
        agree = run(out, epochs=epochs, seed=seed, quick=quick)
    except DemoError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if agree else 1)


class _RunCommand(TyperCommand):
    """Ends our options at the program, as Python does: what follows it is the program's."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        for index, argument in enumerate(args):
            if argument == "-m":
                if index + 1 == len(args):
                    _fail("-m needs the name of a module, as in recurra run -m package.train.")
                args = [*args[: index + 2], "--", *args[index + 2 :]]
                break
            if argument.startswith("-m") or not argument.startswith("-") or argument == "--":
                break
        return super().parse_args(ctx, args)


@app.command(
    cls=_RunCommand,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[--report] [--strict]",
)
def run(
    program: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCRIPT | -m MODULE  [ARGUMENTS]...",
            help="The program and its own arguments, as for python.",
            show_default=False,
        ),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option("-m", metavar="MODULE", help="Run a module, as python -m does."),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="At the end: each recurrent layer, what ran it, why, what to change."
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="An error instead of Keras's scan where that would run."),
    ] = False,
) -> None:
    """Run an unmodified Keras program on Recurra's layers."""
    from recurra.accelerate.program import ProgramError, find
    from recurra.accelerate.run import Run

    arguments = list(program or [])
    if module is None:
        if not arguments:
            _fail("name what to run: a script, or a module by -m. See recurra run --help.")
        module_or_script = arguments.pop(0)
    else:
        module_or_script = module
    try:
        found = find(module_or_script, arguments, module=module is not None)
    except ProgramError as error:
        _fail(str(error))
    raise _Start(Run(found, strict=strict, report=report))


def _fail(message: str) -> NoReturn:
    print(f"recurra run: {message}", file=sys.stderr)
    raise typer.Exit(2)
