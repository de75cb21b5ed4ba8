"""What was found of a site -> its evidence and outcome; the evidence of all sites -> what it means for the verdict.

on its own the same, every branch reached, nothing outside its bound  ->  equivalent
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onnxact.check.accuracy import described
from onnxact.check.alone import Alone
from onnxact.check.compare import DEFAULT_RTOL
from onnxact.check.interval import ANY, Interval
from onnxact.check.meaning import same_function
from onnxact.check.site_evidence import Accuracy, SignCount, SiteEvidence, SiteProbe
from onnxact.check.tally import kink_counts, missing, reached_at_zero, ruled_out, sign_counts
from onnxact.check.verdict import Outcome, OutputEvidence
from onnxact.check.watching import Seen

_AGREES = "what enters it is the same in both models"


@dataclass(frozen=True)
class Found:
    """Everything that was found of one site.

    `before` and `after` are what was seen while the models ran, `problem` why one was not watched. `alone` is what the
    site does on its own, `settled` whether that and what surrounds it settles it; `surroundings`, what around it is not
    the same, where that was looked at. `agrees`: whether what enters it was found to be the same in both models.
    """

    probe: SiteProbe
    before: Seen | None = None
    after: Seen | None = None
    problem: str = ""
    alone: Alone | None = None
    possible: Interval = ANY
    settled: bool = False
    surroundings: str | None = None
    agrees: bool = False

    @property
    def seen(self) -> Seen:
        """What counts for the branches: what entered it before, unless it is in the model after only."""
        return (self.after if self.probe.only_in == "after" else self.before) or Seen()

    @cached_property
    def missed(self) -> tuple[str, ...]:
        """The branches that nothing went through although the graph allows it, or why that is not known."""
        if self.problem:
            return (self.problem,)
        return missing(self.probe, self.seen.tally, self.possible)

    @property
    def is_same_alone(self) -> bool:
        """Whether the site was shown to be the same function in both models, outside of them."""
        return self.alone is not None and self.alone.is_same

    @cached_property
    def unknown(self) -> str:
        """Why it is not known that the site is one function in both models, whatever went through it; "" where it is.

        Equal results on some inputs are no evidence of that: a condition on the values may hide another function.
        """
        if self.alone is not None and self.alone.is_same:
            return self.alone.overflow
        if self.probe.only_in:
            meaning = self.probe.before or self.probe.after
            why = "what it computes is not compared" if self.alone is None else self.alone.text
            return f"{meaning}, in the model {self.probe.only_in} only: {why}"
        if self.probe.before is None or self.probe.after is None:
            side = "before" if self.probe.before is None else "after"
            on_its_own = "" if self.alone is None else f", and on its own it was {self.alone.text}"
            return f"{side}, it is no form of the table{on_its_own}"
        outside = [seen is not None and seen.accuracy is not None and seen.accuracy.is_outside for seen in self._both]
        return "what left it is outside the bound of its form in both models" if all(outside) else ""

    @property
    def _both(self) -> tuple[Seen | None, Seen | None]:
        return self.before, self.after

    @property
    def asks_for_agreement(self) -> bool:
        """Whether the missed branches matter less where the same values enter the same site in both models: some
        channels missed some, or a bound far from zero was never passed.
        """
        same = self.is_same_alone and not self.problem and not self.settled
        counted = self.seen.tally
        zero = counted is not None and reached_at_zero(self.probe, counted, self.possible)
        return same and bool(self.missed) and zero


def evidence_of(found: Found) -> SiteEvidence:
    """The evidence with its outcome."""
    probe, counted = found.probe, found.seen.tally
    differs = _differs(found)
    missed = "" if differs and found.problem else "; ".join(found.missed)
    settled = bool(found.missed) and (found.settled or found.agrees)
    unknown = "" if differs else found.unknown
    is_known = (settled or not found.missed) and not unknown
    signs, channels = sign_counts(counted) if counted is not None else (SignCount(), ())
    accuracies = [None if seen is None else seen.accuracy for seen in (found.before, found.after)]
    return SiteEvidence(
        probe,
        reached=not found.missed,
        settled=settled,
        outcome="different" if differs else "equivalent" if is_known else "inconclusive",
        differs=differs,
        unknown=unknown,
        missed=missed,
        ruled_out=ruled_out(probe, found.possible) if counted is not None else "",
        alone="" if found.alone is None else found.alone.text,
        surroundings=_around(found),
        counts=kink_counts(probe, counted) if counted is not None else (),
        signs=signs,
        channels=channels,
        before=accuracies[0],
        after=accuracies[1],
        alone_before=None if found.alone is None else found.alone.before,
        alone_after=None if found.alone is None else found.alone.after,
        elements=0 if counted is None else counted.elements,
        nan=0 if counted is None else counted.nan,
        infinite=0 if counted is None else counted.infinite,
        shape=() if counted is None else counted.shape,
        dtype="" if counted is None else counted.dtype,
        notes=tuple(_notes(found, differs)),
    )


def weighed(item: SiteEvidence, outputs: Sequence[OutputEvidence]) -> SiteEvidence:
    """The evidence of a site, tolerated where it is another function, inputs went through all of it, and the outputs
    that differ are all within a tolerance that the caller gave.
    """
    moved = [output for output in outputs if output.differing]
    within = all(output.outcome == "equivalent" and output.tolerance == "given" for output in moved)
    return replace(item, tolerated=bool(item.differs and item.reached and moved and within))


def site_outcome(item: SiteEvidence, outputs: Sequence[OutputEvidence]) -> Outcome | None:
    """What one site means for the whole verdict; None where it says nothing against "equivalent".

    A site of another function is a difference where any output differs by as much as a bit. Where none does, something
    hides it on all inputs that were tried, and the models need not differ.
    """
    if item.differs and not item.tolerated:
        return "different" if any(output.differing for output in outputs) else "inconclusive"
    return "inconclusive" if item.doubt else None


def _differs(found: Found) -> str:
    """How the site is another function after than before; "" where nothing shows that."""
    texts = []
    probe, alone = found.probe, found.alone
    if probe.before is not None and probe.after is not None and not same_function(probe.before, probe.after):
        texts.append(f"{probe.before} before, {probe.after} after")
    if alone is not None and alone.text.startswith("differs"):
        return "; ".join([*texts, f"on its own it {alone.text}"])
    outside = _outside(found)
    return "; ".join([*texts, outside]) if outside else ""


def _outside(found: Found) -> str:
    """What left the site of one model outside its bound. Where both are, the bound is not what tells them apart."""
    before, after = (None if seen is None else seen.accuracy for seen in (found.before, found.after))
    sides = [(side, item) for side, item in (("after", after), ("before", before)) if item is not None]
    outside = [(side, item) for side, item in sides if item.is_outside]
    if len(outside) != 1 or found.probe.only_in:
        return ""
    side, item = outside[0]
    if found.is_same_alone and not _is_gross(item, found.seen):
        return ""
    return f"{side}, {described(item)} ({item.inputs})"


def _is_gross(item: Accuracy, seen: Seen) -> bool:
    """Whether the worst element is further off than two outputs may be, so that no kernel explains it."""
    if item.problem or item.y is None or item.expected is None or seen.tally is None:
        return True
    rtol = DEFAULT_RTOL.get(seen.tally.dtype, 0.0)
    return not abs(item.y - item.expected) <= rtol * abs(item.expected)


def _around(found: Found) -> str:
    if found.surroundings is None:
        return ""
    return found.surroundings or "the same"


def _notes(found: Found, differs: str) -> Iterator[str]:
    probe, alone = found.probe, found.alone
    if found.is_same_alone and not probe.only_in and (probe.before is None) != (probe.after is None):
        yield f"{'before' if probe.before is None else 'after'}, it is no form of the table"
    if alone is not None:
        yield from alone.notes
    yield from _in_the_model(found, differs)
    if not found.missed:
        return
    if found.settled:
        yield "everything around it is the same in both models, and so is the site on its own"
    elif found.agrees:
        yield f"{_AGREES}, and so is the site on its own"
    elif found.surroundings and not differs and found.is_same_alone:
        yield f"not settled by the site being the same on its own, since {found.surroundings}"


def _in_the_model(found: Found, differs: str) -> Iterator[str]:
    """What forms did at special values in the models' own runs, and which was beyond its bound without another one."""
    for side, seen in (("before", found.before), ("after", found.after)):
        accuracy = None if seen is None else seen.accuracy
        if accuracy is not None:
            yield from (f"{side}, {text}" for text in accuracy.declared)
            if accuracy.is_outside and not differs:
                yield f"{side}, beyond the bound of its form: {described(accuracy)} ({accuracy.inputs})"
