"""(before, after, inputs) -> the parts of two models that are not the same outside the sites, each tried on its own.

before: a -> [LayerNormalization, epsilon 1e-5] -> b,   after: epsilon 1e-12   ->   for a times 0.001, b differs

From the inputs on, every value that the two models have in common is shown to be the same, or is not: the same node
makes it of such values; or the part that makes it of such values gives the same in both models, on values that were
seen there and on made-up ones. Where a value is not shown, the parts after it reach further back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from onnx import NodeProto

from onnxact.check.alignment import Aligned
from onnxact.check.bounds import Values, interval, values_of
from onnxact.check.case import Case
from onnxact.check.cutting import Part, cut
from onnxact.check.diagnosis import ValueEvidence
from onnxact.check.fingerprint import attributes_of, op_of
from onnxact.check.graph import required_inputs
from onnxact.check.inputs import Feed
from onnxact.check.interval import Interval
from onnxact.check.ops import differing_ops, ops_in
from onnxact.check.part_trial import Found, Trial
from onnxact.check.region import behind, reads
from onnxact.check.session import Outputs, RunFailure
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.check.values import value_evidence
from onnxact.check.verdict import Run

Ends = tuple[str, str]
"""What enters a site or leaves it, before and after."""

_LARGEST = 48
"""Nodes of the largest part that is tried, in both models together."""
_FURTHER = 16
"""How many parts are tried that reach back over what was not shown to be the same."""
_UNKNOWN = math.inf
"""The size of a value that is no tensor, or that ONNX Runtime does not give."""
_NARROWING = frozenset({
    *("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "Round", "Floor", "Ceil", "Sign", "Cast"),
    *("ArgMax", "ArgMin", "NonZero", "OneHot", "Softmax", "LpNormalization", "TopK", "Unique"),
})  # fmt: skip
_KEEPING = frozenset({
    *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Gather", "Expand"),
    *("Tile", "MaxPool", "Relu", "Neg", "Abs"),
})  # fmt: skip
_MEASURES = frozenset({"Shape", "Size"})
_RUN = Run("", "", optimise=False)


@dataclass(frozen=True)
class Tried:
    """How many parts are the same on their own; what is not shown to be, in words: because it differs, or, if nothing
    does, because it was not run.

    Both are empty where every output of the models was shown to be the same.
    """

    same: int = 0
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
        """What trying all of them showed. Raises ProviderError."""
        run = replace(_RUN, provider=self.provider)
        case = Case(self.before, self.after, self.feed, run, False, self.memory_budget)
        return _Walk(self, case).run()


class _Walk:
    """Goes through the values that two models have in common, from the inputs on."""

    def __init__(self, asked: Unlike, case: Case) -> None:
        self.case = case
        self.tolerance = asked.tolerance
        self.sites = asked.sites
        self.intervals: dict[str, Interval] = dict(asked.limits)
        self.graphs = case.graphs
        self.given = {value.name for value in required_inputs(self.graphs[0].graph)}
        self.shown: dict[str, str] = {name: name for name in self.given}
        self.back: dict[str, str] = {name: name for name in self.given}
        self.problems: dict[str, str] = {}
        self.differing: dict[str, str] = {}
        self.same = 0
        self.further = 0
        self.known: dict[str, Any] = dict(case.feed.values)
        self.sizes: dict[str, float] = {}
        self.ahead: dict[str, tuple[str, ...]] = {}

    def run(self) -> Tried:
        """Go through all of them."""
        agreeing = self._agreeing()
        self.ahead = self._look_ahead([pair for pair in self.case.alignment.pairs if agreeing.get(pair.before)])
        for pair in self.case.alignment.pairs:
            if not agreeing.get(pair.before, True):
                self._take_apart(pair)
            elif pair.before in agreeing and (self._is_identical(pair) or self._follows(pair) or self._is_same(pair)):
                self.shown[pair.before], self.back[pair.after] = pair.after, pair.before
        outputs = [value.name for value in self.graphs[0].graph.output]
        missing = [name for name in outputs if not self._corresponds(name, name)]
        behind = self._behind(missing)
        differing = tuple(text for name, text in self.differing.items() if name in behind)
        untried = tuple(text for name, text in self.problems.items() if name in behind)
        apart = tuple(f"{name!r} is not the same when both run, optimisation off" for name in missing)
        return Tried(self.same, differing, (untried or apart) if missing and not differing else ())

    def _agreeing(self) -> dict[str, bool]:
        """Whether values are the same, by how they are made or when both models run; nothing of what was not got."""
        case = self.case
        groups, _ = case.held_together([pair for pair in case.alignment.pairs if not pair.identical])
        found = {pair.before: True for pair in case.alignment.pairs if pair.identical}
        for group in groups:
            values = case.both(group)
            if not isinstance(values, RunFailure):
                held = [_held_together(pair, *values) for pair in group]
                found.update((item.before, item.agrees) for item in held if not item.problem)
        return found

    def _take_apart(self, pair: Aligned) -> None:
        """Note a value that is another one when both models run, and not for what enters the node that makes it; others
        are no pairs.
        """
        parts = self._parts(pair, self.shown)
        nodes = [part.graph.nodes[index] for part in parts for index in part.nodes]
        same = [self.shown.get(name) for name in parts[0].inputs] == list(parts[1].inputs)
        if same and len(nodes) == len(parts) and op_of(nodes[0]) == op_of(nodes[1]):
            self.differing[pair.before] = f"{self._named(pair)} is another value in both models"

    # What needs no run

    def _is_identical(self, pair: Aligned) -> bool:
        """Whether a value is made by the same nodes, which mean the same."""
        return pair.identical and not self._suspects

    @cached_property
    def _suspects(self) -> frozenset[str]:
        """Ops that may not mean the same in both models: of other versions, and local functions that are others."""
        return differing_ops(*(subject.model for subject in self.case.subjects))

    def _follows(self, pair: Aligned) -> bool:
        """Whether the same site or the same node makes a value, of what was shown to be the same."""
        ends = self.sites.get((pair.before, pair.after))
        if ends is not None:
            return self._corresponds(*ends)
        makers = [graph.made_by.get(name) for graph, name in zip(self.graphs, (pair.before, pair.after), strict=True)]
        if makers[0] is None or makers[1] is None:
            return False
        one, other = (graph.nodes[index] for graph, index in zip(self.graphs, (makers[0], makers[1]), strict=True))
        made = list(one.output).index(pair.before) == list(other.output).index(pair.after)
        return made and self._is_same_op(one, other) and self._reads_same(one, other)

    def _is_same_op(self, one: NodeProto, other: NodeProto) -> bool:
        same = op_of(one) == op_of(other) and attributes_of(one) == attributes_of(other)
        return same and (not self._suspects or self._suspects.isdisjoint(ops_in([one])))

    def _reads_same(self, one: NodeProto, other: NodeProto) -> bool:
        """Bodies that are the same to the byte read values of the same names."""
        captured = (set(reads(one)) - set(one.input), set(reads(other)) - set(other.input))
        if len(one.input) != len(other.input) or captured[0] != captured[1]:
            return False
        own = all(map(self._corresponds, one.input, other.input))
        return own and all(self._corresponds(name, name) for name in captured[0])

    def _corresponds(self, before: str, after: str) -> bool:
        if not before or not after:
            return before == after
        if before in self.shown:
            return self.shown[before] == after
        first, second = (constants.get(name) for constants, name in zip(self._constants, (before, after), strict=True))
        return first is not None and first == second

    @cached_property
    def _constants(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        first, second = (graph.constant_digests(weights=True) for graph in self.graphs)
        return first, second

    # What does

    def _is_same(self, pair: Aligned) -> bool:
        parts = self._parts(pair, self.shown)
        count = sum(len(part.nodes) for part in parts)
        made = {name for index in parts[0].nodes for name in self.graphs[0].nodes[index].output}
        self.further += not made.isdisjoint(self.differing.keys() | self.problems.keys())
        if count > _LARGEST or self.further > _FURTHER:
            self.problems[pair.before] = (
                f"{self._named(pair)} is made in {count} nodes, too many to be tried on their own"
            )
            return False
        found, text = self._trial(parts)
        if found == "differs" and made.isdisjoint(self.differing):
            wider = self._parts(pair, self._without_derived(self._entering(parts)))
            if self._entering(wider) != self._entering(parts) and sum(len(part.nodes) for part in wider) <= _LARGEST:
                found, text = self._trial(wider)
        if found == "same":
            self.same += 1
            return True
        told = f"{self._named(pair)} is not made in the same way in both models"
        if found == "differs":
            self.differing[pair.before] = f"{told}, and differs on its own: {text}"
        else:
            self.problems[pair.before] = f"{told}, and was not tried on its own: {text}"
        return False

    def _parts(self, pair: Aligned, shown: Mapping[str, str]) -> tuple[Part, Part]:
        """What makes a value in both models, from the same ones that are `shown` to be the same, if there are such."""
        stops = {name: other for name, other in shown.items() if name != pair.before and name not in self._narrow}
        while True:
            back = {other: name for name, other in stops.items()}
            first = cut(self.graphs[0], pair.before, stops.keys(), self.given)
            second = cut(self.graphs[1], pair.after, back.keys(), self.given)
            entering = set(first.inputs), {back.get(name, name) for name in second.inputs}
            apart = (entering[0] ^ entering[1]) - self.given
            if not apart or len(first.nodes) + len(second.nodes) > _LARGEST:
                return first, second
            stops = {name: other for name, other in stops.items() if name not in apart}

    def _without_derived(self, names: Sequence[str]) -> dict[str, str]:
        """What is shown to be the same, but for those of these values that others of them decide: no two that go
        together only in some combinations enter a part then.
        """
        graph = self.graphs[0]
        derived = set()
        for name in names:
            nodes, _ = behind(graph.nodes, graph.made_by, name, self.given)
            read = {other for index in nodes for other in reads(graph.nodes[index])}
            if not read.isdisjoint(set(names) - {name}):
                derived.add(name)
        return {name: other for name, other in self.shown.items() if name not in derived}

    @cached_property
    def _narrow(self) -> frozenset[str]:
        """Values that are not any in a range: whole numbers, those of a grid, what adds up to 1. Made-up ones would be
        none of them, so that parts begin before.
        """
        graph, found = self.graphs[0], set[str]()
        for node in (graph.nodes[index] for index in graph.order):
            op = op_of(node)
            if op in _NARROWING or (op in _KEEPING and node.input and node.input[0] in found):
                found.update(node.output)
        return frozenset(found)

    def _entering(self, parts: tuple[Part, Part]) -> tuple[str, ...]:
        """What enters the part of either model, by its names before."""
        return tuple(dict.fromkeys((*parts[0].inputs, *(self.back[name] for name in parts[1].inputs))))

    def _named(self, pair: Aligned) -> str:
        index = self.graphs[0].made_by.get(pair.before)
        op = f" ({op_of(self.graphs[0].nodes[index])})" if index is not None else ""
        return f"{pair.before!r}{op}"

    def _trial(self, parts: tuple[Part, Part]) -> Found:
        names = self._entering(parts)
        values = self._values(parts[0].output, names)
        if isinstance(values, str):
            return "untried", values
        renamed = {name: self.shown[name] for name in names}
        kept = frozenset(self._of_sizes.intersection(names))
        return Trial(self.case, parts, values, renamed, self._possible(names), kept, self.tolerance).run()

    # What enters

    def _look_ahead(self, pairs: Sequence[Aligned]) -> dict[str, tuple[str, ...]]:
        """What enters the part of each pair that has to be tried, if all goes well."""
        every = {pair.before: pair.after for pair in pairs}
        known = self.shown, self.back
        self.shown, self.back = {**self.shown, **every}, {**self.back, **{v: k for k, v in every.items()}}
        changed = [pair for pair in pairs if not self._is_identical(pair) and not self._follows(pair)]
        found = {pair.before: self._parts(pair, self.shown)[0].inputs for pair in changed}
        self.shown, self.back = known
        return found

    def _values(self, output: str, names: Sequence[str]) -> dict[str, Any] | str:
        """What enters the part that makes `output`, and if it has to be got, what enters the next ones, as it fits."""
        lacking = [name for name in names if name not in self.known]
        if lacking:
            wanted = itertools.dropwhile(lambda item: item[0] != output, self.ahead.items())
            self._observe(tuple(dict.fromkeys((*names, *(name for _, entering in wanted for name in entering)))))
        missing = [name for name in names if name not in self.known]
        return f"{missing[0]!r} could not be observed" if missing else {name: self.known[name] for name in names}

    def _observe(self, names: Sequence[str]) -> None:
        """Get values, the first ones as they fit, in place of what was got before."""
        model, given = self.case.observed[0], self.case.feed.values
        unsized = [name for name in names if name not in self.sizes and name not in given]
        self.sizes.update({**dict.fromkeys(unsized, _UNKNOWN), **(model.sizes(unsized) if unsized else {})})
        room, fitting = float(self.case.memory_budget // 2), []
        for name in names:
            room -= 0 if name in given else self.sizes[name]
            if room < 0:
                break
            fitting += [] if name in given else [name]
        found = model.values(fitting) if fitting else {}
        self.known = {**given, **({} if isinstance(found, RunFailure) else found)}

    def _possible(self, names: Sequence[str]) -> dict[str, Interval]:
        return {name: interval(self._bounds, name, self.intervals) for name in names}

    @cached_property
    def _of_sizes(self) -> set[str]:
        """The values that follow from constants and the sizes of others alone."""
        graph, found = self.graphs[0], set[str]()
        for node in (graph.nodes[index] for index in graph.order):
            if op_of(node) in _MEASURES or not any(n not in found and n not in graph.constants for n in reads(node)):
                found.update(node.output)
        return found

    @cached_property
    def _bounds(self) -> Values:
        return values_of(self.graphs[0].graph)

    def _behind(self, names: Sequence[str]) -> set[str]:
        """The values that these need, up to those that were shown to be the same."""
        found: set[str] = set()
        pending = list(names)
        graph = self.graphs[0]
        while pending:
            name = pending.pop()
            if name not in found and name not in self.shown:
                found.add(name)
                if name in graph.made_by:
                    pending += reads(graph.nodes[graph.made_by[name]])
        return found


def _held_together(pair: Aligned, before: Outputs, after: Outputs) -> ValueEvidence:
    return value_evidence(pair.before, pair.after, before[pair.before], after[pair.after])
