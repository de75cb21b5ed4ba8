"""`onnxact`: every command, its options, and what it exits with.

0 done, or equivalent; 1 different; 2 wrong usage; 3 a provider or package is missing; 4 inconclusive, or nothing to
rewrite; 5 a model or file is missing, broken, or would be overwritten; 70 a defect of onnxact.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from onnxact.cli import options as opt
from onnxact.errors import OnnxactError
from onnxact.version import __version__

app = typer.Typer(
    name="onnxact",
    help="Swap, decompose and fuse the activations of ONNX models, and prove what stays equal.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; the only place where exceptions become exit codes."""
    try:
        app()
    except OnnxactError as error:
        print(f"onnxact: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        print("onnxact: interrupted; nothing was written", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except Exception:  # noqa: BLE001 - a defect still gets its exit code
        import traceback

        traceback.print_exc()
        print("onnxact: this is a defect of onnxact; please report it with the lines above", file=sys.stderr)  # noqa: T201
        sys.exit(70)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onnxact {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def inspect(model: opt.ModelFile, json: opt.Json = False, verbose: opt.Verbose = False) -> None:
    """Show every activation of a model: what it is, in which form, where."""
    from onnxact import api
    from onnxact.cli.run import emit_json, out
    from onnxact.report import text

    found = api.inspect(model)
    if json:
        emit_json(found.to_json())
    else:
        text.show(out(), text.inspection(found, verbose=verbose))


@app.command("swap-relu")
@opt.spread
def swap_relu(
    model: opt.ModelFile,
    alpha: Annotated[float | None, typer.Option(help="Slope for x < 0; default 0.2.", show_default=False)] = None,
    to: Annotated[str, typer.Option(metavar="ACTIVATION", help="What Relu becomes.")] = "leaky-relu",
    slopes: opt.Slopes = None,
    per_channel: opt.PerChannel = False,
    channel_axis: opt.ChannelAxis = 1,
    param: opt.Param = None,
    allow_no_effect: opt.AllowNoEffect = False,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: opt.Evidence = opt.Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Replace every ReLU, in each of its spellings, by LeakyRelu or another activation."""
    from onnxact import api
    from onnxact.cli.run import rewrite, selection, with_slopes

    parameters = with_slopes(api.relu_parameters(to, alpha, opt.parse_parameters(param)), slopes, alpha)
    verb = api.swapping(
        "swap-relu",
        "relu",
        to,
        parameters,
        per_channel=per_channel,
        channel_axis=channel_axis,
        allow_no_effect=allow_no_effect,
        selection=selection(selected),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command()
@opt.spread
def swap(
    model: opt.ModelFile,
    source: Annotated[str, typer.Option("--from", metavar="ACTIVATION", help="What is replaced.", show_default=False)],
    to: Annotated[str, typer.Option(metavar="ACTIVATION", help="What it becomes.", show_default=False)],
    param: opt.Param = None,
    slopes: opt.Slopes = None,
    per_channel: opt.PerChannel = False,
    channel_axis: opt.ChannelAxis = 1,
    allow_no_effect: opt.AllowNoEffect = False,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: opt.Evidence = opt.Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Replace one activation by another. This changes what the model computes."""
    from onnxact import api
    from onnxact.cli.run import rewrite, selection, with_slopes

    verb = api.swapping(
        "swap",
        source,
        to,
        with_slopes(opt.parse_parameters(param), slopes, None),
        per_channel=per_channel,
        channel_axis=channel_axis,
        allow_no_effect=allow_no_effect,
        selection=selection(selected),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command()
@opt.spread
def decompose(
    model: opt.ModelFile,
    form: Annotated[str | None, typer.Option(help="The form, as `onnxact forms` lists it.", show_default=False)] = None,
    ops: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="The ops that may be used.", show_default=False)
    ] = None,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="Take a form that changes bits where no exact one fits.")
    ] = False,
    no_provenance: Annotated[
        bool, typer.Option("--no-provenance", help="Leave no record for fuse in the nodes' metadata.")
    ] = False,
    activation: opt.ActivationNames = None,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: opt.Evidence = opt.Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Write activations as trees of primitive ops that compute the same."""
    from onnxact import api
    from onnxact.cli.run import rewrite, selection

    verb = api.decomposing(
        form=form,
        ops=opt.parse_names(ops),
        allow_inexact=allow_inexact,
        provenance=not no_provenance,
        selection=selection(selected, activation),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command()
@opt.spread
def fuse(
    model: opt.ModelFile,
    every: Annotated[
        bool, typer.Option("--all", help="In a decomposed model, fuse also the trees it had before.")
    ] = False,
    param: opt.Param = None,
    activation: opt.ActivationNames = None,
    selected: opt.Selected = opt.Selected(),
    destination: opt.Destination = opt.Destination(),
    evidence: opt.Evidence = opt.Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Turn recognised trees back into native ops; a decomposed model becomes what it was, to the byte."""
    from onnxact import api
    from onnxact.cli.run import rewrite, selection

    verb = api.fusing(
        parameters=opt.parse_parameters(param),
        every=every,
        selection=selection(selected, activation),
    )
    rewrite(verb, model, destination, evidence, display)


@app.command()
@opt.spread
def check(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="An ONNX model.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The model to compare it with.", show_default=False)],
    evidence: opt.Evidence = opt.Evidence(),
    display: opt.Display = opt.Display(),
) -> None:
    """Judge whether two models compute the same: equivalent, different, or inconclusive."""
    from onnxact.cli.run import judge

    raise typer.Exit(judge(before, after, evidence, display))


@app.command()
def forms(
    activation: Annotated[str | None, typer.Argument(help="One activation; default: all.", show_default=False)] = None,
    json: opt.Json = False,
) -> None:
    """List the forms in which an activation can be written, and how exact each is."""
    from onnxact.cli.run import list_forms

    list_forms(activation, as_json=json)
