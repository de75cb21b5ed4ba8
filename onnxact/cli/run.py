"""What the commands do once their options are parsed: one library call, a report, an exit code."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from onnxact.cli.options import Destination, Display, Evidence, Selected, parse_names
from onnxact.errors import UsageError
from onnxact.report import text

if TYPE_CHECKING:
    from onnxact.api import Result, Rewrite
    from onnxact.check import Verdict
    from onnxact.rewrite.select import Selection
    from onnxact.rewrite.swap import Slopes

_PATIENCE = 1.0
"""Seconds after which what takes long shows its progress."""


def check_options(evidence: Evidence) -> dict[str, Any]:
    """Return the keyword arguments of `onnxact.check`, parsed."""
    from onnxact.check import load_inputs, parse_shapes

    return {
        "providers": parse_names(evidence.providers),
        "input_shapes": parse_shapes(evidence.input_shapes) if evidence.input_shapes else None,
        "inputs": load_inputs(evidence.load_inputs) if evidence.load_inputs else None,
        "seeds": (evidence.seed, evidence.seed + 1),
        "rtol": evidence.rtol,
        "atol": evidence.atol,
    }


def selection(selected: Selected, activations: list[str] | None = None) -> Selection:
    """Return the selection that the options ask for."""
    from onnxact.rewrite.select import Selection

    return Selection(selected.include or (), selected.exclude or (), activations or ())


def out(*, stderr: bool = False) -> Console:
    """Return a console that does not cut lines when its output is no terminal."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=160, no_color=True)


def emit_json(report: Mapping[str, Any]) -> None:
    """Write a report to stdout."""
    typer.echo(json.dumps(report, indent=2, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    return str(value)


def _finite(value: Any) -> Any:
    """Return plain data in which infinities and NaN, which JSON lacks, are texts."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def with_slopes(parameters: Mapping[str, Slopes], path: Path | None, alpha: float | None) -> Mapping[str, Slopes]:
    """Return the parameters with the slopes of a file."""
    if path is None:
        return parameters
    if alpha is not None:
        raise UsageError("give --alpha or --slopes, not both")
    from onnxact.interop.slopes import load_slopes

    return {**parameters, "slope": load_slopes(path)}


def rewrite(verb: Rewrite, model: Path, destination: Destination, evidence: Evidence, display: Display) -> None:
    """Rewrite a file, check, report, and leave with the exit code.

    A result that was shown to be different is not written. An inconclusive one is, and the exit code says so.
    """
    from onnxact.api import Writing
    from onnxact.interop import FileSource

    checked = not (destination.no_check or destination.dry_run)
    options = check_options(evidence) if checked else {}
    writing = Writing(destination.output, destination.in_place, destination.force, destination.dry_run)
    source = FileSource(model)
    target = writing.path(source, verb.what)
    if target is None:
        raise UsageError("a model in a file has a place to write to")
    result = verb.run(source, target)
    verdict = None
    if result.changed and checked:
        with _progress(display) as progress:
            verdict = result.check(progress=progress, **options)
    written = target if _write(result, target, destination, verdict) else None
    _report(result, verdict, display, options, written=written, dry_run=destination.dry_run)
    raise typer.Exit(_exit_code(result, verdict, allow_none=destination.allow_none))


def _write(result: Result, target: Path, destination: Destination, verdict: Verdict | None) -> bool:
    from onnxact import api

    refused = verdict is not None and verdict.outcome == "different"
    if destination.dry_run or refused or not (result.changed or destination.allow_none):
        return False
    if destination.in_place and not result.changed:
        return False
    api.write(result, target, force=destination.force or destination.in_place)
    return True


def _exit_code(result: Result, verdict: Verdict | None, *, allow_none: bool) -> int:
    if not result.changed:
        return 0 if allow_none else 4
    return verdict.exit_code if verdict is not None else 0


def _report(
    result: Result,
    verdict: Verdict | None,
    display: Display,
    options: Mapping[str, Any],
    *,
    written: Path | None,
    dry_run: bool,
) -> None:
    drift = None
    if verdict is not None and result.verb.startswith("swap") and not display.quiet:
        drift = result.drift(**{key: options[key] for key in ("inputs", "input_shapes", "seeds")})
    if display.json:
        report = {**result.to_json(), "output": str(written) if written else None, "dry_run": dry_run}
        if verdict is not None:
            report["check"] = verdict.to_json()
        if drift is not None:
            report["drift"] = [vars(output) for output in drift.outputs]
        emit_json(_finite(report))
        return
    if display.quiet:
        _complain(result, verdict)
        return
    console = out()
    text.show(console, text.rewriting(result, verbose=display.verbose))
    if drift is not None and drift.outputs:
        text.show(console, text.drifting(drift))
    if verdict is not None:
        text.show(console, text.verdict(verdict, verbose=display.verbose))
    console.print(_last_line(result, verdict, written, dry_run=dry_run), highlight=False, soft_wrap=True, markup=False)


def _last_line(result: Result, verdict: Verdict | None, written: Path | None, *, dry_run: bool) -> str:
    if not result.changed:
        return "\nnothing to rewrite" + (f"; wrote an unchanged copy to {written}" if written else "; nothing written")
    if dry_run:
        return f"\nwould rewrite {len(result.sites)} sites; dry run, nothing written"
    if written is None:
        return "\nnothing written, because the result is different"
    if verdict is None:
        return f"\nwrote {written} (not checked)"
    return f"\nwrote {written}" + ("" if verdict.equivalent else ", which was NOT shown to be right")


def _complain(result: Result, verdict: Verdict | None) -> None:
    """Say on stderr what -q must not hide."""
    console = out(stderr=True)
    if not result.changed:
        console.print("onnxact: nothing to rewrite", highlight=False)
        text.show(console, text.skipped(result.skipped, verbose=False))
    if verdict is not None and not verdict.equivalent:
        text.show(console, text.verdict(verdict, verbose=False))


def judge(before: Path, after: Path, evidence: Evidence, display: Display) -> int:
    """Check two files, report, and return the exit code."""
    from onnxact import api

    with _progress(display) as progress:
        verdict = api.check(before, after, progress=progress, **check_options(evidence))
    if display.json:
        report = {"schema": api.SCHEMA, "verb": "check", "before": str(before), "after": str(after)}
        emit_json(_finite({**report, "check": verdict.to_json()}))
    elif not display.quiet or not verdict.equivalent:
        text.show(out(stderr=display.quiet), text.verdict(verdict, verbose=display.verbose))
    return verdict.exit_code


def list_forms(name: str | None, *, as_json: bool) -> None:
    """Print the forms of one activation or of all."""
    from onnxact.activation.catalog import ACTIVATIONS
    from onnxact.activation.expr import ops
    from onnxact.activation.expr import text as formula
    from onnxact.activation.forms import find_activation

    chosen = [find_activation(name)] if name else list(ACTIVATIONS.values())
    if not as_json:
        text.show(out(), text.forms(chosen))
        return
    report = {
        activation.name: {
            "defaults": activation.defaults,
            "source": activation.source,
            "torch": activation.torch or None,
            "forms": {
                name: {
                    "formula": formula(form.expr),
                    "ops": sorted(ops(form.expr)),
                    "when": text.exactness(form.when) if form.when else None,
                    "exact": text.exactness(form.exact),
                    "special": dict(form.special),
                }
                for name, form in activation.forms.items()
            },
        }
        for activation in chosen
    }
    emit_json(_finite({"schema": "onnxact/1", "verb": "forms", "activations": report}))


@contextmanager
def _progress(display: Display) -> Iterator[Callable[[str, float], None] | None]:
    """Yield a callback that shows progress on stderr once things take longer than a second."""
    console = Console(stderr=True)
    if display.quiet or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True)
    task = bar.add_task("checking", total=1.0)
    started = time.monotonic()

    def show(what: str, done: float) -> None:
        if time.monotonic() - started > _PATIENCE and not bar.live.is_started:
            bar.start()
        bar.update(task, description=what, completed=done)

    try:
        yield show
    finally:
        bar.stop()
