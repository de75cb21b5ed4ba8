"""(activation, place) -> the forms in which a target runs it, the best first, and why the others are out.

The best is the same function before one that comes near it, exact before inexact, sure before doubtful, right for
special inputs before not, taken for one layer before node by node, then of the fewest nodes, then in the table itself,
then another op before the same one with other constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from onnxact.activation.catalog import ACTIVATIONS, FAMILIES, FIXED_SLOPE, Activation, Form
from onnxact.activation.expr import TRUE, size
from onnxact.activation.forms import Lowered, derivations, family_member
from onnxact.errors import UsageError
from onnxact.rewrite.choose import Setting, is_exact, obstacle
from onnxact.rewrite.obstacle import version_obstacle
from onnxact.rewrite.site import Site
from onnxact.rewrite.target.judge import Judge, summed
from onnxact.rewrite.target.rules import Target

ASK = "give --allow-inexact"
Reason = tuple[str, str]
"""A form's name, and what speaks against it."""


class Candidate(NamedTuple):
    """A form that a target runs. `lossy`: why it has to be asked for; empty where it may be taken as it is."""

    name: str
    form: Form
    exact: bool
    doubts: tuple[str, ...]
    recognised: bool
    derived: bool
    same: bool
    """Whether it is the form that the site has, with its constants written as the target takes them."""
    lossy: str

    @property
    def order(self) -> tuple[object, ...]:
        """What is compared to find the best: see the module."""
        special = 0 if self.exact and self.form.exact is not TRUE else len(self.form.special)
        quality = (self.form.error, not self.exact, bool(self.doubts), special)
        return (*quality, not self.recognised, size(self.form.expr), self.derived, self.same)

    def why_after(self, best: Candidate) -> str:
        """Return why another one was taken."""
        if self.form.error:
            return self.lossy
        if best.exact and not self.exact:
            return "not exact"
        if self.doubts and not best.doubts:
            return f"not sure: {self.doubts[0]}"
        special = set(self.form.special) - set(best.form.special)
        return f"gives another result at {', '.join(sorted(special))}" if special else "more nodes"


def candidates(judge: Judge, site: Site, *, quantised: bool) -> tuple[list[Candidate], list[Reason]]:
    """Return the best way to write each form that the target runs at a site, sorted; and why the others are out.

    quantised: the site stands between two quantisers.
    """
    activation = ACTIVATIONS[site.activation]
    found: list[Candidate] = []
    reasons: list[Reason] = []
    own = {form.expr: name for name, form in activation.forms.items()}
    for name, form in _forms(activation, judge.target):
        ways = [way for way in _ways(judge, activation, name, form) if own.get(way.form.expr, name) == name]
        obstacles = [_obstacle(judge, site, way.form, quantised=quantised) for way in ways]
        usable = [_candidate(judge, site, w) for w, reason in zip(ways, obstacles, strict=True) if not reason]
        if usable:
            found.append(min(usable, key=lambda one: one.order))
        elif not name == site.form == "op":
            reasons.append((name, next(filter(None, obstacles), "") or _refused(judge, form)))
    return sorted(found, key=lambda one: one.order), reasons


def _forms(activation: Activation, target: Target) -> Iterator[Lowered]:
    """Yield the forms of the table; of a family the one with the number that the target has."""
    for name, form in activation.forms.items():
        yield _own_member(name, fixed_slope(target)) or Lowered(name, form)


def _own_member(name: str, slope: float | None) -> Lowered | None:
    """Return the form of a family with a target's own number; None where it has none, or one that gives no form."""
    if name not in FAMILIES or slope in (None, FIXED_SLOPE):
        return None
    try:
        return family_member(name, slope or 0.0)
    except UsageError:
        return None


def fixed_slope(target: Target) -> float | None:
    """Return the only slope that a target's LeakyRelu has, None where it has more."""
    conditions = [rule.when for rule in target.rules("LeakyRelu") if rule.when is not None]
    return conditions[0].pinned("alpha") if conditions else None


def _ways(judge: Judge, activation: Activation, name: str, form: Form) -> Iterator[Lowered]:
    """Yield a form, and what is derived from it, as far as the target runs it."""
    recognised = name in judge.target.patterns.get(activation.name, ())
    if recognised or (name == "op" and not judge.form(form.expr)):
        yield Lowered(name, form)
    elif form.emitted and name != "op":
        yield from derivations(name, form, lambda call: judge.call(call) is not None, judge.values)


def _obstacle(judge: Judge, site: Site, form: Form, *, quantised: bool) -> str:
    setting = Setting(judge.place.opset, judge.place.dtype)
    reason = obstacle(form, site.parameters, setting) or version_obstacle(site, form.expr)
    if not reason and quantised and judge.target.quantised and size(form.expr) > 1:
        return "every value has to be quantised, and nothing says how its inner values are"
    return reason


def _candidate(judge: Judge, site: Site, way: Lowered) -> Candidate:
    name, form = way
    activation = ACTIVATIONS[site.activation]
    exact = is_exact(form, judge.place.parameters, judge.place.dtype)
    native = activation.forms.get("op")
    lossy = ""
    if form.error:
        lossy = f"comes within {form.error:g} of it, and is another function; {ASK}"
    elif native is not None and not exact and is_exact(native, judge.place.parameters, judge.place.dtype):
        lossy = f"rounds where the op does not; {ASK}"
    recognised = name in judge.target.patterns.get(activation.name, ())
    doubts = () if recognised else tuple(judge.doubts(form.expr))
    return Candidate(name, form, exact, doubts, recognised, name not in activation.forms, name == site.form, lossy)


def _refused(judge: Judge, form: Form) -> str:
    if not form.emitted:
        return "numerically inferior: it is recognised, never written"
    return summed(judge.form(form.expr)) or "comes down to another form"


def grouped(reasons: Iterable[Reason]) -> str:
    """Return what speaks against forms, each reason once: "erf, erf-mul: no Erf; tanh: ..."."""
    forms: dict[str, list[str]] = {}
    for name, reason in reasons:
        forms.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in forms.items())
