"""Which form to write: admissible at this opset, dtype and set of ops; exact before inexact; then what has no special
inputs, then the fewest nodes.

Every form that was passed over comes with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from onnxact.activation.catalog import ACTIVATIONS, FAMILIES, Activation, Form
from onnxact.activation.expr import TRUE, Call, Expr, ops, parameters, size, text, varies, walk
from onnxact.activation.forms import lowered
from onnxact.activation.numeric import FLOATS, fold, holds, rounded
from onnxact.model import schema
from onnxact.rewrite.obstacle import attribute_obstacle, reference_obstacle
from onnxact.rewrite.site import Parameters, known

LOWEST_OPSET = 7
"""Below this, binary ops broadcast by an attribute instead of NumPy's rule (ONNX changelog, Add-7)."""


class Setting(NamedTuple):
    """Where a form is to be written. `ops`: the ops that may be used, None for all primitive ones."""

    opset: int
    dtype: str
    ops: frozenset[str] | None = None
    allow_inexact: bool = False


class Choice(NamedTuple):
    """The form taken (name "" for none), whether it is exact there, and why the others were not."""

    name: str
    form: Form | None
    exact: bool
    others: tuple[tuple[str, str], ...]

    @property
    def reasons(self) -> str:
        """Why no form was taken, in one line."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.others)


ACTIVATION_OPS = frozenset(
    row.native.op
    for row in ACTIVATIONS.values()
    if row.native is not None and row.name not in ("relu", "sigmoid", "tanh")
) - {"Clip"}
"""Ops that have forms of their own; without --ops a decomposition does without them. Relu, Sigmoid, Tanh and Clip count
as primitive: they are what other activations are made of."""


def choose(activation: Activation, bound: Parameters, setting: Setting) -> Choice:
    """Return the best admissible form other than the native op; of equal ones, one that stands in the table itself."""
    candidates: list[tuple[tuple[bool, float, int, bool], str, Form, bool]] = []
    others: list[tuple[str, str]] = []
    own = {form.expr: name for name, form in activation.forms.items()}
    for name, form in activation.forms.items():
        if name == "op":
            continue
        full_name, written, reason = _admissible(name, form, bound, setting)
        if written is not None and full_name != name and (same := own.get(written.expr)):
            reason = f"comes down to {same}"
        if not reason and written is not None:
            exact = is_exact(written, bound, setting.dtype)
            order = (not exact, written.error, size(written.expr), full_name != name)
            candidates.append((order, full_name, written, exact))
        else:
            others.append((name, reason))
    candidates.sort(key=lambda candidate: candidate[0])
    if not candidates:
        return Choice("", None, exact=False, others=tuple(others))
    _, name, form, exact = candidates[0]
    passed = [(other, _why_after(candidate_exact, exact)) for _, other, _, candidate_exact in candidates[1:]]
    if not exact and not setting.allow_inexact:
        first = (name, "not exact; ask for it by name, or give --allow-inexact")
        return Choice("", None, exact=False, others=(first, *((other, "not exact") for other, _ in passed), *others))
    return Choice(name, form, exact, (*passed, *others))


def _why_after(exact: bool, best_exact: bool) -> str:
    return "not exact" if best_exact and not exact else "more nodes"


def _admissible(name: str, form: Form, bound: Parameters, setting: Setting) -> tuple[str, Form | None, str]:
    """Return the form with inadmissible ops computed another way, or the reason against it."""
    allowed = _admits(setting)
    values = known(bound)
    lowers = values is not None and name not in FAMILIES  # whose op is the activation's own
    found = lowered(name, form, allowed, values or {}) if lowers else _as_it_is(name, form, allowed)
    if found is None:
        return name, None, _why_none(sorted(op for op in ops(form.expr) if not allowed(op)), setting)
    full_name, written = found
    return full_name, written, obstacle(written, bound, setting)


def _why_none(refused: list[str], setting: Setting) -> str:
    """Return why each of these ops cannot be used; those that are not among the ops allowed in one breath."""
    left_out = [op for op in refused if setting.ops is not None and op not in setting.ops]
    verb = "is" if len(left_out) == 1 else "are"
    together = [f"{', '.join(left_out)} {verb} not among the ops allowed"] if left_out else []
    return "; ".join([*together, *(why_not(op, setting) for op in refused if op not in left_out)])


def _as_it_is(name: str, form: Form, allowed: Callable[[str], bool]) -> tuple[str, Form] | None:
    return (name, form) if all(map(allowed, ops(form.expr))) else None


@cache
def _admits(setting: Setting) -> Callable[[str], bool]:
    return cache(lambda op: not why_not(op, setting))


def why_not(op: str, setting: Setting) -> str:
    """Return why an op cannot be used; empty where it can."""
    if setting.ops is None and op in ACTIVATION_OPS:
        return f"{op} is an activation itself"
    if setting.ops is not None and op not in setting.ops:
        return f"{op} is not among the ops allowed"
    return unavailable(op, setting.dtype, setting.opset)


def unavailable(op: str, dtype: str, opset: int) -> str:
    """Return why ONNX has no such op for this dtype at this opset; empty where it has."""
    if schema.schema(op, opset) is None:
        first = schema.first_opset(op)
        return f"{op} is not in opset {opset}" + (f" (it starts at {first})" if first else "")
    return "" if schema.admits(op, dtype, opset) else f"{op} does not take {dtype} at opset {opset}"


_MAY_BE_INFINITE = {"min", "max", "threshold"}
"""Parameters that are bounds; the others are factors."""


def obstacle(form: Form, bound: Parameters, setting: Setting) -> str:
    """Return why a form whose ops are all admitted still cannot be written; empty where it can."""
    if not form.emitted:
        return "numerically inferior: it is recognised, never written"
    values = known(bound)
    for name, value in (values or {}).items():
        if name not in _MAY_BE_INFINITE and not np.all(np.isfinite(np.asarray(value, np.float64))):
            return f"{name} is not finite, and its product with 0 is NaN"
    if parameters(form.when) and values is None:
        return f"holds when {text(form.when)}, and the parameter is not a constant"
    if values is not None and not holds(form.when, values):
        return f"holds when {text(form.when)}"
    return (
        _shape_obstacle(form.expr, setting.opset)
        or _range_obstacle(form.expr, bound, setting)
        or attribute_obstacle(form.expr, bound, setting.opset, setting.dtype)
        or reference_obstacle(form.expr, bound, setting.opset, setting.dtype)
    )


def _shape_obstacle(expr: Expr, opset: int) -> str:
    """Return which op would need two shapes to be one; empty for none (Max, Min and Sum broadcast from opset 8)."""
    calls = [e for e in walk(expr) if isinstance(e, Call) and varies(e) and e.op in ("Max", "Min", "Sum")]
    unlike = [call.op for call in calls if not all(map(varies, call.args))]
    return f"{unlike[0]} of x and a constant needs opset 8" if unlike and opset < 8 else ""


def _range_obstacle(expr: Expr, bound: Parameters, setting: Setting) -> str:
    """Return why a Clip without a bound would have one that float64 values can pass."""
    stops = setting.dtype == "float64" and _saturates(expr, bound, setting)
    return "Clip without a bound stops at the largest float32 number below opset 11" if stops else ""


def is_exact(form: Form, bound: Parameters, dtype: str) -> bool:
    """Tell whether the form's exactness condition holds for these parameters, as they are in this dtype."""
    values = known(bound)
    if values is None:
        return form.exact is TRUE
    held = {name: v if isinstance(v, str) else rounded(v, FLOATS[dtype]).astype(float) for name, v in values.items()}
    overflows = any(
        np.any(np.isinf(held[name]) & np.isfinite(v)) for name, v in values.items() if not isinstance(v, str)
    )
    return holds(form.exact, held) and not overflows


def same_bits(before: Form, after: Form, bound: Parameters, setting: Setting) -> bool:
    """Tell whether one form in the place of another gives the same bits for every input, as ONNX Runtime computes them.

    Not where a special input tells them apart, where the dtype does not hold a parameter that a runtime may keep in
    float32, or where Clip without a bound stops at the largest float32 number (below opset 11).
    """
    forms = (before, after)
    exact = all(is_exact(form, bound, setting.dtype) and not (form.exact is TRUE and form.special) for form in forms)
    return exact and _keeps_numbers(bound, setting.dtype) and not any(_saturates(f.expr, bound, setting) for f in forms)


def _keeps_numbers(bound: Parameters, dtype: str) -> bool:
    numbers = [value for value in bound.values() if isinstance(value, float)]
    return all(float(rounded(value, FLOATS[dtype])) == value for value in numbers)


def _saturates(expr: Expr, bound: Parameters, setting: Setting) -> bool:
    """Tell whether the term has a Clip without a bound that as an attribute has one (ONNX Clip-6)."""
    values = known(bound)
    if values is None or "max" not in schema.attributes("Clip", setting.opset):
        return False
    bounds = [arg for e in walk(expr) if isinstance(e, Call) and e.op == "Clip" for arg in e.args[1:]]
    return any(np.any(np.isinf(np.asarray(fold(arg, values), np.float64))) for arg in bounds)
