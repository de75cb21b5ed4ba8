"""What the commands do once their options are parsed: one library call, a report, an exit code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from onnxact.cli.evidence import INPUT_KEYS, Evidence, check_options, demand_used
from onnxact.cli.options import Destination, Display, Selected, parse_path
from onnxact.cli.output import SCHEMA, complain, console, delivering, emit_json
from onnxact.cli.progress import progressing
from onnxact.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from onnxact.check import Drift, Verdict
    from onnxact.cli.reports import Reports
    from onnxact.interop import FileSource
    from onnxact.results import Inspection, Result
    from onnxact.rewrite.select import Selection
    from onnxact.rewrite.site import Slopes
    from onnxact.verbs import Rewrite

UNFINISHED = 4
"""The exit code where something is left that a target does not run."""


def selection(selected: Selected, activations: list[str] | None = None) -> Selection:
    """Return the selection that the options ask for."""
    from onnxact.rewrite.select import Selection

    return Selection(selected.include or (), selected.exclude or (), activations or ())


def with_slopes(parameters: Mapping[str, Slopes], file: str | None, alpha: float | None) -> Mapping[str, Slopes]:
    """Return the parameters with the slopes of a file."""
    if file is None:
        return parameters
    if alpha is not None:
        raise UsageError("give --alpha or --slopes, not both")
    from onnxact.interop.slopes import load_slopes

    return {**parameters, "slope": load_slopes(parse_path("--slopes", file))}


def show(parts: Iterable[RenderableType], *, stderr: bool = False) -> None:
    """Print the parts of a report one below the other."""
    from onnxact.report import text

    with delivering():
        text.show(console(stderr=stderr), parts)


def show_inspection(found: Inspection, *, verbose: bool) -> None:
    """Print what `inspect` found."""
    from onnxact.report import text

    show(text.inspection(found, verbose=verbose))


def rewrite(verb: Rewrite, model: str, destination: Destination, evidence: Evidence, display: Display) -> None:
    """Rewrite a file, check, report, and leave with the exit code.

    A result that was shown to be different is not written. An inconclusive one is, and the exit code says so.
    """
    from onnxact.cli.reports import reporting

    checked = not (destination.no_check or destination.dry_run)
    if not checked:
        demand_used(evidence)
    with reporting(f"{verb.verb} {model}", evidence) as reports:
        options = check_options(evidence) if checked or verb.tuning is not None else {}
        raise typer.Exit(_rewritten(_Task(verb, model, destination, options, checked, display, reports)))


@dataclass(frozen=True)
class _Task:
    """What is to be done; `options` say how the models are run, `checked` whether they are compared."""

    verb: Rewrite
    model: str
    destination: Destination
    options: Mapping[str, Any]
    checked: bool
    display: Display
    reports: Reports


def _rewritten(task: _Task) -> int:
    from onnxact.interop import FileSource
    from onnxact.verbs import Writing

    destination, display = task.destination, task.display
    output = None if destination.output is None else parse_path("--output", destination.output)
    writing = Writing(output, destination.in_place, destination.force, destination.dry_run)
    source = FileSource(parse_path("MODEL", task.model))
    target = writing.path(source, task.verb.what)
    if target is None:
        raise UsageError("a model in a file has a place to write to")
    result = _carried_out(task, source, target)
    verdict, drift = _evidence(result, display, task.options) if task.checked else (None, None)
    written = target if _write(result, target, destination, verdict) else None
    _tell(task.reports, result, verdict, destination)
    report = _json_report if display.json else _quiet_report if display.quiet else _text_report
    report(_Outcome(result, verdict, drift, written, destination.dry_run, display.verbose))
    return _exit_code(result, verdict, allow_none=destination.allow_none)


def _carried_out(task: _Task, source: FileSource, target: Path) -> Result:
    """Plan and apply, with progress where the model is run for that."""
    if task.verb.tuning is None:
        return task.verb.run(source, target)
    with progressing(task.display) as progress:
        return task.verb.run(source, target, task.options, progress)


def _tell(reports: Reports, result: Result, verdict: Verdict | None, destination: Destination) -> None:
    if verdict is not None:
        from onnxact.report import text

        reports.write(verdict, subject=text.subject(result))
    elif result.unfinished:
        reports.write_nothing(f"some activations have no form for {result.target}", allowed=False)
    elif not result.changed:
        reports.write_nothing(_nothing_to_do(result), allowed=destination.allow_none)


@dataclass(frozen=True)
class _Outcome:
    """What there is to report."""

    result: Result
    verdict: Verdict | None
    drift: Drift | None
    written: Path | None
    dry_run: bool
    verbose: bool


def _evidence(result: Result, display: Display, options: Mapping[str, Any]) -> tuple[Verdict | None, Drift | None]:
    """Return the verdict, and for a swap that is not different how far it moves the outputs."""
    if not result.changed or result.unfinished:
        return None, None
    with progressing(display) as progress:
        verdict = result.check(progress=progress, **options)
    if display.quiet or not result.verb.startswith("swap"):
        return verdict, None
    return verdict, result.drift(**{key: options[key] for key in INPUT_KEYS if key in options})


def _write(result: Result, target: Path, destination: Destination, verdict: Verdict | None) -> bool:
    from onnxact.verbs import write

    refused = result.unfinished or (verdict is not None and verdict.outcome == "different")
    if destination.dry_run or refused or not (result.changed or destination.allow_none):
        return False
    if destination.in_place and not result.changed:
        return False
    write(result, target, force=destination.force or destination.in_place)
    return True


def _exit_code(result: Result, verdict: Verdict | None, *, allow_none: bool) -> int:
    if result.unfinished:
        return UNFINISHED
    if not result.changed:
        return 0 if allow_none else 4
    return verdict.exit_code if verdict is not None else 0


def _json_report(outcome: _Outcome) -> None:
    written = str(outcome.written) if outcome.written else None
    report = {**outcome.result.to_json(), "output": written, "dry_run": outcome.dry_run}
    report["check"] = None if outcome.verdict is None else outcome.verdict.to_json()
    if outcome.drift is not None:
        report["drift"] = [vars(output) for output in outcome.drift.outputs]
    emit_json(report)


def _text_report(outcome: _Outcome) -> None:
    show(_parts(outcome))


def _parts(outcome: _Outcome) -> Iterator[RenderableType]:
    from rich.text import Text

    from onnxact.report import text

    yield from text.rewriting(outcome.result, verbose=outcome.verbose)
    if outcome.drift is not None and outcome.drift.outputs:
        yield from text.drifting(outcome.drift)
    if outcome.verdict is not None:
        yield from text.verdict(outcome.verdict, verbose=outcome.verbose, subject=text.subject(outcome.result))
    yield Text(f"\n{_last_line(outcome)}")


def _target_line(outcome: _Outcome) -> str:
    """Return what to say where a target runs all as it stands, or does not run something at all; else nothing."""
    result = outcome.result
    if result.unfinished:
        count = len(result.left)
        others = "; --partial writes the others" if result.changed else ""
        return f"nothing written: no form for {count} site{'s' if count > 1 else ''} that {result.target} lacks{others}"
    if not result.changed and result.timing is not None:
        return f"{_nothing_to_do(result)}: nothing changes, {_nothing_done(outcome)}"
    if not result.changed and not result.skipped:
        return f"{_as_it_stands(result)}: nothing to rewrite, {_nothing_done(outcome)}{_not_selected(result)}"
    return ""


def _as_it_stands(result: Result) -> str:
    if not result.looked_at:
        return "no activation was selected" if result.passed_over else "no activation was looked at"
    every = "every selected activation" if result.passed_over else "every activation"
    return f"{every} runs as it stands on {result.target}"


def _not_selected(result: Result) -> str:
    """Return how many activations a target does not run, and were not selected."""
    count = result.passed_over
    those = f"{count} activation{'s' if count > 1 else ''}"
    return f"; not selected: {those} that {result.target} is not known to run" if count else ""


def _nothing_to_do(result: Result) -> str:
    if result.timing is not None:
        return "no form with the same bits makes this model faster here by more than the noise"
    return "nothing to rewrite"


def _nothing_done(outcome: _Outcome) -> str:
    return f"wrote an unchanged copy to {outcome.written}" if outcome.written else "nothing written"


def _last_line(outcome: _Outcome) -> str:
    if outcome.result.target and (line := _target_line(outcome)):
        return line
    return _done_line(outcome) + _left_over(outcome.result)


def _left_over(result: Result) -> str:
    """Return how many sites the ops allowed cannot express; empty for none."""
    count = 0 if result.target else len(result.left)
    return f"; {count} site{' is' if count == 1 else 's are'} left that these ops cannot express" if count else ""


def _done_line(outcome: _Outcome) -> str:
    if not outcome.result.changed:
        found = "" if outcome.result.skipped else "; `onnxact inspect` lists the activations of a model"
        return f"nothing to rewrite, {_nothing_done(outcome)}{found}"
    return _done(outcome) + _not_selected(outcome.result)


def _done(outcome: _Outcome) -> str:
    """Return what became of a rewritten model."""
    from onnxact.model.files import format_note

    if outcome.dry_run:
        count = len(outcome.result.sites)
        return f"would rewrite {count} site{'s' if count > 1 else ''}; dry run, nothing written"
    if outcome.written is None:
        return f"nothing written, because the result is different{_allowing(outcome.result)}"
    note = format_note(outcome.written)
    wrote = f"wrote {outcome.written}{f' {note}' if note else ''}"
    if outcome.verdict is None:
        return f"{wrote} (not checked)"
    return wrote + ("" if outcome.verdict.equivalent else ", which was NOT shown to be right")


def _allowing(result: Result) -> str:
    """Return how a result passes in which a form only comes near its activation."""
    off = max((change.error for change in result.sites), default=0.0)
    return f": a form is up to {off:g} off for one site; --atol says how far outputs may move" if off else ""


def _quiet_report(outcome: _Outcome) -> None:
    """Say on stderr what -q must not hide."""
    from onnxact.report import text

    if outcome.result.unfinished:
        complain(_last_line(outcome))
        show(text.skipped(outcome.result.left, verbose=False), stderr=True)
    elif not outcome.result.changed:
        complain(f"{_nothing_to_do(outcome.result)}{_left_over(outcome.result)}")
        show(text.skipped(outcome.result.skipped, verbose=False), stderr=True)
    elif left := _left_over(outcome.result):
        complain(left.removeprefix("; "))
    if outcome.verdict is not None and not outcome.verdict.equivalent:
        show(text.verdict(outcome.verdict, verbose=False), stderr=True)


def judge(before: str, after: str, evidence: Evidence, display: Display) -> int:
    """Check two files, report, and return the exit code."""
    from onnxact import api
    from onnxact.cli.reports import reporting
    from onnxact.report import text

    paths = parse_path("BEFORE", before), parse_path("AFTER", after)
    with reporting(f"check {before} {after}", evidence) as reports:
        options = check_options(evidence)
        with progressing(display) as progress:
            verdict = api.check(*paths, progress=progress, **options)
        reports.write(verdict)
        if display.json:
            report = {"schema": SCHEMA, "verb": "check", "before": before, "after": after}
            emit_json({**report, "check": verdict.to_json()})
        elif not display.quiet or not verdict.equivalent:
            show(text.verdict(verdict, verbose=display.verbose), stderr=display.quiet)
    return verdict.exit_code


def list_forms(name: str | None, *, as_json: bool) -> None:
    """Print the forms of one activation or of all."""
    from onnxact.activation.catalog import ACTIVATIONS
    from onnxact.activation.forms import find_activation
    from onnxact.report import forms

    chosen = [find_activation(name)] if name else list(ACTIVATIONS.values())
    if as_json:
        described = {activation.name: forms.describe(activation) for activation in chosen}
        emit_json({"schema": SCHEMA, "verb": "forms", "activations": described})
    else:
        show(forms.forms(chosen))
