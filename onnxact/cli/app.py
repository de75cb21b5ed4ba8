"""`onnxact`: every command, its options, and what it exits with.

0 done, or equivalent; 1 different; 2 wrong usage; 3 a provider or package is missing; 4 inconclusive, or nothing to
rewrite; 5 a model or file is missing, broken, or would be overwritten; 70 a defect of onnxact; 130 interrupted;
143 terminated.

An error is one line on stderr that starts with "onnxact: ". With --json, stdout gets one report in any case:
`{"schema": "onnxact/1", "verb": ..., "error": {"type", "message", "exit_code"}}` in place of the result.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from onnxact.cli import export as exporting
from onnxact.cli import options as opt
from onnxact.cli import plot as plotting
from onnxact.cli import prove as proving
from onnxact.cli import targeting
from onnxact.cli.command import PlainCommand, PlainGroup
from onnxact.cli.evidence import Evidence
from onnxact.cli.output import Reported, complain, delivering, emit_error, emit_json
from onnxact.errors import OnnxactError
from onnxact.version import __version__

INTERRUPTED = 130
TERMINATED = 143
"""128 + SIGINT, 128 + SIGTERM, as shells have it."""
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises for a command line that it cannot parse; it has no public name."""

app = typer.Typer(
    name="onnxact",
    cls=PlainGroup,
    help="Swap, decompose and fuse the activations of ONNX models, and prove what stays equal.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


class Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files are removed."""


def _stop(_number: int, _frame: Any) -> NoReturn:
    raise Terminated


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and return the exit code; the only place where exceptions become exit codes."""
    try:
        return _invoke(arguments) if arguments else _show_help()
    except OnnxactError as error:
        return _refuse(str(error), error.exit_code, type(error).__name__, arguments)
    except _UsageError as error:
        return _refuse(_usage_text(error), 2, "UsageError", arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _refuse("interrupted", INTERRUPTED, "Interrupted", arguments)
    except Terminated:
        return _refuse("terminated", TERMINATED, "Terminated", arguments)
    except Exception as error:  # noqa: BLE001 - a defect still gets its exit code
        import traceback

        traceback.print_exc()
        text = f"{type(error).__name__}: {error}; this is a defect of onnxact, please report it with the lines above"
        return _refuse(text, 70, "Defect", arguments)


def _invoke(arguments: Sequence[str]) -> int:
    with delivering():
        try:
            code = app(args=list(arguments), prog_name="onnxact", standalone_mode=False)
        except SystemExit:  # how typer ends when a reader of the help has gone away
            code = 0
        except Reported as left:
            return left.exit_code
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _show_help() -> int:
    _invoke(["--help"])
    return 2


def _usage_text(error: Any) -> str:
    """Return typer's message in one line, with the way to the help."""
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message} (see `{error.ctx.command_path if error.ctx else 'onnxact'} --help`)"


def _refuse(message: str, exit_code: int, kind: str, arguments: Sequence[str]) -> int:
    line = " ".join(message.split())
    complain(line)
    if "--json" in arguments:
        verb = next((argument for argument in arguments if not argument.startswith("-")), None)
        emit_error(line, exit_code, kind, verb=verb)
    return exit_code


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onnxact {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(cls=PlainCommand)
def inspect(
    model: opt.ModelFile, target: targeting.Target = None, json: opt.Json = False, verbose: opt.Verbose = False
) -> None:
    """Show every activation of a model: what it is, in which form, where; and whether a target runs it."""
    from onnxact import api
    from onnxact.cli.run import show_inspection

    found = api.inspect(opt.parse_path("MODEL", model), target=targeting.single(target))
    if json:
        emit_json(found.to_json())
    elif target:
        targeting.show_standing(found, verbose=verbose)
    else:
        show_inspection(found, verbose=verbose)


@app.command("swap-relu", cls=PlainCommand)
@opt.spread
def swap_relu(
    model: opt.ModelFile,
    alpha: Annotated[str | None, typer.Option(metavar="NUMBER", help="Slope for x < 0; default 0.2.")] = None,
    to: Annotated[str, typer.Option(metavar="ACTIVATION", help="What Relu becomes.")] = "leaky-relu",
    slopes: opt.Slopes = None,
    per_channel: opt.PerChannel = False,
    channel_axis: opt.ChannelAxis = "1",
    param: opt.Param = None,
    allow_no_effect: opt.AllowNoEffect = False,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: Evidence = Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Replace every ReLU, in each of its spellings, by LeakyRelu or another activation."""
    from onnxact import verbs
    from onnxact.cli.run import rewrite, selection, with_slopes

    slope = opt.parse_number("--alpha", alpha)
    parameters = with_slopes(verbs.relu_parameters(to, slope, opt.parse_parameters(param)), slopes, slope)
    verb = verbs.swapping(
        "swap-relu",
        "relu",
        to,
        parameters,
        per_channel=per_channel,
        channel_axis=opt.parse_whole("--channel-axis", channel_axis),
        allow_no_effect=allow_no_effect,
        selection=selection(selected),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command(cls=PlainCommand)
@opt.spread
def swap(
    model: opt.ModelFile,
    source: Annotated[str, typer.Option("--from", metavar="ACTIVATION", help="What is replaced.", show_default=False)],
    to: Annotated[str, typer.Option(metavar="ACTIVATION", help="What it becomes.", show_default=False)],
    param: opt.Param = None,
    slopes: opt.Slopes = None,
    per_channel: opt.PerChannel = False,
    channel_axis: opt.ChannelAxis = "1",
    allow_no_effect: opt.AllowNoEffect = False,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: Evidence = Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Replace one activation by another. This changes what the model computes."""
    from onnxact import verbs
    from onnxact.cli.run import rewrite, selection, with_slopes

    verb = verbs.swapping(
        "swap",
        source,
        to,
        with_slopes(opt.parse_parameters(param), slopes, None),
        per_channel=per_channel,
        channel_axis=opt.parse_whole("--channel-axis", channel_axis),
        allow_no_effect=allow_no_effect,
        selection=selection(selected),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command(cls=PlainCommand)
@opt.spread
def decompose(
    model: opt.ModelFile,
    form: Annotated[str | None, typer.Option(metavar="FORM", help="The form, as `onnxact forms` lists it.")] = None,
    ops: Annotated[str | None, typer.Option(metavar="A,B,C", help="The ops that may be used.")] = None,
    target: targeting.Target = None,
    partial: targeting.Partial = False,
    fastest: targeting.Fastest = False,
    allow_inexact: opt.AllowInexact = False,
    no_provenance: opt.NoProvenance = False,
    activation: opt.ActivationNames = None,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: Evidence = Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Write activations as trees of primitive ops that compute the same."""
    from onnxact import verbs
    from onnxact.cli.run import rewrite, selection

    verb = verbs.decomposing(
        form=form,
        ops=opt.parse_names("--ops", ops),
        target=targeting.single(target),
        partial=partial,
        fastest=fastest,
        allow_inexact=allow_inexact,
        provenance=not no_provenance,
        selection=selection(selected, activation),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command(cls=PlainCommand)
@opt.spread
def fuse(
    model: opt.ModelFile,
    every: opt.Everything = False,
    param: opt.Param = None,
    activation: opt.ActivationNames = None,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: Evidence = Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Turn recognised trees back into native ops; a decomposed model becomes what it was, to the byte."""
    from onnxact import verbs
    from onnxact.cli.run import rewrite, selection

    verb = verbs.fusing(
        parameters=opt.parse_parameters(param),
        every=every,
        selection=selection(selected, activation),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command(cls=PlainCommand)
@opt.spread
def check(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="An ONNX model.", show_default=False)],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The model to compare it with.", show_default=False)],
    evidence: Evidence = Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Judge whether two models compute the same: equivalent, different, or inconclusive."""
    from onnxact.cli.run import judge

    raise typer.Exit(judge(before, after, evidence, display))


@app.command(cls=PlainCommand)
@opt.spread
def prove(
    activation: proving.Activation,
    form: proving.FormNames,
    param: proving.Param = None,
    trial: proving.Trial = proving.Trial(),
    display: opt.Display = opt.Display(),
) -> None:
    """Decide by trying every input whether a form of an activation is as exact as it says."""
    proving.prove(activation, form, param, trial, display)


@app.command(cls=PlainCommand)
@opt.spread
def export(
    module: exporting.ModuleName,
    wishes: exporting.Wishes = exporting.Wishes(),
    steps: exporting.Steps = exporting.Steps(),
    selected: opt.Selected = opt.Selected(),
    destination: exporting.Destination = exporting.Destination(),
    evidence: Evidence = Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Export a PyTorch module, in evaluation mode, to an ONNX file that is shown to compute the same."""
    exporting.export(exporting.Task(module, wishes, steps, selected, destination, evidence, display))


@app.command(cls=PlainCommand)
def forms(
    activation: opt.OneActivation = None,
    json: opt.Json = False,
) -> None:
    """List the forms in which an activation can be written, and how exact each is."""
    from onnxact.cli.run import list_forms

    list_forms(activation, as_json=json)


@app.command(cls=PlainCommand)
def plot(
    activation: plotting.Activation,
    form: plotting.FormNames = None,
    param: opt.Param = None,
    dtype: plotting.Dtype = "float32",
    span: plotting.Range = "-4:4",
    output: plotting.Output = None,
    force: plotting.Force = False,
) -> None:
    """Draw an activation, and how far the result of each form is from it."""
    plotting.plot(activation, form, param, (dtype, span), output, force=force)


@app.command(cls=PlainCommand)
def targets(
    name: targeting.OneTarget = None,
    json: opt.Json = False,
    verbose: targeting.EveryOp = False,
) -> None:
    """List the runtimes for which a model can be written, or show what is known of one."""
    targeting.list_targets(name, as_json=json, verbose=verbose)
