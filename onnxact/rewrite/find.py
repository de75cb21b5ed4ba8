"""View -> every site in it: native ops and recognised trees, larger ones first.

A form is looked for only where its ops occur at all, and only at nodes with its outermost op. A node belongs to one
site: `x * Sigmoid(x)` is one swish, not a sigmoid with a product behind it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, TypeGuard

from onnx import AttributeProto

from onnxact.activation.catalog import ACTIVATIONS, REWRITES, Activation, Form
from onnxact.activation.expr import Call, Literal, Parameter, ops, parameters, size
from onnxact.activation.forms import alternatives
from onnxact.model.edit import Skip
from onnxact.model.schema import attributes
from onnxact.model.scope import OUTSIDE, Scope
from onnxact.model.types import Shape
from onnxact.model.view import View
from onnxact.rewrite.match import Match, could_be, factors_of, matches
from onnxact.rewrite.select import Selection
from onnxact.rewrite.site import Bound, Dynamic, Kind, Site, Tensor
from onnxact.rewrite.solve import solve


class Found(NamedTuple):
    """The sites of a model in the order of their nodes, and what almost was one.

    `refused`: (scope path, node index) -> why a tree to which the node belongs cannot be replaced.
    """

    sites: list[Site]
    skips: list[Skip]
    refused: dict[tuple[str, int], str]

    def like(self, activations: Iterable[str], selection: Selection) -> list[Skip]:
        """Return the skips, among the nodes selected, of what almost was one of these activations."""
        beginnings = tuple(f"looks like {name} (" for name in activations)
        skips = [skip for skip in self.skips if skip.reason.startswith(beginnings)]
        return [skip for skip in skips if selection.reaches(skip.node, skip.scope)]


class Refusal(NamedTuple):
    """Why a match is no site; empty where that is not worth telling. `complete`: it is the activation all the same."""

    reason: str = ""
    complete: bool = False


class Pattern(NamedTuple):
    """One form, or one with its outermost op computed another way, as something to look for."""

    activation: Activation
    name: str
    form: Form
    root: str
    size: int

    @property
    def is_plain_op(self) -> bool:
        """Whether every node of this op is meant, whatever its operands are."""
        expr = self.form.expr
        return self.name == "op" and isinstance(expr, Call) and not any(isinstance(a, Literal) for a in expr.args)


@cache
def patterns() -> tuple[Pattern, ...]:
    """Return every pattern, the largest first; of equal ones those without parameters, then ops, then the least free.

    Clip(x, 0) is a relu before it is a clip, LeakyRelu(x, alpha) a leaky_relu before it is a prelu.
    """
    found = []
    products: set[object] = set()
    for activation in ACTIVATIONS.values():
        for name, form in activation.forms.items():
            if (form.error and _stands_for_another(activation, form)) or factors_of(form.expr) in products:
                continue
            products.add(factors_of(form.expr))
            for expr in _spellings(form.expr):
                shape = Form(expr, when=form.when, exact=form.exact)
                found.append(Pattern(activation, name, shape, expr.op, size(expr)))
    return tuple(sorted(found, key=lambda p: (-p.size, bool(parameters(p.form.expr)), p.name != "op", _freedom(p))))


def _stands_for_another(activation: Activation, form: Form) -> bool:
    """Tell whether a form that comes near its activation is another activation's own: gelu's tanh form is gelu_tanh."""
    others = (row for row in ACTIVATIONS.values() if row.name != activation.name)
    return any(other.expr == form.expr for row in others for other in row.forms.values())


def _spellings(expr: Call | object) -> Iterator[Call]:
    if not isinstance(expr, Call):
        return
    yield expr
    if expr.op in REWRITES:
        yield from (option.expr for option in alternatives(expr) if isinstance(option.expr, Call))


def _freedom(pattern: Pattern) -> tuple[int, bool]:
    expr = pattern.form.expr
    args = expr.args if isinstance(expr, Call) else ()
    return sum(isinstance(arg, Parameter) for arg in args), not any(isinstance(arg, Literal) for arg in args)


def find(
    view: View,
    given: Mapping[str, Bound] | None = None,
    *,
    trees: bool = True,
    known: Container[tuple[str, int]] = frozenset(),
) -> Found:
    """Return the sites of every scope that may be edited; `given` parameters settle what constants leave open.

    Without `trees`, every native op is a site of its own, also inside a larger tree. `known`: nodes, by scope path and
    index, at which no site is looked for.
    """
    found = Found([], [], {})
    for scope in view.scopes:
        sites, skips, refused = _in_scope(scope, given or {}, trees, known)
        found.refused.update(refused)
        if scope.frozen:
            skips = [_frozen(site) for site in sites]
            sites = []
        found.sites.extend(sites)
        found.skips.extend(skips)
    return found


def _frozen(site: Site) -> Skip:
    reason = f"looks like {site.activation} ({site.form}), but {site.scope.frozen}"
    return Skip(site.scope.path, site.node, reason)


def _in_scope(
    scope: Scope, given: Mapping[str, Bound], look_for_trees: bool, known: Container[tuple[str, int]]
) -> Found:
    by_root = _relevant(frozenset(scope.op_types), look_for_trees)
    kinds: dict[Any, Kind] = {}
    trees: list[Site] = []
    single: list[Site] = []
    skips: dict[int, list[Skip]] = {}
    refused: dict[int, str] = {}
    nodes, elem_type, only_type = scope.nodes, scope.types.elem_type, scope.types.only_type
    has_attributes = {op: bool(attributes(op, scope.opset)) for op in by_root}
    for index in [index for index, op in enumerate(scope.op_types) if op in by_root]:
        op, node, key = scope.op_types[index], nodes[index], None
        if not (outputs := node.output) or (scope.path, index) in known:
            continue
        candidates = by_root[op]
        if candidates[0].size == 1 and len(node.input) == 1:
            stated = _serialized(node.attribute) if has_attributes[op] else b""
            key = (op, node.domain, only_type or elem_type(outputs[0]), stated)
            if (kind := kinds.get(key)) is not None:
                single.append(Site(kind, index))
                continue
        if candidates[0].size > 1:
            made_by = scope.made_by(index)
            candidates = tuple(p for p in candidates if could_be(p.form.expr, made_by))
        site, passed_over = _first_site(scope, candidates, index, given, refused)
        if passed_over:
            skips[index] = passed_over
        if site is None:
            continue
        if key:
            site = site._replace(kind=replace(site.kind, unary=True))
            kinds[key] = site.kind
        (trees if site.inner else single).append(site)
    sites = _disjoint(trees, single)
    reasons = {(scope.path, index): why for index, why in refused.items()}
    return Found(sites, _outside(sites, skips), reasons)


def _outside(sites: Sequence[Site], skips: Mapping[int, Sequence[Skip]]) -> list[Skip]:
    """Return the skips of nodes that are no parts of a site: a part of one is accounted for."""
    inner = {index for site in sites for index in site.inner} if skips else ()
    return [skip for index, found in skips.items() if index not in inner for skip in found]


def _serialized(stated: Sequence[AttributeProto]) -> bytes:
    """Return attributes as bytes: beside op and type, what nodes with x as their only input differ in."""
    if len(stated) == 1:
        return stated[0].SerializeToString()
    return b"".join([attribute.SerializeToString() for attribute in stated])


@cache
def _relevant(present: frozenset[str], trees: bool) -> Mapping[str, tuple[Pattern, ...]]:
    """Return outermost op -> the patterns that can occur among these ops."""
    by_root: dict[str, tuple[Pattern, ...]] = {}
    for pattern in patterns():
        if (trees or pattern.name == "op") and all(_occurs(op, present) for op in ops(pattern.form.expr)):
            by_root[pattern.root] = (*by_root.get(pattern.root, ()), pattern)
    return {root: found for root, found in by_root.items() if root in present}


@cache
def _occurs(op: str, present: frozenset[str], closed: frozenset[str] = frozenset()) -> bool:
    if op in present:
        return True
    if op in closed:
        return False
    return any(all(_occurs(o, present, closed | {op}) for o in needed) for needed in _alternative_ops(op))


@cache
def _alternative_ops(op: str) -> tuple[frozenset[str], ...]:
    rows = [ops(expr) for expr in REWRITES.get(op, {}).values()]
    for activation in ACTIVATIONS.values():
        if activation.native is not None and activation.native.op == op:
            rows += [ops(form.expr) for name, form in activation.forms.items() if name != "op"]
    return tuple(rows)


def _first_site(
    scope: Scope, candidates: Iterable[Pattern], index: int, given: Mapping[str, Bound], refused: dict[int, str]
) -> tuple[Site | None, list[Skip]]:
    """Return the largest site at a node, and why larger ones were passed over."""
    reasons: dict[str, tuple[int, str]] = {}
    for pattern in candidates:
        for match in matches(scope, pattern.form.expr, index):
            left_open = _open(pattern, match, given)
            site, refusal = site_of(scope, pattern, index, match, left_open)
            if site is None and left_open:
                site, refusal = site_of(scope, pattern, index, match, {})
            what = f"{pattern.activation.name} ({pattern.name})"
            if site is not None:
                larger = [(what, why) for what, (nodes, why) in reasons.items() if nodes > pattern.size]
                return site, [Skip(scope.path, site.node, f"looks like {what}: {why}") for what, why in larger]
            if refusal.reason:
                reasons.setdefault(what, (pattern.size, refusal.reason))
            if refusal.complete:
                why = f"is part of a {what} that cannot be replaced: {refusal.reason}"
                refused.update(dict.fromkeys(match.nodes, why))
    node = scope.nodes[index].name
    first = list(reasons.items())[:1]
    return None, [Skip(scope.path, node, f"looks like {what}, but {why}") for what, (_, why) in first]


def _open(pattern: Pattern, match: Match, given: Mapping[str, Bound]) -> dict[str, Bound]:
    """Return the given parameters that the activation has and that no constant states by itself."""
    stated = {expr.name for expr, _ in match.equations if isinstance(expr, Parameter)}
    return {p.name: given[p.name] for p in pattern.activation.params if p.name in given and p.name not in stated}


def site_of(
    scope: Scope, pattern: Pattern, index: int, match: Match, given: Mapping[str, Bound], *, recorded: bool = False
) -> tuple[Site | None, Refusal]:
    """Return the site of a match, or None and the reason where that is worth telling.

    recorded: that it is a site is on record, and the constants' shapes need not be proven harmless.
    """
    if match.x is None:
        return None, Refusal()
    solved = solve(pattern.activation, pattern.form, match.equations, given)
    if solved.reason:
        worth_telling = pattern.is_plain_op or (solved.near and _is_near(scope, match, pattern, index))
        return None, Refusal(solved.reason if worth_telling else "")
    reader = read_elsewhere(scope, index, match.nodes)
    if reader:
        return None, Refusal(reader, complete=True)
    misfit = "" if recorded else _misfit(scope, match, pattern)
    if misfit:
        return None, Refusal(misfit)
    dtype = scope.dtype(scope.nodes[index].output[0])
    kind = Kind(scope, pattern.activation.name, pattern.name, solved.parameters, dtype)
    return Site(kind, index, tuple(sorted(match.nodes - {index})), match.x), Refusal()


def _is_near(scope: Scope, match: Match, pattern: Pattern, index: int) -> bool:
    """Tell whether a tree that is almost an activation is one of floating-point numbers, and elementwise."""
    value = scope.nodes[index].output[0]
    return (scope.dtype(value) is not None or not scope.types.elem_type(value)) and not _misfit(scope, match, pattern)


def read_elsewhere(scope: Scope, root: int, nodes: frozenset[int]) -> str:
    """Return why the inner values of a tree cannot go away: something outside the tree reads one."""
    for index in sorted(nodes - {root}):
        for name in scope.nodes[index].output:
            others = [reader for reader in scope.readers.get(name, ()) if reader not in nodes]
            if OUTSIDE in others:
                return f"its inner value {name!r} is an output, or read from outside the graph"
            if others:
                reader = scope.nodes[others[0]]
                return f"its inner value {name!r} is also read by {reader.name or reader.op_type}"
    return ""


def _misfit(scope: Scope, match: Match, pattern: Pattern) -> str:
    """Return why an operand's shape changes the result's shape, so that the tree is not elementwise in x."""
    for node in (scope.nodes[index] for index in match.nodes):
        noise = next((tuple(a.ints) for a in node.attribute if a.name == "shape"), None)
        shape = scope.shape(match.x or "", infer=True) if node.op_type == "RandomNormal" else ()
        if noise is not None and (shape is None or (shape != () and not fits(noise, shape))):
            return f"its noise of shape {list(noise)} may change the shape of {match.x!r}"
    operands = [bound for _, bound in match.equations if isinstance(bound, Dynamic) or _has_dimensions(bound)]
    if not operands or pattern.name == "op":
        return ""
    shape = scope.shape(match.x or "", infer=True)
    takes_tensor = any(param.tensor for param in pattern.activation.params)
    for bound in operands:
        own = bound.value.shape if isinstance(bound, Tensor) else scope.shape(bound.name, infer=True)
        if shape is None or own is None:
            unknown = match.x if shape is None else bound.name
            return f"the rank of {unknown!r} is not known, so that {bound.name!r} may change the shape"
        if not fits(own, shape):
            return f"{bound.name!r} of shape {list(own)} changes the shape {list(shape)}"
        if isinstance(bound, Dynamic) and not takes_tensor and any(size != 1 for size in own):
            return f"{bound.name!r} of shape {list(own)} is not one number"
    return ""


def _has_dimensions(bound: Bound) -> TypeGuard[Tensor]:
    return isinstance(bound, Tensor) and bound.value.ndim > 0


def fits(constant: Shape, shape: Shape) -> bool:
    """Tell whether `constant` broadcasts to `shape` without changing it (ONNX's unidirectional broadcasting)."""
    tail = shape[len(shape) - len(constant) :] if constant else ()
    return len(constant) <= len(shape) and all(
        mine is not None and mine in (1, theirs) for mine, theirs in zip(constant, tail, strict=True)
    )


def _disjoint(trees: list[Site], single: list[Site]) -> list[Site]:
    """Return the sites such that each node belongs to one: larger before smaller, later before earlier."""
    if not trees:
        return single
    taken: set[int] = set()
    kept: list[Site] = []
    for site in sorted(trees, key=lambda site: (-len(site.nodes), -site.root)):
        if taken.isdisjoint(site.nodes):
            taken.update(site.nodes)
            kept.append(site)
    kept += [site for site in single if site.root not in taken]
    return sorted(kept, key=lambda site: site.root)
