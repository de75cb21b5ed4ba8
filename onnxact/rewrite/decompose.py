"""LeakyRelu(x) -> Max(x, alpha * x): native ops into a named form, or the best one for a set of ops."""

from __future__ import annotations

from collections.abc import Iterable

from onnxact.activation.catalog import ACTIVATIONS, Activation
from onnxact.activation.expr import ops
from onnxact.activation.forms import find_activation, find_form, known_ops
from onnxact.activation.numeric import rounded
from onnxact.errors import UsageError
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import Choice, Setting, choose, is_exact, obstacle, same_bits, unavailable
from onnxact.rewrite.draft import Draft, Drafter, Recorder
from onnxact.rewrite.find import find
from onnxact.rewrite.recorded import part_of, recorded_sites
from onnxact.rewrite.select import EVERYTHING, Selection
from onnxact.rewrite.site import Kind, Site

LOWEST_OPSET = 7
"""Below this, binary ops broadcast by an attribute instead of NumPy's rule (ONNX changelog, Add-7)."""


def plan(
    view: View,
    *,
    form: str | None = None,
    allowed: Iterable[str] | None = None,
    allow_inexact: bool = False,
    selection: Selection = EVERYTHING,
    keep_provenance: bool = True,
) -> Draft:
    """Return what decomposing does: every selected native op that has the form, or that `allowed` ops lack.

    form: a form's name; only activations that have it are looked at. allowed: ops that may be used; an activation
    whose own op is among them stays. Neither: every activation, into the exact form with the fewest nodes.
    """
    if form is not None and allowed is not None:
        raise UsageError("give a form or a set of ops, not both")
    _check_form(form, selection)
    permitted = known_ops(allowed) if allowed is not None else None
    drafter = Drafter(view)
    recorder = Recorder()
    decided: dict[Kind, After | str] = {}
    recorded = recorded_sites(view)
    found = find(view, trees=False)
    for site in found.sites:
        activation = ACTIVATIONS[site.activation]
        if not selection.takes(site) or _stays(activation, form, permitted):
            continue
        if recorded and (owner := recorded.get((site.scope.path, site.root))):
            drafter.skip(site, part_of(owner))
            continue
        if site.kind not in decided:
            setting = Setting(site.scope.opset, site.dtype or "", permitted, allow_inexact)
            decided[site.kind] = _decide(site, form, setting)
        after = decided[site.kind]
        if isinstance(after, str):
            drafter.skip(site, after)
        else:
            drafter.write(site, after, recorder.text(site, after.form) if keep_provenance else None)
    looked_for = [n for n, row in ACTIVATIONS.items() if selection.wants(n) and not _stays(row, form, permitted)]
    drafter.skips.extend(found.like(looked_for, selection))
    return drafter.finish()


def _decide(site: Site, form: str | None, setting: Setting) -> After | str:
    """Return what a site becomes, or why it stays."""
    if reason := _unfit(site):
        return reason
    activation = ACTIVATIONS[site.activation]
    choice = _named(activation, form, site, setting) if form else choose(activation, site.parameters, setting)
    if choice.form is None:
        return f"no form of {activation.spelled} fits: {choice.reasons}"
    exact = same_bits(activation.forms["op"], choice.form, site.parameters, setting)
    return After(site.activation, choice.name, site.parameters, choice.form.expr, exact, _note(site, choice))


def _check_form(form: str | None, selection: Selection) -> None:
    if form is None:
        return
    if selection.activations:
        for name in selection.activations:
            find_form(find_activation(name), form)
        return
    base = form.partition("[")[0]
    owners = [row for row in ACTIVATIONS.values() if base in row.forms and base != "op"]
    if not owners:
        known = sorted({name for row in ACTIVATIONS.values() for name in row.forms if name != "op"})
        raise UsageError(f"no activation has a form {form!r}; forms: {', '.join(known)}")
    find_form(owners[0], form)


def _stays(activation: Activation, form: str | None, permitted: frozenset[str] | None) -> bool:
    if form is not None:
        return form.partition("[")[0] not in activation.forms
    native = activation.native
    return permitted is not None and native is not None and native.op in permitted


def _unfit(site: Site) -> str:
    """Return why nothing can be written at a site; empty where it can."""
    if site.dtype is None:
        return describe_dtype(site)
    if site.scope.opset < LOWEST_OPSET:
        return (
            f"opset {site.scope.opset} is too old: binary ops broadcast as forms need from opset {LOWEST_OPSET}; "
            "convert the model first (onnx.version_converter.convert_version)"
        )
    return ""


def describe_dtype(site: Site) -> str:
    """Return why a site without a floating-point dtype is left alone."""
    if site.scope.types.elem_type(site.output):
        return "not a floating-point tensor"
    return f"the element type of {site.output!r} is not known; run onnx.shape_inference on the model, or declare it"


def _named(activation: Activation, name: str, site: Site, setting: Setting) -> Choice:
    form = find_form(activation, name)
    missing = [unavailable(op, setting.dtype, setting.opset) for op in sorted(ops(form.expr))]
    reason = next(filter(None, missing), "") or obstacle(form, site.parameters, setting)
    if reason:
        return Choice("", None, exact=False, others=((name, reason),))
    return Choice(name, form, is_exact(form, site.parameters, setting.dtype), ())


def _note(site: Site, choice: Choice) -> str:
    """Return what a reader should know about the form taken: why this one, and what rounding does to a parameter."""
    notes = []
    for name, value in site.parameters.items():
        if isinstance(value, float) and site.dtype and float(rounded(value, site.dtype)) not in (value, float("inf")):
            notes.append(f"{name} {value:.9g} is {float(rounded(value, site.dtype)):.9g} in {site.dtype}")
    if choice.form is not None and choice.form.special:
        notes.append(f"gives another result at {', '.join(choice.form.special)} for some parameters")
    if choice.others:
        notes.append("passed over: " + "; ".join(f"{name} ({why})" for name, why in choice.others))
    return "; ".join(notes)
