"""Max(x, alpha * x) -> LeakyRelu(x): recognised trees back into their native ops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.forms import find_activation, find_form
from onnxact.errors import UsageError
from onnxact.model import provenance
from onnxact.model.edit import Skip
from onnxact.model.view import Scope, View
from onnxact.rewrite.choose import is_exact, unavailable
from onnxact.rewrite.decompose import describe_dtype
from onnxact.rewrite.draft import Change, Draft, Drafter
from onnxact.rewrite.emit import attribute_obstacle
from onnxact.rewrite.find import Pattern, find, site_of
from onnxact.rewrite.match import matches, op_parameters
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
    restored: set[tuple[str, int]] = set()
    for scope in view.scopes:
        if not scope.frozen:
            for change, before in _decomposed(scope, drafter):
                if selection.takes(change.site):
                    restored.update((scope.path, index) for index in change.site.nodes)
                    drafter.restore(change, before.op)
    found = find(view, given)
    for site in found.sites:
        if site.form == "op" or not selection.takes(site):
            continue
        if not any((site.scope.path, index) in restored for index in site.nodes):
            _fuse(site, drafter, undoing=bool(restored) and not every)
    if not restored:
        drafter.skips.extend(found.skips)
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
        exact = is_exact(activation.forms[site.form], site.parameters, site.dtype)
        drafter.write(Change(site, site.activation, "op", site.parameters, exact), native, "")


def _obstacle(site: Site) -> str:
    form = ACTIVATIONS[site.activation].forms["op"]
    native = ACTIVATIONS[site.activation].native
    if native is None or site.dtype is None:
        return "no native op"
    reason = unavailable(native.op, site.dtype, site.scope.opset)
    if reason and "starts at" in reason:
        reason += "; convert the model with onnx.version_converter.convert_version"
    return reason or attribute_obstacle(form.expr, site.parameters, site.scope.opset)


def _decomposed(scope: Scope, drafter: Drafter) -> Iterator[tuple[Change, provenance.Provenance]]:
    """Yield the sites that still are what their provenance says."""
    for index, node in enumerate(scope.nodes):
        if not node.metadata_props:
            continue
        before = provenance.read(node)
        if before is None:
            continue
        site, reason = _as_recorded(scope, index, before)
        if site is None:
            drafter.skips.append(Skip(scope.path, node.name, f"was decomposed by onnxact, but changed since: {reason}"))
            continue
        exact = is_exact(find_form(find_activation(before.activation), before.form), site.parameters, site.dtype or "")
        yield Change(site, site.activation, "op", site.parameters, exact), before


def _as_recorded(scope: Scope, index: int, before: provenance.Provenance) -> tuple[Site | None, str]:
    try:
        activation = find_activation(before.activation)
        form = find_form(activation, before.form)
    except UsageError as error:
        return None, str(error)
    native = activation.native
    op = type(before.op)()
    op.CopyFrom(before.op)
    op.input.insert(0, "x")
    bound = op_parameters(scope, native, op) if native is not None else None
    if bound is None:
        return None, "its record is damaged"
    pattern = Pattern(activation, before.form, form, scope.nodes[index].op_type, 2)
    reason = "its nodes do not compute that form any more"
    for match in matches(scope, form.expr, index):
        site, why = site_of(scope, pattern, index, match, bound, recorded=True)
        if site is not None:
            return site, ""
        reason = why or reason
    return None, reason
