"""The options that several commands share, and the parsing of their values. Imports nothing heavy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from onnxact.errors import UsageError

_OUT, _PICK, _PROOF = "Output", "Selection", "Evidence"

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.", show_default=False)]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Where to write; default: beside the input.", rich_help_panel=_OUT),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing output.", rich_help_panel=_OUT)]
InPlace = Annotated[bool, typer.Option("--in-place", help="Change the input file.", rich_help_panel=_OUT)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.", rich_help_panel=_OUT)]
AllowNone = Annotated[
    bool,
    typer.Option("--allow-none", help="With nothing to rewrite, write an unchanged copy.", rich_help_panel=_OUT),
]
Json = Annotated[bool, typer.Option("--json", help="A JSON report on stdout.", rich_help_panel=_OUT)]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show every row.", rich_help_panel=_OUT)]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but what went wrong.", rich_help_panel=_OUT)]

Include = Annotated[
    list[str] | None,
    typer.Option(metavar="RE", help="Only nodes or scopes whose name matches; repeatable.", rich_help_panel=_PICK),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="RE", help="No nodes or scopes whose name matches; repeatable.", rich_help_panel=_PICK),
]
ActivationNames = Annotated[
    list[str] | None,
    typer.Option("--activation", metavar="NAME", help="Only this activation; repeatable.", rich_help_panel=_PICK),
]
Param = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the activation; repeatable."),
]

Slopes = Annotated[Path | None, typer.Option(metavar="FILE", help="prelu: slopes from .npy, .npz or .safetensors.")]
PerChannel = Annotated[bool, typer.Option("--per-channel", help="prelu: one slope a channel.")]
ChannelAxis = Annotated[int, typer.Option(help="prelu: the axis of the channels.")]
AllowNoEffect = Annotated[
    bool, typer.Option("--allow-no-effect", help="Swap also where a quantiser behind clips at zero.")
]

NoCheck = Annotated[
    bool, typer.Option("--no-check", help="Do not run the models to compare them.", rich_help_panel=_PROOF)
]
Providers = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Execution providers; default: cpu, and cuda if it runs.", rich_help_panel=_PROOF),
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME:1,3,224,224", help="Shape of an input; repeatable.", rich_help_panel=_PROOF),
]
LoadInputs = Annotated[
    Path | None, typer.Option(metavar="FILE.npz", help="Inputs to run on, by name.", rich_help_panel=_PROOF)
]
Seed = Annotated[int, typer.Option(help="Seed of the made-up inputs.", rich_help_panel=_PROOF)]
Rtol = Annotated[float | None, typer.Option(help="Relative tolerance, NumPy's rule.", rich_help_panel=_PROOF)]
Atol = Annotated[float | None, typer.Option(help="Absolute tolerance, NumPy's rule.", rich_help_panel=_PROOF)]


@dataclass(frozen=True)
class Display:
    """How to report."""

    json: Json = False
    verbose: Verbose = False
    quiet: Quiet = False


@dataclass(frozen=True)
class Evidence:
    """What a check runs on and how it judges."""

    providers: Providers = None
    input_shapes: InputShapes = None
    load_inputs: LoadInputs = None
    seed: Seed = 0
    rtol: Rtol = None
    atol: Atol = None


@dataclass(frozen=True)
class Selected:
    """Which sites."""

    include: Include = None
    exclude: Exclude = None


@dataclass(frozen=True)
class Destination:
    """Where the result goes, and whether it is checked first."""

    output: Output = None
    force: Force = False
    in_place: InPlace = False
    dry_run: DryRun = False
    allow_none: AllowNone = False
    no_check: NoCheck = False


def spread(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return `command` with each parameter that is one of the groups above spread into the group's own options."""
    hints = get_type_hints(command, include_extras=True)
    groups = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__")
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            group_hints = get_type_hints(groups[name], include_extras=True)
            parameters += [_option(f.name, group_hints[f.name], f.default) for f in fields(groups[name])]
        else:
            parameters.append(_option(name, hints[name], parameter.default))

    def run(**values: Any) -> Any:
        grouped = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**values, **grouped)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def parse_parameters(texts: list[str] | None) -> dict[str, float]:
    """Return `name=value` texts as numbers; anything else is a UsageError."""
    found: dict[str, float] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param {text!r}: write it as name=value, for example alpha=0.1")
        if name in found:
            raise UsageError(f"--param {name}: given twice")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UsageError(f"--param {text!r}: {value!r} is not a number") from error
    return found


def parse_names(text: str | None) -> list[str] | None:
    """Return a comma-separated list, None where nothing was given."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
