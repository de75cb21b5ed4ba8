"""(model, sites, inputs) -> which branches of each site the inputs go through, and further inputs for what they miss.

x = [-2, 0, 3] into Relu at kink 0: 1 below, 1 at, 1 above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check.bounds import intervals, values_of
from onnxact.check.compare import leaves
from onnxact.check.inputs import Feed, is_float
from onnxact.check.interval import ANY, Interval
from onnxact.check.observe import chunks, value_names
from onnxact.check.session import Outputs, RunFailure, Session, run_session
from onnxact.check.subject import Subject
from onnxact.check.verdict import KinkCount, SiteEvidence, SiteProbe

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

# Further inputs, made one at a time when asked for.
Candidates = Callable[[], Iterable[Feed]]

DEFAULT_MEMORY_BUDGET = 1 << 28


@dataclass(frozen=True)
class Tally:
    """Elements that entered a site. `below`, `at`, `above`: [kinks, channels]; one channel where they do not matter.

    `shape` and `dtype` are those of the first array.
    """

    below: Counts
    at: Counts
    above: Counts
    elements: int
    nan: int
    infinite: int
    shape: tuple[int, ...]
    dtype: str

    def plus(self, other: Tally) -> Tally:
        """Both together; they are of the same site, so of the same shape."""
        return replace(
            self,
            below=self.below + other.below,
            at=self.at + other.at,
            above=self.above + other.above,
            elements=self.elements + other.elements,
            nan=self.nan + other.nan,
            infinite=self.infinite + other.infinite,
        )


@dataclass(frozen=True)
class Reached:
    """The evidence of every site, in the order given, and the further inputs that it took."""

    evidence: tuple[SiteEvidence, ...]
    feeds: tuple[Feed, ...]


@dataclass(frozen=True)
class _Site:
    """A site that can be observed, with what its input can be."""

    probe: SiteProbe
    possible: Interval


@dataclass(frozen=True)
class _Observer:
    """A session that gives the site's values beside the model's own outputs."""

    session: Session
    own: tuple[str, ...]


def reach(
    subject: Subject,
    sites: Sequence[SiteProbe],
    feeds: Sequence[Feed],
    candidates: Candidates = tuple,
    *,
    provider: str = "cpu",
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Reached:
    """Observe what enters each site, with optimisation off, and search `candidates()` where a branch is missed.

    Inputs on which an output of the model has no finite element do not count: they would compare nothing. At most
    `memory_budget` bytes of values are held at a time, as far as ONNX Runtime infers their sizes. Sites in bodies and
    functions are not observed, which their evidence says.
    """
    names, values = value_names(subject.model.graph), values_of(subject.model.graph)
    problems = {probe: _unobservable(probe, names) for probe in sites}
    possible = intervals(values, (probe.input for probe in problems if not problems[probe]))
    open_sites = [_Site(probe, possible[probe.input]) for probe in problems if not problems[probe]]
    tallies: dict[SiteProbe, Tally] = {}
    kept: tuple[Feed, ...] = ()
    for chunk in chunks(subject, list(possible), feeds[0], provider=provider, memory_budget=memory_budget):
        members = [site for site in open_sites if site.probe.input in chunk.names]
        if isinstance(chunk.session, RunFailure):
            problems.update({site.probe: f"observing its value: the model {chunk.session}" for site in members})
            continue
        observer = _Observer(chunk.session, tuple(value.name for value in subject.model.graph.output))
        found, kept = _search(observer, members, feeds, kept, candidates)
        tallies.update(found)
    evidence = (
        _evidence(probe, problems[probe], tallies.get(probe), possible.get(probe.input, ANY)) for probe in sites
    )
    return Reached(tuple(evidence), kept)


def tally(probe: SiteProbe, array: Array) -> Tally:
    """Count one array. A channel axis that the array does not have counts as one channel."""
    values = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    channels = _by_channel(values, probe.channel_axis)
    sides = [[_count(channels < kink), _count(channels == kink), _count(channels > kink)] for kink in probe.kinks]
    shaped = np.array(sides, np.int64).reshape(len(probe.kinks), 3, channels.shape[0])
    floating = values.dtype.kind == "f"
    nan = int(np.count_nonzero(np.isnan(values))) if floating else 0
    infinite = int(np.count_nonzero(np.isinf(values))) if floating else 0
    counts = shaped[:, 0], shaped[:, 1], shaped[:, 2]
    return Tally(*counts, values.size, nan, infinite, array.shape, array.dtype.name)


def missing(probe: SiteProbe, counted: Tally | None, possible: Interval) -> tuple[str, ...]:
    """In words, the branches that nothing went through although the graph allows it; empty for a reached site."""
    if counted is None or counted.elements == counted.nan:
        return ("no value entered it",)
    found: list[str] = []
    for row, kink in enumerate(probe.kinks):
        if possible.low < kink:
            found += _missing_side(counted.below[row], f"below {kink:g}")
        if possible.high > kink:
            found += _missing_side(counted.above[row], f"above {kink:g}")
    return tuple(found)


def _unobservable(probe: SiteProbe, names: set[str]) -> str:
    if probe.scope:
        return f"it is in {probe.scope}; values inside bodies and functions are not observed"
    return "" if probe.input in names else f"the model has no value {probe.input!r}"


def _search(
    observer: _Observer,
    sites: Sequence[_Site],
    feeds: Sequence[Feed],
    kept: tuple[Feed, ...],
    candidates: Candidates,
) -> tuple[dict[SiteProbe, Tally], tuple[Feed, ...]]:
    """Count over `feeds` and `kept`, then over candidates until every site is reached; those that helped are kept."""
    tallies: dict[SiteProbe, Tally] = {}
    for feed in (*feeds, *kept):
        tallies = _observe(observer, sites, feed, tallies)
    labels = {feed.label for feed in kept}
    for feed in candidates():
        lacking = [site for site in sites if _missed(site, tallies)]
        if not lacking:
            break
        found = tallies if feed.label in labels else _observe(observer, lacking, feed, tallies)
        if sum(_missed(site, found) for site in lacking) < sum(_missed(site, tallies) for site in lacking):
            tallies, kept = found, (*kept, feed)
    return tallies, kept


def _observe(
    observer: _Observer, sites: Sequence[_Site], feed: Feed, tallies: Mapping[SiteProbe, Tally]
) -> dict[SiteProbe, Tally]:
    """The tallies with what `feed` sends into `sites` added."""
    result = dict(tallies)
    names = dict.fromkeys((*observer.own, *(site.probe.input for site in sites)))
    outputs = run_session(observer.session, feed.values, tuple(names))
    if isinstance(outputs, RunFailure) or not _tells({name: outputs[name] for name in observer.own}):
        return result
    for site in sites:
        counted = tally(site.probe, outputs[site.probe.input])
        result[site.probe] = result[site.probe].plus(counted) if site.probe in result else counted
    return result


def _tells(outputs: Outputs) -> bool:
    """Whether a comparison on these outputs would say something: no floating one without a finite element."""
    arrays = [array for name, value in outputs.items() for _, array in leaves(name, value) if array is not None]
    return all(bool(np.isfinite(array).any()) for array in arrays if is_float(array) and array.size)


def _missed(site: _Site, tallies: Mapping[SiteProbe, Tally]) -> int:
    """How many branches of how many channels nothing went through although the graph allows it."""
    counted = tallies.get(site.probe)
    if counted is None:
        return 1 << 30
    below, above = (np.count_nonzero(side == 0, axis=1) for side in (counted.below, counted.above))
    kinks = np.array(site.probe.kinks)
    return int(below[kinks > site.possible.low].sum() + above[kinks < site.possible.high].sum())


def _by_channel(values: Array, axis: int | None) -> Array:
    """[channels, the rest]; one channel for None or an axis that is not there."""
    if axis is None or not -values.ndim <= axis < values.ndim:
        return values.reshape(1, -1)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def _count(selected: Array) -> list[int]:
    return [int(count) for count in np.count_nonzero(selected, axis=1)]


def _missing_side(counts: Counts, side: str) -> list[str]:
    empty = np.flatnonzero(counts == 0)
    if not empty.size:
        return []
    if counts.size == 1:
        return [f"no value {side} entered it"]
    shown = ", ".join(str(channel) for channel in empty[:8]) + (", ..." if empty.size > 8 else "")
    return [f"no value {side} entered {empty.size} of {counts.size} channels ({shown})"]


def _evidence(probe: SiteProbe, problem: str, counted: Tally | None, possible: Interval) -> SiteEvidence:
    if problem:
        return SiteEvidence(probe, reached=False, missed=problem)
    lacking = missing(probe, counted, possible)
    if counted is None:
        return SiteEvidence(probe, reached=False, missed="; ".join(lacking))
    return SiteEvidence(
        probe,
        reached=not lacking,
        missed="; ".join(lacking),
        ruled_out=_ruled_out(probe, possible),
        counts=tuple(_kink_count(row, kink, counted) for row, kink in enumerate(probe.kinks)),
        elements=counted.elements,
        nan=counted.nan,
        infinite=counted.infinite,
        shape=counted.shape,
        dtype=counted.dtype,
    )


def _ruled_out(probe: SiteProbe, possible: Interval) -> str:
    """The branches that the graph rules out."""
    sides = [f"below {kink:g}" for kink in probe.kinks if possible.low >= kink]
    sides += [f"above {kink:g}" for kink in probe.kinks if possible.high <= kink]
    ends = f"[{possible.low:g}, {possible.high:g}]"
    return f"what feeds it lies in {ends}, so nothing can be {' or '.join(sides)}" if sides else ""


def _kink_count(row: int, kink: float, counted: Tally) -> KinkCount:
    below, at, above = counted.below[row], counted.at[row], counted.above[row]
    several = below.size > 1
    return KinkCount(
        kink,
        int(below.sum()),
        int(at.sum()),
        int(above.sum()),
        below.size if several else 0,
        _empty(below) if several else (),
        _empty(above) if several else (),
    )


def _empty(counts: Counts) -> tuple[int, ...]:
    return tuple(int(channel) for channel in np.flatnonzero(counts == 0))
