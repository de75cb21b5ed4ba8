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
from onnx import ModelProto, TensorProto, numpy_helper

from onnxact.check.case import Case
from onnxact.check.compare import compare, noise_levels, sized
from onnxact.check.cutting import Part
from onnxact.check.exchange import array_of
from onnxact.check.fingerprint import op_of
from onnxact.check.inputs import is_float
from onnxact.check.interval import Interval
from onnxact.check.part_feeds import TIES, TOO_MANY, PartFeeds, Values, nudged
from onnxact.check.session import RunFailure, Session, open_session, run_session
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import Run

Found = tuple[Literal["same", "differs", "untried"], str]

_EXACT = frozenset({
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"),
    *("Where", "Cast", "ArgMax", "ArgMin", "TopK", "Max", "Min", "Relu", "Abs", "Neg", "Sign", "Identity", "Constant"),
    *("Gather", "GatherND", "GatherElements", "Slice", "Concat", "Split", "Reshape", "Transpose", "Squeeze"),
    *("Unsqueeze", "Flatten", "Expand", "Shape", "Round", "Floor", "Ceil", "ReduceMax", "ReduceMin"),
})  # fmt: skip
"""Ops that round nothing: a comparison after them is no matter of rounding."""
_MOST_NUMBERS, _SHORT = 8, 64
_FEW = 1 << 15
"""Elements for which waking other threads takes longer than the work."""
_RUN = Run("", "", optimise=False)


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
        problem = next((str(item) for item in self._sessions if not isinstance(item, Session)), "")
        if problem:
            return "untried", problem
        if sum(np.size(value) for value in self.seen.values()) > TOO_MANY:
            return "untried", f"more than {TOO_MANY:,} numbers enter it"
        boundless = self._rounds_nothing or "Cast" in self._ops
        feeds = PartFeeds(self._model, self.seen, self.possible, self.kept, self._numbers, boundless)
        count = 0
        for label, feed in feeds:
            text = self._compared(feed, at_ties=label.endswith(TIES))
            if text:
                return "differs", f"{label}, {text}"
            count += text is not None
        return ("same", "") if count else ("untried", "it gave nothing that can be compared")

    def _compared(self, feed: Values, *, at_ties: bool) -> str | None:
        """In what both differ; None where the first gives nothing to compare."""
        before = _result(self.parts[0], self._sessions[0], feed)
        after = _result(self.parts[1], self._sessions[1], self._of_after(feed))
        if isinstance(before, RunFailure):
            return None
        if isinstance(after, RunFailure):
            return f"after, it {after}" if after.is_of_model else None
        found = self._difference(before, after, {})
        if not found or at_ties or self._rounds_nothing:
            return found
        again = _result(self.parts[0], self._moved, nudged(feed))
        if isinstance(again, RunFailure):
            return None
        return self._difference(before, after, noise_levels(sized("", before), sized("", again)))

    def _difference(self, before: Any, after: Any, noise: Mapping[str, float]) -> str | None:
        granted = self.tolerance.of(self.parts[0].output)
        found = _difference(before, after, Tolerance(), noise)
        return found if not found or granted.is_default else _difference(before, after, granted, noise)

    def _of_after(self, values: Values) -> Values:
        return {self.renamed[name]: value for name, value in values.items()}

    @cached_property
    def _sessions(self) -> tuple[object, object]:
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
    def _moved(self) -> object:
        """A session of the part in the first model with its constants moved by one rounding; whole numbers, which may
        be exponents or counts, stay.
        """
        model = ModelProto()
        model.CopyFrom(self._model)
        tensors = list(model.graph.initializer)
        for node in model.graph.node:
            tensors += [item.t for item in node.attribute if node.op_type == "Constant" and item.HasField("t")]
        for tensor in tensors:
            value = array_of(tensor, None) if tensor.data_location != TensorProto.EXTERNAL else None
            if value is not None and is_float(value):
                moved = np.where(value == np.rint(value), value, nudged({"": value})[""]).astype(value.dtype)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        subject, provider = replace(self.case.subjects[0], model=model, path=None), self.case.run.provider
        return open_session(subject, provider, optimise=False, threads=self._threads)

    @property
    def _threads(self) -> int:
        return 1 if sum(np.size(value) for value in self.seen.values()) < _FEW else 0

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
            values = (array_of(tensor, part.graph.folder) for tensor in tensors if math.prod(tensor.dims) <= _SHORT)
            found.update(*(map(float, v.ravel()) for v in values if v is not None and is_float(v)))
        return tuple(sorted(filter(math.isfinite, found))[:_MOST_NUMBERS])


def _result(part: Part, session: object, values: Values) -> Any:
    """What a part gives; a RunFailure where it does not run."""
    if not isinstance(session, Session):
        return session if isinstance(session, RunFailure) else RunFailure("load", str(session), of_model=False)
    found = run_session(session, {name: values[name] for name in part.inputs})
    return found if isinstance(found, RunFailure) else found[part.output]


def _difference(before: Any, after: Any, tolerance: Tolerance, noise: Mapping[str, float]) -> str | None:
    """In what they differ, where the first is finite; None where it is so nowhere, or moves as far for itself."""
    if is_float(before) and is_float(after) and before.shape == after.shape:
        finite = np.isfinite(before)
        if not finite.any():
            return None
        if before.dtype == after.dtype and before.tobytes() == after.tobytes():
            return ""
        before, after = before[finite], after[finite]
    items = compare("", _RUN, before, after, tolerance=tolerance, noise=noise)
    different = next((item.reason for item in items if item.outcome == "different"), "")
    return different or (None if any(item.outcome == "inconclusive" for item in items) else "")
