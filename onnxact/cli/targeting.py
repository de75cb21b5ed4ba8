"""The options and the command that are about targets: `targets`, `inspect --target`, `decompose --target`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onnxact.cli.options import flag
from onnxact.cli.output import SCHEMA, emit_json
from onnxact.errors import UsageError

if TYPE_CHECKING:
    from onnxact.results import Inspection

Target = Annotated[
    list[str] | None,
    typer.Option(metavar="TARGET", help="The runtime that is to run it: a name, a .toml file, or ort:cpu."),
]
Partial = Annotated[bool, flag("--partial", help="With --target, write also where something is left that it lacks.")]
EveryOp = Annotated[bool, flag("-v", "--verbose", help="Every op of the target, by version and dtype.")]
Fastest = Annotated[
    bool, flag("--fastest", help="With --target ort:cpu, take the forms with the same bits that are fastest here.")
]
OneTarget = Annotated[
    str | None, typer.Argument(metavar="NAME", help="One target; default: list all.", show_default=False)
]


def single(names: list[str] | None) -> str | None:
    """Return the target that was given, None for none; UsageError for several."""
    if names is not None and len(names) > 1:
        raise UsageError(f"give one --target, not {len(names)}: {', '.join(names)}")
    return names[0] if names else None


def list_targets(name: str | None, *, as_json: bool, verbose: bool) -> None:
    """Print all targets, or what is known of one."""
    from onnxact.cli.run import show
    from onnxact.report import targets as report
    from onnxact.rewrite.target.known import find_target, names
    from onnxact.rewrite.target.matrix import row

    found = [find_target(one) for one in ([name] if name else names())]
    if as_json:
        described = {target.name: report.describe(target) for target in found}
        if name:
            decisions = {one.site.activation: one.describe() for one in row(found[0])}
            described[found[0].name]["activations"] = decisions
        emit_json({"schema": SCHEMA, "verb": "targets", "targets": described})
    else:
        show(report.one(found[0], row(found[0]), verbose=verbose) if name else report.listing(found))


def show_standing(found: Inspection, *, verbose: bool) -> None:
    """Print what becomes of a model's activations on a target."""
    from onnxact.cli.run import show
    from onnxact.report import targets as report

    show(report.standing(found, verbose=verbose))
