"""Results -> what a person reads on a terminal, made of rich's tables and plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from onnxact.report.evidence import Block, blocks, headline
from onnxact.report.printable import printable
from onnxact.words import counted

if TYPE_CHECKING:
    from onnxact.check import Drift, Verdict
    from onnxact.model.edit import Skip
    from onnxact.results import Inspection, Result
    from onnxact.rewrite.draft import Change
    from onnxact.rewrite.site import Parameters, Site

SHOWN = 20
"""How many rows of a table are shown without -v; the rest is counted."""
_NAMED = 3
"""How many nodes of a group are named without -v."""
_WIDEST = 10_000
"""Columns that no table needs."""
_LONGEST = 40
"""Characters of a node's name without -v; exporters join the names of what they fused."""
_UNTITLED = "Outputs"
"""The table that follows the outcome at once."""
_COLOURS = {"equivalent": "green", "different": "red", "inconclusive": "yellow"}


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, limit: int | None = SHOWN
) -> Iterator[RenderableType]:
    """Yield a table of plain texts without its empty columns; rows past `limit` are counted below it."""
    cells = [tuple(row) for row in rows]
    shown = cells[:limit]
    filled = [index for index in range(len(columns)) if any(row[index] for row in shown)]
    made = Table(header_style="bold", box=None, pad_edge=False)
    for index in filled:
        made.add_column(columns[index], overflow="fold")
    for row in shown:
        made.add_row(*(Text(printable(row[index])) for index in filled))
    if title:
        yield Text(title, style="bold")
    yield made
    if len(cells) > len(shown):
        yield Text(f"... and {len(cells) - len(shown)} more; -v shows all")


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


def spelled(activation: str) -> str:
    """Return an activation's name as the command line has it."""
    return activation.replace("_", "-")


def node_of(scope: str, node: str, output: str) -> str:
    """Return what a node is called in a report."""
    name = node or f"(unnamed, makes {output})"
    return f"{scope} > {name}" if scope else name


def _site_text(site: Site) -> str:
    return node_of(site.scope.path, site.node, site.output)


def _nodes_text(nodes: Sequence[str], *, verbose: bool) -> str:
    shown = list(nodes) if verbose else [_shortened(node) for node in nodes[:_NAMED]]
    more = len(nodes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _shortened(name: str) -> str:
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half + 1 :]}"


def _grouped(rows: Iterable[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> Iterator[tuple[str, ...]]:
    """(node, what it is, the same in fewer words) -> rows (how many, what they are, the nodes), of at most SHOWN if
    fewer words can do that.
    """
    listed = list(rows)
    wordy = len({full for _, full, _ in listed}) <= SHOWN
    groups: dict[tuple[str, ...], list[str]] = {}
    for node, full, brief in listed:
        groups.setdefault(full if wordy else brief, []).append(node)
    for what, nodes in groups.items():
        yield str(len(nodes)), *what, _nodes_text(nodes, verbose=False)


def inspection(found: Inspection, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield the sites of a model: one a row, or grouped by what they are."""
    activations = counted(len(found.sites), "activation") if found.sites else "no activations"
    title = f"{counted(sum(found.op_counts.values()), 'node')}, {activations}"
    columns = ("activation", "form", "parameters", "dtype")
    if not found.sites:
        yield Text(title, style="bold")
    elif verbose:
        rows = ((_site_text(site), *_site_row(site)) for site in found.sites)
        yield from table(title, ("node", *columns), rows, limit=None)
    else:
        groups = _grouped((_site_text(site), _site_row(site), _site_row(site, brief=True)) for site in found.sites)
        yield from table(title, ("sites", *columns, "nodes"), groups)
    yield from skipped(found.skipped, verbose=verbose, title="Not counted")


def _site_row(site: Site, *, brief: bool = False) -> tuple[str, ...]:
    parameters = _various(site.parameters) if brief else parameters_text(site.parameters)
    return spelled(site.activation), site.form, parameters, site.type_name or "unknown"


def _various(parameters: Parameters) -> str:
    return "various" if parameters else ""


def skipped(skips: Sequence[Skip], *, verbose: bool, title: str = "Skipped") -> Iterator[RenderableType]:
    """Yield what was left alone: each reason once, with its nodes."""
    by_reason: dict[str, list[Skip]] = {}
    for skip in skips:
        by_reason.setdefault(skip.reason, []).append(skip)
    if skips:
        yield Text(f"\n{title}", style="bold")
    for reason, alike in by_reason.items():
        nodes = [node_of(skip.scope, skip.node, "") for skip in alike if skip.node]
        unnamed = len(alike) - len(nodes)
        count = f"{unnamed} unnamed node{'s' if unnamed > 1 else ''}" if unnamed else ""
        yield Text(f"  {', '.join(filter(None, (_nodes_text(nodes, verbose=verbose), count)))}: {reason}")


def rewriting(result: Result, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield what a verb changed: the op counts, the sites, what was skipped; first what was timed."""
    if result.timing is not None:
        from onnxact.report import timing

        yield from timing.timed(result.timing, verbose=verbose)
    if result.changed:
        before, after = result.ops_before, result.ops_after
        yield from table("Ops", ("op", "before", "after", "change"), _count_rows(before, after))
        columns = ("before", "after", "bits")
        if verbose:
            rows = ((_site_text(change.site), *_change_row(change)) for change in result.sites)
            yield from table("\nSites", ("node", *columns), rows, limit=None)
            yield from _notes(result.sites)
        else:
            changes = ((_site_text(c.site), _change_row(c), _change_row(c, brief=True)) for c in result.sites)
            yield from table("\nSites", ("sites", *columns, "nodes"), _grouped(changes))
        yield from _apart(result)
        for warning in dict.fromkeys(change.warning for change in result.sites if change.warning):
            yield Text(f"  warning: {warning}", style="yellow")
    yield from (Text(f"  remark: {remark}") for remark in result.remarks)
    yield from skipped(result.skipped, verbose=verbose)


def _apart(result: Result) -> Iterator[RenderableType]:
    counts = Counter(site.form for site in result.taken_apart)
    if counts:
        done = "put together again" if result.verb == "fuse" else "taken apart"
        yield Text(f"  {done}: " + ", ".join(f"{count} x {op}" for op, count in counts.items()))


def _count_rows(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    for op in sorted({*before, *after}):
        old, new = before.get(op, 0), after.get(op, 0)
        if old != new:
            yield op, str(old), str(new), f"{new - old:+d}"
    old, new = sum(before.values()), sum(after.values())
    yield "all", str(old), str(new), f"{new - old:+d}"


def _change_row(change: Change, *, brief: bool = False) -> tuple[str, ...]:
    """What is, what it becomes; an activation that stays is not written twice."""
    site = change.site
    listed = _various if brief else parameters_text
    old, new = listed(site.parameters), listed(change.parameters)
    stays = (site.activation, old) == (change.activation, new) and change.form != "op"
    bits = {True: "same", False: "within its bound", None: ""}[change.exact]
    if change.error:
        bits = f"up to {change.error:g} off"
    return (
        _form_text(site.activation, site.form, old),
        change.form if stays else _form_text(change.activation, change.form, new),
        bits,
    )


def _form_text(activation: str, form: str, parameters: str) -> str:
    name = spelled(activation) if form == "op" else f"{spelled(activation)} {form}"
    return f"{name}({parameters})" if parameters else name


def _notes(changes: Iterable[Change]) -> Iterator[RenderableType]:
    for note in dict.fromkeys(change.note for change in changes if change.note):
        yield Text(f"  {note}", style="dim")


def drifting(found: Drift) -> Iterator[RenderableType]:
    """Yield how far a swap moved the outputs."""
    yield from table(
        "\nHow far the swap moves the outputs, on made-up inputs",
        ("output", "largest change", "mean change", "size of the output"),
        ((o.name, f"{o.max_abs:.4g}", f"{o.mean_abs:.4g}", f"{o.scale:.4g}") for o in found.outputs),
    )
    yield Text("  A swap changes what the model computes: a trained model usually has to be trained further.")


def subject(result: Result) -> str:
    """Return what the outcome of a swap is compared with; "" for what computes the same."""
    if not result.verb.startswith("swap"):
        return ""
    names = ", ".join(dict.fromkeys(spelled(change.activation) for change in result.sites))
    return f"compared with the original in which these sites stand in another form of {names}"


def verdict(found: Verdict, *, verbose: bool, subject: str = "") -> Iterator[RenderableType]:
    """Yield a check's outcome with its evidence. `subject`: what was compared, where that needs saying."""
    title = Text("\n").append(found.outcome, style=f"bold {_COLOURS[found.outcome]}")
    yield title.append(f": {headline(found)}")
    for block in blocks(found, subject=subject, verbose=verbose):
        if block.title and block.title != _UNTITLED and (block.lines or block.rows):
            yield Text(f"\n{block.title}", style="bold")
        shown = block.lines if verbose else block.lines[:SHOWN]
        yield from (Text(f"  {line}") for line in shown)
        if len(block.lines) > len(shown):
            yield Text(f"  ... and {len(block.lines) - len(shown)} more; -v shows all")
        if block.rows:
            yield _Records(block, None if verbose else SHOWN)
            if not verbose and len(block.rows) > SHOWN:
                yield Text(f"... and {len(block.rows) - SHOWN} more; -v shows all")


@dataclass(frozen=True)
class _Records:
    """A table where there is room for it, else each row as a list of its cells."""

    block: Block
    limit: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self.block.rows[: self.limit]
        (made,) = table("", self.block.columns, rows, limit=None)
        if Measurement.get(console, options.update(width=_WIDEST), made).maximum <= options.max_width:
            yield made
            return
        for first, *others in rows:
            yield Text(f"  {self.block.columns[0]} {first}", style="bold")
            named = zip(self.block.columns[1:], others, strict=True)
            yield from (Text(f"    {column}: {cell}") for column, cell in named if cell)


def show(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print the parts one below the other: texts as they are, tables without trailing blanks, no blank line first."""
    for number, part in enumerate(parts):
        for line in [part] if isinstance(part, Text) else _lines(console, part):
            blank = number == 0 and line.plain.startswith("\n")
            console.print(line[1:] if blank else line, highlight=False, soft_wrap=True)


def _lines(console: Console, part: RenderableType) -> Iterator[Text]:
    for segments in console.render_lines(part, pad=False):
        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        yield line
