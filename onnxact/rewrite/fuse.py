"""Max(x, alpha * x) -> LeakyRelu(x): recognised trees back into their native ops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnxact.activation.catalog import ACTIVATIONS, Form
from onnxact.model.edit import Skip
from onnxact.model.provenance import Provenance
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import Setting, obstacle, same_bits, unavailable
from onnxact.rewrite.compile import X
from onnxact.rewrite.draft import Draft, Drafter
from onnxact.rewrite.find import find
from onnxact.rewrite.obstacle import describe_dtype
from onnxact.rewrite.recorded import form_of, records
from onnxact.rewrite.select import EVERYTHING, Selection
from onnxact.rewrite.site import Bound, Site


def plan(
    view: View,
    *,
    selection: Selection = EVERYTHING,
    given: Mapping[str, Bound] | None = None,
    every: bool = False,
) -> Draft:
    """Return what fusing does: undo a decomposition to the byte, or else turn recognised trees into native ops.

    A model that onnxact decomposed becomes what it was before; trees that it had before stay, unless `every`.
    given: parameters that the constants alone do not determine; they are used where they give the same constants.
    """
    drafter = Drafter(view)
    wanted = [name for name in ACTIVATIONS if selection.wants(name)]
    restored: set[tuple[str, int]] = set()
    for scope in view.scopes:
        if not scope.frozen:
            for site, before in _decomposed(scope, drafter, selection):
                if selection.takes(site):
                    restored.update((scope.path, index) for index in site.nodes)
                    drafter.restore(site, _as_before(site, before), before)
    found = find(view, given)
    for site in found.sites:
        if site.form == "op" or not selection.takes(site):
            continue
        if not any((site.scope.path, index) in restored for index in site.nodes):
            _fuse(site, drafter, undoing=bool(restored) and not every)
    if every or not restored:
        drafter.skips.extend(found.like(wanted, selection))
    return drafter.finish()


def _fuse(site: Site, drafter: Drafter, *, undoing: bool) -> None:
    activation = ACTIVATIONS[site.activation]
    native = activation.native
    if undoing:
        reason = "was there before the model was decomposed; fuse once more, or give --all"
        drafter.skip(site, f"{activation.spelled} ({site.form}) {reason}")
    elif native is None:
        drafter.skip(site, f"{activation.spelled} ({site.form}): ONNX has no op for it")
    elif site.dtype is None:
        drafter.skip(site, describe_dtype(site))
    elif reason := _obstacle(site):
        drafter.skip(site, f"{activation.spelled} ({site.form}) stays: {reason}")
    else:
        drafter.write(site, _op_again(site, activation.forms[site.form]), "")


def _as_before(site: Site, before: Provenance) -> After:
    """Return what stood in the place of a site according to its record."""
    if before.tree is None:
        return _op_again(site, form_of(before))
    activation = ACTIVATIONS.get(site.activation)
    earlier = activation.forms.get(before.tree.form.partition("[")[0]) if activation is not None else None
    now = form_of(before) if earlier is not None else None
    setting = Setting(site.scope.opset, site.dtype or "")
    exact = earlier is not None and now is not None and same_bits(now, earlier, site.parameters, setting)
    return After(site.activation, before.tree.form, site.parameters, earlier.expr if earlier else X, exact)


def _op_again(site: Site, form: Form) -> After:
    """Return the native op in the place of a form."""
    op = ACTIVATIONS[site.activation].forms["op"]
    exact = same_bits(form, op, site.parameters, Setting(site.scope.opset, site.dtype or ""))
    return After(site.activation, "op", site.parameters, op.expr, exact)


def _obstacle(site: Site) -> str:
    form = ACTIVATIONS[site.activation].forms["op"]
    native = ACTIVATIONS[site.activation].native
    if native is None or site.dtype is None:
        return "no native op"
    reason = unavailable(native.op, site.dtype, site.scope.opset)
    if reason and "starts at" in reason:
        reason += "; convert the model with onnx.version_converter.convert_version"
    return reason or obstacle(form, site.parameters, Setting(site.scope.opset, site.dtype))


def _decomposed(scope: Scope, drafter: Drafter, selection: Selection) -> Iterator[tuple[Site, Provenance]]:
    """Yield the sites that still are what their provenance says."""
    for record in records(scope):
        if record.site is None and not selection.reaches(scope.nodes[record.root].name, scope.path):
            continue
        if record.site is None:
            reason = f"was decomposed by onnxact, but changed since: {record.reason}"
            drafter.skips.append(Skip(scope.path, scope.nodes[record.root].name, reason))
        else:
            yield record.site, record.before
