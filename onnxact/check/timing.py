"""runs of two models in turn, A B A B ... -> how many times faster the second one is, and how sure that is.

Each round gives one ratio, of two measurements that stand next to each other in time; what slows the whole machine down
for a while falls out of it. The median of the rounds counts. Its bounds are order statistics, which no distribution is
assumed for: the median lies outside of them with a probability of at most 1 % on each side (David and Nagaraja, Order
Statistics, 3rd edition, 2003, section 7.1).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Runner = Callable[[], object]
"""Runs a model once."""
Clock = Callable[[], float]
SHORTEST = 2e-3
"""Seconds that a measurement takes at least: a quicker model is run several times for one."""
LEAST = 9
"""Rounds that are run at least, however long they take: with fewer, one outlier could hide the bounds."""
MISSED = 0.01
"""The probability of a median outside of a bound. Of 9 rounds every one has to be faster, of 51 all but 16."""


class Effort(NamedTuple):
    """How many rounds a race has: as many as so many seconds allow, at most `rounds` and at least LEAST."""

    rounds: int
    seconds: float

    def affords(self, round_seconds: float) -> int:
        """Return the number of rounds, where one takes so long."""
        return max(min(self.rounds, LEAST), min(self.rounds, int(self.seconds / max(round_seconds, 1e-9))))


@dataclass(frozen=True)
class Pace:
    """Two models against each other. `before`, `after`: seconds for one run of each, medians of the rounds.

    `ratio`: how many times faster the second one is, the median of the rounds; `low`, `high`: its bounds.
    """

    before: float
    after: float
    ratio: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Pace:
        """Return the pace from the seconds of each round."""
        ratios = sorted(first / second for first, second in zip(before, after, strict=True))
        edge = allowed(len(ratios))
        ends = (ratios[edge], ratios[-1 - edge])
        return cls(
            statistics.median(before), statistics.median(after), statistics.median(ratios), *ends, rounds=len(ratios)
        )

    @property
    def offset(self) -> float:
        """How far the ratio is from 1."""
        return abs(self.ratio - 1)

    def describe(self) -> dict[str, Any]:
        """Return plain data, times in milliseconds."""
        return {
            "before_ms": 1e3 * self.before,
            "after_ms": 1e3 * self.after,
            "ratio": self.ratio,
            "ratio_low": self.low,
            "ratio_high": self.high,
            "rounds": self.rounds,
        }


def allowed(rounds: int) -> int:
    """Return how many of so many rounds may lie beyond a bound of the median; 0 also where even that is not sure."""
    count, chance = 0, 0.5**rounds
    while chance + math.comb(rounds, count + 1) * 0.5**rounds <= MISSED:
        count += 1
        chance += math.comb(rounds, count) * 0.5**rounds
    return count


@dataclass(frozen=True)
class Stopwatch:
    """Measures. `clock` tells the seconds."""

    clock: Clock = time.perf_counter

    def repeats(self, runner: Runner) -> tuple[int, float]:
        """Return how often a model is run for one measurement, and the seconds of one run; it is run twice before."""
        runner()
        runner()
        once = max(self.measure(runner, 1), 1e-9)
        return max(1, math.ceil(SHORTEST / once)), once

    def measure(self, runner: Runner, times: int) -> float:
        """Return the seconds of one run, the mean of so many."""
        begin = self.clock()
        for _ in range(times):
            runner()
        return (self.clock() - begin) / times

    def race(self, first: Runner, others: Mapping[str, Runner], effort: Effort) -> dict[str, Pace]:
        """Run all in turn, and return the pace of each against the first."""
        times, once = self.repeats(first)
        for other in others.values():
            other()
            other()
        before: list[float] = []
        after: dict[str, list[float]] = {name: [] for name in others}
        for _ in range(effort.affords(once * times * (1 + len(others)))):
            before.append(self.measure(first, times))
            for name, other in others.items():
                after[name].append(self.measure(other, times))
        return {name: Pace.of(before, seconds) for name, seconds in after.items()}
