"""What there is to explain: two models that differ, where they do, and the first value that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onnxact.check.case import Case
from onnxact.check.compare import compare
from onnxact.check.diagnosis import Divergence
from onnxact.check.session import Outputs, RunFailure
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import OutputEvidence, Run


@dataclass(frozen=True)
class Symptoms:
    """`outputs` is the evidence of all runs; `case` is the run that is looked into."""

    case: Case
    outputs: tuple[OutputEvidence, ...]
    tolerance: Tolerance
    divergence: Divergence | None = None

    @property
    def failing(self) -> tuple[OutputEvidence, ...]:
        """The outputs that do not agree in the run that is looked into."""
        return tuple(item for item in self.outputs if item.run == self.case.run and item.outcome != "equivalent")

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs of the models that do not agree, sequences as a whole."""
        declared = [value.name for value in self.case.before.model.graph.output]
        failing = {item.name for item in self.failing}
        return tuple(name for name in declared if any(item == name or item.startswith(f"{name}[") for item in failing))

    @property
    def only_optimised(self) -> bool:
        """Whether all runs with optimisation off agree on the outputs that fail with it on."""
        failing = {item.name for item in self.failing}
        plain = [item for item in self.outputs if not item.run.optimise and item.name in failing]
        return self.case.run.optimise and bool(plain) and all(item.outcome == "equivalent" for item in plain)


def differing(
    first: Outputs | RunFailure, second: Outputs | RunFailure, tolerance: Tolerance
) -> Mapping[str, OutputEvidence] | None:
    """Output -> how it differs, for those that do; None where one did not run."""
    if isinstance(first, RunFailure) or isinstance(second, RunFailure):
        return None
    run = Run("follow-up", "", False)
    items = (
        item
        for name in first
        for item in compare(name, run, first[name], second[name], tolerance=tolerance, noise={})
        if item.outcome != "equivalent"
    )
    return {item.name: item for item in items}


def moves(first: Outputs | RunFailure, second: Outputs | RunFailure) -> float | None:
    """The largest difference between two runs of one model, 0 where no bit differs; None where one did not run."""
    found = differing(first, second, Tolerance(0.0, 0.0))
    if found is None:
        return None
    return max((_size(item) for item in found.values()), default=0.0)


def _size(item: OutputEvidence) -> float:
    """Where it is no number, such as NaN on one side, infinite."""
    return item.max_abs if item.dtype and item.max_abs else float("inf")


def arrays(result: Outputs | RunFailure) -> Iterator[tuple[str, Any]]:
    """The outputs of a run that are single tensors."""
    if not isinstance(result, RunFailure):
        yield from ((name, value) for name, value in result.items() if hasattr(value, "dtype"))
