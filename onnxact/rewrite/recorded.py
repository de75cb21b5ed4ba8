"""Provenance -> the sites that decompose wrote, as far as they still are what it says.

Max(x, 0.2 x), recorded as LeakyRelu(alpha = 0.2) in the form mul-max   ->   a site of leaky_relu
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from onnxact.activation.catalog import ACTIVATIONS, REWRITES, Form
from onnxact.activation.expr import Call
from onnxact.activation.forms import find_activation, find_form
from onnxact.errors import UsageError
from onnxact.model import provenance
from onnxact.model.provenance import Provenance
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.find import Pattern, site_of
from onnxact.rewrite.match import matches, op_parameters
from onnxact.rewrite.site import Site


class Record(NamedTuple):
    """A node with provenance: the site that it stands for, or why it is that site no more."""

    root: int
    before: Provenance
    site: Site | None
    reason: str


def records(scope: Scope) -> Iterator[Record]:
    """Yield every node of a scope that says what it was."""
    for index, op in enumerate(scope.op_types):
        if op not in _roots():
            continue
        node = scope.nodes[index]
        before = provenance.read(node) if node.metadata_props else None
        if before is not None:
            yield Record(index, before, *_as_recorded(scope, index, before))


def recorded_sites(view: View) -> dict[tuple[str, int], Site]:
    """Return (scope path, node index) -> the decomposed site that the node belongs to."""
    return {
        (scope.path, index): record.site
        for scope in view.scopes
        for record in records(scope)
        if record.site is not None
        for index in record.site.nodes
    }


def part_of(site: Site) -> str:
    """Return the reason to leave a node of a decomposed site alone."""
    return f"is part of a {site.activation} that was decomposed before; fuse it first"


@cache
def _roots() -> frozenset[str]:
    """Return the ops that the last node of a form of several nodes can be; Relu alone never ends one."""
    written = [form.expr for row in ACTIVATIONS.values() for form in row.forms.values()]
    written += [expr for rows in REWRITES.values() for expr in rows.values()]
    return frozenset(expr.op for expr in written if isinstance(expr, Call)) - {"Relu"}


def form_of(before: Provenance) -> Form:
    """Return the form that a site was decomposed into; UsageError where there is no such form (any more)."""
    return find_form(find_activation(before.activation), before.form)


def _as_recorded(scope: Scope, index: int, before: Provenance) -> tuple[Site | None, str]:
    try:
        activation = find_activation(before.activation)
        form = form_of(before)
    except UsageError as error:
        return None, str(error)
    native = activation.native
    op = type(before.op)()
    op.CopyFrom(before.op)
    op.input.insert(0, "x")
    bound = op_parameters(scope, native, op) if native is not None else None
    if bound is None:
        return None, "its record is damaged, or a constant of the op is another one"
    missing = [name for name in before.op.input if name and scope.owner(name) is None]
    if missing:
        return None, f"{missing[0]!r}, an input of the op, is gone"
    pattern = Pattern(activation, before.form, form, scope.nodes[index].op_type, 2)
    reason = "its nodes do not compute that form any more"
    for match in matches(scope, form.expr, index):
        site, why = site_of(scope, pattern, index, match, bound, recorded=True)
        if site is not None:
            return site, ""
        reason = why.reason or reason
    return None, reason
