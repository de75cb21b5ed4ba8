"""What onnxact has to reach, as rows of limit and measurement."""

from __future__ import annotations

from typing import NamedTuple

from measure import Results, Spread

LONG, SHORT = "chain of 100,000", "chain of 10,000"
LARGE = "8 GB external"
COMMAND = ("command line", "swap", "onnxact swap-relu")
IMPORT = ("command line", "swap", "import onnx")


class Requirement(NamedTuple):
    """One limit. `at_least`: the measurement must reach it; else it must not pass it."""

    text: str
    limit: float
    unit: str
    measured: Spread | None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """PASS, FAIL, or that nothing was measured; the median counts."""
        if self.measured is None:
            return "not measured"
        median = self.measured.median
        return "PASS" if (median >= self.limit if self.at_least else median <= self.limit) else "FAIL"

    @property
    def bound(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g} {self.unit}"


def requirements(results: Results) -> list[Requirement]:
    """Return every requirement with what was measured."""
    swap, decompose = (LONG, "swap", "onnxact"), (LONG, "decompose", "onnxact")
    peak = results.peak(LARGE, "swap", "onnxact")
    return [
        Requirement("swap / floor", 2, "x", results.ratio(swap, (LONG, "swap", "floor"))),
        Requirement("decompose to mul-abs-add / floor", 7, "x", results.ratio(decompose, (LONG, "decompose", "floor"))),
        Requirement("swap, 10,000 -> 100,000 nodes", 11, "x", results.ratio(swap, (SHORT, "swap", "onnxact"))),
        Requirement(
            "decompose, 10,000 -> 100,000 nodes", 11, "x", results.ratio(decompose, (SHORT, "decompose", "onnxact"))
        ),
        Requirement(
            "swap, faster than onnx-graphsurgeon", 8, "x",
            results.ratio((LONG, "swap", "onnx-graphsurgeon"), swap), True,
        ),
        Requirement(
            "decompose, faster than onnxscript's rewriter", 12, "x",
            results.ratio((LONG, "decompose", "onnxscript"), decompose), True,
        ),
        Requirement("8 GB of external weights, swap", 0.5, "s", results.seconds(LARGE, "swap", "onnxact")),
        Requirement(
            "8 GB of external weights, peak memory", 100, "MB", peak and Spread(*(value / 1e6 for value in peak))
        ),
        Requirement("onnxact swap-relu --no-check / import onnx", 2, "x", results.ratio(COMMAND, IMPORT)),
    ]  # fmt: skip
