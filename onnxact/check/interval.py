"""Interval arithmetic over floating results: [0, 1] plus [0, inf) -> [0, inf).

Bounds of rounded results are widened by 1 %, far more than one rounding; that keeps their sign, and 0 stays 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Both ends included; by default, everything."""

    low: float = -math.inf
    high: float = math.inf

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def meet(self, other: Interval) -> Interval:
        """What lies in both."""
        return Interval(max(self.low, other.low), min(self.high, other.high))

    def widened(self) -> Interval:
        """One percent further out at each end."""
        return Interval(self.low * (0.99 if self.low > 0 else 1.01), self.high * (1.01 if self.high > 0 else 0.99))

    def plus(self, other: Interval) -> Interval:
        """x + y, rounded."""
        low, high = self.low + other.low, self.high + other.high
        return ANY if math.isnan(low) or math.isnan(high) else Interval(low, high).widened()

    def negated(self) -> Interval:
        """-x."""
        return Interval(-self.high, -self.low)

    def times(self, other: Interval) -> Interval:
        """x * y, rounded. 0 times an infinite end is 0: a value that is infinite gives NaN."""
        pairs = [(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        ends = [0.0 if 0.0 in pair else pair[0] * pair[1] for pair in pairs]
        return Interval(min(ends), max(ends)).widened()

    def reciprocal(self) -> Interval:
        """1 / x, rounded; everything where x may be zero."""
        if self.low <= 0 <= self.high:
            return ANY
        return Interval(1 / self.high, 1 / self.low).widened()

    def magnitude(self) -> Interval:
        """abs(x)."""
        ends = sorted((abs(self.low), abs(self.high)))
        return Interval(0.0 if self.low <= 0 <= self.high else ends[0], ends[1])

    def sign(self) -> Interval:
        """The sign alone: [0, inf), (-inf, 0] or everything."""
        return Interval(0.0 if self.low >= 0 else -math.inf, 0.0 if self.high <= 0 else math.inf)


ANY = Interval()
NOT_NEGATIVE = Interval(0.0)
UNIT = Interval(0.0, 1.0)
ZERO = Interval(0.0, 0.0)
