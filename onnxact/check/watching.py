"""(model, sites, inputs) -> what entered and left every site while the model ran; further inputs for what was missed.

x = [-2, 0, 3] into Relu at kink 0, [0, 0, 3] out  ->  1 below, 1 at, 1 above; 3 elements, none outside the bound
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxact.check.accuracy import judge, merged
from onnxact.check.batches import largest
from onnxact.check.compare import leaves
from onnxact.check.inputs import Feed, is_float
from onnxact.check.interval import ANY, Interval
from onnxact.check.lifting import Lifted
from onnxact.check.observe import Chunk, TooLarge, chunks
from onnxact.check.placing import computed_names
from onnxact.check.session import Outputs, RunFailure, Session, run_session
from onnxact.check.site_evidence import Accuracy, SiteProbe
from onnxact.check.standard import Standard
from onnxact.check.tally import Tally, missed_branches, sides_reached, tally

Array = npt.NDArray[Any]

# Further inputs, made one at a time when asked for.
Candidates = Callable[[], Iterable[Feed]]


def _anything() -> Interval:
    return ANY


@dataclass(frozen=True)
class Watched:
    """A site to be watched.

    `standards`: what leaves it in each place where it is computed is held against these; none where only what enters
    is counted. That is done on the inputs named in `judged_on`, or where that is None on those that send something
    through a branch that was not seen before. `possible` says what can enter it.
    """

    probe: SiteProbe
    standards: tuple[Standard | None, ...] = ()
    judged_on: frozenset[str] | None = None
    possible: Callable[[], Interval] = _anything

    @property
    def is_judged(self) -> bool:
        """Whether what leaves it is looked at."""
        return any(standard is not None for standard in self.standards)

    def concerns(self, feed: Feed) -> bool:
        """Whether these inputs have to be run for this site."""
        return self.judged_on is None or feed.label in self.judged_on


@dataclass(frozen=True)
class Seen:
    """What went through a site, over all inputs and all places where it is computed.

    `judged_on`: the inputs on which what left it was held against its standard.
    """

    tally: Tally | None = None
    accuracy: Accuracy | None = None
    judged_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Watching:
    """What was seen of every site, why some could not be seen, and the further inputs that helped."""

    seen: Mapping[SiteProbe, Seen] = field(default_factory=dict)
    problems: Mapping[SiteProbe, str] = field(default_factory=dict)
    kept: tuple[Feed, ...] = ()


@dataclass(frozen=True)
class Watcher:
    """How a model is watched. `candidates` are tried for sites that miss a branch, unless `settled` says otherwise.

    `demand_finite`: inputs on which an output of the model has no finite element do not count, since they compare
    nothing. `thorough`: every element that leaves a site is looked at, as far as that is quick, else a sample.
    """

    provider: str
    memory_budget: int
    candidates: Candidates = tuple
    settled: Callable[[SiteProbe], bool] = lambda _probe: False
    demand_finite: bool = False
    thorough: bool = False

    def run(self, lifted: Lifted, watched: Sequence[Watched], feeds: Sequence[Feed]) -> Watching:
        """Run with optimisation off, on every set of inputs.

        At most `memory_budget` bytes of values are held at a time, as far as ONNX Runtime infers their sizes.
        """
        problems = dict(lifted.problems)
        by_probe = {item.probe: item for item in watched if item.probe in lifted.names}
        groups = {probe: _needed(item, lifted.names[probe]) for probe, item in by_probe.items()}
        groups = {probe: names for probe, names in groups.items() if names}
        found = Watching({}, problems, ())
        opened = chunks(
            lifted.subject, groups, largest(feeds), provider=self.provider, memory_budget=self.memory_budget
        )
        for chunk in opened:
            found = self._add(found, lifted, [by_probe[probe] for probe in chunk.keys], chunk, feeds)
        return found

    def _add(
        self, found: Watching, lifted: Lifted, members: list[Watched], chunk: Chunk[SiteProbe], feeds: Sequence[Feed]
    ) -> Watching:
        if isinstance(chunk.session, RunFailure | TooLarge):
            too_large = isinstance(chunk.session, TooLarge)
            problem = str(chunk.session) if too_large else f"with its values as outputs the model {chunk.session}"
            return replace(found, problems={**found.problems, **{item.probe: problem for item in members}})
        observer = _Observer(self, lifted, chunk.session)
        seen, kept = observer.search(members, feeds, found.kept)
        lacking = {item.probe: observer.failure for item in members if item.probe not in seen and observer.failure}
        return Watching({**found.seen, **seen}, {**found.problems, **lacking}, kept)


def _needed(item: Watched, places: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The values to be given: all that belong to the site where what leaves it is judged, else what enters."""
    return tuple(name for names in places for name in (names if item.is_judged else names[:1]))


class _Observer:
    """A session that gives the values of some sites beside the model's own outputs."""

    def __init__(self, watcher: Watcher, lifted: Lifted, session: Session) -> None:
        self.watcher = watcher
        self.places = lifted.names
        self.session = session
        self.own = tuple(value.name for value in lifted.subject.model.graph.output) if watcher.demand_finite else ()
        self.failure = ""

    def search(
        self, members: Sequence[Watched], feeds: Sequence[Feed], kept: tuple[Feed, ...]
    ) -> tuple[dict[SiteProbe, Seen], tuple[Feed, ...]]:
        """What `feeds` and `kept` show, then candidates until every site is reached; those that helped are kept."""
        seen: dict[SiteProbe, Seen] = {}
        for feed in (*feeds, *kept):
            seen = self._observe(members, feed, seen)
        labels = {feed.label for feed in kept}
        lacking = [item for item in members if self._is_open(item, seen)]
        for feed in self.watcher.candidates() if lacking else ():
            lacking = [item for item in lacking if _missed(item, seen)]
            if not lacking:
                break
            found = seen if feed.label in labels else self._observe(lacking, feed, seen)
            if sum(_missed(item, found) for item in lacking) < sum(_missed(item, seen) for item in lacking):
                seen, kept = found, (*kept, feed)
        return seen, kept

    def _is_open(self, item: Watched, seen: Mapping[SiteProbe, Seen]) -> bool:
        return item.judged_on is None and bool(_missed(item, seen)) and not self.watcher.settled(item.probe)

    def _observe(self, members: Sequence[Watched], feed: Feed, seen: Mapping[SiteProbe, Seen]) -> dict[SiteProbe, Seen]:
        """What was seen with what `feed` sends through `members` added."""
        result = dict(seen)
        members = [item for item in members if item.concerns(feed)]
        if not members:
            return result
        needed = (name for item in members for name in _needed(item, self.places[item.probe]))
        outputs = run_session(self.session, feed.values, tuple(dict.fromkeys((*self.own, *needed))))
        if isinstance(outputs, RunFailure):
            self.failure = f"with its values as outputs the model {outputs}"
            return result
        if not _tells({name: outputs[name] for name in self.own}):
            return result
        for item in members:
            found = [
                (number, values)
                for number, names in enumerate(self.places[item.probe])
                for values in _computations([outputs[name] for name in names if name in outputs])
            ]
            result[item.probe] = self._look(item, found, feed, seen.get(item.probe, Seen()))
        return result

    def _look(self, item: Watched, found: Sequence[tuple[int, Sequence[Array]]], feed: Feed, known: Seen) -> Seen:
        """What is known of a site, with its values on one set of inputs, by place, added."""
        values = [(number, arrays) for number, arrays in found if arrays[0].size]
        counted = known.tally
        if item.judged_on is None:
            for _, arrays in values:
                more = tally(item.probe, arrays[0])
                counted = more if counted is None else counted.plus(more)
        if not (item.is_judged and values and self._shows_something(item, known.tally, counted)):
            return replace(known, tally=counted)
        accuracy = known.accuracy
        for number, arrays in values:
            accuracy = merged(accuracy, self._judge(item, number, arrays, feed))
        return Seen(counted, accuracy, known.judged_on | {feed.label})

    def _shows_something(self, item: Watched, known: Tally | None, counted: Tally | None) -> bool:
        if item.judged_on is not None or known is None or counted is None:
            return True
        return sides_reached(known) < sides_reached(counted)

    def _judge(self, item: Watched, number: int, values: Sequence[Array], feed: Feed) -> Accuracy | None:
        standard = item.standards[number] if number < len(item.standards) else None
        if standard is None:
            return None
        return judge(
            standard,
            values[0],
            values[1],
            inputs=feed.label,
            computed=dict(zip(computed_names(standard.own or standard.function), values[2:], strict=False)),
            channel_axis=item.probe.channel_axis,
            thorough=self.watcher.thorough,
        )


def _computations(values: Sequence[Any]) -> Iterable[Sequence[Array]]:
    """The values of each computation: one, or as many as there are tensors in the sequences."""
    if any(isinstance(value, list) for value in values):
        return list(zip(*values, strict=True))
    return [values]


def _tells(outputs: Outputs) -> bool:
    """Whether a comparison on these outputs would say something: no floating one without a finite element."""
    arrays = [array for name, value in outputs.items() for _, array in leaves(name, value) if array is not None]
    return all(bool(np.isfinite(array).any()) for array in arrays if is_float(array) and array.size)


def _missed(item: Watched, seen: Mapping[SiteProbe, Seen]) -> int:
    """Branches that nothing went through. What can enter is only worked out where some are left."""
    found = seen.get(item.probe)
    counted = found.tally if found else None
    return missed_branches(item.probe, counted, ANY) and missed_branches(item.probe, counted, item.possible())
