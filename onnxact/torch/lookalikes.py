"""Expressions that compute ReLU without naming it: torch.maximum(x, zero), torch.where(x > 0, x, 0.0), x * (x > 0).

They look at the syntax; `value` says what a name stands for, where nothing has to be run to tell.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Value = Callable[[ast.expr], Any]
_MAXIMA = (torch.maximum, torch.max, torch.fmax, torch.ops.aten.maximum, torch.ops.aten.maximum.default)
_METHODS = ("maximum", "max", "fmax")
_ZEROS = ("zeros", "zeros_like", "new_zeros", "tensor", "new_tensor", "scalar_tensor", "as_tensor")
"""Functions and methods that make a tensor of zeros, those of the second half where they are given 0."""


class Lookalike(NamedTuple):
    """An expression that computes an activation in a way that is not swapped, and what to write instead."""

    activation: str
    reason: str


def maximum_of(node: ast.Call, function: Any) -> tuple[ast.expr, ...]:
    """Return the two operands of a maximum, none for another call."""
    if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
        return ()
    if any(function is known for known in _MAXIMA) and len(node.args) == 2:
        return node.args[0], node.args[1]
    is_method = isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS and len(node.args) == 1
    return (node.func.value, node.args[0]) if is_method and isinstance(node.func, ast.Attribute) else ()


def is_zero(node: ast.expr, value: Value) -> bool:
    """Tell whether an expression is a tensor of zeros; a plain number is the axis of torch.max."""
    known = value(node)
    if isinstance(known, torch.Tensor):
        return not isinstance(known, torch.nn.Parameter) and not known.is_meta and not bool(known.any())
    return isinstance(node, ast.Call) and _makes_zeros(node)


def keeps_shape(zero: ast.expr, x: ast.expr, value: Value) -> bool:
    """Tell whether a maximum with these zeros has the shape and the type of x."""
    known = value(zero)
    if isinstance(known, torch.Tensor):
        return known.ndim == 0
    if not isinstance(zero, ast.Call):
        return False
    if _name(zero) == "zeros_like":
        return bool(zero.args) and ast.dump(zero.args[0]) == ast.dump(x)
    if _name(zero) in ("zeros", "new_zeros"):
        return len(zero.args) == 1 and isinstance(zero.args[0], (ast.Tuple, ast.List)) and not zero.args[0].elts
    return True


def chooses_positive(node: ast.Call, value: Value) -> bool:
    """Tell whether a call is where(x > 0, x, 0) or where(x < 0, 0, x)."""
    if len(node.args) != 3:
        return False
    condition, first, second = node.args
    x, other = (first, second) if _is_nothing(second, value) else (second, first)
    return _is_nothing(other, value) and _compares(condition, x, positive=x is first)


def masks_positive(node: ast.BinOp, value: Value) -> bool:
    """Tell whether an expression is x * (x > 0), whichever stands first."""
    pairs = ((node.left, node.right), (node.right, node.left))
    return isinstance(node.op, ast.Mult) and any(_compares(_bare(mask), x, positive=True) for x, mask in pairs)


def _bare(mask: ast.expr) -> ast.expr:
    """Return a comparison without the conversion around it: (x > 0).float(), (x > 0).to(x.dtype)."""
    called = isinstance(mask, ast.Call) and isinstance(mask.func, ast.Attribute)
    return mask.func.value if called and isinstance(mask, ast.Call) and isinstance(mask.func, ast.Attribute) else mask


def _compares(node: ast.expr, x: ast.expr, *, positive: bool) -> bool:
    """Tell whether an expression is x > 0, x >= 0 or their mirror image; x < 0 or x <= 0 where not `positive`."""
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return False
    above, below = (ast.Gt, ast.GtE), (ast.Lt, ast.LtE)
    left, right = node.left, node.comparators[0]
    if _number(right) and ast.dump(left) == ast.dump(x):
        return isinstance(node.ops[0], above if positive else below)
    return _number(left) and ast.dump(right) == ast.dump(x) and isinstance(node.ops[0], below if positive else above)


def _is_nothing(node: ast.expr, value: Value) -> bool:
    return _number(node) or is_zero(node, value)


def _number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, (bool, str)) and node.value == 0


def _makes_zeros(node: ast.Call) -> bool:
    name = _name(node)
    return name in _ZEROS[:3] or (name in _ZEROS[3:] and bool(node.args) and _number(node.args[0]))


def _name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
