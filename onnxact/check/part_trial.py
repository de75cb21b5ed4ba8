"""(a part of two models, what enters it) -> whether it gives the same in both: (same | differs | untried, in words).

What is no more than rounding does not count: what moves as far when everything that enters, and every constant, moves
by one rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnxact.check.case import Case
from onnxact.check.compare import compare, noise_levels, sized
from onnxact.check.cutting import Opened, Part
from onnxact.check.fingerprint import op_of
from onnxact.check.inputs import is_float
from onnxact.check.interval import Interval
from onnxact.check.part_feeds import MOST, Made, PartFeeds, Values, nudged
from onnxact.check.session import RunFailure, Session, open_session
from onnxact.check.tolerance import Tolerance
from onnxact.check.weights import Weights, value_of

Found = tuple[Literal["same", "differs", "untried"], str]

_EXACT = frozenset({
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"),
    *("Where", "Cast", "ArgMax", "ArgMin", "TopK", "Max", "Min", "Relu", "Abs", "Neg", "Sign", "Identity", "Constant"),
    *("Gather", "GatherND", "GatherElements", "Slice", "Concat", "Split", "Reshape", "Transpose", "Squeeze"),
    *("Unsqueeze", "Flatten", "Expand", "Shape", "Round", "Floor", "Ceil", "ReduceMax", "ReduceMin"),
})  # fmt: skip
"""Ops that round nothing: a comparison after them is no matter of rounding."""
_MOST_NUMBERS, _SHORT = 8, 64
"""How many constants are tried as values, the smallest first; elements of the largest that is looked at for them."""
_FEW = 1 << 15
"""Elements for which waking other threads takes longer than the work."""


@dataclass(frozen=True)
class Trial:
    """The part in both models, and the values that were `seen` to enter that of the first.

    `renamed`: what these are called in the second model. `possible`: what can enter. `kept`: what is always as it was
    seen. `tolerance`: what the caller grants outputs holds here, too, beside the default.
    """

    case: Case
    parts: tuple[Part, Part]
    seen: Values
    renamed: Mapping[str, str]
    possible: Mapping[str, Interval]
    kept: frozenset[str]
    tolerance: Tolerance

    def run(self) -> Found:
        """Try it. Raises ProviderError."""
        odd = [name for name, value in self.seen.items() if not isinstance(value, np.ndarray)]
        if odd:
            return "untried", f"{odd[0]!r} is no tensor"
        if self._count > MOST:
            return "untried", f"more than {MOST:,} numbers enter it"
        problem = next((str(item) for item in self._sessions if not isinstance(item, Session)), "")
        if problem:
            return "untried", problem
        boundless = self._rounds_nothing or "Cast" in self._ops
        told = False
        for made in PartFeeds(self._model, self.seen, self.possible, self.kept, self._numbers, boundless):
            text = self._compared(made)
            if text:
                return "differs", f"{made.label}, {text}"
            told |= text is not None
        return ("same", "") if told else ("untried", "it gave nothing that can be compared")

    def _compared(self, made: Made) -> str | None:
        """In what both differ; None where the first gives nothing to compare, or moves as far for itself."""
        before, after = (
            part.result(session, values)
            for part, session, values in zip(
                self.parts, self._sessions, (made.values, self._of_after(made.values)), strict=True
            )
        )
        if isinstance(before, RunFailure):
            return None
        if isinstance(after, RunFailure):
            return f"after, it {after}" if after.is_of_model else None
        before, after, finite = _where_finite(before, after)
        if finite is not None and not finite.any():
            return None
        found = self._difference(before, after, {})
        if not found or made.at_ties or self._rounds_nothing:
            return found
        again = self.parts[0].result(self._moved, nudged(made.values))
        if isinstance(again, RunFailure):
            return found
        again = again if finite is None or again.shape != finite.shape else again[finite]
        return self._difference(before, after, noise_levels(sized("", before), sized("", again)))

    def _difference(self, before: Any, after: Any, noise: Mapping[str, float]) -> str | None:
        """By the default tolerance, and the one that is granted; None where the noise is too large to tell."""
        if not noise and _are_equal(before, after):
            return ""
        texts = []
        for tolerance in (Tolerance(), self.tolerance.of(self.parts[0].output)):
            items = compare("", self.case.run, before, after, tolerance=tolerance, noise=noise)
            different = next((item.reason for item in items if item.outcome == "different"), "")
            texts.append(different or (None if any(item.outcome == "inconclusive" for item in items) else ""))
        return next((text for text in texts if not text), texts[0])

    def _of_after(self, values: Values) -> Values:
        return {self.renamed[name]: value for name, value in values.items()}

    @cached_property
    def _sessions(self) -> tuple[Opened, Opened]:
        first, second = (
            part.open(subject, values, self.case.run.provider, optimise=False, threads=self._threads)
            for part, subject, values in zip(
                self.parts, self.case.subjects, (self.seen, self._of_after(self.seen)), strict=True
            )
        )
        return first, second

    @cached_property
    def _model(self) -> ModelProto:
        return self.parts[0].model(self.case.subjects[0].model, self.seen)

    @cached_property
    def _moved(self) -> Opened:
        """A session of the part in the first model with its constants moved by one rounding; whole numbers, which may
        be exponents or counts, stay.
        """
        model = ModelProto()
        model.CopyFrom(self._model)
        tensors = list(model.graph.initializer)
        for node in model.graph.node:
            tensors += [item.t for item in node.attribute if node.op_type == "Constant" and item.HasField("t")]
        for tensor in tensors:
            value = value_of(tensor, self.case.subjects[0].folder)
            if value is not None and is_float(value):
                moved = np.where(value == np.rint(value), value, nudged({"": value})[""]).astype(value.dtype)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        subject = replace(self.case.subjects[0], model=model, path=None, weights=Weights())
        return open_session(subject, self.case.run.provider, optimise=False, threads=self._threads)

    @property
    def _threads(self) -> int:
        return 1 if self._count < _FEW else 0

    @cached_property
    def _count(self) -> int:
        """How many numbers enter it."""
        return sum(value.size for value in self.seen.values())

    @cached_property
    def _rounds_nothing(self) -> bool:
        return self._ops <= _EXACT

    @cached_property
    def _ops(self) -> set[str]:
        return {op_of(part.graph.nodes[index]) for part in self.parts for index in part.nodes}

    @property
    def _numbers(self) -> tuple[float, ...]:
        """The constants of few elements."""
        found: set[float] = set()
        for part in self.parts:
            names = {name for index in part.nodes for name in part.graph.nodes[index].input}
            tensors = (part.graph.constants[name] for name in names if name in part.graph.constants)
            values = (value_of(tensor, part.graph.folder) for tensor in tensors if math.prod(tensor.dims) <= _SHORT)
            found.update(*(map(float, v.ravel()) for v in values if v is not None and is_float(v)))
        return tuple(sorted(filter(math.isfinite, found))[:_MOST_NUMBERS])


def _where_finite(before: Any, after: Any) -> tuple[Any, Any, NDArray[np.bool_] | None]:
    """Both where the first is finite, and where that is; None for everywhere."""
    if not is_float(before) or not is_float(after) or before.shape != after.shape:
        return before, after, None
    finite = np.isfinite(before)
    return (before, after, None) if finite.all() and finite.size else (before[finite], after[finite], finite)


def _are_equal(before: Any, after: Any) -> bool:
    both = isinstance(before, np.ndarray) and isinstance(after, np.ndarray) and before.dtype != object
    return both and (before.dtype, before.shape) == (after.dtype, after.shape) and before.tobytes() == after.tobytes()
