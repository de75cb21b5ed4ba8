"""(a part of a model, values that were seen to enter it) -> sets of values to try it on.

Those that were seen; made-up ones, as for the inputs of a model, and of these: some equal, some at the constants of the
part, small, large, and far from 0; where they pick rows of a table, every row. All lie within what the nodes before the
part can give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from onnxact.check.distance import UNIT_ROUNDOFF
from onnxact.check.drawing import moved, near, rounded_within
from onnxact.check.feeding import Recipe, feed_of, make_recipe
from onnxact.check.inputs import NoInputError, is_float
from onnxact.check.interval import ANY, Interval
from onnxact.check.ranges import range_of
from onnxact.check.sizes import DEFAULT
from onnxact.errors import UsageError

Array = npt.NDArray[Any]
Values = Mapping[str, Any]
Change = tuple[str, Callable[[Array], Array]]

_FEWEST, _MOST = 2, 6
_ENOUGH = 1 << 10
"""How many elements are tried: small tensors in more sets, so that what is rare among them is met."""
MOST = 1 << 24
"""Elements for which values are made up."""
_MANY = 1 << 18
"""Elements of which one set is enough."""
_TIES = "rounded to halves"
_LEVEL = 2.0
"""The largest of the values of which many are equal."""
_SMALL, _TINY, _FAR = 1e-3, 1e-6, 100.0
_LARGE: Mapping[str, float] = {"float16": 10.0}
_OTHERWISE_LARGE = 30.0
_HUGE = (1e3, 1e10)
"""Beyond the integer types."""
_ROWS, _MOST_ROWS = 1 << 12, 1 << 18
"""Rows of a table that are picked at a time, and of the largest of which all are."""
_TRUTHS: tuple[Change, ...] = (("none true", np.zeros_like), ("all true", np.ones_like))


class Made(NamedTuple):
    """One set of values, what it is in words, and whether it is put at ties of roundings."""

    label: str
    values: Values
    at_ties: bool = False


@dataclass(frozen=True)
class PartFeeds:
    """`model` is the part, `seen` what enters it, `possible` what can, by name. `kept`: what is as it was seen.

    `numbers` are the constants of the part. `boundless`: any magnitude tells something, and not only what overflows.
    """

    model: ModelProto
    seen: Values
    possible: Mapping[str, Interval]
    kept: frozenset[str] = frozenset()
    numbers: tuple[float, ...] = ()
    boundless: bool = False

    def __iter__(self) -> Iterator[Made]:
        """The sets, those that were seen first."""
        yield Made("values of a run", self.seen)
        if not self.seen:
            return
        count = sum(value.size for value in self.seen.values())
        fewest = 1 if count > _MANY else _FEWEST
        for seed in range(min(max(_ENOUGH // max(count, 1), fewest), _MOST)):
            made = self._made(seed)
            if made is None:
                return
            yield Made(f"made-up values {seed}", self._within({**self.seen, **made}))
            for how, changed in self._changed(made, seed):
                values = self._within({**self.seen, **made, **changed})
                yield Made(f"made-up values {seed}, {how}", values, how == _TIES)
        yield from self._rows()

    def _rows(self) -> Iterator[Made]:
        """Every row of a table, where an input picks some: as many at a time as is quick, one after the other; by a
        list where it is a single number.
        """
        for name in sorted(self.seen.keys() - self.kept):
            value = self.seen[name]
            if value.dtype.kind not in "iu" or not value.size:
                continue
            picked = range_of(self._recipe.readers.uses(name))
            if not picked.limited or picked.high >= _MOST_ROWS:
                continue
            width = math.prod(value.shape[1:])
            step = max(_ROWS // width, 1) * width
            for first in range(0, picked.high + 1, step):
                rows = np.arange(first, min(first + step, picked.high + 1)).astype(value.dtype)
                several = np.resize(rows, (math.ceil(rows.size / width), *value.shape[1:]))
                yield Made(f"rows {first} to {rows[-1]}", self._within({**self.seen, name: several}))

    def _changed(self, made: Values, seed: int) -> Iterator[tuple[str, Values]]:
        """What the changes make of all floating values, of all truth values, and of one floating value at a time; all
        numbers in order.
        """
        floats = [name for name, value in made.items() if is_float(value)]
        truths = [name for name, value in made.items() if _is_truth(value)]
        one = [floats[seed % len(floats)]] if floats else []
        numbers = [name for name, value in made.items() if is_float(value) or _is_integer(value)]
        for how, step in (("rising", 1), ("falling", -1)) if numbers else ():
            yield how, {name: self._rising(name, made[name])[::step].reshape(made[name].shape) for name in numbers}
        kinds = ((floats, self._changes()), (truths, _TRUTHS), (one, self._near(seed)))
        for names, changes in kinds:
            for how, change in changes if names else ():
                yield how, {name: change(made[name]) for name in names}

    def _rising(self, name: str, value: Array) -> Array:
        """The values in order; between two ends as many as there are, so that none is held at an end."""
        ends = self.possible.get(name, ANY)
        if is_float(value) and math.isfinite(ends.low) and math.isfinite(ends.high):
            return np.linspace(ends.low, ends.high, value.size).astype(value.dtype)
        return np.sort(value, axis=None)

    def _near(self, turn: int) -> Iterator[Change]:
        for number in self.numbers:
            yield f"about {number:g}", partial(near, number=number, turn=turn % 3)

    def _changes(self) -> Iterator[Change]:
        yield _TIES, lambda value: np.clip(np.rint(2 * value) / 2, -_LEVEL, _LEVEL).astype(value.dtype)
        yield "small", partial(moved, scale=_SMALL, shift=0.0)
        yield "tiny", partial(moved, scale=_TINY, shift=0.0)
        yield "large", lambda value: moved(value, _LARGE.get(value.dtype.name, _OTHERWISE_LARGE), 0.0)
        yield "none below 0", np.abs
        yield "none above 0", lambda value: 0 - np.abs(value)
        yield "far above 0", partial(moved, scale=1.0, shift=_FAR)
        yield "far below 0", partial(moved, scale=1.0, shift=-_FAR)
        for factor in _HUGE if self.boundless else ():
            yield f"times {factor:g}", partial(moved, scale=factor, shift=0.0)

    def _made(self, seed: int) -> Values | None:
        """None where nothing can be made up."""
        try:
            feed = feed_of(self._recipe, seed, DEFAULT)
        except (NoInputError, UsageError):
            return None
        return {name: value for name, value in feed.values.items() if name not in self.kept | feed.steering}

    @cached_property
    def _recipe(self) -> Recipe:
        names = {value.name for value in self.model.graph.input} - self.kept
        return make_recipe(
            self.model,
            seeds=(0,),
            input_shapes={name: np.shape(self.seen[name]) for name in names},
            inputs={name: self.seen[name] for name in self.kept} or None,
            val_range=None,
        )

    def _within(self, values: Values) -> Values:
        kept = self.kept
        return {n: v if n in kept else _held(v, self.possible.get(n, ANY)) for n, v in values.items()}


def nudged(values: Values, *, seed: int = 0, halves: bool = True) -> Values:
    """The same, every floating element by one rounding up or down; without `halves`, those that are multiples of 1/2
    stay.
    """
    rng = np.random.default_rng(seed)
    return {name: _nudged(rng, value, halves=halves) if is_float(value) else value for name, value in values.items()}


def _nudged(rng: np.random.Generator, value: Array, *, halves: bool) -> Array:
    unit = 2 * UNIT_ROUNDOFF[value.dtype.name]
    signs = np.where(rng.random(value.shape) < 0.5, -unit, unit)
    with np.errstate(all="ignore"):
        moved = np.asarray((value.astype(np.float64) * (1 + signs)).astype(value.dtype))
    return moved if halves else np.where(2 * value == np.rint(2 * value), value, moved).astype(value.dtype)


def _held(value: Any, possible: Interval) -> Any:
    """Within the interval, as far as the type has numbers there."""
    if possible == ANY:
        return value
    if is_float(value):
        return rounded_within(value.astype(np.float64), value.dtype, possible.low, possible.high)
    if value.dtype.kind not in "iu":
        return value
    ends = np.iinfo(value.dtype)
    low = math.ceil(max(possible.low, ends.min))
    return np.clip(value, low, max(low, math.floor(min(possible.high, ends.max))))


def _is_integer(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iu"


def _is_truth(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == bool
