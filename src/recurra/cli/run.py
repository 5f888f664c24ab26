"""`recurra run`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from recurra.cli.start import Start

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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
    raise Start(Run(found, strict=strict, report=report))


def _fail(message: str) -> NoReturn:
    print(f"recurra run: {message}", file=sys.stderr)
    raise typer.Exit(2)
