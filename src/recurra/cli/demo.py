"""`recurra demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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
    from rich.console import Console

    from recurra.demo import DemoError, run

    try:
        agree = run(out, epochs=epochs, seed=seed, quick=quick)
    except DemoError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if agree else 1)
