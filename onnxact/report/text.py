"""Results -> what a person reads on a terminal, made of rich's tables and plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from onnxact.activation.catalog import Activation
    from onnxact.api import Inspection, Result
    from onnxact.check import Drift, Verdict
    from onnxact.model.edit import Skip
    from onnxact.rewrite.draft import Change
    from onnxact.rewrite.site import Parameters, Site

SHOWN = 20
"""How many rows of a table are shown without -v; the rest is counted."""
_COLOURS = {"equivalent": "green", "different": "red", "inconclusive": "yellow"}


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, limit: int | None = SHOWN) -> Table:
    """Return a table of plain texts; rows past `limit` are counted in its caption."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    count = 0
    for count, row in enumerate(rows, 1):
        if limit is None or count <= limit:
            made.add_row(*(Text(cell) for cell in row))
    if limit is not None and count > limit:
        made.caption = f"... and {count - limit} more; -v shows all"
        made.caption_justify = "left"
    return made


def parameters_text(parameters: Parameters) -> str:
    """Return parameters as "alpha=0.2"; a tensor by its shape and range."""
    from onnxact.rewrite.site import plain

    return ", ".join(f"{name}={_value_text(plain(value))}" for name, value in parameters.items())


def _value_text(value: Any) -> str:
    if not isinstance(value, dict):
        return number(value) if isinstance(value, float) else str(value)
    if "shape" in value:
        return f"{value['shape']} in [{value['min']:.4g}, {value['max']:.4g}]"
    return f"({value.get('value') or '@' + value['attribute']})"


def number(value: float) -> str:
    """Return the shortest text that reads back as the same float32 number, or as the same double."""
    single = np.float32(value)
    return str(single) if float(single) == value else repr(value)


def _node_text(scope: str, node: str, output: str) -> str:
    name = node or f"(unnamed, makes {output})"
    return f"{scope} > {name}" if scope else name


def inspection(found: Inspection, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield the sites of a model."""
    limit = None if verbose else SHOWN
    kinds = Counter((site.activation, site.form) for site in found.sites)
    yield table(
        f"{sum(found.op_counts.values())} nodes, {len(found.sites)} activations",
        ("sites", "activation", "form"),
        ((str(count), activation, form) for (activation, form), count in kinds.most_common()),
        limit=limit,
    )
    if found.sites:
        yield ""
        yield table(
            "Sites",
            ("node", "activation", "form", "parameters", "dtype"),
            map(_site_row, found.sites),
            limit=limit,
        )
    yield from skipped(found.skipped, verbose=verbose, title="Not counted")


def _site_row(site: Site) -> tuple[str, ...]:
    where = _node_text(site.scope.path, site.node, site.output)
    return where, site.activation, site.form, parameters_text(site.parameters), site.dtype or "unknown"


def skipped(skips: Sequence[Skip], *, verbose: bool, title: str = "Skipped") -> Iterator[RenderableType]:
    """Yield what was left alone: each reason once, with its nodes."""
    by_reason: dict[str, list[str]] = {}
    for skip in skips:
        by_reason.setdefault(skip.reason, []).append(_node_text(skip.scope, skip.node, "it"))
    for number, (reason, nodes) in enumerate(by_reason.items()):
        if number == 0:
            yield Text(f"\n{title}", style="bold")
        shown = nodes if verbose else nodes[:3]
        more = f" and {len(nodes) - len(shown)} more" if len(nodes) > len(shown) else ""
        yield Text(f"  {', '.join(shown)}{more}: {reason}")


def rewriting(result: Result, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield what a verb changed: the op counts, the sites, what was skipped."""
    limit = None if verbose else SHOWN
    if result.changed:
        before, after = result.ops_before, result.ops_after
        yield table("Ops", ("op", "before", "after", ""), _count_rows(before, after), limit=limit)
        yield ""
        yield table("Sites", ("node", "before", "after", "bits"), map(_change_row, result.sites), limit=limit)
        yield from _notes(result.sites)
    yield from skipped(result.skipped, verbose=verbose)


def _count_rows(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    for op in sorted({*before, *after}):
        old, new = before.get(op, 0), after.get(op, 0)
        if old != new:
            yield op, str(old), str(new), f"{new - old:+d}"
    old, new = sum(before.values()), sum(after.values())
    yield "all", str(old), str(new), f"{new - old:+d}"


def _change_row(change: Change) -> tuple[str, ...]:
    site = change.site
    bits = {True: "same", False: "within its bound", None: ""}[change.exact]
    return (
        _node_text(site.scope.path, site.node, site.output),
        _form_text(site.activation, site.form, site.parameters),
        _form_text(change.activation, change.form, change.parameters),
        bits,
    )


def _form_text(activation: str, form: str, parameters: Parameters) -> str:
    listed = parameters_text(parameters)
    name = activation if form == "op" else f"{activation} {form}"
    return f"{name}({listed})" if listed else name


def _notes(changes: Iterable[Change]) -> Iterator[RenderableType]:
    for note in dict.fromkeys(change.note for change in changes if change.note):
        yield Text(f"  {note}", style="dim")


def drifting(found: Drift) -> Iterator[RenderableType]:
    """Yield how far a swap moved the outputs."""
    yield table(
        "\nHow far the swap moves the outputs, on made-up inputs",
        ("output", "largest change", "mean change", "size of the output"),
        ((o.name, f"{o.max_abs:.4g}", f"{o.mean_abs:.4g}", f"{o.scale:.4g}") for o in found.outputs),
    )
    yield Text("  A swap changes what the model computes: a trained model usually has to be trained further.")


def verdict(found: Verdict, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield a check's outcome with its evidence."""
    limit = None if verbose else SHOWN
    title = Text("\n").append(found.outcome, style=f"bold {_COLOURS[found.outcome]}")
    yield title.append(f": {len(found.runs)} runs on {', '.join(found.providers) or 'no provider'}")
    for reason in found.reasons:
        yield Text(f"  because {reason}")
    rows = []
    for item in found.worst_outputs():
        difference = "bit-equal" if not item.differing else f"{item.max_abs:.3g} ({item.max_u:.3g} u)"
        allowed = "" if not item.differing else f"rtol {item.rtol:.3g}, atol {item.atol:.3g}; noise {item.noise:.3g}"
        rows.append((item.name, f"{item.dtype}{list(item.shape)}", item.outcome, difference, allowed))
    if rows:
        yield table("", ("output", "type", "verdict", "largest difference", "allowed"), rows, limit=limit)
    if found.sites and verbose:
        lines = ((str(s.site), str(s.elements), "yes" if s.reached else "no", s.reason) for s in found.sites)
        yield table("\nSites", ("site", "values seen", "both sides", "remark"), lines, limit=None)
    elif found.sites:
        reached = sum(item.reached for item in found.sites)
        yield Text(f"  {reached} of {len(found.sites)} sites were reached on every side of their kinks")
    for note in found.notes if verbose else ():
        yield Text(f"  note: {note}", style="dim")


def forms(activations: Iterable[Activation]) -> Iterator[RenderableType]:
    """Yield the table of forms."""
    from onnxact.activation.expr import TRUE, size, text

    for activation in activations:
        defaults = ", ".join(f"{p.name}={p.default:.9g}" for p in activation.params)
        rows = (
            (
                name,
                str(size(form.expr)),
                text(form.expr),
                "" if form.when is TRUE else text(form.when),
                exactness(form.exact),
                ", ".join(f"{at} -> {value:g}" for at, value in form.special.items()),
            )
            for name, form in activation.forms.items()
        )
        title = f"\n{activation.spelled}({defaults})"
        yield table(title, ("form", "nodes", "formula", "when", "exact", "special inputs"), rows, limit=None)
        yield Text(f"  {activation.source}", style="dim")


def exactness(condition: Any) -> str:
    """Return an exactness condition as a word or a formula."""
    from onnxact.activation.catalog import FALSE
    from onnxact.activation.expr import TRUE, text

    if condition == FALSE:
        return "no"
    return "yes" if condition is TRUE else text(condition)


def show(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print the parts one below the other."""
    for part in parts:
        console.print(part, highlight=False, soft_wrap=isinstance(part, Text))
