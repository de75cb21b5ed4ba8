"""(sites, sets of inputs) -> what entered every site in PyTorch, and further inputs for branches that nothing took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from onnxact.check.inputs import Feed
from onnxact.check.interval import Interval
from onnxact.check.site_evidence import SignCount, SiteEvidence, SiteProbe
from onnxact.check.tally import Tally, kink_counts, missed_branches, missing, ruled_out, sign_counts, tally
from onnxact.export.alone import Tried
from onnxact.export.eager import to_array
from onnxact.export.sites import Located
from onnxact.export.tracing import Key, Trace

Possible = Callable[[SiteProbe], Interval]
_FEW = 8
"""Candidates: further seeds, the other sign, ten times the size."""
_MANY = 1 << 30
_NOT_SEEN = "PyTorch's program has no value of its own for what enters it"


@dataclass(frozen=True)
class Covered:
    """What entered the sites, the graphs of the program that were run, and the further inputs that it took."""

    tallies: dict[SiteProbe, Tally]
    paths: frozenset[str] = frozenset()
    feeds: tuple[Feed, ...] = ()

    def plus(self, other: Covered) -> Covered:
        """Return both together."""
        more = {
            probe: self.tallies[probe].plus(counted) if probe in self.tallies else counted
            for probe, counted in other.tallies.items()
        }
        return Covered({**self.tallies, **more}, self.paths | other.paths, self.feeds + other.feeds)


@dataclass(frozen=True)
class Coverage:
    """A program, its sites, and how to feed it.

    `tensors` turns a set of inputs into the program's; `possible` says what can enter a site at all, `settled` whether
    a site needs nothing to enter it.
    """

    trace: Trace
    sites: tuple[Located, ...]
    tensors: Callable[[Feed], Sequence[Tensor]]
    possible: Possible
    settled: Callable[[SiteProbe], bool]

    def over(self, feeds: Sequence[Feed], candidates: Callable[[], Iterable[Feed]]) -> Covered:
        """Count over `feeds`, then over `candidates` until every branch was taken; those that helped are kept.

        Where all that is left are sites that are settled, few candidates are tried. A set of inputs on which PyTorch
        fails, as the sizes of a candidate may make it, counts nothing.
        """
        found = Covered({})
        if not self._watched and len(self.trace.paths) == 1:
            return found
        for feed in feeds:
            found = found.plus(self._observed(feed))
        for number, feed in enumerate(candidates()):
            missed = self._missed(found)
            if not missed or (number >= _FEW and not self._is_open(found)):
                break
            more = found.plus(self._observed(feed))
            if self._missed(more) < missed:
                found = replace(more, feeds=(*found.feeds, feed))
        return found

    @cached_property
    def _watched(self) -> dict[Key, list[SiteProbe]]:
        found: dict[Key, list[SiteProbe]] = {}
        for site in self.sites:
            if site.x is not None:
                found.setdefault(site.x, []).append(site.probe)
        return found

    @property
    def _probes(self) -> list[SiteProbe]:
        return [probe for items in self._watched.values() for probe in items]

    def _observed(self, feed: Feed) -> Covered:
        """Return what enters the sites; nothing where PyTorch fails or an output has no finite value."""
        tallies: dict[SiteProbe, Tally] = {}
        paths: set[str] = set()

        def take(key: Key, value: Tensor) -> None:
            paths.add(key[0])
            for probe in self._watched.get(key, ()):
                counted = tally(probe, to_array(value))
                tallies[probe] = tallies[probe].plus(counted) if probe in tallies else counted

        try:
            outputs = self.trace.run(self.tensors(feed), take)
        except Exception:  # noqa: BLE001 - sizes that the module does not take
            return Covered({})
        floats = [item for item in outputs if item.is_floating_point() and item.numel()]
        is_told = all(bool(torch.isfinite(item).any()) for item in floats)
        return Covered(tallies, frozenset(paths)) if is_told else Covered({})

    def untaken(self, found: Covered) -> tuple[str, ...]:
        """Return the branches and bodies of the program that were not run at all."""
        return tuple(path for path in self.trace.paths if path and path not in found.paths)

    def _is_open(self, found: Covered) -> bool:
        """Tell whether something was not run at all, or a branch is missed of a site that nothing else settles."""
        return bool(self.untaken(found)) or any(
            missed_branches(probe, found.tallies.get(probe), self.possible(probe))
            for probe in self._probes
            if not self.settled(probe)
        )

    def _missed(self, found: Covered) -> int:
        """Return how many branches nothing took; what was not run at all counts as many."""
        missed = (missed_branches(probe, found.tallies.get(probe), self.possible(probe)) for probe in self._probes)
        return sum(missed) + len(self.untaken(found)) * _MANY


def site_evidence(site: Located, covered: Covered, tried: Tried, possible: Possible) -> SiteEvidence:
    """Return what was found of one site; one that is the same on its own is settled, once anything entered it."""
    probe, counted = site.probe, covered.tallies.get(site.probe)
    interval = possible(probe)
    lacking = missing(probe, counted, interval) if site.x is not None else (_NOT_SEEN,)
    differs = tried.text.removeprefix("differs: ") if tried.text and not tried.is_same else ""
    reached = not lacking or (tried.is_same and counted is not None)
    signs, channels = sign_counts(counted) if counted is not None else (SignCount(), ())
    return SiteEvidence(
        probe,
        reached=reached,
        outcome="different" if differs else "equivalent" if reached else "inconclusive",
        differs=differs and f"on its own it {tried.text}",
        missed="; ".join(lacking),
        ruled_out=ruled_out(probe, interval) if counted is not None else "",
        alone=tried.text,
        counts=kink_counts(probe, counted) if counted is not None else (),
        signs=signs,
        channels=channels,
        elements=0 if counted is None else counted.elements,
        nan=0 if counted is None else counted.nan,
        infinite=0 if counted is None else counted.infinite,
        shape=() if counted is None else counted.shape,
        dtype="" if counted is None else counted.dtype,
        notes=tried.notes,
    )
