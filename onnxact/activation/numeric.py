"""Terms as numbers: fold what has no `x` in double precision, evaluate the rest in the dtype of the tensor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from onnxact.activation.expr import TRUE, Call, Expr, Literal, Parameter, Variable, varies
from onnxact.activation.primitives import PRIMITIVES, Array

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS: dict[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return NumPy's name of a dtype, which it takes long to tell."""
    return str(dtype.name)


Values = Mapping[str, Any]
"""Parameter name -> number, array of slopes, or text."""


def fold(expr: Expr, parameters: Values) -> Array | str:
    """Return the value of a term without variables, in float64, or the text of a string literal.

    `parameters` maps names to numbers or arrays; arrays broadcast as NumPy's do.
    """
    if isinstance(expr, Literal):
        return expr.value if isinstance(expr.value, str) else np.asarray(expr.value, np.float64)
    if isinstance(expr, Parameter):
        return np.asarray(parameters[expr.name], np.float64)
    if not isinstance(expr, Call):
        raise ValueError(f"{expr} has no value of its own")
    with np.errstate(all="ignore"):
        return PRIMITIVES[expr.op].meaning(*(fold(arg, parameters) for arg in expr.args))


def holds(condition: Expr, parameters: Values) -> bool:
    """Tell whether a condition on the parameters holds, for every element where they are tensors."""
    return condition is TRUE or bool(np.all(fold(condition, parameters)))


def rounded(value: Any, dtype: DTypeLike) -> Array:
    """Return float64 `value` rounded once, to nearest even, to `dtype`.

    ml_dtypes rounds float64 to float32 and then to bfloat16; rounding the first step to odd makes the two steps one
    (Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums using rounding to odd").
    """
    exact = np.asarray(value, np.float64)
    with np.errstate(all="ignore"):
        if np.dtype(dtype) != BFLOAT16:
            return exact.astype(dtype)
        single = exact.astype(np.float32)
        away = np.where(exact > single, np.inf, -np.inf).astype(np.float32)
        even = (np.atleast_1d(single).view(np.uint32).reshape(single.shape) & 1) == 0
        inexact = (single != exact) & np.isfinite(single) & even
        return np.where(inexact, np.nextafter(single, away), single).astype(BFLOAT16)


def evaluate(expr: Expr, x: Array, parameters: Values) -> Array:
    """Return the value of `expr` at `x`, computed op by op in `x.dtype`, as a runtime would.

    Constants are folded in double and rounded once to `x.dtype`. Elementwise: the result has the broadcast shape of
    `x` and the parameters. Transcendental ops are NumPy's.
    """
    known: dict[Expr, Array] = {}

    def value(node: Expr) -> Any:
        if not varies(node):
            folded = fold(node, parameters)
            return folded if isinstance(folded, str) else rounded(folded, x.dtype)
        if isinstance(node, Variable):
            return x
        if node not in known and isinstance(node, Call):
            result = PRIMITIVES[node.op].meaning(*(value(arg) for arg in node.args))
            known[node] = result if result.dtype == bool and node.op != "Cast" else result.astype(x.dtype)
        return known[node]

    with np.errstate(all="ignore"):
        return np.asarray(value(expr))
