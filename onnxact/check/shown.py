"""(two models) -> the values of both that were shown to be the same, and what follows from them without a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from onnx import NodeProto

from onnxact.check.alignment import Aligned
from onnxact.check.case import Case
from onnxact.check.fingerprint import attributes_of, op_of
from onnxact.check.graph import required_inputs
from onnxact.check.ops import differing_ops, ops_in
from onnxact.check.region import reads
from onnxact.check.weights import value_of

Ends = tuple[str, str]
"""What enters a site or leaves it, before and after."""


class Shown:
    """`forth`: a value before -> the same after; `back`: the other way round. The inputs of the models to begin with.

    `sites`: what leaves a site that is judged elsewhere, before and after -> what enters it.
    """

    def __init__(self, case: Case, sites: Mapping[Ends, Ends]) -> None:
        self.case = case
        self.graphs = case.graphs
        self.sites = sites
        self.given = frozenset(value.name for value in required_inputs(self.graphs[0].graph))
        self.forth = {name: name for name in self.given}
        self.back = {name: name for name in self.given}

    def add(self, pair: Aligned) -> None:
        """Take a pair to be the same."""
        self.forth[pair.before], self.back[pair.after] = pair.after, pair.before

    def with_all(self, pairs: Iterable[Aligned]) -> Shown:
        """Another one, in which these pairs are the same, too."""
        found = Shown(self.case, self.sites)
        for pair in pairs:
            found.add(pair)
        return found

    def follows(self, pair: Aligned) -> bool:
        """Whether a value is the same since the same nodes make it, or the same site, of what is the same."""
        if pair.identical and not self._suspects:
            return True
        ends = self.sites.get((pair.before, pair.after))
        if ends is not None:
            return self.corresponds(*ends)
        makers = [graph.made_by.get(name) for graph, name in zip(self.graphs, (pair.before, pair.after), strict=True)]
        if makers[0] is None or makers[1] is None:
            return False
        one, other = (graph.nodes[index] for graph, index in zip(self.graphs, (makers[0], makers[1]), strict=True))
        made = list(one.output).index(pair.before) == list(other.output).index(pair.after)
        return made and self._is_same_op(one, other) and self._reads_same(one, other)

    def corresponds(self, before: str, after: str) -> bool:
        """Whether two values are the same: shown to be, equal constants, or both left out."""
        if not before or not after:
            return before == after
        if before in self.forth:
            return self.forth[before] == after
        if (before, after) not in self._equal:
            self._equal[before, after] = self._are_equal(before, after)
        return self._equal[before, after]

    def _is_same_op(self, one: NodeProto, other: NodeProto) -> bool:
        """Split divides by the number of its outputs where nothing else is said."""
        same = op_of(one) == op_of(other) and attributes_of(one) == attributes_of(other)
        parted = op_of(one) == "Split" and len(one.output) != len(other.output)
        return same and not parted and (not self._suspects or self._suspects.isdisjoint(ops_in([one])))

    def _reads_same(self, one: NodeProto, other: NodeProto) -> bool:
        """Bodies that are the same to the byte read values of the same names."""
        captured = (set(reads(one)) - set(one.input), set(reads(other)) - set(other.input))
        if len(one.input) != len(other.input) or captured[0] != captured[1]:
            return False
        own = all(map(self.corresponds, one.input, other.input))
        return own and all(self.corresponds(name, name) for name in captured[0])

    def _are_equal(self, before: str, after: str) -> bool:
        """By digests; where those of files in two folders are not the same, by what is in them."""
        digests = [known.get(name) for known, name in zip(self._digests, (before, after), strict=True)]
        if digests[0] is None or digests[0] == digests[1]:
            return digests[0] is not None
        tensors = [graph.constants.get(name) for graph, name in zip(self.graphs, (before, after), strict=True)]
        if tensors[0] is None or tensors[1] is None or not any(item.external_data for item in tensors if item):
            return False
        first, second = (value_of(item, graph.folder) for item, graph in zip(tensors, self.graphs, strict=True) if item)
        if first is None or second is None or (first.dtype, first.shape) != (second.dtype, second.shape):
            return False
        return first.tobytes() == second.tobytes()

    @cached_property
    def _suspects(self) -> frozenset[str]:
        """Ops that may not mean the same in both models: of other versions, and local functions that are others."""
        return differing_ops(*(subject.model for subject in self.case.subjects))

    @cached_property
    def _digests(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        first, second = (graph.constant_digests(weights=True) for graph in self.graphs)
        return first, second

    @cached_property
    def _equal(self) -> dict[Ends, bool]:
        return {}
