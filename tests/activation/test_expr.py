"""The term language: what varies, what it costs, replacing, and that a formula reads back as the term it was."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from onnxact.activation.catalog import ACTIVATIONS, REWRITES
from onnxact.activation.expr import (
    Call,
    Expr,
    Literal,
    Parameter,
    Variable,
    equals,
    ops,
    parameters,
    size,
    substitute,
    term,
    text,
    varies,
    walk,
    x,
    y,
)
from onnxact.activation.primitives import PRIMITIVES, Abs, Exp, Gelu, Max, Neg, RandomNormal, Relu

alpha = Parameter("alpha")


def test_operators_build_calls() -> None:
    assert (1 + alpha) / 2 * x == Call("Mul", (Call("Div", (Call("Add", (Literal(1.0), alpha)), Literal(2.0))), x))
    assert 1 - x == Call("Sub", (Literal(1.0), x))
    assert 2 / x == Call("Div", (Literal(2.0), x))
    assert -x == Call("Neg", (x,))
    assert [(c.op) for c in (x < 0, x > 0, x <= 0, x >= 0)] == ["Less", "Greater", "LessOrEqual", "GreaterOrEqual"]
    assert (alpha > 0) & (alpha < 1) == Call("And", (alpha > 0, alpha < 1))
    assert equals(alpha, 1) == Call("Equal", (alpha, Literal(1.0)))
    assert term("tanh") == Literal("tanh")


def test_only_variables_and_noise_vary() -> None:
    assert varies(x)
    assert varies(alpha * x)
    assert varies(RandomNormal(0, 1))
    assert not varies((1 + alpha) / 2)
    assert not varies(Exp(alpha))


def test_ops_and_size_count_what_runs() -> None:
    expr = (1 + alpha) / 2 * x + (1 - alpha) / 2 * Abs(x)
    assert ops(expr) == {"Mul", "Abs", "Add"}
    assert size(expr) == 4
    assert size(Relu(x) * Relu(x)) == 2
    assert (ops(x), size(x)) == (frozenset(), 0)
    assert parameters(alpha * x + Parameter("beta") + alpha) == ("alpha", "beta")


def test_walk_yields_operands_first() -> None:
    inner = alpha * x
    assert list(walk(Max(x, inner))) == [x, alpha, x, inner, Max(x, inner)]


def test_substitute_replaces_whole_subterms_at_once() -> None:
    assert substitute(x + y, {x: y, y: x}) == y + x
    assert substitute(Relu(-x) * -x, {-x: x}) == Relu(x) * x
    assert substitute(alpha * x, {Variable("z"): x}) == alpha * x


def terms() -> Iterator[Any]:
    for activation in ACTIVATIONS.values():
        for name, form in activation.forms.items():
            yield pytest.param(form.expr, id=f"{activation.name}-{name}")
    for op, row in REWRITES.items():
        for name, expr in row.items():
            yield pytest.param(expr, id=f"{op}-{name}")


@pytest.mark.parametrize("expr", [*terms(), x - (y - x), x - (y + x), x / (y / x), -(x + y) * x, Neg(-x), (x + y) * -y])
def test_a_formula_reads_back_as_the_same_term(expr: Expr) -> None:
    """`text` prints literals with ten digits, which is what is compared."""
    assert parsed(text(expr)) == short(expr)


def short(expr: Expr) -> Expr:
    """Return the term with its literals as `text` prints them."""
    if isinstance(expr, Literal) and not isinstance(expr.value, str):
        return Literal(float(f"{expr.value:.10g}"))
    return Call(expr.op, tuple(map(short, expr.args))) if isinstance(expr, Call) else expr


class _Literals(ast.NodeTransformer):
    """Wraps every number, with its sign, so that Python does not compute with it."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return self.visit_Constant(ast.Constant(-float(str(node.operand.value))))
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Call(ast.Name("term", ast.Load()), [node], [])


def parsed(formula: str) -> Expr:
    tree = ast.fix_missing_locations(_Literals().visit(ast.parse(formula, mode="eval")))
    names = {name: Parameter(name) for row in ACTIVATIONS.values() for name in row.defaults}
    scope = {**PRIMITIVES, **names, "x": x, "y": y, "inf": term(float("inf")), "term": term}
    found: Expr = eval(compile(tree, formula, "eval"), scope)
    return found


def test_conditions_read_like_mathematics() -> None:
    assert text((alpha > 0) & equals(alpha, 1)) == "alpha > 0 and alpha = 1"
    assert text(Gelu(x, "none")) == 'Gelu(x, "none")'
