"""Provenance -> the sites that decompose wrote, as far as they still are what it says.

Max(x, 0.2 x), recorded as LeakyRelu(alpha = 0.2) in the form mul-max   ->   a site of leaky_relu
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from onnx import NodeProto

from onnxact.activation.catalog import ACTIVATIONS, REWRITES, Activation, Form
from onnxact.activation.expr import Call
from onnxact.activation.forms import find_activation, find_form
from onnxact.errors import UsageError
from onnxact.model import provenance
from onnxact.model.provenance import Provenance
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.compile import Step
from onnxact.rewrite.contrib import STANDARD, expansion
from onnxact.rewrite.expansion import RESULT, Expansion, full_name
from onnxact.rewrite.find import Pattern, read_elsewhere, site_of
from onnxact.rewrite.match import matches, op_parameters
from onnxact.rewrite.site import Bound, Kind, Site, stored


class Record(NamedTuple):
    """A node with provenance: the site that it stands for, or why it is that site no more."""

    root: int
    before: Provenance
    site: Site | None
    reason: str


def records(scope: Scope) -> Iterator[Record]:
    """Yield every node of a scope that says what it was."""
    roots = _roots() if all(domain in STANDARD for domain in scope.opsets) else _roots() | _ROOTS_OF_FUSED
    for index, op in enumerate(scope.op_types):
        if op not in roots:
            continue
        node = scope.nodes[index]
        before = provenance.read(node) if node.metadata_props else None
        if before is not None:
            yield Record(index, before, *_as_recorded(scope, index, before))


def recorded_sites(view: View) -> dict[tuple[str, int], Site]:
    """Return (scope path, node index) -> the decomposed activation that the node belongs to."""
    if not view.recorded:
        return {}
    return {
        (scope.path, index): record.site
        for scope in view.scopes
        for record in records(scope)
        if record.site is not None and record.site.activation
        for index in record.site.nodes
    }


def part_of(site: Site) -> str:
    """Return the reason to leave a node of a decomposed site alone."""
    return f"is part of a {site.activation} that was decomposed before; fuse it first"


@cache
def _roots() -> frozenset[str]:
    """Return the ops that the last node of a form can be."""
    written = [form.expr for row in ACTIVATIONS.values() for form in row.forms.values()]
    written += [expr for rows in REWRITES.values() for expr in rows.values()]
    return frozenset(expr.op for expr in written if isinstance(expr, Call)) | {"QuantizeLinear"}


_ROOTS_OF_FUSED = frozenset({"Conv", "Gemm", "MatMul"})
"""The ops that beside those can be last where a node of ONNX Runtime's domain was taken apart."""


def form_of(before: Provenance) -> Form:
    """Return the form that a site was decomposed into; UsageError where there is no such form (any more)."""
    return find_form(find_activation(before.activation), before.form)


def _as_recorded(scope: Scope, index: int, before: Provenance) -> tuple[Site | None, str]:
    missing = [name for name in before.op.input if name and scope.owner(name) is None and not _is_inner(name, before)]
    if missing:
        return None, f"{missing[0]!r}, an input of the op, is gone"
    if before.tree is not None and full_name(before.op) == before.tree.form:
        return _taken_apart(scope, index, before)
    try:
        activation = find_activation(before.activation)
        form = form_of(before)
        bound = _parameters(scope, activation, before)
    except (UsageError, ValueError, KeyError, TypeError) as error:
        return None, str(error)
    if bound is None:
        return None, "its record is damaged, or a constant of the op is another one"
    pattern = Pattern(activation, before.form, form, scope.nodes[index].op_type, 2)
    reason = "its nodes do not compute that form any more"
    for match in matches(scope, form.expr, index):
        site, why = site_of(scope, pattern, index, match, bound, recorded=True)
        if site is not None:
            clash = _clash(scope, site, before)
            return (None, clash) if clash else (site, "")
        reason = why.reason or reason
    return None, reason


def _is_inner(name: str, before: Provenance) -> bool:
    return before.tree is not None and any(name in node.output for node in before.tree.nodes)


def _parameters(scope: Scope, activation: Activation, before: Provenance) -> dict[str, Bound] | None:
    """Return the parameters that the site had, None where the op is not the activation's any more."""
    if before.tree is not None:
        return {name: stored(data, scope) for name, data in before.tree.parameters.items()}
    op = type(before.op)()
    op.CopyFrom(before.op)
    op.input.insert(0, "x")
    return op_parameters(scope, activation.native, op) if activation.native is not None else None


def _clash(scope: Scope, site: Site, before: Provenance) -> str:
    """Return which name of the nodes that stood there is taken by now; empty for none."""
    inner = [name for node in before.tree.nodes for name in node.output] if before.tree is not None else []
    for name in inner:
        if scope.owner(name) is not None and scope.producers.get(name, -1) not in site.nodes:
            return f"the name {name!r} is taken by now"
    return ""


def _taken_apart(scope: Scope, index: int, before: Provenance) -> tuple[Site | None, str]:
    """Return the site that a fused node became, with all nodes that it became."""
    found = expansion(scope, before.op)
    if isinstance(found, str):
        return None, found
    outer = _Made(frozenset(), index)
    if found.behind:
        last = _computing(scope, found.behind, len(found.behind) - 1, index)
        outer = last or _Made(frozenset(), -1)
    for inner in _activated(scope, found, before, outer.result):
        start = scope.producers.get(inner.input, -1)
        first = (
            _computing(scope, found.before, len(found.before) - 1, start) if found.before else _Made(frozenset(), -1)
        )
        nodes = outer.nodes.union(inner.nodes, first.nodes if first else ())
        if first is not None and not read_elsewhere(scope, index, nodes | {index}):
            return Site(inner.kind, index, tuple(sorted(nodes - {index})), inner.input), ""
    return None, "its nodes do not compute what the fused node did any more"


def _activated(scope: Scope, found: Expansion, before: Provenance, index: int) -> Iterator[Site]:
    """Yield every way in which the node at `index` computes the activation; where there is none, its output as x."""
    if index < 0:
        return
    node = scope.nodes[index]
    if not found.activation:
        kind = Kind(scope, "", before.form, {}, scope.dtype(node.output[0]))
        yield Site(kind, index, x=node.output[0])
        return
    activation, form = find_activation(found.activation), form_of(before)
    pattern = Pattern(activation, before.form, form, node.op_type, 2)
    for match in matches(scope, form.expr, index):
        site, _ = site_of(scope, pattern, index, match, found.parameters, recorded=True)
        if site is not None:
            yield site


class _Made(NamedTuple):
    """The nodes that compute some steps, and the node that makes the activation's result for them (-1: none)."""

    nodes: frozenset[int]
    result: int


def _computing(scope: Scope, steps: Sequence[Step], number: int, index: int) -> _Made | None:
    """Return the nodes that compute the step of this number, the last of them at `index`; None where they do not."""
    step = steps[number]
    node = scope.nodes[index] if index >= 0 else NodeProto()
    if node.op_type != step.op or node.domain or len(node.input) != len(step.operands):
        return None
    if [a.SerializeToString() for a in node.attribute] != [a.SerializeToString() for a in step.attributes]:
        return None
    found = _Made(frozenset({index}), -1)
    for name, operand in zip(node.input, step.operands, strict=True):
        maker = scope.producers.get(name, -1)
        if operand is RESULT:
            found = found._replace(result=maker)
        elif isinstance(operand, int):
            inner = _computing(scope, steps, operand, maker)
            if inner is None:
                return None
            found = _Made(found.nodes | inner.nodes, max(found.result, inner.result))
        elif isinstance(operand, str) and operand != name:
            return None
    return found
