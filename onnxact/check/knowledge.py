"""(before, after, sites) -> what can be known of every site without an input of the models.

What it means in each model, where it is computed, what it does on its own, what can enter it, what surrounds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from onnxact.check.alone import ELEM_TYPES, Alone, Expected, Trier
from onnxact.check.bounds import Values, interval, values_in
from onnxact.check.exchange import Names, differing_constants
from onnxact.check.interval import ANY, Interval
from onnxact.check.meaning import keeps_bits, meaning_of
from onnxact.check.pairing import Pairing
from onnxact.check.placing import Instance, Placed, computed_names, place
from onnxact.check.region import between
from onnxact.check.scopes import Chain
from onnxact.check.site_evidence import FromCaller, Meaning, SiteProbe
from onnxact.check.standard import Standard, Standards
from onnxact.check.subject import Subject
from onnxact.check.surroundings import Surroundings, surroundings
from onnxact.model.view import View
from onnxact.rewrite.find import find

SIDES = ("before", "after")


@dataclass(frozen=True)
class Knowledge:
    """Two models and their sites: those named in `sites`, or if there are none, all that the models have.

    `exact`: on the CPU a site has to keep the bits. Everything is worked out when it is first asked for.
    """

    before: Subject
    after: Subject
    sites: tuple[SiteProbe, ...] = ()
    provider: str = "cpu"
    exact: bool = False

    @cached_property
    def pairing(self) -> Pairing:
        """The two models, indexed."""
        return Pairing(self.before, self.after)

    @cached_property
    def probes(self) -> tuple[SiteProbe, ...]:
        """The sites, with what they mean where that is known."""
        if not self.sites:
            return self.pairing.probes()
        known = [(probe.before is not None and probe.after is not None) or probe.only_in for probe in self.sites]
        pairs = zip(self.sites, known, strict=True)
        return tuple(probe if complete else self.pairing.completed(probe) for probe, complete in pairs)

    @cached_property
    def placed(self) -> tuple[Placed, Placed]:
        """Where every site is computed in each model."""
        scoped = any(probe.scope for probe in self.probes)
        first = [probe for probe in self.probes if probe.only_in != "after"]
        second = [probe for probe in self.probes if probe.only_in != "before"]
        same = {probe.scope: probe.scope for probe in self.probes}
        own = {probe.scope: probe.scope for probe in second if probe.only_in}
        paths = {**self.pairing.paths, **own} if scoped else {}
        return place(self.before, first, same, "before"), place(self.after, second, paths, "after")

    def dtype(self, probe: SiteProbe) -> str:
        """The dtype of a site by NumPy's name; "" for another than a floating one, or where it is not known."""
        if probe not in self._dtypes:
            self._dtypes[probe] = self._dtype(probe)
        return self._dtypes[probe]

    @cached_property
    def _dtypes(self) -> dict[SiteProbe, str]:
        return {}

    def _dtype(self, probe: SiteProbe) -> str:
        stated = [meaning.dtype for meaning in (probe.before, probe.after) if meaning is not None and meaning.dtype]
        if stated:
            return stated[0]
        side = 1 if probe.only_in == "after" else 0
        for instance in self.placed[side].instances.get(probe, ()):
            name = instance.names[1]
            scopes = (scope for scope in self._views[side].scopes if scope.declares(name))
            found = next((scope.dtype(name) for scope in scopes), None)
            if found is not None:
                return found
        return ""

    @cached_property
    def _views(self) -> tuple[View, View]:
        """Each model, with its functions inlined where a site is in one."""
        first, second = self.placed
        views = [
            pairing if placed.marked is None else View(placed.marked, placed.subject.folder)
            for placed, pairing in zip((first, second), self.pairing.views, strict=True)
        ]
        return views[0], views[1]

    # What a site is held against

    def standards(self, probe: SiteProbe, side: int) -> tuple[Standard | None, ...]:
        """What each computation of a site in one model is held against, None where nothing is known of it."""
        return tuple(pair[side] for pair in self._standards[probe]) if probe in self._standards else ()

    @cached_property
    def _standards(self) -> Mapping[SiteProbe, tuple[Standards, ...]]:
        return {probe: tuple(self._of_places(probe)) for probe in self.probes}

    def _of_places(self, probe: SiteProbe) -> list[Standards]:
        meanings = probe.before, probe.after
        places = [placed.instances.get(probe, ()) for placed in self.placed]
        count = max(map(len, places))
        if not any(_depends_on_caller(meaning) for meaning in meanings):
            return [self._pair(*meanings)] * count
        found = [
            [self._resolved(side, meaning, place) for place in places[side]] for side, meaning in enumerate(meanings)
        ]
        padded = [[*items, *[None] * (count - len(items))] for items in found]
        return [self._pair(first, _as(first, second, probe.after)) for first, second in zip(*padded, strict=True)]

    def _resolved(self, side: int, meaning: Meaning | None, place: Instance) -> Meaning | None:
        """What a site in a function means in one call of it."""
        return self._inlined[side].get(place.names[1]) if _depends_on_caller(meaning) else meaning

    @cached_property
    def _inlined(self) -> tuple[Mapping[str, Meaning], Mapping[str, Meaning]]:
        """Output -> meaning of the sites of each model with its functions inlined."""
        first, second = (_meanings(view) for view in self._views)
        return first, second

    def _pair(self, before: Meaning | None, after: Meaning | None) -> Standards:
        """Most sites of a model mean the same: what is worked out of a standard is so once."""
        key = before, after, before is after
        if key not in self._pairs:
            self._pairs[key] = self._new_pair(before, after)
        return self._pairs[key]

    @cached_property
    def _pairs(self) -> dict[tuple[Meaning | None, Meaning | None, bool], Standards]:
        return {}

    def _new_pair(self, before: Meaning | None, after: Meaning | None) -> Standards:
        function = before or after
        if function is None or _depends_on_caller(function):
            return None, None
        on_cpu = self.provider == "cpu"
        kept = on_cpu and keeps_bits(function)
        first, second = (
            Standard(
                function,
                own,
                exact=kept and (self.exact or (own is not None and own.exact)) and not _is_narrow(function),
                on_cpu=on_cpu,
                defines=own is function,
                is_recognised=was_found,
            )
            for own, was_found in ((before, True), (None if _depends_on_caller(after) else after, not self.sites))
        )
        return first, second

    # What it does on its own

    @cached_property
    def alone(self) -> Mapping[SiteProbe, Alone]:
        """What every site that is in both models does on its own."""
        trier = Trier(*self.placed, self.provider, self.exact and self.provider == "cpu")
        wanted = [probe for probe in self.probes if not probe.only_in and self.dtype(probe) in ELEM_TYPES]
        return trier.run({probe: self._expected(probe) for probe in wanted})

    def _expected(self, probe: SiteProbe) -> Expected:
        return Expected(self.dtype(probe), self._standards[probe])

    def is_identical(self, probe: SiteProbe) -> bool:
        """Whether a site is the same to the byte in both models."""
        found = self.alone.get(probe)
        return found is not None and found.text == "identical"

    def is_settled(self, probe: SiteProbe) -> bool:
        """Whether a site needs no inputs: it is the same on its own, and so is everything around it."""
        found = self.alone.get(probe)
        return found is not None and found.is_same and not self.surroundings.difference

    @cached_property
    def surroundings(self) -> Surroundings:
        """What is not the same in both models outside the sites."""
        pairing = self.pairing
        return surroundings(self.before, self.after, pairing.views, self.probes, pairing.paths)

    @cached_property
    def other_constants(self) -> tuple[Names, ...]:
        """The constants outside the sites that are not the same: where the structure is, all; else those in aligned
        places of the main graphs.
        """
        if not self.surroundings.structure:
            return self.surroundings.constants
        return differing_constants(self.pairing.graphs, self.pairing.alignment, (self._inner(0), self._inner(1)))

    def _inner(self, side: int) -> set[int]:
        """The positions of the nodes of all sites of the main graph of one model."""
        graph, skipped = self.pairing.graphs[side], SIDES[1 - side]
        probes = [probe for probe in self.probes if not probe.scope and probe.only_in != skipped]
        found: set[int] = set()
        for probe in probes:
            entering, leaving = probe.names(SIDES[side])
            operands = {*computed_names(probe.before), *computed_names(probe.after)} - {entering}
            found.update(between(graph.nodes, graph.made_by, {entering, *operands}, leaving))
        return found

    # What can enter it

    def possible(self, probe: SiteProbe) -> Interval:
        """What can enter a site, by its graph."""
        side = 1 if probe.only_in == "after" else 0
        found: Interval | None = None
        for instance in self.placed[side].instances.get(probe, ()):
            values, known = self._values(instance.chain)
            here = interval(values, instance.names[0], known)
            found = here if found is None else found.hull(here)
        return ANY if found is None else found

    def _values(self, chain: Chain) -> tuple[Values, dict[str, Interval]]:
        if chain not in self._known_values:
            self._known_values[chain] = values_in(chain), {}
        return self._known_values[chain]

    @cached_property
    def _known_values(self) -> dict[Chain, tuple[Values, dict[str, Interval]]]:
        return {}


def _is_narrow(meaning: Meaning) -> bool:
    """Whether ONNX Runtime may compute with more bits than the values that it gives: 16-bit types (see allowance)."""
    return meaning.dtype in {"float16", "bfloat16"}


def _depends_on_caller(meaning: Meaning | None) -> bool:
    return meaning is not None and any(isinstance(value, FromCaller) for _, value in meaning.parameters)


def _as(before: Meaning | None, found: Meaning | None, claimed: Meaning | None) -> Meaning | None:
    """What a site became in one call: what is found there, or what it is said to be with the parameters of before."""
    if found is not None or before is None or claimed is None or claimed.activation != before.activation:
        return found
    return replace(claimed, parameters=before.parameters)


def _meanings(view: View) -> dict[str, Meaning]:
    return {
        site.output: meaning_of(site.activation, site.form, site.parameters, site.dtype) for site in find(view).sites
    }
