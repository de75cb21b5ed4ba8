"""(site, target) -> whether it runs there as it stands, and if not, the best form that does.

LeakyRelu(x, 0.1) on a target that has Relu, Mul and Add  ->  relu-neg-add[neg=mul], and why not the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import size, x
from onnxact.activation.forms import find_form
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.choose import LOWEST_OPSET, Setting, same_bits
from onnxact.rewrite.expansion import Expansion
from onnxact.rewrite.obstacle import describe_dtype
from onnxact.rewrite.site import Site
from onnxact.rewrite.target.candidates import Candidate, Reason, candidates, fixed_slope, grouped
from onnxact.rewrite.target.judge import ORDER, Judge, Refusal, summed
from onnxact.rewrite.target.rules import Target
from onnxact.rewrite.target.standing import (
    between_quantisers,
    place_of,
    refusals_of,
    takes_constant_nodes,
    with_constants,
)
from onnxact.rewrite.target.use import use_of_node


@dataclass(frozen=True)
class Decision:
    """What becomes of a site. `refusals`: why it does not run as it stands; none where it does.

    `after`: what it becomes, None where it stays. `reasons`: form -> why it was not taken. `obstacle`: what else there
    is to say where nothing can be written. `together`: it is replaced only with all others of its scope that say so.
    """

    site: Site
    refusals: tuple[Refusal, ...] = ()
    after: After | None = None
    reasons: tuple[Reason, ...] = ()
    obstacle: str = ""
    together: bool = False

    @property
    def status(self) -> str:
        """native, missing, restricted, wrong, indirect or unknown."""
        kinds = {refusal.kind for refusal in self.refusals}
        return next((kind for kind in ORDER if kind in kinds), "native")

    @property
    def why(self) -> str:
        """Why it does not run as it stands, in one line; empty where it does."""
        return summed(self.refusals)

    @property
    def stands(self) -> bool:
        """Whether it stays as it is, and there is nothing to say about it."""
        return self.status == "native" and self.after is None and not self.obstacle

    @property
    def runs(self) -> bool:
        """Whether the target runs it as it stands, be it by a detour."""
        return self.status in ("native", "indirect")

    @property
    def left(self) -> bool:
        """Whether the target is known not to run it, or to run it wrongly, and nothing is done about it."""
        return self.after is None and self.status in ("missing", "restricted", "wrong")

    @property
    def reason(self) -> str:
        """Why it stays although it does not run: for every form what speaks against it."""
        name = self.site.activation.replace("_", "-")
        forms = f"no form of {name} fits: {grouped(self.reasons)}" if self.reasons else ""
        return "; ".join(filter(None, (self.why, self.obstacle, forms)))

    def describe(self) -> dict[str, Any]:
        """Return the decision as plain data."""
        return {
            "status": self.status,
            "why": self.why or None,
            "form": self.after.form if self.after is not None else None,
            "exact": self.after.exact if self.after is not None else None,
            "reasons": dict(self.reasons),
            "obstacle": self.obstacle or None,
        }


class Decider:
    """Decides sites for one target. Sites of one kind at equal places are decided once."""

    def __init__(self, target: Target, view: View, *, allow_inexact: bool = False) -> None:
        self.target = target
        self.allow_inexact = allow_inexact
        self._quantising = {scope.path for scope in view.scopes if "QuantizeLinear" in scope.op_types}
        holding = {scope.path for scope in view.scopes if "Constant" in scope.op_types}
        self._with_constants = set() if takes_constant_nodes(target) else holding
        self._decided: dict[object, Decision] = {}

    def decide(self, site: Site) -> Decision:
        """Return what becomes of a site that `find` found."""
        if site.scope.path in self._with_constants:
            site = with_constants(site)
        place = place_of(site, self.target)
        quantised = site.scope.path in self._quantising and between_quantisers(site)
        key = (site.kind, place.shape, quantised)
        if site.kind.unary and key in self._decided:
            found = replace(self._decided[key], site=site)
        else:
            found = self._decided[key] = self._judged(Judge(self.target, place), site, quantised=quantised)
        return _with_declared_types(found)

    def take_apart(self, site: Site, found: Expansion) -> Decision:
        """Return what becomes of a fused node, whose activation may need a form in turn."""
        refusal: Refusal | None = Refusal("missing", "no {}", site.form)
        if self.target.rules(site.form):
            judge = Judge(self.target, place_of(site, self.target))
            refusal = judge.node(use_of_node(site.scope, site.scope.nodes[site.root]))
        return Decision(site) if refusal is None else self.replaced(site, found, refusal)

    def replaced(self, site: Site, found: Expansion, refusal: Refusal) -> Decision:
        """Return what becomes of a fused node that does not run as it stands."""
        judge = Judge(self.target, place_of(site, self.target))
        return self._rewritten(judge, Decision(site, (refusal,)), found, quantised=False)

    def _judged(self, judge: Judge, site: Site, *, quantised: bool) -> Decision:
        found = Decision(site, tuple(refusals_of(judge, site)))
        if all(refusal.kind == "unknown" for refusal in found.refusals):
            return found
        return self._rewritten(judge, found, None, quantised=quantised)

    def _rewritten(self, judge: Judge, found: Decision, around: Expansion | None, *, quantised: bool) -> Decision:
        site = found.site
        if reason := unfit(site):
            return replace(found, obstacle=reason)
        if around is not None and not around.activation:
            return replace(found, after=After("", "", {}, x, exact=False, writing=judge.writing, around=around))
        fitting, reasons = candidates(judge, site, quantised=quantised)
        taken = [one for one in fitting if self.allow_inexact or not one.lossy]
        if not taken:
            reasons = [*((one.name, one.lossy) for one in fitting), *reasons]
            return replace(found, reasons=tuple(reasons), obstacle=self._remark(site))
        best = taken[0]
        reasons = [*((one.name, one.why_after(best)) for one in fitting if one is not best), *reasons]
        notes = [f"{self.target.name}: {found.why}"]
        if quantised and size(best.form.expr) > 1:
            notes.append("inner values stay float between the quantisers")
        if reasons:
            notes.append(f"passed over: {grouped(reasons)}")
        return replace(found, after=after_of(judge, site, best, around, "; ".join(notes)), reasons=tuple(reasons))

    def _remark(self, site: Site) -> str:
        """Return what else there is to say where no form is left."""
        remarks = []
        if lacking := [op for op in ("Mul", "Add") if self.target.lacks(op)]:
            remarks.append(f"there is no {' and no '.join(lacking)} at all, so that few forms can be written")
        if site.activation == "leaky_relu" and (slope := fixed_slope(self.target)) is not None:
            remarks.append(
                f"`onnxact swap MODEL --from leaky-relu --to leaky-relu --param alpha={slope!r}` takes the slope that "
                "it has, and shows how far that moves the outputs"
            )
        return "; ".join(remarks)


def after_of(judge: Judge, site: Site, best: Candidate, around: Expansion | None = None, note: str = "") -> After:
    """Return what a site becomes in a form that the target runs."""
    exact = False
    if around is None:
        setting = Setting(judge.place.opset, judge.place.dtype)
        before = find_form(ACTIVATIONS[site.activation], site.form)
        exact = site.form == best.name == "op" or same_bits(before, best.form, site.parameters, setting)
    warnings = list(best.doubts)
    if best.form.error:
        name = f"{site.activation.replace('_', '-')} {best.name}"
        warnings.append(f"{name} is another function, up to {best.form.error:g} off")
    warning = "; ".join(warnings)
    return After(
        site.activation, best.name, site.parameters, best.form.expr, exact, note, warning, judge.writing, around
    )


def unfit(site: Site) -> str:
    """Return why nothing can be written at a site; empty where it can."""
    if site.dtype is None:
        return describe_dtype(site)
    if site.scope.opset < LOWEST_OPSET:
        return f"opset {site.scope.opset} is too old for forms; {convert(LOWEST_OPSET)}"
    return ""


def convert(opset: int) -> str:
    """Return how a model gets to an opset."""
    return f"convert the model first: onnx.version_converter.convert_version(model, {opset})"


def _with_declared_types(found: Decision) -> Decision:
    """Return the decision, or none where new values would have to be declared and their shape is not known."""
    after, site = found.after, found.site
    if after is None or after.writing is None or not after.writing.declared:
        return found
    if size(after.expr) <= 1 or site.scope.shape(site.output, infer=True) is not None:
        return found
    reason = f"every new value has to be declared, and the shape of {site.output!r} is not known; declare it"
    return replace(found, after=None, obstacle=reason, reasons=())
