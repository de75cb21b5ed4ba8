"""(random generator, shape, limits) -> arrays for graph inputs: signed, of many magnitudes, or within limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from onnxact.activation.selection import select
from onnxact.errors import UsageError

Array = npt.NDArray[Any]
ValRange = tuple[float, float] | Mapping[str, tuple[float, float]]
"""Low and high for all inputs, or by the input's name; the name "" stands for all that are not named."""

_SMALLEST, _LARGEST = -3.0, 1.0
"""log10 of the magnitudes."""
_RARELY = 1 / 64
_BLOCK = 1 << 14
_DRAWN, _REPEATED = 1 << 18, 3 << 16
_SIGNS = (1.0, -1.0)
_SEVERAL, _EXTREME, _ENDS, _ROUNDED = 64, 4, (10.1, 11.0), 9.0
"""From how many numbers on how many of each sign lie between these ends; the magnitude up to which some are rounded."""


@dataclass(frozen=True)
class Limits:
    """What a caller allows: low and high of the inputs by name, "" for all others; none where nothing is said."""

    by_name: Mapping[str, tuple[float, float]]

    def of(self, name: str) -> tuple[float, float] | None:
        """The limits of one input."""
        return self.by_name.get(name, self.by_name.get(""))

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs that are named."""
        return tuple(name for name in self.by_name if name)


FREE = Limits({})


def as_limits(asked: ValRange | None) -> Limits:
    """What `val_range` means. Raises UsageError for limits that are not two finite numbers, low first."""
    if asked is None:
        return FREE
    by_name = dict(asked) if isinstance(asked, Mapping) else {"": asked}
    for name, pair in by_name.items():
        low, high = _pair(name, pair)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise UsageError(f"value range{_of(name)}: [{low:g}, {high:g}] is not two finite numbers, the lower first")
    return Limits({name: (float(pair[0]), float(pair[1])) for name, pair in by_name.items()})


def parse_val_range(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """["-1,1", "x:0,255", "y:[2,50]"] -> {"": (-1.0, 1.0), "x": (0.0, 255.0), "y": (2.0, 50.0)}.

    Brackets, as Polygraphy has them, are allowed; names may hold colons. Raises UsageError for anything else.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, colon, limits = text.rpartition(":")
        if colon and not name:
            raise UsageError(f"value range {text!r}: a name before the colon is missing")
        if name in found:
            raise UsageError(f"value range {text!r}: {name or 'what holds for all inputs'} is given twice")
        found[name] = _numbers(limits, text)
    as_limits(found)
    return found


def signed_values(rng: np.random.Generator, shape: Sequence[int], dtype: Any) -> Array:
    """Half uniform of mean 0 and variance 1, half of log-uniform magnitude 1e-3..1e1 and random sign, one in 64 zero.
    Of both, one in 17 is rounded to halves: ties of roundings, and numbers that models compare with. In 64 or more, a
    few are larger, no two alike, anywhere: what a maximum is taken of matters.

    In float64 for that dtype, else in float32. Of more than a quarter of a million, the others repeat three quarters of
    these, each time from another one on, with another factor of either sign: no two rows have the same norm.
    """
    wide = np.float64 if dtype == np.float64 else np.float32
    values = np.empty(shape, wide)
    flat = values.reshape(-1)
    drawn = flat[:_DRAWN]
    _draw(rng, drawn)
    for start in range(drawn.size, flat.size, _REPEATED):
        rest = flat[start : start + _REPEATED]
        turn, factor = int(rng.integers(1, drawn.size)), float(rng.uniform(0.5, 1.0) * rng.choice(_SIGNS))
        first, second = rest[: drawn.size - turn], rest[drawn.size - turn :]
        np.multiply(drawn[turn:][: first.size], factor, out=first)
        np.multiply(drawn[: second.size], factor, out=second)
        _round_some(rest, turn)
        rest += 0  # zeros of either sign become +0
    if flat.size >= _SEVERAL:
        places = rng.integers(0, flat.size, 2 * _EXTREME)
        flat[places] = np.repeat(_SIGNS, _EXTREME) * rng.uniform(*_ENDS, 2 * _EXTREME)
    return values


def _draw(rng: np.random.Generator, flat: Array) -> None:
    """Fill an array, a block at a time, with one number and one byte drawn for each."""
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        rng.random(out=block, dtype=flat.dtype.type)
        kind = np.frombuffer(rng.bytes(block.size), np.uint8)
        block *= 2
        block -= 1
        magnitude = np.abs(block)
        magnitude *= math.log(10) * (_LARGEST - _SMALLEST)
        magnitude += math.log(10) * _SMALLEST
        np.copysign(np.exp(magnitude, out=magnitude), block, out=magnitude)
        block *= math.sqrt(3)
        block[:] = select(kind < 128, magnitude, block)
        _round_some(block, int(kind[0]))
        block *= kind >= 256 * _RARELY
        block += 0  # zeros of either sign become +0


def _round_some(flat: Array, first: int) -> None:
    """Round one number in 17 to halves; none of the largest, so that they stay apart."""
    some = flat[first % 17 :: 17]
    np.copyto(some, np.rint(2 * some) / 2, where=np.abs(some) < _ROUNDED)


def signed_integers(rng: np.random.Generator, shape: Sequence[int], dtype: Any, largest: int) -> Array:
    """Half from -2..2, half of log-uniform magnitude up to `largest` and random sign, one in 64 as large; no sign for
    an unsigned dtype. Of two or more, one is large and one large and below 0, so that few are not all alike. The least
    number of a signed dtype is left out: its quotient by -1 stops the process.
    """
    signed = np.iinfo(dtype).min < 0
    magnitude = np.exp2(rng.uniform(0, math.log2(largest), shape)).astype(dtype)
    magnitude = np.where(rng.random(shape) < _RARELY, np.array(largest, dtype), np.minimum(magnitude, largest))
    values = np.where(rng.random(shape) < 0.5, rng.integers(0, 2, shape, dtype, endpoint=True), magnitude)
    negative = rng.random(shape) < (0.5 if signed else 0.0)
    found = np.asarray(np.where(negative, np.negative(values), values).astype(dtype))
    if found.size > 1:
        large = np.exp2(rng.uniform(math.log2(largest) / 2, math.log2(largest), 2)).astype(dtype)
        ends = np.minimum(large, np.array(largest, dtype))
        found.reshape(-1)[rng.permutation(found.size)[:2]] = [ends[0], -ends[1] if signed else ends[1]]
    return found


def ranged_values(rng: np.random.Generator, shape: Sequence[int], dtype: Any, low: float, high: float) -> Array:
    """Values within [low, high]: half uniform, half of log-uniform magnitude; both ends and zero among them."""
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    low, high = max(low, -largest), min(high, largest)
    share = rng.random(shape)
    uniform = low * (1 - share) + high * share
    magnitude = max(abs(low), abs(high)) * 10.0 ** rng.uniform(_SMALLEST - _LARGEST, 0, shape)
    negative = rng.random(shape) < (0.0 if low >= 0 else 1.0 if high <= 0 else 0.5)
    values = np.where(rng.random(shape) < 0.5, uniform, np.where(negative, -magnitude, magnitude))
    rare = rng.random(shape)
    values = np.where(rare < _RARELY, low, np.where(rare > 1 - _RARELY, high, values))
    return rounded_within(np.where(rng.random(shape) < _RARELY, 0.0, values), dtype, low, high)


def rounded_within(values: Array, dtype: Any, low: float, high: float) -> Array:
    """`values` in `dtype`, held within [low, high], none of them rounded out of it if the dtype has a number in it."""
    ends = np.array([low, high]).astype(dtype)
    first = np.nextafter(ends[0], ends[1]) if float(ends[0]) < low else ends[0]
    last = np.nextafter(ends[1], ends[0]) if float(ends[1]) > high else ends[1]
    cast = np.clip(values, low, high).astype(dtype)
    return np.asarray(cast if last < first else np.clip(cast, first, last)).astype(dtype, copy=False)


def moved(values: Array, scale: float, shift: float, limits: tuple[float, float] | None = None) -> Array:
    """scale * values + shift in the dtype of `values`, held within `limits`."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(np.float64) * scale + shift
        if limits is None:
            return np.asarray(result.astype(values.dtype))
    return rounded_within(result, values.dtype, *limits)


def near(values: Array, number: float, turn: int, limits: tuple[float, float] | None = None) -> Array:
    """`values` with every second element at `number` as the dtype holds it, or one of its neighbours; `turn` 0 to 2
    tells which comes first.
    """
    with np.errstate(over="ignore"):
        at = np.array(number).astype(values.dtype)
    ends = np.array([-np.inf, np.inf]).astype(values.dtype)
    around = np.array([at, np.nextafter(at, ends[0]), np.nextafter(at, ends[1])], values.dtype)
    found = values.copy().reshape(-1)
    for position, value in enumerate(np.roll(around, -turn)):
        found[2 * position :: 2 * around.size] = value
    found = found.reshape(values.shape)
    return found if limits is None else rounded_within(found.astype(np.float64), values.dtype, *limits)


def _pair(name: str, pair: Any) -> tuple[float, float]:
    try:
        low, high = pair
        return float(low), float(high)
    except (TypeError, ValueError) as error:
        raise UsageError(f"value range{_of(name)}: {pair!r} is not two numbers") from error


def _of(name: str) -> str:
    return f" of {name}" if name else ""


def _numbers(limits: str, text: str) -> tuple[float, float]:
    parts = limits.strip().removeprefix("[").removesuffix("]").split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError as error:
        raise UsageError(f"value range {text!r}: expected LOW,HIGH or NAME:LOW,HIGH such as 0,255") from error
    return low, high
