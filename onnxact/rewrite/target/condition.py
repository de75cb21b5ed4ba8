"""A condition as a target file writes it, over the operands of an op.

    "min <= 0 and max > 0"        "approximate == 'tanh'"

Comparisons (==, !=, <, <=, >, >=, chained too), `and`, `or`, numbers, `inf`, texts in quotes, and operands by the names
that ONNX gives them. Numbers are compared as float32, which is what an attribute is.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
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

    def __str__(self) -> str:
        return self.text.replace("==", "=")


def _stated(part: ast.expr, name: str) -> Iterator[float]:
    """Yield the number of a comparison `name == number`."""
    if isinstance(part, ast.Compare) and isinstance(part.left, ast.Name) and part.left.id == name:
        number = _evaluate(part.comparators[0], {}) if isinstance(part.comparators[0], ast.Constant) else None
        if isinstance(part.ops[0], ast.Eq) and isinstance(number, np.floating):
            yield float(number)


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
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    number = isinstance(inner, ast.Constant) and isinstance(inner.value, (int, float, str))
    if not (number or isinstance(inner, ast.Name)):
        raise ValueError(f"{ast.unparse(node)!r} is neither an operand nor a number")


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.BoolOp):
        combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return combine.reduce([_evaluate(part, values) for part in node.values])
    if isinstance(node, ast.Compare):
        operands = [_evaluate(part, values) for part in (node.left, *node.comparators)]
        pairs = zip(node.ops, operands, operands[1:], strict=False)
        return np.logical_and.reduce([_COMPARISONS[type(op)](left, right) for op, left, right in pairs])
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, values)
    if isinstance(node, ast.Name):
        return _single(np.inf if node.id == INFINITY else values[node.id])
    return _single(node.value) if isinstance(node, ast.Constant) else None


def _single(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(value).astype(np.float32)[()]
