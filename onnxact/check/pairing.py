"""(before, after) -> the sites of two models that nothing says to be rewrites of each other, in pairs.

before: x -> LeakyRelu(0.2) -> y,   after: x -> Mul, Max -> y   ->   one site x -> y, leaky_relu in two forms

Sites are paired by scope and the value that they make, then by node name; where names do not do, by the alignment of
the two graphs. What is recognised in one model only is looked at in the other between values of the same names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.check.alignment import Alignment, align
from onnxact.check.fingerprint import Indexed
from onnxact.check.meaning import channel_axis, kinks, meaning_of, same_function
from onnxact.check.region import between
from onnxact.check.scopes import matching_paths
from onnxact.check.site_evidence import Meaning, SiteProbe
from onnxact.check.subject import Subject
from onnxact.model.scope import Scope
from onnxact.model.view import View
from onnxact.rewrite.find import Pattern, find, site_of
from onnxact.rewrite.match import matches
from onnxact.rewrite.recorded import recorded_sites
from onnxact.rewrite.site import Site

Place = tuple[str, str]
"""Scope path, and the value that a site makes there."""
_RANDOM = {"noisy_relu"}


@dataclass(frozen=True)
class Pairing:
    """Two models, and the sites that were found in each."""

    before: Subject
    after: Subject

    @cached_property
    def views(self) -> tuple[View, View]:
        """The two models, indexed; models of the same content are one."""
        first, same = self.before.view, self.before.has_content_of(self.after)
        return first, first if same else self.after.view

    @cached_property
    def sites(self) -> tuple[Mapping[Place, Site], Mapping[Place, Site]]:
        """(scope path, output) -> site, in both models, in the order of the nodes; those on floating tensors."""
        first, second = self.views
        found = _floating(first)
        return found, found if second is first else _floating(second)

    @cached_property
    def paths(self) -> Mapping[str, str]:
        """Scope path before -> scope path after."""
        return matching_paths(*self.views)

    def completed(self, probe: SiteProbe) -> SiteProbe:
        """A site that was named by its values alone, with what it computes where that is recognised."""
        first = self._named(0, probe.scope, probe.names("before"))
        second = self._named(1, self.paths.get(probe.scope, ""), probe.names("after"))
        before = probe.before or (None if first is None else _meaning(first))
        after = probe.after or (None if second is None else _meaning(second))
        if after is None and first is not None:
            after = self._recognised(first, (self.paths.get(probe.scope, ""), *probe.names("after")))
        return replace(probe, before=before, after=after)

    def _named(self, side: int, path: str, names: tuple[str, str]) -> Site | None:
        site = self.sites[side].get((path, names[1]))
        return site if site is not None and site.input == names[0] else None

    def probes(self) -> tuple[SiteProbe, ...]:
        """Every site of both models, those of `before` first."""
        first, second = self.sites
        places = {own: self._counterpart(*own, site) for own, site in first.items()}
        known = {own: place for own, place in places.items() if place is not None and place in second}
        found = [*self._of_before(places, known), *self._of_after({place: own for own, place in known.items()})]
        settled = [probe for probe in found if not _is_random(probe)]
        steps = self._steps(settled)
        return tuple(probe for probe in settled if (probe.only_in, probe.scope, probe.output) not in steps)

    def _of_before(self, places: Mapping[Place, Place | None], known: Mapping[Place, Place]) -> Iterator[SiteProbe]:
        """The sites of `before`, at their places in `after`; those that were merged into another are that one there."""
        first, second = self.sites
        twins = _twins(first, known)
        for own, site in first.items():
            place = places[own] or (known[twins[own]] if own in twins else None)
            yield self._paired(site, place, None if place is None else second.get(place))

    def _of_after(self, known: Mapping[Place, Place]) -> Iterator[SiteProbe]:
        """The sites of `after` that are at no place of one of `before`."""
        first, second = self.sites
        twins = _twins(second, known)
        for place, site in second.items():
            if place in twins:
                yield self._paired(first[known[twins[place]]], place, site)
            elif place not in known:
                yield self._unpaired(site)

    @cached_property
    def scopes(self) -> tuple[Mapping[str, Scope], Mapping[str, Scope]]:
        """Scope path -> scope, in both models."""
        return self.views[0].by_path, self.views[1].by_path

    @cached_property
    def _back(self) -> dict[str, str]:
        return {after: before for before, after in self.paths.items()}

    @cached_property
    def _by_node(self) -> dict[tuple[str, str], tuple[str, str]]:
        """(scope path, node name) -> place, in `after`, where the name is given once."""
        second = self.sites[1]
        counts = Counter((path, site.node) for (path, _), site in second.items())
        named = {(path, site.node): (path, output) for (path, output), site in second.items() if site.node}
        return {key: place for key, place in named.items() if counts[key] == 1}

    @cached_property
    def graphs(self) -> tuple[Indexed, Indexed]:
        """Both main graphs."""
        first, second = (Indexed(subject.model.graph, subject.folder) for subject in (self.before, self.after))
        return first, second

    @cached_property
    def alignment(self) -> Alignment:
        """Which value of the main graph is which."""
        return align(*self.graphs)

    @cached_property
    def _aligned(self) -> dict[str, str]:
        """Value name of the main graph before -> after."""
        return self.alignment.to_after()

    def _counterpart(self, path: str, output: str, site: Site) -> Place | None:
        """Where in `after` the value is that this site makes before."""
        where = self.paths.get(path)
        if where is None:
            return None
        if self.scopes[1][where].owner(output) is not None:
            return where, output
        by_node = self._by_node.get((where, site.node)) if site.node else None
        if by_node is not None:
            return by_node
        aligned = "" if path else self._aligned.get(output, "")
        return (where, aligned) if aligned and ("", aligned) not in self.sites[0] else None

    def _paired(self, site: Site, place: Place | None, other: Site | None) -> SiteProbe:
        """A site of `before` with what stands in its place."""
        meaning, node, path = _meaning(site), site.node, site.scope.path
        if place is None:
            return _probe(path, node, (site.input, site.output), before=meaning, only_in="before")
        if other is None:
            entering = self._entering(site, place[0])
            if not entering:
                return _probe(path, node, (site.input, site.output), before=meaning, only_in="before")
            after = self._recognised(site, (place[0], entering, place[1]))
            return _probe(path, node, (site.input, site.output), (entering, place[1]), before=meaning, after=after)
        theirs = _meaning(other)
        if other.input != site.input and not same_function(meaning, theirs):
            return self._with_other_inputs(site, other, place)
        return _probe(path, node, (site.input, site.output), (other.input, other.output), before=meaning, after=theirs)

    def _recognised(self, site: Site, where: tuple[str, str, str]) -> Meaning | None:
        """The same function in `after`, where its constants are those of a form but do not tell the parameters.

        where: scope path, value that enters, value that leaves.
        """
        path, entering, leaving = where
        scope, row = self.scopes[1][path], ACTIVATIONS[site.activation]
        index = scope.producers.get(leaving)
        for name, form in row.forms.items() if index is not None else ():
            for match in matches(scope, form.expr, index or 0):
                pattern = Pattern(row, name, form, scope.op_types[index or 0], 0)
                found, _ = site_of(scope, pattern, index or 0, match, site.parameters, recorded=True)
                if found is not None and found.input == entering:
                    return _meaning(found)
        return None

    def _steps(self, probes: Sequence[SiteProbe]) -> set[tuple[str, str, str]]:
        """(model, scope path there, value) of what is a step on the way through a site of both models, where sites of
        one model only could be one: Relu in a form that was not recognised at once.
        """
        only = {probe.only_in for probe in probes}
        found: set[tuple[str, str, str]] = set()
        for probe in probes:
            paths = probe.scope, self.paths.get(probe.scope, "")
            for side, meaning, path in zip(("before", "after"), (probe.before, probe.after), paths, strict=True):
                if not probe.only_in and side in only and (meaning is None or meaning.form != "op"):
                    scope = self.scopes[0 if side == "before" else 1][path]
                    found.update((side, path, name) for name in _inner_values(scope, *probe.names(side)))
        return found

    def _entering(self, site: Site, where: str) -> str:
        """The name in `after` of the value that enters a site of `before`; "" where there is none."""
        if self.scopes[1][where].owner(site.input) is not None:
            return site.input
        return "" if where else self._aligned.get(site.input, "")

    def _with_other_inputs(self, site: Site, other: Site, place: Place) -> SiteProbe:
        """Sites of different functions that make the same value of different ones: one is a step of something larger,
        which is looked at from the input of the other on.
        """
        path, node = site.scope.path, site.node
        if self.scopes[1][place[0]].owner(site.input) is not None:
            return _probe(path, node, (site.input, site.output), (site.input, place[1]), before=_meaning(site))
        if self.scopes[0][path].owner(other.input) is not None:
            names = (other.input, site.output), (other.input, other.output)
            return _probe(path, node, *names, after=_meaning(other))
        names = (site.input, site.output), (other.input, other.output)
        return _probe(path, node, *names, before=_meaning(site), after=_meaning(other))

    def _unpaired(self, site: Site) -> SiteProbe:
        """A site of `after`; where its values are in `before` too, what computes one from the other there."""
        meaning, names = _meaning(site), (site.input, site.output)
        path = self._back.get(site.scope.path)
        scope = None if path is None else self.scopes[0].get(path)
        if path is None or scope is None or any(scope.owner(name) is None for name in names):
            return _probe(site.scope.path, site.node, names, after=meaning, only_in="after")
        return _probe(path, site.node, names, after=meaning)


def _twins(sites: Mapping[Place, Site], paired: Mapping[Place, Place]) -> dict[Place, Place]:
    """Site -> a paired one of the same model that computes the same of the same value: of equal ones, optimisers keep
    one.
    """
    by_input: dict[tuple[str, str, str], list[Place]] = {}
    for path, output in paired:
        site = sites[path, output]
        by_input.setdefault((path, site.input, site.activation), []).append((path, output))
    found: dict[Place, Place] = {}
    for own, site in sites.items():
        for twin in by_input.get((own[0], site.input, site.activation), ()) if own not in paired else ():
            if same_function(_meaning(site), _meaning(sites[twin])):
                found.setdefault(own, twin)
    return found


def _floating(view: View) -> dict[Place, Site]:
    """Sites on floating tensors, or of a type that is not known. What a rewrite recorded goes before what is recognised
    in its steps.
    """
    recorded = recorded_sites(view)
    return {
        (site.scope.path, site.output): site
        for site in (*find(view, known=recorded).sites, *dict.fromkeys(recorded.values()))
        if not site.scope.frozen and _is_elementwise(site)
    }


def _is_elementwise(site: Site) -> bool:
    """Whether a site is a form of the table on floating values: a fused node computes more than its activation."""
    row = ACTIVATIONS.get(site.activation)
    floating = site.dtype is not None or not site.scope.types.elem_type(site.output)
    return floating and row is not None and site.form.partition("[")[0] in row.forms


def _is_random(probe: SiteProbe) -> bool:
    """Whether a site gives something else at every run, so that nothing can be said of it."""
    return any(meaning is not None and meaning.activation in _RANDOM for meaning in (probe.before, probe.after))


def _meaning(site: Site) -> Meaning:
    return meaning_of(site.activation, site.form, site.parameters, site.dtype)


def _probe(
    scope: str,
    node: str,
    names: tuple[str, str],
    names_after: tuple[str, str] = ("", ""),
    *,
    before: Meaning | None = None,
    after: Meaning | None = None,
    only_in: str = "",
) -> SiteProbe:
    others = (after if after != before else "" for before, after in zip(names, names_after, strict=True))
    axis = channel_axis(before, after)
    return SiteProbe(scope, node, *names, kinks(before, after), axis, before, after, only_in, *others)


def _inner_values(scope: Scope, entering: str, leaving: str) -> Iterator[str]:
    for index in between(scope.nodes, scope.producers, {entering}, leaving):
        yield from (name for name in scope.nodes[index].output if name != leaving)
