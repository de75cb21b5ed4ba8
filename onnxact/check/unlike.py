"""(before, after, inputs) -> the parts of two models that are not the same outside the sites, each tried on its own.

before: a -> [LayerNormalization, epsilon 1e-5] -> b,   after: epsilon 1e-12   ->   for a times 0.001, b differs

From the inputs on, every value that the two models have in common is shown to be the same, or is not: the same node
makes it of such values; or the part that makes it of such values gives the same in both models, on values that were
seen there and on made-up ones. Where a value is not shown, the parts after it reach further back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from onnxact.check.alignment import Aligned
from onnxact.check.case import Case
from onnxact.check.compare import compare
from onnxact.check.cutting import Part, cut
from onnxact.check.entering import Entering
from onnxact.check.fingerprint import op_of
from onnxact.check.inputs import Feed
from onnxact.check.interval import Interval
from onnxact.check.part_trial import Found, Trial
from onnxact.check.region import behind, reads
from onnxact.check.session import Outputs, RunFailure
from onnxact.check.shown import Ends, Shown
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import Run
from onnxact.errors import ProviderError
from onnxact.words import counted

Parts = tuple[Part, Part]
"""What makes a value in both models."""

_LARGEST = 48
"""Nodes of the largest part that is tried, in both models together."""
_FURTHER = 16
"""How many parts are tried that reach back over what was not shown to be the same."""


@dataclass(frozen=True)
class Tried:
    """What is not shown to be the same, in words: because it differs, or, if nothing does, because it was not run.

    Both are empty where every output of the models was shown to be the same.
    """

    differing: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unlike:
    """Two models with the same inputs and outputs, and how they are run.

    `sites`: what leaves a site, before and after -> what enters it. `limits`: what inputs of the models lie in.
    """

    before: Subject
    after: Subject
    feed: Feed
    provider: str
    memory_budget: int
    sites: Mapping[Ends, Ends] = field(default_factory=dict)
    tolerance: Tolerance = field(default_factory=Tolerance)
    limits: Mapping[str, Interval] = field(default_factory=dict)

    @cached_property
    def tried(self) -> Tried:
        """What trying all of them showed."""
        run = Run("", self.provider, optimise=False)
        case = Case(self.before, self.after, self.feed, run, False, self.memory_budget)
        return _Walk(case, Shown(case, self.sites), Entering(case, self.limits), self.tolerance).run()


class _Walk:
    """Goes through the values that two models have in common, from the inputs on."""

    def __init__(self, case: Case, shown: Shown, entering: Entering, tolerance: Tolerance) -> None:
        self.case = case
        self.shown = shown
        self.entering = entering
        self.tolerance = tolerance
        self.graph = case.graphs[0]
        self.differing: dict[str, str] = {}
        self.untried: dict[str, str] = {}
        self.further = 0

    def run(self) -> Tried:
        """Go through all of them."""
        agree = self._agreeing()
        pairs = [pair for pair in self.case.alignment.pairs if pair.before in agree]
        self.entering.ahead = self._ahead([pair for pair in pairs if agree[pair.before]])
        for pair in pairs:
            if not agree[pair.before]:
                self._take_apart(pair)
            elif self.shown.follows(pair) or self._is_same(pair):
                self.shown.add(pair)
        missing = [value.name for value in self.graph.graph.output if not self.shown.corresponds(*[value.name] * 2)]
        needed = self._needed(missing)
        differing = tuple(text for name, text in self.differing.items() if name in needed)
        untried = [text for name, text in self.untried.items() if name in needed]
        untried += [f"{name!r} is not the same when both run, optimisation off" for name in missing]
        return Tried(differing, tuple(untried) if missing and not differing else ())

    def _agreeing(self) -> dict[str, bool]:
        """Whether values are the same, by how they are made or when both models run; nothing of what was not got."""
        pairs = self.case.alignment.pairs
        groups, too_large = self.case.held_together([pair for pair in pairs if not pair.identical])
        self.untried.update({name: f"{name!r} is too large for the memory budget" for name in too_large})
        found = {pair.before: True for pair in pairs if pair.identical}
        for group in groups:
            values = self.case.both(group)
            if isinstance(values, RunFailure):
                self.untried.update({pair.before: f"{pair.before!r} could not be observed" for pair in group})
            else:
                found.update(self._compared(group, *values))
            del values
        return found

    def _compared(self, group: Sequence[Aligned], before: Outputs, after: Outputs) -> dict[str, bool]:
        """By the default tolerance, or by the caller's; nothing of what has another type or shape."""
        found = {}
        for pair in group:
            first, second = before[pair.before], after[pair.after]
            if getattr(first, "dtype", None) == getattr(second, "dtype", None):
                found[pair.before] = any(
                    all(
                        item.outcome == "equivalent"
                        for item in compare(pair.before, self.case.run, first, second, tolerance=granted, noise={})
                    )
                    for granted in (Tolerance(), self.tolerance)
                )
        return found

    def _take_apart(self, pair: Aligned) -> None:
        """Note a value that is another one when both models run, and not for what enters the node that makes it; others
        are no pairs.
        """
        parts = self._parts(pair, self.shown)
        same = [self.shown.forth.get(name) for name in parts[0].inputs] == list(parts[1].inputs)
        if same and all(len(part.nodes) == 1 for part in parts):
            self.differing[pair.before] = f"{self._named(pair)} is another value in both models"

    def _is_same(self, pair: Aligned) -> bool:
        """Whether the parts that make a value give the same; what speaks against it is kept."""
        parts = self._parts(pair, self.shown)
        made = {name for index in parts[0].nodes for name in self.graph.nodes[index].output}
        reaches_back = not made.isdisjoint(self.differing.keys() | self.untried.keys())
        self.further += 1 if reaches_back else 0
        if _size(parts) > _LARGEST:
            nodes = counted(_size(parts), "node")
            found: Found = "untried", f"{nodes} of both models make it, which are too many"
        elif reaches_back and self.further > _FURTHER:
            found = "untried", "too many parts reach back over what was not shown to be the same"
        else:
            found = self._trial(parts)
            if found[0] == "differs" and made.isdisjoint(self.differing):
                found = self._again(pair, parts) or found
        told = f"{self._named(pair)} is not made in the same way in both models"
        if found[0] == "differs":
            self.differing[pair.before] = f"{told}, and differs on its own: {found[1]}"
        elif found[0] == "untried":
            self.untried[pair.before] = f"{told}, and was not tried on its own: {found[1]}"
        return found[0] == "same"

    def _again(self, pair: Aligned, parts: Parts) -> Found | None:
        """From further back, where some of what enters decides the rest: made-up values go in all combinations."""
        names = self._enters(parts)
        derived = {name for name in names if not self._behind(name).isdisjoint(set(names) - {name})}
        rest = [item for item in self.case.alignment.pairs if item.before in self.shown.forth.keys() - derived]
        wider = self._parts(pair, self.shown.with_all(rest))
        return self._trial(wider) if derived and _size(wider) <= _LARGEST else None

    def _behind(self, name: str) -> set[str]:
        """All values that one is made from."""
        nodes, _ = behind(self.graph.nodes, self.graph.made_by, name, self.shown.given)
        return {read for index in nodes for read in reads(self.graph.nodes[index])}

    def _parts(self, pair: Aligned, shown: Shown) -> Parts:
        """What makes a value in both models, from the same ones that were shown to be the same, if there are such."""
        left_out = {pair.before, *self.entering.narrow}
        stops = {name: other for name, other in shown.forth.items() if name not in left_out}
        while True:
            back = {other: name for name, other in stops.items()}
            first = cut(self.case.graphs[0], pair.before, stops.keys(), shown.given)
            second = cut(self.case.graphs[1], pair.after, back.keys(), shown.given)
            apart = set(first.inputs) ^ {back.get(name, name) for name in second.inputs}
            if apart <= shown.given or _size((first, second)) > _LARGEST:
                return first, second
            stops = {name: other for name, other in stops.items() if name not in apart}

    def _enters(self, parts: Parts) -> tuple[str, ...]:
        """What enters the part of either model, by its names before."""
        return tuple(dict.fromkeys((*parts[0].inputs, *(self.shown.back[name] for name in parts[1].inputs))))

    def _ahead(self, pairs: Sequence[Aligned]) -> dict[str, tuple[str, ...]]:
        """What enters the part of each pair that has to be tried, if all goes well."""
        shown = self.shown.with_all(pairs)
        changed = [pair for pair in pairs if not shown.follows(pair)]
        return {pair.before: self._parts(pair, shown)[0].inputs for pair in changed}

    def _trial(self, parts: Parts) -> Found:
        names = self._enters(parts)
        values = self.entering.values(parts[0].output, names)
        if isinstance(values, str):
            return "untried", values
        renamed = {name: self.shown.forth[name] for name in names}
        possible, fixed = self.entering.possible(names), self.entering.fixed(names)
        try:
            return Trial(self.case, parts, values, renamed, possible, fixed, self.tolerance).run()
        except (ProviderError, MemoryError) as error:
            return "untried", str(error) or "memory ran out"

    def _named(self, pair: Aligned) -> str:
        index = self.graph.made_by.get(pair.before)
        return f"{pair.before!r}" if index is None else f"{pair.before!r} ({op_of(self.graph.nodes[index])})"

    def _needed(self, names: Sequence[str]) -> set[str]:
        """The values that these need, up to those that were shown to be the same."""
        found: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found and name not in self.shown.forth:
                found.add(name)
                if name in self.graph.made_by:
                    pending += reads(self.graph.nodes[self.graph.made_by[name]])
        return found


def _size(parts: Parts) -> int:
    return sum(len(part.nodes) for part in parts)
