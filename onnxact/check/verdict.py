"""What a check found: the runs, the outputs, the sites, and what follows from them.

Three-valued: any difference -> different; else anything not known -> inconclusive; else equivalent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal

Outcome = Literal["equivalent", "different", "inconclusive"]

EXIT_CODES: dict[Outcome, int] = {"equivalent": 0, "different": 1, "inconclusive": 4}


class NotEquivalent(AssertionError):  # noqa: N818 - it is an assertion that failed, named like pytest's outcomes
    """Raised by Verdict.raise_unless_equivalent; `verdict` holds the evidence."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("\n".join(verdict.summary()))
        self.verdict = verdict


@dataclass(frozen=True)
class Tolerance:
    """NumPy's rule, |after - before| <= atol + rtol * |before|; None stands for the default (see compare)."""

    rtol: float | None = None
    atol: float | None = None

    @property
    def is_default(self) -> bool:
        """Whether the caller left both to onnxact."""
        return self.rtol is None and self.atol is None


@dataclass(frozen=True)
class Run:
    """Both models executed once on the same inputs. `before` and `after` are "ran" or why not.

    `placement`: nodes that each provider was given, of `after`; empty where only the CPU was asked for, or where ONNX
    Runtime does not tell.
    """

    inputs: str
    provider: str
    optimise: bool
    before: str = "ran"
    after: str = "ran"
    placement: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.inputs}, {self.provider}, optimisation {'on' if self.optimise else 'off'}"


@dataclass(frozen=True)
class OutputEvidence:
    """One output in one run, `before` against `after`.

    `differing` counts elements whose bits differ (two NaNs do not). `max_abs` is the largest |after - before| over the
    finite elements, `max_rel` the largest |after - before| / |before|, `max_u` that in unit roundoffs of the dtype
    (2^-24 float32, 2^-53 double, 2^-11 float16, 2^-8 bfloat16); all 0 for other types, where only counts exist.
    `scale` is the root mean square of the finite elements of `before`. `noise` is how far `before` moves on these
    inputs when optimisation is switched, or between two runs. `worst_*` is the element furthest outside the tolerance.
    `rtol`, `atol`: what was applied. `judged_by` is "bits", "tolerance" or "noise floor" where it is equivalent.
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


@dataclass(frozen=True)
class SiteProbe:
    """A site to be reached: the main-graph value `input` that enters the activation at `node` and leaves as `output`.

    `scope` "" is the main graph. `kinks` are the points where the activation changes its branch. `channel_axis` is
    given where each channel has its own slope, so that each has to be reached.
    """

    scope: str
    node: str
    input: str
    output: str
    kinks: tuple[float, ...] = (0.0,)
    channel_axis: int | None = None

    def __str__(self) -> str:
        where = f" in {self.scope}" if self.scope else ""
        return f"site {self.node or self.output!r}{where}"


@dataclass(frozen=True)
class KinkCount:
    """Elements on each side of one kink, over all inputs; channels that had none on a side, where channels count."""

    kink: float
    below: int
    at: int
    above: int
    channels: int = 0
    channels_never_below: tuple[int, ...] = ()
    channels_never_above: tuple[int, ...] = ()


@dataclass(frozen=True)
class SiteEvidence:
    """Which branches of a site the inputs went through.

    `missed` are the ones that they did not, although nothing in the graph rules them out, or why nothing was observed;
    `ruled_out`, what the graph rules out. `reached`: every other one, or the site is the same on its own: `alone` is
    "same", "differs: ...", "not run: ...", or empty where it was not tried. `shape` and `dtype` are of the value that
    enters.
    """

    site: SiteProbe
    reached: bool
    missed: str = ""
    ruled_out: str = ""
    alone: str = ""
    counts: tuple[KinkCount, ...] = ()
    elements: int = 0
    nan: int = 0
    infinite: int = 0
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @property
    def reason(self) -> str:
        """What was missed, what cannot be, and what the site does on its own, in words."""
        alone = f"on its own: {self.alone}" if self.alone else ""
        return "; ".join(part for part in (self.missed, self.ruled_out, alone) if part)

    @property
    def doubt(self) -> str:
        """Why this site keeps the verdict from being "equivalent"; empty where it does not."""
        differs = f"on its own it {self.alone}" if self.alone.startswith("differs") else ""
        return "; ".join(part for part in ("" if self.reached else self.missed, differs) if part)


@dataclass(frozen=True)
class Verdict:
    """What follows from the evidence. `reasons`: why it is not "equivalent"; `notes`: what was assumed or left out."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()
    outputs: tuple[OutputEvidence, ...] = ()
    sites: tuple[SiteEvidence, ...] = ()
    providers: tuple[str, ...] = ()
    tolerance: Tolerance = Tolerance()
    notes: tuple[str, ...] = ()

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

    def summary(self) -> tuple[str, ...]:
        """Plain lines of text: the outcome, the reasons, the outputs, the sites, the notes."""
        return tuple(_lines(self))

    def to_json(self) -> dict[str, Any]:
        """A dict of plain values for json.dumps; NaN and infinities become the strings "nan", "inf", "-inf"."""
        body = {field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name != "outcome"}
        return {"verdict": self.outcome, **body}


def conclude(outcomes: list[Outcome]) -> Outcome:
    """The three-valued "and": different beats inconclusive beats equivalent; nothing at all is inconclusive."""
    if "different" in outcomes:
        return "different"
    return "inconclusive" if "inconclusive" in outcomes or not outcomes else "equivalent"


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.outcome}: {len(verdict.runs)} runs on {', '.join(verdict.providers) or 'no provider'}"
    yield from (f"  because {reason}" for reason in verdict.reasons)
    yield from (f"  output {_output_line(item)}" for item in verdict.worst_outputs())
    yield from (f"  {item.site}: {_site_line(item)}" for item in verdict.sites)
    yield from (f"  note: {note}" for note in verdict.notes)


def _output_line(item: OutputEvidence) -> str:
    size = f"{item.name} {item.dtype}{list(item.shape)}"
    if item.outcome == "equivalent" and not item.differing:
        return f"{size}: bit-equal in every run"
    numbers = f"{item.differing} of {item.elements} elements differ, by at most {item.max_abs:.3g}"
    allowed = f"rtol {item.rtol:.3g}, atol {item.atol:.3g}, noise floor {item.noise:.3g}"
    return f"{size}: {item.outcome}, {numbers} ({item.max_u:.3g} u; {allowed}; {item.run})"


def _site_line(item: SiteEvidence) -> str:
    counts = "; ".join(f"{kink.below} below, {kink.at} at, {kink.above} above {kink.kink:g}" for kink in item.counts)
    return "; ".join(part for part in (counts or "no kink", item.reason) if part)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(item) for key, item in asdict(value).items()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
