"""(a model, inputs) -> what enters parts of it: values of a run, as far as they fit, and what else may enter there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from onnxact.check.bounds import Values, interval, values_of
from onnxact.check.case import Case
from onnxact.check.fingerprint import op_of
from onnxact.check.interval import Interval
from onnxact.check.region import reads
from onnxact.check.session import RunFailure

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


@dataclass
class Entering:
    """Values of the model before. `limits`: what its inputs lie in. `ahead`: what enters each part, by what it makes,
    in the order in which it will be asked for.
    """

    case: Case
    limits: Mapping[str, Interval]
    ahead: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _known: dict[str, Any] = field(default_factory=dict)
    _sizes: dict[str, float] = field(default_factory=dict)

    def values(self, output: str, names: Sequence[str]) -> dict[str, Any] | str:
        """What entered the part that makes `output`; a text where it was not got.

        What enters the next parts is got in the same run, as far as it fits.
        """
        if any(name not in self._known for name in names):
            following = itertools.dropwhile(lambda item: item[0] != output, self.ahead.items())
            self._observe(tuple(dict.fromkeys((*names, *(name for _, entering in following for name in entering)))))
        missing = [name for name in names if name not in self._known]
        return f"{missing[0]!r} could not be observed" if missing else {name: self._known[name] for name in names}

    def _observe(self, names: Sequence[str]) -> None:
        """Get values, the first ones as they fit, in place of what was got before."""
        model, given = self.case.observed[0], self.case.feed.values
        made = [name for name in names if name not in given]
        unsized = [name for name in made if name not in self._sizes]
        self._sizes.update({**dict.fromkeys(unsized, _UNKNOWN), **(model.sizes(unsized) if unsized else {})})
        totals = itertools.accumulate(self._sizes[name] for name in made)
        fitting = [name for name, total in zip(made, totals, strict=True) if total <= self.case.memory_budget // 2]
        self._known = {}
        found = model.values(fitting) if fitting else {}
        self._known = {**given, **({} if isinstance(found, RunFailure) else found)}

    def possible(self, names: Sequence[str]) -> dict[str, Interval]:
        """What can enter, by what the nodes before say."""
        return {name: interval(self._bounds, name, self._intervals) for name in names}

    def fixed(self, names: Sequence[str]) -> frozenset[str]:
        """Those that follow from constants and the sizes of others alone, and so are always as they were seen."""
        return self._of_sizes.intersection(names)

    @cached_property
    def narrow(self) -> frozenset[str]:
        """Values that are not any in a range: whole numbers, those of a grid, what adds up to 1. Made-up ones would be
        none of them, so that parts begin before.
        """
        graph, found = self.case.graphs[0], set[str]()
        for node in (graph.nodes[index] for index in graph.order):
            op = op_of(node)
            if op in _NARROWING or (op in _KEEPING and node.input and node.input[0] in found):
                found.update(node.output)
        return frozenset(found)

    @cached_property
    def _of_sizes(self) -> frozenset[str]:
        graph, found = self.case.graphs[0], set[str]()
        for node in (graph.nodes[index] for index in graph.order):
            if op_of(node) in _MEASURES or all(name in found or name in graph.constants for name in reads(node)):
                found.update(node.output)
        return frozenset(found)

    @cached_property
    def _bounds(self) -> Values:
        return values_of(self.case.graphs[0].graph)

    @cached_property
    def _intervals(self) -> dict[str, Interval]:
        return dict(self.limits)
