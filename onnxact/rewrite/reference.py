"""The independent model that a rewritten one is compared with: the original with each site in another form.

Relu -> LeakyRelu(0.2) by the op   is compared with   Relu -> Max(x, 0.2 x)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from onnxact.activation.catalog import ACTIVATIONS, Form
from onnxact.activation.expr import ops, size
from onnxact.model.edit import Plan
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import Setting, is_exact, obstacle, unavailable
from onnxact.rewrite.draft import Change, Drafter


def plan(view: View, changes: Iterable[Change]) -> Plan:
    """Return the plan that writes what the changes mean in another form; a site without one stands among the skips.

    `view` shows the model as it was before the changes.
    """
    drafter = Drafter(view)
    for change in changes:
        scope = view.by_path[change.site.scope.path]
        site = change.site._replace(kind=replace(change.site.kind, scope=scope))
        form = other_form(change)
        if form is None:
            drafter.skip(site, f"{change.activation} has no second form to compare with")
        else:
            drafter.write(site, After(change.activation, "", change.parameters, form.expr))
    return drafter.finish().plan


def other_form(change: Change) -> Form | None:
    """Return the best form other than the one written: exact before inexact, then the fewest nodes."""
    site = change.site
    setting = Setting(site.scope.opset, site.dtype or "", None, allow_inexact=True)
    candidates = []
    for name, form in ACTIVATIONS[change.activation].forms.items():
        missing = any(unavailable(op, setting.dtype, setting.opset) for op in ops(form.expr))
        if name != change.form and not missing and not obstacle(form, change.parameters, setting):
            candidates.append((not is_exact(form, change.parameters, setting.dtype), size(form.expr), form))
    return min(candidates, key=lambda candidate: candidate[:2])[2] if candidates else None
