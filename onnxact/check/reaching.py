"""(before, after, sites, inputs) -> whether what is not the same in the two models was reached, and further inputs.

A body that is not the same and never runs, or a choice that is never made, shows nothing by outputs that agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from onnx import ModelProto

from onnxact.check.branching import Branch, branches, is_decided
from onnxact.check.changes import Changes, changes
from onnxact.check.digests import Sites
from onnxact.check.inputs import Feed
from onnxact.check.interval import Interval
from onnxact.check.knowledge import SIDES, Knowledge
from onnxact.check.lifting import lift
from onnxact.check.placing import computed_names, place
from onnxact.check.site_evidence import SiteProbe
from onnxact.check.watching import Watched, Watcher, Watching

Search = Callable[[ModelProto, Sequence[str]], Iterable[Feed]]
"""(a model, names of its conditions) -> further inputs that may turn those."""


@dataclass(frozen=True)
class Reached:
    """Why nothing shows what some differences come to, in words, and the further inputs that reached others."""

    doubts: tuple[str, ...] = ()
    feeds: tuple[Feed, ...] = ()


@dataclass(frozen=True)
class Reach:
    """How the models are run. `memory_budget`, in bytes, is for values held at a time."""

    known: Knowledge
    search: Search
    memory_budget: int

    def run(self, feeds: tuple[Feed, ...]) -> Reached:
        """Run both models on `feeds`, and on others for what those do not reach; optimisation is off."""
        known = self.known
        sites = _same_sites(known, 0), _same_sites(known, 1)
        if len(sites[0]) == len(known.probes) and not known.surroundings.difference:
            return Reached()
        found = changes((known.before, known.after), known.pairing.views, sites)
        doubts: list[str] = []
        kept: tuple[Feed, ...] = ()
        for side in range(len(SIDES)):
            wanted = self._wanted(found, side)
            seen = self._watch(side, wanted, (*feeds, *kept)) if wanted else Watching()
            kept = seen.kept if wanted else kept
            doubts += [_doubt(item, seen) for item in wanted]
        return Reached(tuple(dict.fromkeys(filter(None, doubts))), kept)

    def _wanted(self, found: Changes, side: int) -> list[Branch]:
        scopes = self.known.pairing.views[side].by_path
        return [item for item in branches(found, side) if not is_decided(scopes[item.probe.scope], item.probe.input)]

    def _watch(self, side: int, wanted: Sequence[Branch], feeds: tuple[Feed, ...]) -> Watching:
        subject = (self.known.before, self.known.after)[side]
        ends = _ends(wanted)
        placed = place(subject, list(ends), {probe.scope: probe.scope for probe in ends}, SIDES[side])
        lifted = lift(placed, set(ends), {item.probe: item.elem_type for item in wanted})
        watcher = Watcher(
            self.known.provider,
            self.memory_budget,
            lambda: self.search(subject.model, [probe.input for probe in ends]),
            demand_finite=True,
        )
        watched = [Watched(probe, possible=_always(interval)) for probe, interval in ends.items()]
        lifted = replace(lifted, problems={**placed.problems, **lifted.problems})
        return watcher.run(lifted, watched, feeds)


def _same_sites(known: Knowledge, side: int) -> Sites:
    """The sites of one model that are the same on their own in both.

    One with a parameter that is computed depends on more than what enters it, so that its nodes count. Where one side
    is no form of the table, what it chooses counts with the rest: points that were tried need not turn a condition that
    nobody knows.
    """
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for number, probe in enumerate(known.probes):
        alone = known.alone.get(probe)
        if computed_names(probe.before) or computed_names(probe.after):
            continue
        is_known = probe.before is not None and probe.after is not None
        if alone is not None and alone.is_same and (is_known or alone.is_identical):
            path = known.pairing.paths.get(probe.scope, "") if side and probe.scope else probe.scope
            entering, leaving = probe.names(SIDES[side])
            found[path, leaving] = entering, str(number)
    return found


def _ends(wanted: Sequence[Branch]) -> dict[SiteProbe, Interval]:
    """All that is wanted of each value."""
    found: dict[SiteProbe, Interval] = {}
    for item in wanted:
        found[item.probe] = item.wanted.hull(found.get(item.probe, item.wanted))
    return found


def _always(interval: Interval) -> Callable[[], Interval]:
    return lambda: interval


def _doubt(item: Branch, seen: Watching) -> str:
    found = seen.seen.get(item.probe)
    return item.doubt(None if found is None else found.tally, seen.problems.get(item.probe, ""))
