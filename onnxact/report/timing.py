"""Timing -> what a person reads: how it was measured, each group in milliseconds and as a ratio, and the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from onnxact.check.standings import shape_text, shown
from onnxact.report.text import spelled, table

if TYPE_CHECKING:
    from onnxact.check.standings import Standing, Timing
    from onnxact.check.timing import Pace

COLUMNS = ("sites", "activation", "x", "behind", "form", "before", "after", "ratio", "found")


def timed(found: Timing, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield what was measured."""
    yield Text(
        "Timed: one site of each group with its neighbours, as it is and in each form with the same bits", "bold"
    )
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in found.shapes.items())
    yield Text(f"  on {found.provider}, optimisation on, {found.threads}; inputs {shapes or 'none'}")
    yield from (Text(f"  {note}") for note in found.notes)
    yield Text("  medians of rounds in turn; in brackets the bounds of the ratio's median, 1 % beyond each")
    yield from table("", COLUMNS, map(_row, found.groups), limit=None)
    if verbose:
        yield from (Text(f"  {line}", style="dim") for standing in found.groups for line in _screened(standing))
    yield Text(f"  end to end: {whole(found)}", style="bold")
    if found.noise is not None:
        yield Text(f"  the whole model against itself in another session: {shown(found.noise)}")
    yield Text("")


def whole(found: Timing) -> str:
    """Return how fast the model became, or what was tried in vain."""
    if found.whole is None:
        return "as it was"
    measured = f"{_milliseconds(found.whole.before)} -> {_milliseconds(found.whole.after)}, {shown(found.whole)}"
    return measured if found.faster else f"as it was; all that seemed faster, together: {measured}"


def _row(standing: Standing) -> tuple[str, ...]:
    key = standing.group.key
    form = standing.form or ("stays" if standing.pace is None else f"stays, not {standing.best}")
    shown_there = (str(len(standing.group.sites)), spelled(key.activation), shape_text(standing.group), key.behind)
    return (*shown_there, form, *_paced(standing.pace), _said(standing))


def _paced(pace: Pace | None) -> tuple[str, str, str]:
    return ("", "", "") if pace is None else (_milliseconds(pace.before), _milliseconds(pace.after), shown(pace))


def _said(standing: Standing) -> str:
    if standing.group.reason:
        return standing.group.reason
    where = "" if standing.alone else "in the whole model"
    return where if standing.pace is not None else f"{where} every other form is slower".strip()


def _screened(standing: Standing) -> Iterator[str]:
    if standing.screened:
        name = f"{spelled(standing.group.key.activation)} {shape_text(standing.group)}"
        paces = ", ".join(f"{form} {pace.ratio:.3f} x" for form, pace in standing.screened.items())
        yield f"{name}, first rounds: {paces}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"
