"""The independent model that a rewritten one is compared with: the original with each site in another form.

Relu -> LeakyRelu(0.2) by the op   is compared with   Relu -> Max(x, 0.2 x)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from onnxact.activation.catalog import ACTIVATIONS, Form
from onnxact.activation.expr import ops, size
from onnxact.model.edit import Plan
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import LOWEST_OPSET, Setting, is_exact, obstacle, unavailable
from onnxact.rewrite.draft import Change, Drafter


class Other(NamedTuple):
    """A form with its name."""

    name: str
    form: Form


def other_forms(change: Change) -> list[Other]:
    """Return the forms other than the one written, the best first: exact before inexact, then the fewest nodes.

    A form that is another function, however near (`error`), would show differences that are its own.
    """
    setting = Setting(change.site.scope.opset, change.site.dtype or "", None, allow_inexact=True)
    forms = ACTIVATIONS[change.activation].forms.items()
    found = [Other(name, form) for name, form in forms if name != change.form and _fits(form, change, setting)]
    return sorted(found, key=lambda o: (not is_exact(o.form, change.parameters, setting.dtype), size(o.form.expr)))


def _fits(form: Form, change: Change, setting: Setting) -> bool:
    if form.error or (setting.opset < LOWEST_OPSET and size(form.expr) > 1):
        return False
    missing = any(unavailable(op, setting.dtype, setting.opset) for op in ops(form.expr))
    return not missing and not obstacle(form, change.parameters, setting)


def best_other(change: Change) -> Other | None:
    """Return the best other form, None where there is none."""
    return next(iter(other_forms(change)), None)


def plan(view: View, changes: Iterable[Change], choose: Callable[[Change], Other | None] = best_other) -> Plan:
    """Return the plan that writes what the changes mean in another form; a site without one stands among the skips.

    `view` shows the model as it was before the changes.
    """
    drafter = Drafter(view)
    for change in changes:
        scope = view.by_path[change.site.scope.path]
        site = change.site._replace(kind=replace(change.site.kind, scope=scope))
        other = choose(change)
        if other is None:
            drafter.skip(site, f"{change.activation} has no second form to compare with")
        else:
            drafter.write(site, After(change.activation, "", change.parameters, other.form.expr))
    return drafter.finish().plan
