"""`onnxact prove`: options -> one call of the library, with a progress bar, and its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from onnxact.cli.options import Display, flag, parse_parameters, parse_whole
from onnxact.cli.output import Reported, complain, console, delivering, emit_json
from onnxact.cli.progress import progressing
from onnxact.errors import UsageError

if TYPE_CHECKING:
    from onnxact.check.prove import Proof

INTERRUPTED = 130
_WHERE = "What is tried"

Activation = Annotated[
    str, typer.Argument(metavar="ACTIVATION", help="As `onnxact forms` lists them.", show_default=False)
]
FormNames = Annotated[
    list[str],
    typer.Option(
        "--form", metavar="FORM|all", help="A form, op for the native op, or all. Repeatable.", show_default=False
    ),
]
Param = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A parameter; for prelu's slope also 0.1,0.2. Repeatable."),
]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="DTYPE", help="float16, bfloat16, float32 or float64.", rich_help_panel=_WHERE)
]
Provider = Annotated[
    str, typer.Option("--provider", metavar="NAME", help="cpu, cuda, ..., or numpy.", rich_help_panel=_WHERE)
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="op|reference", help="Default: the op, where it runs.", rich_help_panel=_WHERE),
]
Sample = Annotated[bool, flag("--sample", help="Try a stated sample, not every input.", panel=_WHERE)]
Opset = Annotated[str | None, typer.Option("--opset", metavar="N", help="Default: the newest.", rich_help_panel=_WHERE)]


@dataclass(frozen=True)
class Trial:
    """What is tried, and where."""

    dtype: Dtype = "float32"
    provider: Provider = "cpu"
    against: Against = None
    sample: Sample = False
    opset: Opset = None


def prove(activation: str, forms: list[str], param: list[str] | None, trial: Trial, display: Display) -> None:
    """Prove, report, and leave with the exit code; Ctrl-C leaves with what was covered until then."""
    from onnxact.check.prove import ProofInterrupted
    from onnxact.check.prove import prove as try_all

    options = {
        "parameters": _parameters(param),
        "dtype": trial.dtype,
        "provider": trial.provider,
        "against": _against(trial.against),
        "sample": trial.sample,
        "opset": None if trial.opset is None else parse_whole("--opset", trial.opset),
    }
    try:
        with progressing(display, left=True) as progress:
            found = try_all(activation, forms, progress=progress, **options)
    except ProofInterrupted as stopped:
        _report(stopped.proof, display)
        complain(f"interrupted: {stopped}")
        raise Reported(INTERRUPTED) from None
    _report(found, display)
    raise typer.Exit(found.exit_code)


def _parameters(texts: list[str] | None) -> dict[str, Any]:
    """Return `name=value` texts as numbers, `name=value,value` as lists of numbers."""
    single = [text for text in texts or () if "," not in text]
    found: dict[str, Any] = dict(parse_parameters(single))
    for text in texts or ():
        name, _, values = text.partition("=")
        if text not in single:
            if name in found:
                raise UsageError(f"--param {name}: given twice")
            found[name] = [parse_parameters([f"{name}={value}"])[name] for value in values.split(",")]
    return found


def _against(text: str | None) -> Any:
    from onnxact.check.prove.proof import Against as Standards

    if text is not None and text not in get_args(Standards):
        raise UsageError(f"--against {text!r}: give op or reference")
    return text


def _report(found: Proof, display: Display) -> None:
    """Print the proof; with --quiet only one that is no proof, on stderr."""
    from onnxact.report import prove, text

    if display.json:
        emit_json(found.to_json())
    elif not display.quiet or found.exit_code:
        with delivering():
            text.show(console(stderr=display.quiet), prove.proof(found, verbose=display.verbose))
