"""`onnxact plot`: options -> a picture of an activation and of how far its forms are from it."""

from __future__ import annotations

from typing import Annotated

import typer

from onnxact.cli.options import Force, parse_parameters, parse_path
from onnxact.errors import UsageError

Activation = Annotated[
    str, typer.Argument(metavar="ACTIVATION", help="As `onnxact forms` lists them.", show_default=False)
]
FormNames = Annotated[
    list[str] | None, typer.Option("--form", metavar="FORM", help="A form to show; default: all. Repeatable.")
]
Dtype = Annotated[str, typer.Option("--dtype", metavar="DTYPE", help="float16, bfloat16, float32 or float64.")]
Range = Annotated[str, typer.Option("--range", metavar="LOW:HIGH", help="The numbers x from which to which.")]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="A .png, .svg or .pdf file; default: ACTIVATION.png."),
]
__all__ = ["Activation", "Dtype", "Force", "FormNames", "Output", "Range", "plot"]


def plot(
    activation: str, form: list[str] | None, param: list[str] | None, options: tuple[str, str], output: str | None,
    *, force: bool,
) -> None:  # fmt: skip
    """Draw, and say what was written; `options` are the dtype and the range."""
    from onnxact.activation.forms import find_activation
    from onnxact.report.plot import curves, draw

    found = find_activation(activation)
    dtype, span = options
    path = parse_path("--output", output or f"{found.spelled}.png")
    shown = curves(found, parse_parameters(param), forms=form or (), dtype=dtype, span=_span(span))
    draw(shown, path, force=force)
    typer.echo(f"wrote {path}")


def _span(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        return float(low), float(high if colon else "nan")
    except ValueError as error:
        raise UsageError(f"--range {text!r}: write it as LOW:HIGH, for example --range=-4:4") from error
