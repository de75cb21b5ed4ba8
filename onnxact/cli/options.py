"""The options that several commands share, all of them texts or flags, and the parsing of the texts.

Imports nothing heavy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from onnxact.errors import UsageError

OUT, PICK, PROOF = "Output", "Selection", "Evidence"

ModelFile = Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX model.", show_default=False)]
OneActivation = Annotated[
    str | None, typer.Argument(metavar="ACTIVATION", help="One activation; default: all.", show_default=False)
]


def flag(*names: str, help: str, panel: str | None = None) -> Any:
    """Return the option of a flag; without a metavar, typer would show <bool>."""
    return typer.Option(*names, metavar="", help=help, rich_help_panel=panel)


Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="Where to write; default: beside the input.", rich_help_panel=OUT
    ),
]
Force = Annotated[bool, flag("--force", help="Overwrite an existing output.", panel=OUT)]
InPlace = Annotated[bool, flag("--in-place", help="Change the input file.", panel=OUT)]
DryRun = Annotated[bool, flag("--dry-run", help="Say what would be done; write nothing.", panel=OUT)]
AllowNone = Annotated[bool, flag("--allow-none", help="With nothing to rewrite, write an unchanged copy.", panel=OUT)]
Json = Annotated[bool, flag("--json", help="A JSON report on stdout, of an error too.", panel=OUT)]
Verbose = Annotated[bool, flag("-v", "--verbose", help="Show every site, and why.", panel=OUT)]
Quiet = Annotated[bool, flag("-q", "--quiet", help="Say nothing but what went wrong.", panel=OUT)]
AllowInexact = Annotated[bool, flag("--allow-inexact", help="Take a form that changes bits where no exact one fits.")]
NoProvenance = Annotated[bool, flag("--no-provenance", help="Leave no record for fuse in the nodes' metadata.")]
Everything = Annotated[bool, flag("--all", help="In a decomposed model, fuse also the trees it had before.")]

Include = Annotated[
    list[str] | None,
    typer.Option(metavar="RE", help="Only nodes or scopes whose name matches; repeatable.", rich_help_panel=PICK),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="RE", help="No nodes or scopes whose name matches; repeatable.", rich_help_panel=PICK),
]
ActivationNames = Annotated[
    list[str] | None,
    typer.Option("--activation", metavar="NAME", help="Only this activation; repeatable.", rich_help_panel=PICK),
]
Param = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the activation; repeatable."),
]

Slopes = Annotated[str | None, typer.Option(metavar="FILE", help="prelu: slopes from .npy, .npz or .safetensors.")]
PerChannel = Annotated[bool, flag("--per-channel", help="prelu: one slope a channel.")]
ChannelAxis = Annotated[str, typer.Option(metavar="N", help="prelu: the axis of the channels.")]
AllowNoEffect = Annotated[bool, flag("--allow-no-effect", help="Swap also where a quantiser behind clips at zero.")]

NoCheck = Annotated[bool, flag("--no-check", help="Do not run the models to compare them.", panel=PROOF)]


@dataclass(frozen=True)
class Display:
    """How to report."""

    json: Json = False
    verbose: Verbose = False
    quiet: Quiet = False


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
    for stated in getattr(annotation, "__metadata__", ()):
        named = isinstance(stated, OptionInfo) and (stated.param_decls or isinstance(stated.default, str))
        if isinstance(stated, OptionInfo) and not named:
            stated.param_decls = (f"--{name.replace('_', '-')}",)  # typer 0.27 takes metavar FORM for the name of form
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
        found[name] = _number(f"--param {text!r}", value)
    return found


def parse_number(option: str, text: str | None) -> float | None:
    """Return a text as a number (NaN and infinities included); anything else is a UsageError."""
    return None if text is None else _number(option, text)


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{what}: {text!r} is not a number") from error


def parse_whole(option: str, text: str) -> int:
    """Return a text as a whole number; anything else is a UsageError."""
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{option}: {text!r} is not a whole number") from error


def parse_path(option: str, text: str) -> Path:
    """Return a text as a path; "" and "-" (a stream) are a UsageError."""
    if text in ("", "-"):
        raise UsageError(f"{option} {text!r}: name a file; nothing is read from or written to a stream")
    return Path(text)


def parse_names(option: str, text: str | None) -> list[str] | None:
    """Return a comma-separated list, None where nothing was given; one without a name is a UsageError."""
    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError(f"{option} {text!r}: names nothing; expected names with commas between them")
    return names
