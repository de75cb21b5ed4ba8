"""A dtype -> its bit patterns as integers: all of them in order, a stated sample, and the special ones by name.

float32  ->  0x00000000 ... 0xffffffff;  {"+0": 0x00000000, "-inf": 0xff800000, "largest": 0x7f7fffff, ...}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxact.activation.numeric import FLOATS, rounded
from onnxact.activation.primitives import Array
from onnxact.activation.rounding import limits, unit_roundoff

SEED = 20
_RANDOM = {16: 0, 32: 1024, 64: 192}
"""Random mantissas for each sign and exponent of a sample."""


@dataclass(frozen=True)
class Space:
    """The bit patterns of one of the four dtypes."""

    dtype: str

    @cached_property
    def kind(self) -> np.dtype[Any]:
        """NumPy's dtype of the numbers."""
        return FLOATS[self.dtype]

    @cached_property
    def word(self) -> np.dtype[Any]:
        """The unsigned integer of the same width."""
        return np.dtype(f"u{self.kind.itemsize}")

    @property
    def width(self) -> int:
        """Bits in a number."""
        return 8 * self.kind.itemsize

    @property
    def total(self) -> int:
        """How many bit patterns there are."""
        return 1 << self.width

    @cached_property
    def mantissa(self) -> int:
        """Bits in the mantissa as it is stored."""
        return int(limits(self.kind).nmant)

    @property
    def sign(self) -> int:
        """The pattern of -0."""
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        """The pattern of +inf; above it, the sign left out, is NaN."""
        return self.sign - (1 << self.mantissa)

    @cached_property
    def unit(self) -> float:
        """u, half the distance from 1 to the next number."""
        return unit_roundoff(self.kind)

    @cached_property
    def smallest_normal(self) -> float:
        """The smallest number with a full mantissa; u times it is half the distance of subnormal numbers."""
        return float(limits(self.kind).smallest_normal)

    def numbers(self, patterns: Array) -> Array:
        """Return bit patterns as numbers of the dtype, without a copy."""
        return patterns.view(self.kind)

    def patterns(self, values: Iterable[float] | Array) -> Array:
        """Return numbers, rounded to the dtype, as bit patterns."""
        return np.asarray(np.atleast_1d(rounded(values, self.kind)).view(self.word))

    def magnitude(self, patterns: Array) -> Array:
        """Return the patterns without their sign."""
        return np.asarray(patterns & self.word.type(self.sign - 1))

    def is_nan(self, patterns: Array) -> Array:
        """Tell which patterns are NaN."""
        return np.asarray(self.magnitude(patterns) > self.word.type(self.infinity))

    def is_finite(self, patterns: Array) -> Array:
        """Tell which patterns are numbers, neither infinite nor NaN."""
        return np.asarray(self.magnitude(patterns) < self.word.type(self.infinity))

    def is_zero(self, patterns: Array) -> Array:
        """Tell which patterns are zeros, of either sign."""
        return np.asarray(self.magnitude(patterns) == 0)

    def sample(self) -> Array:
        """Return patterns of every sign and exponent, NaN included: structured mantissas and random ones.

        Structured: all zeros, all ones, each single bit, and the neighbours of these. The draw is always the same.
        All patterns of a 16-bit dtype.
        """
        if self.width == 16:
            return np.arange(self.total, dtype=self.word)
        ends = [0, (1 << self.mantissa) - 1, *(1 << bit for bit in range(self.mantissa))]
        near = sorted({end + step & (1 << self.mantissa) - 1 for end in ends for step in (-1, 0, 1)})
        strata = self.total >> self.mantissa
        draws = np.random.default_rng(SEED).integers(0, 1 << self.mantissa, (strata, _RANDOM[self.width]), self.word)
        structured = np.broadcast_to(np.array(near, self.word), (strata, len(near)))
        heads = np.arange(strata, dtype=self.word) << self.word.type(self.mantissa)
        return np.asarray(heads[:, np.newaxis] | np.concatenate([structured, draws], axis=1)).reshape(-1)

    def special(self, kinks: Iterable[float] = ()) -> dict[str, int]:
        """Return name -> pattern of the special inputs, and of each finite kink with its two neighbours."""
        edge = {"0": 0, "smallest subnormal": 1, "largest subnormal": (1 << self.mantissa) - 1}
        edge |= {"smallest normal": 1 << self.mantissa, "largest": self.infinity - 1, "inf": self.infinity}
        named: dict[str, int] = {}
        for name, pattern in edge.items():
            plus = "+" if name in ("0", "inf") else ""
            named |= {plus + name: pattern, "-" + name: pattern | self.sign}
        named["nan"] = self.infinity | 1 << (self.mantissa - 1)
        for kink in kinks:
            named |= self._around(kink)
        return named

    def _around(self, kink: float) -> dict[str, int]:
        """Return a kink and its neighbours; at zero these are the subnormal numbers already named."""
        if not np.isfinite(kink) or kink == 0:
            return {}
        at = int(self.patterns([kink])[0])
        text = f"{float(self.numbers(np.array([at], self.word))[0]):.6g}"
        return {f"kink {text}": at, f"{text} toward 0": at - 1, f"{text} away from 0": at + 1}
