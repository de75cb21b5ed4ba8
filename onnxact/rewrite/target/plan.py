"""View -> for every activation whether a target runs it, and the plan that rewrites those that it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.errors import ModelError
from onnxact.model.edit import Skip
from onnxact.model.view import View
from onnxact.rewrite.contrib import Fused, foreign, fused
from onnxact.rewrite.draft import Draft, Drafter, Recorder
from onnxact.rewrite.find import Found, find
from onnxact.rewrite.recorded import part_of, recorded_sites
from onnxact.rewrite.select import EVERYTHING, Selection
from onnxact.rewrite.site import Site
from onnxact.rewrite.target.contest import Place, Preferences, Wish
from onnxact.rewrite.target.decide import Decider, Decision, convert
from onnxact.rewrite.target.judge import Judge, Refusal
from onnxact.rewrite.target.rules import Target
from onnxact.rewrite.target.standing import place_of, refusals_of


def plan(
    view: View,
    target: Target,
    *,
    allow_inexact: bool = False,
    selection: Selection = EVERYTHING,
    keep_provenance: bool = True,
    wishes: Mapping[Place, Wish] | None = None,
) -> Draft:
    """Return what writing a model for a target does: every selected site that it does not run, in the best form.

    wishes: what is to become of sites that it does run; with them, those that are not named stay, even by a detour.

    The draft's `left` are the sites that it does not run and for which there is no form. Raises ModelError where the
    target does not read models of this opset.
    """
    if reason := opset_obstacle(view, target):
        raise ModelError(reason)
    drafter, recorder = Drafter(view), Recorder()
    left: list[Skip] = []
    found = find(view)
    decided = decisions(view, target, found, allow_inexact=allow_inexact)
    for decision in decided if wishes is None else Preferences(target, wishes).applied(decided):
        site, after = decision.site, decision.after
        if not is_selected(selection, site) or decision.stands:
            continue
        if after is not None:
            drafter.write(site, after, recorder.text(site, after.form) if keep_provenance else None)
            continue
        drafter.skip(site, f"{target.name}: {decision.reason}")
        if decision.left:
            left.append(drafter.skips[-1])
    for skip in _foreign(view, target, selection):
        drafter.skips.append(skip)
        left.append(skip)
    drafter.skips.extend(_unclear(target, found, selection))
    return drafter.finish(left)


def is_selected(selection: Selection, site: Site) -> bool:
    """Tell whether a site, or a fused node without an activation, is asked for."""
    return selection.takes(site) if site.activation else selection.reaches(site.node, site.scope.path)


def decisions(view: View, target: Target, found: Found, *, allow_inexact: bool = False) -> Iterator[Decision]:
    """Yield what becomes of every activation in a model, in the order of its nodes."""
    decider = Decider(target, view, allow_inexact=allow_inexact)
    recorded = recorded_sites(view)
    sites = [site for site in found.sites if (site.scope.path, site.root) not in recorded]
    decided = [decider.decide(site) for site in sites]
    decided += [_decomposed(target, site) for site in dict.fromkeys(recorded.values())]
    decided += [_fused(decider, one) for one in fused(view)]
    order = {scope.path: number for number, scope in enumerate(view.scopes)}
    decided.sort(key=lambda decision: (order[decision.site.scope.path], decision.site.root))
    yield from decided


def _decomposed(target: Target, site: Site) -> Decision:
    """Return whether a site that was decomposed before runs in the form that it has."""
    refusals = tuple(refusals_of(Judge(target, place_of(site, target)), site))
    return Decision(site, refusals, obstacle=part_of(site) if refusals else "")


def _fused(decider: Decider, one: Fused) -> Decision:
    if one.expansion is not None:
        return decider.take_apart(one.site, one.expansion)
    if decider.target.rules(one.site.form):
        return Decision(one.site)
    refusal = Refusal("missing", "no {}", one.site.form)
    return Decision(one.site, (refusal,), obstacle=one.reason)


def _foreign(view: View, target: Target, selection: Selection) -> Iterator[Skip]:
    """Yield the other nodes that are not ONNX's, where nothing else is to be left."""
    for scope, node, reason in foreign(view) if target.ops is None else ():
        if selection.reaches(node.name, scope.path):
            yield Skip(scope.path, node.name, reason)


def _unclear(target: Target, found: Found, selection: Selection) -> list[Skip]:
    """Return the native ops that are no sites, of activations that the target does not have."""
    names = [n for n, row in ACTIVATIONS.items() if row.native is not None and not target.rules(row.native.op)]
    return found.like([name for name in names if selection.wants(name)], selection)


def opset_obstacle(view: View, target: Target) -> str:
    """Return why a target does not read the model at all; empty where it does."""
    opset = view.main.opset
    if target.opset is None or opset in target.opset:
        return ""
    highest = target.opset.highest
    if opset > highest:
        return f"the model has opset {opset}, and {target.name} reads {target.opset}; {convert(highest)}"
    lowest = min(span.low for span in target.opset.spans if span.low > opset)
    return f"the model has opset {opset}, and {target.name} reads {target.opset}; {convert(lowest)}"


def remarks(view: View, target: Target) -> list[str]:
    """Return what is to be said about a model and a target beside its activations."""
    found = [reason] if (reason := opset_obstacle(view, target)) else []
    constants = sum(scope.op_types.count("Constant") for scope in view.scopes)
    if constants and target.ops is not None and not target.rules("Constant"):
        found.append(
            f"the model has {constants} Constant nodes, and {target.name} takes none; ONNX Runtime's basic "
            "optimisation makes initializers of them"
        )
    return [*found, *target.remarks]
