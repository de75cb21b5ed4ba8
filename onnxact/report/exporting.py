"""An export -> what a person reads: what was exported, what was mended, what was found, what was done with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from onnxact.report import text

if TYPE_CHECKING:
    from onnxact.exporting import Exported, Step

_AGAINST_PYTORCH = "the file on ONNX Runtime against the module in eager PyTorch"


def exported(found: Exported, *, verbose: bool, dry_run: bool = False) -> Iterator[RenderableType]:
    """Yield everything that an export did, and its last line."""
    yield from _made(found)
    yield from _sites(found, verbose=verbose)
    yield from text.skipped(found.skipped, verbose=verbose, title="Not counted")
    if found.verdict is not None:
        yield from text.verdict(found.verdict, verbose=verbose, subject=_AGAINST_PYTORCH)
    for step in found.steps:
        yield from _step(step, verbose=verbose)
    yield Text(f"\n{last_line(found, dry_run=dry_run)}")


def about(found: Exported) -> Iterator[str]:
    """Yield what each verdict is about, in their order."""
    if found.verdict is not None:
        yield _AGAINST_PYTORCH
    yield from (text.subject(step.result) for step in found.steps if step.verdict is not None)


def last_line(found: Exported, *, dry_run: bool) -> str:
    """Return what became of the files, in one sentence."""
    if any(verdict.outcome == "different" for verdict in found.verdicts):
        return "nothing written, because the result is different"
    if found.lacking is not None and not found.files:
        return f"nothing written: {found.lacking.what} found nothing to rewrite; leave it out, or give --allow-none"
    if dry_run:
        return "dry run, nothing checked and nothing written"
    wrote = f"wrote {' and '.join(map(str, found.files))}"
    if found.verdict is None:
        return f"{wrote} (not checked)"
    doubtful = any(not verdict.equivalent for verdict in found.verdicts)
    return f"{wrote}, which was NOT shown to be right" if doubtful else wrote


def _made(found: Exported) -> Iterator[RenderableType]:
    yield Text(found.source, style="bold")
    yield Text(f"  {', '.join(found.inputs) or 'no inputs'} -> {', '.join(found.outputs)}")
    yield Text(f"  opset {found.opset}; {found.mode}")
    yield from (Text(f"  {note}") for note in found.notes)
    reasons = Counter(mend.reason for mend in found.mends)
    for reason, count in reasons.items():
        nodes = ", ".join(mend.node for mend in found.mends if mend.reason == reason)
        yield Text(f"  mended {count} node{'s' if count > 1 else ''} ({nodes}): {reason}")


def _sites(found: Exported, *, verbose: bool) -> Iterator[RenderableType]:
    if found.sites:
        yield Text("")
        yield from text.inspection(found.inspection, verbose=verbose)


def _step(step: Step, *, verbose: bool) -> Iterator[RenderableType]:
    yield Text(f"\n{step.what}", style="bold")
    yield from text.rewriting(step.result, verbose=verbose)
    if step.drift is not None and step.drift.outputs:
        yield from text.drifting(step.drift)
    if step.verdict is not None:
        yield from text.verdict(step.verdict, verbose=verbose, subject=text.subject(step.result))
