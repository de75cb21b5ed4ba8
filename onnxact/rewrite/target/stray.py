"""Native ops that are no sites -> sites all the same, for a target to judge their nodes as they stand.

Celu(x, alpha = -2), for which no form holds   ->   a site of celu, and "the form holds only when alpha > 0"
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import cache
from typing import NamedTuple

from onnxact.model.edit import Skip
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.find import Pattern, patterns, site_of
from onnxact.rewrite.match import matches
from onnxact.rewrite.site import Kind, Site


class Stray(NamedTuple):
    """A node whose op is an activation, and why nothing can be written in its place."""

    site: Site
    reason: str

    @property
    def skip(self) -> Skip:
        """What `find` says of it."""
        reason = f"looks like {self.site.activation} (op), but {self.reason}"
        return Skip(self.site.scope.path, self.site.node, reason)


def strays(view: View, covered: Container[tuple[str, int]]) -> Iterator[Stray]:
    """Yield every node with the op of an activation that is not covered: (scope path, node index)."""
    known = _native_ops()
    for scope in view.scopes:
        if scope.frozen or known.keys().isdisjoint(scope.op_types):
            continue
        for index, op in enumerate(scope.op_types):
            if op in known and (scope.path, index) not in covered and ("", op, "") not in view.functions:
                yield _stray(scope, index, known[op])


@cache
def _native_ops() -> dict[str, Pattern]:
    """Op -> the pattern that is any node of it, or most of them."""
    return {pattern.root: pattern for pattern in patterns() if pattern.name == "op"}


def _stray(scope: Scope, index: int, pattern: Pattern) -> Stray:
    outputs = scope.nodes[index].output
    kind = Kind(scope, pattern.activation.name, "op", {}, scope.dtype(outputs[0]) if outputs else None)
    return Stray(Site(kind, index), _why_no_site(scope, index, pattern))


def _why_no_site(scope: Scope, index: int, pattern: Pattern) -> str:
    refused = (site_of(scope, pattern, index, match, {})[1] for match in matches(scope, pattern.form.expr, index))
    return next((refusal.reason for refusal in refused if refusal.reason), "its operands are not those of the op")
