"""`onnxact export`: options -> one call of the library, with its progress, a report and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxact.cli.evidence import Evidence, check_options, demand_used, parse_size
from onnxact.cli.options import OUT, PROOF, Display, Force, Quiet, Selected, flag, parse_path, parse_whole
from onnxact.cli.output import complain, console, delivering, emit_json
from onnxact.errors import UsageError

if TYPE_CHECKING:
    from onnxact.check import Verdict
    from onnxact.cli.reports import Reports
    from onnxact.exporting import Exported

__all__ = ["Destination", "Quiet", "Steps", "Wishes", "export"]

_WHAT, _THEN = "What is exported", "What is done with it"
Texts = list[str] | None


def _option(*names: str, metavar: str, help: str, panel: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, show_default=False)


ModuleName = Annotated[
    str,
    typer.Argument(
        metavar="FILE_OR_MODULE:CALLABLE",
        help="What returns the module, such as models/resnet.py:resnet18; or a .pt2 file.",
        show_default=False,
    ),
]
Input = Annotated[
    Texts, _option("--input", metavar="NAME:1,3,224,224[:DTYPE]", help="A made-up input; repeatable.", panel=_WHAT)
]
Dynamic = Annotated[
    Texts,
    _option("--dynamic", metavar="NAME:AXIS=SIZE", help="An axis of any size, x:0=batch; repeatable.", panel=_WHAT),
]
Opset = Annotated[str | None, _option("--opset", metavar="N", help="Version of ONNX's ops.", panel=_WHAT)]
Dtype = Annotated[
    str | None, _option("--dtype", metavar="DTYPE", help="float16, bfloat16, float32 or float64.", panel=_WHAT)
]
Weights = Annotated[
    str | None, _option("--weights", metavar="FILE", help=".safetensors, or .pt without unpickling.", panel=_WHAT)
]
Swap = Annotated[
    Texts, _option("--swap", metavar="FROM=TO[:NAME=VALUE]", help="relu=leaky-relu:alpha=0.2; repeatable.", panel=_THEN)
]
Decompose = Annotated[
    str | None, _option("--decompose", metavar="FORM", help="A form, as `onnxact forms` lists it.", panel=_THEN)
]
Output = Annotated[
    str | None,
    _option("-o", "--output", metavar="FILE", help="Where to write; default: CALLABLE.onnx beside FILE.", panel=OUT),
]
ExternalFrom = Annotated[
    str | None,
    _option("--external-from", metavar="SIZE", help="Weights of this size get a file; default 256MiB.", panel=OUT),
]
DryRun = Annotated[bool, flag("--dry-run", help="Export, but check and write nothing.", panel=OUT)]
AllowNone = Annotated[bool, flag("--allow-none", help="Write also where a step finds nothing to rewrite.", panel=OUT)]
Unchecked = Annotated[bool, flag("--no-check", help="Do not compare with PyTorch.", panel=PROOF)]


@dataclass(frozen=True)
class Wishes:
    """What is exported."""

    input: Input = None
    dynamic: Dynamic = None
    opset: Opset = None
    dtype: Dtype = None
    weights: Weights = None


@dataclass(frozen=True)
class Steps:
    """What is done with the exported model."""

    swap: Swap = None
    decompose: Decompose = None


@dataclass(frozen=True)
class Destination:
    """Where it goes, and whether it is checked first."""

    output: Output = None
    force: Force = False
    external_from: ExternalFrom = None
    dry_run: DryRun = False
    allow_none: AllowNone = False
    no_check: Unchecked = False


@dataclass(frozen=True)
class Task:
    """A whole command line."""

    module: str
    wishes: Wishes
    steps: Steps
    selected: Selected
    destination: Destination
    evidence: Evidence
    display: Display


def export(task: Task) -> None:
    """Export, check, report, and leave with the exit code.

    What was shown to be different is not written. What is inconclusive is, and the exit code says so.
    """
    from onnxact.cli.reports import reporting

    if task.evidence.backend is not None:
        raise UsageError("--backend: an export is compared with PyTorch; run onnxact check on the file that it writes")
    checked = not (task.destination.no_check or task.destination.dry_run)
    if not checked:
        demand_used(task.evidence)
    with reporting(f"export {task.module}", task.evidence) as reports:
        options = check_options(task.evidence) if checked else False
        found = _exported(task, options)
        _tell(reports, found)
        _report(found, task)
    raise typer.Exit(found.exit_code)


def _exported(task: Task, options: Any) -> Exported:
    from onnxact.exporting import EXTERNAL_FROM
    from onnxact.exporting import export as export_module

    wishes, destination = task.wishes, task.destination
    with _progress(task.display) as progress:
        return export_module(
            task.module,
            None,
            None if destination.output is None else parse_path("--output", destination.output),
            inputs=wishes.input or (),
            dynamic=wishes.dynamic or (),
            opset=None if wishes.opset is None else parse_whole("--opset", wishes.opset),
            dtype=wishes.dtype,
            weights=None if wishes.weights is None else parse_path("--weights", wishes.weights),
            external_from=parse_size(destination.external_from) if destination.external_from else EXTERNAL_FROM,
            swap=task.steps.swap or (),
            decompose=task.steps.decompose,
            include=task.selected.include or (),
            exclude=task.selected.exclude or (),
            check=options,
            allow_none=destination.allow_none,
            force=destination.force,
            dry_run=destination.dry_run,
            progress=progress,
        )


def _tell(reports: Reports, found: Exported) -> None:
    """Write the files that tell of the check: of the first verdict that is not "equivalent", else of the last."""
    from onnxact.report.exporting import about

    told = [*zip(about(found), found.verdicts, strict=True)]
    if told:
        subject, verdict = next((item for item in told if not item[1].equivalent), told[-1])
        reports.write(verdict, subject=subject)


def _report(found: Exported, task: Task) -> None:
    from onnxact.report import exporting, text

    display = task.display
    if display.json:
        emit_json({**found.to_json(), "dry_run": task.destination.dry_run})
        return
    bad: list[Verdict] = [verdict for verdict in found.verdicts if not verdict.equivalent]
    if not display.quiet:
        with delivering():
            text.show(console(), exporting.exported(found, verbose=display.verbose, dry_run=task.destination.dry_run))
    elif bad or found.lacking is not None:
        complain(exporting.last_line(found, dry_run=task.destination.dry_run))
        with delivering():
            text.show(console(stderr=True), (part for item in bad for part in text.verdict(item, verbose=False)))


@contextmanager
def _progress(display: Display) -> Iterator[Callable[[str, float], None] | None]:
    """Yield a callback that says on stderr what is being done, and for how long.

    It writes to the stream that stderr is now, which the exporter's output does not go to.
    """
    if display.quiet or not console(stderr=True).is_terminal:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    terminal = Console(file=sys.stderr)
    bar = Progress(*columns, console=terminal, transient=True, redirect_stdout=False, redirect_stderr=False)
    line = bar.add_task("loading PyTorch")
    with bar:
        yield lambda what, _done: bar.update(line, description=what)
