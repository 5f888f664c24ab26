"""`recurra export`."""

from __future__ import annotations

from typing import Annotated

import typer

from recurra.cli.failures import CommandError, UsageError, told

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A trained model: .keras or .h5.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="The ONNX file to write.")],
    stateful: Annotated[
        bool,
        typer.Option("--stateful", help="States as inputs and outputs, to go on step by step."),
    ] = False,
) -> None:
    """Write a model as ONNX, with native LSTM, GRU and RNN operators."""
    with told():
        from recurra.cli.files import check_output
        from recurra.cli.models import load

        if not out.lower().endswith(".onnx"):
            raise UsageError(f"{out}: is not called as ONNX is; name the output model.onnx.")
        check_output(out, [model])
        runtime = load(model)
        from recurra.runtime.onnx import export as write

        try:
            report = write(runtime, out, stateful=stateful)
        except ImportError:
            raise CommandError(
                'writing ONNX needs the package onnx: pip install "recurra[onnx]"'
            ) from None
        except ValueError as error:  # too large for the format, among others
            raise CommandError(str(error)) from None
        print(f"{report.path}: {report.size:,} bytes, opset {report.opset}")
        for what, ports in (("input", report.inputs), ("output", report.outputs)):
            for port in ports:
                print(f"{what}: {port.name} ({', '.join(map(str, port.shape))}) {port.dtype}")
        for taken, given in report.states:
            print(f"state: give {given} back as {taken}")
