"""Targets, and what becomes of a model on one, for a person and as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from onnxact.activation.primitives import PRIMITIVES
from onnxact.report.text import node_of, skipped, spelled, table
from onnxact.rewrite.target.rules import Rule, Target, Wrong

if TYPE_CHECKING:
    from onnxact.results import Inspection
    from onnxact.rewrite.target.decide import Decision

WORDS = {
    "native": "native",
    "missing": "missing",
    "restricted": "not like this",
    "wrong": "wrong",
    "indirect": "by a detour",
    "unknown": "not known",
}


def listing(targets: Iterable[Target]) -> Iterator[RenderableType]:
    """Yield the table of targets."""
    rows = (
        (one.name, one.title, "run" if one.ran else "read", one.date, "" if one.ops is None else str(len(one.ops)))
        for one in targets
    )
    yield from table("", ("target", "runtime", "known by", "as of", "ops"), rows, limit=None)
    yield Text(
        "\n`onnxact targets NAME` shows one; ort:cpu is what the installed ONNX Runtime has; docs/targets.md says"
    )
    yield Text("how to write a file of your own, which is given by its path")


def one(target: Target, decisions: Iterable[Decision], *, verbose: bool = False) -> Iterator[RenderableType]:
    """Yield what is known of a target, and what becomes there of every activation of the table.

    Unless verbose, ops that no form has are counted, and each of the others has one row.
    """
    yield Text(f"{target.name}: {target.title}", style="bold")
    commit = f" @ {target.commit}" if target.commit else ""
    yield Text(
        f"  {target.version}; {target.source}{commit}; {target.date}; {'run' if target.ran else 'read, not run'}"
    )
    yield from (Text(f"  {line}") for line in (*_writing(target), *target.remarks))
    if target.ops is not None:
        rows = _op_rows(target) if verbose else _short_rows(target)
        yield from table("\nOps", ("op", "opset", "dtypes", "only"), rows, limit=None)
        if not verbose and (others := len(target.ops.keys() - _OF_FORMS)):
            yield Text(f"  and {others} other op{'s' if others > 1 else ''}, which no form has; -v lists them")
    wrong = [(op, extent(entry), entry.why) for op, entries in target.wrong.items() for entry in entries]
    if wrong:
        yield from table("\nWrong there", ("op", "where", "why"), wrong, limit=None)
    if target.missing:
        lacking = ", ".join(f"{op} ({note})" if (note := target.notes.get(op)) else op for op in sorted(target.missing))
        yield Text(f"\nLacks: {lacking}")
    title = "\nActivations (one node, x of shape [1, 3, 4, 4], --allow-inexact)"
    yield from table(title, ("activation", "there", "form", "why"), map(_decided_row, decisions), limit=None)


def _writing(target: Target) -> Iterator[str]:
    """Yield what is particular about how forms are written for a target."""
    if target.opset is not None:
        yield f"reads models of opset {target.opset}"
    shapes = {"full": "constants have the shape of x", "scalar": "constants have rank 0"}
    if target.constants.shape in shapes:
        yield shapes[target.constants.shape]
    if not target.constants.shared:
        yield "a constant is read once"
    if target.constants.nodes:
        yield "constants are Constant nodes"
    if target.value_info:
        yield "new values are declared with their shapes"
    if target.quantised:
        yield "every value has to be quantised"


def _op_rows(target: Target) -> Iterator[tuple[str, ...]]:
    for op, rules in sorted((target.ops or {}).items()):
        for rule in rules:
            versions = ", ".join(map(str, sorted(rule.versions or ())))
            opset = str(rule.opset or "") or (f"version {versions}" if versions else "")
            yield op, opset, ", ".join(sorted(rule.dtypes or ())), restriction(rule)


_OF_FORMS = frozenset(PRIMITIVES) | {"Constant", "Identity", "CastLike"}


def _short_rows(target: Target) -> Iterator[tuple[str, ...]]:
    for op, rules in sorted((target.ops or {}).items()):
        if op in _OF_FORMS:
            opsets = [str(rule.opset) for rule in rules if rule.opset]
            versions = sorted({version for rule in rules for version in rule.versions or ()})
            opsets += [f"version {', '.join(map(str, versions))}"] if versions else []
            dtypes = sorted({dtype for rule in rules for dtype in rule.dtypes or ()})
            yield op, "; ".join(dict.fromkeys(opsets)), ", ".join(dtypes), "; ".join(_restrictions(rules))


def _restrictions(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield what restricts an op, each time with the dtypes that it is about where it is not about all."""
    dtypes: dict[str, set[str]] = {}
    for rule in rules:
        dtypes.setdefault(restriction(rule), set()).update(rule.dtypes or ())
    for text, about in dtypes.items():
        if text:
            yield f"{', '.join(sorted(about))}: {text}" if len(dtypes) > 1 and about else text


def restriction(rule: Rule) -> str:
    """Return under which conditions an op runs, beside its opset and dtypes."""
    shapes = [f"{name} as {' or '.join(layouts)}" for name, layouts in rule.shapes.items()]
    parts = [
        f"{rule.rank} dimensions" if rule.rank else "",
        f"{rule.axes} dimensions that are not 1" if rule.axes else "",
        "operands of one shape" if rule.same_shape else "",
        str(rule.when or ""),
        f"constant {', '.join(rule.constant)}" if rule.constant else "",
        _constants(rule.may_be_constant),
        f"at most {rule.computed} computed operand" if rule.computed is not None else "",
        *shapes,
        f"{', '.join(rule.stated)} written out" if rule.stated else "",
        "inside a pattern" if rule.pattern_only else "",
        rule.indirect,
        rule.doubt,
        rule.note,
    ]
    return "; ".join(filter(None, parts))


def _constants(names: tuple[str, ...] | None) -> str:
    if names is None:
        return ""
    return f"no constant but {', '.join(names)}" if names else "no constant operand"


def extent(wrong: Wrong) -> str:
    """Return where an op is wrong."""
    unstated = f"{', '.join(wrong.unless_stated)} not written out" if wrong.unless_stated else ""
    return "; ".join(filter(None, (unstated, str(wrong.when or ""), str(wrong.inputs or "")))) or "always"


def _decided_row(decision: Decision) -> tuple[str, ...]:
    return (spelled(decision.site.activation), *_standing(decision))


def _standing(decision: Decision) -> tuple[str, str, str]:
    after = decision.after
    form = "" if after is None else "op, written anew" if after.form == "op" else after.form
    why = decision.reason if after is None else "; ".join(filter(None, (decision.why, after.warning)))
    return WORDS[decision.status], form or ("none" if decision.left else ""), why


def standing(found: Inspection, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield for each activation of a model whether a target runs it, and in which form it would."""
    counts = Counter(WORDS[decision.status] for decision in found.decisions)
    summary = ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "no activations"
    yield Text(f"{len(found.decisions)} activations for {found.target}: {summary}", style="bold")
    columns = ("activation", "as", "there", "form", "why")
    rows = [((d.site.scope.path, d.site.node, d.site.output), _row(d)) for d in found.decisions]
    if verbose:
        yield from table("", ("node", *columns), ((node_of(*place), *row) for place, row in rows), limit=None)
    else:
        groups = Counter(row for _, row in rows)
        yield from table("", ("sites", *columns), ((str(count), *row) for row, count in groups.items()), limit=None)
    yield from (Text(f"  {remark}") for remark in found.remarks)
    yield from skipped(found.skipped, verbose=verbose, title="Not counted")


def _row(decision: Decision) -> tuple[str, ...]:
    return (spelled(decision.site.activation), decision.site.form, *_standing(decision))


def describe(target: Target) -> dict[str, Any]:
    """Return a target as plain data."""
    return {
        "title": target.title,
        "version": target.version,
        "source": target.source,
        "commit": target.commit or None,
        "date": target.date,
        "ran": target.ran,
        "remarks": list(target.remarks),
        "ops": None if target.ops is None else {op: list(map(_described, rules)) for op, rules in target.ops.items()},
        "missing": None if target.missing is None else sorted(target.missing),
        "notes": dict(target.notes),
        "wrong": {op: [{"where": extent(w), "why": w.why} for w in entries] for op, entries in target.wrong.items()},
        "patterns": {name: list(forms) for name, forms in target.patterns.items()},
        "constants": {
            "shape": target.constants.shape,
            "shared": target.constants.shared,
            "nodes": target.constants.nodes,
        },
        "value_info": target.value_info,
        "quantised": target.quantised,
    }


def _described(rule: Rule) -> dict[str, Any]:
    facts = {
        "opset": str(rule.opset) if rule.opset else None,
        "versions": sorted(rule.versions) if rule.versions else None,
        "dtypes": sorted(rule.dtypes) if rule.dtypes is not None else None,
        "only": restriction(rule) or None,
    }
    return {key: value for key, value in facts.items() if value is not None}
