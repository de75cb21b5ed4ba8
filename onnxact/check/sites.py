"""(before, after, inputs) -> the evidence of every site: what went through it, what it computed, and what follows.

For every site of the two models: what it does on its own; what enters and leaves it while both models run; whether
anything but sites tells the models apart; further inputs for branches that none of this settles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnx import ModelProto

from onnxact.check.agreement import agreeing
from onnxact.check.alone import ELEM_TYPES, Alone
from onnxact.check.exchange import Exchange
from onnxact.check.inputs import Feed
from onnxact.check.interval import ANY, Interval
from onnxact.check.knowledge import Knowledge
from onnxact.check.lifting import Lifted, lift
from onnxact.check.placing import computed_names
from onnxact.check.reaching import Reach, Search
from onnxact.check.session import open_session, runs
from onnxact.check.site_evidence import SiteEvidence, SiteProbe
from onnxact.check.site_outcome import Found, evidence_of
from onnxact.check.sizing import sizes_between
from onnxact.check.stretch import Stretches
from onnxact.check.subject import Subject
from onnxact.check.tally import missing
from onnxact.check.tolerance import Tolerance
from onnxact.check.unlike import Unlike
from onnxact.check.watching import Candidates, Seen, Watched, Watcher, Watching

Progress = Callable[[str, float], None]
DEFAULT_MEMORY_BUDGET = 1 << 28


def _nothing(_model: ModelProto, _conditions: Sequence[str]) -> tuple[Feed, ...]:
    return ()


def _silent(_what: str, _done: float) -> None:
    return


@dataclass(frozen=True)
class SiteJob:
    """What is to be looked at. `sites`: those of a rewrite; nothing for all that the two models have.

    `feeds` are the sets of inputs, `candidates` makes further ones, `search` those that may turn conditions, `sized`
    those with dimensions of size 1 and of given ones. `tolerance` is that of outputs, `limits` what inputs lie in;
    `exact`: on the CPU a site has to keep the bits. `memory_budget`, in bytes, is for values held at a time.
    """

    before: Subject
    after: Subject
    feeds: tuple[Feed, ...]
    candidates: Candidates = tuple
    sites: tuple[SiteProbe, ...] = ()
    provider: str = "cpu"
    exact: bool = False
    memory_budget: int = DEFAULT_MEMORY_BUDGET
    progress: Progress = _silent
    search: Search = _nothing
    sized: Callable[[Sequence[int]], Iterable[Feed]] = lambda _sizes: ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    limits: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """The evidence of every site, in the order given, and the further inputs that it took.

    `exchange` is of the constants outside the sites that are not the same; of a rewrite, which has none, they are not
    looked at. `doubts`: what else is not the same in the two models and was not reached, in words. `besides`: the first
    of what is not the same outside the sites, in words; `unlike` tries all such parts on their own, None where there
    are but constants.
    """

    exchange: Exchange | None = None
    evidence: tuple[SiteEvidence, ...] = ()
    feeds: tuple[Feed, ...] = ()
    doubts: tuple[str, ...] = ()
    besides: str = ""
    unlike: Unlike | None = None


def judge_sites(job: SiteJob) -> Judged:
    """Look at every site of a rewrite, or of two models of which nothing is known. Optimisation is off throughout.

    Raises ProviderError where a session does not get the provider.
    """
    known = Knowledge(job.before, job.after, job.sites, job.provider, job.exact)
    exchange = Exchange(job.before, job.after, () if job.sites else known.other_constants, job.feeds, job.provider)
    found = _judged(job, known, exchange) if known.probes else Judged(exchange)
    reached = Reach(known, job.search, job.memory_budget).run((*job.feeds, *found.feeds))
    further = (*found.feeds, *reached.feeds, *_sized(job, known))
    exchange = replace(exchange, feeds=(*job.feeds, *further))
    found = replace(found, exchange=exchange, feeds=further, doubts=reached.doubts)
    return found if job.sites else replace(found, besides=known.surroundings.difference, unlike=_unlike(job, known))


def _sized(job: SiteJob, known: Knowledge) -> Iterator[Feed]:
    """For models with other nodes, inputs of other sizes on which the first runs; of those with dimensions of size 1,
    at which an op may have nothing left to work on, only where both run.
    """
    if job.sites or not known.surroundings.structure:
        return
    single = list(job.sized(()))
    others = [feed for feed in job.sized(sizes_between(*known.pairing.graphs)) if feed.label not in _labels(single)]
    models = (job.before, job.after) if single else (job.before,)
    sessions = [open_session(model, job.provider, optimise=False) for model in models] if single or others else []
    yield from (feed for feed in single if all(runs(session, feed.values) for session in sessions))
    yield from (feed for feed in others if runs(sessions[0], feed.values))


def _labels(feeds: Sequence[Feed]) -> set[str]:
    return {feed.label for feed in feeds}


def _unlike(job: SiteJob, known: Knowledge) -> Unlike | None:
    if not known.surroundings.structure:
        return None
    ends = [(probe.names("before"), probe.names("after")) for probe in known.probes if _is_in_both(probe)]
    sites = {(first[1], second[1]): (first[0], second[0]) for first, second in ends}
    return Unlike(
        job.before, job.after, job.feeds[0], job.provider, job.memory_budget, sites, job.tolerance, job.limits
    )


def _is_in_both(probe: SiteProbe) -> bool:
    """Whether a site of both main graphs is a function of what enters it alone."""
    known = not probe.scope and not probe.only_in and probe.before is not None and probe.after is not None
    return known and not computed_names(probe.before) and not computed_names(probe.after)


def _judged(job: SiteJob, known: Knowledge, exchange: Exchange) -> Judged:
    job.progress("running sites on their own", 0.1)
    watched = _Watched(job, known)
    job.progress("observing sites", 0.12)
    before = watched.before()
    feeds = (*job.feeds, *before.kept)
    job.progress("observing sites", 0.16)
    after = watched.after(feeds, before)
    around = Stretches(known, job.provider, feeds, job.memory_budget).run()
    alone = {**known.alone, **around}
    found = [_found(known, probe, before, after, alone.get(probe)) for probe in known.probes]
    agree = _agreeing(job, known, [item.probe for item in found if item.asks_for_agreement], before.kept)
    evidence = (evidence_of(replace(item, agrees=agree.get(item.probe, False))) for item in found)
    return Judged(exchange, tuple(evidence), before.kept)


@dataclass(frozen=True)
class _Watched:
    """Both models as they run, with their sites."""

    job: SiteJob
    known: Knowledge

    def before(self) -> Watching:
        """All sites of the first model, on further inputs where nothing settles them; a site that is the same to the
        byte in both models is only counted.
        """
        job, known = self.job, self.known
        watcher = Watcher(job.provider, job.memory_budget, job.candidates, known.is_settled, demand_finite=True)
        watched = [self._watch(probe, 0) for probe in known.probes if probe.only_in != "after"]
        return self._run(watcher, 0, watched, job.feeds)

    def after(self, feeds: tuple[Feed, ...], before: Watching) -> Watching:
        """The sites of the second model that are not the same to the byte in the first, on the inputs on which those of
        the first were judged; the sites that are in the second only, on all.
        """
        known = self.known
        watcher = Watcher(self.job.provider, self.job.memory_budget, thorough=True)
        probes = [probe for probe in known.probes if probe.only_in != "before" and not known.is_identical(probe)]
        watched = [
            replace(self._watch(probe, 1), judged_on=None if probe.only_in else _judged_on(before, probe, feeds))
            for probe in probes
        ]
        return self._run(watcher, 1, watched, feeds) if probes else Watching()

    def _run(self, watcher: Watcher, side: int, watched: Sequence[Watched], feeds: tuple[Feed, ...]) -> Watching:
        """All together; where ONNX Runtime does not let some values out of their bodies, each such site for itself."""
        placed, by_probe = self.known.placed[side], {item.probe: item for item in watched}
        found = watcher.run(self._lifted(side, list(by_probe)), watched, feeds)
        if placed.marked is None or len(watched) == 1:
            return found
        for probe in [probe for probe in found.problems if probe not in placed.problems]:
            again = watcher.run(self._lifted(side, [probe]), [by_probe[probe]], (*feeds, *found.kept))
            others = {other: text for other, text in found.problems.items() if other != probe}
            seen = {**found.seen, **again.seen}
            found = Watching(seen, {**others, **again.problems}, (*found.kept, *again.kept))
        return found

    def _watch(self, probe: SiteProbe, side: int) -> Watched:
        known = self.known
        is_compared = not probe.only_in and not known.is_identical(probe)
        standards = known.standards(probe, side) if is_compared else ()
        return Watched(probe, standards, possible=lambda: known.possible(probe))

    def _lifted(self, side: int, probes: Sequence[SiteProbe]) -> Lifted:
        placed, dtypes = self.known.placed[side], {probe: self.known.dtype(probe) for probe in probes}
        elem_types = {probe: int(ELEM_TYPES[dtype]) for probe, dtype in dtypes.items() if dtype in ELEM_TYPES}
        lifted = lift(placed, set(probes), elem_types)
        problems = {probe: placed.problems[probe] for probe in probes if probe in placed.problems}
        return replace(lifted, problems={**problems, **lifted.problems})


def _judged_on(before: Watching, probe: SiteProbe, feeds: Sequence[Feed]) -> frozenset[str]:
    """The inputs on which a site was judged in the first model; the first, where it could not be watched there."""
    seen = before.seen.get(probe)
    return seen.judged_on if seen is not None and seen.judged_on else frozenset(feed.label for feed in feeds[:1])


def _found(known: Knowledge, probe: SiteProbe, before: Watching, after: Watching, alone: Alone | None) -> Found:
    first, second = before.seen.get(probe), after.seen.get(probe)
    seen = (second if probe.only_in == "after" else first) or Seen()
    problem = before.problems.get(probe) or after.problems.get(probe, "")
    found = Found(probe, first, second, problem, alone)
    if not missing(probe, seen.tally, ANY) and not problem:
        return found
    found = replace(found, possible=known.possible(probe))
    if not found.missed or alone is None or not alone.is_same:
        return found
    return replace(found, settled=known.is_settled(probe), surroundings=known.surroundings.difference)


def _agreeing(
    job: SiteJob, known: Knowledge, probes: Sequence[SiteProbe], kept: Sequence[Feed]
) -> Mapping[SiteProbe, bool]:
    """Whether what enters these sites is the same in both models; not known, so False, of sites in bodies."""
    names = {probe: (probe.names("before")[0], probe.names("after")[0]) for probe in probes if not probe.scope}
    if not names:
        return {}
    found = agreeing(
        (job.before, job.after),
        list(dict.fromkeys(names.values())),
        (*job.feeds, *kept),
        provider=job.provider,
        memory_budget=job.memory_budget,
    )
    return {probe: found[pair] for probe, pair in names.items()}
