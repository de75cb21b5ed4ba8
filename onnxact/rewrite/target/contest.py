"""(decisions of a target) -> sites in groups, and for each the forms that may be tried in place of what stands there.

PRelu of [1, 64, 112, 112] behind a Conv, slopes in (0, 1]  ->  mul-max, where, relu-min, relu-neg-add, relu-neg

A rival computes the same bits for these parameters; which one is fastest only a clock can tell. Sites of one kind, in
one form, of one shape, behind the same op and with the same rivals are one group and share the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.model.scope import Scope
from onnxact.model.types import Shape
from onnxact.model.view import View
from onnxact.rewrite.after import After
from onnxact.rewrite.recorded import part_of, recorded_sites
from onnxact.rewrite.site import Site, Tensor
from onnxact.rewrite.target.candidates import candidates
from onnxact.rewrite.target.decide import Decision, after_of, unfit
from onnxact.rewrite.target.judge import Judge
from onnxact.rewrite.target.rules import Target
from onnxact.rewrite.target.standing import between_quantisers, place_of

Place = tuple[str, int]
"""The path of a scope, and the index of a site's last node there."""
ALONE = "no other form has the same bits for every input"
ShapeOf = Callable[[str, str], Shape | None]
"""(path of a scope, name of a value) -> its dimensions, None where they are not known."""


class Wish(NamedTuple):
    """What is to become of a site that runs as it stands: another form, or (form "") nothing; and why."""

    form: str
    note: str = ""


class Key(NamedTuple):
    """What the sites of a group have in common. `behind`: the op that makes x, empty for an input of the scope."""

    activation: str
    form: str
    dtype: str
    shape: Shape | None
    behind: str
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    forms: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Sites that share an answer. `reason`: why no form is tried, where none is."""

    key: Key
    sites: tuple[Site, ...]
    reason: str = ""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the sites are."""
        return tuple(place(site) for site in self.sites)

    def wishes(self, form: str, note: str = "") -> dict[Place, Wish]:
        """Return the wish that every site takes a form."""
        return dict.fromkeys(self.places, Wish(form, note))


def place(site: Site) -> Place:
    """Return where a site is, which is the same in every copy of the model."""
    return site.scope.path, site.root


class Rivals:
    """The other forms with the same bits, the best for the target first. Sites of one kind at equal places share."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._found: dict[object, dict[str, After]] = {}

    def of(self, site: Site) -> Mapping[str, After]:
        """Return form -> what the site would become."""
        if unfit(site):
            return {}
        quantised = between_quantisers(site)
        where = place_of(site, self.target)
        key = (site.kind, where.shape, quantised)
        if key not in self._found:
            judge = Judge(self.target, where)
            fitting, _ = candidates(judge, site, quantised=quantised)
            afters = {one.name: after_of(judge, site, one) for one in fitting if not one.same and not one.doubts}
            self._found[key] = {name: after for name, after in afters.items() if after.exact}
        return self._found[key]


class Preferences:
    """Puts wishes in place of what a target's own rules would make of the sites that it runs."""

    def __init__(self, target: Target, wishes: Mapping[Place, Wish]) -> None:
        self._rivals = Rivals(target)
        self._wishes = wishes

    def applied(self, decisions: Iterable[Decision]) -> Iterator[Decision]:
        """Yield the decisions, those about sites that run as they stand with what is wished for them."""
        for decision in decisions:
            yield self._wished(decision) if decision.runs else decision

    def _wished(self, decision: Decision) -> Decision:
        site = decision.site
        wish = self._wishes.get(place(site), Wish(""))
        after = self._rivals.of(site).get(wish.form)
        if after is None:
            return Decision(site, obstacle=wish.note)
        return Decision(site, after=replace(after, note=wish.note))


def groups(view: View, decisions: Iterable[Decision], target: Target, shape_of: ShapeOf) -> list[Group]:
    """Return the sites that the target runs as they stand, in groups, in the order of their first ones."""
    rivals = Rivals(target)
    recorded = set(map(place, recorded_sites(view).values()))
    found: dict[tuple[Key, str], list[Site]] = {}
    for decision in decisions:
        site = decision.site
        if not site.activation or not decision.runs:
            continue
        reason = _why_none(site, recorded)
        forms = () if reason else tuple(rivals.of(site))
        found.setdefault((_key(site, forms, shape_of), "" if forms else reason or ALONE), []).append(site)
    return [Group(key, tuple(sites), reason) for (key, reason), sites in found.items()]


def _key(site: Site, forms: tuple[str, ...], shape_of: ShapeOf) -> Key:
    shape = shape_of(site.scope.path, site.output) or site.scope.shape(site.output)
    parameters = ((name, value.value.shape) for name, value in site.parameters.items() if isinstance(value, Tensor))
    behind = maker(site.scope, site.input)
    return Key(site.activation, site.form, site.dtype or "", shape, behind, tuple(parameters), forms)


def _why_none(site: Site, recorded: Container[Place]) -> str:
    """Return why no form can be tried; empty where the forms themselves are asked."""
    if place(site) in recorded:
        return part_of(site)
    if site.form.partition("[")[0] not in ACTIVATIONS[site.activation].forms:
        return f"is part of a {site.form}"
    return unfit(site)


def maker(scope: Scope, name: str) -> str:
    """Return the op that makes a value in a scope; empty for what comes from outside."""
    index = scope.producers.get(name)
    return scope.op_types[index] if index is not None else ""
