"""View -> for every activation whether a target runs it, and the plan that rewrites those that it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.errors import ModelError
from onnxact.model.edit import Skip
from onnxact.model.naming import Names
from onnxact.model.view import View
from onnxact.rewrite.blocked.apart import Apart, apart, blocked_activations
from onnxact.rewrite.blocked.region import DOMAIN as BLOCKED
from onnxact.rewrite.contrib import foreign, fused
from onnxact.rewrite.draft import Draft, Drafter, Recorder
from onnxact.rewrite.expansion import Fused
from onnxact.rewrite.find import Found, find
from onnxact.rewrite.recorded import part_of, recorded_sites
from onnxact.rewrite.select import EVERYTHING, Selection
from onnxact.rewrite.site import Site
from onnxact.rewrite.target.contest import Place, Preferences, Wish
from onnxact.rewrite.target.decide import Decider, Decision, convert
from onnxact.rewrite.target.judge import Judge, Refusal
from onnxact.rewrite.target.rules import Target
from onnxact.rewrite.target.standing import place_of, refusals_of, refusals_of_nodes, takes_constant_nodes
from onnxact.rewrite.target.stray import Stray, strays


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
    drafter, found = Drafter(view), find(view)
    decided, remarks, values = decisions(view, target, found, allow_inexact=allow_inexact)
    decided = all_or_none(decided, lambda site: is_selected(selection, site))
    if wishes is not None:
        decided = list(Preferences(target, wishes).applied(decided))
    chosen = decided if selection.takes_all else [one for one in decided if is_selected(selection, one.site)]
    left = _carried_out(drafter, chosen, target, Recorder() if keep_provenance else None)
    left += (others := list(_foreign(view, target, selection)))
    drafter.skips.extend([*others, *_unclear(target, uncounted(found, decided), selection)])
    gone = sum(site.scope.op_types[index] == "Constant" for site in drafter.sites for index in site.inner)
    draft = drafter.finish(left)
    return replace(
        draft,
        plan=replace(draft.plan, renamed=_renamed(chosen, values, drafter.emitter.names)),
        looked_at=len(chosen),
        passed_over=_not_native(decided) - _not_native(chosen) if len(chosen) < len(decided) else 0,
        remarks=(*_constants(view, target, gone), *remarks),
    )


def _carried_out(drafter: Drafter, chosen: Iterable[Decision], target: Target, recorder: Recorder | None) -> list[Skip]:
    """Write or skip what does not run as it stands; return the skips of what is known not to run."""
    left: list[Skip] = []
    for decision in chosen:
        site, after = decision.site, decision.after
        if decision.stands:
            continue
        if after is not None:
            recorded = recorder.text(site, after.form) if recorder and not decision.together else None
            drafter.write(site, after, recorded)
            continue
        drafter.skip(site, f"{target.name}: {decision.reason}")
        if decision.left:
            left.append(drafter.skips[-1])
    return left


def _not_native(decided: Iterable[Decision]) -> int:
    return sum(one.status != "native" for one in decided)


def _renamed(
    chosen: Iterable[Decision], values: Mapping[str, Iterable[str]], names: Names
) -> dict[str, dict[str, str]]:
    """Return new names for the values in blocks, where those are taken out of them."""
    scopes = {one.site.scope.path for one in chosen if one.together and one.after is not None}
    return {path: {name: names.fresh(f"{name}_unblocked") for name in values[path]} for path in sorted(scopes)}


def is_selected(selection: Selection, site: Site) -> bool:
    """Tell whether a site, or a fused node without an activation, is asked for."""
    return selection.takes(site) if site.activation else selection.reaches(site.node, site.scope.path)


class Decisions(NamedTuple):
    """What becomes of every activation in a model, in the order of its nodes, and what else there is to say."""

    decided: list[Decision]
    remarks: list[str]
    values: Mapping[str, Iterable[str]]
    """Scope -> the values in ONNX Runtime's blocks of channels."""


def decisions(view: View, target: Target, found: Found, *, allow_inexact: bool = False) -> Decisions:
    """Return what becomes of every activation in a model, and of every node of ONNX Runtime's own."""
    decider = Decider(target, view, allow_inexact=allow_inexact)
    recorded = recorded_sites(view)
    sites = [site for site in found.sites if (site.scope.path, site.root) not in recorded]
    decided = [decider.decide(site) for site in sites]
    decided += [_decomposed(target, site) for site in dict.fromkeys(recorded.values())]
    decided += [_fused(decider, one) for one in fused(view)]
    native = target.rules(f"{BLOCKED}::Conv")
    decided += [Decision(site) for site in (blocked_activations(view) if native else ())]
    blocked = Apart([], [], {}) if native else apart(view)
    decided += [replace(_unblocked(decider, one), together=True) for one in blocked.found]
    covered = {(one.site.scope.path, index) for one in decided for index in one.site.nodes}
    decided += [_astray(target, one) for one in strays(view, covered)]
    order = {scope.path: number for number, scope in enumerate(view.scopes)}
    decided.sort(key=lambda decision: (order[decision.site.scope.path], decision.site.root))
    return Decisions(decided, blocked.remarks, blocked.values)


def all_or_none(decided: Iterable[Decision], is_selected: Callable[[Site], bool]) -> list[Decision]:
    """Return the decisions so that of what can only be replaced together all is, or nothing."""
    decided = list(decided)
    stays = {}
    for one in decided:
        if one.together and (one.after is None or not is_selected(one.site)):
            stays[one.site.scope.path] = "not all of it is selected" if one.after else f"{one.site.where} stays"
    whole = "what is in blocks of channels is taken apart whole or not at all, and "
    return [
        replace(one, after=None, reasons=(), obstacle=whole + stays[one.site.scope.path])
        if one.together and one.after is not None and one.site.scope.path in stays
        else one
        for one in decided
    ]


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


def _unblocked(decider: Decider, one: Fused) -> Decision:
    refusal = Refusal("missing", "no {}", one.site.form)
    if one.expansion is None:
        return Decision(one.site, (refusal,), obstacle=one.reason)
    return decider.replaced(one.site, one.expansion, refusal)


def _astray(target: Target, stray: Stray) -> Decision:
    """Return whether a node that no form can replace runs as it stands."""
    site = stray.site
    refusals = tuple(refusals_of_nodes(Judge(target, place_of(site, target)), site))
    return Decision(site, refusals, obstacle=stray.reason)


def uncounted(found: Found, decided: Iterable[Decision]) -> Found:
    """Return what was found without the skips of nodes that were judged all the same."""
    judged = {Stray(one.site, one.obstacle).skip for one in decided if one.after is None and one.obstacle}
    return found._replace(skips=[skip for skip in found.skips if skip not in judged])


def _foreign(view: View, target: Target, selection: Selection) -> Iterator[Skip]:
    """Yield the other nodes that are not ONNX's, where nothing else is to be left."""
    for scope, node, reason in foreign(view) if target.ops is None else ():
        if selection.reaches(node.name, scope.path):
            yield Skip(scope.path, node.name, reason)


def _unclear(target: Target, found: Found, selection: Selection) -> list[Skip]:
    """Return the trees that are no sites, of activations that the target does not have."""
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


def remarks_on(view: View, target: Target) -> list[str]:
    """Return what is to be said about a model and a target beside its activations."""
    found = [reason] if (reason := opset_obstacle(view, target)) else []
    return [*found, *_constants(view, target), *target.remarks]


def _constants(view: View, target: Target, gone: int = 0) -> Iterator[str]:
    """Yield what there is to say of Constant nodes that the target does not take; `gone`: how many are replaced."""
    count = sum(scope.op_types.count("Constant") for scope in view.scopes) - gone
    if count and not takes_constant_nodes(target):
        nodes = f"{count} Constant node{'s' if count > 1 else ''}"
        yield (
            f"the model {'keeps' if gone else 'has'} {nodes}, and {target.name} takes none; ONNX Runtime's basic "
            "optimisation makes initializers of them"
        )
