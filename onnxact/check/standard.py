"""What a site is said to compute -> what its output is held against: a reference, the forms that may stand there.

Meaning("leaky_relu", "mul-max", alpha = 0.2)  ->  f(x) = LeakyRelu(x, 0.2), bound of Max(x, 0.2 x)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.activation.catalog import ACTIVATIONS, FALSE, Activation, Form
from onnxact.activation.expr import Call, Expr, ops
from onnxact.activation.forms import find_form
from onnxact.activation.numeric import FLOATS, holds, rounded
from onnxact.activation.primitives import PRIMITIVES
from onnxact.check.site_evidence import Computed, FromCaller, Meaning, Slopes

Array = npt.NDArray[Any]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Standard:
    """What the output of a site is held against.

    `function` is the reference; `own` what stands in the model, None where that is no form of the table. `exact`: y
    has to be f(x) rounded once. `on_its_own`: every element is held against the bound, and signs of zero count.
    `on_cpu`: the bounds of kernels were measured on the provider, and it flushes nothing to zero. `defines`: the
    reference was read off this very site, so that being outside shows a kernel that is less exact than its bound.
    `is_recognised`: that `own` is the form was found out, not stated by who wrote it.
    """

    function: Meaning
    own: Meaning | None
    exact: bool = False
    on_cpu: bool = True
    on_its_own: bool = False
    defines: bool = False
    is_recognised: bool = False

    @cached_property
    def activation(self) -> Activation:
        """The row of the reference."""
        return ACTIVATIONS[self.function.activation]

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The form that stands in the model, or every one that it may be; nothing where it is none of the table.

        Nodes are recognised whatever the order of a product is, on which overflow depends, and with a product in place
        of a quotient.
        """
        if self.own is None:
            return ()
        row = ACTIVATIONS[self.own.activation]
        if self.own.form:
            form = find_form(row, self.own.form)
            return tuple(dict.fromkeys((form, *(_alike(row, self.own.form, form) if self.is_recognised else ()))))
        values = numbers(self.own)
        return tuple(form for form in row.forms.values() if values is None or holds(form.when, values))

    @cached_property
    def rounds_once(self) -> bool:
        """Whether the reference evaluated in a dtype is the reference rounded once: where the table has exact forms."""
        return any(form.exact is not FALSE for form in self.activation.forms.values())

    def reference(self, x: Array, parameters: Values) -> Array:
        """f(x), computed in the dtype of `x` and the parameters."""
        with np.errstate(all="ignore"):
            return np.asarray(self.activation.reference(x, **parameters))


def _alike(row: Activation, name: str, form: Form) -> Iterator[Form]:
    """The other forms of which a match cannot tell a form."""
    yield from (other for other in row.forms.values() if _unordered(other.expr) == _unordered(form.expr))
    inner = "," if "[" in name else "["
    for op, way in (("div", "reciprocal"), ("reciprocal", "div")):
        if {"div": "Div", "reciprocal": "Reciprocal"}[op] in ops(form.expr):
            yield find_form(row, f"{name.removesuffix(']')}{inner}{op}={way}]")


@cache
def _unordered(expr: Expr) -> tuple[object, ...]:
    """The term with the factors of every product, and the operands of every commutative op, in one order."""
    if not isinstance(expr, Call):
        return (repr(expr),)
    args = _factors(expr) if expr.op == "Mul" else list(expr.args)
    parts = [_unordered(arg) for arg in args]
    return (expr.op, *(sorted(parts, key=repr) if PRIMITIVES[expr.op].commutative else parts))


def _factors(expr: Expr) -> list[Expr]:
    if isinstance(expr, Call) and expr.op == "Mul":
        return [factor for arg in expr.args for factor in _factors(arg)]
    return [expr]


Standards = tuple[Standard | None, Standard | None]
"""Of one site, before and after."""


def held_numbers(meaning: Meaning, held_in: str, computed: Values | None = None) -> Values | None:
    """The parameters as a dtype holds them, in float64: those of the reference. None: see numbers."""
    if computed or meaning.has_slopes:
        return _rounded(numbers(meaning, computed), held_in)
    return _held_numbers(meaning, held_in)


@lru_cache(maxsize=256)
def _held_numbers(meaning: Meaning, held_in: str) -> Values | None:
    return _rounded(numbers(meaning), held_in)


def _rounded(found: Values | None, held_in: str) -> Values | None:
    if found is None:
        return None
    dtype = FLOATS[held_in]
    return {
        name: value if isinstance(value, str) else rounded(value, dtype).astype(np.float64)
        for name, value in found.items()
    }


def numbers(meaning: Meaning, computed: Values | None = None) -> dict[str, Any] | None:
    """The parameters as the model states them; None where one is not known.

    `computed`: the values of those that the model computes, by value name.
    """
    found: dict[str, Any] = {}
    for name, value in meaning.parameters:
        number: Any = value.value if isinstance(value, Slopes) else value
        if isinstance(value, Computed):
            number = (computed or {}).get(value.name)
        if number is None or isinstance(value, FromCaller):
            return None
        found[name] = number
    return found
