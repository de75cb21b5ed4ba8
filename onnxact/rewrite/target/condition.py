"""A condition as a target file writes it, over the operands of an op.

    "min <= 0 and max > 0"        "approximate == 'tanh'"

Comparisons (==, !=, <, <=, >, >=, chained too), `and`, `or`, numbers, `inf`, texts in quotes, operands by the names
that ONNX gives them, and `Y % 1`: what is left of an operand divided by a number. Numbers are compared as float32,
which is what an attribute is. Texts are equal or not.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
INFINITY = "inf"


@dataclass(frozen=True)
class Condition:
    """A condition that was read; `text` is how it was written. Raises ValueError for what is none."""

    text: str

    def __post_init__(self) -> None:
        _check(self._tree)

    @cached_property
    def _tree(self) -> ast.expr:
        try:
            return ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{self.text!r} is no condition; write it like 'alpha == 1'") from error

    @cached_property
    def names(self) -> frozenset[str]:
        """The operands that it speaks of."""
        found = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}
        return frozenset(found - {INFINITY})

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Tell whether it holds for these operands: numbers, arrays (then for each element), texts."""
        return bool(np.all(_evaluate(self._tree, values)))

    def pinned(self, name: str) -> float | None:
        """Return the one number that it leaves an operand, None where it leaves more."""
        parts = self._tree.values if isinstance(self._tree, ast.BoolOp) else [self._tree]
        if isinstance(self._tree, ast.BoolOp) and isinstance(self._tree.op, ast.Or):
            return None
        return next((number for part in parts for number in _stated(part, name)), None)

    @cached_property
    def compared_with_texts(self) -> frozenset[str]:
        """The operands that it holds against a text."""
        found: set[str] = set()
        for node in ast.walk(self._tree):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if any(_is_text(side, ()) for side in sides):
                found.update(side.id for side in sides if isinstance(side, ast.Name))
        return frozenset(found)

    def misused(self, texts: Container[str]) -> str:
        """Return which comparison holds a text against a number; `texts`: the operands that are texts; "" for none."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Compare) and (reason := _mixed(node, texts)):
                return reason
        return ""

    def __str__(self) -> str:
        return re.sub(r"(\w+) % 1 == 0", r"\1 is a whole number", self.text).replace("==", "=")


def _mixed(node: ast.Compare, texts: Container[str]) -> str:
    operands = [node.left, *node.comparators]
    for left, right, comparison in zip(operands, operands[1:], node.ops, strict=False):
        one, other = _is_text(left, texts), _is_text(right, texts)
        written = ast.unparse(ast.Compare(left, [comparison], [right]))
        if one != other:
            return f"{written!r} compares a text with a number"
        if one and not isinstance(comparison, (ast.Eq, ast.NotEq)):
            return f"{written!r}: texts are equal or not, and in no order"
    return ""


def _is_text(node: ast.expr, texts: Container[str]) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return isinstance(node, ast.Name) and node.id in texts


def _stated(part: ast.expr, name: str) -> Iterator[float]:
    """Yield the number of a comparison `name == number`, or the other way round."""
    if not isinstance(part, ast.Compare) or len(part.ops) > 1 or not isinstance(part.ops[0], ast.Eq):
        return
    sides = (part.left, part.comparators[0])
    for one, other in (sides, sides[::-1]):
        if isinstance(one, ast.Name) and one.id == name and not any(isinstance(n, ast.Name) for n in ast.walk(other)):
            number = _evaluate(other, {})
            yield from [float(number)] if isinstance(number, np.floating) else []


def _check(node: ast.expr) -> None:
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check(part)
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        for part in (node.left, *node.comparators):
            _check_operand(part)
    else:
        raise ValueError(f"{ast.unparse(node)!r} is no comparison of operands and numbers")


def _check_operand(node: ast.expr) -> None:
    if isinstance(node, ast.BinOp):
        known = (
            isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Name) and _is_literal(node.right, (int, float))
        )
    elif isinstance(node, ast.UnaryOp):
        known = isinstance(node.op, ast.USub) and (isinstance(node.operand, ast.Name) or _is_literal(node.operand))
    else:
        known = isinstance(node, ast.Name) or _is_literal(node, (int, float, str))
    if not known:
        raise ValueError(f"{ast.unparse(node)!r} is neither an operand nor a number")


def _is_literal(node: ast.expr, types: tuple[type, ...] = (int, float)) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in types


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.BoolOp):
        combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return combine.reduce([_evaluate(part, values) for part in node.values])
    if isinstance(node, ast.Compare):
        operands = [_evaluate(part, values) for part in (node.left, *node.comparators)]
        pairs = zip(node.ops, operands, operands[1:], strict=False)
        return np.logical_and.reduce([_compare(op, left, right) for op, left, right in pairs])
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, values)
    if isinstance(node, ast.BinOp):
        return np.mod(_evaluate(node.left, values), _evaluate(node.right, values))
    if isinstance(node, ast.Name):
        return _single(np.inf if node.id == INFINITY else values[node.id])
    return _single(node.value) if isinstance(node, ast.Constant) else None


def _compare(comparison: ast.cmpop, left: Any, right: Any) -> Any:
    """Compare two operands; a text is no number, whatever the number is."""
    if isinstance(left, str) != isinstance(right, str):
        return isinstance(comparison, ast.NotEq)
    return _COMPARISONS[type(comparison)](left, right)


def _single(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(value).astype(np.float32)[()]
