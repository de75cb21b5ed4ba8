"""LeakyRelu(x) -> Max(x, alpha * x): native ops into a named form, or the best one for a set of ops."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onnxact.activation.catalog import ACTIVATIONS, SPECIAL_INPUTS, Activation, Form
from onnxact.activation.expr import ops
from onnxact.activation.forms import find_activation, find_form
from onnxact.activation.numeric import FLOATS, evaluate, rounded
from onnxact.errors import UsageError
from onnxact.model.edit import Skip
from onnxact.model.schema import known_ops
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import LOWEST_OPSET, Choice, Setting, choose, is_exact, obstacle, same_bits, unavailable
from onnxact.rewrite.draft import Draft, Drafter, Recorder
from onnxact.rewrite.find import find
from onnxact.rewrite.obstacle import describe_dtype
from onnxact.rewrite.recorded import part_of, recorded_sites
from onnxact.rewrite.select import EVERYTHING, Selection
from onnxact.rewrite.site import Kind, Site, known


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
    whose own op is among them stays, and what they cannot express is in the draft's `left`. Neither: every activation,
    into the exact form with the fewest nodes.
    """
    permitted = known_ops(allowed) if allowed is not None else None
    demand_sense(form, permitted, selection)
    drafter = Drafter(view)
    recorder = Recorder()
    left: list[Skip] = []
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
            if permitted is not None:
                left.append(drafter.skips[-1])
        else:
            drafter.write(site, after, recorder.text(site, after.form) if keep_provenance else None)
    looked_for = [n for n, row in ACTIVATIONS.items() if selection.wants(n) and not _stays(row, form, permitted)]
    drafter.skips.extend(found.like(looked_for, selection))
    return drafter.finish(left)


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


def demand_sense(form: str | None, permitted: frozenset[str] | None, selection: Selection) -> None:
    """Raise UsageError for both a form and ops, or a form that no selected activation has."""
    if form is not None and permitted is not None:
        raise UsageError("give a form or a set of ops, not both")
    if form is not None:
        _check_form(form, selection)


def _check_form(form: str, selection: Selection) -> None:
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


def _named(activation: Activation, name: str, site: Site, setting: Setting) -> Choice:
    form = find_form(activation, name)
    missing = [unavailable(op, setting.dtype, setting.opset) for op in sorted(ops(form.expr))]
    reason = next(filter(None, missing), "") or obstacle(form, site.parameters, setting)
    if reason:
        return Choice("", None, exact=False, others=((name, reason),))
    return Choice(name, form, is_exact(form, site.parameters, setting.dtype), ())


def special_inputs(site: Site, form: Form) -> list[str]:
    """Return the special inputs at which a form gives something else for the site's parameters, as NumPy computes it.

    Where these are not known, those at which it does for some.
    """
    values = known(site.parameters)
    if values is None or not form.special:
        return list(form.special)
    x = np.asarray([SPECIAL_INPUTS[name] for name in form.special])
    bound = {name: value if isinstance(value, str) else np.reshape(value, (-1, 1)) for name, value in values.items()}
    with np.errstate(all="ignore"):
        found = evaluate(form.expr, x.astype(FLOATS[site.dtype or "float32"]), bound).astype(np.float64)
        wanted = ACTIVATIONS[site.activation].reference(x, **{n: np.asarray(v, np.float64) for n, v in bound.items()})
    same = np.atleast_2d(np.asarray((found == wanted) | (np.isnan(found) & np.isnan(wanted))))
    return [name for number, name in enumerate(form.special) if not np.all(same[:, number])]


def _note(site: Site, choice: Choice) -> str:
    """Return what a reader should know about the form taken: why this one, and what rounding does to a parameter."""
    notes = []
    for name, value in site.parameters.items():
        if isinstance(value, float) and site.dtype and float(rounded(value, site.dtype)) not in (value, float("inf")):
            notes.append(f"{name} {value:.9g} is {float(rounded(value, site.dtype)):.9g} in {site.dtype}")
    if choice.form is not None and (inputs := special_inputs(site, choice.form)):
        unsure = "" if known(site.parameters) is not None else " for some parameters"
        notes.append(f"gives another result at {', '.join(inputs)}{unsure}")
    if choice.others:
        notes.append("passed over: " + "; ".join(f"{name} ({why})" for name, why in choice.others))
    return "; ".join(notes)
