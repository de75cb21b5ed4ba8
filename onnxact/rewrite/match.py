"""Nodes -> expression: find a form in a graph.

    Relu(x) - alpha * Relu(-x)   in   y = Sub(Relu(v), Mul(0.2, Relu(Neg(v))))   ->   x = v, alpha = 0.2

A pattern is the form's own tree. Operands of commutative ops match in either order; a product of three or more factors
matches however it is parenthesised; an op matches wherever one of its own forms stands (Abs(x) where Max(x, -x) does).
Constants are collected on the way and compared afterwards, by their bits in the tensor's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, NodeProto

from onnxact.activation.expr import Call, Expr, Literal, Parameter, Variable, varies
from onnxact.activation.forms import alternatives
from onnxact.activation.primitives import PRIMITIVES
from onnxact.model import schema
from onnxact.model.scope import Scope
from onnxact.rewrite.site import Bound, Dynamic, Reference, Tensor

_BROADCASTS_BY_ATTRIBUTE = 7
"""Below this opset binary ops broadcast by attribute, and trees of them are not looked at."""
_BINARY = {"Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Where"}
_PRODUCTS = frozenset({"Mul", "Div"})
_UNBOUNDED = float(np.finfo(np.float32).max)


class Match(NamedTuple):
    """What a pattern's parts stand for. `equations`: terms without x, each with what stands in its place."""

    x: str | None = None
    nodes: frozenset[int] = frozenset()
    equations: tuple[tuple[Expr, Bound], ...] = ()

    def stating(self, expr: Expr, bound: Bound) -> Match:
        """The same with one more equation."""
        return Match(self.x, self.nodes, (*self.equations, (expr, bound)))

    def with_nodes(self, nodes: frozenset[int]) -> Match:
        """The same with more nodes."""
        return Match(self.x, self.nodes | nodes, self.equations)


def matches(scope: Scope, pattern: Expr, root: int) -> Iterator[Match]:
    """Yield every way in which the node at `root` computes `pattern`."""
    if not isinstance(pattern, Call):
        return
    if scope.opset < _BROADCASTS_BY_ATTRIBUTE and pattern.op in _BINARY:
        return
    yield from _node(scope, pattern, root, Match(), frozenset())


@cache
def could_be(expr: Expr, made_by: tuple[str, ...]) -> bool:
    """Tell whether nodes of these ops, one for each input that a node makes, could make the operands of a term.

    Most nodes are told apart here, before any matching. A factor of a product may stand further up, behind others: then
    a Mul or Div makes an input, and may do so for several.
    """
    if not isinstance(expr, Call) or len(made_by) > len(expr.args):
        return False
    factors = [factor.term for factor in _factors(expr)]
    if len(factors) > 2:
        return all(not _PRODUCTS.union(makers).isdisjoint(made_by) for makers in _all_makers(factors))
    wanted = _all_makers(expr.args)
    return any(
        all(op in makers for op, makers in zip(chosen, wanted, strict=True))
        for chosen in permutations(made_by, len(wanted))
    )


def _all_makers(operands: Sequence[Expr]) -> list[frozenset[str]]:
    """Return, for each operand that takes a node, the ops that can be last in computing it."""
    return [_makers(arg) for arg in operands if isinstance(arg, Call) and varies(arg)]


@cache
def _makers(expr: Call) -> frozenset[str]:
    """Return the ops that can be last in computing a term."""
    others = frozenset(option.expr.op for option in alternatives(expr) if isinstance(option.expr, Call))
    return others | (_PRODUCTS if expr.op in _PRODUCTS else {expr.op})


def _value(scope: Scope, expr: Expr, name: str, found: Match, closed: frozenset[str]) -> Iterator[Match]:
    """Yield the ways in which the value `name` is `expr`, extending `found`."""
    if isinstance(expr, Variable):
        if found.x in (None, name):
            yield Match(name, found.nodes, found.equations)
        return
    if not varies(expr):
        yield from _constant(scope, expr, name, found)
        if not isinstance(expr, Call) or scope.constant(name) is not None:
            return
    index = scope.producers.get(name)
    if index is None or not isinstance(expr, Call):
        return
    yield from _node(scope, expr, index, found, closed)
    if expr.op in closed:
        return
    op = scope.op_types[index]
    for option in alternatives(expr):
        if isinstance(option.expr, Call) and option.expr.op == op:
            renamed = set(option.expr.args) == set(expr.args)
            yield from _node(scope, option.expr, index, found, closed if renamed else closed | {expr.op})


def _constant(scope: Scope, expr: Expr, name: str, found: Match) -> Iterator[Match]:
    value = scope.constant(name)
    if value is not None:
        yield found.stating(expr, Tensor(name, value))
    elif isinstance(expr, Parameter) and name:
        yield found.stating(expr, _computed(scope, name))


def _computed(scope: Scope, name: str) -> Dynamic | Reference:
    """Return a value that is no constant; a Constant node that takes a function's attribute is that attribute."""
    index = scope.producers.get(name)
    node = scope.nodes[index] if index is not None else NodeProto()
    references = [attribute.ref_attr_name for attribute in node.attribute if node.op_type == "Constant"]
    return _reference(scope, references[0]) if references and references[0] else Dynamic(name)


def _reference(scope: Scope, attribute: str) -> Reference:
    return Reference(attribute, scope.states_always(attribute))


def _node(scope: Scope, expr: Call, index: int, found: Match, closed: frozenset[str]) -> Iterator[Match]:
    """Yield the ways in which the node at `index` is `expr`."""
    if scope.opset < _BROADCASTS_BY_ATTRIBUTE and expr.op in _BINARY:
        return
    node = scope.nodes[index]
    op = scope.op_types[index]
    if expr.op in _PRODUCTS and op in _PRODUCTS:
        factors = _factors(expr)
        if len(factors) > 2:
            if not could_be(expr, scope.made_by(index)):
                return
            for graph_factors in _graph_factors(scope, index, len(factors)):
                grown = found.with_nodes(graph_factors.nodes)
                yield from _assign(scope, factors, graph_factors.factors, grown, closed)
            return
    if op != expr.op or len(node.output) != 1 or not could_be(expr, scope.made_by(index)):
        return
    operands = _operands(scope, expr, node)
    if operands is None:
        return
    grown = found.with_nodes(frozenset({index}))
    yield from _all(scope, list(zip(expr.args, operands, strict=True)), grown, closed)
    if PRIMITIVES[expr.op].commutative:
        yield from _all(scope, list(zip(expr.args, reversed(operands), strict=True)), grown, closed)


def _all(scope: Scope, pairs: list[tuple[Expr, str | Bound]], found: Match, closed: frozenset[str]) -> Iterator[Match]:
    if not pairs:
        yield found
        return
    (expr, operand), *rest = pairs
    for extended in _operand(scope, expr, operand, found, closed):
        yield from _all(scope, rest, extended, closed)


def _operand(scope: Scope, expr: Expr, operand: str | Bound, found: Match, closed: frozenset[str]) -> Iterator[Match]:
    if isinstance(operand, _Input):
        yield from _value(scope, expr, operand.name, found, closed)
    elif not varies(expr):
        yield found.stating(expr, operand)


class _Input(NamedTuple):
    name: str


def op_parameters(scope: Scope, native: Call, node: NodeProto) -> dict[str, Bound] | None:
    """Return what a native op's node binds its activation's parameters to, None for another op or other literals."""
    operands = _operands(scope, native, node) if node.op_type == native.op else None
    if operands is None:
        return None
    bound: dict[str, Bound] = {}
    for arg, operand in zip(native.args, operands, strict=True):
        stands = _bound(scope, operand) if isinstance(operand, _Input) else operand
        if isinstance(arg, Parameter) and isinstance(stands, str):
            return None
        if isinstance(arg, Parameter):
            bound[arg.name] = stands
        elif isinstance(arg, Literal) and not _equal(stands, arg.value):
            return None
    return bound


def _bound(scope: Scope, operand: _Input) -> Tensor | Dynamic:
    value = scope.constant(operand.name)
    return Dynamic(operand.name) if value is None else Tensor(operand.name, value)


def _equal(bound: Any, literal: float | str) -> bool:
    return bool(np.all(bound.value == literal)) if isinstance(bound, Tensor) else bool(bound == literal)


def _operands(scope: Scope, expr: Call, node: NodeProto) -> list[Any] | None:
    """Return what stands at each operand of the op: the name of an input, or the value of an attribute."""
    defaults = schema.attributes(expr.op, scope.opset)
    stated = {attribute.name: attribute for attribute in node.attribute} if defaults else {}
    inputs = iter(node.input)
    operands: list[Any] = []
    wide = expr.op == "Clip" and bool(node.output) and scope.dtype(node.output[0]) == "float64"
    for name in PRIMITIVES[expr.op].operands[: len(expr.args)]:
        if name in defaults or name in stated:
            operands.append(_attribute(scope, expr.op, name, stated.get(name), defaults.get(name), wide=wide))
        else:
            value = next(inputs, "")
            operands.append(_Input(value) if value else _omitted(expr.op, name))
    if next(inputs, None) is not None or None in operands:
        return None
    return operands


def _attribute(
    scope: Scope, op: str, name: str, stated: AttributeProto | None, default: Any, *, wide: bool
) -> Bound | None:
    if stated is not None and stated.ref_attr_name:
        return _reference(scope, stated.ref_attr_name)
    value = default if stated is None else _stated(stated)
    if isinstance(default, bytes) or isinstance(value, str):
        return value.decode() if isinstance(value, bytes) else value
    if op == "Clip" and (value is None or (abs(value) >= _UNBOUNDED and not wide)):
        return _omitted(op, name)
    if isinstance(value, bytes):
        return "string"
    return value if isinstance(value, float) else None


def _stated(attribute: AttributeProto) -> Any:
    """Return the number or the bytes that an attribute states; for one that can be neither, its type as a text."""
    kind = attribute.type
    if kind == AttributeProto.UNDEFINED:  # IR version 1 has no types of attributes
        kind = AttributeProto.FLOAT if attribute.HasField("f") else AttributeProto.STRING
    if kind == AttributeProto.STRING:
        return attribute.s
    return attribute.f if kind == AttributeProto.FLOAT else AttributeProto.AttributeType.Name(kind).lower()


def _omitted(op: str, name: str) -> float | None:
    return {("Clip", "min"): -np.inf, ("Clip", "max"): np.inf}.get((op, name))


# Products of three or more factors, however they are parenthesised


class _Factor(NamedTuple):
    term: Any
    divides: bool


class _Product(NamedTuple):
    factors: tuple[_Factor, ...]
    nodes: frozenset[int]


@cache
def _factors(expr: Expr) -> tuple[_Factor, ...]:
    """Return the factors of a product; division by a constant is a factor that divides."""
    if isinstance(expr, Call) and varies(expr):
        if expr.op == "Mul":
            return tuple(factor for arg in expr.args for factor in _factors(arg))
        if expr.op == "Div" and not varies(expr.args[1]):
            return (*_factors(expr.args[0]), _Factor(expr.args[1], True))
    return (_Factor(expr, False),)


def factors_of(expr: Expr) -> frozenset[_Factor]:
    """Return the factors of a product, which matches whatever their order is; a term that is none is its own."""
    return frozenset(_factors(expr))


def _graph_factors(scope: Scope, index: int, count: int) -> Iterator[_Product]:
    """Yield the ways to read the node at `index` as a product of exactly `count` values."""
    op, inputs = scope.op_types[index], scope.nodes[index].input
    if op not in _PRODUCTS or len(inputs) != 2 or count < 2:
        return
    left, right = inputs
    here = frozenset({index})
    divides = op == "Div"
    if divides and scope.constant(right) is None:
        return
    for first in range(1, count):
        for a in _split(scope, left, first):
            for b in (
                [_Product((_Factor(right, True),), frozenset())] if divides else _split(scope, right, count - first)
            ):
                if len(a.factors) + len(b.factors) == count:
                    yield _Product(a.factors + b.factors, a.nodes | b.nodes | here)


def _split(scope: Scope, name: str, count: int) -> Iterator[_Product]:
    if count == 1:
        yield _Product((_Factor(name, False),), frozenset())
    elif (index := scope.producers.get(name)) is not None:
        yield from _graph_factors(scope, index, count)


def _assign(
    scope: Scope, pattern: tuple[_Factor, ...], graph: tuple[_Factor, ...], found: Match, closed: frozenset[str]
) -> Iterator[Match]:
    if not pattern:
        yield found
        return
    # The most telling factor first: a term is bound sooner than a constant.
    first = max(range(len(pattern)), key=lambda i: isinstance(pattern[i].term, Call) and varies(pattern[i].term))
    rest = pattern[:first] + pattern[first + 1 :]
    for position, factor in enumerate(graph):
        if factor.divides != pattern[first].divides:
            continue
        others = graph[:position] + graph[position + 1 :]
        for extended in _value(scope, pattern[first].term, factor.term, found, closed):
            yield from _assign(scope, rest, others, extended, closed)
