"""What a check found: the runs, the outputs, the sites, and what follows from them.

Three-valued: any difference -> different; else anything not known -> inconclusive; else equivalent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from onnxact.check.diagnosis import Cause, Divergence
from onnxact.check.options import RuntimeOptions
from onnxact.check.placement import SitePlacement
from onnxact.check.site_evidence import KinkCount, SiteEvidence, SiteProbe
from onnxact.check.tolerance import Origin, Tolerance
from onnxact.words import counted

Outcome = Literal["equivalent", "different", "inconclusive"]

__all__ = [
    "EXIT_CODES",
    "POLICY",
    "KinkCount",
    "NotEquivalent",
    "Outcome",
    "OutputEvidence",
    "Run",
    "SiteEvidence",
    "SiteProbe",
    "Tolerance",
    "Verdict",
    "conclude",
]

EXIT_CODES: dict[Outcome, int] = {"equivalent": 0, "different": 1, "inconclusive": 4}
POLICY = "NaN has to meet NaN (payloads are not compared), an infinity the same infinity; -0 equals +0"


class NotEquivalent(AssertionError):  # noqa: N818 - it is an assertion that failed, named like pytest's outcomes
    """Raised by Verdict.raise_unless_equivalent; `verdict` holds the evidence."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("\n".join(verdict.summary()))
        self.verdict = verdict


@dataclass(frozen=True)
class Run:
    """Both models executed once on the same inputs. `before` and `after` are "ran" or why not.

    `is_backend`: `provider` names another runtime, which ran `after`, optimised or not as it likes; `before` ran on the
    CPU provider of ONNX Runtime.

    `placement`: how many nodes each provider was given, of `after`; `placement_before`, of `before`. Empty where ONNX
    Runtime does not tell (before 1.24, for the CPU or with optimisation on).
    """

    inputs: str
    provider: str
    optimise: bool
    before: str = "ran"
    after: str = "ran"
    placement: tuple[tuple[str, int], ...] = ()
    placement_before: tuple[tuple[str, int], ...] = ()
    is_backend: bool = False

    def __str__(self) -> str:
        level = "" if self.is_backend else f", optimisation {'on' if self.optimise else 'off'}"
        return f"{self.inputs}, {self.provider}{level}"


@dataclass(frozen=True)
class OutputEvidence:
    """One output in one run, `before` against `after`.

    `differing` counts elements whose bits differ (two NaNs do not). `max_abs` is the largest |after - before| over the
    finite elements, `max_rel` the largest |after - before| / |before|, `max_u` that in unit roundoffs of the dtype
    (2^-24 float32, 2^-53 double, 2^-11 float16, 2^-8 bfloat16); all 0 for other types, where only counts exist.
    `scale` is the root mean square of the finite elements of `before`. `noise` is how far `before` moves on these
    inputs when optimisation is switched, or between two runs. `worst_*` is the element furthest outside the tolerance,
    `outside` how many are. `rtol`, `atol`: what was applied, which was the `tolerance` "given" by the caller, the
    "default", or "exact" for types that have to be equal. `judged_by` is "bits", "tolerance" or "noise floor" where it
    is equivalent. `least_atol` is the smallest atol that would pass at this rtol, `least_rtol` the smallest rtol at
    this atol; infinite where none would.
    """

    name: str
    run: Run
    outcome: Outcome
    reason: str = ""
    judged_by: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    elements: int = 0
    finite: int = 0
    differing: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    max_u: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    rtol: float = 0.0
    atol: float = 0.0
    worst_index: tuple[int, ...] = ()
    worst_before: float | str | None = None
    worst_after: float | str | None = None
    outside: int = 0
    tolerance: Origin = "default"
    least_rtol: float = 0.0
    least_atol: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What follows from the evidence.

    `reasons`: why it is not "equivalent"; `notes`: what was assumed or left out. `placements` are the sites by where
    they ran. `divergence` and `triage` are there where outputs differ. `runtime` is the version of ONNX Runtime,
    `policy` how NaN and infinities are judged.
    """

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    outputs: tuple[OutputEvidence, ...] = ()
    sites: tuple[SiteEvidence, ...] = ()
    providers: tuple[str, ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    notes: tuple[str, ...] = ()
    placements: tuple[SitePlacement, ...] = ()
    divergence: Divergence | None = None
    triage: tuple[Cause, ...] = ()
    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    runtime: str = ""
    policy: str = POLICY

    @property
    def equivalent(self) -> bool:
        """Whether the outcome is "equivalent"."""
        return self.outcome == "equivalent"

    @property
    def exit_code(self) -> int:
        """0 equivalent, 1 different, 4 inconclusive."""
        return EXIT_CODES[self.outcome]

    def raise_unless_equivalent(self) -> None:
        """Raise NotEquivalent, an AssertionError with the summary, for "different" and "inconclusive"."""
        if not self.equivalent:
            raise NotEquivalent(self)

    def worst_outputs(self) -> tuple[OutputEvidence, ...]:
        """For each output, its worst run: by outcome, then by max_abs."""
        rank: list[Outcome] = ["equivalent", "inconclusive", "different"]
        worst: dict[str, OutputEvidence] = {}
        for item in sorted(self.outputs, key=lambda item: (rank.index(item.outcome), item.differing, item.max_abs)):
            worst[item.name] = item
        order = dict.fromkeys(item.name for item in self.outputs)
        return tuple(worst[name] for name in order)

    def output_outcomes(self) -> dict[str, Outcome]:
        """Output -> what all its runs together say; an output of which no element was compared is inconclusive."""
        found: dict[str, list[OutputEvidence]] = {}
        for item in self.outputs:
            found.setdefault(item.name, []).append(item)
        return {name: _outcome_of(items) for name, items in found.items()}

    def least_tolerances(self) -> dict[str, tuple[float, float]]:
        """Output -> the least rtol at the atol applied, and the least atol at the rtol applied, for all its runs."""
        names = dict.fromkeys(item.name for item in self.outputs)
        runs = {name: [item for item in self.outputs if item.name == name] for name in names}
        return {
            name: (max(item.least_rtol for item in items), max(item.least_atol for item in items))
            for name, items in runs.items()
        }

    def summary(self) -> tuple[str, ...]:
        """Plain lines of text: the outcome, the reasons, the outputs, the sites, the notes."""
        return tuple(_lines(self))

    def to_json(self) -> dict[str, Any]:
        """A dict of plain values for json.dumps; NaN and infinities become the strings "nan", "inf", "-inf"."""
        body = {field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name != "outcome"}
        least = {name: {"rtol": rtol, "atol": atol} for name, (rtol, atol) in self.least_tolerances().items()}
        return {"verdict": self.outcome, **body, "output_verdicts": self.output_outcomes(), "least": _plain(least)}


def _outcome_of(items: list[OutputEvidence]) -> Outcome:
    outcome = conclude([item.outcome for item in items])
    compared = any(item.finite or item.differing for item in items)
    return "inconclusive" if outcome == "equivalent" and not compared else outcome


def conclude(outcomes: list[Outcome]) -> Outcome:
    """The three-valued "and": different beats inconclusive beats equivalent; nothing at all is inconclusive."""
    if "different" in outcomes:
        return "different"
    return "inconclusive" if "inconclusive" in outcomes or not outcomes else "equivalent"


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.outcome}: {counted(len(verdict.runs), 'run')} on {', '.join(verdict.providers) or 'no provider'}"
    yield from (f"  because {reason}" for reason in verdict.reasons)
    if verdict.divergence is not None:
        yield from (f"  {line}" for line in verdict.divergence.lines())
    yield from (f"  likely cause: {cause.text}" for cause in verdict.triage)
    yield from (f"  output {_output_line(item)}" for item in verdict.worst_outputs())
    yield from (f"  {item.site}: {_site_line(item)}" for item in verdict.sites)
    yield from (f"  {item}" for item in verdict.placements if item.provider != "cpu")
    yield from (f"  note: {note}" for note in verdict.notes)
    yield f"  {verdict.policy}"


def _output_line(item: OutputEvidence) -> str:
    size = f"{item.name} {item.dtype}{list(item.shape)}"
    if item.outcome == "equivalent" and not item.differing:
        return f"{size}: bit-equal in every run"
    numbers = f"{item.differing} of {item.elements} elements differ, by at most {item.max_abs:.3g}"
    allowed = f"rtol {item.rtol:.3g}, atol {item.atol:.3g} ({item.tolerance}), noise floor {item.noise:.3g}"
    least = f"least that passes: rtol {item.least_rtol:.3g} or atol {item.least_atol:.3g}"
    return f"{size}: {item.outcome}, {numbers} ({item.max_u:.3g} u; {allowed}; {least}; {item.run})"


def _site_line(item: SiteEvidence) -> str:
    counts = "; ".join(f"{kink.below} below, {kink.at} at, {kink.above} above {kink.kink:g}" for kink in item.counts)
    return "; ".join(part for part in (counts or "no kink", item.reason) if part)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
